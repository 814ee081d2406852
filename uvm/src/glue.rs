//! What processes do with whole address spaces: fork, share and exit. And which of their LWPs are put out of memory: [`swapout`].
//!
//! # What this owns
//! Nothing: [`VmSpace`]s are their holders' ([`SpaceRef`]). Operations on single mappings stand in [`crate::map`].
//!
//! # How it synchronises
//! fork holds the parent's busy token from its first entry to its last, and each entry's change is one hold of the map's write
//! lock, or several where wired pages are copied. Plain insertions get between: the child has what was there when it got there. Exit has the space to itself.

mod share;
pub mod swapout;
mod tables;

use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;

pub use share::{Attached, SpaceRef};

#[cfg(doc)]
use crate::Uvm;
use crate::addr::{PAGE_SIZE, PageIndex, VaRange, VirtAddr};
use crate::amap::{Amap, Copying};
use crate::map::space::Heap;
use crate::map::tree::Node;
use crate::map::{Inherit, MapEntry, MapInner, VmError, VmSpace};
use crate::meter::{Counter, Gauge};
use crate::pool::OutOfMemory;
use crate::prot::Prot;

/// Bytes of address space whose translations are removed between two looks at whether someone else should run: 1 GiB, mostly
/// holes.
const PART: u64 = 1 << 30;
/// Anons shared by a fork between two looks; a wired page, which is copied, counts as several.
const COPIES: usize = 256;
/// Entries counted between two looks.
const ENTRIES: u64 = 64;

impl VmSpace {
    /// A copy of the address space for a child, by each mapping's inheritance. Memory is copied when either side writes to
    /// it, but of wired pages at once; the child's are not wired. Awaits other modifiers, and its turn between mappings and their
    /// parts.
    ///
    /// # Errors
    /// [`VmError::OutOfMemory`], and [`VmError::TooLarge`] when memory and swap together could not hold twice what would be shared until it
    /// is written to; the parent is as before (some of its pages may fault once more).
    pub async fn fork(&self) -> Result<Arc<Self>, VmError> {
        let child = Self::new(&self.uvm)?;
        let result = {
            let _busy = self.map.busy.lock().await;
            if !self.fits_twice().await {
                return Err(VmError::TooLarge);
            }
            let (mut at, mut copying) = (0, None);
            loop {
                match self.fork_entry(&child, at, &mut copying) {
                    Ok(Some(next)) => at = next,
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
                self.uvm.executor().reschedule_if_asked().await;
            }
        };
        if let Err(OutOfMemory) = result {
            self.uvm.wake_pagedaemon();
            child.teardown().await;
            return Err(VmError::OutOfMemory);
        }
        // Two of a kind are never locked together.
        let heap = *self.heap.lock();
        *child.heap.lock() = heap;
        child.set_limits(self.limits());
        child.top.store(self.top.load(Relaxed), Relaxed);
        self.uvm.count(Counter::Forks);
        Ok(child)
    }

    /// Whether all that a child would share until it is written to could be there twice. Says no only to what never can be: it depends on how
    /// much memory and swap there is, not on what is free just now. Awaits its turn between parts.
    async fn fits_twice(&self) -> bool {
        let uvm = &self.uvm;
        let room = uvm.pages().managed() as u64 + uvm.meter().gauge(Gauge::Swpages);
        // What is surely not too much is not counted page by page.
        for exactly in [false, true] {
            let (mut copied, mut at, mut looks) = (0, Some(0), 0);
            while let Some(from) = at {
                at = self.map.read().copied_from(from, exactly, &mut copied);
                looks += 1;
                if exactly || looks % ENTRIES == 0 {
                    uvm.executor().reschedule_if_asked().await;
                }
            }
            if copied <= room / 2 {
                return true;
            }
        }
        false
    }

    /// Gives the child what it inherits of the first entry that ends after `at`, from there on; returns where to go on: at that
    /// entry's end, or once more at its start if it needs an amap of its own first, or `copying` has it only in part.
    fn fork_entry(
        &self,
        child: &Self,
        at: u64,
        copying: &mut Option<Copying>,
    ) -> Result<Option<u64>, OutOfMemory> {
        let uvm = &self.uvm;
        let mut map = self.map.write();
        let Some(entry) = map.tree.from(at) else {
            return Ok(None);
        };
        let (start, end) = (entry.start.max(at), entry.end);
        let inherit = entry.inheritance();
        match inherit {
            Inherit::None => return Ok(Some(end)),
            Inherit::Share if entry.needs_copy => {
                // Both must show the same amap, so it must exist and be the parent's own.
                drop(map);
                self.own_amap(start)?;
                return Ok(Some(start));
            }
            _ => {}
        }
        // All that can fail comes first.
        let mut node = uvm.upper.entries.alloc(uvm, Node::new(entry.bare()))?;
        // A mapping made since may have joined this one to what the child has already.
        map.clip(uvm, start)?;
        let Some(heir) = self.heir(&mut map, start, inherit, copying)? else {
            return Ok(Some(start));
        };
        drop(map);
        *node.value_mut() = heir;
        child.map.write().insert_node(node);
        Ok(Some(end))
    }

    /// What someone else gets of the entry that begins at `start`, which is there: an entry that is in no map yet, holds its
    /// references, and is not wired. A copy write-protects what it is of, or, where that must not be
    /// ([`MapEntry::copies_at_once`]), is made at once: then `None` says that `copying` has it in part, and the caller comes again.
    ///
    /// # Errors
    /// [`OutOfMemory`]; nothing has changed.
    pub(crate) fn heir(
        &self,
        map: &mut MapInner,
        start: u64,
        inherit: Inherit,
        copying: &mut Option<Copying>,
    ) -> Result<Option<MapEntry>, OutOfMemory> {
        let uvm = &self.uvm;
        let entry = map.tree.find(start).map(Node::value).ok_or(OutOfMemory)?;
        let (range, prot) = (entry.range(), entry.prot);
        let mut copy = MapEntry {
            object: entry.object.clone(),
            wired: 0,
            wired_to: 0,
            ..entry.bare()
        };
        let mut protect = false;
        match (inherit, &entry.amap) {
            (Inherit::Zero, _) => {
                copy.object = None;
                copy.offset = PageIndex(0);
                copy.slot = 0;
                copy.copy_on_write = true;
                copy.needs_copy = true;
            }
            (_, None) => {
                if inherit == Inherit::Copy {
                    copy.copy_on_write = true;
                    copy.needs_copy = true;
                }
            }
            (Inherit::Share, Some(amap)) => {
                copy.amap = Some(Amap::share(amap, uvm, entry.slot, entry.pages()));
            }
            (_, Some(amap)) if entry.copies_at_once() => {
                let slots = entry.slots();
                let mut part = match copying.take() {
                    // Nothing but this operation could share or wire what has replaced the entry.
                    Some(part) if part.is_of(amap, &slots) => part,
                    _ => Copying::new(amap, uvm, slots)?,
                };
                if !part.advance(amap, uvm, COPIES)? {
                    *copying = Some(part);
                    return Ok(None);
                }
                uvm.count(Counter::FltAmcopy);
                copy.amap = Some(part.finish());
                copy.copy_on_write = true;
                copy.needs_copy = false;
            }
            (_, Some(amap)) => {
                copy.amap = Some(Amap::reference(amap, uvm, entry.slot, entry.pages()));
                copy.copy_on_write = true;
                copy.needs_copy = true;
                // Once: an entry that needs a copy already has no writable translation.
                protect = !entry.needs_copy;
            }
        }
        if protect {
            self.pmap.protect(uvm, range, prot - Prot::WRITE);
            self.pmap.update(uvm);
            map.tree.modify(start, |entry| entry.needs_copy = true);
        }
        Ok(Some(copy))
    }

    /// Removes everything, as exec and exit do: on return all memory is free. No other thread uses the space. Awaits
    /// its turn between parts. The page tables go with the last reference.
    pub async fn teardown(&self) {
        self.forget_recent();
        self.dying.store(true, Relaxed);
        let _busy = self.map.busy.lock().await;
        let dead = {
            let mut map = self.map.write();
            (map.size, map.locked) = (0, 0);
            core::mem::take(&mut map.tree)
        };
        // Translations first, in parts: nobody can make new ones, there is no entry for them.
        let mut at = 0;
        while let Some((start, end)) = dead.from(at).map(|entry| (entry.start.max(at), entry.end)) {
            // A part is at most what one page table maps: huge mappings are mostly holes.
            at = end.min(crate::addr::trunc_page(start) + PART);
            self.pmap.remove(
                &self.uvm,
                VaRange::new(VirtAddr::new(start), VirtAddr::new(at)),
            );
            self.pmap.update(&self.uvm);
            self.uvm.executor().reschedule_if_asked().await;
        }
        self.bury_slowly(dead).await;
        self.pmap.collect(&self.uvm);
        self.pmap.update(&self.uvm);
        self.wires_future.store(false, Relaxed);
        *self.heap.lock() = Heap { start: 0, end: 0 };
        self.dying.store(false, Relaxed);
    }
}

impl MapInner {
    /// Counts, in the first entry that ends after `at`, the pages that a child would share until they are written to: `exactly` those of a
    /// part of it, or at most those of all of it. Returns where to go on.
    fn copied_from(&self, at: u64, exactly: bool, copied: &mut u64) -> Option<u64> {
        let entry = self.tree.from(at)?;
        let (from, to) = (entry.start.max(at), entry.end);
        let Some(amap) = (entry.inheritance() == Inherit::Copy)
            .then_some(entry.amap.as_ref())
            .flatten()
        else {
            return Some(to);
        };
        if exactly {
            let part = self.part(at)?;
            *copied += part.anons(&amap.lock()).count() as u64;
            return Some(part.to);
        }
        *copied += (amap.lock().anons.len() as u64).min((to - from) / PAGE_SIZE as u64);
        Some(to)
    }
}

#[cfg(test)]
mod tests;
