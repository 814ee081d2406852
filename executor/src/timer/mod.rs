//! Sleeping until a time.
//!
//! A [`Sleep`] holds its own node of the heap of deadlines, so that sleeping allocates nothing. The heap has one spin lock; the
//! timer interrupt does not take it, it only makes the CPU's loop look at the clock. Wakers are taken out under the lock and woken
//! after it.

mod heap;

use alloc::sync::Arc;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;

use crate::executor::Executor;
use crate::shim::atomic::Ordering::Release;
use crate::task::awaits;
pub(crate) use heap::Timers;
use heap::{Node, Place};

/// Wakers taken out under one hold of the lock.
const BATCH: usize = 8;

impl Executor {
    /// Waits for a duration.
    pub fn sleep(self: &Arc<Self>, duration: Duration) -> Sleep {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.sleep_until(self.now().saturating_add(ns))
    }

    /// Waits until the clock shows `deadline` (nanoseconds) or more.
    pub fn sleep_until(self: &Arc<Self>, deadline: u64) -> Sleep {
        Sleep {
            executor: self.clone(),
            node: Node::new(deadline),
        }
    }

    /// Waits for `future`, but not longer than a duration. The future must be one that may be dropped.
    ///
    /// # Errors
    /// [`Elapsed`], and the future is dropped.
    pub async fn timeout<F: Future>(
        self: &Arc<Self>,
        duration: Duration,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.timeout_at(self.now().saturating_add(ns), future).await
    }

    /// The same, until the clock shows `deadline` (nanoseconds) or more. Both waits lie in the future that this returns.
    ///
    /// # Errors
    /// [`Elapsed`], and the future is dropped.
    pub async fn timeout_at<F: Future>(
        self: &Arc<Self>,
        deadline: u64,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        let mut future = core::pin::pin!(future);
        let mut sleep = core::pin::pin!(self.sleep_until(deadline));
        core::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => sleep.as_mut().poll(cx).map(|()| Err(Elapsed)),
        })
        .await
    }

    /// Wakes whoever sleeps until `now` or earlier.
    pub(crate) fn expire(&self, now: u64) {
        loop {
            let mut due: [Option<Waker>; BATCH] = [const { None }; BATCH];
            let mut timers = self.timers.lock();
            for slot in &mut due {
                // SAFETY: nodes in the heap are alive: a `Sleep` takes its own out before it goes.
                match unsafe { timers.pop_due(now) } {
                    Some(waker) => *slot = waker,
                    None => break,
                }
            }
            self.next_deadline.store(timers.first_deadline(), Release);
            drop(timers);
            let full = due[BATCH - 1].is_some();
            due.into_iter().flatten().for_each(Waker::wake);
            if !full {
                return;
            }
        }
    }
}

/// The time was up first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Elapsed;

/// Future of [`Executor::sleep`] and [`Executor::sleep_until`].
///
/// # Returns
/// `Pending` before the deadline; `Ready` at or after it, and ever after.
#[must_use = "futures do nothing unless polled"]
pub struct Sleep {
    executor: Arc<Executor>,
    node: Node,
}

impl Sleep {
    /// When it ends, in nanoseconds.
    pub fn deadline(&self) -> u64 {
        self.node.deadline()
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.into_ref().get_ref();
        let deadline = this.node.deadline();
        if this.executor.now() >= deadline {
            return Poll::Ready(());
        }
        let mut timers = this.executor.timers.lock();
        // SAFETY: the node is pinned with `self`, and taken out when `self` is dropped; the lock is that of its heap.
        let (place, old) = unsafe { timers.enter(&this.node, cx.waker()) };
        if place == Place::Entered {
            this.executor
                .next_deadline
                .store(timers.first_deadline(), Release);
        }
        drop(timers);
        // Dropping a waker may free a task: not under the lock.
        drop(old);
        awaits(cx, "timer");
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let mut timers = self.executor.timers.lock();
        // SAFETY: the lock is that of the node's heap.
        let old = unsafe { timers.leave(&self.node) };
        self.executor
            .next_deadline
            .store(timers.first_deadline(), Release);
        drop(timers);
        drop(old);
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
