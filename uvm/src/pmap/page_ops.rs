//! Operations that start from a page: what pagedaemon and pagers ask of every mapping at once.
//!
//! They hold the page's identity lock and change entries under it, without the pmap's lock (see
//! [`super::pv`] for why that is safe). TLBs are flushed after the lock is released and before the
//! operation returns. The address spaces concerned are kept alive by counted references until then.

use core::sync::atomic::Ordering::{Relaxed, SeqCst};

use arrayvec::ArrayVec;

use super::Pmap;
use super::pv::Identity;
use super::walk::{Pte, Walk, change, index, walk};
use crate::Uvm;
use crate::addr::{Frame, VirtAddr, Vpn};
use crate::lock::{self, PMAP};
use crate::machine::CpuSet;
use crate::meter::Counter;
use crate::page::{Page, PageAttrs};
use crate::pool::Ref;
use crate::prot::Prot;

/// Mappings changed before a flush.
const BATCH: usize = 16;
type Flushes = ArrayVec<(Ref<Pmap>, Vpn), BATCH>;

/// Which of a page's translations shall go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    All,
    Unwired,
    /// All, if none of them has been used.
    Idle,
}

/// How far one hold of the identity lock got.
enum Pass {
    /// All mappings are done.
    Done,
    /// There may be more: too many for one batch, or one that another CPU was at.
    Again,
    /// A use was found, which ends it.
    Used,
}

/// The entry without its referenced bit, if it is set.
pub(super) fn without_reference(old: Pte) -> Option<Pte> {
    let new = old.without_attrs(PageAttrs::REFERENCED);
    (new != old).then_some(new)
}

impl Uvm {
    /// Whether any address space maps the page.
    #[must_use]
    pub fn is_mapped(&self, frame: Frame) -> bool {
        self.page(frame).is_mapped()
    }

    /// Calls `f` with root table and address of each mapping of a page, under its identity lock.
    /// For `check`.
    pub fn for_each_mapping(&self, frame: Frame, mut f: impl FnMut(Frame, VirtAddr)) {
        for (root, vpn) in self.page(frame).lock_identity().mappings() {
            f(root, vpn.addr());
        }
    }

    /// Whether a page was written to since [`Self::clear_modified`]: collected, or in any entry.
    #[must_use]
    pub fn is_modified(&self, frame: Frame) -> bool {
        self.has_attr(frame, PageAttrs::MODIFIED)
    }

    /// Whether a page was used since [`Self::clear_reference`].
    #[must_use]
    pub fn is_referenced(&self, frame: Frame) -> bool {
        self.has_attr(frame, PageAttrs::REFERENCED)
    }

    fn has_attr(&self, frame: Frame, attr: PageAttrs) -> bool {
        let page = self.page(frame);
        let identity = page.lock_identity();
        let seen = identity.mappings().any(|(root, vpn)| {
            let entry = self.entry(&identity, root, vpn);
            entry.is_some_and(|e| Pte(e.load(Relaxed)).attrs().contains(attr))
        });
        // The page's own bits last: a removal under way hands its bits over before it unlists.
        seen || page.attrs().contains(attr)
    }

    /// Clears the modified bit everywhere and flushes, so that every later write is noticed;
    /// returns whether it was set. For pagers, before they start writing the page out.
    pub fn clear_modified(&self, frame: Frame) -> bool {
        let mut set = false;
        self.change_all(
            frame,
            PageAttrs::MODIFIED,
            |old| {
                let new = old.without_attrs(PageAttrs::MODIFIED);
                (new != old).then_some(new)
            },
            &mut set,
        );
        set
    }

    /// Clears the referenced bit everywhere; returns whether it was set. It does not flush: uses
    /// through cached translations may go unnoticed for a while, which only makes the page look
    /// idle.
    pub fn clear_reference(&self, frame: Frame) -> bool {
        let page = self.page(frame);
        self.clear_reference_in(&page.lock_identity(), page)
    }

    fn clear_reference_in(&self, identity: &Identity<'_>, page: &Page) -> bool {
        let mut set = page.clear_attrs(PageAttrs::REFERENCED);
        let mut clear = |(root, vpn)| {
            if let Some(slot) = self.entry(identity, root, vpn) {
                let used = Pte(slot.load(Relaxed))
                    .attrs()
                    .contains(PageAttrs::REFERENCED);
                set |= used && change(slot, without_reference).is_some();
            }
        };
        match identity.only() {
            Some(mapping) => clear(mapping),
            None => identity.mappings().for_each(clear),
        }
        set
    }

    /// Takes rights away from a page in every address space; without READ in `prot` all its
    /// translations go, and their modified and referenced bits have arrived in the page. Flushed on
    /// return: nobody can use the rights any more.
    pub fn page_protect(&self, frame: Frame, prot: Prot) {
        if !prot.contains(Prot::READ) {
            self.remove_mappings(frame, Which::All);
            return;
        }
        let tighten = |old: Pte| {
            let new = old.restricted(prot);
            (new != old).then_some(new)
        };
        self.change_all(frame, PageAttrs::empty(), tighten, &mut false);
    }

    /// Takes all translations of a page away but the wired ones; their modified and referenced bits have arrived in the page.
    /// Flushed on return. For faults that hide a page behind a new one from all who look through the same amap: who has it wired
    /// does not (he shows the object itself).
    pub fn remove_unwired(&self, frame: Frame) {
        self.remove_mappings(frame, Which::Unwired);
    }

    /// Clears the referenced bit; if it was not set all translations of the page go, as with [`Self::page_protect`], and the answer is
    /// `true`. For the pagedaemon's second chance; where `pmap::sweep` finds it too difficult.
    pub fn remove_if_idle(&self, frame: Frame) -> bool {
        self.remove_mappings(frame, Which::Idle)
    }

    /// Changes all entries of a page by `new`, flushing those that changed; `clear` is cleared in
    /// the page first. `set` is set if any of it was.
    fn change_all(
        &self,
        frame: Frame,
        clear: PageAttrs,
        new: impl Fn(Pte) -> Option<Pte>,
        set: &mut bool,
    ) {
        let page = self.page(frame);
        loop {
            let mut flushes = Flushes::new();
            let pass = {
                let identity = page.lock_identity();
                // Under the lock: what a removal hands over later was set before this began, or is
                // news.
                *set |= page.clear_attrs(clear);
                self.change_some(&identity, frame, &new, &mut flushes)
            };
            *set |= !flushes.is_empty();
            self.flush_mappings(&mut flushes);
            match pass {
                Pass::Done | Pass::Used => break,
                Pass::Again => core::hint::spin_loop(),
            }
        }
        self.flush_stragglers();
    }

    fn change_some(
        &self,
        identity: &Identity<'_>,
        frame: Frame,
        new: &impl Fn(Pte) -> Option<Pte>,
        flushes: &mut Flushes,
    ) -> Pass {
        for (root, vpn) in identity.mappings() {
            let Some(slot) = self.entry(identity, root, vpn) else {
                return Pass::Again;
            };
            let old = Pte(slot.load(Relaxed));
            if old.0 == 0 || old.frame() != frame {
                return Pass::Again;
            }
            if new(old).is_none() {
                continue;
            }
            if flushes.is_full() {
                return Pass::Again;
            }
            let Some(pmap) = self.listed_pmap(identity, root) else {
                return Pass::Again;
            };
            change(slot, |old| {
                if old.0 != 0 && old.frame() == frame {
                    new(old)
                } else {
                    None
                }
            });
            flushes.push((pmap, vpn));
        }
        Pass::Done
    }

    /// Takes translations away; whether all of `which` are gone.
    fn remove_mappings(&self, frame: Frame, which: Which) -> bool {
        let page = self.page(frame);
        let gone = loop {
            let mut flushes = Flushes::new();
            let pass = {
                let mut identity = page.lock_identity();
                // Looked at again after a pass that was not the last: what is gone stays gone, the rest stays.
                if which == Which::Idle && self.clear_reference_in(&identity, page) {
                    Pass::Used
                } else {
                    self.remove_some(&mut identity, frame, which, &mut flushes)
                }
            };
            self.flush_mappings(&mut flushes);
            match pass {
                Pass::Done => break true,
                Pass::Used => break false,
                Pass::Again => core::hint::spin_loop(),
            }
        };
        self.flush_stragglers();
        gone
    }

    fn remove_some(
        &self,
        identity: &mut Identity<'_>,
        frame: Frame,
        which: Which,
        flushes: &mut Flushes,
    ) -> Pass {
        while let Some((root, vpn)) = self.next_to_remove(identity, which) {
            if flushes.is_full() || !self.remove_mapping(identity, frame, root, vpn, flushes) {
                return Pass::Again;
            }
        }
        Pass::Done
    }

    /// The first mapping of a page that shall go.
    fn next_to_remove(&self, identity: &Identity<'_>, which: Which) -> Option<(Frame, Vpn)> {
        match which {
            Which::All | Which::Idle => identity.first(),
            // One that another CPU is at counts as well: what it will be is not known yet.
            Which::Unwired => identity.mappings().find(|&(root, vpn)| {
                let entry = self.entry(identity, root, vpn);
                entry.is_none_or(|e| !Pte(e.load(Relaxed)).is_wired())
            }),
        }
    }

    /// Removes a mapping of a page; `false` if another CPU is at it.
    fn remove_mapping(
        &self,
        identity: &mut Identity<'_>,
        frame: Frame,
        root: Frame,
        vpn: Vpn,
        flushes: &mut Flushes,
    ) -> bool {
        let Some(pmap) = self.listed_pmap(identity, root) else {
            return false;
        };
        // The reference is dropped by the caller, after the identity lock: it may be the last.
        flushes.push((pmap, vpn));
        let pmap = &flushes[flushes.len() - 1].0;
        // SAFETY: listed here, so that the tables on the way stay while the identity lock is held.
        let Walk::Leaf(table, table_frame) = (unsafe { walk(self.phys(), root, vpn) }) else {
            return false;
        };
        let ours = |old: Pte| (old.0 != 0 && old.frame() == frame).then_some(Pte(0));
        let Some(old) = change(&table.0[index(vpn, 0)], ours) else {
            return false;
        };
        debug_assert!(!old.is_wired(), "a wired mapping of {frame:?} taken away");
        self.page(frame).note_attrs(old.attrs());
        identity.remove_mapping(root, vpn);
        pmap.resident.fetch_sub(1, Relaxed);
        if old.is_wired() {
            pmap.wired.fetch_sub(1, Relaxed);
        }
        // Last: from here on the table may go. An empty one stays until `Pmap::collect`.
        if self.page(table_frame).prev.fetch_sub(1, Relaxed) == 1 {
            pmap.note_empty();
        }
        true
    }

    /// The entry for a listed mapping.
    fn entry<'a>(
        &self,
        _identity: &'a Identity<'_>,
        root: Frame,
        vpn: Vpn,
    ) -> Option<&'a core::sync::atomic::AtomicU64> {
        // SAFETY: listed, and the identity lock is held for `'a`: the tables on the way stay.
        match unsafe { walk(self.phys(), root, vpn) } {
            Walk::Leaf(table, _) => Some(&table.0[index(vpn, 0)]),
            _ => None,
        }
    }

    /// A reference to the pmap of a listed mapping, unless it is going away.
    pub(super) fn listed_pmap(&self, _identity: &Identity<'_>, root: Frame) -> Option<Ref<Pmap>> {
        let pmap = self.page(root).owner_ptr::<Pmap>()?;
        // SAFETY: a pmap takes all its mappings off the lists before its memory goes, and this one
        // is listed while the identity lock is held.
        unsafe { Ref::try_from_ptr(pmap) }
    }

    fn flush_mappings(&self, flushes: &mut Flushes) {
        lock::assert_none_from(PMAP, "flushing a page's mappings");
        for (pmap, vpn) in flushes.drain(..) {
            self.flush_mapping(&pmap, vpn);
        }
    }

    fn flush_mapping(&self, pmap: &Pmap, vpn: Vpn) {
        let cpus = pmap.cpus();
        if let Some(root) = pmap.root()
            && !cpus.is_empty()
        {
            self.count(Counter::TlbFlush);
            self.count(Counter::TlbFlushPages);
            self.machine().invalidate(cpus, Some(root), &[vpn.addr()]);
        }
    }

    /// A mapping of this page that another CPU has removed but not flushed yet is on no list any
    /// more. Rare: flush everything.
    pub(super) fn flush_stragglers(&self) {
        if self.flushes_pending.load(SeqCst) != 0 {
            self.count(Counter::TlbFlushAll);
            self.machine()
                .invalidate_all(CpuSet::first(self.cpus()), None);
        }
    }
}
