//! The wire fault: brings pages in as a write at maximum protection would, and wires them.
//!
//! # What this owns
//! Nothing. It raises the wire counts of pages and says so in their entry ([`MapEntry::wired_to`]), in one hold of the map's write
//! lock: whoever removes the entry finds which of its pages are wired.
//!
//! # How it works
//! In order of addresses, from where the entry's wired part ends, as in UVM's `uvm_fault_wire`. Private pages become anons of
//! their own (cases 1B and 2B, whatever the mapping allows now or ever): so they never change identity while they are wired, and a
//! debugger's write to the file or to a relative's memory passes them by. A shared mapping wires the object's page, or the
//! anon in the shared amap. Translations are entered, marked wired, where the mapping allows anything.

use super::cases::Fault;
use super::{Attempt, FaultError, Pass};
use crate::addr::{Frame, PAGE_SIZE, VaRange, VirtAddr};
use crate::map::{MapEntry, VmSpace};
use crate::meter::Gauge;
use crate::pmap::EnterFlags;
use crate::pool::OutOfMemory;
use crate::prot::{Access, Prot};

/// Pages wired in one hold of the map's lock.
const BUDGET: u64 = 16;

impl VmSpace {
    /// Wires one page or more from `va` on, where the wired part of a marked entry ends; does nothing if that has changed. Awaits
    /// reads, busy pages and free frames, with nothing locked; the caller holds the busy token of the map.
    ///
    /// # Errors
    /// [`FaultError`]; what was wired before stays so.
    pub(crate) async fn fault_wire(&self, va: u64) -> Result<(), FaultError> {
        self.fault_until(va, None, || self.wire_pass(va)).await
    }

    /// One pass. Never waits.
    fn wire_pass(&self, from: u64) -> Attempt {
        let mut map = self.map.write();
        let Some(entry) = map.tree.find(from).map(|node| node.value()) else {
            return Attempt::Done;
        };
        if !entry.is_marked() || entry.wired_end() != from {
            return Attempt::Done;
        }
        if entry.needs_copy {
            return Attempt::NeedAmap;
        }
        let (start, end) = (entry.start, entry.end);
        let end = end.min(from + BUDGET * PAGE_SIZE as u64);
        let mut va = from;
        let mut attempt = Attempt::Done;
        while va < end && matches!(attempt, Attempt::Done) {
            attempt = Fault {
                space: self,
                uvm: self.uvm(),
                entry,
                va,
                prot: Prot::ALL,
                access: wire_access(entry),
                pass: Pass::Wire,
            }
            .resolve();
            if matches!(attempt, Attempt::Done) {
                va += PAGE_SIZE as u64;
            }
        }
        if va == from {
            return attempt;
        }
        map.tree.modify(start, |entry| entry.wired_to = va);
        Attempt::Done
    }
}

/// The access that makes an entry's page what it must be before it is wired.
fn wire_access(entry: &MapEntry) -> Access {
    let own = entry.copy_on_write || entry.object.is_none();
    if own || entry.max_prot.contains(Prot::WRITE) {
        Access::Write
    } else {
        Access::Read
    }
}

impl Fault<'_> {
    /// How the translation of an address is entered besides: wired, where the entry has the page wired.
    #[inline]
    pub(super) fn wired_flag(&self, va: u64) -> EnterFlags {
        if va < self.entry.wired_to {
            EnterFlags::WIRED
        } else {
            EnterFlags::empty()
        }
    }

    /// Ends a pass over an entry that is wired, or being wired.
    #[cold]
    #[inline(never)]
    pub(super) fn enter_wired(&self, frame: Frame, prot: Prot, flags: EnterFlags) -> Attempt {
        if self.pass == Pass::Wire {
            return self.wire(frame, prot & self.entry.prot);
        }
        let va = VirtAddr::new_truncate(self.va);
        let flags = flags | self.wired_flag(self.va);
        match self.space.pmap().enter(self.uvm, va, frame, prot, flags) {
            Ok(()) => Attempt::Done,
            Err(OutOfMemory) => Attempt::NeedMemory,
        }
    }

    /// Wires the page that the fault has found or made. Its owner is locked.
    fn wire(&self, frame: Frame, prot: Prot) -> Attempt {
        let (uvm, meter) = (self.uvm, self.uvm.meter());
        let too_many = uvm.page(frame).wire_count() == 0
            && meter.gauge(Gauge::Wired) >= meter.gauge(Gauge::Wiredmax);
        if too_many || uvm.wire_page(frame).is_err() {
            self.hide();
            return Attempt::Error(FaultError::OutOfMemory);
        }
        if prot.is_empty() {
            return Attempt::Done;
        }
        let va = VirtAddr::new_truncate(self.va);
        let pmap = self.space.pmap();
        match pmap.enter(uvm, va, frame, prot, EnterFlags::WIRED) {
            Ok(()) => Attempt::Done,
            Err(OutOfMemory) => {
                uvm.unwire_page(frame);
                self.hide();
                Attempt::NeedMemory
            }
        }
    }

    /// Takes the translation away: it may still show the page that the wired one should have replaced.
    fn hide(&self) {
        let page = VaRange::of_pages(VirtAddr::new_truncate(self.va), 1);
        self.space.pmap().remove(self.uvm, page);
        self.space.pmap().update(self.uvm);
    }
}

#[cfg(test)]
mod tests;
