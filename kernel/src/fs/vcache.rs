//! One vnode per inode.
//!
//! A file system keeps its vnodes here, used or not, up to a bound. A vnode that nobody else holds may be
//! recycled, and its cached pages go with it; one that somebody holds, or whose object somebody maps, never
//! is: so there is at no time a second vnode, nor a second object, for a file.
//!
//! Synchronisation: one spin lock. Only the cache makes new references to a vnode that has no other, and
//! only under that lock, so "nobody else holds it" stays true while it is held. What is recycled is dropped
//! outside of it.

use super::clock::ClockCache;
use alloc::sync::Arc;
use executor::sync::SpinLock;

/// A vnode that knows when it is in use.
pub trait Recyclable {
    /// Whether something other than its references keeps it: a mapping of its object.
    fn is_mapped(&self) -> bool;
}

/// The vnodes of a file system, by inode number.
pub struct VnodeCache<V> {
    vnodes: SpinLock<ClockCache<u32, Arc<V>>>,
    bound: usize,
}

impl<V: Recyclable> VnodeCache<V> {
    /// A cache that recycles once it holds more than `bound` vnodes.
    pub const fn new(bound: usize) -> VnodeCache<V> {
        VnodeCache {
            vnodes: SpinLock::new(ClockCache::new()),
            bound,
        }
    }

    /// The vnode of inode `ino`, if it is here.
    pub fn get(&self, ino: u32) -> Option<Arc<V>> {
        self.vnodes.lock().get(&ino).map(|vnode| vnode.clone())
    }

    /// Keeps `fresh`, unless somebody else has brought a vnode for `ino` meanwhile. Returns the one that
    /// counts.
    pub fn insert(&self, ino: u32, fresh: Arc<V>) -> Arc<V> {
        let mut vnodes = self.vnodes.lock();
        if let Some(present) = vnodes.get(&ino) {
            let present = present.clone();
            drop(vnodes);
            return present;
        }
        let mut recycled = [None, None];
        // Two for one: after a time of many vnodes in use the cache shrinks again.
        for victim in &mut recycled {
            if vnodes.len() >= self.bound {
                *victim = vnodes.evict(|vnode| Arc::strong_count(vnode) == 1 && !vnode.is_mapped());
            }
        }
        vnodes.insert(ino, fresh.clone());
        drop(vnodes);
        drop(recycled);
        fresh
    }

    /// How many vnodes are here.
    pub fn len(&self) -> usize {
        self.vnodes.lock().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

    struct Fake {
        ino: u32,
        mapped: AtomicBool,
    }

    impl Recyclable for Fake {
        fn is_mapped(&self) -> bool {
            self.mapped.load(Relaxed)
        }
    }

    fn fake(ino: u32) -> Arc<Fake> {
        Arc::new(Fake {
            ino,
            mapped: AtomicBool::new(false),
        })
    }

    #[test]
    fn one_vnode_per_inode() {
        let cache = VnodeCache::new(4);
        let first = cache.insert(7, fake(7));
        let second = cache.insert(7, fake(7));
        assert!(Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&first, &cache.get(7).unwrap()));
    }

    #[test]
    fn used_and_mapped_vnodes_stay() {
        let cache = VnodeCache::new(4);
        let held = cache.insert(1, fake(1));
        cache.insert(2, fake(2)).mapped.store(true, Relaxed);
        for ino in 3..100 {
            cache.insert(ino, fake(ino));
            assert!(cache.len() <= 4);
        }
        assert!(Arc::ptr_eq(&held, &cache.get(1).unwrap()));
        assert_eq!(cache.get(2).unwrap().ino, 2);
        // More in use than the bound: it grows rather than forget one.
        let all: std::vec::Vec<_> = (200..210).map(|i| cache.insert(i, fake(i))).collect();
        for vnode in &all {
            assert!(Arc::ptr_eq(vnode, &cache.get(vnode.ino).unwrap()));
        }
    }
}
