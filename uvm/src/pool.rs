//! Typed pools: small kernel objects in pages from the free list.
//!
//! # What this owns
//! A [`Pool`] has the slabs of one type: single frames, each with a header and then objects. There
//! are no constructed-but-free objects, and an empty slab goes back to the free list at once,
//! except one that is kept against thrashing; [`Pool::reclaim`] gives back that one too, and what
//! per-CPU magazines hold on to.
//!
//! # How it synchronises
//! Each CPU has a magazine of free objects, with a lock that only that CPU and `reclaim` take;
//! behind it is one lock for the slabs. Order: magazine, slabs; the free list's locks come after
//! both. Pool locks may be taken under any other lock of uvm but the free list's and the page
//! queues'.
//!
//! # Why not `Box` and `Arc`
//! `Box::try_new` is not stable, an infallible one aborts when memory runs out, and the general
//! heap costs several times as much. [`PoolBox`] and [`Ref`] are the same ideas over a pool with a
//! fallible `new`.

pub(crate) mod slab;

use alloc::boxed::Box;
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::ptr::{self, NonNull};
use core::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};

use self::slab::{Header, Slabs};
use crate::Uvm;
use crate::addr::PAGE_SIZE;
use crate::meter::Counter;
use crate::page::freelist::AllocFor;

/// There was no memory. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("out of memory")]
pub struct OutOfMemory;

/// Objects of one type in pages from the free list. Objects are at most 4,032 bytes (a page less
/// the header).
///
/// # Panics
/// Dropping a pool panics while objects of it are in use.
pub struct Pool<T> {
    slabs: Box<Slabs>,
    objects: PhantomData<fn(T) -> T>,
}

impl<T> Pool<T> {
    const FITS: () = assert!(size_of::<T>() <= slab::MAX_OBJECT && align_of::<T>() <= 64);

    /// An empty pool. The name is for statistics.
    #[must_use]
    pub fn new(name: &'static str, cpus: usize) -> Self {
        const { Self::FITS };
        Self {
            slabs: Box::new(Slabs::new(name, size_of::<T>(), align_of::<T>(), cpus)),
            objects: PhantomData,
        }
    }

    /// Allocates on behalf of a program; never waits. On failure the value is dropped.
    #[inline]
    pub fn alloc(&self, uvm: &Uvm, value: T) -> Result<PoolBox<T>, OutOfMemory> {
        self.alloc_for(uvm, AllocFor::User, value)
    }

    /// Allocates; `who` says which reserve a new slab may come from. Never waits.
    #[inline]
    pub fn alloc_for(&self, uvm: &Uvm, who: AllocFor, value: T) -> Result<PoolBox<T>, OutOfMemory> {
        match self.slabs.alloc_cached(uvm) {
            Some(object) => Ok(Self::place(uvm, object, value)),
            None => self.alloc_slowly(uvm, who, value),
        }
    }

    #[cold]
    #[inline(never)]
    fn alloc_slowly(&self, uvm: &Uvm, who: AllocFor, value: T) -> Result<PoolBox<T>, OutOfMemory> {
        match self.slabs.refill(uvm, who) {
            Some(object) => Ok(Self::place(uvm, object, value)),
            None => {
                uvm.count(Counter::PoolFails);
                Err(OutOfMemory)
            }
        }
    }

    #[inline]
    fn place(uvm: &Uvm, object: NonNull<u8>, value: T) -> PoolBox<T> {
        uvm.count(Counter::PoolAllocs);
        let object = object.cast::<T>();
        // SAFETY: fresh from the slab, with room and alignment for a `T`, and ours alone.
        unsafe { object.write(value) };
        PoolBox(object)
    }

    /// Objects in use.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.slabs.in_use()
    }

    /// Pages held.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.slabs.pages()
    }

    /// Gives all empty slabs back to the free list; returns how many pages.
    pub fn reclaim(&self, uvm: &Uvm) -> usize {
        self.slabs.reclaim(uvm)
    }

    /// Bytes that one object costs: its part of a page.
    pub(crate) fn cost(&self) -> usize {
        PAGE_SIZE / self.slabs.capacity()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.slabs.name()
    }
}

/// An object in a pool with one owner, like a `Box`. Dropping it frees the object.
pub struct PoolBox<T>(NonNull<T>);

impl<T> PoolBox<T> {
    /// Gives up ownership without freeing.
    #[must_use]
    pub fn into_raw(this: Self) -> NonNull<T> {
        let raw = this.0;
        core::mem::forget(this);
        raw
    }

    /// Takes ownership back.
    ///
    /// # Safety
    /// `raw` came from [`Self::into_raw`], and this is called once for it.
    #[must_use]
    pub unsafe fn from_raw(raw: NonNull<T>) -> Self {
        Self(raw)
    }
}

impl<T> Drop for PoolBox<T> {
    fn drop(&mut self) {
        // SAFETY: the box owns the object; it came from a pool.
        unsafe {
            ptr::drop_in_place(self.0.as_ptr());
            free_object(self.0);
        }
    }
}

impl<T> Deref for PoolBox<T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: owned, initialised.
        unsafe { self.0.as_ref() }
    }
}

impl<T> DerefMut for PoolBox<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: owned, initialised, and borrowed exclusively.
        unsafe { self.0.as_mut() }
    }
}

impl<T: fmt::Debug> fmt::Debug for PoolBox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

// SAFETY: owns its `T`, like a `Box`.
unsafe impl<T: Send> Send for PoolBox<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for PoolBox<T> {}

/// The reference count inside a [`Counted`] object.
#[derive(Debug)]
pub struct RefCount(AtomicU32);

impl RefCount {
    /// A count of one, for the [`Ref`] that [`Ref::new`] returns.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU32::new(1))
    }

    /// References as of now.
    #[inline]
    #[must_use]
    pub fn get(&self) -> u32 {
        self.0.load(Acquire)
    }
}

impl Default for RefCount {
    fn default() -> Self {
        Self::new()
    }
}

/// A pool object with its reference count inside.
///
/// # Safety
/// `count` always returns the same count, a field of the object that nothing but [`Ref`] changes.
pub unsafe trait Counted: Send + Sync + Sized {
    /// The count.
    fn count(&self) -> &RefCount;

    /// Called when the last [`Ref`] has gone, before the object is dropped and its memory freed:
    /// for what needs the `Uvm`.
    fn finalize(&mut self, uvm: &Uvm) {
        let _ = uvm;
    }
}

/// A counted reference to an object in a pool, like an `Arc`.
pub struct Ref<T: Counted>(NonNull<T>);

impl<T: Counted> Ref<T> {
    /// Allocates from `pool` on behalf of a program. The value's count must be fresh
    /// ([`RefCount::new`]).
    #[inline]
    pub fn new(pool: &Pool<T>, uvm: &Uvm, value: T) -> Result<Self, OutOfMemory> {
        debug_assert_eq!(value.count().get(), 1, "count is not fresh");
        pool.alloc(uvm, value)
            .map(|object| Self(PoolBox::into_raw(object)))
    }

    /// Its address, for [`crate::page::Page::set_owner`] and comparisons.
    #[inline]
    #[must_use]
    pub fn as_ptr(this: &Self) -> NonNull<T> {
        this.0
    }

    /// Whether both are the same object.
    #[must_use]
    pub fn ptr_eq(a: &Self, b: &Self) -> bool {
        a.0 == b.0
    }

    /// Gives up the reference without lowering the count; [`Self::from_raw`] undoes it.
    #[must_use]
    pub fn into_raw(this: Self) -> NonNull<T> {
        let raw = this.0;
        core::mem::forget(this);
        raw
    }

    /// Takes a reference back.
    ///
    /// # Safety
    /// `raw` came from [`Self::into_raw`], and this is called once for each time.
    #[must_use]
    pub unsafe fn from_raw(raw: NonNull<T>) -> Self {
        Self(raw)
    }

    /// Makes a reference, unless the last one is gone already.
    ///
    /// # Safety
    /// `object` is, and stays during the call, the memory of a `T` in a pool. It may be dying.
    #[must_use]
    pub unsafe fn try_from_ptr(object: NonNull<T>) -> Option<Self> {
        // SAFETY: valid memory by the caller's promise, and the count is an atomic.
        let count = unsafe { object.as_ref() }.count();
        let raised = count
            .0
            .fetch_update(Acquire, Relaxed, |n| (n != 0).then(|| n + 1));
        raised.ok().map(|_| Self(object))
    }

    /// Number of references as of now. Whoever holds the only one keeps it so, unless there are
    /// weak ways to the object.
    #[inline]
    #[must_use]
    pub fn count(this: &Self) -> u32 {
        T::count(this).get()
    }

    /// Gives up the reference; the object, if it was the last one. [`Counted::finalize`] has not been called, nor will it be: what it does
    /// is the caller's to do.
    #[inline]
    pub(crate) fn into_last(this: Self) -> Option<Last<T>> {
        let object = Self::into_raw(this);
        // SAFETY: counted until the next line, so alive.
        let count = T::count(unsafe { object.as_ref() });
        (count.0.fetch_sub(1, Release) == 1).then(|| {
            fence(Acquire);
            Last(object)
        })
    }

    #[cold]
    #[inline(never)]
    fn last(&mut self) {
        fence(Acquire);
        let mut last = Last(self.0);
        // SAFETY: the object came from a pool, whose slab knows the `Uvm`.
        let uvm = unsafe { Header::of(self.0.cast()).as_ref().uvm };
        // SAFETY: it lives as long as objects are in use (see `Slabs`' drop).
        last.finalize(unsafe { uvm.as_ref() });
    }
}

/// An object whose count is 0, so that no [`Ref`] is left or can be made. Its memory goes with this.
pub(crate) struct Last<T: Counted>(NonNull<T>);

impl<T: Counted> Deref for Last<T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this one's alone, and initialised.
        unsafe { self.0.as_ref() }
    }
}

impl<T: Counted> DerefMut for Last<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and borrowed exclusively.
        unsafe { self.0.as_mut() }
    }
}

impl<T: Counted> Drop for Last<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this one's alone; it came from a pool.
        unsafe {
            ptr::drop_in_place(self.0.as_ptr());
            free_object(self.0);
        }
    }
}

impl<T: Counted> Clone for Ref<T> {
    #[inline]
    fn clone(&self) -> Self {
        let old = T::count(self).0.fetch_add(1, Relaxed);
        assert!(old < u32::MAX / 2, "reference count overflow");
        Self(self.0)
    }
}

impl<T: Counted> Drop for Ref<T> {
    #[inline]
    fn drop(&mut self) {
        if T::count(self).0.fetch_sub(1, Release) == 1 {
            self.last();
        }
    }
}

impl<T: Counted> Deref for Ref<T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: counted, so alive.
        unsafe { self.0.as_ref() }
    }
}

impl<T: Counted + fmt::Debug> fmt::Debug for Ref<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

// SAFETY: like `Arc`; `Counted` demands `Send + Sync`.
unsafe impl<T: Counted> Send for Ref<T> {}
// SAFETY: as above.
unsafe impl<T: Counted> Sync for Ref<T> {}

/// Frees an object's memory.
///
/// # Safety
/// It came from a pool, and nothing uses it any more.
unsafe fn free_object<T>(object: NonNull<T>) {
    // SAFETY: a pool's object has a slab, whose header names pool and `Uvm`; both live as long as
    // objects are in use (see `Slabs`' drop).
    unsafe {
        let header = Header::of(object.cast()).as_ref();
        let uvm = header.uvm.as_ref();
        uvm.count(Counter::PoolFrees);
        header.slabs.as_ref().free(uvm, object.cast());
    }
}

#[cfg(test)]
mod tests;
