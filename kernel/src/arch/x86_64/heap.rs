//! The kernel's heap: uvm's, as Rust's global allocator. Until uvm exists it lives on a region taken at boot.

use ::uvm::Uvm;
use ::uvm::km::Heap;

use super::paging;
use crate::memmap::MemoryMap;

const PAGE: u64 = 4096;
/// Bytes taken at boot: for the command line, the executor, drivers' queues and uvm itself.
const EARLY_SIZE: u64 = 1 << 20;

#[global_allocator]
static HEAP: Heap = Heap::new();

/// Gives the heap its first region. Once, with the final page tables in use.
pub fn init(memory: &mut MemoryMap) {
    let start = memory
        .take(EARLY_SIZE, PAGE, u64::MAX)
        .expect("no memory for the kernel's heap");
    // SAFETY: taken for the heap just now, in the direct map.
    unsafe { HEAP.init(paging::phys_to_virt(start), EARLY_SIZE as usize) };
}

/// From now on the heap grows with `uvm`'s memory. Once.
pub fn attach(uvm: &'static Uvm) {
    log::info!(
        "heap: {} of {} early bytes used",
        HEAP.early_used(),
        EARLY_SIZE
    );
    // SAFETY: `uvm` lives for good, and does not move.
    unsafe { HEAP.attach(uvm) };
}

/// Says that boot is over: large blocks are counted from now on.
pub fn seal() {
    HEAP.seal();
}
