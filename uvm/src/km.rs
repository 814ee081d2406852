//! The kernel heap: what `Box`, `Vec` and `Arc` in the kernel live on.
//!
//! # What backs it, and how it grows
//! Three stages. (1) Until [`Heap::init`] there is nothing. (2) From then to [`Heap::attach`]
//! blocks come from a fixed early region, by moving a mark; only the last block can be given back.
//! (3) From then on they come from `uvm`'s free frames: blocks up to [`LARGEST_CLASS`] bytes from
//! slabs of one size each (with per-CPU magazines, see [`crate::pool`]), up to a page as a frame of
//! their own, larger ones as contiguous frames, found by a search through all of memory. It grows a
//! frame at a time, shares nothing with programs but the free list, and gives empty slabs back.
//! There is no kernel address space to run out of: everything stays in the direct map.
//!
//! # What exhaustion does
//! `alloc` returns null when only the pagedaemon's reserve is left (or no contiguous frames), and
//! the infallible collections then end in Rust's allocation error: a panic. So an allocation is one of
//! three kinds, and its type says which:
//!
//! - *fallible*: UVM's own structures live in typed pools ([`crate::pool`]), whose `alloc` says
//!   [`OutOfMemory`](crate::OutOfMemory); collections whose size ring 3 decides use `try_reserve`.
//! - *reserved*: frames are kept back for the heap from the moment that it is attached, which no program gets. Who makes
//!   small infallible blocks for ring 3 shows a [`HeapRoom`]: that all of that reserve was there a moment ago, with nothing awaited
//!   since. Who waits for frames waits until the reserve is whole again.
//! - *waiting*: who may wait does so before it asks for room ([`crate::Patience`]), never in an allocation.
//!
//! After [`Heap::seal`], at the end of boot, blocks beyond a page are counted (`heaplarge`), because
//! contiguous frames may be gone by then. The counter `heapallocs` proves that a path allocates
//! nothing.
//!
//! # How it synchronises
//! As the pools it is made of. Never from an interrupt handler.

mod room;

pub use room::HeapRoom;

use alloc::boxed::Box;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

use crate::Uvm;
use crate::addr::{PAGE_SIZE, pages_of};
use crate::meter::Counter;
use crate::page::freelist::{AllocFor, Zero};
use crate::pool::slab::{self, Slabs};

/// Block sizes that slabs serve, in bytes. Chosen to fill a page behind a slab's header.
const CLASSES: [usize; 20] = [
    16, 32, 48, 64, 96, 128, 192, 224, 256, 288, 336, 384, 448, 512, 576, 672, 800, 1008, 1344,
    2016,
];
/// Sizes of classes are multiples of this, in bytes.
const GRAIN: usize = 16;
/// The class that serves so many bytes, by the grain that they end in.
const CLASS_OF: [u8; LARGEST_CLASS / GRAIN] = {
    let mut table = [0; LARGEST_CLASS / GRAIN];
    let (mut grain, mut class) = (0, 0);
    while grain < table.len() {
        if (grain + 1) * GRAIN > CLASSES[class] {
            class += 1;
        }
        table[grain] = class as u8;
        grain += 1;
    }
    table
};
/// Largest block from a slab, in bytes.
pub const LARGEST_CLASS: usize = CLASSES[CLASSES.len() - 1];
/// Alignment of blocks whose class is not a power of two.
const ALIGN: usize = 16;
/// Largest alignment that a class has.
const MAX_ALIGN: usize = 512;

/// The kernel heap. One `static` of it is the kernel's `#[global_allocator]`.
pub struct Heap {
    early_start: AtomicUsize,
    early_end: AtomicUsize,
    early_next: AtomicUsize,
    attached: AtomicPtr<Attached>,
    sealed: AtomicBool,
}

/// What stage 3 needs; made once and never freed.
struct Attached {
    uvm: NonNull<Uvm>,
    classes: [Slabs; CLASSES.len()],
}

impl Heap {
    /// A heap without memory.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            early_start: AtomicUsize::new(0),
            early_end: AtomicUsize::new(0),
            early_next: AtomicUsize::new(0),
            attached: AtomicPtr::new(ptr::null_mut()),
            sealed: AtomicBool::new(false),
        }
    }

    /// Gives it the early region. Called once, before anything is allocated.
    ///
    /// # Safety
    /// `[start, start + len)` is mapped, writable memory that nothing else ever uses.
    pub unsafe fn init(&self, start: *mut u8, len: usize) {
        let start = start.expose_provenance();
        self.early_start.store(start, Relaxed);
        self.early_next.store(start, Relaxed);
        self.early_end.store(start + len, Release);
    }

    /// From now on memory comes from `uvm`, which keeps some back for it. Called once.
    ///
    /// # Safety
    /// `uvm` lives, at this address, as long as the heap is used.
    pub unsafe fn attach(&self, uvm: &Uvm) {
        let classes = CLASSES.map(|size| {
            let align = if size.is_power_of_two() {
                size.clamp(ALIGN, MAX_ALIGN)
            } else {
                ALIGN
            };
            Slabs::new("heap", size, align, uvm.cpus())
        });
        let attached = Box::new(Attached {
            uvm: NonNull::from(uvm),
            classes,
        });
        let old = self.attached.swap(Box::into_raw(attached), Release);
        assert!(old.is_null(), "heap attached twice");
        uvm.set_heap_reserve(room::reserve(uvm.pages().managed()));
    }

    /// End of boot: from now on blocks larger than a page are counted as `heaplarge`.
    pub fn seal(&self) {
        self.sealed.store(true, Relaxed);
    }

    /// Bytes of the early region that are used up, for the boot log.
    #[must_use]
    pub fn early_used(&self) -> usize {
        self.early_next.load(Relaxed) - self.early_start.load(Relaxed)
    }

    #[inline]
    fn attached(&self) -> Option<&Attached> {
        // SAFETY: null, or a leaked box.
        unsafe { self.attached.load(Acquire).as_ref() }
    }

    fn early_alloc(&self, layout: Layout) -> *mut u8 {
        let end = self.early_end.load(Acquire);
        let mut block = 0;
        let moved = self.early_next.fetch_update(Relaxed, Relaxed, |next| {
            block = next.checked_next_multiple_of(layout.align())?;
            block
                .checked_add(layout.size())
                .filter(|&after| after <= end)
        });
        if moved.is_ok() && block != 0 {
            ptr::with_exposed_provenance_mut(block)
        } else {
            ptr::null_mut()
        }
    }

    fn early_free(&self, block: *mut u8, layout: Layout) {
        let start = block.addr();
        // Only the last block can be given back; others stay used, which is a few at most.
        let _ = self
            .early_next
            .compare_exchange(start + layout.size(), start, Relaxed, Relaxed);
    }

    fn is_early(&self, block: *mut u8) -> bool {
        (self.early_start.load(Relaxed)..self.early_end.load(Relaxed)).contains(&block.addr())
    }
}

impl Default for Heap {
    fn default() -> Self {
        Self::new()
    }
}

/// Bytes that a heap block for so many costs: its part of a page, or whole pages.
#[must_use]
pub fn block_bytes(bytes: usize) -> usize {
    match CLASS_OF.get(bytes.saturating_sub(1) / GRAIN) {
        // As many as fit behind a slab's header.
        Some(&class) => PAGE_SIZE / (slab::MAX_OBJECT / CLASSES[usize::from(class)]),
        None => bytes.next_multiple_of(PAGE_SIZE),
    }
}

/// The same for a `T` that is counted by [`Arc`](alloc::sync::Arc).
#[must_use]
pub fn arc_bytes<T>() -> usize {
    block_bytes(size_of::<T>() + 2 * size_of::<usize>())
}

/// Which class serves a layout; `None`: whole pages.
#[inline]
fn class(layout: &Layout) -> Option<usize> {
    let size = if layout.align() <= ALIGN {
        layout.size()
    } else if layout.align() <= MAX_ALIGN {
        // Powers of two are aligned to their size.
        layout.size().max(layout.align()).next_power_of_two()
    } else {
        return None;
    };
    let found = usize::from(*CLASS_OF.get(size.saturating_sub(1) / GRAIN)?);
    (layout.align() <= ALIGN || CLASSES[found].is_power_of_two()).then_some(found)
}

impl Attached {
    fn uvm(&self) -> &Uvm {
        // SAFETY: lives as long as the heap is used, by `attach`'s contract.
        unsafe { self.uvm.as_ref() }
    }

    fn pages(&self, layout: Layout, sealed: bool) -> *mut u8 {
        let uvm = self.uvm();
        let pages = pages_of(layout.size());
        if layout.align() > PAGE_SIZE {
            return ptr::null_mut();
        }
        if pages == 1 {
            let Some(frame) = uvm.alloc_frame(AllocFor::Kernel, Zero::No) else {
                return ptr::null_mut();
            };
            uvm.claim_for_kernel(frame);
            return uvm.phys().ptr(frame);
        }
        if sealed {
            uvm.count(Counter::HeapLarge);
        }
        uvm.alloc_contiguous(pages)
            .map_or(ptr::null_mut(), |first| uvm.phys().ptr(first))
    }
}

// SAFETY: blocks come from slabs, frames or the early region: big and aligned enough, and nobody
// else's.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(attached) = self.attached() else {
            return self.early_alloc(layout);
        };
        let uvm = attached.uvm();
        let block = match class(&layout) {
            Some(class) => {
                let block = attached.classes[class].alloc(uvm, AllocFor::Kernel);
                block.map_or(ptr::null_mut(), NonNull::as_ptr)
            }
            None => attached.pages(layout, self.sealed.load(Relaxed)),
        };
        uvm.count(match block.is_null() {
            true => Counter::HeapFails,
            false => Counter::HeapAllocs,
        });
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(attached) = self.attached().filter(|_| !self.is_early(block)) else {
            return self.early_free(block, layout);
        };
        let uvm = attached.uvm();
        uvm.count(Counter::HeapFrees);
        match (class(&layout), NonNull::new(block)) {
            // SAFETY: it came from the class that its layout names.
            (Some(class), Some(block)) => unsafe { attached.classes[class].free(uvm, block) },
            // SAFETY: it came as so many frames.
            _ => unsafe {
                uvm.free_contiguous(uvm.phys().frame_of(block), pages_of(layout.size()))
            },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: `size` is not zero and does not overflow, by the trait's contract.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        let fits = match (class(&layout), class(&new)) {
            (Some(old), Some(new)) => old == new,
            (None, None) => pages_of(layout.size()) == pages_of(size),
            _ => false,
        };
        if fits && self.attached().is_some() && !self.is_early(block) {
            return block;
        }
        // SAFETY: a fresh block, and the old one is the caller's; both are at least as big as what
        // is copied.
        unsafe {
            let moved = self.alloc(new);
            if !moved.is_null() {
                ptr::copy_nonoverlapping(block, moved, layout.size().min(size));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests;
