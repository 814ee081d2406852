//! Waits that lie outside the u-area.
//!
//! An LWP that sleeps for long may lose its u-area to swap, and with it the future of its body. What others reach while it sleeps must stay: its
//! node in a wait queue, its timer. So the wait alone gets a block of the heap, from the moment that the sleep begins; it goes with the wait. A
//! resident wait is all that a sleeper costs besides its header and its task.

use alloc::alloc::{Layout, alloc};
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
        let layout = Layout::new::<F>();
        if layout.size() == 0 {
            return Resident::Apart(Box::pin(wait));
        }
        // SAFETY: the layout is not empty.
        let block = unsafe { alloc(layout) }.cast::<F>();
        if block.is_null() {
            return Resident::Here(wait);
        }
        // SAFETY: a fresh block of that layout from the global allocator, initialised here, and the box's alone from now on.
        Resident::Apart(unsafe {
            block.write(wait);
            Box::into_pin(Box::from_raw(block))
        })
    }
}

impl<F> Resident<F> {
    /// Whether nothing of it lies in the u-area.
    pub(super) fn is_apart(&self) -> bool {
        matches!(self, Resident::Apart(_))
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
