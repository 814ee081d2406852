//! Address spaces: a map, the pmap under it, and where the heap ends.
//!
//! # What this owns
//! [`VmSpace`] itself, its limits, and the pages that its threads have just waited for. Several threads, and a vfork child,
//! hold the same one. What is done to its mappings stands in the sibling modules, by operation; fork and exit in [`crate::glue`].
//!
//! # How it synchronises
//! By the map's lock and busy token (see [`crate::map`]). What removes or tightens does entries, translations and stale TLB
//! entries in one go under the map's write lock, so that no fault can bring an old state back; only then, unlocked, it gives
//! up amaps and objects, whose pages nobody can reach any more. No wait is needed for pages under I/O: the request holds
//! its own reference to them.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use arrayvec::ArrayVec;

use crate::Uvm;
use crate::addr::{Frame, VirtAddr};
use crate::lock::{self, LEAF, SpinLock};
use crate::map::usage::FaultCounts;
use crate::map::{Region, Sharing, USER_MAX, VmError, VmMap};
use crate::object::PageHold;
use crate::page::freelist::AllocFor;
use crate::pdaemon::turn::Taken;
use crate::pmap::Pmap;
use crate::pool::Ref;

/// Pages just waited for that are exempt from eviction: one instruction may need six (rule 11 of awaiting).
const RECENT: usize = 8;

/// How far an address space may grow, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// All mappings together (RLIMIT_AS).
    pub address_space: u64,
    /// The heap (RLIMIT_DATA).
    pub data: u64,
    /// Each mapping that grows down, the part included that it was made with (RLIMIT_STACK). Binds when it grows.
    pub stack: u64,
    /// All that is locked in memory (RLIMIT_MEMLOCK).
    pub locked: u64,
}

impl Limits {
    /// None but the size of the user half.
    pub const UNLIMITED: Self = Self {
        address_space: u64::MAX,
        data: u64::MAX,
        stack: u64::MAX,
        locked: u64::MAX,
    };
}

/// Where the heap is, in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Heap {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// An address space.
pub struct VmSpace {
    pub(crate) map: VmMap,
    pub(crate) pmap: Ref<Pmap>,
    pub(crate) heap: SpinLock<Heap, LEAF>,
    pub(crate) limits: SpinLock<Limits, LEAF>,
    /// Mappings are placed below this address.
    pub(crate) top: AtomicU64,
    /// Pages that threads waited for lately, while memory is short.
    recent: SpinLock<ArrayVec<Frame, RECENT>, LEAF>,
    has_recent: AtomicBool,
    pub(crate) fault_counts: FaultCounts,
    pub(crate) taken: Taken,
    /// Whether what is mapped from now on is wired. Changed by who holds the busy token.
    pub(crate) wires_future: AtomicBool,
    /// In the middle of [`VmSpace::teardown`].
    pub(crate) dying: AtomicBool,
    /// Its process is being killed ([`VmSpace::doom`]).
    pub(crate) doomed: AtomicBool,
    /// How many [`SpaceRef`](crate::glue::SpaceRef)s have it. Raised only by one of them, or by who makes the first.
    pub(crate) holders: AtomicU32,
    /// Last: what is above lies in its memory.
    pub(crate) uvm: Arc<Uvm>,
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
            fault_counts: FaultCounts::default(),
            taken: Taken::default(),
            wires_future: AtomicBool::new(false),
            dying: AtomicBool::new(false),
            doomed: AtomicBool::new(false),
            holders: AtomicU32::new(0),
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

    /// Whether this CPU is in it.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.uvm.pmap_is_active(&self.pmap)
    }

    /// With debug assertions panics if a lock is held or a flush is put off: for the moment before a program goes on in it.
    ///
    /// # Panics
    /// See above.
    #[inline(always)]
    pub fn assert_settled(&self) {
        lock::assert_none_held("entering ring 3");
        self.uvm.assert_flushed(&self.pmap);
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
        recent.push(page.count_another());
        self.has_recent.store(true, Relaxed);
        drop(recent);
        self.release(oldest);
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
    pub(crate) fn forget_recent(&self) {
        let recent = {
            self.has_recent.store(false, Relaxed);
            core::mem::take(&mut *self.recent.lock())
        };
        self.release(recent);
    }

    fn release(&self, recent: impl IntoIterator<Item = Frame>) {
        for frame in recent {
            drop(PageHold::counted(&self.uvm, frame));
        }
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

    /// Whether its entries are gone already, and its translations perhaps not.
    pub(crate) fn is_dying(&self) -> bool {
        self.dying.load(Relaxed)
    }

    /// Bytes mapped.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.map.read().size
    }

    /// Bytes of mappings that are wired.
    #[must_use]
    pub fn locked(&self) -> u64 {
        self.map.read().locked
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
}

impl Drop for VmSpace {
    fn drop(&mut self) {
        self.uvm.unlist_space(self);
        self.forget_recent();
        // Torn down already unless making it failed half-way.
        let mut dead = core::mem::take(&mut self.map.write().tree);
        if !dead.is_empty() {
            self.pmap.remove_all(&self.uvm);
            self.pmap.update(&self.uvm);
            self.bury(&mut dead);
        }
    }
}
