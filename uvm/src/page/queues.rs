//! The paging queues: which resident pages may be evicted, and in which order.
//!
//! # What this owns
//! The active and the inactive queue, oldest page first, linked through the pages. A page is on at
//! most one. It does not decide anything: that is `pdaemon` and `policy`.
//!
//! # How it synchronises
//! One lock for both queues, which the fault path never takes: a change that it wants is written in the
//! page (`Page::queue`) and noted in the CPU's *batch*; when the batch is full the lock is taken once for all of
//! it. Whatever the page says by then is done, so a note about a page that was freed or changed its mind
//! meanwhile is harmless. Order: batch, then queues; both are last in the order of locks.

use alloc::boxed::Box;
use arrayvec::ArrayVec;
use crate::exec::SpinLock;

use crate::Uvm;
use crate::addr::Frame;

/// One of the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// In use, as far as known.
    Active,
    /// Candidates for eviction.
    Inactive,
}

/// Lengths of the queues, pending changes counted as if done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueCounts {
    /// Pages on the active queue.
    pub active: usize,
    /// Pages on the inactive queue.
    pub inactive: usize,
}

/// Both queues and the batches.
pub(crate) struct Queues {}

impl Queues {
    pub(crate) fn new(cpus: usize) -> Self {
        todo!()
    }
}

impl Uvm {
    /// Puts a page at the young end of the active queue, unless it is wired. If it is active already nothing changes.
    /// Takes no global lock. Caller holds the owner's lock.
    #[inline]
    pub fn activate(&self, frame: Frame) {
        todo!()
    }

    /// Puts a page at the young end of the inactive queue, unless it is wired or inactive already. Clears its
    /// referenced bits. Caller holds the owner's lock.
    pub fn deactivate(&self, frame: Frame) {
        todo!()
    }

    /// Takes a page off its queue. Caller holds the owner's lock.
    pub fn dequeue(&self, frame: Frame) {
        todo!()
    }

    /// Moves a page to the young end of the queue that it is on.
    pub fn requeue(&self, frame: Frame) {
        todo!()
    }

    /// The queue that a page is on, or on its way to.
    #[must_use]
    pub fn queue_of(&self, frame: Frame) -> Option<Queue> {
        todo!()
    }

    /// Wires a page once more: it leaves the queues with the first wiring. Caller holds the owner's lock.
    pub fn wire_page(&self, frame: Frame) {
        todo!()
    }

    /// Takes one wiring off; with the last the page becomes active. Caller holds the owner's lock.
    pub fn unwire_page(&self, frame: Frame) {
        todo!()
    }

    /// Lengths of the queues.
    #[must_use]
    pub fn queue_counts(&self) -> QueueCounts {
        todo!()
    }

    /// For the pagedaemon: puts the oldest pages of `queue` (as many as `out` has room for) to the young end and
    /// returns them in `out`, oldest first. Only hints: by the time they are looked at they may be gone
    /// ([`crate::page::Page::owner_ref`]). A scan of a whole queue stops after as many pages as the queue had when it began.
    pub fn rotate<const N: usize>(&self, queue: Queue, out: &mut ArrayVec<Frame, N>) {
        todo!()
    }

    /// Does all pending changes of all CPUs now.
    pub fn flush_queue_batches(&self) {
        todo!()
    }

    /// Calls `f` with each page of a queue, oldest first, under the queue lock. For `check`.
    pub fn for_each_queued(&self, queue: Queue, f: impl FnMut(Frame)) {
        todo!()
    }
}
