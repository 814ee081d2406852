//! Swap devices without memory behind them: what a device can do, for who measures what page-out and page-in make of it.
//!
//! Owns slots that are no page's ([`Scratch`]), taken and given back as any others, so that nothing on the device is lost. A device is
//! not taken away while it has such slots.

use alloc::sync::Arc;

use arrayvec::ArrayVec;

use super::SwapSlot;
use crate::Uvm;
use crate::addr::{Frame, PAGE_SIZE};
use crate::io::{IoError, MAX_SEGMENTS, Op, Request, Segment};
use crate::object::vnode::CLUSTER;

/// A cluster of slots that holds nothing of value. Dropped, it is given back.
pub struct Scratch {
    uvm: Arc<Uvm>,
    first: SwapSlot,
    len: usize,
}

impl Scratch {
    /// Pages in one.
    pub const PAGES: usize = CLUSTER;

    /// One transfer between `frames`, which are the caller's and stay so until it has ended, and as many slots from number `from` on.
    /// Awaits a request slot and the device.
    ///
    /// # Errors
    /// What the device reports; [`IoError::OutOfRange`] if there are not so many slots.
    pub async fn transfer(&self, op: Op, from: usize, frames: &[Frame]) -> Result<(), IoError> {
        let end = from.saturating_add(frames.len());
        if end > self.len {
            return Err(IoError::OutOfRange);
        }
        let (disk, offset) = self.uvm.swap().place(self.first).ok_or(IoError::Device)?;
        let offset = offset + (from * PAGE_SIZE) as u64;
        let segments: ArrayVec<_, MAX_SEGMENTS> =
            frames.iter().copied().map(Segment::page).collect();
        let request = Request::transfer(op, offset, segments);
        self.uvm.io().transfer(&disk, request).await
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for page in 0..self.len {
            if let Some(slot) = self.first.offset(page as isize) {
                self.uvm.swap().free(&self.uvm, slot);
            }
        }
    }
}

impl Uvm {
    /// Takes a whole cluster of free slots, from the device whose turn it is. `None`: there is none.
    #[must_use]
    pub fn take_scratch(self: &Arc<Self>) -> Option<Scratch> {
        let (first, len) = self.swap().take_run(self, CLUSTER)?;
        let scratch = Scratch {
            uvm: self.clone(),
            first,
            len,
        };
        (len == CLUSTER).then_some(scratch)
    }
}
