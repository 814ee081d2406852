//! A frame fresh from the free list, which goes back there unless somebody keeps it.
//!
//! Owns the frame.

use crate::Uvm;
use crate::addr::Frame;

/// A frame without owner, freed unless it is used.
pub(crate) struct Fresh<'a> {
    uvm: &'a Uvm,
    frame: Frame,
}

impl<'a> Fresh<'a> {
    /// Takes over a frame that was just allocated.
    pub(crate) const fn new(uvm: &'a Uvm, frame: Frame) -> Self {
        Self { uvm, frame }
    }

    /// The frame.
    pub(crate) const fn frame(&self) -> Frame {
        self.frame
    }

    /// It has an owner now.
    pub(crate) const fn keep(self) {
        core::mem::forget(self);
    }
}

impl Drop for Fresh<'_> {
    fn drop(&mut self) {
        self.uvm.free_frame(self.frame);
    }
}
