//! Memory that a device and the driver both read and write: rings, descriptor tables, request headers.
//!
//! All access is volatile or atomic, because the other side changes it at any time. Ordering between the two sides
//! is made by the indices alone: whoever publishes an index stores it with release, whoever reads it loads it with
//! acquire.

use core::sync::atomic::AtomicU16;

use crate::Dma;
use crate::io::{Mmio, Width};

const PAGE: usize = 4096;

/// A physically contiguous piece of memory, taken from [`Dma`] for good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharedMemory {
    window: Mmio,
    phys: u64,
}

impl SharedMemory {
    /// Takes at least `len` bytes, zeroed, aligned to a page. `None` when memory is short.
    pub(crate) fn allocate(dma: &dyn Dma, len: usize) -> Option<SharedMemory> {
        let pages = len.div_ceil(PAGE);
        let (phys, base) = dma.alloc_pages(pages)?;
        // SAFETY: `alloc_pages` gave these pages to this value for good, aligned to a page; all access to them goes
        // through the window or through `index`.
        let window = unsafe { Mmio::new(base, pages * PAGE) };
        Some(SharedMemory { window, phys })
    }

    /// The physical address of the byte at `offset`.
    pub(crate) fn phys(&self, offset: usize) -> u64 {
        self.phys + offset as u64
    }

    pub(crate) fn read<T: Width>(&self, offset: usize) -> T {
        self.window.read(offset)
    }

    pub(crate) fn write<T: Width>(&self, offset: usize, value: T) {
        self.window.write(offset, value);
    }

    /// A 16-bit index that both sides use. `offset` is even and inside the memory, or this panics.
    pub(crate) fn index(&self, offset: usize) -> &AtomicU16 {
        let pointer = self.window.pointer::<u16>(offset);
        // SAFETY: `pointer` is aligned and inside memory that lives for good, and indices are accessed atomically
        // wherever they are accessed.
        unsafe { AtomicU16::from_ptr(pointer) }
    }
}
