//! ext2, read only.
//!
//! [`Ext2`] owns the caches of vnodes and names. What all of them share is the core: the checked
//! [`Geometry`], the buffer cache and the device. Nothing on the disk is believed: the superblock and the
//! group descriptors are checked at mount, inodes when they become vnodes, block numbers and directory
//! entries each time they are used. Whatever does not hold is [`FsError::Damaged`] or [`MountError`] with
//! the place, and nothing else happens.
//!
//! Block sizes are 1, 2 and 4 KiB. Features: file types in directories; all that only matter for writing.
//!
//! Synchronisation: inodes do not change, so there is nothing to lock but the caches, which do it
//! themselves.

mod dir;
mod disk;
mod geometry;
mod inode;
mod map;
mod names;

pub use geometry::Geometry;
pub use inode::Ext2Vnode;

use super::FsError;
use super::bcache::{BlockCache, CacheStats};
use super::mount::{FileSystem, Statistics};
use super::vcache::VnodeCache;
use super::vnode::VnodeRef;
use alloc::sync::Arc;
use disk::{GroupDescriptor, Inode, ROOT_INO, SUPERBLOCK_OFFSET};
use names::NameCache;
use uvm::Uvm;
use uvm::io::BlockDevice;
use zerocopy::FromBytes;

/// Linux's number for ext2 in `statfs`.
const STATFS_MAGIC: u64 = 0xef53;
/// Vnodes kept before unused ones are recycled.
const VNODES: usize = 1024;
/// Names kept.
const NAMES: usize = 1024;
/// Frames for buffers.
const BUFFER_FRAMES: usize = 128;

/// Why a file system was not mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// It is something else, or nothing.
    #[error("not an ext2 file system")]
    NotExt2,
    /// It uses incompatible features that are not known here (their bits).
    #[error("unknown incompatible features {0:#x}")]
    Features(u32),
    /// A kind of ext2 that is not known here.
    #[error("unsupported {0}")]
    Unsupported(&'static str),
    /// It contradicts itself.
    #[error("damaged: {0}")]
    Damaged(&'static str),
    /// It could not be read, or there was no memory.
    #[error("{0}")]
    Fs(FsError),
}

impl From<FsError> for MountError {
    fn from(error: FsError) -> MountError {
        match error {
            FsError::Damaged(what) => MountError::Damaged(what),
            error => MountError::Fs(error),
        }
    }
}

/// What all files of a file system share.
pub(super) struct Core {
    uvm: Arc<Uvm>,
    cache: BlockCache,
    geometry: Geometry,
    device_number: u64,
}

/// Where names lead: inodes that are in memory, and names that were looked up.
pub(super) struct Volume {
    core: Arc<Core>,
    vnodes: VnodeCache<Ext2Vnode>,
    names: NameCache,
}

/// A mounted ext2 file system. Its vnodes outlive it only as long as somebody holds them, and find no
/// further names then.
pub struct Ext2 {
    volume: Arc<Volume>,
    root: Arc<Ext2Vnode>,
}

impl Ext2 {
    /// Reads and checks the file system on `device`. `device_number` is what `stat` will show for its
    /// files. Awaits the device.
    ///
    /// # Errors
    /// [`MountError`]; nothing is left behind.
    pub async fn mount(
        uvm: &Arc<Uvm>,
        device: Arc<dyn BlockDevice>,
        device_number: u64,
    ) -> Result<Arc<Ext2>, MountError> {
        let geometry = Self::read_superblock(uvm, &device).await?;
        let block_size = geometry.block_size as usize;
        let cache = BlockCache::new(uvm.clone(), device, block_size, BUFFER_FRAMES)?;
        let core = Arc::new(Core {
            uvm: uvm.clone(),
            cache,
            geometry,
            device_number,
        });
        core.check_groups().await?;
        let volume = Arc::new(Volume {
            core,
            vnodes: VnodeCache::new(VNODES),
            names: NameCache::new(NAMES),
        });
        let root = volume.vnode(ROOT_INO).await?;
        Ok(Arc::new(Ext2 { volume, root }))
    }

    /// The superblock is where it is before the block size is known: read with blocks of 1 KiB.
    async fn read_superblock(
        uvm: &Arc<Uvm>,
        device: &Arc<dyn BlockDevice>,
    ) -> Result<Geometry, MountError> {
        let size = device.size();
        if size < 2 * SUPERBLOCK_OFFSET {
            return Err(MountError::NotExt2);
        }
        let cache = BlockCache::new(uvm.clone(), device.clone(), SUPERBLOCK_OFFSET as usize, 1)?;
        let block = cache.read(1).await?;
        Geometry::check(&block, size)
    }

    /// What its buffer cache has done and holds.
    pub fn buffers(&self) -> CacheStats {
        self.volume.core.cache.stats()
    }
}

impl FileSystem for Ext2 {
    fn root(&self) -> VnodeRef {
        self.root.clone()
    }

    fn read_only(&self) -> bool {
        true
    }

    fn name(&self) -> &'static str {
        "ext2"
    }

    fn statistics(&self) -> Statistics {
        let g = &self.volume.core.geometry;
        // Tables: a superblock and descriptors in most groups are few; bitmaps and inodes are the most.
        let tables = u64::from(g.groups) * (2 + u64::from(g.inode_table_blocks()));
        Statistics {
            magic: STATFS_MAGIC,
            block_size: u64::from(g.block_size),
            blocks: u64::from(g.blocks).saturating_sub(tables),
            free: u64::from(g.free_blocks),
            available: u64::from(g.free_blocks.saturating_sub(g.reserved_blocks)),
            files: u64::from(g.inodes),
            files_free: u64::from(g.free_inodes),
            name_max: super::namei::NAME_MAX as u64,
        }
    }
}

impl Volume {
    /// The vnode of inode `ino`: the one there is, or a new one. Awaits the inode, and memory.
    async fn vnode(self: &Arc<Self>, ino: u32) -> Result<Arc<Ext2Vnode>, FsError> {
        if let Some(vnode) = self.vnodes.get(ino) {
            return Ok(vnode);
        }
        let inode = self.core.read_inode(ino).await?;
        let fresh = loop {
            match Ext2Vnode::new(self, ino, &inode) {
                // Memory may be full of files' pages, which can go.
                Err(FsError::OutOfMemory) => {
                    let memory = self.core.uvm.wait_for_memory(1).await;
                    memory.map_err(|_| FsError::OutOfMemory)?;
                }
                made => break made?,
            }
        };
        Ok(self.vnodes.insert(ino, Arc::new(fresh)))
    }
}

impl Core {
    /// Checks all group descriptors.
    async fn check_groups(&self) -> Result<(), MountError> {
        for group in 0..self.geometry.groups {
            self.inode_table(group).await?;
            if group % 256 == 255 {
                executor::yield_now().await;
            }
        }
        Ok(())
    }

    /// First block of a group's inode table. Awaits the descriptor.
    async fn inode_table(&self, group: u32) -> Result<u32, FsError> {
        let g = &self.geometry;
        let (block, at) = g.descriptor_place(group);
        let block = self.cache.read(block).await?;
        let (descriptor, _) = GroupDescriptor::ref_from_prefix(&block[at..])
            .map_err(|_| FsError::Damaged("group descriptor"))?;
        let bitmaps = [&descriptor.block_bitmap, &descriptor.inode_bitmap];
        if bitmaps.iter().any(|b| !g.holds_data(b.get())) {
            return Err(FsError::Damaged("bitmap of a group"));
        }
        let table = descriptor.inode_table.get();
        let last = table.checked_add(g.inode_table_blocks() - 1);
        if !g.holds_data(table) || !last.is_some_and(|last| g.holds_data(last)) {
            return Err(FsError::Damaged("inode table of a group"));
        }
        Ok(table)
    }

    /// Inode `ino` as the disk has it. Awaits the group's descriptor and the inode's block.
    async fn read_inode(&self, ino: u32) -> Result<Inode, FsError> {
        let g = &self.geometry;
        if ino == 0 || ino > g.inodes {
            return Err(FsError::Damaged("inode number"));
        }
        let (group, index) = (
            (ino - 1) / g.inodes_per_group,
            (ino - 1) % g.inodes_per_group,
        );
        let table = self.inode_table(group).await?;
        let byte = index * g.inode_size;
        let block = table + byte / g.block_size;
        let at = (byte % g.block_size) as usize;
        let block = self.cache.read(u64::from(block)).await?;
        let (inode, _) =
            Inode::read_from_prefix(&block[at..]).map_err(|_| FsError::Damaged("inode"))?;
        Ok(inode)
    }
}

#[cfg(test)]
mod tests;
