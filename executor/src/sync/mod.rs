//! Locks and waits.
//!
//! | for | there is |
//! |---|---|
//! | a few instructions, never across an await | [`SpinLock`], [`SpinRwLock`] |
//! | exclusion across awaits | [`Mutex`], [`RwLock`], [`Semaphore`] |
//! | a condition of the caller's | [`WaitQueue`], [`KeyedWaitQueue`] |
//! | something that happens once | [`Event`] |
//! | one task, woken by an interrupt handler | [`AtomicWaker`] |
//!
//! All queues are first in, first out, and live in the waiting futures: waiting allocates nothing. Every wait may be dropped; what it
//! had been given goes to the next. Wakers are woken, and dropped, after the lock is released.

mod atomic_waker;
mod event;
mod mutex;
mod rwlock;
mod semaphore;
mod spin;
mod wait_queue;
mod waiters;

pub use atomic_waker::AtomicWaker;
pub use event::Event;
pub use mutex::{Mutex, MutexGuard};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{Acquire, Permits, Semaphore};
pub use spin::{SpinLock, SpinLockGuard, SpinReadGuard, SpinRwLock, SpinWriteGuard};
pub use wait_queue::{KeyedWaitQueue, WaitQueue, WaitUntil};

#[cfg(all(test, not(loom)))]
mod tests;
