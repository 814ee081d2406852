//! Who may come into memory: an LWP that is out and could run takes the place of nobody who is in.
//!
//! Owns the queue of those who wait to come in, and how many the present pass of the pagedaemon has let in. An LWP in memory that waits for a page, or for a frame, cannot
//! go out; it holds a u-area and page tables, and needs more to get anywhere. Were LWPs brought in as long as there is room for their u-areas, memory
//! could be full of those, and none of them could go on. So nobody comes in while somebody in memory waits for frames, and each finds
//! [`ROOM`] frames, which is what it takes to run for a while. UVM's `uvm_scheduler` asks for the room of a u-area, and its system is small enough.
//!
//! Who waits here is no demand for memory, and nobody is killed for it. But if a whole pass has not made that room, and nobody in memory waits, there is no better
//! moment: then it comes in if it can, and else waits as everybody does. So it does where somebody always waits, in the end ([`PATIENCE`]).

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};

use executor::sync::WaitQueue;

use crate::Uvm;
use crate::lock;
use crate::page::freelist::AllocFor;

/// Frames for one that comes in: its u-area, its page tables, and the pages that it looks at first.
const ROOM: usize = 32;

/// Passes of the pagedaemon, each a millisecond or more, that one waits behind others.
const PATIENCE: u32 = 1000;

/// What those who wait to come in share.
pub(crate) struct Admission {
    /// Passes of the pagedaemon.
    passes: AtomicU32,
    /// How many have come in since the last one ended.
    admitted: AtomicUsize,
    waiting: AtomicUsize,
    queue: WaitQueue,
}

impl Admission {
    pub(crate) const fn new() -> Self {
        Self {
            passes: AtomicU32::new(0),
            admitted: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            queue: WaitQueue::new("room to come in"),
        }
    }

    /// Has all who wait look whether they still should.
    pub(super) fn wake_all(&self) {
        self.queue.wake_all();
    }
}

/// Counts one that waits, also when that is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Uvm {
    /// Awaits the moment for an LWP to come in, or that it is `given_up` to wait for that. The caller holds nothing.
    pub(crate) async fn wait_to_come_in(&self, given_up: impl Fn() -> bool) {
        let admission = &self.upper.admission;
        if self.admits() || given_up() {
            return;
        }
        lock::assert_none_held("waiting to come in");
        admission.waiting.fetch_add(1, Relaxed);
        let _waiting = Waiting(&admission.waiting);
        for behind in (0..PATIENCE).rev() {
            let before = admission.passes.load(Relaxed);
            self.wake_pagedaemon();
            let over = || admission.passes.load(Relaxed) != before || given_up();
            (admission.queue.wait_until(|| over().then_some(()))).await;
            let no_better = !self.has_free_waiters() || behind == 0;
            if given_up() || self.admits() || no_better && self.is_first() {
                return;
            }
        }
    }

    /// Whether one more may come in now; counts it if so.
    fn admits(&self) -> bool {
        let admitted = &self.upper.admission.admitted;
        let there = admitted.load(Relaxed);
        let admits =
            !self.has_free_waiters() && self.can_allocate(AllocFor::User, ROOM * (there + 1));
        if admits {
            admitted.store(there + 1, Relaxed);
        }
        admits
    }

    /// Whether nobody has come in since the last pass; counts it if so.
    fn is_first(&self) -> bool {
        let admitted = &self.upper.admission.admitted;
        admitted.compare_exchange(0, 1, Relaxed, Relaxed).is_ok()
    }

    /// Whether anybody waits to come in: then there is to be a pass.
    pub(crate) fn has_some_to_admit(&self) -> bool {
        self.upper.admission.waiting.load(Relaxed) != 0
    }

    /// A pass of the pagedaemon has ended: all look again.
    pub(crate) fn admit_again(&self) {
        let admission = &self.upper.admission;
        admission.admitted.store(0, Relaxed);
        admission.passes.fetch_add(1, Relaxed);
        admission.wake_all();
    }
}

#[cfg(test)]
mod tests;
