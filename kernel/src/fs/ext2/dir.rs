//! Directories: blocks full of entries, each checked before it is believed.

use super::disk::EntryHead;
use super::inode::Ext2Vnode;
use super::map::Run;
use crate::fs::FsError;
use crate::fs::bcache::Block;
use crate::fs::vnode::{DirEntry, Emit, Kind};
use core::ops::ControlFlow;
use zerocopy::FromBytes;

/// Blocks that one poll goes through before it lets others run.
const BLOCKS_A_POLL: u64 = 16;

/// One entry in use.
struct Entry<'a> {
    ino: u32,
    kind: Option<Kind>,
    name: &'a [u8],
    /// Where in the block it starts, and where the next one does.
    at: usize,
    end: usize,
}

/// The entries in use of one block of a directory. Ends after the first damaged one.
struct Entries<'a> {
    block: &'a [u8],
    at: usize,
    inodes: u32,
}

impl<'a> Entries<'a> {
    fn next_entry(&mut self) -> Result<Option<Entry<'a>>, FsError> {
        while self.at < self.block.len() {
            let at = self.at;
            let rest = &self.block[at..];
            let (head, names) = EntryHead::ref_from_prefix(rest)
                .map_err(|_| FsError::Damaged("directory entry past the end of its block"))?;
            let len = usize::from(head.record_len.get());
            let name_len = usize::from(head.name_len);
            if len < size_of::<EntryHead>() || !len.is_multiple_of(4) || len > rest.len() {
                return Err(FsError::Damaged("length of a directory entry"));
            }
            self.at += len;
            let ino = head.inode.get();
            if ino == 0 {
                continue;
            }
            if name_len == 0 || name_len > len - size_of::<EntryHead>() {
                return Err(FsError::Damaged("length of a name"));
            }
            if ino > self.inodes {
                return Err(FsError::Damaged("inode number in a directory"));
            }
            let name = &names[..name_len];
            if name.iter().any(|&c| c == 0 || c == b'/') {
                return Err(FsError::Damaged("character in a name"));
            }
            return Ok(Some(Entry {
                ino,
                kind: kind_of(head.file_type),
                name,
                at,
                end: self.at,
            }));
        }
        Ok(None)
    }
}

/// What the type byte of an entry stands for; nothing without the feature, where it is 0.
fn kind_of(file_type: u8) -> Option<Kind> {
    Some(match file_type {
        1 => Kind::Regular,
        2 => Kind::Directory,
        3 => Kind::CharDevice,
        4 => Kind::BlockDevice,
        5 => Kind::Fifo,
        6 => Kind::Socket,
        7 => Kind::Symlink,
        _ => return None,
    })
}

impl Ext2Vnode {
    /// The inode that `name` stands for in this directory. Awaits blocks.
    pub(super) async fn find(&self, name: &[u8]) -> Result<u32, FsError> {
        for number in 0..self.directory_blocks()? {
            let block = self.directory_block(number).await?;
            let mut entries = self.entries(&block, 0);
            while let Some(entry) = entries.next_entry()? {
                if entry.name == name {
                    return Ok(entry.ino);
                }
            }
        }
        Err(FsError::NotFound)
    }

    /// Emits names from byte `from` of the directory on. Returns where it stopped.
    pub(super) async fn list(&self, from: u64, emit: &mut Emit<'_>) -> Result<u64, FsError> {
        let block_size = u64::from(self.core().geometry.block_size);
        let end = self.directory_blocks()? * block_size;
        let mut place = from;
        while place < end {
            let start = place - place % block_size;
            let block = self.directory_block(start / block_size).await?;
            let mut entries = self.entries(&block, 0);
            while let Some(entry) = entries.next_entry()? {
                // A place in the middle of an entry goes on with the next: lengths are only known from the
                // front.
                if start + (entry.at as u64) < place {
                    continue;
                }
                let next = start + entry.end as u64;
                let seen = emit(DirEntry {
                    ino: u64::from(entry.ino),
                    kind: entry.kind,
                    name: entry.name,
                    next,
                });
                if seen == ControlFlow::Break(()) {
                    return Ok(start + entry.at as u64);
                }
                place = next;
            }
            place = start + block_size;
        }
        Ok(place)
    }

    fn entries<'a>(&self, block: &'a Block<'_>, at: usize) -> Entries<'a> {
        Entries {
            block,
            at,
            inodes: self.core().geometry.inodes,
        }
    }

    /// Blocks that this directory has.
    fn directory_blocks(&self) -> Result<u64, FsError> {
        match self.kind_of_file() {
            Kind::Directory => Ok(self.map().blocks),
            _ => Err(FsError::NotDirectory),
        }
    }

    async fn directory_block(&self, number: u64) -> Result<Block<'_>, FsError> {
        if number % BLOCKS_A_POLL == BLOCKS_A_POLL - 1 {
            executor::yield_now().await;
        }
        match self.map().run(number, 1).await? {
            Run {
                start: Some(block), ..
            } => self.core().cache.read(u64::from(block)).await,
            Run { start: None, .. } => Err(FsError::Damaged("hole in a directory")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn record(ino: u32, len: u16, name: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(ino.to_le_bytes());
        bytes.extend(len.to_le_bytes());
        bytes.extend([name.len() as u8, 1]);
        bytes.extend(name);
        bytes.resize(usize::from(len).max(bytes.len()), 0);
        bytes
    }

    fn names(block: &[u8]) -> Result<Vec<Vec<u8>>, FsError> {
        let mut entries = Entries {
            block,
            at: 0,
            inodes: 100,
        };
        let mut names = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            names.push(entry.name.to_vec());
        }
        Ok(names)
    }

    #[test]
    fn entries_in_use_are_seen_and_others_skipped() {
        let block = [
            record(5, 12, b"ab"),
            record(0, 16, b"gone"),
            record(7, 20, b"z"),
        ]
        .concat();
        assert_eq!(names(&block).unwrap(), [b"ab".to_vec(), b"z".to_vec()]);
    }

    #[test]
    fn every_lie_is_caught() {
        let bad = [
            record(5, 0, b"ab"),
            record(5, 4, b"ab"),
            record(5, 13, b"ab"),
            record(5, 8, b"ab"),
            record(101, 12, b"ab"),
            record(5, 12, b""),
            record(5, 12, b"a/b"),
            record(5, 12, b"a\0b"),
        ];
        for block in bad {
            assert!(
                matches!(names(&block), Err(FsError::Damaged(_))),
                "{block:?}"
            );
        }
        let mut long = record(5, 12, b"ab");
        long[4] = 200;
        assert!(matches!(names(&long), Err(FsError::Damaged(_))));
        assert!(matches!(names(&[1, 2, 3]), Err(FsError::Damaged(_))));
    }
}
