//! What ext2 keeps on the disk, byte by byte. Every value is the disk's word: nothing here is checked.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Where the superblock stands, in bytes, whatever the block size.
pub const SUPERBLOCK_OFFSET: u64 = 1024;
/// [`SuperBlock::magic`].
pub const MAGIC: u16 = 0xef53;
/// The inode of the root directory.
pub const ROOT_INO: u32 = 2;
/// Block numbers in an inode that name data directly.
pub const DIRECT: usize = 12;
/// Bytes of an inode of revision 0, and of the part described here.
pub const INODE_SIZE: usize = 128;

/// Directory entries say the type of their file.
pub const INCOMPAT_FILETYPE: u32 = 0x2;

/// The superblock (the part that matters here; it is 1024 bytes long).
#[derive(Debug, Clone, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SuperBlock {
    /// Inodes in all.
    pub inodes_count: U32,
    /// Blocks in all.
    pub blocks_count: U32,
    /// Blocks that only root may take.
    pub reserved_blocks_count: U32,
    /// Free blocks.
    pub free_blocks_count: U32,
    /// Free inodes.
    pub free_inodes_count: U32,
    /// The block that holds the superblock: 1 with 1 KiB blocks, otherwise 0.
    pub first_data_block: U32,
    /// Block size: 1024 shifted left by this.
    pub log_block_size: U32,
    /// Fragment size, likewise; unused.
    pub log_fragment_size: U32,
    /// Blocks in a group.
    pub blocks_per_group: U32,
    /// Fragments in a group; unused.
    pub fragments_per_group: U32,
    /// Inodes in a group.
    pub inodes_per_group: U32,
    /// Last mount.
    pub mount_time: U32,
    /// Last write.
    pub write_time: U32,
    /// Mounts since the last check.
    pub mount_count: U16,
    /// Mounts until the next.
    pub max_mount_count: U16,
    /// [`MAGIC`].
    pub magic: U16,
    /// 1 if cleanly unmounted.
    pub state: U16,
    /// What to do about errors.
    pub errors: U16,
    /// Minor revision.
    pub minor_revision: U16,
    /// Last check.
    pub last_check: U32,
    /// Longest time between checks.
    pub check_interval: U32,
    /// Who made it.
    pub creator_os: U32,
    /// 0: the fields below mean nothing. 1: they do.
    pub revision: U32,
    /// Who may use the reserved blocks.
    pub reserved_uid: U16,
    /// Which group may.
    pub reserved_gid: U16,
    /// First inode for ordinary files.
    pub first_inode: U32,
    /// Bytes of an inode.
    pub inode_size: U16,
    /// Group of this copy of the superblock.
    pub block_group: U16,
    /// Features that do not matter to who does not know them.
    pub features_compatible: U32,
    /// Features without which it must not be mounted.
    pub features_incompatible: U32,
    /// Features without which it must not be written.
    pub features_read_only: U32,
    /// Name of this file system.
    pub uuid: [u8; 16],
}

/// A block group's descriptor.
#[derive(Debug, Clone, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct GroupDescriptor {
    /// Block of the block bitmap.
    pub block_bitmap: U32,
    /// Block of the inode bitmap.
    pub inode_bitmap: U32,
    /// First block of the inode table.
    pub inode_table: U32,
    /// Free blocks.
    pub free_blocks_count: U16,
    /// Free inodes.
    pub free_inodes_count: U16,
    /// Directories.
    pub directories_count: U16,
    /// Unused.
    pub padding: [u8; 14],
}

/// An inode.
#[derive(Debug, Clone, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Inode {
    /// Type and permissions.
    pub mode: U16,
    /// Owner, low half.
    pub uid: U16,
    /// Bytes, low half.
    pub size: U32,
    /// Last read.
    pub access_time: U32,
    /// Last change of the inode.
    pub change_time: U32,
    /// Last write.
    pub modification_time: U32,
    /// When it was deleted.
    pub deletion_time: U32,
    /// Group, low half.
    pub gid: U16,
    /// Names.
    pub links_count: U16,
    /// Space taken, in units of 512 bytes.
    pub sectors: U32,
    /// Flags.
    pub flags: U32,
    /// Another system's.
    pub os_specific_1: U32,
    /// Where the data is: [`DIRECT`] blocks, then one indirect block of each depth. A short symbolic link's
    /// text; a device's number.
    pub block: [U32; DIRECT + 3],
    /// For network file systems.
    pub generation: U32,
    /// Block of extended attributes.
    pub file_acl: U32,
    /// Bytes, high half, of regular files.
    pub size_high: U32,
    /// Unused.
    pub fragment: U32,
    /// Unused.
    pub os_specific_2: U32,
    /// Owner, high half.
    pub uid_high: U16,
    /// Group, high half.
    pub gid_high: U16,
    /// Unused.
    pub reserved: U32,
}

/// The start of a directory entry; the name follows.
#[derive(Debug, Clone, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct EntryHead {
    /// The inode; 0 for an entry that is not in use.
    pub inode: U32,
    /// Bytes to the next entry.
    pub record_len: U16,
    /// Bytes of the name.
    pub name_len: u8,
    /// Type of the file, with [`INCOMPAT_FILETYPE`]; otherwise 0.
    pub file_type: u8,
}

const _: () = assert!(size_of::<GroupDescriptor>() == 32);
const _: () = assert!(size_of::<Inode>() == INODE_SIZE);
const _: () = assert!(size_of::<EntryHead>() == 8);
const _: () = assert!(core::mem::offset_of!(SuperBlock, magic) == 56);
const _: () = assert!(core::mem::offset_of!(SuperBlock, features_incompatible) == 96);
