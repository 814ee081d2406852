//! Names looked up before, so that paths in use are walked without reading directories.
//!
//! Only names that exist are kept; on a file system that is only read they never go stale. An entry is
//! found by a hash of directory and name, and compared in full; two names of one hash push each other out.
//! Synchronisation: one spin lock.

use crate::fs::clock::ClockCache;
use alloc::boxed::Box;
use executor::sync::SpinLock;

pub(super) struct NameCache {
    names: SpinLock<ClockCache<u64, Name>>,
    bound: usize,
}

struct Name {
    directory: u32,
    name: Box<[u8]>,
    ino: u32,
}

impl NameCache {
    pub(super) const fn new(bound: usize) -> NameCache {
        NameCache {
            names: SpinLock::new(ClockCache::new()),
            bound,
        }
    }

    /// The inode that `name` in `directory` stands for, if it was looked up before.
    pub(super) fn get(&self, directory: u32, name: &[u8]) -> Option<u32> {
        let mut names = self.names.lock();
        let found = names.get(&hash(directory, name))?;
        (found.directory == directory && *found.name == *name).then_some(found.ino)
    }

    /// Keeps that `name` in `directory` stands for `ino`.
    pub(super) fn insert(&self, directory: u32, name: &[u8], ino: u32) {
        let entry = Name {
            directory,
            name: name.into(),
            ino,
        };
        let mut names = self.names.lock();
        let victim = match names.len() >= self.bound {
            true => names.evict(|_| true),
            false => None,
        };
        let old = names.insert(hash(directory, name), entry);
        drop(names);
        drop((victim, old));
    }
}

/// FNV-1a.
fn hash(directory: u32, name: &[u8]) -> u64 {
    let bytes = directory
        .to_le_bytes()
        .into_iter()
        .chain(name.iter().copied());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_and_bounded() {
        let names = NameCache::new(8);
        names.insert(2, b"bin", 11);
        names.insert(11, b"bin", 12);
        assert_eq!(names.get(2, b"bin"), Some(11));
        assert_eq!(names.get(11, b"bin"), Some(12));
        assert_eq!(names.get(2, b"bi"), None);
        for i in 0..100u32 {
            names.insert(3, &i.to_le_bytes(), i);
            assert_eq!(names.get(3, &i.to_le_bytes()), Some(i));
            assert!(names.names.lock().len() <= 8);
        }
    }
}
