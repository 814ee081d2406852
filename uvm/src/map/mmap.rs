//! Making a mapping.
//!
//! Owns nothing. Wiring apart, all under the map's write lock, in one go: what a fixed placement meets is gone in the instant that the new is there.

use crate::addr::{PAGE_SHIFT, PageIndex, VaRange, VirtAddr, round_page};
use crate::map::tree::{Node, Tree};
use crate::map::wire::Scope;
use crate::map::{Backing, MapEntry, MapRequest, Sharing, USER_MAX, USER_MIN, VmError, VmSpace};
use crate::prot::Prot;
use core::sync::atomic::Ordering::Relaxed;

impl VmSpace {
    /// Makes a mapping and returns where it is; wires it if the space wires what is mapped ([`Self::mlockall`]) and it allows any access.
    /// For that alone it awaits, as [`Self::mlock`] does.
    ///
    /// # Errors
    /// As [`Self::map`], and nothing has changed then. If it cannot be wired, [`VmError::Limit`] or [`VmError::OutOfMemory`]; the
    /// mapping is gone again then, and so is what a fixed placement met.
    pub async fn mmap(&self, request: MapRequest) -> Result<VirtAddr, VmError> {
        let (len, hidden) = (request.len as u64, request.prot.is_empty());
        let at = self.map(request)?;
        if self.wires_future.load(Relaxed) && !hidden {
            let len = round_page(len).unwrap_or(0);
            self.wire_new(VaRange::new(at, at + len)).await?;
        }
        Ok(at)
    }

    /// Wires what has just been mapped, or unmaps it.
    async fn wire_new(&self, range: VaRange) -> Result<(), VmError> {
        let _busy = self.map.busy.lock().await;
        if !self.wires_future.load(Relaxed) {
            return Ok(());
        }
        let Err(error) = self.wire(range, Scope::Accessible).await else {
            return Ok(());
        };
        // Not enough memory even to split what it has been joined to: it stays, and is not wired.
        let _ = self.unmap_busy(range).await;
        match error {
            VmError::Limit => Err(VmError::Limit),
            _ => Err(VmError::OutOfMemory),
        }
    }

    /// Makes a mapping and returns where it is. Never waits, and so does not wire it, whatever [`Self::mlockall`] has asked for: for
    /// callers that cannot wait; others use [`Self::mmap`]. With [`crate::map::Placement::Fixed`] what was there is gone
    /// in the same instant.
    ///
    /// # Errors
    /// [`VmError::Invalid`] (also: a private mapping of a device), [`VmError::Exists`], [`VmError::OutOfMemory`] (also: no room), [`VmError::Limit`],
    /// [`VmError::Protection`] for a shared writable mapping of what cannot be written. Nothing has changed then.
    pub fn map(&self, request: MapRequest) -> Result<VirtAddr, VmError> {
        let len =
            round_page(request.len as u64).filter(|&len| len > 0 && len <= USER_MAX - USER_MIN);
        let len = len.ok_or(VmError::Invalid)?;
        let mut max_prot = request.max_prot;
        let (object, offset) = match request.backing {
            Backing::Anonymous => (None, PageIndex(0)),
            Backing::Object { object, offset } => {
                match request.sharing {
                    Sharing::Private if object.is_device() => return Err(VmError::Invalid),
                    Sharing::Shared if !object.is_writable() => max_prot.remove(Prot::WRITE),
                    _ => {}
                }
                offset
                    .0
                    .checked_add(len >> PAGE_SHIFT)
                    .ok_or(VmError::Invalid)?;
                (Some(object), offset)
            }
        };
        if !max_prot.contains(request.prot) {
            return Err(VmError::Protection);
        }
        let private = request.sharing == Sharing::Private;
        let mut dead = Tree::new();
        let mut map = self.map.write();
        let start = map.place(request.placement, len, self.top.load(Relaxed))?;
        let end = start + len;
        if map.size.saturating_add(len) > self.limits.lock().address_space {
            return Err(VmError::Limit);
        }
        let entry = MapEntry {
            start,
            end,
            // Anonymous memory gets its amap with the first touch; so does what is written privately.
            needs_copy: private || object.is_none(),
            object,
            offset,
            amap: None,
            slot: 0,
            prot: request.prot,
            max_prot,
            inherit: request.inherit,
            advice: request.advice,
            copy_on_write: private,
            wired: 0,
            wired_to: 0,
        };
        if map.tree.overlaps(start, end) {
            // The new entry's memory first: what is removed cannot be put back.
            let node = self.uvm.upper.entries.alloc(&self.uvm, Node::new(entry))?;
            map.remove(&self.uvm, start, end, &mut dead)?;
            self.pmap.remove(
                &self.uvm,
                VaRange::new(VirtAddr::new(start), VirtAddr::new(end)),
            );
            self.pmap.update(&self.uvm);
            map.insert_node(node);
        } else {
            map.insert(&self.uvm, entry)?;
        }
        drop(map);
        self.bury(&mut dead);
        Ok(VirtAddr::new(start))
    }
}
