//! Something that happens once, or again after a reset.

use core::fmt;

use super::WaitQueue;
use crate::shim::atomic::AtomicBool;
use crate::shim::atomic::Ordering::{Acquire, Release};
use crate::shim::const_fn;

/// A flag that tasks wait for. [`set`](Self::set) lets all of them go on, and everyone who comes later.
pub struct Event {
    happened: AtomicBool,
    queue: WaitQueue,
}

impl Event {
    const_fn! {
        /// An event that has not happened. `label` is what waiters await, in the dump of tasks.
        pub const fn new(label: &'static str) -> Self {
            Self { happened: AtomicBool::new(false), queue: WaitQueue::new(label) }
        }
    }

    /// It has happened. Not from an interrupt handler.
    pub fn set(&self) {
        self.happened.store(true, Release);
        self.queue.wake_all();
    }

    /// It has not happened any more.
    pub fn reset(&self) {
        self.happened.store(false, Release);
    }

    /// Whether it has happened.
    pub fn is_set(&self) -> bool {
        self.happened.load(Acquire)
    }

    /// Waits until it has happened.
    pub async fn wait(&self) {
        self.queue.wait_until(|| self.is_set().then_some(())).await;
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("happened", &self.is_set())
            .finish_non_exhaustive()
    }
}
