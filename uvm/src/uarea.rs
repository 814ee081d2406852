//! skeleton
use crate::Uvm;
use crate::pool::OutOfMemory;
use core::ptr::NonNull;

/// Pages in a u-area.
pub const UAREA_PAGES: usize = 2;
/// Bytes in a u-area.
pub const UAREA_SIZE: usize = UAREA_PAGES * crate::PAGE_SIZE;
/// u-areas kept by [`Uvm::uarea_drain`] while memory is not short.
pub const UAREA_KEEP: usize = 16;

/// Where a u-area came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Newly allocated, mapped and wired.
    Fresh,
    /// From the cache, its pages still wired.
    Cached,
}

/// A u-area: 8 KiB of wired kernel memory. Dropping it puts it back into the cache (never blocks)?
#[derive(Debug)]
pub struct Uarea(NonNull<u8>);
impl Uarea {
    /// First byte, page-aligned; [`UAREA_SIZE`] bytes follow. Contents undefined.
    #[must_use]
    pub fn base(&self) -> NonNull<u8> { self.0 }
}
// SAFETY: plain memory with one owner.
unsafe impl Send for Uarea {}
// SAFETY: as above.
unsafe impl Sync for Uarea {}

impl Uvm {
    /// Takes a u-area from the cache, or makes one. Never waits.
    pub fn uarea_alloc(&self) -> Result<(Uarea, Source), OutOfMemory> { todo!() }
    /// Puts a u-area on the free list. Never waits, never fails.
    pub fn uarea_free(&self, uarea: Uarea) { todo!() }
    /// Releases u-areas until `keep` are cached. Yields between them.
    pub async fn uarea_drain(&self, keep: usize) { todo!() }
    /// u-areas in the cache.
    #[must_use]
    pub fn uarea_cached(&self) -> usize { todo!() }
}
