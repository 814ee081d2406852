//! Futexes: LWPs that wait for words of their memory.
//!
//! # What this owns
//! [`Futexes`], the LWPs that wait, by word and then in order of arrival; and [`FutexSeat`], an LWP's own note of where it waits, in its resident
//! header. An LWP waits for one word at a time.
//!
//! # How it synchronises
//! One spin lock over all words. The word is compared with what the waiter expects under it, so a wake that follows a change of the word
//! finds who saw the old one. Seats change under it, too. Wakers are called after it is released. A long wake lets the lock go between every few LWPs;
//! who comes meanwhile is not woken by it.
//!
//! After futex(2); the order of arrival is kept over a requeue.

use super::lwp::Lwp;
use super::machine::{self, Fault};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use arrayvec::ArrayVec;
use core::future::poll_fn;
use core::task::Poll;
use executor::sync::SpinLock;
use uvm::km::HeapRoom;
use uvm::map::WordHome;

/// LWPs woken or moved under one hold of the lock.
const BATCH: usize = 16;

/// Where an LWP waits.
pub struct FutexSeat {
    at: SpinLock<Option<Seat>>,
}

impl FutexSeat {
    pub(super) fn new() -> FutexSeat {
        FutexSeat {
            at: SpinLock::new(None),
        }
    }
}

/// A place in the order of those who wait: the word, and when it was taken.
type Seat = (WordHome, u64);

struct Waiter {
    lwp: Arc<Lwp>,
    bits: u32,
}

#[derive(Default)]
struct Inner {
    waiters: BTreeMap<Seat, Waiter>,
    turn: u64,
}

impl Inner {
    fn seat(&mut self, word: WordHome) -> Seat {
        self.turn += 1;
        (word, self.turn)
    }

    /// The first that waits for `word` with one of `bits`, and came before turn `before`.
    fn first(&self, word: WordHome, bits: u32, before: u64) -> Option<Seat> {
        let mut all = self.waiters.range((word, 0)..(word, before));
        all.find(|(_, waiter)| waiter.bits & bits != 0)
            .map(|(seat, _)| *seat)
    }

    /// Takes an LWP off its seat.
    fn take(&mut self, seat: Seat) -> Option<Waiter> {
        let waiter = self.waiters.remove(&seat)?;
        *waiter.lwp.futex().at.lock() = None;
        Some(waiter)
    }
}

/// What came of taking a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seated {
    /// The word was as expected: it waits.
    Yes,
    /// It was not.
    Changed,
}

/// Everybody who waits for a word.
#[derive(Default)]
pub struct Futexes(SpinLock<Inner>);

impl Futexes {
    /// Has `lwp`, which runs, wait for `word` if that, at `va` in its loaded space, is `expected`; only wakes with one of `bits` are for it.
    ///
    /// # Errors
    /// [`Fault`]: the word is not resident; bring it in and try again.
    pub fn sit(
        &self,
        lwp: &Arc<Lwp>,
        (word, va): (WordHome, u64),
        expected: u32,
        bits: u32,
        _room: &HeapRoom<'_>,
    ) -> Result<Seated, Fault> {
        let mut inner = self.0.lock();
        if machine::load_user_u32(va)? != expected {
            return Ok(Seated::Changed);
        }
        let seat = inner.seat(word);
        *lwp.futex().at.lock() = Some(seat);
        let waiter = Waiter {
            lwp: lwp.clone(),
            bits,
        };
        inner.waiters.insert(seat, waiter);
        Ok(Seated::Yes)
    }

    /// Awaits that `lwp`, which has a seat, is woken.
    pub async fn woken(lwp: &Lwp) {
        poll_fn(|cx| {
            let seat = lwp.futex();
            // Registered before the look: who wakes takes the seat first.
            lwp.wants_poll(cx.waker());
            match *seat.at.lock() {
                None => Poll::Ready(()),
                Some(_) => Poll::Pending,
            }
        })
        .await;
    }

    /// Has `lwp` wait no longer; whether it had been woken already.
    pub fn leave(&self, lwp: &Lwp) -> bool {
        let taken = {
            let mut inner = self.0.lock();
            let seat = *lwp.futex().at.lock();
            seat.and_then(|seat| inner.take(seat))
        };
        taken.is_none()
    }

    /// Wakes up to `most` of those who wait for `word` with one of `bits`; returns how many.
    pub fn wake(&self, word: WordHome, most: usize, bits: u32) -> usize {
        let before = self.0.lock().turn + 1;
        let mut woken = 0;
        while woken < most {
            let mut batch = ArrayVec::<Waiter, BATCH>::new();
            {
                let mut inner = self.0.lock();
                while batch.len() < BATCH.min(most - woken)
                    && let Some(waiter) =
                        (inner.first(word, bits, before)).and_then(|seat| inner.take(seat))
                {
                    batch.push(waiter);
                }
            }
            if batch.is_empty() {
                break;
            }
            woken += batch.len();
            batch.into_iter().for_each(|waiter| waiter.lwp.poll_again());
        }
        woken
    }

    /// Wakes up to `wake` of those who wait for `word`, which is at `va` in the loaded space, and has up to `most` of the others wait for `to`
    /// instead; returns how many of both. Nothing if `expected` is given, and the word is not that.
    ///
    /// # Errors
    /// [`Fault`]: the word is not resident.
    pub fn requeue(
        &self,
        (word, va): (WordHome, u64),
        expected: Option<u32>,
        wake: usize,
        (to, most): (WordHome, usize),
    ) -> Result<Option<(usize, usize)>, Fault> {
        if let Some(expected) = expected {
            // Under the lock: who changes the word and wakes afterwards comes before this or after it.
            let _inner = self.0.lock();
            if machine::load_user_u32(va)? != expected {
                return Ok(None);
            }
        }
        let woken = self.wake(word, wake, u32::MAX);
        let before = self.0.lock().turn + 1;
        let mut moved = 0;
        while moved < most && word != to {
            let mut inner = self.0.lock();
            let Some(seat) = inner.first(word, u32::MAX, before) else {
                break;
            };
            if let Some(waiter) = inner.take(seat) {
                let seat = inner.seat(to);
                *waiter.lwp.futex().at.lock() = Some(seat);
                // One more block at most, of the reserve: one was given back just now.
                inner.waiters.insert(seat, waiter);
            }
            moved += 1;
        }
        Ok(Some((woken, moved)))
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.lock().waiters.len()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
