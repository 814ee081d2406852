//! A lock for many readers or one writer that may be held across an await.

use core::fmt;
use core::ops::{Deref, DerefMut};

use super::semaphore::{Permits, Semaphore};
use crate::shim::UnsafeCell;

/// Permits in all: a writer takes every one, a reader one.
const ALL: u64 = 1 << 32;

/// Many readers or one writer, in the order in which they asked: a reader behind a writer that waits waits too.
pub struct RwLock<T: ?Sized> {
    permits: Semaphore,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through permits.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}
// SAFETY: readers share the value, writers send it from one to the next.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}

impl<T> RwLock<T> {
    /// A free lock around `value`. `label` is what waiters await, in the dump of tasks.
    pub fn new(label: &'static str, value: T) -> Self {
        Self {
            permits: Semaphore::new(label, ALL),
            value: UnsafeCell::new(value),
        }
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Waits until no writer has the lock and none that asked before waits.
    pub async fn read(&self) -> RwLockReadGuard<'_, T> {
        RwLockReadGuard {
            _permit: self.permits.acquire(1).await,
            value: &self.value,
        }
    }

    /// Waits until nobody has the lock and nobody that asked before waits.
    pub async fn write(&self) -> RwLockWriteGuard<'_, T> {
        RwLockWriteGuard {
            _permits: self.permits.acquire(ALL).await,
            value: &self.value,
        }
    }
}

impl<T: ?Sized> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RwLock")
            .field("permits", &self.permits)
            .finish_non_exhaustive()
    }
}

/// Holding one proves that nobody writes.
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    _permit: Permits<'a>,
    value: &'a UnsafeCell<T>,
}

// SAFETY: the guard is as good as a `&T`.
unsafe impl<T: ?Sized + Sync> Send for RwLockReadGuard<'_, T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Sync> Sync for RwLockReadGuard<'_, T> {}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: a writer would have all permits, and the guard has one.
        self.value.with(|value| unsafe { &*value })
    }
}

/// Holding one proves exclusive access to the value.
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    _permits: Permits<'a>,
    value: &'a UnsafeCell<T>,
}

// SAFETY: the guard is as good as a `&mut T`.
unsafe impl<T: ?Sized + Send> Send for RwLockWriteGuard<'_, T> {}
// SAFETY: a shared guard gives out only `&T`.
unsafe impl<T: ?Sized + Sync> Sync for RwLockWriteGuard<'_, T> {}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard has all permits.
        self.value.with(|value| unsafe { &*value })
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard has all permits.
        self.value.with_mut(|value| unsafe { &mut *value })
    }
}
