//! skeleton
use crate::Uvm;
use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::NonNull;

/// There was no memory. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("out of memory")]
pub struct OutOfMemory;

/// The reference count inside a [`Counted`] object. Starts at 1 (the first [`Ref`]).
pub struct RefCount(core::sync::atomic::AtomicU32);

impl RefCount {
    /// A count of one, for the [`Ref`] that [`Ref::new`] returns.
    #[must_use]
    pub const fn new() -> Self {
        Self(core::sync::atomic::AtomicU32::new(1))
    }
    /// As of now.
    #[must_use]
    pub fn get(&self) -> u32 {
        self.0.load(core::sync::atomic::Ordering::Acquire)
    }
}

/// A pool object with its reference count inside.
///
/// # Safety
/// `count` always returns the same count, a field of the object, that nothing else changes.
pub unsafe trait Counted: Send + Sync + Sized {
    /// The count.
    fn count(&self) -> &RefCount;
    /// Called when the last [`Ref`] has gone, before the object is dropped and its memory freed. Must not make new `Ref`s to it.
    fn finalize(&mut self, uvm: &Uvm) {
        let _ = uvm;
    }
}

/// A counted reference to an object in a pool.
pub struct Ref<T: Counted>(NonNull<T>);

impl<T: Counted> Ref<T> {
    /// Allocates from `pool`. The value's count must be fresh ([`RefCount::new`]).
    pub fn new(pool: &Pool<T>, uvm: &Uvm, value: T) -> Result<Self, OutOfMemory> { todo!() }
    /// Its address, for [`crate::page::Page::set_owner`].
    #[must_use]
    pub fn as_ptr(this: &Self) -> NonNull<T> { this.0 }
    /// Whether both are the same object.
    #[must_use]
    pub fn ptr_eq(a: &Self, b: &Self) -> bool { a.0 == b.0 }
    /// Gives up the reference without lowering the count; [`Self::from_raw`] undoes it.
    #[must_use]
    pub fn into_raw(this: Self) -> NonNull<T> { todo!() }
    /// # Safety
    /// From [`Self::into_raw`], once each.
    #[must_use]
    pub unsafe fn from_raw(ptr: NonNull<T>) -> Self { Self(ptr) }
    /// Makes a reference unless the last one is gone.
    /// # Safety
    /// `ptr` is valid memory of a `T` in a pool, perhaps dying.
    pub unsafe fn try_from_ptr(ptr: NonNull<T>) -> Option<Self> { todo!() }
    /// Number of references as of now.
    #[must_use]
    pub fn count(this: &Self) -> u32 { todo!() }
}
impl<T: Counted> Clone for Ref<T> { fn clone(&self) -> Self { todo!() } }
impl<T: Counted> Drop for Ref<T> { fn drop(&mut self) { todo!() } }
impl<T: Counted> Deref for Ref<T> { type Target = T; fn deref(&self) -> &T { todo!() } }

/// An object in a pool with one owner, like a `Box`.
pub struct PoolBox<T>(NonNull<T>);
impl<T> Drop for PoolBox<T> { fn drop(&mut self) { todo!() } }
impl<T> Deref for PoolBox<T> { type Target = T; fn deref(&self) -> &T { todo!() } }
impl<T> core::ops::DerefMut for PoolBox<T> { fn deref_mut(&mut self) -> &mut T { todo!() } }
impl<T> PoolBox<T> {
    /// Gives up ownership.
    #[must_use]
    pub fn into_raw(this: Self) -> NonNull<T> { todo!() }
    /// # Safety
    /// From [`Self::into_raw`], once each.
    #[must_use]
    pub unsafe fn from_raw(ptr: NonNull<T>) -> Self { Self(ptr) }
}
// SAFETY: owns its `T`.
unsafe impl<T: Send> Send for PoolBox<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for PoolBox<T> {}
// SAFETY: like `Arc`.
unsafe impl<T: Counted> Send for Ref<T> {}
// SAFETY: like `Arc`.
unsafe impl<T: Counted> Sync for Ref<T> {}

/// Objects of one type (at most about 4,000 bytes) in pages from the free list.
pub struct Pool<T>(PhantomData<T>);
// SAFETY: skeleton
unsafe impl<T> Send for Pool<T> {}
// SAFETY: skeleton
unsafe impl<T> Sync for Pool<T> {}

impl<T> Pool<T> {
    /// An empty pool. It must not move once something was allocated: keep it in [`Uvm`].
    #[must_use]
    pub fn new(name: &'static str, cpus: usize) -> Self { todo!() }
    /// Allocates; never waits. `Err` gives nothing back: the value is dropped.
    pub fn alloc(&self, uvm: &Uvm, value: T) -> Result<PoolBox<T>, OutOfMemory> { todo!() }
    /// Objects in use.
    #[must_use]
    pub fn in_use(&self) -> usize { todo!() }
    /// Pages held.
    #[must_use]
    pub fn pages(&self) -> usize { todo!() }
    /// Gives empty slabs back to the free list; returns how many pages.
    pub fn reclaim(&self, uvm: &Uvm) -> usize { todo!() }
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str { todo!() }
}
