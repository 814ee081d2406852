//! Kernel addresses: `kenter`, `kremove`.
//!
//! The kernel's root table came from boot. These mappings are wired, belong to nobody's reverse
//! map, and are seen by every address space at once, because all roots share the tables below their
//! upper halves. Tables are never freed. One spin lock guards them; it comes last but for the free
//! list's.

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::flush::Pending;
use super::walk::{Pte, Walk, index, span, walk, walk_making};
use super::{Mapping, ROOT_LEVEL};
use crate::Uvm;
use crate::addr::{Frame, PAGE_SIZE, VaRange, VirtAddr, Vpn};
use crate::lock::{KERNEL_PMAP, SpinLock};
use crate::machine::CpuSet;
use crate::meter::Counter;
use crate::page::freelist::{AllocFor, Zero};
use crate::pool::OutOfMemory;
use crate::prot::Prot;

/// The kernel half's state.
#[derive(Default)]
pub(crate) struct KernelPmap {
    pending: SpinLock<Pending, KERNEL_PMAP>,
    any: AtomicBool,
}

impl KernelPmap {
    /// Whether flushes are outstanding.
    pub(super) fn has_deferred(&self) -> bool {
        self.any.load(Relaxed)
    }
}

impl Uvm {
    /// Maps kernel address `va`. Nothing is mapped there yet. Table pages come from the kernel's
    /// reserve.
    pub fn kenter(&self, va: VirtAddr, frame: Frame, prot: Prot) -> Result<(), OutOfMemory> {
        let _guard = self.kernel.pending.lock();
        let vpn = kernel_vpn(va);
        // SAFETY: the kernel's root; its tables are never freed, and the lock is held.
        let made =
            unsafe { walk_making(self, self.kernel_root, vpn, false, || self.kernel_table()) };
        let (table, _) = made.ok_or(OutOfMemory)?;
        let old = table.0[index(vpn, 0)].swap(Pte::kernel(frame, prot).0, Relaxed);
        assert!(old == 0, "{va:?} is mapped already");
        Ok(())
    }

    /// Removes kernel translations. Call [`Self::kernel_update`] before the frames are freed or the
    /// addresses used again.
    pub fn kremove(&self, range: VaRange) {
        let mut pending = self.kernel.pending.lock();
        for i in 0..range.pages() {
            let va = range.start() + (i * PAGE_SIZE) as u64;
            let vpn = kernel_vpn(va);
            // SAFETY: as in `kenter`.
            let Walk::Leaf(table, _) = (unsafe { walk(self.phys(), self.kernel_root, vpn) }) else {
                continue;
            };
            if table.0[index(vpn, 0)].swap(0, Relaxed) != 0 {
                pending.note(va);
                self.kernel.any.store(true, Relaxed);
            }
        }
    }

    /// What is mapped at a kernel address by 4 KiB pages.
    #[must_use]
    pub fn kextract(&self, va: VirtAddr) -> Option<Mapping> {
        let _guard = self.kernel.pending.lock();
        let vpn = kernel_vpn(va);
        // SAFETY: as in `kenter`.
        let Walk::Leaf(table, _) = (unsafe { walk(self.phys(), self.kernel_root, vpn) }) else {
            return None;
        };
        let entry = Pte(table.0[index(vpn, 0)].load(Relaxed));
        entry.is_present().then(|| entry.mapping())
    }

    /// Does the deferred flushes of kernel addresses, on all CPUs.
    pub fn kernel_update(&self) {
        if self.kernel.any.load(Relaxed) {
            let mut pending = self.kernel.pending.lock();
            pending.flush(self, CpuSet::first(self.cpus()), None);
            self.kernel.any.store(false, Relaxed);
        }
    }

    fn kernel_table(&self) -> Option<Frame> {
        let frame = self.alloc_frame(AllocFor::Kernel, Zero::Yes)?;
        self.count(Counter::PmapTableAllocs);
        self.claim_table(frame);
        Some(frame)
    }

    /// At boot: makes the root entries that `range` needs, because roots copied later must have
    /// them.
    pub(crate) fn prepare_kernel_range(&self, range: VaRange) -> Result<(), OutOfMemory> {
        let slots = span(ROOT_LEVEL);
        let (first, pages) = (kernel_vpn(range.start()).number(), range.pages() as u64);
        let mut vpn = first / slots * slots;
        while vpn < first + pages {
            // SAFETY: as in `kenter`; nobody else runs yet.
            let made = unsafe {
                walk_making(self, self.kernel_root, Vpn::new(vpn), false, || {
                    self.kernel_table()
                })
            };
            made.ok_or(OutOfMemory)?;
            vpn += slots;
        }
        Ok(())
    }

    /// Copies the kernel's half into a new root table.
    pub(super) fn copy_kernel_half(&self, root: Frame) {
        // SAFETY: two different root tables; the kernel half of the kernel's does not change after
        // boot.
        unsafe {
            let (from, to) = (self.phys().ptr(self.kernel_root), self.phys().ptr(root));
            core::ptr::copy_nonoverlapping(
                from.add(PAGE_SIZE / 2),
                to.add(PAGE_SIZE / 2),
                PAGE_SIZE / 2,
            );
        }
    }

    /// Undoes [`Self::copy_kernel_half`], in a root table that no CPU has loaded.
    pub(super) fn clear_kernel_half(&self, root: Frame) {
        // SAFETY: a root table that nobody uses any more.
        unsafe {
            let half = self.phys().ptr(root).add(PAGE_SIZE / 2);
            core::ptr::write_bytes(half, 0, PAGE_SIZE / 2);
        }
    }
}

/// The page number of a kernel address without its sign extension.
fn kernel_vpn(va: VirtAddr) -> Vpn {
    debug_assert!(va.as_u64() >> 63 == 1, "{va:?} is not a kernel address");
    Vpn::new(va.as_u64() << 16 >> 28)
}
