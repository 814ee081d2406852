//! Permits, handed out first in, first out.

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use super::SpinLock;
use super::waiters::{Node, NodeState, Waiters};
use crate::shim::const_fn;
use crate::task::awaits;

/// A number of permits. Who asks waits behind everyone who asked before, however few permits it wants, so nobody starves.
pub struct Semaphore {
    label: &'static str,
    inner: SpinLock<Inner>,
}

struct Inner {
    permits: u64,
    waiters: Waiters,
}

impl Inner {
    /// Hands permits to the next waiter, if there are enough for it. Gives its waker.
    fn hand_out(&mut self) -> Option<Waker> {
        let wanted = self.waiters.first_tag()?;
        self.permits = self.permits.checked_sub(wanted)?;
        self.waiters.take_first()
    }
}

impl Semaphore {
    const_fn! {
        /// `permits` permits. `label` is what waiters await, in the dump of tasks.
        pub const fn new(label: &'static str, permits: u64) -> Self {
            Self { label, inner: SpinLock::new(Inner { permits, waiters: Waiters::new() }) }
        }
    }

    /// Waits for `count` permits. They come back when the [`Permits`] are dropped.
    pub fn acquire(&self, count: u64) -> Acquire<'_> {
        Acquire {
            semaphore: self,
            count,
            node: Node::new(),
            done: false,
        }
    }

    /// Takes `count` permits if they are there and nobody waits.
    pub fn try_acquire(&self, count: u64) -> Option<Permits<'_>> {
        let mut inner = self.inner.lock();
        if !inner.waiters.is_empty() || inner.permits < count {
            return None;
        }
        inner.permits -= count;
        Some(Permits {
            semaphore: self,
            count,
        })
    }

    /// Permits that nobody holds.
    pub fn available(&self) -> u64 {
        self.inner.lock().permits
    }

    /// Adds permits, and hands them to those who wait.
    pub fn release(&self, count: u64) {
        self.inner.lock().permits += count;
        self.hand_out();
    }

    fn hand_out(&self) {
        loop {
            let next = self.inner.lock().hand_out();
            match next {
                Some(waker) => waker.wake(),
                None => return,
            }
        }
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

/// Permits of a [`Semaphore`]; they go back when this is dropped.
#[must_use = "the permits go back at once if this is not kept"]
pub struct Permits<'a> {
    semaphore: &'a Semaphore,
    count: u64,
}

impl fmt::Debug for Permits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permits")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

impl Drop for Permits<'_> {
    fn drop(&mut self) {
        self.semaphore.release(self.count);
    }
}

/// Future of [`Semaphore::acquire`].
///
/// # Returns
/// `Ready` with the permits, once; `Pending` until then. Dropped before, it asks no longer; permits that were on their way go to the
/// next.
#[must_use = "futures do nothing unless polled"]
pub struct Acquire<'a> {
    semaphore: &'a Semaphore,
    count: u64,
    node: Node,
    done: bool,
}

impl<'a> Future for Acquire<'a> {
    type Output = Permits<'a>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Permits<'a>> {
        // SAFETY: nothing is moved out: the node stays where it is.
        let this = unsafe { self.get_unchecked_mut() };
        assert!(!this.done, "polled after it was ready");
        let mut inner = this.semaphore.inner.lock();
        // SAFETY: the node is pinned with `self`, its list's lock is held, and its future takes it out before it goes.
        let (got, old) = unsafe {
            match inner.waiters.state(&this.node) {
                NodeState::Taken => (true, inner.waiters.leave(&this.node).1),
                NodeState::Out if inner.waiters.is_empty() && inner.permits >= this.count => {
                    inner.permits -= this.count;
                    (true, None)
                }
                NodeState::Out | NodeState::Waiting => (
                    false,
                    inner.waiters.enter(&this.node, this.count, cx.waker()),
                ),
            }
        };
        drop(inner);
        drop(old);
        if got {
            this.done = true;
            return Poll::Ready(Permits {
                semaphore: this.semaphore,
                count: this.count,
            });
        }
        awaits(cx, this.semaphore.label);
        Poll::Pending
    }
}

impl Drop for Acquire<'_> {
    fn drop(&mut self) {
        let mut inner = self.semaphore.inner.lock();
        // SAFETY: the node is this future's, and the lock its list's.
        let (state, waker) = unsafe { inner.waiters.leave(&self.node) };
        if state == NodeState::Taken {
            inner.permits += self.count;
        }
        drop(inner);
        drop(waker);
        if state != NodeState::Out {
            // Whoever stood behind may have enough now.
            self.semaphore.hand_out();
        }
    }
}
