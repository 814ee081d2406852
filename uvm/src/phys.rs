//! Physical memory through the direct map.
//!
//! The kernel has all RAM mapped at [`crate::Config::direct_map_base`]; on the host the "RAM" is an
//! allocation and its start is that base. Either way a frame's bytes are at `base + address`, which
//! is how one pmap serves machine and simulation.
//!
//! This module owns no memory and takes no lock. Who may touch a frame's bytes is decided
//! elsewhere: page tables by their pmap's lock, slabs by their pool, data pages by whoever has the
//! page busy or is its sole owner. The bytes of a data page may also change under the kernel's
//! hands, because a program in ring 3 writes to them; therefore they are reached as raw bytes
//! ([`PageBytes`]), never by reference.

use core::ptr::NonNull;
use core::sync::atomic::AtomicU64;

use crate::addr::{Frame, PAGE_SIZE, PhysAddr, VirtAddr};

/// 512 entries of a page table, at any level.
#[repr(C, align(4096))]
pub struct Table(pub [AtomicU64; 512]);

/// The direct map.
#[derive(Clone, Copy, Debug)]
pub struct PhysMem {
    base: u64,
}

impl PhysMem {
    /// The direct map that has physical address 0 at `base`.
    #[must_use]
    pub const fn new(base: VirtAddr) -> Self {
        Self {
            base: base.as_u64(),
        }
    }

    /// Where the bytes of `frame` are. Only the address: using it is up to the caller.
    #[must_use]
    pub fn ptr(&self, frame: Frame) -> *mut u8 {
        // Not `frame.addr()`: its masking costs an instruction on the fault path.
        (self.base + (u64::from(frame.number()) << crate::addr::PAGE_SHIFT)) as *mut u8
    }

    /// Where physical address `addr` is.
    #[must_use]
    pub fn ptr_at(&self, addr: PhysAddr) -> *mut u8 {
        (self.base + addr.as_u64()) as *mut u8
    }

    /// The physical address of a pointer into the direct map.
    #[must_use]
    pub fn addr_of(&self, ptr: *const u8) -> PhysAddr {
        PhysAddr::new(ptr as u64 - self.base)
    }

    /// The frame that a pointer into the direct map lies in.
    #[must_use]
    pub fn frame_of(&self, ptr: *const u8) -> Frame {
        Frame::containing(self.addr_of(ptr))
    }

    /// The page table in `frame`.
    ///
    /// # Safety
    /// `frame` is RAM in the direct map, holds a page table (or zeroes), and stays one for `'a`.
    pub(crate) unsafe fn table<'a>(&self, frame: Frame) -> &'a Table {
        // SAFETY: aligned, mapped RAM by the caller's promise; entries are atomics, so sharing
        // them with hardware walkers and other CPUs is fine.
        unsafe { &*self.ptr(frame).cast::<Table>() }
    }

    /// The bytes of `frame` for whole-page work.
    ///
    /// # Safety
    /// `frame` is RAM in the direct map and holds plain bytes, no object of the kernel's.
    pub(crate) unsafe fn bytes(&self, frame: Frame) -> PageBytes {
        // SAFETY: the direct map is in the kernel's half (on the host: an allocation), never at 0.
        let ptr = unsafe { NonNull::new_unchecked(self.ptr(frame)) };
        PageBytes { ptr }
    }
}

/// The bytes of one data page (see the module's docs for why no reference is ever made to them).
///
/// Got from [`crate::Uvm::bytes`], which checks that the frame holds data and no kernel object:
/// the methods are safe because the worst that a wrong caller can do is to spoil data.
/// Holding one does not keep the page from being freed or reused.
#[derive(Clone, Copy, Debug)]
pub struct PageBytes {
    ptr: NonNull<u8>,
}

impl PageBytes {
    /// Address of the first byte, for devices and for copies to and from ring 3.
    #[must_use]
    pub const fn as_ptr(&self) -> *mut u8 {
        self.ptr.as_ptr()
    }

    /// Fills the page with zeroes.
    pub fn zero(&self) {
        // SAFETY: mapped RAM that holds plain bytes. The size is a constant multiple of 8, for
        // which the kernel's `memset` is `rep stosq`.
        unsafe { core::ptr::write_bytes(self.ptr.as_ptr(), 0, PAGE_SIZE) };
    }

    /// Copies the whole page `from`, which is another one.
    pub fn copy_from(&self, from: PageBytes) {
        debug_assert!(self.ptr != from.ptr, "a page copied onto itself");
        // SAFETY: two different pages of plain bytes.
        unsafe {
            core::ptr::copy_nonoverlapping(from.ptr.as_ptr(), self.ptr.as_ptr(), PAGE_SIZE);
        }
    }

    /// Copies bytes from `offset` in the page on to `out`.
    ///
    /// # Panics
    /// If that runs past the page's end.
    pub fn read(&self, offset: usize, out: &mut [u8]) {
        assert!(
            offset <= PAGE_SIZE && out.len() <= PAGE_SIZE - offset,
            "past the end of a page"
        );
        // SAFETY: in bounds by the check; `out` is a Rust slice and so lies in no data page.
        unsafe {
            core::ptr::copy_nonoverlapping(
                self.ptr.as_ptr().add(offset),
                out.as_mut_ptr(),
                out.len(),
            );
        }
    }

    /// Copies `data` to `offset` in the page.
    ///
    /// # Panics
    /// If that runs past the page's end.
    pub fn write(&self, offset: usize, data: &[u8]) {
        assert!(
            offset <= PAGE_SIZE && data.len() <= PAGE_SIZE - offset,
            "past the end of a page"
        );
        // SAFETY: as in `read`.
        unsafe {
            core::ptr::copy_nonoverlapping(
                data.as_ptr(),
                self.ptr.as_ptr().add(offset),
                data.len(),
            );
        }
    }

    /// Fills `len` bytes at `offset` with zeroes.
    ///
    /// # Panics
    /// If that runs past the page's end.
    pub fn clear(&self, offset: usize, len: usize) {
        assert!(
            offset <= PAGE_SIZE && len <= PAGE_SIZE - offset,
            "past the end of a page"
        );
        // SAFETY: in bounds by the check.
        unsafe { core::ptr::write_bytes(self.ptr.as_ptr().add(offset), 0, len) };
    }
}

// SAFETY: only an address; the methods say what may race.
unsafe impl Send for PageBytes {}
// SAFETY: as above.
unsafe impl Sync for PageBytes {}
