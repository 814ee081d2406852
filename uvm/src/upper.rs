//! What the upper half keeps in a [`crate::Uvm`]: its pools, its request slots, and what `check` walks.
//!
//! Owns the pools that map entries, amaps, anons, objects and their tree nodes come from. Each part synchronises itself.

use alloc::sync::{Arc, Weak};

use executor::Executor;

use crate::Uvm;
use crate::amap::{Amap, RunNodes, SlotNodes};
use crate::anon::Anon;
use crate::io::IoSlots;
use crate::lock::{LEAF, SpinLock};
use crate::map::MapEntry;
use crate::map::VmSpace;
use crate::map::tree::{Node, Span, Tree};
use crate::object::aobj::{Anonymous, ListedObject};
use crate::object::{PageNodes, SwapNodes, UvmObject};
use crate::pdaemon::admission::Admission;
use crate::pdaemon::demand::Hope;
use crate::pdaemon::lwps::Lwps;
use crate::pdaemon::turn::Turns;
use crate::pdaemon::victim::Victims;
use crate::policy::{self, Settings};
use crate::pool::{OutOfMemory, Pool};
use crate::swap::Swap;
use crate::uarea::{Listed as ListedUarea, Residences};

/// The upper half's state.
pub(crate) struct Upper {
    pub(crate) entries: Pool<Node<MapEntry>>,
    pub(crate) amaps: Pool<Amap>,
    pub(crate) slot_nodes: SlotNodes,
    pub(crate) runs: RunNodes,
    pub(crate) anons: Pool<Anon>,
    pub(crate) objects: Pool<UvmObject>,
    pub(crate) page_nodes: PageNodes,
    pub(crate) io: IoSlots,
    pub(crate) hope: Hope,
    pub(crate) turns: Turns,
    pub(crate) admission: Admission,
    pub(crate) victims: Victims,
    pub(crate) lwps: Lwps,
    pub(crate) swap: Swap,
    pub(crate) settings: Settings,
    pub(crate) memory: policy::Memory,
    pub(crate) swap_nodes: SwapNodes,
    pub(crate) listed: Pool<Node<Listed>>,
    pub(crate) listed_objects: Pool<Node<ListedObject>>,
    /// All anonymous objects, for swapoff.
    pub(crate) anonymous: SpinLock<Anonymous, LEAF>,
    pub(crate) spaces: SpinLock<Spaces, LEAF>,
    pub(crate) listed_uareas: Pool<Node<ListedUarea>>,
    pub(crate) residences: SpinLock<Residences, LEAF>,
}

impl Upper {
    pub(crate) fn new(cpus: usize, managed: usize, executor: Arc<Executor>) -> Self {
        Self {
            entries: Pool::new("map entries", cpus),
            amaps: Pool::new("amaps", cpus),
            slot_nodes: Pool::new("amap chunks", cpus),
            runs: Pool::new("amap runs", cpus),
            anons: Pool::new("anons", cpus),
            objects: Pool::new("objects", cpus),
            page_nodes: Pool::new("object nodes", cpus),
            io: IoSlots::new(executor),
            hope: Hope::new(),
            turns: Turns::new(),
            admission: Admission::new(),
            victims: Victims::new(),
            lwps: Lwps::new(),
            swap: Swap::new(managed),
            settings: Settings::new(),
            memory: policy::Memory::new(managed),
            swap_nodes: Pool::new("swap nodes", cpus),
            listed: Pool::new("address spaces", cpus),
            listed_objects: Pool::new("listed objects", cpus),
            anonymous: SpinLock::new(Anonymous::new()),
            spaces: SpinLock::new(Spaces(Tree::new())),
            listed_uareas: Pool::new("listed u-areas", cpus),
            residences: SpinLock::new(Residences::new()),
        }
    }
}

/// What a pool holds, as `vmstat -m` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolUse {
    /// The pool's name.
    pub name: &'static str,
    /// Objects in use.
    pub objects: usize,
    /// Pages that it holds for them, and for some more.
    pub pages: usize,
}

impl PoolUse {
    fn of<T>(pool: &Pool<T>) -> Self {
        Self {
            name: pool.name(),
            objects: pool.in_use(),
            pages: pool.pages(),
        }
    }
}

impl Uvm {
    /// What each pool holds now.
    #[must_use]
    pub fn pools(&self) -> [PoolUse; 13] {
        let upper = &self.upper;
        [
            PoolUse::of(&self.pmap_pool),
            PoolUse::of(&self.pv_pool),
            PoolUse::of(&upper.entries),
            PoolUse::of(&upper.amaps),
            PoolUse::of(&upper.slot_nodes),
            PoolUse::of(&upper.runs),
            PoolUse::of(&upper.anons),
            PoolUse::of(&upper.objects),
            PoolUse::of(&upper.page_nodes),
            PoolUse::of(&upper.swap_nodes),
            PoolUse::of(&upper.listed),
            PoolUse::of(&upper.listed_objects),
            PoolUse::of(&upper.listed_uareas),
        ]
    }
}

/// All address spaces, for `check`, by their addresses.
pub(crate) struct Spaces(Tree<Listed>);

/// A node of [`Spaces`]: one address space.
pub(crate) struct Listed(Weak<VmSpace>);

impl Span for Listed {
    fn start(&self) -> u64 {
        self.0.as_ptr() as u64
    }
    fn end(&self) -> u64 {
        self.start() + 1
    }
}

impl Uvm {
    /// Lists a new space.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub(crate) fn list_space(&self, space: &Arc<VmSpace>) -> Result<(), OutOfMemory> {
        let node = self
            .upper
            .listed
            .alloc(self, Node::new(Listed(Arc::downgrade(space))))?;
        self.upper.spaces.lock().0.insert(node);
        Ok(())
    }

    /// Forgets a space that is going away.
    pub(crate) fn unlist_space(&self, space: &VmSpace) {
        let node = self
            .upper
            .spaces
            .lock()
            .0
            .remove(core::ptr::from_ref(space) as u64);
        drop(node);
    }

    /// Calls `f` with each space that is alive, with no lock held. Allocates nothing.
    pub(crate) fn for_each_space(&self, mut f: impl FnMut(&Arc<VmSpace>)) {
        let mut at = 0;
        while let Some(space) = self.next_space(&mut at) {
            f(&space);
        }
    }

    /// The first space alive from `at` on, which moves behind it. For walks that await in between.
    pub(crate) fn next_space(&self, at: &mut u64) -> Option<Arc<VmSpace>> {
        let spaces = self.upper.spaces.lock();
        loop {
            let listed = spaces.0.from(*at)?;
            *at = listed.end();
            if let Some(space) = listed.0.upgrade() {
                return Some(space);
            }
        }
    }
}

impl Uvm {
    /// The request slots for block I/O.
    #[must_use]
    pub fn io(&self) -> &IoSlots {
        &self.upper.io
    }

    /// Gives empty slabs of the upper half's pools back.
    pub(crate) fn reclaim_pools(&self) -> usize {
        let u = &self.upper;
        u.entries.reclaim(self)
            + u.amaps.reclaim(self)
            + u.slot_nodes.reclaim(self)
            + u.runs.reclaim(self)
            + u.anons.reclaim(self)
            + u.objects.reclaim(self)
            + u.page_nodes.reclaim(self)
            + u.swap_nodes.reclaim(self)
            + u.listed.reclaim(self)
            + u.listed_objects.reclaim(self)
            + u.listed_uareas.reclaim(self)
    }
}
