//! One CPU's translation cache.
//!
//! Owns cached translations by page number, at most as many as it was made for. No synchronisation: its CPU has a lock.

use alloc::collections::BTreeMap;

use crate::addr::Frame;
use crate::prot::Access;
use crate::sim::random::Random;

/// A cached translation, rights of all levels combined.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cached {
    pub(super) frame: Frame,
    pub(super) user: bool,
    pub(super) write: bool,
    pub(super) exec: bool,
    /// The entry's dirty bit was set when it was cached: stores no longer set it.
    pub(super) dirty: bool,
}

impl Cached {
    pub(super) fn allows(&self, access: Access, user: bool) -> bool {
        (self.user || !user)
            && match access {
                Access::Read => true,
                Access::Write => self.write,
                Access::Exec => self.exec,
            }
    }
}

/// The cache.
pub(super) struct Tlb {
    entries: BTreeMap<u64, Cached>,
    capacity: usize,
    random: Random,
}

impl Tlb {
    /// An empty one.
    pub(super) fn new(capacity: usize, seed: u64) -> Self {
        Self {
            entries: BTreeMap::new(),
            capacity: capacity.max(1),
            random: Random::new(seed),
        }
    }

    pub(super) fn get(&self, vpn: u64) -> Option<Cached> {
        self.entries.get(&vpn).copied()
    }

    /// Caches a translation, in place of one chosen by chance if there is no room.
    pub(super) fn insert(&mut self, vpn: u64, cached: Cached) {
        if self.entries.len() >= self.capacity && !self.entries.contains_key(&vpn) {
            let victim = self.random.below(self.entries.len() as u64) as usize;
            if let Some(victim) = self.entries.keys().nth(victim).copied() {
                self.entries.remove(&victim);
            }
        }
        self.entries.insert(vpn, cached);
    }

    pub(super) fn remove(&mut self, vpn: u64) {
        self.entries.remove(&vpn);
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, Cached)> + '_ {
        self.entries.iter().map(|(&vpn, &cached)| (vpn, cached))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_one_makes_room() {
        let mut tlb = Tlb::new(2, 7);
        let cached = Cached {
            frame: Frame::new(1),
            user: true,
            write: false,
            exec: false,
            dirty: false,
        };
        for vpn in [1, 2, 2, 3] {
            tlb.insert(vpn, cached);
        }
        assert_eq!(tlb.iter().count(), 2);
        assert!(tlb.get(3).is_some());
    }
}
