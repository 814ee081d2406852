//! Wiring: mlock and its relatives.
//!
//! # What this owns
//! [`MapEntry::wired`], which counts how often a range is wired, and [`MapEntry::wired_to`], which says which of its pages are. Frames know
//! only in how many entries they are wired ([`crate::Page::wire_count`]).
//!
//! # What holds
//! - W1: each page in the wired part of an entry is resident, and the entry adds exactly 1 to its wire count, however often the entry
//!   itself is wired. The wired part is all of an entry with `wired > 0`; of a *marked* entry (`wired` is 0, `wired_to` is not) it goes
//!   from the start to `wired_to`; of others it is empty.
//! - W2: a wired anon has one reference. So nobody's write ever replaces it, and whoever would share it gets a copy at once
//!   ([`crate::amap::Copying`], UVM's `cow_now`).
//! - A translation in the wired part is marked wired, and no other is.
//!
//! # How it goes
//! mlock *marks* the entries of its range, raises their wired parts page by page, from the lowest address up, awaiting in between
//! ([`crate::fault`]), and at the end turns the marks into counts. What fails half-way takes the wired parts of marked entries down
//! again, and nothing is left of it; munlock turns counts into marks and does the same. So the entries themselves say at any moment which
//! pages are wired, and whoever removes one, or a part of one, in the midst of it unwires just those.
//!
//! # How it synchronises
//! By the map's busy token, all the way; nothing else is held across an await. Only plain insertions ([`VmSpace::map`]) get between: a
//! mark is clipped with its entry, and a marked entry does not grow. What replaced a part of the range is not wired.

use core::sync::atomic::Ordering::Relaxed;

use bitflags::bitflags;

use crate::Uvm;
use crate::addr::{Frame, PAGE_SHIFT, PAGE_SIZE, VaRange, VirtAddr};
use crate::map::entry::WIRED_ALL;
use crate::map::{MapEntry, MapInner, USER_MAX, USER_MIN, VmError, VmSpace};
use crate::meter::Gauge;
use crate::page::PageFlags;
use crate::pmap::EnterFlags;
use crate::prot::Prot;

/// Pages unwired, or shown, in one hold of the map's lock.
const BUDGET: u64 = 64;

bitflags! {
    /// What [`VmSpace::mlockall`] wires.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MlockAll: u8 {
        /// What is mapped now.
        const CURRENT = 1;
        /// What is mapped from now on.
        const FUTURE = 2;
    }
}

/// Which entries of a range are to be wired.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// All, and there must be no hole between them.
    Whole,
    /// Those that allow any access.
    Accessible,
    /// Those that do not.
    Hidden,
}

impl Scope {
    fn takes(self, entry: &MapEntry) -> bool {
        match self {
            Self::Whole => true,
            Self::Accessible => !entry.prot.is_empty(),
            Self::Hidden => entry.prot.is_empty(),
        }
    }
}

impl VmSpace {
    /// Wires a range: on return all its pages are in memory, stay there, and do not fault as long as they are accessed as the mapping
    /// allows. Private pages become anonymous memory. Nests, until the first [`Self::munlock`]. Awaits other modifiers, reads, busy
    /// pages and free frames; its turn.
    ///
    /// # Errors
    /// [`VmError::Unmapped`] if there is a hole in it, [`VmError::Limit`] beyond [`Limits::locked`](crate::map::Limits::locked),
    /// [`VmError::OutOfMemory`] (also: too much is wired already, in the system or of one page), [`VmError::Fault`] if a page
    /// cannot be read. Nothing is wired then that was not before.
    pub async fn mlock(&self, range: VaRange) -> Result<(), VmError> {
        let _busy = self.map.busy.lock().await;
        self.wire(range, Scope::Whole).await
    }

    /// Unwires a range, however often it is wired. Awaits other modifiers, and its turn between parts.
    ///
    /// # Errors
    /// [`VmError::Unmapped`] if there is a hole in it, [`VmError::OutOfMemory`] if a mapping would have to be split and cannot. Nothing
    /// has changed then.
    pub async fn munlock(&self, range: VaRange) -> Result<(), VmError> {
        let _busy = self.map.busy.lock().await;
        {
            let mut map = self.map.write();
            let (start, end) = (range.start().as_u64(), range.end().as_u64());
            map.covers(start, end, |_| Ok(()))?;
            map.clip(&self.uvm, start)?;
            map.clip(&self.uvm, end)?;
            map.mark_wired(start, end);
        }
        self.unwire(range).await;
        Ok(())
    }

    /// Wires all that is mapped and allows any access, or all that will be ([`Self::mmap`], [`Self::brk`], [`Self::protect`]), or both. Not
    /// asked for the future, it is no longer wired. Awaits as [`Self::mlock`].
    ///
    /// # Errors
    /// [`VmError::Invalid`] if nothing is asked for; as [`Self::mlock`]. All is as before then.
    pub async fn mlockall(&self, what: MlockAll) -> Result<(), VmError> {
        if what.is_empty() {
            return Err(VmError::Invalid);
        }
        let _busy = self.map.busy.lock().await;
        // First, so that nothing that is mapped meanwhile falls between now and the future.
        let future = what.contains(MlockAll::FUTURE);
        let before = self.wires_future.swap(future, Relaxed);
        if what.contains(MlockAll::CURRENT)
            && let Err(error) = self.wire(everything(), Scope::Accessible).await
        {
            self.wires_future.store(before, Relaxed);
            return Err(error);
        }
        Ok(())
    }

    /// Unwires all that is mapped; what is mapped from now on is not wired. Awaits other modifiers, and its turn between parts.
    pub async fn munlockall(&self) {
        let _busy = self.map.busy.lock().await;
        self.wires_future.store(false, Relaxed);
        let range = everything();
        let (start, end) = (range.start().as_u64(), range.end().as_u64());
        self.map.write().mark_wired(start, end);
        self.unwire(range).await;
    }

    /// Wires those entries of a range that `scope` takes. The caller holds the busy token.
    pub(super) async fn wire(&self, range: VaRange, scope: Scope) -> Result<(), VmError> {
        self.mark(range, scope)?;
        self.wire_marked(range).await?;
        let (start, end) = (range.start().as_u64(), range.end().as_u64());
        let mut map = self.map.write();
        map.change_within(start, end, |entry| {
            if entry.wired > 0 && scope.takes(entry) {
                entry.wired = entry.wired.saturating_add(1);
            }
        });
        map.count_marked(&self.uvm, start, end);
        Ok(())
    }

    /// Wires what a mapping has grown by as often as that is wired (`times`), or, if it cannot be, not at all. The caller holds the busy token.
    pub(super) async fn wire_more(&self, range: VaRange, times: u16) {
        if self.wire(range, Scope::Whole).await.is_err() {
            return;
        }
        let (start, end) = (range.start().as_u64(), range.end().as_u64());
        let mut map = self.map.write();
        map.change_within(start, end, |entry| entry.wired = times);
        map.join(&self.uvm, start.saturating_sub(1), end);
    }

    /// Marks those entries of a range that `scope` takes and that are not wired, if so much may be wired. The caller holds the busy
    /// token, and goes on with [`Self::wire_marked`].
    pub(super) fn mark(&self, range: VaRange, scope: Scope) -> Result<(), VmError> {
        let (start, end) = (range.start().as_u64(), range.end().as_u64());
        let mut map = self.map.write();
        if scope == Scope::Whole {
            map.covers(start, end, |_| Ok(()))?;
        }
        let takes = |entry: &MapEntry| entry.wired == 0 && scope.takes(entry);
        let (mut at, mut more) = (start, 0);
        while let Some(entry) = map.tree.from(at).filter(|entry| entry.start < end) {
            if takes(entry) {
                more += entry.end.min(end) - entry.start.max(start);
            }
            at = entry.end;
        }
        if more > 0 && map.locked.saturating_add(more) > self.limits.lock().locked {
            return Err(VmError::Limit);
        }
        let meter = self.uvm.meter();
        if more > 0
            && meter.gauge(Gauge::Wired) + (more >> PAGE_SHIFT) > meter.gauge(Gauge::Wiredmax)
        {
            return Err(VmError::OutOfMemory);
        }
        map.clip(&self.uvm, start)?;
        map.clip(&self.uvm, end)?;
        map.change_within(start, end, |entry| {
            if takes(entry) {
                entry.wired_to = entry.start;
            }
        });
        Ok(())
    }

    /// Wires all pages of the marked entries of a range, which stay marked: [`MapInner::count_marked`] ends it. The caller holds the busy
    /// token.
    ///
    /// # Errors
    /// [`VmError`] of the first page that cannot be wired. No entry is marked then.
    pub(super) async fn wire_marked(&self, range: VaRange) -> Result<(), VmError> {
        let mut at = range.start().as_u64();
        while let Some(va) = self.next_to_wire(at, range.end().as_u64()) {
            if let Err(error) = self.fault_wire(va).await {
                self.unwire(range).await;
                return Err(error.into());
            }
            at = va;
            self.uvm.executor().reschedule_if_asked().await;
        }
        Ok(())
    }

    /// The first address in `at..end` that is marked and not wired yet.
    fn next_to_wire(&self, mut at: u64, end: u64) -> Option<u64> {
        let map = self.map.read();
        loop {
            let entry = map.tree.from(at).filter(|entry| entry.start < end)?;
            if entry.is_marked() && entry.wired_end() < entry.end {
                return Some(entry.wired_end());
            }
            at = entry.end;
        }
    }

    /// Unwires the marked entries of a range, and takes the marks off. Awaits its turn between parts. The caller holds the busy token.
    pub(super) async fn unwire(&self, range: VaRange) {
        let (start, end) = (range.start().as_u64(), range.end().as_u64());
        let mut at = start;
        while let Some(next) = self.unwire_some(at, end) {
            at = next;
            self.uvm.executor().reschedule_if_asked().await;
        }
        self.map
            .write()
            .join(&self.uvm, start.saturating_sub(1), end);
    }

    /// Unwires some pages of the first marked entry that ends after `at`; returns where to go on.
    fn unwire_some(&self, mut at: u64, end: u64) -> Option<u64> {
        let mut map = self.map.write();
        let start = loop {
            let entry = map.tree.from(at).filter(|entry| entry.start < end)?;
            if entry.is_marked() {
                break entry.start;
            }
            at = entry.end;
        };
        // The translation first: what is marked wired is never on a queue.
        map.tree.modify(start, |entry| {
            entry.unwire_some(&self.uvm, |va| self.pmap.unwire(&self.uvm, va));
        });
        Some(at)
    }

    /// Enters the translations of wired pages that are not there, or allow too little: after the mapping was allowed more, or has moved. What
    /// cannot be entered a fault will. Awaits its turn between parts.
    pub(crate) async fn show_wired(&self, range: VaRange) {
        let mut at = range.start().as_u64();
        while let Some(next) = self.show_some(at, range.end().as_u64()) {
            at = next;
            self.uvm.executor().reschedule_if_asked().await;
        }
    }

    /// Enters some translations of the first wired part after `at`; returns where to go on.
    fn show_some(&self, mut at: u64, end: u64) -> Option<u64> {
        let map = self.map.read();
        loop {
            let entry = map.tree.from(at).filter(|entry| entry.start < end)?;
            let from = at.max(entry.start);
            let to = entry.wired_end().min(end).min(from + budget());
            if from < to && !entry.prot.is_empty() {
                match entry.is_device() {
                    true => self.show_device(entry, from, to),
                    false => entry.each_page(from, to, |va, frame| self.show(entry, va, frame)),
                }
                return Some(to);
            }
            at = entry.end;
        }
    }

    fn show_device(&self, entry: &MapEntry, from: u64, to: u64) {
        for va in (from..to).step_by(PAGE_SIZE) {
            if let Some(frame) = entry.device_frame(va) {
                let va = VirtAddr::new_truncate(va);
                // As for pages; but none of a device's is marked wired.
                let _ = self
                    .pmap
                    .enter(&self.uvm, va, frame, entry.prot, EnterFlags::empty());
            }
        }
    }

    fn show(&self, entry: &MapEntry, va: VirtAddr, frame: Frame) {
        let page = self.uvm.page(frame);
        let prot = if page.has(PageFlags::RDONLY) {
            entry.prot - Prot::WRITE
        } else {
            entry.prot
        };
        if !page.is_busy() && !prot.is_empty() {
            // Without memory for it there is one soft fault more.
            let _ = self
                .pmap
                .enter(&self.uvm, va, frame, prot, EnterFlags::WIRED);
        }
    }
}

/// All that a program can map.
fn everything() -> VaRange {
    VaRange::new(VirtAddr::new(USER_MIN), VirtAddr::new(USER_MAX))
}

const fn budget() -> u64 {
    BUDGET * PAGE_SIZE as u64
}

impl MapInner {
    /// Turns the counts of wired entries within `start..end` into marks.
    fn mark_wired(&mut self, start: u64, end: u64) {
        let mut bytes = 0;
        self.change_within(start, end, |entry| {
            bytes += entry.locked();
            if entry.wired > 0 {
                entry.wired = 0;
                entry.wired_to = entry.end;
            }
        });
        self.locked -= bytes;
    }

    /// Turns the marks of entries within `start..end` into counts: their pages are wired. Joins what became alike.
    pub(super) fn count_marked(&mut self, uvm: &Uvm, start: u64, end: u64) {
        let mut bytes = 0;
        self.change_within(start, end, |entry| {
            if entry.is_marked() {
                debug_assert_eq!(entry.wired_end(), entry.end, "wired in part");
                entry.wired = 1;
                entry.wired_to = WIRED_ALL;
                bytes += entry.locked();
            }
        });
        self.locked += bytes;
        self.join(uvm, start.saturating_sub(1), end);
    }
}

impl MapEntry {
    /// Bytes of it that count as locked.
    pub(crate) fn locked(&self) -> u64 {
        if self.wired > 0 {
            self.end - self.start
        } else {
            0
        }
    }

    /// Whether it is being wired or unwired.
    pub(crate) fn is_marked(&self) -> bool {
        self.wired == 0 && self.wired_to != 0
    }

    /// Where its wired part, which begins at its start, ends.
    pub(crate) fn wired_end(&self) -> u64 {
        self.wired_to.clamp(self.start, self.end)
    }

    /// Calls `f` with each resident page in `from..to`, which lies in the entry: its address and frame. Its owner is locked.
    pub(crate) fn each_page(&self, from: u64, to: u64, mut f: impl FnMut(VirtAddr, Frame)) {
        let slots = self.amap.as_ref().map(|amap| amap.lock());
        for at in (from..to).step_by(PAGE_SIZE) {
            let va = VirtAddr::new_truncate(at);
            let anon = slots
                .as_ref()
                .and_then(|slots| slots.anons.get(self.slot_of(at)));
            if let Some(anon) = anon {
                let inner = anon.lock();
                if let Some(frame) = inner.frame {
                    f(va, frame);
                }
            } else if let Some(object) = &self.object {
                let pages = object.lock();
                if let Some(&frame) = pages.frames.get(self.index_of(at).0) {
                    f(va, frame);
                }
            }
        }
    }

    /// Unwires some pages, from the end of the wired part down; whether any are left. `first` is called with the address of each
    /// before. The entry is marked from now on, until none are left.
    pub(crate) fn unwire_some(&mut self, uvm: &Uvm, mut first: impl FnMut(VirtAddr)) -> bool {
        let top = self.wired_end();
        let from = self.start.max(top.saturating_sub(budget()));
        self.each_page(from, top, |va, frame| {
            first(va);
            uvm.unwire_page(frame);
        });
        let left = from > self.start;
        self.wired = 0;
        self.wired_to = if left { from } else { 0 };
        left
    }
}

#[cfg(test)]
mod storm;
#[cfg(test)]
mod tests;
