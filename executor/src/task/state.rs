//! The state word: a task's state and its reference count in one atomic.
//!
//! The states are drawn in the [module above](super). Their encoding makes every edge of the drawing
//! one addition:
//!
//! | bits 2..0 | state | |
//! |---|---|---|
//! | `000` | idle | bit 0: to be polled (again) |
//! | `001` | scheduled | bit 1: being polled |
//! | `010` | running | bit 2: done; bit 0 then means nothing |
//! | `011` | running and woken | |
//! | `10x` | done | |
//!
//! The bits above hold the number of references.

use core::fmt;

use crate::shim::atomic::AtomicUsize;
use crate::shim::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

const WOKEN: usize = 0b001;
const RUNNING: usize = 0b010;
const RUNNING_WOKEN: usize = RUNNING | WOKEN;
const DONE: usize = 0b100;
const STATE: usize = 0b111;
const REFERENCE: usize = 0b1000;

/// What a task is doing, as [`crate::TaskInfo`] reports it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Waits to be woken.
    Idle,
    /// Stands in a ready queue.
    Scheduled,
    /// Is being polled.
    Running,
    /// Is being polled, and was woken meanwhile: it will be polled again.
    RunningWoken,
    /// Has returned; only its result remains.
    Done,
}

impl State {
    /// The state's name as the task dump prints it.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Idle => "idle",
            State::Scheduled => "scheduled",
            State::Running => "running",
            State::RunningWoken => "running+woken",
            State::Done => "done",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What must follow a poll that returned `Pending`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Suspended {
    /// The task is idle; whoever wakes it queues it.
    Idle,
    /// It was woken while it ran and is scheduled now: the caller must queue it.
    MustQueue,
}

/// What must follow a wake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Woken {
    /// The task went from idle to scheduled: the caller, and nobody else, must queue it.
    MustQueue,
    /// It was scheduled, running or done already.
    Nothing,
}

pub(crate) struct StateWord(AtomicUsize);

impl StateWord {
    /// Scheduled, with two references: the executor's and the join handle's.
    pub(crate) fn new() -> Self {
        Self(AtomicUsize::new(WOKEN | (2 * REFERENCE)))
    }

    /// idle -> scheduled, or running -> running and woken.
    ///
    /// Writes the word even when the task is scheduled already: whatever the waker did before must be
    /// seen by the coming poll, and only a read-modify-write that the poll's own one reads from, or
    /// follows, promises that.
    #[inline]
    pub(crate) fn wake(&self) -> Woken {
        let mut word = self.0.load(Relaxed);
        loop {
            if word & DONE != 0 {
                return Woken::Nothing;
            }
            match self
                .0
                .compare_exchange_weak(word, word | WOKEN, AcqRel, Relaxed)
            {
                Ok(_) if word & STATE == 0 => return Woken::MustQueue,
                Ok(_) => return Woken::Nothing,
                Err(now) => word = now,
            }
        }
    }

    /// scheduled -> running. Only for the CPU that took the task from its queue.
    #[inline]
    pub(crate) fn start(&self) {
        let word = self.0.fetch_add(RUNNING - WOKEN, AcqRel);
        debug_assert_eq!(word & STATE, WOKEN, "polled a task that was not scheduled");
    }

    /// running -> idle, or running and woken -> scheduled. Only for the CPU that polled.
    #[inline]
    pub(crate) fn suspend(&self) -> Suspended {
        let word = self.0.fetch_sub(RUNNING, AcqRel);
        debug_assert_eq!(
            word & (DONE | RUNNING),
            RUNNING,
            "suspended a task that did not run"
        );
        if word & WOKEN == 0 {
            Suspended::Idle
        } else {
            Suspended::MustQueue
        }
    }

    /// running, woken or not -> done. Only for the CPU that polled, after it stored the result.
    #[inline]
    pub(crate) fn finish(&self) {
        let word = self.0.fetch_add(DONE - RUNNING, Release);
        debug_assert_eq!(
            word & (DONE | RUNNING),
            RUNNING,
            "finished a task that did not run"
        );
    }

    /// Any state but done -> done, when the executor is shut down with nobody polling.
    /// Says whether this call did it.
    #[cfg(not(target_os = "none"))]
    pub(crate) fn cancel(&self) -> bool {
        self.0.fetch_or(DONE, AcqRel) & DONE == 0
    }

    /// Whether the task is done; if so, its result can be seen.
    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.0.load(Acquire) & DONE != 0
    }

    /// The state at some moment.
    pub(crate) fn state(&self) -> State {
        match self.0.load(Relaxed) & STATE {
            0 => State::Idle,
            WOKEN => State::Scheduled,
            RUNNING => State::Running,
            RUNNING_WOKEN => State::RunningWoken,
            _ => State::Done,
        }
    }

    /// One reference more. Only for who has one, or holds the lock of the list of all tasks.
    #[inline]
    pub(crate) fn acquire_reference(&self) {
        // Relaxed: the new reference is derived from one that exists.
        self.0.fetch_add(REFERENCE, Relaxed);
    }

    /// One reference less. Says whether it was the last one: then the caller frees the task.
    #[inline]
    #[must_use]
    pub(crate) fn release_reference(&self) -> bool {
        self.0.fetch_sub(REFERENCE, AcqRel) < 2 * REFERENCE
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_edge_of_the_drawing() {
        let word = StateWord::new();
        assert_eq!(word.state(), State::Scheduled);
        assert_eq!(word.wake(), Woken::Nothing);
        word.start();
        assert_eq!(word.state(), State::Running);
        assert_eq!(word.suspend(), Suspended::Idle);
        assert_eq!(word.state(), State::Idle);
        assert_eq!(word.wake(), Woken::MustQueue);
        assert_eq!(word.wake(), Woken::Nothing);
        assert_eq!(word.state(), State::Scheduled);
        word.start();
        assert_eq!(word.wake(), Woken::Nothing);
        assert_eq!(word.state(), State::RunningWoken);
        assert_eq!(word.suspend(), Suspended::MustQueue);
        assert_eq!(word.state(), State::Scheduled);
        word.start();
        assert!(!word.is_done());
        word.finish();
        assert!(word.is_done());
        assert_eq!(word.wake(), Woken::Nothing);
        assert_eq!(word.state(), State::Done);
    }

    #[test]
    fn done_absorbs_a_wake_that_came_while_it_ran() {
        let word = StateWord::new();
        word.start();
        assert_eq!(word.wake(), Woken::Nothing);
        word.finish();
        assert_eq!(word.state(), State::Done);
        assert_eq!(word.wake(), Woken::Nothing);
    }

    #[test]
    fn the_last_reference_is_told_apart() {
        let word = StateWord::new();
        word.acquire_reference();
        assert!(!word.release_reference());
        assert!(!word.release_reference());
        assert!(word.release_reference());
    }
}
