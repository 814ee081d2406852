//! Waiting for a condition that others bring about.

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use super::SpinLock;
use super::waiters::{Node, NodeState, Waiters};
use crate::shim::const_fn;
use crate::task::awaits;

/// Wakers taken out under one hold of the lock.
const BATCH: usize = 8;

/// Tasks that wait until a condition holds, first in, first out.
///
/// The condition is the caller's, and is looked at without the queue's lock. Whoever makes it true does so **first** and wakes
/// **afterwards**; then no wake is lost. Dropping a wait is harmless: a wake that was meant for it goes to the next.
///
/// Not for interrupt handlers: they wake an [`AtomicWaker`](super::AtomicWaker).
pub struct WaitQueue {
    label: &'static str,
    waiters: SpinLock<Waiters>,
}

impl WaitQueue {
    const_fn! {
        /// An empty queue. `label` is what its waiters await, in the dump of tasks.
        pub const fn new(label: &'static str) -> Self {
            Self { label, waiters: SpinLock::new(Waiters::new()) }
        }
    }

    /// Waits until `condition` gives something. It is called in every poll, twice if need be.
    pub fn wait_until<T, F: FnMut() -> Option<T>>(&self, condition: F) -> WaitUntil<'_, F> {
        self.wait_tagged(0, condition)
    }

    fn wait_tagged<T, F: FnMut() -> Option<T>>(&self, tag: u64, condition: F) -> WaitUntil<'_, F> {
        WaitUntil {
            queue: self,
            tag,
            condition,
            node: Node::new(),
            entered: false,
            label: self.label,
        }
    }

    /// Wakes the task that waits longest.
    pub fn wake_one(&self) {
        let waker = self.waiters.lock().take_first();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Wakes every task that waits now.
    pub fn wake_all(&self) {
        self.wake_every(Waiters::take_first);
    }

    /// Whether nobody waits now.
    pub fn is_empty(&self) -> bool {
        self.waiters.lock().is_empty()
    }

    /// Wakes all that `next` takes. A woken task that must wait again does so only when it is polled, which is after this.
    fn wake_every(&self, mut next: impl FnMut(&mut Waiters) -> Option<Waker>) {
        loop {
            let mut batch: [Option<Waker>; BATCH] = [const { None }; BATCH];
            {
                let mut waiters = self.waiters.lock();
                for slot in &mut batch {
                    *slot = next(&mut waiters);
                    if slot.is_none() {
                        break;
                    }
                }
            }
            let full = batch[BATCH - 1].is_some();
            batch.into_iter().flatten().for_each(Waker::wake);
            if !full {
                return;
            }
        }
    }
}

impl fmt::Debug for WaitQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitQueue")
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

/// Future of [`WaitQueue::wait_until`] and [`KeyedWaitQueue::wait`].
///
/// # Returns
/// `Ready` as soon as the condition gives something; until then `Pending`, and the task is woken with the queue.
#[must_use = "futures do nothing unless polled"]
pub struct WaitUntil<'a, F> {
    queue: &'a WaitQueue,
    tag: u64,
    condition: F,
    node: Node,
    /// The node may be in the queue: a wait that was satisfied at once never takes the lock.
    entered: bool,
    /// What is awaited, in the dump of tasks.
    label: &'static str,
}

impl<T, F: FnMut() -> Option<T>> Future for WaitUntil<'_, F> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // SAFETY: nothing is moved out: the node stays where it is, and the condition is only called.
        let this = unsafe { self.get_unchecked_mut() };
        this.use_up_wake();
        if let Some(output) = (this.condition)() {
            this.leave();
            return Poll::Ready(output);
        }
        this.entered = true;
        // SAFETY: the node is pinned with `self`, and its future takes it out before it goes.
        let old = unsafe {
            this.queue
                .waiters
                .lock()
                .enter(&this.node, this.tag, cx.waker())
        };
        drop(old);
        // Again, now that nobody can wake past us.
        if let Some(output) = (this.condition)() {
            this.leave();
            return Poll::Ready(output);
        }
        awaits(cx, this.label);
        Poll::Pending
    }
}

impl<F> WaitUntil<'_, F> {
    /// Says what this one awaits, where a queue serves several ends.
    pub fn labelled(mut self, label: &'static str) -> Self {
        self.label = label;
        self
    }

    /// A wake that came before the condition is looked at has done its work by that.
    fn use_up_wake(&mut self) {
        if !self.entered {
            return;
        }
        let mut waiters = self.queue.waiters.lock();
        // SAFETY: the node is this future's, and the lock its list's. A node that was taken has no waker left to drop.
        unsafe {
            if waiters.state(&self.node) == NodeState::Taken {
                waiters.leave(&self.node);
                self.entered = false;
            }
        }
    }

    /// Waits no longer. A wake that came meanwhile was not for what this wait has found, or it has found nothing: it goes to the next.
    fn leave(&mut self) {
        if !core::mem::take(&mut self.entered) {
            return;
        }
        let (waker, next) = {
            let mut waiters = self.queue.waiters.lock();
            // SAFETY: the node is this future's, and the lock its list's.
            let (state, waker) = unsafe { waiters.leave(&self.node) };
            let next = match state {
                NodeState::Taken => waiters.take_tagged(self.tag),
                NodeState::Out | NodeState::Waiting => None,
            };
            (waker, next)
        };
        drop(waker);
        if let Some(next) = next {
            next.wake();
        }
    }
}

impl<F> Drop for WaitUntil<'_, F> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Number of queues in a [`KeyedWaitQueue`].
const BUCKETS: usize = 64;

/// Tasks that wait, each for something with a number: many things that hardly ever have waiters share a few queues.
pub struct KeyedWaitQueue {
    buckets: [WaitQueue; BUCKETS],
}

impl KeyedWaitQueue {
    /// Empty queues. `label` is what the waiters await, in the dump of tasks.
    pub fn new(label: &'static str) -> Self {
        Self {
            buckets: core::array::from_fn(|_| WaitQueue::new(label)),
        }
    }

    /// Waits, for the thing numbered `key`, until `condition` gives something.
    pub fn wait<T, F: FnMut() -> Option<T>>(&self, key: u64, condition: F) -> WaitUntil<'_, F> {
        self.bucket(key).wait_tagged(key, condition)
    }

    /// Wakes every task that waits for the thing numbered `key`.
    pub fn wake_all(&self, key: u64) {
        self.bucket(key)
            .wake_every(|waiters| waiters.take_tagged(key));
    }

    fn bucket(&self, key: u64) -> &WaitQueue {
        // Fibonacci hashing: the top bits of a product with the golden ratio.
        let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - BUCKETS.trailing_zeros());
        &self.buckets[hash as usize % BUCKETS]
    }
}

impl fmt::Debug for KeyedWaitQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedWaitQueue").finish_non_exhaustive()
    }
}
