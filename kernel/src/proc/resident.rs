//! Waits that lie outside the u-area.
//!
//! An LWP that sleeps for long may lose its u-area to swap, and with it the future of its body. What others reach while it sleeps must stay: its
//! node in a wait queue, its timer. So the wait alone gets a block of the heap, from the moment that the sleep begins; it goes with the wait. A
//! resident wait is all that a sleeper costs besides its header and its task.

use crate::boxed::try_box;
use alloc::boxed::Box;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

/// A wait, in a block of its own if there was memory for one.
pub(super) enum Resident<F> {
    /// Outside.
    Apart(Pin<Box<F>>),
    /// Where the caller is: without memory for a block, the LWP sleeps all the same, but must stay.
    Here(F),
}

impl<F> Resident<F> {
    /// Puts `wait`, which has not been polled yet, into a block.
    pub(super) fn new(wait: F) -> Resident<F> {
        match try_box(wait) {
            Ok(block) => Resident::Apart(Box::into_pin(block)),
            Err(wait) => Resident::Here(wait),
        }
    }
}

impl<F> Resident<F> {
    /// Its size in bytes, 1 at least, if nothing of it lies in the u-area; else 0.
    pub(super) fn bytes_apart(&self) -> u16 {
        match self {
            Resident::Apart(_) => u16::try_from(size_of::<F>().max(1)).unwrap_or(u16::MAX),
            Resident::Here(_) => 0,
        }
    }
}

impl<F: Future> Future for Resident<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: `Here`'s future is pinned with `self` and not moved out; the box may move, what it points to does not.
        match unsafe { self.get_unchecked_mut() } {
            Resident::Apart(wait) => wait.as_mut().poll(cx),
            // SAFETY: as above.
            Resident::Here(wait) => unsafe { Pin::new_unchecked(wait) }.poll(cx),
        }
    }
}
