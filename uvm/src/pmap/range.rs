//! Operations on ranges of an address space: remove, protect, collect. All under the pmap's lock.

use core::ops::ControlFlow;
use core::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Relaxed, Release},
};

use super::walk::{ENTRIES, Pte, ROOT_LEVEL, Walk, change, index, span};
use super::{Inner, Leaf, Mapping, Pmap};
use crate::Uvm;
use crate::addr::{Frame, USER_END, VaRange, VirtAddr, Vpn};
use crate::meter::Gauge;
use crate::prot::Prot;

impl Pmap {
    /// Removes all translations in the range; modified and referenced go to the pages. Call
    /// [`Self::update`] before any of the frames is freed.
    pub fn remove(&self, uvm: &Uvm, range: VaRange) {
        let inner = &mut *self.inner.lock();
        self.each_leaf(uvm, inner, range, |inner, entries, first, table| {
            let mut gone = 0;
            each_eight_used(entries, |i, slot| {
                if slot.load(Relaxed) == 0 {
                    return;
                }
                let old = Pte(slot.swap(0, AcqRel));
                // `page_protect` may have been faster since; it did the rest then.
                if old.0 == 0 {
                    return;
                }
                let vpn = first.offset(i as u64);
                self.unlist(uvm, vpn, old);
                self.note(uvm, inner, vpn);
                if old.is_wired() {
                    self.wired.fetch_sub(1, Relaxed);
                }
                gone += 1;
            });
            self.resident.fetch_sub(gone, Relaxed);
            let page = uvm.page(table);
            if page.prev.fetch_sub(gone, Relaxed) == gone {
                self.unlink_table(uvm, inner, first, 0);
            }
        });
    }

    /// Removes all translations of the user half, and all tables but the root (exit). Call
    /// [`Self::update`].
    pub fn remove_all(&self, uvm: &Uvm) {
        if self.has_no_tables() {
            return;
        }
        self.remove(uvm, user_half());
        self.collect(uvm);
    }

    /// Takes rights away: those not in `prot`; never adds any (`allow_writes` does, or a fault).
    /// Without READ it removes. Call [`Self::update`].
    pub fn protect(&self, uvm: &Uvm, range: VaRange, prot: Prot) {
        if !prot.contains(Prot::READ) {
            return self.remove(uvm, range);
        }
        let inner = &mut *self.inner.lock();
        self.each_leaf(uvm, inner, range, |inner, entries, first, _| {
            each_eight_used(entries, |i, slot| {
                let tighter = |old: Pte| {
                    let new = old.restricted(prot);
                    (old.0 != 0 && old != new).then_some(new)
                };
                if change(slot, tighter).is_some() {
                    self.note(uvm, inner, first.offset(i as u64));
                }
            });
        });
    }

    /// Gives the translations in the range the right to be written, where they lack it and `may` agrees: it is called with address and frame
    /// of each, and what it returns is kept until the entry has changed. Wired ones stay as they are. Nothing is to be flushed. What the
    /// caller has locked comes before the pmap, and `may` only tries to lock.
    pub(crate) fn allow_writes<T>(
        &self,
        uvm: &Uvm,
        range: VaRange,
        mut may: impl FnMut(VirtAddr, Frame) -> Option<T>,
    ) {
        let inner = &mut *self.inner.lock();
        self.each_leaf(uvm, inner, range, |_, entries, first, _| {
            each_eight_used(entries, |i, slot| {
                let old = Pte(slot.load(Relaxed));
                if old.0 == 0 || old.is_writable() || old.is_wired() {
                    return;
                }
                if let Some(kept) = may(first.offset(i as u64).addr(), old.frame()) {
                    // Should the hardware, or who evicts, have been faster: a fault sees to it.
                    let _ = slot.compare_exchange(old.0, old.writable().0, Relaxed, Relaxed);
                    drop(kept);
                }
            });
        });
    }

    /// Calls `f` for each translation, in order of addresses, under the lock. For `check` and `pmap
    /// PID`.
    pub fn for_each(&self, uvm: &Uvm, mut f: impl FnMut(VirtAddr, Mapping)) {
        let inner = &mut *self.inner.lock();
        self.each_leaf(uvm, inner, user_half(), |_, entries, first, _| {
            each_eight_used(entries, |i, slot| {
                let entry = Pte(slot.load(Relaxed));
                if entry.is_present() {
                    f(first.offset(i as u64).addr(), entry.mapping());
                }
            });
        });
    }

    /// Frees page tables that map nothing any more (the pagedaemon may have emptied them). Call
    /// [`Self::update`].
    pub fn collect(&self, uvm: &Uvm) {
        if self.has_no_tables() {
            return;
        }
        let mut at = Some(Vpn::new(0));
        while let Some(from) = at {
            at = self.collect_some(uvm, from, usize::MAX);
        }
    }

    /// Whether there is no table but, perhaps, the root.
    fn has_no_tables(&self) -> bool {
        self.tables.load(Relaxed) <= 1
    }

    /// Whether [`Self::collect`] may find something: tables that operations on pages have emptied. Those that a removal
    /// empties go with it.
    pub(crate) fn has_empty_tables(&self) -> bool {
        self.has_empty.load(Relaxed)
    }

    /// A part of [`Self::collect`]: goes on at page `from`, looks through about `budget` tables above the leaves, and returns where it
    /// would go on. Call [`Self::update`].
    pub(crate) fn collect_some(&self, uvm: &Uvm, from: Vpn, budget: usize) -> Option<Vpn> {
        let inner = &mut *self.inner.lock();
        if from.number() == 0 {
            // Before the look: what becomes empty from here on is noted again.
            self.has_empty.store(false, Relaxed);
        }
        let mut pass = Collect { from, budget };
        let root = self.root()?;
        let end = self.collect_below(uvm, inner, root, ROOT_LEVEL, Vpn::new(0), &mut pass);
        end.break_value()
    }

    /// Frees the empty tables that the entries of the table in `frame`, which maps pages from `first` on, lead to.
    fn collect_below(
        &self,
        uvm: &Uvm,
        inner: &mut Inner,
        frame: Frame,
        level: u32,
        first: Vpn,
        pass: &mut Collect,
    ) -> ControlFlow<Vpn> {
        let entries = if level == ROOT_LEVEL {
            ENTRIES / 2
        } else {
            ENTRIES
        };
        let skipped = pass.from.number().saturating_sub(first.number()) / span(level);
        for i in skipped..entries {
            // SAFETY: a table of ours; the lock is held. It is not freed below: only the ones it
            // leads to are.
            let table = unsafe { uvm.phys().table(frame) };
            let entry = Pte(table.0[i as usize].load(Relaxed));
            if !entry.is_present() {
                continue;
            }
            let lower = entry.frame();
            let vpn = first.offset(i * span(level));
            if level > 1 {
                if pass.budget == 0 {
                    return ControlFlow::Break(vpn.max(pass.from));
                }
                pass.budget -= 1;
                self.collect_below(uvm, inner, lower, level - 1, vpn, pass)?;
            }
            if uvm.page(lower).prev.load(Relaxed) == 0 {
                table.0[i as usize].store(0, Relaxed);
                uvm.page(frame).prev.fetch_sub(1, Relaxed);
                self.hold(uvm, inner, lower, vpn);
            }
        }
        ControlFlow::Continue(())
    }

    /// Frames in its page tables, found by walking them. `wrong` hears of each table that does not count the entries that it has: its
    /// frame, what it counts, what it has. For `check`.
    pub(crate) fn count_tables(&self, uvm: &Uvm, mut wrong: impl FnMut(Frame, u32, u32)) -> usize {
        let _inner = self.inner.lock();
        self.root().map_or(0, |root| {
            Self::count_below(uvm, root, ROOT_LEVEL, &mut wrong)
        })
    }

    fn count_below(
        uvm: &Uvm,
        frame: Frame,
        level: u32,
        wrong: &mut impl FnMut(Frame, u32, u32),
    ) -> usize {
        let entries = if level == ROOT_LEVEL {
            ENTRIES / 2
        } else {
            ENTRIES
        };
        // SAFETY: a table of the pmap that the caller has locked.
        let table = unsafe { uvm.phys().table(frame) };
        let (mut used, mut tables) = (0, 1);
        for slot in &table.0[..entries as usize] {
            let entry = Pte(slot.load(Relaxed));
            if entry.is_present() {
                used += 1;
                if level > 0 {
                    tables += Self::count_below(uvm, entry.frame(), level - 1, wrong);
                }
            }
        }
        let counted = uvm.page(frame).prev.load(Relaxed);
        if counted != used {
            wrong(frame, counted, used);
        }
        tables
    }

    /// Calls `f(inner, entries, first page, table frame)` for the part of each leaf table that lies
    /// in the range.
    fn each_leaf(
        &self,
        uvm: &Uvm,
        inner: &mut Inner,
        range: VaRange,
        mut f: impl FnMut(&mut Inner, &[AtomicU64], Vpn, Frame),
    ) {
        let mut vpn = Vpn::containing(range.start());
        let end = Vpn::new(vpn.number() + range.pages() as u64);
        debug_assert!(range.end().as_u64() <= USER_END);
        while vpn < end {
            match self.walk(uvm, vpn) {
                Walk::Hole(next) => vpn = next,
                Walk::Large => unreachable!("large page in the user half"),
                Walk::Leaf(table, frame) => {
                    let next = Vpn::new((vpn.number() / ENTRIES + 1) * ENTRIES).min(end);
                    let from = index(vpn, 0);
                    let to = from + (next.number() - vpn.number()) as usize;
                    f(inner, &table.0[from..to], vpn, frame);
                    vpn = next;
                }
            }
        }
    }

    /// Unlinks the empty table of `level` that maps `vpn`, and those above that become empty by it.
    fn unlink_table(&self, uvm: &Uvm, inner: &mut Inner, vpn: Vpn, level: u32) {
        let above = level + 1;
        let mut frame = self.listed_root();
        for l in (above + 1..=ROOT_LEVEL).rev() {
            // SAFETY: tables on the way to one that is linked in; the lock is held.
            let table = unsafe { uvm.phys().table(frame) };
            frame = Pte(table.0[index(vpn, l)].load(Relaxed)).frame();
        }
        // SAFETY: as above.
        let table = unsafe { uvm.phys().table(frame) };
        let lower = Pte(table.0[index(vpn, above)].swap(0, Relaxed)).frame();
        self.hold(uvm, inner, lower, vpn);
        let left = uvm.page(frame).prev.fetch_sub(1, Relaxed) - 1;
        if left == 0 && above != ROOT_LEVEL {
            self.unlink_table(uvm, inner, vpn, above);
        }
    }

    /// Keeps an unlinked table until the next flush, which must drop what walkers remember of it:
    /// any flush of a page does.
    fn hold(&self, uvm: &Uvm, inner: &mut Inner, table: Frame, vpn: Vpn) {
        inner.hint = Leaf::NONE;
        // Release: who still sees the count of before finds the table as it was.
        self.tables_gone.fetch_add(1, Release);
        self.note(uvm, inner, vpn);
        inner.pending.hold_table(uvm, table);
        self.mark_pending(uvm);
        self.tables.fetch_sub(1, Relaxed);
        uvm.meter().lower(Gauge::PmapTables, 1);
    }
}

/// Calls `f` for the entries, with their places, but leaves eights out of which all are 0: most tables are mostly empty.
#[inline]
fn each_eight_used(entries: &[AtomicU64], mut f: impl FnMut(usize, &AtomicU64)) {
    const AT_A_TIME: usize = 8;
    for (i, chunk) in entries.chunks(AT_A_TIME).enumerate() {
        let all = chunk.iter().map(|slot| slot.load(Relaxed));
        if all.fold(0, |all, entry| all | entry) != 0 {
            (i * AT_A_TIME..)
                .zip(chunk)
                .for_each(|(i, slot)| f(i, slot));
        }
    }
}

/// How far a part of [`Pmap::collect`] has got.
struct Collect {
    /// Pages before this one are done.
    from: Vpn,
    /// Tables that may still be looked through.
    budget: usize,
}

/// Everything that a program can map.
fn user_half() -> VaRange {
    VaRange::new(VirtAddr::zero(), VirtAddr::new_truncate(USER_END))
}
