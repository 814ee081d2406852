//! The kernel's heap: uvm's, as Rust's global allocator. Until uvm exists it lives on a region taken at boot.

use ::uvm::Uvm;
use ::uvm::km::Heap;

use super::paging;
use crate::memmap::MemoryMap;

const PAGE: u64 = 4096;
/// Bytes taken at boot: for the command line, the executor, drivers' queues and uvm itself.
const EARLY_SIZE: u64 = 1 << 20;
/// Bytes more for each disk beside the root's: a RAM disk's queue takes 142 KiB, the device around it 19.
const EARLY_PER_DISK: u64 = 192 << 10;

#[global_allocator]
static HEAP: Heap = Heap::new();

/// Gives the heap its first region, with room for `more_disks` disks beside the root's. Once, with the final page tables
/// in use.
pub fn init(memory: &mut MemoryMap, more_disks: usize) {
    let size = EARLY_SIZE + more_disks as u64 * EARLY_PER_DISK;
    let start = memory
        .take(size, PAGE, u64::MAX)
        .expect("no memory for the kernel's heap");
    log::info!("heap: {size} bytes for the boot");
    // SAFETY: taken for the heap just now, in the direct map.
    unsafe { HEAP.init(paging::phys_to_virt(start), size as usize) };
}

/// From now on the heap grows with `uvm`'s memory. Once.
pub fn attach(uvm: &'static Uvm) {
    log::info!("heap: {} bytes used by the boot", HEAP.early_used());
    // SAFETY: `uvm` lives for good, and does not move.
    unsafe { HEAP.attach(uvm) };
}

/// Says that boot is over: large blocks are counted from now on.
pub fn seal() {
    HEAP.seal();
}
