//! Address spaces as processes use them: made, forked, changed, torn down.
//!
//! # What this owns
//! [`VmSpace`]: a map, the pmap under it, and where the heap ends. Several threads, and a vfork child, hold the same one.
//!
//! # How it synchronises
//! By the map's lock and busy token (see [`crate::map`]). What removes or tightens does entries, translations and stale TLB
//! entries in one go under the map's write lock, so that no fault can bring an old state back; only then, unlocked, it gives
//! up amaps and objects, whose pages nobody can reach any more. No wait is needed for pages under I/O: the request holds
//! its own reference to them.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use arrayvec::ArrayVec;

use executor::sync::SpinLock;

use crate::Uvm;
use crate::addr::{PAGE_SHIFT, PAGE_SIZE, PageIndex, VaRange, VirtAddr, round_page};
use crate::amap::Amap;
use crate::fault::FaultError;
use crate::map::tree::{Node, Tree};
use crate::map::{
    Advice, Backing, Inherit, MapEntry, MapRequest, Placement, Region, Sharing, USER_MAX, USER_MIN,
    VmError, VmMap,
};
use crate::meter::Counter;
use crate::object::PageHold;
use crate::page::PageAttrs;
use crate::page::freelist::AllocFor;
use crate::pmap::Pmap;
use crate::pool::{OutOfMemory, Ref};
use crate::prot::{Access, Prot};

/// Pages or entries worked on between two looks at whether someone else should run.
const BUDGET: usize = 256;
/// Bytes of address space whose translations are removed between two such looks: 1 GiB, mostly holes.
const PART: u64 = 1 << 30;

/// Pages just waited for that are exempt from eviction: one instruction may need six (rule 11 of awaiting).
const RECENT: usize = 8;

/// How far an address space may grow, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// All mappings together (RLIMIT_AS).
    pub address_space: u64,
    /// The heap (RLIMIT_DATA).
    pub data: u64,
}

impl Limits {
    /// None but the size of the user half.
    pub const UNLIMITED: Self = Self {
        address_space: u64::MAX,
        data: u64::MAX,
    };
}

struct Heap {
    start: u64,
    end: u64,
}

/// An address space.
pub struct VmSpace {
    pub(crate) map: VmMap,
    pmap: Ref<Pmap>,
    heap: SpinLock<Heap>,
    limits: SpinLock<Limits>,
    /// Mappings are placed below this address.
    top: AtomicU64,
    /// Pages that threads waited for lately, while memory is short.
    recent: SpinLock<ArrayVec<PageHold, RECENT>>,
    has_recent: AtomicBool,
    /// In the middle of [`VmSpace::teardown`].
    dying: AtomicBool,
    /// Last: what is above lies in its memory.
    uvm: Arc<Uvm>,
}

impl VmSpace {
    /// An empty address space. Never waits.
    ///
    /// # Errors
    /// [`VmError::OutOfMemory`].
    pub fn new(uvm: &Arc<Uvm>) -> Result<Arc<Self>, VmError> {
        // `Arc::new` cannot fail cleanly, so look first.
        if !uvm.can_allocate(AllocFor::User, 1) {
            uvm.wake_pagedaemon();
            return Err(VmError::OutOfMemory);
        }
        let pmap = Pmap::new(uvm)?;
        let space = Arc::new(Self {
            uvm: uvm.clone(),
            map: VmMap::new(),
            pmap,
            heap: SpinLock::new(Heap { start: 0, end: 0 }),
            limits: SpinLock::new(Limits::UNLIMITED),
            top: AtomicU64::new(USER_MAX),
            recent: SpinLock::new(ArrayVec::new()),
            has_recent: AtomicBool::new(false),
            dying: AtomicBool::new(false),
        });
        uvm.list_space(&space)?;
        Ok(space)
    }

    /// The system that it belongs to.
    #[inline]
    #[must_use]
    pub fn uvm(&self) -> &Arc<Uvm> {
        &self.uvm
    }

    /// Its translations.
    #[inline]
    #[must_use]
    pub fn pmap(&self) -> &Ref<Pmap> {
        &self.pmap
    }

    /// Its map.
    #[must_use]
    pub fn vm_map(&self) -> &VmMap {
        &self.map
    }

    /// Makes it the address space of this CPU, unless it is. For the start of each poll.
    #[inline]
    pub fn activate(&self) {
        self.uvm.pmap_activate(&self.pmap);
    }

    /// Leaves it, if this CPU is in it. Before [`Self::teardown`].
    pub fn deactivate(&self) {
        self.uvm.pmap_deactivate(&self.pmap);
    }

    /// Exempts a page that a thread has just waited for from eviction, while memory is short: else it might be gone
    /// before the instruction that needs it, and others, can run.
    pub(crate) fn remember(&self, page: Option<PageHold>) {
        let Some(page) = page else { return };
        if self.uvm.memory_is_plenty() && !self.uvm.torture_evict() {
            return;
        }
        let mut recent = self.recent.lock();
        let oldest = recent.is_full().then(|| recent.remove(0));
        recent.push(page);
        self.has_recent.store(true, Relaxed);
        drop(recent);
        drop(oldest);
    }

    /// A thread has got further in ring 3 than the instruction that faulted, or has ended its copy: pages it waited for may be
    /// evicted again. Cheap when there are none.
    #[inline]
    pub fn made_progress(&self) {
        if self.has_recent.load(Relaxed) {
            self.forget_recent();
        }
    }

    #[cold]
    fn forget_recent(&self) {
        let recent = {
            self.has_recent.store(false, Relaxed);
            core::mem::take(&mut *self.recent.lock())
        };
        drop(recent);
    }

    /// How far it may grow.
    #[must_use]
    pub fn limits(&self) -> Limits {
        *self.limits.lock()
    }

    /// Sets how far it may grow. What is there stays.
    pub fn set_limits(&self, limits: Limits) {
        *self.limits.lock() = limits;
    }

    /// Mappings that may go anywhere go below `top` from now on (where the stack's reserve begins).
    pub fn set_top(&self, top: VirtAddr) {
        self.top.store(top.as_u64().min(USER_MAX), Relaxed);
    }

    /// Makes a mapping and returns where it is. Never waits. With [`Placement::Fixed`] what was there is gone
    /// in the same instant.
    ///
    /// # Errors
    /// [`VmError::Invalid`], [`VmError::Exists`], [`VmError::OutOfMemory`] (also: no room), [`VmError::Limit`],
    /// [`VmError::Protection`] for a shared writable mapping of what cannot be written. Nothing has changed then.
    pub fn map(&self, request: MapRequest) -> Result<VirtAddr, VmError> {
        let len =
            round_page(request.len as u64).filter(|&len| len > 0 && len <= USER_MAX - USER_MIN);
        let len = len.ok_or(VmError::Invalid)?;
        let mut max_prot = request.max_prot;
        let (object, offset) = match request.backing {
            Backing::Anonymous => (None, PageIndex(0)),
            Backing::Object { object, offset } => {
                if request.sharing == Sharing::Shared && !object.is_anonymous() {
                    // Nobody writes files back yet.
                    max_prot.remove(Prot::WRITE);
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

    /// Gives up what removed entries refer to, all at once.
    fn bury(&self, dead: &mut Tree<MapEntry>) {
        while let Some(at) = dead.from(0).map(|entry| entry.start) {
            let Some(mut node) = dead.remove(at) else {
                break;
            };
            let entry = node.value_mut();
            let (slot, len) = (entry.slot, entry.pages());
            if let Some(amap) = entry.amap.take() {
                Amap::unreference(amap, &self.uvm, slot, len);
            }
        }
    }

    /// The same, letting others run in between.
    async fn bury_slowly(&self, mut dead: Tree<MapEntry>) {
        while let Some(at) = dead.from(0).map(|entry| entry.start) {
            let Some(mut node) = dead.remove(at) else {
                break;
            };
            let entry = node.value_mut();
            let (slot, len) = (entry.slot, entry.pages());
            if let Some(amap) = entry.amap.take() {
                while Amap::release_some(&amap, BUDGET) {
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

    /// Sets what a range allows. Awaits other modifiers.
    ///
    /// # Errors
    /// [`VmError::Unmapped`] if there is a hole in it, [`VmError::Protection`] beyond a maximum protection,
    /// [`VmError::OutOfMemory`]. Nothing has changed then.
    pub async fn protect(&self, range: VaRange, prot: Prot) -> Result<(), VmError> {
        let _busy = self.map.busy.lock().await;
        let mut map = self.map.write();
        let (start, end) = (range.start().as_u64(), range.end().as_u64());
        map.covers(start, end, |entry| match entry.max_prot.contains(prot) {
            true => Ok(()),
            false => Err(VmError::Protection),
        })?;
        map.change(&self.uvm, start, end, |entry| entry.prot = prot)?;
        // Only takes rights away: what is new is entered by the faults that ask for it, which know about copies.
        self.pmap.protect(&self.uvm, range, prot);
        self.pmap.update(&self.uvm);
        Ok(())
    }

    /// Sets the expected use of a range. Awaits other modifiers.
    ///
    /// # Errors
    /// [`VmError::Unmapped`] if there is a hole in it, [`VmError::OutOfMemory`].
    pub async fn advise(&self, range: VaRange, advice: Advice) -> Result<(), VmError> {
        self.change(range, |entry| entry.advice = advice).await
    }

    /// Sets what a child gets of a range. Awaits other modifiers.
    ///
    /// # Errors
    /// As [`Self::advise`].
    pub async fn inherit(&self, range: VaRange, inherit: Inherit) -> Result<(), VmError> {
        self.change(range, |entry| entry.inherit = inherit).await
    }

    async fn change(&self, range: VaRange, f: impl FnMut(&mut MapEntry)) -> Result<(), VmError> {
        let _busy = self.map.busy.lock().await;
        let mut map = self.map.write();
        let (start, end) = (range.start().as_u64(), range.end().as_u64());
        map.covers(start, end, |_| Ok(()))?;
        Ok(map.change(&self.uvm, start, end, f)?)
    }

    /// Where the heap begins; it is empty then. For exec.
    pub fn set_brk_start(&self, start: VirtAddr) {
        let start = round_page(start.as_u64()).unwrap_or(USER_MAX);
        *self.heap.lock() = Heap { start, end: start };
    }

    /// Moves the end of the heap to `end`, which need not be page-aligned, and returns where it is then: the
    /// old end if that cannot be (over the limit, in the way of a mapping, below the heap, no memory).
    pub async fn brk(&self, end: VirtAddr) -> VirtAddr {
        let (start, old) = {
            let heap = self.heap.lock();
            (heap.start, heap.end)
        };
        let end = end.as_u64();
        let too_much = end < start || end > USER_MAX || end - start > self.limits().data;
        if too_much {
            return VirtAddr::new(old);
        }
        let (from, to) = (round_page(old), round_page(end));
        let (Some(from), Some(to)) = (from, to) else {
            return VirtAddr::new(old);
        };
        let moved = if to > from {
            let more = MapRequest::anonymous((to - from) as usize, Prot::RW)
                .at(Placement::Exclusive(VirtAddr::new(from)));
            self.map(more).is_ok()
        } else {
            self.unmap(VaRange::new(VirtAddr::new(to), VirtAddr::new(from)))
                .await
                .is_ok()
        };
        if !moved {
            return VirtAddr::new(old);
        }
        self.heap.lock().end = end;
        VirtAddr::new(end)
    }

    /// A copy of the address space for a child, by each mapping's inheritance. Memory is copied when either side writes to
    /// it. Awaits other modifiers, and its turn between mappings.
    ///
    /// # Errors
    /// [`VmError::OutOfMemory`]; the parent is as before (some of its pages may fault once more).
    pub async fn fork(&self) -> Result<Arc<Self>, VmError> {
        let child = Self::new(&self.uvm)?;
        let result = {
            let _busy = self.map.busy.lock().await;
            let mut at = 0;
            loop {
                match self.fork_entry(&child, at) {
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
        let heap = self.heap.lock();
        *child.heap.lock() = Heap {
            start: heap.start,
            end: heap.end,
        };
        drop(heap);
        child.set_limits(self.limits());
        child.top.store(self.top.load(Relaxed), Relaxed);
        self.uvm.count(Counter::Forks);
        Ok(child)
    }

    /// Gives the child what it inherits of the first entry that ends after `at`; returns that entry's end.
    fn fork_entry(&self, child: &Self, at: u64) -> Result<Option<u64>, OutOfMemory> {
        let uvm = &self.uvm;
        let Some((start, end, inherit)) = self
            .map
            .read()
            .tree
            .from(at)
            .map(|e| (e.start, e.end, e.inherit))
        else {
            return Ok(None);
        };
        if inherit == Inherit::None {
            return Ok(Some(end));
        }
        if inherit == Inherit::Share {
            // Both must show the same amap, so it must exist and be the parent's own.
            self.own_amap(start)?;
        }
        let mut map = self.map.write();
        let Some(entry) = map.tree.find(start).map(Node::value) else {
            return Ok(Some(end));
        };
        let (range, prot) = (entry.range(), entry.prot);
        let mut copy = MapEntry {
            object: entry.object.clone(),
            amap: None,
            wired: 0,
            ..*entry
        };
        // All that can fail comes first.
        let blank = MapEntry {
            object: None,
            amap: None,
            ..copy
        };
        let mut node = uvm.upper.entries.alloc(uvm, Node::new(blank))?;
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
                amap.set_shared();
                copy.amap = Some(Amap::reference(amap, uvm, entry.slot, entry.pages()));
            }
            (_, Some(amap)) if amap.is_shared() && !entry.needs_copy => {
                // "Needs copy" on a shared amap would take it from the parent's partners: copy now.
                copy.amap = Some(Amap::copy(amap, uvm, entry.slot, entry.pages())?);
                copy.slot = 0;
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
        drop(map);
        *node.value_mut() = copy;
        child.map.write().insert_node(node);
        Ok(Some(end))
    }

    /// Removes everything, as exec and exit do: on return all memory is free. No other thread uses the space. Awaits
    /// its turn between parts. The page tables go with the last reference.
    pub async fn teardown(&self) {
        self.forget_recent();
        self.dying.store(true, Relaxed);
        let _busy = self.map.busy.lock().await;
        let dead = {
            let mut map = self.map.write();
            map.size = 0;
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
        *self.heap.lock() = Heap { start: 0, end: 0 };
        self.dying.store(false, Relaxed);
    }

    /// Whether its entries are gone already, and its translations perhaps not.
    pub(crate) fn is_dying(&self) -> bool {
        self.dying.load(Relaxed)
    }

    /// Bytes mapped.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.map.read().size
    }

    /// Pages mapped in its page tables.
    #[must_use]
    pub fn resident_pages(&self) -> usize {
        self.pmap.stats().resident
    }

    /// Its mappings, in order of addresses. Allocates; shortened where there is no memory for more.
    #[must_use]
    pub fn regions(&self) -> Vec<Region> {
        let mut regions = Vec::new();
        let mut at = 0;
        // One lookup at a time: no allocation under the lock.
        while regions.try_reserve(1).is_ok() {
            let map = self.map.read();
            let Some(entry) = map.tree.from(at) else {
                break;
            };
            at = entry.end;
            let region = Region {
                range: entry.range(),
                prot: entry.prot,
                sharing: if entry.copy_on_write {
                    Sharing::Private
                } else {
                    Sharing::Shared
                },
                file: entry.object.is_some(),
                offset: entry.offset,
                anons: entry
                    .amap
                    .as_ref()
                    .map_or(0, |a| a.used(entry.slot, entry.pages())),
                wired: entry.wired,
            };
            drop(map);
            regions.push(region);
        }
        regions
    }

    /// Copies bytes out of the space from `va` on, wherever it is not active: for exec, debuggers, tests.
    ///
    /// # Errors
    /// [`FaultError`] of the first page that cannot be read; `out` is filled up to there.
    pub async fn read_bytes(&self, va: VirtAddr, out: &mut [u8]) -> Result<(), FaultError> {
        let mut done = 0;
        while done < out.len() {
            let at = va
                .as_u64()
                .checked_add(done as u64)
                .ok_or(FaultError::NoMapping)?;
            let within = at as usize % PAGE_SIZE;
            let n = (PAGE_SIZE - within).min(out.len() - done);
            let part = &mut out[done..done + n];
            self.with_page(at, Access::Read, |bytes| bytes.read(within, part))
                .await?;
            done += n;
        }
        Ok(())
    }

    /// Copies `data` into the space at `va`, as if a thread of it wrote.
    ///
    /// # Errors
    /// [`FaultError`] of the first page that cannot be written; all before it is.
    pub async fn write_bytes(&self, va: VirtAddr, data: &[u8]) -> Result<(), FaultError> {
        let mut done = 0;
        while done < data.len() {
            let at = va
                .as_u64()
                .checked_add(done as u64)
                .ok_or(FaultError::NoMapping)?;
            let within = at as usize % PAGE_SIZE;
            let n = (PAGE_SIZE - within).min(data.len() - done);
            let part = &data[done..done + n];
            self.with_page(at, Access::Write, |bytes| bytes.write(within, part))
                .await?;
            done += n;
        }
        Ok(())
    }

    /// Faults the page at `va` in until it is mapped for `access`, and works on it while it is held.
    async fn with_page(
        &self,
        va: u64,
        access: Access,
        mut f: impl FnMut(crate::phys::PageBytes),
    ) -> Result<(), FaultError> {
        let va =
            VirtAddr::try_new(crate::addr::trunc_page(va)).map_err(|_| FaultError::NoMapping)?;
        loop {
            if let Some(mapping) = self.pmap.extract(&self.uvm, va)
                && mapping.prot.allows(access)
                && let Some(hold) = PageHold::of_mapped(&self.uvm, mapping.frame)
            {
                // Held, it cannot be evicted; but it may have been before, or replaced by a copy. Under the map lock it is not.
                let _map = self.map.read();
                let still = self.pmap.extract(&self.uvm, va);
                if still.is_some_and(|m| m.frame == hold.frame() && m.prot.allows(access)) {
                    if access == Access::Write {
                        // The hardware does not see this write.
                        self.uvm
                            .page(hold.frame())
                            .note_attrs(PageAttrs::MODIFIED | PageAttrs::REFERENCED);
                    }
                    f(hold.bytes());
                    return Ok(());
                }
            }
            self.fault(va, access).await?;
        }
    }
}

impl Drop for VmSpace {
    fn drop(&mut self) {
        self.uvm.unlist_space(self);
        // Torn down already unless making it failed half-way.
        let mut dead = core::mem::take(&mut self.map.write().tree);
        if !dead.is_empty() {
            self.pmap.remove_all(&self.uvm);
            self.pmap.update(&self.uvm);
            self.bury(&mut dead);
        }
    }
}

#[cfg(test)]
mod tests;
