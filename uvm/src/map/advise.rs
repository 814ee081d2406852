//! What a range is expected to be used for, and what of it is not needed, or soon will be.
//!
//! Owns nothing. Attributes of entries are changed under the map's write lock; contents are given up under it as well, a few hundred
//! pages at a time, so that no fault sees one half of a page's end. Reads that are started are nobody's: whoever faults finds them.

use crate::addr::{PAGE_SHIFT, PageIndex, VaRange, VirtAddr};
use crate::amap::Amap;
use crate::io::IO_SLOTS;
use crate::map::{Advice, MapEntry, VmError, VmSpace};
use crate::object::{Behind, Resident, UvmObject};
use crate::pool::Ref;

/// Anons given up, or pages looked at, in one hold of a lock.
const BUDGET: usize = 256;
/// Bytes of address space whose translations are removed in one hold: huge mappings are mostly holes.
const PART: u64 = 1 << 30;

/// Which entries may lose their contents, and how.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Discard {
    /// Whatever is not wired.
    Any,
    /// Private anonymous memory.
    PrivateAnonymous,
}

impl VmSpace {
    /// Sets the expected use of a range. Awaits other modifiers.
    ///
    /// # Errors
    /// [`VmError::Unmapped`] if there is a hole in it, [`VmError::OutOfMemory`].
    pub async fn advise(&self, range: VaRange, advice: Advice) -> Result<(), VmError> {
        self.change(range, |entry| entry.advice = advice).await
    }

    /// Starts to read what of a range is in files and not in memory, and returns without waiting for it (MADV_WILLNEED; UVM has
    /// never had it). A hint: it stops where memory or request slots would get short, and errors of the reads are those of whoever
    /// faults. Awaits at most block numbers, and its turn.
    ///
    /// # Errors
    /// [`VmError::Unmapped`] if there is a hole in the range; what is mapped has been started.
    pub async fn will_need(&self, range: VaRange) -> Result<(), VmError> {
        let (mut at, end) = (range.start().as_u64(), range.end().as_u64());
        let mut result = Ok(());
        while at < end {
            let (next, missing) = {
                let map = self.map.read();
                let Some(entry) = map.tree.from(at).filter(|entry| entry.start < end) else {
                    return Err(VmError::Unmapped);
                };
                if entry.start > at {
                    result = Err(VmError::Unmapped);
                }
                self.missing(entry, at.max(entry.start), end)
            };
            at = next;
            if let Some((object, index)) = missing
                && let Behind::Pager(pager) = object.behind()
            {
                let uvm = self.uvm();
                // Half of the slots are left to those who wait for what they read.
                if !uvm.memory_is_plenty() || uvm.io().free() <= IO_SLOTS / 2 {
                    break;
                }
                // Not kept: the read owns its pages.
                drop(pager.get(uvm, &object, index, Advice::Normal).await);
            }
            self.uvm().executor().reschedule_if_asked().await;
        }
        result
    }

    /// The first page of a file that an access to `entry` from `from` on, below `end`, would have to read, and where to look on.
    fn missing(
        &self,
        entry: &MapEntry,
        from: u64,
        end: u64,
    ) -> (u64, Option<(Ref<UvmObject>, PageIndex)>) {
        let end = end.min(entry.end);
        let filed = |object: &&Ref<UvmObject>| matches!(object.behind(), Behind::Pager(_));
        let Some(object) = entry.object.as_ref().filter(filed) else {
            return (end, None);
        };
        let slots = entry.amap.as_ref().map(|amap| amap.lock());
        let pages = object.lock();
        let part = end.min(from + ((BUDGET as u64) << PAGE_SHIFT));
        let mut va = from;
        while va < part {
            let (here, index) = (va, entry.index_of(va));
            va += 1 << PAGE_SHIFT;
            if index.0 >= object.pages() {
                return (end, None);
            }
            let hidden = slots
                .as_ref()
                .is_some_and(|slots| slots.anons.get(entry.slot_of(here)).is_some());
            if !hidden && matches!(pages.at(self.uvm(), index), Resident::Missing) {
                return (va, Some((object.clone(), index)));
            }
        }
        (part, None)
    }

    /// Gives up what a range holds (MADV_DONTNEED): private memory is zeroes, or the file's contents, from now on; shared mappings only
    /// lose their translations. Awaits other modifiers, and its turn between parts.
    ///
    /// # Errors
    /// [`VmError::Invalid`] at the first entry that is wired, [`VmError::OutOfMemory`] where others look through the same amap and one
    /// of its own, in which to leave them theirs, cannot be had: what comes before has been given up. [`VmError::Unmapped`] if there is
    /// a hole in the range: all that is mapped has been given up.
    pub async fn dont_need(&self, range: VaRange) -> Result<(), VmError> {
        self.discard(range, Discard::Any).await
    }

    /// Says that a range's contents may be lost (MADV_FREE). They are, at once. Awaits as [`Self::dont_need`].
    ///
    /// # Errors
    /// As [`Self::dont_need`]; [`VmError::Invalid`] also for what is not private anonymous memory.
    pub async fn free(&self, range: VaRange) -> Result<(), VmError> {
        self.discard(range, Discard::PrivateAnonymous).await
    }

    async fn discard(&self, range: VaRange, what: Discard) -> Result<(), VmError> {
        let _busy = self.map.busy.lock().await;
        let (mut at, end) = (range.start().as_u64(), range.end().as_u64());
        let mut result = Ok(());
        while at < end {
            match self.discard_some(at, end, what)? {
                Some((from, next)) => {
                    if from > at {
                        result = Err(VmError::Unmapped);
                    }
                    at = next;
                }
                None => return Err(VmError::Unmapped),
            }
            self.uvm().executor().reschedule_if_asked().await;
        }
        result
    }

    /// Gives up a part of the first entry within `at..end`; returns what was done, `None` if there is no entry.
    fn discard_some(
        &self,
        at: u64,
        end: u64,
        what: Discard,
    ) -> Result<Option<(u64, u64)>, VmError> {
        let uvm = self.uvm();
        loop {
            let map = self.map.write();
            let Some(entry) = map.tree.from(at).filter(|entry| entry.start < end) else {
                return Ok(None);
            };
            let private = entry.copy_on_write && entry.object.is_none();
            if entry.wired > 0 || (what == Discard::PrivateAnonymous && !private) {
                return Err(VmError::Invalid);
            }
            let from = at.max(entry.start);
            let mut to = end.min(entry.end).min(from.saturating_add(PART));
            let amap = entry.amap.as_ref().filter(|_| entry.copy_on_write);
            if amap.is_some() && entry.needs_copy {
                // Others look through it, too.
                let start = entry.start;
                drop(map);
                self.own_amap(start)?;
                continue;
            }
            if let Some(amap) = amap {
                to = to.min(budgeted(amap, entry, from));
            }
            // Before the frames are freed, nobody may reach them any more.
            let part = VaRange::new(VirtAddr::new_truncate(from), VirtAddr::new_truncate(to));
            self.pmap().remove(uvm, part);
            self.pmap().update(uvm);
            if let Some(amap) = amap {
                let (slot, len) = (entry.slot_of(from), (to - from) >> PAGE_SHIFT);
                Amap::forget(amap, uvm, slot, len);
            }
            return Ok(Some((from, to)));
        }
    }

    pub(super) async fn change(
        &self,
        range: VaRange,
        f: impl FnMut(&mut MapEntry),
    ) -> Result<(), VmError> {
        let _busy = self.map.busy.lock().await;
        let mut map = self.map.write();
        let (start, end) = (range.start().as_u64(), range.end().as_u64());
        map.covers(start, end, |_| Ok(()))?;
        Ok(map.change(&self.uvm, start, end, f)?)
    }
}

/// How far from `from` on an entry's amap has [`BUDGET`] anons.
fn budgeted(amap: &Amap, entry: &MapEntry, from: u64) -> u64 {
    let slots = amap.lock();
    let first = entry.slot_of(from);
    let after = slots.anons.iter_from(first).nth(BUDGET);
    after.map_or(u64::MAX, |(slot, _)| {
        from.saturating_add((slot - first) << PAGE_SHIFT)
    })
}

#[cfg(test)]
mod tests;
