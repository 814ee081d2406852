//! A lock that may be held across an await.

use core::fmt;
use core::ops::{Deref, DerefMut};

use super::semaphore::{Permits, Semaphore};
use crate::shim::UnsafeCell;

/// A lock whose waiters are tasks, first in, first out. For what is held across an await; anything shorter takes a
/// [`SpinLock`](super::SpinLock).
pub struct Mutex<T: ?Sized> {
    permit: Semaphore,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through the one permit.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}
// SAFETY: as above; sharing the lock sends the value from holder to holder.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    /// A free lock around `value`. `label` is what waiters await, in the dump of tasks.
    pub fn new(label: &'static str, value: T) -> Self {
        Self {
            permit: Semaphore::new(label, 1),
            value: UnsafeCell::new(value),
        }
    }

    /// The value, out of a lock that nobody shares any more.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits for the lock.
    pub async fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard {
            _permit: self.permit.acquire(1).await,
            value: &self.value,
        }
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        Some(MutexGuard {
            _permit: self.permit.try_acquire(1)?,
            value: &self.value,
        })
    }
}

impl<T: ?Sized> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex")
            .field("permit", &self.permit)
            .finish_non_exhaustive()
    }
}

/// Holding one proves exclusive access to the value, until it is dropped.
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct MutexGuard<'a, T: ?Sized> {
    _permit: Permits<'a>,
    value: &'a UnsafeCell<T>,
}

// SAFETY: the guard is as good as a `&mut T`.
unsafe impl<T: ?Sized + Send> Send for MutexGuard<'_, T> {}
// SAFETY: a shared guard gives out only `&T`.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard has the only permit.
        self.value.with(|value| unsafe { &*value })
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard has the only permit.
        self.value.with_mut(|value| unsafe { &mut *value })
    }
}
