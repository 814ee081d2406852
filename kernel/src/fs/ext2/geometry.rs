//! The superblock, checked: what everything else may rely on.

use super::MountError;
use super::disk::{DIRECT, GroupDescriptor, INCOMPAT_FILETYPE, INODE_SIZE, MAGIC, SuperBlock};
use zerocopy::FromBytes;

/// Facts about a file system that hold together. Everything is in blocks unless it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes in a block: 1024, 2048 or 4096.
    pub block_size: u32,
    /// Blocks in all.
    pub blocks: u32,
    /// The first block of the first group.
    pub first_block: u32,
    /// Blocks in a group, the last one perhaps excepted.
    pub blocks_per_group: u32,
    /// Inodes in all.
    pub inodes: u32,
    /// Inodes in a group.
    pub inodes_per_group: u32,
    /// Bytes of an inode on the disk.
    pub inode_size: u32,
    /// Groups.
    pub groups: u32,
    /// Whether directory entries say types.
    pub has_file_types: bool,
    /// Free blocks, as the superblock says.
    pub free_blocks: u32,
    /// Free blocks that only root may take.
    pub reserved_blocks: u32,
    /// Free inodes, as the superblock says.
    pub free_inodes: u32,
}

impl Geometry {
    /// Checks a superblock against itself and the device's size in bytes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(bytes: &[u8], device_size: u64) -> Result<Geometry, MountError> {
        use MountError::{Damaged, Unsupported};
        let (disk, _) = SuperBlock::ref_from_prefix(bytes).map_err(|_| MountError::NotExt2)?;
        if disk.magic.get() != MAGIC {
            return Err(MountError::NotExt2);
        }
        let (inode_size, incompatible) = match disk.revision.get() {
            0 => (INODE_SIZE as u32, 0),
            1 => (
                u32::from(disk.inode_size.get()),
                disk.features_incompatible.get(),
            ),
            _ => return Err(Unsupported("revision")),
        };
        if incompatible & !INCOMPAT_FILETYPE != 0 {
            return Err(MountError::Features(incompatible & !INCOMPAT_FILETYPE));
        }
        let block_size = match disk.log_block_size.get() {
            shift @ 0..=2 => 1024u32 << shift,
            _ => return Err(Unsupported("block size")),
        };
        if !inode_size.is_power_of_two()
            || inode_size < INODE_SIZE as u32
            || inode_size > block_size
        {
            return Err(Damaged("inode size"));
        }
        let (blocks, first_block) = (disk.blocks_count.get(), disk.first_data_block.get());
        if first_block != u32::from(block_size == 1024) {
            return Err(Damaged("first data block"));
        }
        if blocks <= first_block + 1 {
            return Err(Damaged("number of blocks"));
        }
        if u64::from(blocks) * u64::from(block_size) > device_size {
            return Err(Damaged("larger than its device"));
        }
        // A group's bitmap is one block.
        let bits = 8 * block_size;
        let (blocks_per_group, inodes_per_group) =
            (disk.blocks_per_group.get(), disk.inodes_per_group.get());
        if !(1..=bits).contains(&blocks_per_group) {
            return Err(Damaged("blocks in a group"));
        }
        if !(1..=bits).contains(&inodes_per_group) {
            return Err(Damaged("inodes in a group"));
        }
        let groups = (blocks - first_block).div_ceil(blocks_per_group);
        let inodes = disk.inodes_count.get();
        if Some(inodes) != groups.checked_mul(inodes_per_group) {
            return Err(Damaged("number of inodes"));
        }
        if inodes < super::disk::ROOT_INO {
            return Err(Damaged("no root directory"));
        }
        let geometry = Geometry {
            block_size,
            blocks,
            first_block,
            blocks_per_group,
            inodes,
            inodes_per_group,
            inode_size,
            groups,
            has_file_types: incompatible & INCOMPAT_FILETYPE != 0,
            free_blocks: disk.free_blocks_count.get().min(blocks),
            reserved_blocks: disk.reserved_blocks_count.get().min(blocks),
            free_inodes: disk.free_inodes_count.get().min(inodes),
        };
        let descriptor_blocks = u64::from(groups).div_ceil(geometry.descriptors_per_block());
        if u64::from(first_block) + 1 + descriptor_blocks > u64::from(blocks) {
            return Err(Damaged("group descriptors beyond the end"));
        }
        Ok(geometry)
    }

    /// Group descriptors in a block.
    pub const fn descriptors_per_block(&self) -> u64 {
        self.block_size as u64 / size_of::<GroupDescriptor>() as u64
    }

    /// Block numbers in an indirect block.
    pub const fn pointers_per_block(&self) -> u64 {
        self.block_size as u64 / 4
    }

    /// Where a group's descriptor is: block, and byte within it.
    pub const fn descriptor_place(&self, group: u32) -> (u64, usize) {
        let per_block = self.descriptors_per_block();
        (
            self.first_block as u64 + 1 + group as u64 / per_block,
            (group as u64 % per_block) as usize * size_of::<GroupDescriptor>(),
        )
    }

    /// Blocks of a group's inode table.
    pub const fn inode_table_blocks(&self) -> u32 {
        // At most 32768 inodes of at most 4096 bytes: no overflow.
        (self.inodes_per_group * self.inode_size).div_ceil(self.block_size)
    }

    /// Whether `block` can hold data: inside the file system and behind the superblock.
    pub const fn holds_data(&self, block: u32) -> bool {
        block > self.first_block && block < self.blocks
    }

    /// The longest file that block maps can describe, in bytes.
    pub const fn max_file_size(&self) -> u64 {
        let p = self.pointers_per_block();
        (DIRECT as u64 + p + p * p + p * p * p) * self.block_size as u64
    }
}
