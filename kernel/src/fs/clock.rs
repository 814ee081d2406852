//! A bounded map that forgets by second chance.
//!
//! Buffers, vnodes and names are all kept as long as they are wanted and there is room. Each has a key; a
//! hand goes round the keys, takes the mark of recent use off what it passes, and stops at the first entry
//! that has no mark and may go. Pure data: owners lock it.

use alloc::collections::BTreeMap;
use core::ops::Bound;

/// The map. `BTreeMap` underneath: its nodes are small, so no heap block comes near a page.
pub(super) struct ClockCache<K, V> {
    entries: BTreeMap<K, Entry<V>>,
    hand: Option<K>,
}

struct Entry<V> {
    value: V,
    recent: bool,
}

impl<K: Ord + Copy, V> ClockCache<K, V> {
    pub(super) const fn new() -> ClockCache<K, V> {
        ClockCache {
            entries: BTreeMap::new(),
            hand: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The value, which counts as used by this.
    pub(super) fn get(&mut self, key: &K) -> Option<&mut V> {
        let entry = self.entries.get_mut(key)?;
        entry.recent = true;
        Some(&mut entry.value)
    }

    /// Keeps `value`, in place of another of the same key, which is returned.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let entry = Entry {
            value,
            recent: true,
        };
        self.entries.insert(key, entry).map(|old| old.value)
    }

    /// Takes out the entry that went unused longest, more or less, among those that `may_go`.
    pub(super) fn evict(&mut self, mut may_go: impl FnMut(&mut V) -> bool) -> Option<V> {
        // One round may only take marks off; the second finds whatever can be found.
        for _ in 0..2 * self.entries.len() + 2 {
            let from = self.hand.map_or(Bound::Unbounded, Bound::Excluded);
            let next = self.entries.range_mut((from, Bound::Unbounded)).next();
            let Some((&key, entry)) = next else {
                // Past the last: round again.
                self.hand = None;
                continue;
            };
            self.hand = Some(key);
            if !core::mem::take(&mut entry.recent) && may_go(&mut entry.value) {
                return self.entries.remove(&key).map(|entry| entry.value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_stays() {
        let mut cache = ClockCache::new();
        for key in 0..4 {
            assert_eq!(cache.insert(key, key * 10), None);
        }
        // All are recent: the first round takes the marks off, then the first goes.
        assert_eq!(cache.evict(|_| true), Some(0));
        assert!(cache.get(&1).is_some());
        assert_eq!(cache.evict(|_| true), Some(20));
        assert_eq!(cache.evict(|_| true), Some(30));
        assert_eq!(cache.evict(|_| true), Some(10));
        assert_eq!(cache.evict(|_| true), None);
    }

    #[test]
    fn what_may_not_go_stays() {
        let mut cache = ClockCache::new();
        for key in 0..4 {
            cache.insert(key, key);
        }
        assert_eq!(cache.evict(|v| *v == 2), Some(2));
        assert_eq!(cache.evict(|v| *v == 2), None);
        assert_eq!(cache.len(), 3);
        assert_eq!(cache.insert(1, 7), Some(1));
        assert_eq!(cache.get(&1), Some(&mut 7));
    }
}
