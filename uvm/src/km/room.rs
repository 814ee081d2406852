//! Room in the heap: the right to make small blocks infallibly, as a value.
//!
//! Owns the size of the heap's reserve. Nothing to synchronise: a [`HeapRoom`] is made from one look at the free list, and cannot outlive the
//! poll that it is made in.

use core::marker::PhantomData;

use crate::Uvm;
use crate::page::freelist::AllocFor;
use crate::pool::OutOfMemory;

/// Least and most frames that the heap keeps back, and which part of memory it is in between.
const LEAST: usize = 16;
const MOST: usize = 64;
const PART: usize = 512;
/// Part of memory that it is at most: tests' machines are tiny.
const PART_AT_MOST: usize = 32;

/// Frames to keep back for the heap on a machine of `managed` frames.
pub(super) fn reserve(managed: usize) -> usize {
    (managed / PART)
        .clamp(LEAST, MOST)
        .min(managed / PART_AT_MOST)
}

/// Says that the heap's whole reserve is free: 64 KiB at least, for blocks that cannot fail.
///
/// Who makes such blocks on behalf of ring 3 takes a reference to one, and so its caller has looked, and can still say that there is
/// no memory. It cannot be kept over an await (it is not `Send`, and tasks are), so the look was just now. What it does *not* prove is that room
/// for any number of blocks is left: it is for the few small ones of one operation.
#[derive(Debug)]
pub struct HeapRoom<'a> {
    uvm: PhantomData<&'a Uvm>,
    of_this_poll: PhantomData<*const ()>,
}

impl HeapRoom<'_> {
    const NEW: Self = Self {
        uvm: PhantomData,
        of_this_poll: PhantomData,
    };

    /// For the boot, when nothing can have been used up yet, and for tests.
    #[must_use]
    pub const fn at_boot() -> Self {
        Self::NEW
    }
}

impl Uvm {
    /// Looks whether the heap's reserve is whole. Never waits; wakes the pagedaemon if it is not.
    ///
    /// # Errors
    /// [`OutOfMemory`]: wait with [`crate::Patience`] and look again, or give up.
    #[inline]
    pub fn heap_room(&self) -> Result<HeapRoom<'_>, OutOfMemory> {
        if !self.is_scarce() || self.can_allocate(AllocFor::User, 1) {
            return Ok(HeapRoom::NEW);
        }
        self.wake_pagedaemon();
        Err(OutOfMemory)
    }
}
