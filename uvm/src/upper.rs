//! What the upper half keeps in a [`crate::Uvm`]: its pools, its request slots, and what `check` walks.
//!
//! Owns the pools that map entries, amaps, anons, objects and their tree nodes come from. Each part synchronises itself.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use crate::exec::Executor;
use crate::exec::SpinLock;

use crate::Uvm;
use crate::amap::{Amap, RunNodes, SlotNodes};
use crate::anon::Anon;
use crate::glue::VmSpace;
use crate::io::IoSlots;
use crate::map::MapEntry;
use crate::map::tree::Node;
use crate::object::{PageNodes, UvmObject};
use crate::pdaemon::Hope;
use crate::pool::Pool;

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
    pub(crate) spaces: SpinLock<Spaces>,
}

impl Upper {
    pub(crate) fn new(cpus: usize, executor: Arc<Executor>) -> Self {
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
            spaces: SpinLock::new(Spaces(Vec::new())),
        }
    }
}

/// All address spaces, for `check`.
pub(crate) struct Spaces(Vec<Weak<VmSpace>>);

impl Spaces {
    /// Room for one more. Called with nothing locked that an allocation may need.
    pub(crate) fn add(&mut self, space: &Arc<VmSpace>) {
        // A space that does not fit in is only not checked.
        if self.0.try_reserve(1).is_ok() {
            self.0.push(Arc::downgrade(space));
        }
    }

    pub(crate) fn remove(&mut self, space: &VmSpace) {
        if let Some(at) = self.0.iter().position(|s| core::ptr::eq(s.as_ptr(), space)) {
            self.0.swap_remove(at);
        }
    }

    /// Those that are alive.
    pub(crate) fn alive(&self) -> Vec<Arc<VmSpace>> {
        self.0.iter().filter_map(Weak::upgrade).collect()
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
    }
}
