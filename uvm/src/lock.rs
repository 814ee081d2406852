//! Spin locks that know their place in the order of locks.
//!
//! # What this owns
//! The order itself, as numbers: [`HOLDER`] to [`LEAF`], in the order that the crate's head describes. [`SpinLock`] and [`SpinRwLock`]
//! are `executor`'s with such a number in their type. In builds with debug assertions each acquisition looks at what this CPU holds
//! and panics, with both names, if it may not come now: an order that *could* deadlock shows in every run, not only in the one
//! in which two CPUs meet. Without debug assertions nothing is left of it: same size, same code as the plain lock.
//!
//! # What is asked
//! - `lock`, `read`, `write`: nothing of the same level or of a later one is held.
//! - `try_lock`: nothing, since it cannot wait; but what it took counts as held.
//! - `lock_unshared`: as `lock`, but another of the same level may be held. For a lock that nobody else knows yet.
//! - [`assert_none_held`] before anything that awaits.
//!
//! # How it synchronises
//! What a CPU holds is a counter per level, in one word that only this CPU writes. Tasks are not preempted inside the kernel and
//! interrupt handlers take none of these locks, so a plain load and store do. On the host the word is the thread's. On the machine
//! there is a `static` array of them, and the kernel says once how a CPU finds its own ([`watch`]): the one piece of global state below
//! the kernel, because a lock does not know which [`crate::Uvm`] it belongs to; it exists in debug builds alone and decides nothing.

use core::ops::{Deref, DerefMut};

use executor::sync as plain;

/// A place in the order: a lock may be taken while only smaller ones are held.
pub type Level = u8;

macro_rules! levels {
    ($($(#[$doc:meta])+ $name:ident = $what:literal,)+) => {
        levels!(@consts 0; $($(#[$doc])+ $name,)+);
        /// What a level is called in a panic.
        #[cfg(debug_assertions)]
        const NAMES: &[&str] = &[$($what,)+];
    };
    (@consts $n:expr; $(#[$doc:meta])+ $name:ident, $($rest:tt)*) => {
        $(#[$doc])+
        pub const $name: Level = $n;
        levels!(@consts $n + 1; $($rest)*);
    };
    (@consts $n:expr;) => {};
}

levels! {
    /// Which space a holder has.
    HOLDER = "holder of a space",
    /// Tree of a map's entries.
    MAP = "map",
    /// Slots of an amap.
    AMAP = "amap",
    /// Pages of an object.
    OBJECT = "object",
    /// Frame of an anon.
    ANON = "anon",
    /// Page tables of an address space.
    PMAP = "pmap",
    /// Identity lock of a page: who owns it and who maps it.
    IDENTITY = "page identity",
    /// Page tables of the kernel's half.
    KERNEL_PMAP = "kernel pmap",
    /// A CPU's free objects of a pool.
    POOL_MAGAZINE = "pool magazine",
    /// Slabs of a pool.
    POOL = "pool",
    /// A CPU's noted changes of paging queues.
    QUEUE_BATCH = "page queue batch",
    /// Paging queues.
    QUEUES = "page queues",
    /// A CPU's free frames.
    FREE_MAGAZINE = "free frame magazine",
    /// Lists of free frames.
    FREE_LIST = "free list",
    /// Everything under which no other lock is taken: limits and heap of a space, its recent pages, the list of spaces, what a CPU has
    /// loaded, u-areas, I/O slots.
    LEAF = "leaf",
}

/// What a guard knows of its level: nothing at run time. Exists as long as the lock counts as held.
pub(crate) struct Held<const L: Level>;

impl<const L: Level> Held<L> {
    /// Before a lock is waited for. With debug assertions panics if it is out of order.
    #[inline(always)]
    pub(crate) fn in_order() -> Self {
        #[cfg(debug_assertions)]
        track::take(L, L);
        Self
    }

    /// The same where another lock of this level may be held.
    #[inline(always)]
    fn beside_another() -> Self {
        #[cfg(debug_assertions)]
        track::take(L, L + 1);
        Self
    }

    /// After a lock was had without waiting.
    #[inline(always)]
    fn tried() -> Self {
        #[cfg(debug_assertions)]
        track::take(L, Level::MAX);
        Self
    }
}

#[cfg(debug_assertions)]
impl<const L: Level> Drop for Held<L> {
    #[inline]
    fn drop(&mut self) {
        track::give(L);
    }
}

/// With debug assertions panics if this CPU holds any of these locks: before what `doing` names, which awaits or leaves the kernel.
///
/// # Panics
/// See above.
#[inline(always)]
pub fn assert_none_held(doing: &str) {
    assert_none_from(0, doing);
}

/// The same for locks of `level` and after.
///
/// # Panics
/// As [`assert_none_held`].
#[inline(always)]
pub fn assert_none_from(level: Level, doing: &str) {
    #[cfg(debug_assertions)]
    track::none_from(level, doing);
    #[cfg(not(debug_assertions))]
    let _ = (level, doing);
}

/// From now on locks taken on the machine are watched; `cpu` says which one runs the caller. For the kernel, before it makes its
/// [`crate::Uvm`], with no lock held. Does nothing on the host, where threads are told apart without help, and without debug assertions.
pub fn watch(cpu: fn() -> usize) {
    #[cfg(all(debug_assertions, not(any(test, feature = "testing"))))]
    track::watch(cpu);
    #[cfg(not(all(debug_assertions, not(any(test, feature = "testing")))))]
    let _ = cpu;
}

/// What each CPU holds.
#[cfg(debug_assertions)]
mod track {
    use super::{Level, NAMES};

    /// Bits of a level's counter.
    const BITS: u32 = 4;
    const _: () = assert!(NAMES.len() as u32 * BITS <= u64::BITS);

    /// The latest level in `held`, if it is `from` or after.
    fn latest_from(held: u64, from: Level) -> Option<Level> {
        let shift = u32::from(from) * BITS;
        (shift < u64::BITS && held >> shift != 0).then(|| (held.ilog2() / BITS) as Level)
    }

    /// Counts a lock of `level`, unless one of level `before` or later is held.
    #[inline]
    pub(super) fn take(level: Level, before: Level) {
        with(|held| {
            if let Some(latest) = latest_from(held, before) {
                out_of_order(level, latest);
            }
            held + (1 << (u32::from(level) * BITS))
        });
    }

    #[inline]
    pub(super) fn give(level: Level) {
        with(|held| held - (1 << (u32::from(level) * BITS)));
    }

    #[inline]
    pub(super) fn none_from(level: Level, doing: &str) {
        with(|held| {
            if let Some(latest) = latest_from(held, level) {
                held_at(doing, latest);
            }
            held
        });
    }

    #[cold]
    #[inline(never)]
    fn out_of_order(level: Level, latest: Level) {
        let name = |level: Level| NAMES[usize::from(level)];
        if stop() {
            panic!(
                "order of locks: {} wanted while {} is held",
                name(level),
                name(latest)
            );
        }
    }

    #[cold]
    #[inline(never)]
    fn held_at(doing: &str, latest: Level) {
        if stop() {
            panic!("{doing} with {} locked", NAMES[usize::from(latest)]);
        }
    }

    #[cfg(any(test, feature = "testing"))]
    mod word {
        use core::cell::Cell;

        std::thread_local! {
            static HELD: Cell<u64> = const { Cell::new(0) };
        }

        /// Whether to panic: not twice.
        pub(super) fn stop() -> bool {
            !std::thread::panicking()
        }

        /// Replaces the thread's word by what `f` makes of it.
        #[inline]
        pub(super) fn with(f: impl FnOnce(u64) -> u64) {
            HELD.with(|held| held.set(f(held.get())));
        }
    }

    #[cfg(not(any(test, feature = "testing")))]
    mod word {
        use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

        use executor::sync::SpinRwLock;

        use crate::machine::MAX_CPUS;

        static HELD: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];
        static CPU: SpinRwLock<Option<fn() -> usize>> = SpinRwLock::new(None);

        pub(in super::super) fn watch(cpu: fn() -> usize) {
            *CPU.write() = Some(cpu);
        }

        /// Ends the watch: what a panic does to show the state of the machine takes locks as it needs them.
        pub(super) fn stop() -> bool {
            CPU.write().take().is_some()
        }

        /// Replaces the CPU's word by what `f` makes of it, once CPUs can be told apart.
        #[inline]
        pub(super) fn with(f: impl FnOnce(u64) -> u64) {
            let cpu = *CPU.read();
            if let Some(cpu) = cpu {
                let held = &HELD[cpu()];
                held.store(f(held.load(Relaxed)), Relaxed);
            }
        }
    }

    #[cfg(not(any(test, feature = "testing")))]
    pub(super) use word::watch;
    use word::{stop, with};
}

/// [`executor::sync::SpinLock`] at level `L` of the order.
///
/// Its guard cannot live across an await:
///
/// ```compile_fail,E0277
/// use uvm::lock::{LEAF, SpinLock};
/// fn spawnable<F: Future + Send>(_: F) {}
/// static LOCK: SpinLock<u32, LEAF> = SpinLock::new(0);
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
/// use uvm::lock::{LEAF, SpinLock};
/// fn spawnable<F: Future + Send>(_: F) {}
/// static LOCK: SpinLock<u32, LEAF> = SpinLock::new(0);
/// spawnable(async {
///     *LOCK.lock() += 1;
///     core::future::ready(()).await;
/// });
/// ```
#[derive(Default)]
pub struct SpinLock<T, const L: Level>(plain::SpinLock<T>);

/// Holding one proves exclusive access to the data, until it is dropped.
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct SpinLockGuard<'a, T, const L: Level> {
    // In this order: what is unlocked last counts as held until it is.
    guard: plain::SpinLockGuard<'a, T>,
    _held: Held<L>,
}

impl<T, const L: Level> SpinLock<T, L> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> Self {
        Self(plain::SpinLock::new(value))
    }

    /// The data, out of a lock that nobody shares any more.
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }

    /// Takes the lock, spinning while another CPU has it. Never from an interrupt handler.
    #[inline]
    pub fn lock(&self) -> SpinLockGuard<'_, T, L> {
        let held = Held::in_order();
        self.guard(held)
    }

    /// The same while another lock of this level may be held: nobody else knows this one yet.
    #[inline]
    pub fn lock_unshared(&self) -> SpinLockGuard<'_, T, L> {
        let held = Held::beside_another();
        self.guard(held)
    }

    #[inline]
    fn guard(&self, held: Held<L>) -> SpinLockGuard<'_, T, L> {
        SpinLockGuard {
            guard: self.0.lock(),
            _held: held,
        }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_lock(&self) -> Option<SpinLockGuard<'_, T, L>> {
        self.0.try_lock().map(|guard| SpinLockGuard {
            guard,
            _held: Held::tried(),
        })
    }

    /// The data, through an exclusive reference: no locking needed.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

impl<T, const L: Level> Deref for SpinLockGuard<'_, T, L> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T, const L: Level> DerefMut for SpinLockGuard<'_, T, L> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// [`executor::sync::SpinRwLock`] at level `L` of the order. Reading counts like writing: who reads twice deadlocks with a writer
/// in between.
///
/// ```compile_fail,E0277
/// use uvm::lock::{LEAF, SpinRwLock};
/// fn spawnable<F: Future + Send>(_: F) {}
/// static LOCK: SpinRwLock<u32, LEAF> = SpinRwLock::new(0);
/// spawnable(async {
///     let guard = LOCK.read();
///     core::future::ready(()).await;
///     drop(guard);
/// });
/// ```
///
/// ```compile_fail,E0277
/// use uvm::lock::{LEAF, SpinRwLock};
/// fn spawnable<F: Future + Send>(_: F) {}
/// static LOCK: SpinRwLock<u32, LEAF> = SpinRwLock::new(0);
/// spawnable(async {
///     let guard = LOCK.write();
///     core::future::ready(()).await;
///     drop(guard);
/// });
/// ```
#[derive(Default)]
pub struct SpinRwLock<T, const L: Level>(plain::SpinRwLock<T>);

/// Shared access to what a [`SpinRwLock`] guards.
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct SpinReadGuard<'a, T, const L: Level> {
    guard: plain::SpinReadGuard<'a, T>,
    _held: Held<L>,
}

/// Exclusive access to what a [`SpinRwLock`] guards.
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct SpinWriteGuard<'a, T, const L: Level> {
    guard: plain::SpinWriteGuard<'a, T>,
    _held: Held<L>,
}

impl<T, const L: Level> SpinRwLock<T, L> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> Self {
        Self(plain::SpinRwLock::new(value))
    }

    /// Takes the lock for reading, spinning while a writer has it. Never from an interrupt handler.
    #[inline]
    pub fn read(&self) -> SpinReadGuard<'_, T, L> {
        let held = Held::in_order();
        SpinReadGuard {
            guard: self.0.read(),
            _held: held,
        }
    }

    /// Takes the lock for writing, spinning while anyone has it. Never from an interrupt handler.
    #[inline]
    pub fn write(&self) -> SpinWriteGuard<'_, T, L> {
        let held = Held::in_order();
        SpinWriteGuard {
            guard: self.0.write(),
            _held: held,
        }
    }
}

impl<T, const L: Level> Deref for SpinReadGuard<'_, T, L> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T, const L: Level> Deref for SpinWriteGuard<'_, T, L> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T, const L: Level> DerefMut for SpinWriteGuard<'_, T, L> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

// The order costs no memory, in any build.
const _: () = {
    assert!(size_of::<SpinLock<u64, LEAF>>() == size_of::<plain::SpinLock<u64>>());
    assert!(
        size_of::<SpinLockGuard<'_, u64, LEAF>>() == size_of::<plain::SpinLockGuard<'_, u64>>()
    );
    assert!(size_of::<SpinRwLock<u64, LEAF>>() == size_of::<plain::SpinRwLock<u64>>());
    assert!(
        size_of::<SpinReadGuard<'_, u64, LEAF>>() == size_of::<plain::SpinReadGuard<'_, u64>>()
    );
    assert!(
        size_of::<SpinWriteGuard<'_, u64, LEAF>>() == size_of::<plain::SpinWriteGuard<'_, u64>>()
    );
};

#[cfg(all(test, debug_assertions))]
mod tests;
