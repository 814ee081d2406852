//! skeleton
pub mod pv;
use crate::Uvm;
use crate::addr::*;
use crate::pool::*;
use crate::prot::*;
use bitflags::bitflags;

bitflags! {
    /// How to enter a translation.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct EnterFlags: u8 {
        /// The page is wired here.
        const WIRED = 1;
        /// The access that is about to happen reads: presets "referenced".
        const READ = 2;
        /// It writes: presets "referenced" and "modified".
        const WRITE = 4;
    }
}
/// What a page table says of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The frame.
    pub frame: Frame,
    /// What is allowed.
    pub prot: Prot,
    /// Whether it is wired.
    pub wired: bool,
    /// Referenced bit of this entry.
    pub referenced: bool,
    /// Modified bit of this entry.
    pub modified: bool,
}
/// Sizes of a pmap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PmapStats {
    /// Pages mapped.
    pub resident: usize,
    /// Of those, wired.
    pub wired: usize,
    /// Frames in page tables, the root included.
    pub tables: usize,
}
/// An address space's page tables. Made by [`Pmap::new`]; freed, with all that is left in it, with its last [`Ref`].
pub struct Pmap(RefCount);
// SAFETY: skeleton
unsafe impl Counted for Pmap { fn count(&self) -> &RefCount { &self.0 } }

impl Pmap {
    /// An empty address space with the kernel's half in it.
    pub fn new(uvm: &Uvm) -> Result<Ref<Pmap>, OutOfMemory> { todo!() }
    /// The frame of the root table.
    #[must_use]
    pub fn root(&self) -> Frame { todo!() }
    /// Maps `frame` at `va`, in place of whatever is there. Managed frames are entered in their reverse map. A write to a page that was mapped
    /// read-only (same frame) just gains the right. Replacing or tightening needs [`Self::update`]; a first entry does not.
    #[inline]
    pub fn enter(&self, uvm: &Uvm, va: VirtAddr, frame: Frame, prot: Prot, flags: EnterFlags) -> Result<(), OutOfMemory> { todo!() }
    /// Removes all translations in the range; modified and referenced go to the pages. Call [`Self::update`] before any of the frames is freed.
    pub fn remove(&self, uvm: &Uvm, range: VaRange) { todo!() }
    /// Removes all translations of the user half (exit).
    pub fn remove_all(&self, uvm: &Uvm) { todo!() }
    /// Takes rights away (never adds any): those not in `prot`. Without READ: removes. Call [`Self::update`].
    pub fn protect(&self, uvm: &Uvm, range: VaRange, prot: Prot) { todo!() }
    /// What is mapped at `va`.
    #[must_use]
    pub fn extract(&self, uvm: &Uvm, va: VirtAddr) -> Option<Mapping> { todo!() }
    /// Marks the translation as not wired.
    pub fn unwire(&self, uvm: &Uvm, va: VirtAddr) { todo!() }
    /// Does all deferred TLB flushes and then frees the page tables held back for them. Returns at once when nothing is pending.
    #[inline]
    pub fn update(&self, uvm: &Uvm) { todo!() }
    /// Frees page tables that map nothing any more.
    pub fn collect(&self, uvm: &Uvm) { todo!() }
    /// Sizes.
    #[must_use]
    pub fn stats(&self) -> PmapStats { todo!() }
    /// Calls `f` for each translation, in order of addresses, under the lock. For `check` and `pmap PID`.
    pub fn for_each(&self, uvm: &Uvm, f: impl FnMut(VirtAddr, Mapping)) { todo!() }
}

impl Uvm {
    /// Makes `pmap` the address space of this CPU, unless it is. Keeps a reference until the next switch. For the start of each poll.
    #[inline]
    pub fn pmap_activate(&self, pmap: &Ref<Pmap>) { todo!() }
    /// Leaves `pmap` if this CPU is in it: back to the kernel's own root table. Exit calls it before the address space goes.
    pub fn pmap_deactivate(&self, pmap: &Pmap) { todo!() }
    /// Whether a page was written to since [`Self::clear_modified`]: collected bit or any table entry's.
    #[must_use]
    pub fn is_modified(&self, frame: Frame) -> bool { todo!() }
    /// Clears the modified bit everywhere; returns whether it was set. Flushes: later writes are noticed.
    pub fn clear_modified(&self, frame: Frame) -> bool { todo!() }
    /// Whether a page was used since [`Self::clear_reference`].
    #[must_use]
    pub fn is_referenced(&self, frame: Frame) -> bool { todo!() }
    /// Clears the referenced bit everywhere; returns whether it was set. Does not flush: uses through cached translations may stay unnoticed for a while.
    pub fn clear_reference(&self, frame: Frame) -> bool { todo!() }
    /// Takes rights away from a page in every address space; empty `prot` removes all its translations. Flushed on return.
    pub fn page_protect(&self, frame: Frame, prot: Prot) { todo!() }
    /// Whether any address space maps the page.
    #[must_use]
    pub fn is_mapped(&self, frame: Frame) -> bool { todo!() }
    /// Calls `f` with root table and address of each mapping of a page. For `check`.
    pub fn for_each_mapping(&self, frame: Frame, f: impl FnMut(Frame, VirtAddr)) { todo!() }
    /// Maps kernel address `va` (wired, not in reverse maps). Table pages come from the kernel's reserve.
    pub fn kenter(&self, va: VirtAddr, frame: Frame, prot: Prot) -> Result<(), OutOfMemory> { todo!() }
    /// Removes kernel translations. Call [`Self::kernel_update`] before the frames are freed.
    pub fn kremove(&self, range: VaRange) { todo!() }
    /// What is mapped at a kernel address by 4 KiB pages.
    #[must_use]
    pub fn kextract(&self, va: VirtAddr) -> Option<Mapping> { todo!() }
    /// Does the deferred flushes of kernel addresses.
    pub fn kernel_update(&self) { todo!() }
}
