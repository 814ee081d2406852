//! Spin locks whose guards cannot cross an await.
//!
//! `spin`'s guards are `Send`, so a future that holds one across an `.await` would still be accepted
//! by [`Executor::spawn`](crate::Executor::spawn). These guards are not `Send`, hence such a future
//! does not compile as a task; `.clippy.toml` names them as well.
//!
//! Interrupts stay enabled while a lock is held. An interrupt handler must therefore never take one:
//! it wakes through [`Waker::wake_by_ref`](core::task::Waker::wake_by_ref) or
//! [`AtomicWaker`](super::AtomicWaker), which take no lock.

use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use crate::shim::{const_fn, raw};

/// Makes a guard `!Send`.
type NotSend = PhantomData<*mut ()>;

/// A lock for short critical sections that never await.
///
/// ```compile_fail,E0277
/// use executor::sync::SpinLock;
/// fn spawnable<F: Future + Send>(_: F) {}
/// static LOCK: SpinLock<u32> = SpinLock::new(0);
/// spawnable(async {
///     let guard = LOCK.lock();
///     core::future::ready(()).await; // the guard would live across this
///     drop(guard);
/// });
/// ```
///
/// Without the await in between it is fine:
///
/// ```
/// use executor::sync::SpinLock;
/// fn spawnable<F: Future + Send>(_: F) {}
/// static LOCK: SpinLock<u32> = SpinLock::new(0);
/// spawnable(async {
///     *LOCK.lock() += 1;
///     core::future::ready(()).await;
/// });
/// ```
pub struct SpinLock<T: ?Sized>(raw::Mutex<T>);

/// Holding one proves exclusive access to the data, until it is dropped.
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct SpinLockGuard<'a, T: ?Sized> {
    guard: raw::MutexGuard<'a, T>,
    not_send: NotSend,
}

// SAFETY: a shared guard gives out only `&T`.
unsafe impl<T: ?Sized + Sync> Sync for SpinLockGuard<'_, T> {}

impl<T> SpinLock<T> {
    const_fn! {
        /// A free lock around `value`.
        pub const fn new(value: T) -> Self {
            Self(raw::Mutex::new(value))
        }
    }

    /// The data, out of a lock that nobody shares any more.
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T: ?Sized> SpinLock<T> {
    /// Takes the lock, spinning while another CPU has it. Never from an interrupt handler.
    #[inline]
    pub fn lock(&self) -> SpinLockGuard<'_, T> {
        SpinLockGuard {
            guard: self.0.lock(),
            not_send: PhantomData,
        }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_lock(&self) -> Option<SpinLockGuard<'_, T>> {
        self.0.try_lock().map(|guard| SpinLockGuard {
            guard,
            not_send: PhantomData,
        })
    }

    /// The data, through an exclusive reference: no locking needed.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

impl<T: ?Sized> Deref for SpinLockGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: ?Sized> DerefMut for SpinLockGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// Many readers or one writer, for short critical sections that never await. A reader must not take
/// it again while a writer may be waiting elsewhere for longer than a few instructions.
///
/// ```compile_fail,E0277
/// use executor::sync::SpinRwLock;
/// fn spawnable<F: Future + Send>(_: F) {}
/// static LOCK: SpinRwLock<u32> = SpinRwLock::new(0);
/// spawnable(async {
///     let guard = LOCK.read();
///     core::future::ready(()).await;
///     drop(guard);
/// });
/// ```
///
/// ```compile_fail,E0277
/// use executor::sync::SpinRwLock;
/// fn spawnable<F: Future + Send>(_: F) {}
/// static LOCK: SpinRwLock<u32> = SpinRwLock::new(0);
/// spawnable(async {
///     let guard = LOCK.write();
///     core::future::ready(()).await;
///     drop(guard);
/// });
/// ```
pub struct SpinRwLock<T: ?Sized>(raw::RwLock<T>);

/// Shared access to what a [`SpinRwLock`] guards.
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct SpinReadGuard<'a, T: ?Sized> {
    guard: raw::RwLockReadGuard<'a, T>,
    not_send: NotSend,
}

/// Exclusive access to what a [`SpinRwLock`] guards.
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct SpinWriteGuard<'a, T: ?Sized> {
    guard: raw::RwLockWriteGuard<'a, T>,
    not_send: NotSend,
}

// SAFETY: a shared guard gives out only `&T`.
unsafe impl<T: ?Sized + Sync> Sync for SpinReadGuard<'_, T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Sync> Sync for SpinWriteGuard<'_, T> {}

impl<T> SpinRwLock<T> {
    const_fn! {
        /// A free lock around `value`.
        pub const fn new(value: T) -> Self {
            Self(raw::RwLock::new(value))
        }
    }

    /// The data, out of a lock that nobody shares any more.
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T: ?Sized> SpinRwLock<T> {
    /// Takes the lock for reading, spinning while a writer has it. Never from an interrupt handler.
    #[inline]
    pub fn read(&self) -> SpinReadGuard<'_, T> {
        SpinReadGuard {
            guard: self.0.read(),
            not_send: PhantomData,
        }
    }

    /// Takes the lock for writing, spinning while anyone has it. Never from an interrupt handler.
    #[inline]
    pub fn write(&self) -> SpinWriteGuard<'_, T> {
        SpinWriteGuard {
            guard: self.0.write(),
            not_send: PhantomData,
        }
    }

    /// Takes the lock for reading if no writer has it.
    #[inline]
    pub fn try_read(&self) -> Option<SpinReadGuard<'_, T>> {
        self.0.try_read().map(|guard| SpinReadGuard {
            guard,
            not_send: PhantomData,
        })
    }

    /// Takes the lock for writing if nobody has it.
    #[inline]
    pub fn try_write(&self) -> Option<SpinWriteGuard<'_, T>> {
        self.0.try_write().map(|guard| SpinWriteGuard {
            guard,
            not_send: PhantomData,
        })
    }

    /// The data, through an exclusive reference: no locking needed.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

impl<T: ?Sized> Deref for SpinReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: ?Sized> Deref for SpinWriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: ?Sized> DerefMut for SpinWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T: Default> Default for SpinLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: Default> Default for SpinRwLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for SpinLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.try_lock() {
            Some(guard) => f.debug_tuple("SpinLock").field(&&*guard).finish(),
            None => f.write_str("SpinLock(<locked>)"),
        }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for SpinRwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.try_read() {
            Some(guard) => f.debug_tuple("SpinRwLock").field(&&*guard).finish(),
            None => f.write_str("SpinRwLock(<locked>)"),
        }
    }
}
