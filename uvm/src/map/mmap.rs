//! Making a mapping.
//!
//! Owns nothing. Wiring apart, all under the map's write lock, in one go: what a fixed placement meets is gone in the instant that the new is there.

use crate::addr::{PAGE_SHIFT, PageIndex, VaRange, VirtAddr, round_page};
use crate::map::entry::{PageAligned, Role};
use crate::map::tree::{Node, Tree};
use crate::map::wire::Scope;
use crate::map::{Backing, MapEntry, MapRequest, Sharing, USER_MAX, USER_MIN, VmError, VmSpace};
use crate::pool::PoolBox;
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
        if hidden || !self.wires_future.load(Relaxed) {
            return self.map(request);
        }
        // What splitting it off again may need, should it have been joined to its neighbours.
        let blank = || Node::new(MapEntry::blank());
        let entries = &self.uvm.upper.entries;
        let spare = [
            entries.alloc(&self.uvm, blank())?,
            entries.alloc(&self.uvm, blank())?,
        ];
        let at = self.map(request)?;
        let len = round_page(len).unwrap_or(0);
        self.wire_new(VaRange::new(at, at + len), spare).await?;
        Ok(at)
    }

    /// Wires what has just been mapped, or unmaps it.
    async fn wire_new(
        &self,
        range: VaRange,
        spare: [PoolBox<Node<MapEntry>>; 2],
    ) -> Result<(), VmError> {
        let _busy = self.map.busy.lock().await;
        if !self.wires_future.load(Relaxed) {
            return Ok(());
        }
        let Err(error) = self.wire(range, Scope::Accessible).await else {
            return Ok(());
        };
        let mut dead = Tree::new();
        {
            let (start, end) = (range.start().as_u64(), range.end().as_u64());
            let mut map = self.map.write();
            for (at, node) in [start, end].into_iter().zip(spare) {
                map.clip_with(&self.uvm, at, node);
            }
            map.take(start, end, &mut dead);
            self.pmap.remove(&self.uvm, range);
            self.pmap.update(&self.uvm);
        }
        self.bury_slowly(dead).await;
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
        let grows = request.grows;
        self.map_as(request, |top| match grows {
            true => Role::Stack {
                top: PageAligned::new(top),
            },
            false => Role::Plain,
        })
    }

    /// The same, with a role that may depend on the mapping's end.
    pub(super) fn map_as(
        &self,
        request: MapRequest,
        role: impl FnOnce(u64) -> Role,
    ) -> Result<VirtAddr, VmError> {
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
        if request.grows && !(private && object.is_none()) {
            return Err(VmError::Invalid);
        }
        if let Some(object) = object
            .as_ref()
            .filter(|_| request.prot.contains(Prot::EXEC))
        {
            object.mark_text(&self.uvm);
        }
        let mut dead = Tree::new();
        let mut map = self.map.write();
        let top = self.top.load(Relaxed);
        let start = map.place(request.placement, len, request.align, top)?;
        let end = start + len;
        if map.size - map.covered(start, end) + len > self.limits.lock().address_space {
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
            role: role(end),
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
            map.join(&self.uvm, start - 1, end);
        } else {
            map.insert(&self.uvm, entry)?;
        }
        drop(map);
        self.bury(&mut dead);
        Ok(VirtAddr::new(start))
    }
}
