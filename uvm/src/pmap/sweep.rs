//! Translations of many pages taken away, one page after the other: what the pagedaemon does with a batch of old pages.
//!
//! Owns references to the address spaces that it has met, the page table that it was at last, and what is still to be flushed. Most pages of
//! a batch were touched one after the other and lie in one page table: then it is looked up once. A page is dealt with under its identity
//! lock, as in [`super::page_ops`]; TLBs are flushed for all of them in the end, or before something is done with a page that must not be
//! seen any more ([`Sweep::flush`]). Until then the caller keeps the pages from everybody: locked, or BUSY.
//!
//! # The table that it was at last
//! It may have been freed since. A pmap counts the tables that are taken out of it: as long as a page is listed as mapped there, the
//! identity lock is held, and the count is that of when the table was looked up, it is the page's table.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};

use arrayvec::ArrayVec;

use super::pv::Identity;
use super::walk::{Pte, Walk, change, index, walk};
use super::{Leaf, Pmap};
use crate::Uvm;
use crate::addr::{Frame, VirtAddr, Vpn};
use crate::lock::{self, PMAP};
use crate::meter::Counter;
use crate::page::{Page, PageAttrs};
use crate::phys::Table;
use crate::pool::Ref;

/// Pages between two flushes, and address spaces that they are of, at most.
pub(crate) const PAGES: usize = 32;
const SPACES: usize = 8;

/// What came of the attempt to take a page's translation away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removed {
    /// Nothing maps the page any more, and it knows what its translation has noticed.
    Gone,
    /// It has been used, and is still mapped; its referenced bit is clear.
    Used,
    /// It is not that simple: it has no translation, or several, or one that is wired or changes this moment. See [`Uvm::remove_if_idle`].
    Other,
}

/// See the module.
pub(crate) struct Sweep<'a> {
    uvm: &'a Uvm,
    spaces: ArrayVec<Ref<Pmap>, SPACES>,
    /// Which of them it is at, and how many tables had been taken out of that when `leaf` was looked up.
    space: usize,
    tables_gone: u32,
    leaf: Leaf,
    pending: ArrayVec<(u8, VirtAddr), PAGES>,
}

impl<'a> Sweep<'a> {
    pub(crate) fn new(uvm: &'a Uvm) -> Self {
        Self {
            uvm,
            spaces: ArrayVec::new(),
            space: 0,
            tables_gone: 0,
            leaf: Leaf::NONE,
            pending: ArrayVec::new(),
        }
    }

    /// Before the next page, with nothing locked: makes room for another address space.
    #[inline]
    pub(crate) fn make_room(&mut self) {
        if self.spaces.is_full() || self.pending.is_full() {
            self.start_over();
        }
    }

    #[cold]
    fn start_over(&mut self) {
        self.flush();
        self.leaf = Leaf::NONE;
        // Here, where nothing is locked: these may be the last references.
        self.spaces.clear();
    }

    /// Clears the referenced bit of a page that has one translation, in the page and there; `false`: it has not, or it is changing. Nothing is to
    /// be flushed ([`Uvm::clear_reference`]). The caller holds its identity lock.
    #[inline]
    pub(crate) fn clear_reference(
        &mut self,
        identity: &Identity<'_>,
        frame: Frame,
        page: &Page,
    ) -> bool {
        let Some(slot) = self.slot(identity) else {
            return false;
        };
        let old = Pte(slot.load(Relaxed));
        if old.0 == 0 || old.frame() != frame {
            return false;
        }
        page.clear_attrs(PageAttrs::REFERENCED);
        if old.attrs().contains(PageAttrs::REFERENCED) {
            change(slot, super::page_ops::without_reference);
        }
        true
    }

    /// The entry of a page's only translation.
    #[inline]
    fn slot<'i>(&mut self, identity: &'i Identity<'_>) -> Option<&'i AtomicU64> {
        let (root, vpn) = identity.only()?;
        if !self.is_at(root, vpn) && !self.look_up(identity, root, vpn) {
            return None;
        }
        // SAFETY: the page's table, which stays while its identity lock is held.
        let table: &Table = unsafe { &*self.leaf.table };
        Some(&table.0[index(vpn, 0)])
    }

    /// Takes the only translation of a page away, if the page has not been used since its referenced bit was cleared, or `anyway`.
    /// The caller holds its identity lock, keeps everybody from the page, and flushes.
    #[inline(always)]
    pub(crate) fn remove(
        &mut self,
        identity: &mut Identity<'_>,
        frame: Frame,
        page: &Page,
        anyway: bool,
    ) -> Removed {
        let Some((_, vpn)) = identity.only() else {
            return Removed::Other;
        };
        let Some(slot) = self.slot(identity) else {
            return Removed::Other;
        };
        // SAFETY: pages live for ever.
        let table_page: &Page = unsafe { &*self.leaf.page };
        let old = Pte(slot.load(Relaxed));
        if old.0 == 0 || old.frame() != frame || old.is_wired() {
            return Removed::Other;
        }
        let entry_used = old.attrs().contains(PageAttrs::REFERENCED);
        if page.clear_attrs(PageAttrs::REFERENCED) | entry_used && !anyway {
            if entry_used {
                change(slot, super::page_ops::without_reference);
            }
            return Removed::Used;
        }
        // Used this very moment? Then once more, the long way.
        if slot.compare_exchange(old.0, 0, Relaxed, Relaxed).is_err() {
            return Removed::Other;
        }
        page.note_attrs(old.attrs() - PageAttrs::REFERENCED);
        identity.clear_only();
        let pmap = &self.spaces[self.space];
        pmap.resident.fetch_sub(1, Relaxed);
        // Last: from here on the table may go.
        if table_page.prev.fetch_sub(1, Relaxed) == 1 {
            pmap.note_empty();
        }
        if !pmap.cpus().is_empty() {
            self.pending.push((self.space as u8, vpn.addr()));
        }
        Removed::Gone
    }

    /// Whether the table that it was at last is that of a page which is listed as mapped there, and whose identity lock is held.
    #[inline]
    fn is_at(&self, root: Frame, vpn: Vpn) -> bool {
        self.leaf.tag == vpn.number() >> 9
            && self.spaces.get(self.space).is_some_and(|pmap| {
                pmap.root() == Some(root) && pmap.tables_gone.load(Acquire) == self.tables_gone
            })
    }

    /// Goes to another table. `false`: its address space is going away, or there are too many.
    #[inline(never)]
    fn look_up(&mut self, identity: &Identity<'_>, root: Frame, vpn: Vpn) -> bool {
        self.leaf = Leaf::NONE;
        let known = self
            .spaces
            .iter()
            .position(|pmap| pmap.root() == Some(root));
        let Some(space) = known.or_else(|| {
            // Room was made before the page was locked, but a page may be looked at twice, and another CPU have mapped it elsewhere meanwhile. A
            // reference that finds no place could not be dropped here.
            if self.spaces.is_full() {
                return None;
            }
            self.spaces.push(self.uvm.listed_pmap(identity, root)?);
            Some(self.spaces.len() - 1)
        }) else {
            return false;
        };
        // Before the walk: what is taken out from here on makes it look again.
        self.tables_gone = self.spaces[space].tables_gone.load(Acquire);
        // SAFETY: listed there, so that the tables on the way stay while the identity lock is held.
        let Walk::Leaf(table, frame) = (unsafe { walk(self.uvm.phys(), root, vpn) }) else {
            return false;
        };
        self.space = space;
        self.leaf = Leaf {
            tag: vpn.number() >> 9,
            table,
            page: self.uvm.page(frame),
        };
        true
    }

    /// Has all CPUs forget what was taken away, and what others have taken from the same pages and not flushed yet. Nothing from the pmap's
    /// lock on is held.
    #[inline]
    pub(crate) fn flush(&mut self) {
        lock::assert_none_from(PMAP, "flushing the mappings of swept pages");
        if !self.pending.is_empty() {
            self.flush_pending();
        }
        if self.uvm.flushes_pending.load(SeqCst) != 0 {
            self.uvm.flush_stragglers();
        }
    }

    #[inline(never)]
    fn flush_pending(&mut self) {
        for (number, pmap) in self.spaces.iter().enumerate() {
            let here = self.pending.iter();
            let pages: ArrayVec<VirtAddr, PAGES> = here
                .filter(|&&(space, _)| usize::from(space) == number)
                .map(|&(_, va)| va)
                .collect();
            let cpus = pmap.cpus();
            if pages.is_empty() || cpus.is_empty() {
                continue;
            }
            self.uvm.count(Counter::TlbFlush);
            self.uvm.count_n(Counter::TlbFlushPages, pages.len());
            self.uvm
                .machine()
                .invalidate(cpus, pmap.root().or(Some(self.uvm.kernel_root)), &pages);
        }
        self.pending.clear();
    }
}

impl Drop for Sweep<'_> {
    fn drop(&mut self) {
        debug_assert!(self.pending.is_empty(), "swept pages are not flushed");
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::addr::PAGE_SIZE;
    use crate::map::{MapRequest, Placement};
    use crate::prot::Prot;
    use crate::sim::World;

    const AT: u64 = 0x1000_0000;

    /// The pages behind are what another CPU may do between two looks at one page: map it in a space for which no room was made.
    #[test]
    fn spaces_beyond_its_room_are_left_to_the_general_way() {
        let world = World::new(512, 0);
        let uvm = &world.uvm;
        let mapped: Vec<_> = (0..SPACES + 1)
            .map(|_| {
                let space = world.space();
                let at = Placement::Fixed(VirtAddr::new(AT));
                let request = MapRequest::anonymous(PAGE_SIZE, Prot::RW).at(at);
                space.map(request).expect("room");
                let program = world.program(&space);
                world
                    .run(async move { program.store(AT, 1).await })
                    .expect("memory");
                let mapping = space.pmap().extract(uvm, VirtAddr::new(AT));
                (space, mapping.expect("just stored to").frame)
            })
            .collect();
        let mut sweep = Sweep::new(uvm);
        let remove = |sweep: &mut Sweep<'_>, frame, anyway| {
            let page = uvm.page(frame);
            sweep.remove(&mut page.lock_identity(), frame, page, anyway)
        };
        let (last, first) = mapped.split_last().expect("some");
        for (_, frame) in first {
            assert_eq!(remove(&mut sweep, *frame, false), Removed::Used);
            assert_eq!(remove(&mut sweep, *frame, true), Removed::Gone);
        }
        assert_eq!(remove(&mut sweep, last.1, true), Removed::Other);
        assert!(uvm.is_mapped(last.1));
        sweep.make_room();
        assert_eq!(remove(&mut sweep, last.1, true), Removed::Gone);
        assert_eq!(
            remove(&mut sweep, last.1, true),
            Removed::Other,
            "it has none"
        );
        sweep.flush();
        drop(sweep);
        assert!(mapped.iter().all(|&(_, frame)| !uvm.is_mapped(frame)));
        world.check();
    }
}
