//! The kernel's half of every address space.
//!
//! ```text
//! 0000000000000000  user (one address space each; the kernel's own tables map nothing here)
//! ffff888000000000  direct map: physical address + DIRECT_MAP, 2 MiB pages, writable, never executable;
//!                   read-only (4 KiB pages) where the kernel's text and constants lie
//! ffffc90000000000  MMIO_BASE: device registers, uncached, handed out upwards by `map_mmio`, 1 GiB
//! ffffd00000000000  KVA_BASE: kernel pages with addresses of their own (u-areas), uvm's to fill, 512 GiB
//! ffffffff80000000  KERNEL_BASE: the image: text r-x, constants r--, data rw-; the page below the boot
//!                   CPU's stack is unmapped
//! ```
//!
//! Built once at boot, from frames that are never given back. The top-level entries used here are present from
//! the start, so that a user's top-level table can copy them and never needs to follow. `map_mmio` may be called at boot
//! only (devices are found there); it takes a lock that no interrupt takes.

use core::ptr::NonNull;

use executor::sync::SpinLock;
use x86_64::instructions::tlb;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::PhysFrame;
use x86_64::{PhysAddr, VirtAddr};

use super::percpu::PerCpu;
use crate::memmap::{MemoryMap, Range};

/// Where physical address 0 is mapped.
pub const DIRECT_MAP: u64 = 0xffff_8880_0000_0000;
/// Where device registers are mapped.
const MMIO_BASE: u64 = 0xffff_c900_0000_0000;
const MMIO_SIZE: u64 = 1 << 30;
/// Start of the range in which uvm maps kernel pages.
pub const KVA_BASE: u64 = 0xffff_d000_0000_0000;
/// Bytes of that range.
pub const KVA_SIZE: u64 = 1 << 39;
/// What the kernel's addresses are above their physical ones.
const KERNEL_BASE: u64 = 0xffff_ffff_8000_0000;

const PAGE: u64 = 4096;
const LARGE_PAGE: u64 = 2 << 20;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const UNCACHED: u64 = 1 << 4 | 1 << 3;
const LARGE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Leaf tables that `map_mmio` may still need, set aside at boot: each maps 2 MiB of registers.
const MMIO_TABLES: usize = 16;

macro_rules! linker_symbols {
    ($($name:ident),*) => {
        mod symbol {
            unsafe extern "C" { $(pub static $name: u8;)* }
        }
        /// Addresses that the linker script defines.
        #[derive(Clone, Copy)]
        struct Image { $($name: u64,)* }
        impl Image {
            fn get() -> Image {
                Image { $($name: &raw const symbol::$name as u64,)* }
            }
        }
    };
}
linker_symbols!(
    __image_start,
    __image_end,
    __text_start,
    __text_end,
    __rodata_start,
    __rodata_end,
    __data_start,
    __data_end,
    __stack_guard,
    __stack_bottom,
    __stack_top
);

/// The physical memory that the kernel's image occupies, boot tables included.
pub fn image() -> Range {
    let image = Image::get();
    Range::new(image.__image_start, image.__image_end - image.__image_start)
}

/// Whether `address` is in the boot CPU's stack, or in one of those for the worst exceptions (which lie in the
/// kernel's data).
pub fn is_stack(address: u64) -> bool {
    let image = Image::get();
    (image.__stack_bottom..image.__data_end).contains(&address)
}

/// Whether `address` is in the kernel's text.
pub fn is_text(address: u64) -> bool {
    let image = Image::get();
    (image.__text_start..image.__text_end).contains(&address)
}

struct Mmio {
    next: u64,
    /// The page directory that covers the window.
    directory: u64,
    spare: [u64; MMIO_TABLES],
    spare_count: usize,
}

static MMIO: SpinLock<Mmio> = SpinLock::new(Mmio {
    next: MMIO_BASE,
    directory: 0,
    spare: [0; MMIO_TABLES],
    spare_count: 0,
});

/// Page tables under construction, reached through the boot tables' one-to-one mapping.
struct Builder<'a> {
    memory: &'a mut MemoryMap,
    root: u64,
}

impl Builder<'_> {
    /// A zeroed frame below 4 GiB, where the boot tables reach.
    fn table(&mut self) -> u64 {
        let frame = self
            .memory
            .take(PAGE, PAGE, 1 << 32)
            .expect("no memory for the kernel's page tables");
        // SAFETY: taken from free memory just now, and mapped one to one below 4 GiB.
        unsafe { core::ptr::write_bytes(frame as *mut u8, 0, PAGE as usize) };
        frame
    }

    fn entry(&mut self, table: u64, va: u64, level: u32) -> *mut u64 {
        let index = va >> (12 + 9 * level) & 511;
        (table + index * 8) as *mut u64
    }

    /// The table that maps `va` at `level` (0: 4 KiB pages, 1: 2 MiB), made where missing.
    fn table_for(&mut self, va: u64, level: u32) -> u64 {
        let mut table = self.root;
        for above in (level + 1..=3).rev() {
            let entry = self.entry(table, va, above);
            // SAFETY: the entry lies in a table of this builder's.
            let value = unsafe { entry.read() };
            table = if value & PRESENT != 0 {
                assert_eq!(
                    value & LARGE,
                    0,
                    "{va:#x} is mapped by a large page already"
                );
                value & ADDRESS
            } else {
                let new = self.table();
                // SAFETY: as above.
                unsafe { entry.write(new | PRESENT | WRITABLE) };
                new
            };
        }
        table
    }

    fn map(&mut self, va: u64, pa: u64, level: u32, flags: u64) {
        let table = self.table_for(va, level);
        let large = if level == 1 { LARGE } else { 0 };
        let entry = self.entry(table, va, level);
        // SAFETY: the entry lies in a table of this builder's.
        unsafe { entry.write(pa | flags | large | PRESENT | GLOBAL) };
    }

    fn map_image(&mut self, from: u64, to: u64, flags: u64) {
        for va in (from..to).step_by(PAGE as usize) {
            self.map(va, va - KERNEL_BASE, 0, flags);
        }
    }

    fn direct_map(&mut self, image: &Image) {
        let constants = image.__text_start - KERNEL_BASE..image.__rodata_end - KERNEL_BASE;
        let mut done = 0;
        // The first page's worth always: the BIOS's tables lie below 1 MiB.
        let low = [Range::new(0, LARGE_PAGE)];
        let ram: arrayvec::ArrayVec<Range, { MemoryMap::CAPACITY }> =
            self.memory.ram().iter().copied().collect();
        for range in low.iter().chain(&ram) {
            let mut pa = (range.start() & !(LARGE_PAGE - 1)).max(done);
            while pa < range.end() {
                if pa < constants.end && pa + LARGE_PAGE > constants.start {
                    for page in (pa..pa + LARGE_PAGE).step_by(PAGE as usize) {
                        let writable = if constants.contains(&page) {
                            0
                        } else {
                            WRITABLE
                        };
                        self.map(DIRECT_MAP + page, page, 0, writable | NO_EXECUTE);
                    }
                } else {
                    self.map(DIRECT_MAP + pa, pa, 1, WRITABLE | NO_EXECUTE);
                }
                pa += LARGE_PAGE;
            }
            done = done.max(pa);
        }
    }
}

/// Builds the tables drawn above from `memory`, and loads them. Physical addresses are no longer virtual ones
/// afterwards. Gives the physical address of the top-level table.
///
/// # Safety
/// To be called once, at boot, on the boot tables; nothing may keep an address of the one-to-one mapping.
pub unsafe fn init(memory: &mut MemoryMap) -> u64 {
    let image = Image::get();
    let mut builder = Builder { memory, root: 0 };
    builder.root = builder.table();

    builder.map_image(image.__text_start, image.__text_end, 0);
    builder.map_image(image.__rodata_start, image.__rodata_end, NO_EXECUTE);
    builder.map_image(
        image.__data_start,
        image.__stack_guard,
        WRITABLE | NO_EXECUTE,
    );
    builder.map_image(
        image.__stack_bottom,
        image.__data_end,
        WRITABLE | NO_EXECUTE,
    );
    builder.direct_map(&image);
    builder.table_for(KVA_BASE, 2);
    let directory = builder.table_for(MMIO_BASE, 1);
    let root = builder.root;
    let spare = core::array::from_fn(|_| builder.table());
    *MMIO.lock() = Mmio {
        next: MMIO_BASE,
        directory,
        spare,
        spare_count: MMIO_TABLES,
    };

    // SAFETY: the new tables map the running code, its stack and its data at the same addresses.
    unsafe { load_root(root) };
    // Global entries of the boot tables there are none; everything else went with CR3.
    root
}

/// Switches this CPU to the page tables at `root`, which drops all translations but the kernel's own.
///
/// # Safety
/// `root` must be a top-level table with the kernel's half in it.
#[inline]
pub unsafe fn load_root(root: u64) {
    let frame = PhysFrame::containing_address(PhysAddr::new(root));
    // SAFETY: the caller vouches for the table.
    unsafe { Cr3::write(frame, Cr3Flags::empty()) };
    PerCpu::current().root.set(root);
}

/// The address of physical memory in the direct map.
#[inline]
pub fn phys_to_virt(pa: u64) -> *mut u8 {
    (DIRECT_MAP + pa) as *mut u8
}

/// The physical address behind an address of the direct map or of the kernel's image. Panics for any other:
/// only such memory may be given to a device.
#[inline]
pub fn virt_to_phys(va: *const u8) -> u64 {
    let va = va as u64;
    match va {
        KERNEL_BASE.. => va - KERNEL_BASE,
        DIRECT_MAP..MMIO_BASE => va - DIRECT_MAP,
        _ => panic!("{va:#x} is not in the direct map"),
    }
}

/// Whether the direct map covers physical address `pa`.
fn in_direct_map(pa: u64) -> bool {
    let va = DIRECT_MAP + pa;
    let mut table = PerCpu::current().root.get();
    for level in (0..=3).rev() {
        let entry = phys_to_virt(table + (va >> (12 + 9 * level) & 511) * 8) as *const u64;
        // SAFETY: the kernel's own tables, reached through the direct map.
        let value = unsafe { entry.read() };
        if value & PRESENT == 0 {
            return false;
        }
        if value & LARGE != 0 {
            return true;
        }
        table = value & ADDRESS;
    }
    true
}

/// Where `len` bytes of firmware's tables at `pa` can be read. At boot only.
pub fn map_firmware(pa: u64, len: usize) -> NonNull<u8> {
    let last = pa + (len as u64).max(1) - 1;
    if in_direct_map(pa) && in_direct_map(last) {
        NonNull::new(phys_to_virt(pa)).expect("the direct map is not at address 0")
    } else {
        map_mmio(pa, len)
    }
}

/// Maps `len` bytes of device registers at `pa`, uncached. At boot only: the window is 1 GiB and nothing is ever
/// unmapped. Panics when it is full.
pub fn map_mmio(pa: u64, len: usize) -> NonNull<u8> {
    let first = pa & !(PAGE - 1);
    let end = (pa + len as u64).next_multiple_of(PAGE);
    let flags = PRESENT | WRITABLE | UNCACHED | GLOBAL | NO_EXECUTE;
    let mut mmio = MMIO.lock();
    let large = end - first >= LARGE_PAGE && first.is_multiple_of(LARGE_PAGE);
    let step = if large { LARGE_PAGE } else { PAGE };
    let base = mmio.next.next_multiple_of(step);
    mmio.next = base + (end - first).next_multiple_of(step);
    assert!(
        mmio.next <= MMIO_BASE + MMIO_SIZE,
        "no room to map {len:#x} bytes of device registers"
    );
    for (va, pa) in (base..mmio.next)
        .step_by(step as usize)
        .zip((first..).step_by(step as usize))
    {
        let entry = phys_to_virt(mmio.directory + (va >> 21 & 511) * 8) as *mut u64;
        // SAFETY: the window's own tables, reached through the direct map, under the window's lock.
        unsafe {
            if large {
                entry.write(pa | flags | LARGE);
                continue;
            }
            if entry.read() & PRESENT == 0 {
                assert!(
                    mmio.spare_count > 0,
                    "no page table left for device registers"
                );
                mmio.spare_count -= 1;
                let table = mmio.spare[mmio.spare_count];
                entry.write(table | PRESENT | WRITABLE);
            }
            let leaf = phys_to_virt((entry.read() & ADDRESS) + (va >> 12 & 511) * 8) as *mut u64;
            leaf.write(pa | flags);
        }
        tlb::flush(VirtAddr::new(va));
    }
    NonNull::new((base + (pa - first)) as *mut u8).expect("the window is not at address 0")
}
