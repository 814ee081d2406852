//! The kernel's heap: a region taken at boot, handed out upwards.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::paging;
use crate::memmap::MemoryMap;

const PAGE: u64 = 4096;
/// Bytes taken at boot.
const EARLY_SIZE: u64 = 8 << 20;

struct Bump {
    next: AtomicUsize,
    end: AtomicUsize,
}

// SAFETY: each call takes a range of its own off a region that nobody else uses.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let end = self.end.load(Ordering::Acquire);
        let take = |next: usize| {
            let start = next.next_multiple_of(layout.align());
            (start + layout.size() <= end).then_some(start + layout.size())
        };
        match self
            .next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
        {
            Ok(before) => before.next_multiple_of(layout.align()) as *mut u8,
            Err(_) => ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static HEAP: Bump = Bump {
    next: AtomicUsize::new(0),
    end: AtomicUsize::new(0),
};

/// Gives the heap its region. The final page tables must be in use.
pub fn init(memory: &mut MemoryMap) {
    let start = memory
        .take(EARLY_SIZE, PAGE, u64::MAX)
        .expect("no memory for the kernel's heap");
    let start = paging::phys_to_virt(start) as usize;
    HEAP.next.store(start, Ordering::Relaxed);
    HEAP.end
        .store(start + EARLY_SIZE as usize, Ordering::Release);
}
