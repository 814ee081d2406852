//! What a range allows.
//!
//! Owns nothing. Takes rights away from translations under the map's write lock. What is new is entered by the faults that ask for it, with
//! two exceptions: wired pages, which shall not fault, and writes to anonymous pages that are mapped and nobody else's, of which it is plain
//! that they may be written. (That a page is dirty is what the hardware notes in its translations: writing needs no fault for that.)

use core::sync::atomic::Ordering::Relaxed;

use crate::addr::{PAGE_SHIFT, VaRange, VirtAddr};
use crate::map::wire::Scope;
use crate::map::{MapEntry, MapInner, VmError, VmSpace};
use crate::pool::Ref;
use crate::prot::Prot;

/// Pages whose translations are widened in one hold of the locks.
const BUDGET: u64 = 512;

/// Whether a range is mapped without holes and may allow `prot`.
fn may_allow(map: &MapInner, range: VaRange, prot: Prot) -> Result<(), VmError> {
    let (start, end) = (range.start().as_u64(), range.end().as_u64());
    map.covers(start, end, |entry| match entry.max_prot.contains(prot) {
        true => Ok(()),
        false => Err(VmError::Protection),
    })
}

impl VmSpace {
    /// Sets what a range allows. Wires what allowed nothing before, if the space wires what is mapped ([`Self::mlockall`]). Awaits other
    /// modifiers; to wire, as [`Self::mlock`] does.
    ///
    /// # Errors
    /// [`VmError::Unmapped`] if there is a hole in it, [`VmError::Protection`] beyond a maximum protection,
    /// [`VmError::OutOfMemory`]; what [`Self::mlock`] answers if it cannot be wired. Nothing has changed then.
    pub async fn protect(&self, range: VaRange, prot: Prot) -> Result<(), VmError> {
        let _busy = self.map.busy.lock().await;
        let wires = self.wires_future.load(Relaxed) && !prot.is_empty();
        if wires {
            // First, because it may fail; nobody sees it while nothing is allowed.
            may_allow(&self.map.read(), range, prot)?;
            self.mark(range, Scope::Hidden)?;
            self.wire_marked(range).await?;
        }
        let changed = self.set_prot(range, prot);
        if changed.is_err() {
            // Only what has been marked for it above.
            self.unwire(range).await;
        }
        if changed? {
            self.widen(range).await;
        }
        self.show_wired(range).await;
        Ok(())
    }

    /// Whether there is now something that may be written and could only be read before.
    fn set_prot(&self, range: VaRange, prot: Prot) -> Result<bool, VmError> {
        let mut map = self.map.write();
        let (start, end) = (range.start().as_u64(), range.end().as_u64());
        may_allow(&map, range, prot)?;
        let (mut before, mut wider) = (Prot::empty(), false);
        map.change(&self.uvm, start, end, |entry| {
            before |= entry.prot;
            wider |= prot.contains(Prot::WRITE)
                && !entry.prot.is_empty()
                && !entry.prot.contains(Prot::WRITE);
            entry.prot = prot;
            if let Some(object) = entry.object.as_ref().filter(|_| prot.contains(Prot::EXEC)) {
                object.mark_text(&self.uvm);
            }
        })?;
        map.count_marked(&self.uvm, start, end);
        // A translation never allows more than its entry.
        if !prot.contains(before) {
            self.pmap.protect(&self.uvm, range, prot);
            self.pmap.update(&self.uvm);
        }
        Ok(wider)
    }

    /// Lets anonymous pages that are mapped in a range be written, where no write need copy anything or wait. Awaits its turn between
    /// parts. The caller has the map busy.
    async fn widen(&self, range: VaRange) {
        let (mut at, end) = (range.start().as_u64(), range.end().as_u64());
        while at < end
            && let Some(next) = self.widen_some(at, end)
        {
            at = next;
            self.uvm.executor().reschedule_if_asked().await;
        }
    }

    /// A part of it: of the first entry that ends after `at`, which is below `end`; returns where to go on.
    fn widen_some(&self, at: u64, end: u64) -> Option<u64> {
        let map = self.map.read();
        let entry = map.tree.from(at).filter(|entry| entry.start < end)?;
        let from = at.max(entry.start);
        let to = end.min(entry.end);
        if !entry.is_written_in_place() {
            return Some(to);
        }
        let to = to.min(from + (BUDGET << PAGE_SHIFT));
        if let Some(amap) = &entry.amap {
            let slots = amap.lock();
            let range = VaRange::new(VirtAddr::new(from), VirtAddr::new(to));
            let mut around = slots.anons.around();
            self.pmap.allow_writes(&self.uvm, range, |va, frame| {
                // As a fault would; who has the anon locked may be about to change something.
                let anon = around.get(entry.slot_of(va.as_u64()))?;
                let inner = (Ref::count(anon) == 1).then(|| anon.try_lock())??;
                (inner.writable(&self.uvm) == Some(frame)).then_some(inner)
            });
        }
        Some(to)
    }
}

impl MapEntry {
    /// Whether a write to an anonymous page of it that is nobody else's needs nothing but a translation, and that is left to faults.
    fn is_written_in_place(&self) -> bool {
        self.prot.contains(Prot::WRITE) && !self.needs_copy && self.wired_to == 0
    }
}
