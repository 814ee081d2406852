//! Taking turns: while memory is short, who takes much of it waits before the free list is empty, so that who takes little need not.
//!
//! Owns how much each address space has taken lately, and the queue of those who are held back. Programs that dirty memory faster than the disk
//! takes it are paced by the pages that come free anyway; this decides who comes first. Some frames above the reserves are for the *modest*:
//! address spaces that have lately taken less than most. The *hasty* get frames as long as there are more than these, and else wait in line for
//! pages to be freed. So a small program runs at its own speed beside large ones, instead of standing in line for each of its pages.
//!
//! Lately means: in this epoch, and in earlier ones with half the weight each. An epoch ends when the address spaces that took part in it have
//! taken [`SHARE`] frames each on average. It all happens only while memory is scarce; at other times nothing is counted.
//!
//! Nobody waits here for long: the end of a pass of the pagedaemon, whatever it came to, gives each of them one frame's worth of modesty. Who
//! finds the free list empty then waits as everybody does ([`super::demand`]). Numbers are atomics, each approximate while others change them.

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};

use executor::sync::WaitQueue;

use crate::Uvm;
use crate::lock;
use crate::map::VmSpace;
use crate::meter::{Counter, Gauge};
use crate::page::freelist::{AllocFor, RESERVE_KERNEL, RESERVE_PAGEDAEMON, SCARCE};

/// Frames that an epoch has for each address space that takes part.
const SHARE: u32 = 64;
/// Frames taken lately from which on an address space is hasty: what takes its share always, an equal among many, has between one share and two.
const HASTY: u32 = 48;
/// Bits of [`Taken`] for the frames, and above them for the epoch.
const BITS: u32 = 16;

/// What those who take turns share.
pub(crate) struct Turns {
    epoch: AtomicU32,
    /// Frames taken in this epoch, and by how many address spaces.
    taken: AtomicU32,
    takers: AtomicU32,
    /// Passes of the pagedaemon.
    passes: AtomicU32,
    /// Frames above the reserves that are for the modest.
    modest: AtomicUsize,
    queue: WaitQueue,
    waiting: AtomicUsize,
}

impl Turns {
    pub(crate) const fn new() -> Self {
        Self {
            // Whoever is new has taken nothing in it.
            epoch: AtomicU32::new(1),
            taken: AtomicU32::new(0),
            takers: AtomicU32::new(0),
            passes: AtomicU32::new(0),
            modest: AtomicUsize::new(0),
            queue: WaitQueue::new("turn to take memory"),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Has all who wait look whether they still should.
    pub(super) fn wake_all(&self) {
        self.queue.wake_all();
    }

    /// Counts one frame; `first`: the first of its taker in this epoch.
    fn count(&self, first: bool) {
        let takers = self.takers.fetch_add(first.into(), Relaxed) + u32::from(first);
        let taken = self.taken.fetch_add(1, Relaxed) + 1;
        if taken >= takers.max(1).saturating_mul(SHARE) {
            self.taken.store(0, Relaxed);
            self.takers.store(0, Relaxed);
            self.epoch.fetch_add(1, Relaxed);
        }
    }
}

/// What an address space has taken lately: frames, and the epoch that they are weighed for.
#[derive(Default)]
pub(crate) struct Taken(AtomicU32);

impl Taken {
    /// Frames, weighed for `epoch`, and whether none of them is of it.
    fn at(&self, epoch: u32) -> (u32, bool) {
        let packed = self.0.load(Relaxed);
        let age = (epoch.wrapping_sub(packed >> BITS)) & (u32::MAX >> BITS);
        let frames = packed & ((1 << BITS) - 1);
        (frames.checked_shr(age).unwrap_or(0), age != 0)
    }

    fn set(&self, frames: u32, epoch: u32) {
        let frames = frames.min((1 << BITS) - 1);
        self.0.store(epoch << BITS | frames, Relaxed);
    }
}

impl VmSpace {
    /// Whether it may take a frame now, as far as turns go; counts it if so. For the slow ways: memory is scarce.
    #[cold]
    #[inline(never)]
    pub(crate) fn may_take(&self) -> bool {
        let uvm = self.uvm();
        let turns = &uvm.upper.turns;
        let epoch = turns.epoch.load(Relaxed);
        let (frames, first) = self.taken.at(epoch);
        if frames >= HASTY && uvm.is_for_the_modest() {
            return false;
        }
        self.taken.set(frames + 1, epoch);
        turns.count(first);
        true
    }

    /// Waits, after [`Self::may_take`] said no, until it may be otherwise; not at all if it is not for turns that there is no frame. The
    /// caller holds nothing. Returns whether it waited.
    pub(crate) async fn wait_for_turn(&self) -> bool {
        let uvm = self.uvm();
        let turns = &uvm.upper.turns;
        if !uvm.is_scarce() || self.is_doomed() || !uvm.can_allocate(AllocFor::User, 1) {
            return false;
        }
        let epoch = turns.epoch.load(Relaxed);
        if self.taken.at(epoch).0 < HASTY || !uvm.is_for_the_modest() {
            return false;
        }
        lock::assert_none_held("waiting for a turn");
        uvm.count(Counter::Turnwaits);
        let before = turns.passes.load(Relaxed);
        turns.waiting.fetch_add(1, Relaxed);
        let guard = Waiting(&turns.waiting);
        uvm.wake_pagedaemon();
        let over = || turns.passes.load(Relaxed) != before || self.is_doomed();
        turns
            .queue
            .wait_until(|| (over() || !uvm.is_for_the_modest()).then_some(()))
            .await;
        drop(guard);
        if uvm.is_for_the_modest() {
            // All has been tried to make more: it may have one of these.
            self.taken.set(HASTY - 1, turns.epoch.load(Relaxed));
        }
        true
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
    /// From now on address spaces take turns while memory is short. Once the heap has its reserve.
    pub fn take_turns(&self) {
        // Not more than the pagedaemon keeps free anyway, and only while each frame is counted.
        let freemin = self.meter().gauge(Gauge::Freemin) as usize;
        let above = freemin.saturating_sub(self.reserves_for_others() + 1);
        self.keep_for_the_modest(above.min(SCARCE - RESERVE_PAGEDAEMON - RESERVE_KERNEL));
    }

    /// Keeps `frames` more free than the reserves, for address spaces that take little.
    pub(crate) fn keep_for_the_modest(&self, frames: usize) {
        self.upper.turns.modest.store(frames, Relaxed);
    }

    /// Whether the free frames that there are, if any, are for the modest.
    fn is_for_the_modest(&self) -> bool {
        let modest = self.upper.turns.modest.load(Relaxed);
        modest > 0 && !self.can_allocate(AllocFor::User, 1 + modest)
    }

    /// Whether anybody is held back: then there is to be a pass, whose end lets them go on.
    pub(crate) fn has_turn_waiters(&self) -> bool {
        self.upper.turns.waiting.load(Relaxed) != 0
    }

    /// `freed` frames were freed: as many of those who are held back may go on, if there are enough.
    #[inline]
    pub(crate) fn go_on_in_turn(&self, freed: usize) {
        if self.upper.turns.waiting.load(Relaxed) != 0 {
            self.let_go_on(freed);
        }
    }

    #[cold]
    fn let_go_on(&self, freed: usize) {
        let turns = &self.upper.turns;
        let spare = self.spare_frames(AllocFor::User);
        let enough = spare.saturating_sub(turns.modest.load(Relaxed));
        (0..freed.min(enough)).for_each(|_| turns.queue.wake_one());
    }

    /// A pass of the pagedaemon has ended: all look again.
    pub(crate) fn end_turns(&self) {
        self.upper.turns.passes.fetch_add(1, Relaxed);
        self.upper.turns.wake_all();
    }
}

#[cfg(test)]
mod tests;
