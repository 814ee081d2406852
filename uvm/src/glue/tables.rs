//! The page tables of a process of which all LWPs are out: put away as a whole, and made again when the first comes in.
//!
//! Owns nothing. Pages stay with their anons and objects, where the pagedaemon takes them in time; translations are a cache of those. The space can be
//! used as ever meanwhile, by a debugger or by fork: the first fault makes the tables again ([`crate::pmap`]).

use crate::addr::{VaRange, VirtAddr, trunc_page};
use crate::map::VmSpace;
use crate::page::freelist::AllocFor;
use crate::pmap::TablesStay;
use crate::pool::OutOfMemory;

use super::PART;

impl VmSpace {
    /// Puts all page tables away, the top one included. For a space of which all LWPs are out; this CPU leaves it. Awaits its turn between parts.
    ///
    /// # Errors
    /// [`TablesStay`]; some translations may be gone then, which faults bring back.
    pub async fn put_tables_away(&self) -> Result<(), TablesStay> {
        self.forget_recent();
        let mut at = 0;
        while let Some(next) = self.unmap_part(at)? {
            at = next;
            self.uvm.executor().reschedule_if_asked().await;
        }
        self.deactivate();
        // Nothing is mapped meanwhile.
        let _map = self.map.write();
        self.pmap.put_away(&self.uvm)
    }

    /// Removes the translations of a part of the first mapping that ends after `at`; where to go on.
    fn unmap_part(&self, at: u64) -> Result<Option<u64>, TablesStay> {
        let map = self.map.write();
        let Some(entry) = map.tree.from(at) else {
            return Ok(None);
        };
        // A device's translations are not marked wired, and must stay as well; so must those that a wiring under way has made.
        if map.locked > 0 || entry.wired_to > 0 {
            return Err(TablesStay::Wired);
        }
        let start = entry.start.max(at);
        let end = entry.end.min(trunc_page(start) + PART);
        let range = VaRange::new(VirtAddr::new(start), VirtAddr::new(end));
        self.pmap.remove(&self.uvm, range);
        self.pmap.update(&self.uvm);
        Ok(Some(end))
    }

    /// Makes the top page table again, if it is put away: before somebody runs in the space. Never waits. On behalf of `who`, see
    /// [`crate::uarea::Residence::bring_in`].
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn make_tables(&self, who: AllocFor) -> Result<(), OutOfMemory> {
        self.pmap.make_tables(&self.uvm, who)
    }
}

#[cfg(test)]
mod tests;
