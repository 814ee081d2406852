//! Removing mappings, and giving up what removed entries referred to.
//!
//! Owns nothing. Entries, translations and stale TLB entries go under the map's write lock; wirings, amaps and objects after it, by a
//! budget.

use crate::addr::VaRange;
use crate::amap::Amap;
use crate::map::tree::Tree;
use crate::map::{MapEntry, VmError, VmSpace};

/// Pages or entries worked on between two looks at whether someone else should run.
const BUDGET: usize = 256;

impl VmSpace {
    /// Gives up what removed entries refer to, all at once.
    pub(crate) fn bury(&self, dead: &mut Tree<MapEntry>) {
        while let Some(at) = dead.from(0).map(|entry| entry.start) {
            let Some(mut node) = dead.remove(at) else {
                break;
            };
            let entry = node.value_mut();
            while entry.unwire_some(&self.uvm, |_| {}) {}
            let (slot, len) = (entry.slot, entry.pages());
            if let Some(amap) = entry.amap.take() {
                Amap::unreference(amap, &self.uvm, slot, len);
            }
        }
    }

    /// The same, letting others run in between.
    pub(crate) async fn bury_slowly(&self, mut dead: Tree<MapEntry>) {
        while let Some(at) = dead.from(0).map(|entry| entry.start) {
            let Some(mut node) = dead.remove(at) else {
                break;
            };
            let entry = node.value_mut();
            while entry.unwire_some(&self.uvm, |_| {}) {
                self.uvm.executor().reschedule_if_asked().await;
            }
            let (slot, len) = (entry.slot, entry.pages());
            if let Some(amap) = entry.amap.take() {
                while Amap::release_some(&amap, &self.uvm, BUDGET) {
                    self.uvm.executor().reschedule_if_asked().await;
                }
                Amap::unreference(amap, &self.uvm, slot, len);
            }
            drop(node);
            self.uvm.executor().reschedule_if_asked().await;
        }
    }

    /// Removes all mappings in a range; holes in it do not matter. Awaits other modifiers, and its turn between parts.
    ///
    /// # Errors
    /// [`VmError::OutOfMemory`] if a mapping would have to be split and cannot; nothing has changed then.
    pub async fn unmap(&self, range: VaRange) -> Result<(), VmError> {
        let _busy = self.map.busy.lock().await;
        self.unmap_busy(range).await
    }

    /// The same for who has the map busy.
    pub(super) async fn unmap_busy(&self, range: VaRange) -> Result<(), VmError> {
        if range.is_empty() {
            // Else it would split a mapping.
            return Ok(());
        }
        let mut dead = Tree::new();
        {
            let mut map = self.map.write();
            map.remove(
                &self.uvm,
                range.start().as_u64(),
                range.end().as_u64(),
                &mut dead,
            )?;
            if !dead.is_empty() {
                self.pmap.remove(&self.uvm, range);
                self.pmap.update(&self.uvm);
            }
        }
        self.bury_slowly(dead).await;
        Ok(())
    }
}
