//! skeleton
use core::alloc::{GlobalAlloc, Layout};
use crate::Uvm;

/// The kernel heap.
pub struct Heap(());
impl Heap {
    /// A heap without memory.
    #[must_use]
    pub const fn new() -> Self { Self(()) }
    /// Gives it the early region that serves until [`Self::attach`].
    /// # Safety
    /// `[start, start + len)` is mapped, writable, unused memory, for ever; called once.
    pub unsafe fn init(&self, start: *mut u8, len: usize) { todo!() }
    /// From now on memory comes from `uvm`'s free frames. Called once.
    /// # Safety
    /// `uvm` lives as long as the heap is used.
    pub unsafe fn attach(&self, uvm: &Uvm) { todo!() }
    /// End of boot: blocks larger than a page are counted as `heaplarge` from now on.
    pub fn seal(&self) { todo!() }
    /// Whether blocks of `bytes` in all can be had now without touching the reserves. A hint, checked by run-time paths before code that allocates infallibly.
    #[must_use]
    pub fn can_allocate(&self, bytes: usize) -> bool { todo!() }
}
// SAFETY: skeleton
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 { todo!() }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) { todo!() }
}
