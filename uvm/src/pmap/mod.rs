//! x86_64 page tables as data, after pmap(9).
//!
//! # What this owns
//! A [`Pmap`] owns the page tables of one address space's user half, and the reverse mappings
//! ([`pv`]) of what it maps. Its upper half is a copy of the kernel's root table, whose entries
//! never change. Kernel addresses are mapped by [`kernel`]. Whether something *should* be mapped is
//! not known here: the map, amap and object layers can always enter it again, so that translations
//! (except wired ones) are a cache.
//!
//! Page tables are memory in the direct map; the same code runs the machine and the simulation.
//! Only the TLB differs ([`crate::Machine`]).
//!
//! # How it synchronises
//! - Each pmap has a spin lock. Whoever enters or removes holds it. It comes after all locks of
//!   maps, amaps, objects and anons.
//! - Below it comes the identity lock of a page ([`pv`]). The operations that start from a page
//!   ([`page_ops`], and `sweep` for many of them) hold only that, and change table entries under it by atomic operations.
//! - Sizes and the numbers of entries in each table are therefore atomics.
//!
//! # What must be flushed when
//! An absent entry is never cached, so a first [`Pmap::enter`] needs no flush; nor does gaining
//! rights (a CPU that still has the old entry takes a fault, and the hardware drops the entry).
//! Replacing, removing and tightening notes the page, and [`Pmap::update`] flushes. Until then
//! frames that were mapped must not be freed and rights must not be relied on. Operations on a page
//! flush before they return, those on a batch of pages when it has been gone through.

mod away;
pub mod flush;
pub mod kernel;
pub mod page_ops;
pub mod pv;
mod range;
mod space;
pub(crate) mod sweep;
pub(crate) mod walk;

use core::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{AcqRel, Relaxed, Release},
};

use bitflags::bitflags;

use self::away::{free_root, new_root};
use self::flush::Pending;
use self::walk::{Pte, ROOT_LEVEL, Walk, change, index, walk, walk_making};
use crate::Uvm;
use crate::addr::{Frame, PageIndex, USER_END, VirtAddr, Vpn};
use crate::lock::{PMAP, SpinLock, SpinLockGuard};
use crate::meter::{Counter, Gauge};
use crate::page::freelist::{AllocFor, Zero};
use crate::page::{OwnerKind, Page, PageOwner};
use crate::phys::Table;
use crate::pool::{Counted, OutOfMemory, Ref, RefCount};
use crate::prot::Prot;

pub use self::away::TablesStay;
pub(crate) use self::space::CpuSpace;

/// No root table.
const AWAY: u32 = u32::MAX;

bitflags! {
    /// How to enter a translation.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct EnterFlags: u8 {
        /// The page is wired here: nothing but `remove` takes the translation away.
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

/// Sizes of a pmap, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PmapStats {
    /// Pages mapped.
    pub resident: usize,
    /// Of those, wired.
    pub wired: usize,
    /// Frames in page tables, the root included. None if they are put away.
    pub tables: usize,
}

/// An address space's page tables, or none while they are put away (`away`). Freed, with all that is left in it, with its last [`Ref`].
pub struct Pmap {
    count: RefCount,
    /// Number of the root's frame, or [`AWAY`]. Changed under the lock.
    root: AtomicU32,
    /// CPUs that have it loaded, bit by bit.
    active: AtomicU64,
    /// CPUs that have put something in `inner.pending` since it was last flushed, bit by bit.
    deferred: AtomicU64,
    /// A table may map nothing any more: worth a [`Pmap::collect`].
    has_empty: AtomicBool,
    /// How many tables were ever taken out.
    tables_gone: AtomicU32,
    resident: AtomicU32,
    wired: AtomicU32,
    tables: AtomicU32,
    inner: SpinLock<Inner, PMAP>,
}

struct Inner {
    hint: Leaf,
    pending: Pending,
}

/// A leaf table, remembered: faults come in clusters.
#[derive(Clone, Copy)]
struct Leaf {
    /// Number of the first page that it maps, shifted.
    tag: u64,
    table: *const Table,
    /// Its frame's page, which counts the entries in use.
    page: *const Page,
}

impl Leaf {
    /// No table: no page has this tag.
    const NONE: Self = Self {
        tag: u64::MAX,
        table: core::ptr::null(),
        page: core::ptr::null(),
    };
}

// SAFETY: the pointers are only followed under the pmap's lock, while the table is linked in.
unsafe impl Send for Leaf {}

// SAFETY: `count` is a field that only `Ref` changes.
unsafe impl Counted for Pmap {
    fn count(&self) -> &RefCount {
        &self.count
    }

    fn finalize(&mut self, uvm: &Uvm) {
        debug_assert!(self.cpus().is_empty(), "pmap freed while loaded");
        self.remove_all(uvm);
        self.update(uvm);
        debug_assert_eq!(
            self.stats(),
            PmapStats {
                resident: 0,
                wired: 0,
                tables: usize::from(self.has_tables())
            }
        );
        if let Some(root) = self.root() {
            free_root(uvm, root);
        }
    }
}

// SAFETY: no other type has this kind; `finalize` clears itself from the root's page; pools align.
unsafe impl PageOwner for Pmap {
    const KIND: OwnerKind = OwnerKind::Pmap;
    type Handle = Ref<Pmap>;
    unsafe fn try_handle(owner: core::ptr::NonNull<Self>) -> Option<Self::Handle> {
        // SAFETY: the caller's promise.
        unsafe { Ref::try_from_ptr(owner) }
    }
}

impl Pmap {
    /// An empty address space with the kernel's half in it.
    pub fn new(uvm: &Uvm) -> Result<Ref<Self>, OutOfMemory> {
        let root = new_root(uvm, AllocFor::User)?;
        let pmap = Self {
            count: RefCount::new(),
            root: AtomicU32::new(root.number()),
            active: AtomicU64::new(0),
            deferred: AtomicU64::new(0),
            has_empty: AtomicBool::new(false),
            tables_gone: AtomicU32::new(0),
            resident: AtomicU32::new(0),
            wired: AtomicU32::new(0),
            tables: AtomicU32::new(1),
            inner: SpinLock::new(Inner {
                hint: Leaf::NONE,
                pending: Pending::default(),
            }),
        };
        match Ref::new(&uvm.pmap_pool, uvm, pmap) {
            Ok(pmap) => {
                // SAFETY: `finalize` clears the owner again.
                unsafe { uvm.page(root).set_owner(Ref::as_ptr(&pmap), PageIndex(0)) };
                Ok(pmap)
            }
            Err(e) => {
                free_root(uvm, root);
                Err(e)
            }
        }
    }

    /// The frame of the root table, unless that is put away.
    #[inline]
    #[must_use]
    pub fn root(&self) -> Option<Frame> {
        let root = self.root.load(Relaxed);
        (root != AWAY).then(|| Frame::new(root))
    }

    /// The same where something is mapped, so that there is one.
    #[inline]
    fn listed_root(&self) -> Frame {
        Frame::new(self.root.load(Relaxed))
    }

    /// Walks to the leaf table for a page; the lock is held.
    fn walk<'a>(&self, uvm: &'a Uvm, vpn: Vpn) -> Walk<'a> {
        match self.root() {
            // SAFETY: our root, whose tables are freed only under the lock.
            Some(root) => unsafe { walk(uvm.phys(), root, vpn) },
            None => Walk::Hole(Vpn::containing(VirtAddr::new_truncate(USER_END))),
        }
    }

    /// Sizes as of now.
    #[must_use]
    pub fn stats(&self) -> PmapStats {
        PmapStats {
            resident: self.resident.load(Relaxed) as usize,
            wired: self.wired.load(Relaxed) as usize,
            tables: self.tables.load(Relaxed) as usize,
        }
    }

    /// Maps `frame` at `va`, in place of whatever is there. A managed frame is entered in its
    /// reverse map; the caller holds its owner's lock. Entering the frame that is there already
    /// changes its rights; gaining some needs no flush. Replacing and tightening need
    /// [`Self::update`]. Never waits; on failure nothing has changed.
    #[inline]
    pub fn enter(
        &self,
        uvm: &Uvm,
        va: VirtAddr,
        frame: Frame,
        prot: Prot,
        flags: EnterFlags,
    ) -> Result<(), OutOfMemory> {
        debug_assert!(va.as_u64() < USER_END && !prot.is_empty());
        let vpn = Vpn::containing(va);
        let new = Pte::user(frame, prot, flags);
        let inner = self.inner.lock();
        if inner.hint.tag == vpn.number() >> 9
            && !flags.contains(EnterFlags::WIRED)
            && let Some(page) = uvm.pages().get(frame)
        {
            // SAFETY: the table is linked in while the hint names it, and pages live for ever; the
            // lock is held.
            let (table, used) = unsafe { (&*inner.hint.table, &*inner.hint.page) };
            let slot = &table.0[index(vpn, 0)];
            if slot.load(Relaxed) == 0 && page.pv_insert_first(self.listed_root(), vpn) {
                self.add(slot, used, new);
                return Ok(());
            }
        }
        self.enter_slowly(uvm, inner, vpn, new)
    }

    /// Gives the translation of `va` the rights that it lacks, if there is one, it shows `frame`, is not wired, and none would be taken
    /// from it; whether that was so. Needs no flush, as gaining rights never does. The caller holds the lock of the frame's owner. For
    /// faults on what is mapped already: [`Self::enter`] would do the same, and more.
    #[inline]
    pub(crate) fn widen(&self, vpn: Vpn, frame: Frame, prot: Prot, flags: EnterFlags) -> bool {
        let inner = self.inner.lock();
        if inner.hint.tag != vpn.number() >> 9 {
            return false;
        }
        // SAFETY: the table is linked in while the hint names it; the lock is held.
        let table = unsafe { &*inner.hint.table };
        Pte::user(frame, prot, flags).widens(&table.0[index(vpn, 0)])
    }

    /// `enter` where the table must be found, the page is mapped elsewhere, or something is mapped
    /// here.
    #[inline(never)]
    fn enter_slowly(
        &self,
        uvm: &Uvm,
        mut inner: SpinLockGuard<'_, Inner, PMAP>,
        vpn: Vpn,
        new: Pte,
    ) -> Result<(), OutOfMemory> {
        let leaf = self.find_leaf(uvm, &mut inner, vpn)?;
        // SAFETY: as in `enter`.
        let (table, used) = unsafe { (&*leaf.table, &*leaf.page) };
        let slot = &table.0[index(vpn, 0)];
        if slot.load(Relaxed) != 0 {
            return self.enter_again(uvm, &mut inner, slot, vpn, new);
        }
        if let Some(page) = uvm.pages().get(new.frame()) {
            page.pv_insert(uvm, self.listed_root(), vpn)?;
        }
        self.add(slot, used, new);
        if new.is_wired() {
            self.wired.fetch_add(1, Relaxed);
        }
        Ok(())
    }

    /// Writes an entry that was absent, after it has been listed.
    #[inline]
    fn add(&self, slot: &AtomicU64, used: &Page, new: Pte) {
        slot.store(new.0, Release);
        used.prev.fetch_add(1, Relaxed);
        self.resident.fetch_add(1, Relaxed);
    }

    /// Finds or makes the leaf table for `vpn` and remembers it.
    fn find_leaf(&self, uvm: &Uvm, inner: &mut Inner, vpn: Vpn) -> Result<Leaf, OutOfMemory> {
        if inner.hint.tag == vpn.number() >> 9 {
            return Ok(inner.hint);
        }
        let root = self.root_or_make(uvm, AllocFor::User)?;
        let make = || {
            let frame = uvm.alloc_frame(AllocFor::User, Zero::Yes)?;
            uvm.count(Counter::PmapTableAllocs);
            uvm.meter().raise(Gauge::PmapTables, 1);
            uvm.claim_table(frame);
            self.tables.fetch_add(1, Relaxed);
            Some(frame)
        };
        // SAFETY: our root, and the lock is held. Upper tables made before a failure stay, empty,
        // until `collect` or the end.
        let made = unsafe { walk_making(uvm, root, vpn, true, make) };
        let Some((table, frame)) = made else {
            self.note_empty();
            return Err(OutOfMemory);
        };
        let leaf = Leaf {
            tag: vpn.number() >> 9,
            table,
            page: uvm.page(frame),
        };
        inner.hint = leaf;
        Ok(leaf)
    }

    /// `enter` where something is mapped already.
    #[inline(never)]
    fn enter_again(
        &self,
        uvm: &Uvm,
        inner: &mut Inner,
        slot: &AtomicU64,
        vpn: Vpn,
        new: Pte,
    ) -> Result<(), OutOfMemory> {
        let frame = new.frame();
        let same = |old: Pte| (old.0 != 0 && old.frame() == frame).then(|| new.with_attrs_of(old));
        let old = match change(slot, same) {
            Some(old) => {
                if old.is_tightened_by(new) {
                    self.note(uvm, inner, vpn);
                }
                old
            }
            None => {
                if let Some(page) = uvm.pages().get(frame) {
                    page.pv_insert(uvm, self.listed_root(), vpn)?;
                }
                let old = Pte(slot.swap(new.0, AcqRel));
                if old.0 == 0 {
                    // `page_protect` was faster in removing the old one; it counted down for it.
                    self.count_up(uvm, vpn);
                } else {
                    self.unlist(uvm, vpn, old);
                    self.note(uvm, inner, vpn);
                }
                old
            }
        };
        match (old.0 != 0 && old.is_wired(), new.is_wired()) {
            (false, true) => drop(self.wired.fetch_add(1, Relaxed)),
            (true, false) => drop(self.wired.fetch_sub(1, Relaxed)),
            _ => {}
        }
        Ok(())
    }

    fn count_up(&self, uvm: &Uvm, vpn: Vpn) {
        if let Walk::Leaf(_, table) = self.walk(uvm, vpn) {
            uvm.page(table).prev.fetch_add(1, Relaxed);
        }
        self.resident.fetch_add(1, Relaxed);
    }

    /// Notes that translations of a page must be flushed, unless no CPU can have any.
    fn note(&self, uvm: &Uvm, inner: &mut Inner, vpn: Vpn) {
        if !self.cpus().is_empty() {
            inner.pending.note(vpn.addr());
            self.mark_pending(uvm);
        }
    }

    /// Hands what a removed entry knew to its page and takes it off the reverse map.
    #[inline]
    fn unlist(&self, uvm: &Uvm, vpn: Vpn, old: Pte) {
        if let Some(page) = uvm.pages().get(old.frame()) {
            // In this order: who finds the page unmapped must find it modified, too.
            page.note_attrs(old.attrs());
            page.pv_remove(self.listed_root(), vpn);
        }
    }

    /// Notes that a table may have become empty.
    fn note_empty(&self) {
        self.has_empty.store(true, Relaxed);
    }

    /// What is mapped at `va`.
    #[must_use]
    pub fn extract(&self, uvm: &Uvm, va: VirtAddr) -> Option<Mapping> {
        let _inner = self.inner.lock();
        let vpn = Vpn::containing(va);
        let Walk::Leaf(table, _) = self.walk(uvm, vpn) else {
            return None;
        };
        let entry = Pte(table.0[index(vpn, 0)].load(Relaxed));
        entry.is_present().then(|| entry.mapping())
    }

    /// Marks the translation of `va` as not wired, if there is one.
    pub fn unwire(&self, uvm: &Uvm, va: VirtAddr) {
        let _inner = self.inner.lock();
        let vpn = Vpn::containing(va);
        let Walk::Leaf(table, _) = self.walk(uvm, vpn) else {
            return;
        };
        let unwired = |old: Pte| (old.0 != 0 && old.is_wired()).then(|| old.unwired());
        if change(&table.0[index(vpn, 0)], unwired).is_some() {
            self.wired.fetch_sub(1, Relaxed);
        }
    }
}

impl Uvm {
    /// Makes a fresh frame a page table without entries.
    fn claim_table(&self, frame: Frame) {
        self.claim_for_kernel(frame);
        self.page(frame).prev.store(0, Relaxed);
    }
}

#[cfg(test)]
mod rows;
#[cfg(test)]
mod tests;
