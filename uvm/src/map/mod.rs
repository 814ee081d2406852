//! Maps: which addresses of a space mean what.
//!
//! # What this owns
//! [`VmMap`]: the ordered tree of [`MapEntry`]s of one address space, its version and its busy token. It owns neither pages
//! nor translations: entries refer to amaps and objects, `pmap` holds translations.
//!
//! # How it synchronises
//! - The **map lock**, a spin read/write lock around the tree. Faults read it; whatever changes entries writes it and
//!   counts the **version** up. First in the order of locks: map, amap, object, anon, page queues.
//! - **Busy**, an async FIFO token that operations hold which await in their midst (fork, wiring) or must not interleave with
//!   those. It excludes other modifiers that await; faults and plain insertions proceed. Order: busy, then the map lock. Nobody
//!   takes it while a page is busy.
//!
//! What is wired (`map::wire`) is said by the entries, too: faults heed it, and whoever removes an entry unwires its pages.
//!
//! The *hint* is the entry of the last lookup. It is only read under the map lock and forgotten under the write lock
//! whenever a node leaves the tree, so that it never dangles.

mod access;
mod advise;
mod brk;
pub(crate) mod entry;
mod extract;
mod footprint;
pub(crate) mod grow;
mod inherit;
mod merge;
mod mincore;
mod mmap;
mod mremap;
mod ops;
mod part;
mod protect;
mod request;
pub(crate) mod space;
mod sync;
pub(crate) mod tree;
mod unmap;
mod usage;
pub(crate) mod wire;

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering::Relaxed};

use executor::sync::{Mutex, MutexGuard};

pub use access::WordHome;
pub use entry::{Advice, Inherit, MapEntry};
pub use extract::Extract;
pub use mremap::Mremap;
pub use request::{Backing, MapRequest, Placement, Region, Sharing, VmError};
pub use space::{Limits, VmSpace};
pub use sync::Sync;
pub use usage::Usage;
pub use wire::MlockAll;

use crate::lock::{self, MAP, SpinReadGuard, SpinRwLock, SpinWriteGuard};
use tree::{Node, Tree};

/// The lowest address that is ever mapped: what lies below catches null pointers.
pub const USER_MIN: u64 = 0x1_0000;
/// First address past what is mapped.
pub const USER_MAX: u64 = 0x7fff_ffff_f000;

/// The entries of a map and what must change together with them.
pub(crate) struct MapInner {
    pub(crate) tree: Tree<MapEntry>,
    /// Bytes covered.
    pub(crate) size: u64,
    /// Bytes of entries that are wired.
    pub(crate) locked: u64,
}

/// The token of a map's operations that await: see the module.
pub(crate) struct Busy(Mutex<()>);

impl Busy {
    /// Awaits its turn. The caller holds nothing.
    pub(crate) async fn lock(&self) -> MutexGuard<'_, ()> {
        lock::assert_none_held("waiting for a busy map");
        self.0.lock().await
    }

    /// Whether somebody has it now.
    #[cfg(test)]
    pub(crate) fn is_taken(&self) -> bool {
        self.0.try_lock().is_none()
    }
}

/// The map of one address space.
pub struct VmMap {
    inner: SpinRwLock<MapInner, MAP>,
    version: AtomicU64,
    hint: AtomicPtr<Node<MapEntry>>,
    pub(crate) busy: Busy,
}

impl VmMap {
    pub(crate) fn new() -> Self {
        Self {
            inner: SpinRwLock::new(MapInner {
                tree: Tree::new(),
                size: 0,
                locked: 0,
            }),
            version: AtomicU64::new(0),
            hint: AtomicPtr::new(ptr::null_mut()),
            busy: Busy(Mutex::new("map busy", ())),
        }
    }

    /// Counts changes: who dropped the map lock compares and starts over if it moved.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Relaxed)
    }

    #[inline]
    pub(crate) fn read(&self) -> SpinReadGuard<'_, MapInner, MAP> {
        self.inner.read()
    }

    /// The write lock, for changes that a fault under way must notice.
    pub(crate) fn write(&self) -> SpinWriteGuard<'_, MapInner, MAP> {
        let guard = self.inner.write();
        self.hint.store(ptr::null_mut(), Relaxed);
        self.version.fetch_add(1, Relaxed);
        guard
    }

    /// The entry that covers `va`, by way of the hint.
    #[inline]
    pub(crate) fn lookup<'a>(&self, inner: &'a MapInner, va: u64) -> Option<&'a MapEntry> {
        let hint = self.hint.load(Relaxed);
        if !hint.is_null() {
            // SAFETY: set below under the read lock from a node of this tree. Nodes do not move, and none leaves the tree
            // without the write lock, whose holder has cleared the hint. The caller holds the lock: it has `inner`.
            let entry = unsafe { (*hint).value() };
            if va >= entry.start && va < entry.end {
                return Some(entry);
            }
        }
        let node = inner.tree.find(va)?;
        self.hint.store(ptr::from_ref(node).cast_mut(), Relaxed);
        Some(node.value())
    }
}

#[cfg(test)]
mod tests;
