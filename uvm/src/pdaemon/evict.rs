//! What becomes of an old page: it goes, or it has been used and stays, or it cannot go now.
//!
//! Owns nothing. Looks at a batch of pages at a time: what they have in common is done once ([`Sweep`], [`Cluster`]). Against the order of
//! locks: from the frame to its owner ([`crate::page::Page::owner_ref`]), whose lock it only *tries*; then it looks whether the owner still
//! has the page.
//!
//! There are two ways. Nearly all pages are an anon's and mapped by one address space: `Batch::evict_anon` deals with them in one go,
//! from the page's identity lock to the owner's and back. All others, and whatever that finds difficult, go the general way.
//!
//! # Second chance
//! A page that has been used since it became inactive is active again. One that has just been read *has* been used, for the use it was read
//! for ([`PageAttrs::ONCE`]). That of a file goes round once more, to see whether that is all: program text is used again and again. One
//! of anonymous memory goes: should it still be in use it is back at once, and stays then, because it was away so shortly
//! ([`Uvm::page_returns`]). To go round costs as much as to go, and of what a load larger than memory brings in most is used for a
//! moment.

use arrayvec::ArrayVec;

use super::{BATCH, Pass};
use crate::Uvm;
use crate::addr::Frame;
use crate::anon::Anon;
use crate::meter::{Counter, Gauge};
use crate::object::UvmObject;
use crate::page::queues::Sort;
use crate::page::{OwnerKind, Page, PageAttrs, PageFlags};
use crate::pmap::sweep::{Removed, Sweep};
use crate::policy::nonresident::Key;
use crate::prot::Prot;
use crate::swap::owner::Held;
use crate::swap::pageout::{Cluster, Leaving};
use crate::swap::{Owner, SwapSlot};

/// What became of a page that was looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Freed,
    /// Used since it was last looked at.
    Reactivated,
    /// Used for the first time since it was read: stays where it is.
    Once,
    /// Not now: busy, held, or its owner is locked.
    Later,
    /// On its way to swap.
    Leaves,
    /// It cannot go: wired, or dirty without a place to go to.
    Stays,
}

/// A batch of pages that is being looked at, and what is still to be done for all of them.
struct Batch<'a> {
    uvm: &'a Uvm,
    cluster: &'a mut Cluster,
    sweep: Sweep<'a>,
    /// Frames that nobody has any more.
    free: ArrayVec<Frame, BATCH>,
    /// Pages that belong on a queue.
    staying: ArrayVec<Frame, BATCH>,
    /// How many pages are on their way to swap.
    leaving: u64,
}

impl Uvm {
    /// Looks at inactive pages of a sort, which have been taken off their queue, until `cluster` is full; how many it looked at. All are back
    /// when it returns.
    pub(super) fn evict_some(
        &self,
        sort: Sort,
        frames: &[Frame],
        cluster: &mut Cluster,
        pass: &mut Pass,
    ) -> usize {
        let mut batch = Batch {
            uvm: self,
            cluster,
            sweep: Sweep::new(self),
            free: ArrayVec::new(),
            staying: ArrayVec::new(),
            leaving: 0,
        };
        let mut looked_at = 0;
        let (mut freed, mut busy, mut used, mut once) = (0, 0, 0, 0);
        while looked_at < frames.len() && !batch.cluster.is_full() {
            let frame = frames[looked_at];
            looked_at += 1;
            let fate = batch.evict(sort, frame);
            match fate {
                Fate::Freed => freed += 1,
                Fate::Later => busy += 1,
                Fate::Reactivated => used += 1,
                Fate::Once => once += 1,
                Fate::Leaves | Fate::Stays => {}
            }
            if !matches!(fate, Fate::Freed | Fate::Leaves) {
                batch.staying.push(frame);
            }
        }
        batch.finish();
        self.put_back_unseen(&frames[looked_at..]);
        pass.freed += freed;
        // Used just now, next time they may not be.
        pass.later += busy + used + once;
        self.count_n(Counter::Pdscans, looked_at);
        let scanned = match sort {
            Sort::Anon => Counter::Pdanscan,
            Sort::File | Sort::Exec => Counter::Pdobscan,
        };
        self.count_n(scanned, looked_at);
        for (counter, n) in [
            (Counter::Pdfreed, freed),
            (Counter::Pdbusy, busy),
            (Counter::Pdreact, used),
            (Counter::Pdonce, once),
        ] {
            self.count_n(counter, n);
        }
        looked_at
    }

    /// Who owns a page that could be evicted.
    pub(super) fn owner_of(&self, frame: Frame) -> Option<Owner> {
        let page = self.page(frame);
        match page.owner_kind() {
            OwnerKind::Anon => page.owner_ref::<Anon>().map(Owner::Anon),
            OwnerKind::Object => {
                let object = page.owner_ref::<UvmObject>()?;
                Some(Owner::Object(object, page.index()))
            }
            _ => None,
        }
    }

    /// Whether a file's page has been used, and only as was to be expected of one that has just been read. The bit tells of other uses from now
    /// on. Needs no owner, since the page stays where it is.
    fn is_first_use(&self, frame: Frame) -> bool {
        let page = self.page(frame);
        page.attrs().contains(PageAttrs::ONCE)
            && !self.torture_evict()
            && page.clear_attrs(PageAttrs::ONCE)
            && self.clear_reference(frame)
    }
}

impl Batch<'_> {
    /// Looks at one page. Nothing is locked.
    #[inline]
    fn evict(&mut self, sort: Sort, frame: Frame) -> Fate {
        self.sweep.make_room();
        if sort != Sort::Anon {
            if self.uvm.is_first_use(frame) {
                return Fate::Once;
            }
        } else if let Some(fate) = self.evict_anon(frame) {
            return fate;
        }
        self.evict_any(frame)
    }

    /// A page of an anon that one address space maps. `None`: it is none, or there is something about it.
    #[inline]
    fn evict_anon(&mut self, frame: Frame) -> Option<Fate> {
        let (uvm, page) = (self.uvm, self.uvm.page(frame));
        if uvm.torture_evict() {
            return None;
        }
        let slot = self.cluster.next_slot(uvm)?;
        // Dropped after the locks: it may be the last reference.
        let anon;
        let mut identity = page.lock_identity();
        anon = identity.owner_ref::<Anon>()?;
        let mut inner = anon.try_lock()?;
        let held = page.is_busy() || page.loan_count() > 0 || page.wire_count() > 0;
        if held || inner.frame != Some(frame) {
            return None;
        }
        let once = page.attrs().contains(PageAttrs::ONCE);
        match self.sweep.remove(&mut identity, frame, page, once) {
            Removed::Gone => drop(identity),
            Removed::Used => {
                uvm.activate(frame);
                return Some(Fate::Reactivated);
            }
            Removed::Other => return None,
        }
        page.clear_attrs(PageAttrs::ONCE);
        if is_clean(page) && inner.slot.is_some() {
            // Before anybody can bring it in again.
            self.sweep.flush();
            let went = uvm.upper.memory.gone.count(1);
            if Held::Anon(&anon, &mut inner).evict(uvm, went) {
                self.free.push(frame);
            }
            return Some(Fate::Freed);
        }
        let old = inner.slot.replace(slot);
        uvm.send_off(frame, page);
        drop(inner);
        self.leaves(Owner::Anon(anon), frame, old);
        Some(Fate::Leaves)
    }

    /// Any page. The last reference to its owner may go here: not under its lock.
    fn evict_any(&mut self, frame: Frame) -> Fate {
        let Some(owner) = self.uvm.owner_of(frame) else {
            return Fate::Stays;
        };
        let mut old = None;
        let tried = match &owner {
            Owner::Anon(anon) => anon.try_lock().map(|mut inner| {
                self.evict_from(frame, &mut Held::Anon(anon, &mut inner), &mut old)
            }),
            Owner::Object(object, index) => object.try_lock().map(|mut pages| {
                let mut held = Held::Object(object, &mut pages, *index);
                self.evict_from(frame, &mut held, &mut old)
            }),
        };
        let fate = tried.unwrap_or(Fate::Later);
        if fate == Fate::Leaves {
            self.leaves(owner, frame, old);
        }
        fate
    }

    /// The same with its owner locked. What leaves is BUSY from here on; `old` is where it was before.
    fn evict_from(
        &mut self,
        frame: Frame,
        held: &mut Held<'_>,
        old: &mut Option<SwapSlot>,
    ) -> Fate {
        let (uvm, page) = (self.uvm, self.uvm.page(frame));
        if held.frame() != Some(frame) {
            return Fate::Stays;
        }
        if page.is_busy() || page.loan_count() > 0 {
            return Fate::Later;
        }
        if page.wire_count() > 0 {
            return Fate::Stays;
        }
        let file = matches!(held, Held::Object(object, ..) if !object.is_anonymous());
        if !file && held.slot().is_none() && !uvm.swap_has_room() {
            uvm.activate(frame);
            return Fate::Stays;
        }
        if !self.remove_mappings(frame, file) {
            if !file && !uvm.swap_has_room() {
                // It stays in memory: others need its slot more.
                held.give_slot_up(uvm);
            }
            if page.clear_attrs(PageAttrs::ONCE) {
                return Fate::Once;
            }
            uvm.activate(frame);
            return Fate::Reactivated;
        }
        // Nothing maps it any more: the page knows all that its translations have noticed.
        let clean = is_clean(page);
        match (held, file) {
            (Held::Object(object, pages, index), true) if clean => {
                object.remove(pages, uvm, *index);
                let gone = &uvm.upper.memory.gone;
                gone.count(1);
                gone.note(Key::file(uvm, object, *index));
                Fate::Freed
            }
            (_, true) => {
                uvm.activate(frame);
                Fate::Stays
            }
            (held, false) if clean && held.slot().is_some() => {
                let went = uvm.upper.memory.gone.count(1);
                if held.evict(uvm, went) {
                    self.free.push(frame);
                }
                Fate::Freed
            }
            (held, false) => {
                let slot = self.cluster.next_slot(uvm).or_else(|| {
                    // Swap is full, but for the place of before.
                    held.give_slot_up(uvm);
                    self.cluster.next_slot(uvm)
                });
                let Some(slot) = slot else {
                    uvm.activate(frame);
                    return Fate::Stays;
                };
                *old = held.set_slot(Some(slot));
                uvm.send_off(frame, page);
                Fate::Leaves
            }
        }
    }

    /// Takes a page's translations away, and flushes, unless it has been used otherwise than was to be expected; whether they are gone. Its
    /// owner is locked.
    fn remove_mappings(&mut self, frame: Frame, file: bool) -> bool {
        let (uvm, page) = (self.uvm, self.uvm.page(frame));
        let anyway = uvm.torture_evict() || !file && page.clear_attrs(PageAttrs::ONCE);
        let removed = {
            let mut identity = page.lock_identity();
            self.sweep.remove(&mut identity, frame, page, anyway)
        };
        match removed {
            Removed::Gone => self.sweep.flush(),
            Removed::Used => return false,
            Removed::Other if anyway => uvm.page_protect(frame, Prot::empty()),
            Removed::Other => return uvm.remove_if_idle(frame),
        }
        true
    }

    /// A page that has been sent off: BUSY, it is this task's alone.
    #[inline]
    fn leaves(&mut self, owner: Owner, frame: Frame, old: Option<SwapSlot>) {
        self.cluster.add(Leaving { owner, frame }, old);
        self.leaving += 1;
    }

    /// Puts into effect what was put off.
    fn finish(mut self) {
        self.sweep.flush();
        self.uvm.free_pages(&self.free);
        self.uvm.put_back(&self.staying);
        self.uvm.meter().raise(Gauge::Paging, self.leaving);
    }
}

/// Whether what the page holds is in its store as well. Nothing maps it.
#[inline]
fn is_clean(page: &Page) -> bool {
    page.has(PageFlags::CLEAN) && !page.attrs().contains(PageAttrs::MODIFIED)
}
