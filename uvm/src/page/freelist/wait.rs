//! What waits at the free list: tasks for frames, the pagedaemon for shortage, the zeroing task for
//! dirt.
//!
//! Each has a wait queue, which holds no state: everybody looks at the lists again when woken.

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::{AllocFor, FreeList, KEEP_DIRTY};
use crate::Uvm;
use crate::lock;
use crate::meter::Counter;
use crate::page::PageFlags;

impl Uvm {
    /// Waits until `n` frames could be had by an ordinary allocation, in order of arrival. They are
    /// not reserved: the caller tries again, and may wait again. Wakes the pagedaemon.
    pub async fn wait_for_free(&self, n: usize) {
        lock::assert_none_held("waiting for a free frame");
        if self.can_allocate(AllocFor::User, n) {
            return;
        }
        let waiting = Waiting::new(&self.free, n);
        self.wake_pagedaemon();
        self.free
            .waiters
            .wait_until(|| self.can_allocate(AllocFor::User, n).then_some(()))
            .await;
        drop(waiting);
        // A wake-up is for one, but there may be enough for the next as well. (Waking it in vain would
        // cost it its place.)
        if self.has_free_waiters() && self.can_allocate(AllocFor::User, n + 1) {
            self.wake_one_free_waiter();
        }
    }

    /// Wakes all who wait for frames: each looks whether there are enough for it. For the
    /// pagedaemon, at the end of a pass.
    pub fn wake_free_waiters(&self) {
        self.free.waiters.wake_all();
    }

    /// Whether anybody waits for a frame.
    #[inline]
    #[must_use]
    pub fn has_free_waiters(&self) -> bool {
        self.free.waiting.load(Relaxed) != 0
    }

    /// How many tasks wait for frames.
    #[must_use]
    pub fn free_waiters(&self) -> usize {
        self.free.waiting.load(Relaxed)
    }

    /// Whether somebody waits for more frames than there are.
    pub(crate) fn has_unmet_demand(&self) -> bool {
        self.has_free_waiters() && !self.can_allocate(AllocFor::User, self.most_wanted())
    }

    /// How many frames the one waits for who waits for most, rounded up to a power of two; 0 if nobody waits.
    pub(crate) fn most_wanted(&self) -> usize {
        (self.free.demands.iter().rposition(|n| n.load(Relaxed) != 0)).map_or(0, |sort| 1 << sort)
    }

    #[cold]
    pub(super) fn wake_one_free_waiter(&self) {
        self.free.waiters.wake_one();
    }

    /// Waits, as the pagedaemon, until `needed` (asked at every hint of shortage) says that memory
    /// is short.
    pub async fn wait_pressure(&self, needed: impl Fn() -> bool) {
        self.free
            .pressure
            .wait_until(|| needed().then_some(()))
            .await;
    }

    /// Makes the pagedaemon ask itself whether memory is short.
    pub fn wake_pagedaemon(&self) {
        self.free.kick();
    }

    /// How often the pagedaemon was told that memory gets short.
    pub(crate) fn pressure_kicks(&self) -> u64 {
        self.free.kicks.load(Relaxed)
    }

    /// Zeroes free frames ahead of need, for ever: the future of an `Idle`-class task. One frame a
    /// poll. Some stay dirty, for those who overwrite them anyway.
    pub async fn zero_idle_task(&self) -> ! {
        loop {
            if self.zero_one() {
                executor::yield_now().await;
                continue;
            }
            self.free.zeroer_sleeps.store(true, Relaxed);
            self.free
                .dirt
                .wait_until(|| self.worth_zeroing().then_some(()))
                .await;
            self.free.zeroer_sleeps.store(false, Relaxed);
        }
    }

    fn worth_zeroing(&self) -> bool {
        !self.free.scarce.load(Relaxed) && self.free.lists.lock().dirty.count > KEEP_DIRTY
    }

    /// Zeroes one free frame; `false` if there is none worth it. While memory is scarce none is:
    /// each must be on the lists, to be counted and found.
    pub(crate) fn zero_one(&self) -> bool {
        if !self.worth_zeroing() {
            return false;
        }
        let Some(frame) = self.free.lists.lock().dirty.pop(self.pages()) else {
            return false;
        };
        // SAFETY: managed RAM, off the lists: plain bytes that are ours.
        unsafe { self.phys().bytes(frame) }.zero();
        self.count(Counter::Zeroidle);
        self.free.give_back(self, &[frame], PageFlags::ZERO);
        true
    }
}

impl FreeList {
    /// Tells the pagedaemon that memory gets short.
    pub(super) fn kick(&self) {
        self.kicks.fetch_add(1, Relaxed);
        self.pressure.wake_one();
    }
}

/// Counts a task in `wait_for_free`, also when that is dropped.
struct Waiting<'a> {
    all: &'a AtomicUsize,
    alike: &'a AtomicUsize,
}

impl<'a> Waiting<'a> {
    fn new(free: &'a FreeList, n: usize) -> Self {
        let sort = n.max(1).next_power_of_two().trailing_zeros();
        let alike = &free.demands[sort as usize];
        alike.fetch_add(1, Relaxed);
        free.waiting.fetch_add(1, Relaxed);
        Self {
            all: &free.waiting,
            alike,
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Relaxed);
        self.alike.fetch_sub(1, Relaxed);
    }
}
