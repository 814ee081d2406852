//! Inodes as vnodes.
//!
//! A vnode is made from the inode once, when it is first looked up, and its attributes stay in memory with
//! it. What the inode says about itself is checked then; block numbers are checked where they are used.

use super::disk::{DIRECT, Inode, ROOT_INO};
use super::map::{BlockMap, Run};
use super::{Core, Volume};
use crate::fs::FsError;
use crate::fs::ubc::FileObject;
use crate::fs::vcache::Recyclable;
use crate::fs::vnode::{Attributes, DeviceNumber, Emit, Kind, Time, Vnode, VnodeRef};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use async_trait::async_trait;
use zerocopy::IntoBytes;
use zerocopy::little_endian::U32;

/// A symbolic link shorter than this is kept in the inode.
const FAST_SYMLINK: usize = size_of::<[u32; DIRECT + 3]>();

/// A file of an ext2 file system.
pub struct Ext2Vnode {
    /// For looking up names; the volume keeps its vnodes, not the other way round.
    volume: Weak<Volume>,
    attributes: Attributes,
    map: Arc<BlockMap>,
    /// Regular files only.
    object: Option<Arc<FileObject>>,
    /// Whether a symbolic link's text is where block numbers would be.
    is_fast_symlink: bool,
}

impl Ext2Vnode {
    /// The vnode of inode `ino`, as the disk has it.
    pub(super) fn new(volume: &Arc<Volume>, ino: u32, disk: &Inode) -> Result<Ext2Vnode, FsError> {
        let core = &volume.core;
        let geometry = &core.geometry;
        let mode = disk.mode.get();
        if disk.links_count.get() == 0 {
            return Err(FsError::Damaged(
                "a name leads to an inode that is not in use",
            ));
        }
        let kind = Kind::from_mode(mode).ok_or(FsError::Damaged("type of an inode"))?;
        if ino == ROOT_INO && kind != Kind::Directory {
            return Err(FsError::Damaged("the root is no directory"));
        }
        let block_size = u64::from(geometry.block_size);
        let mut size = u64::from(disk.size.get());
        if kind == Kind::Regular {
            size |= u64::from(disk.size_high.get()) << 32;
        }
        let blocks = size.div_ceil(block_size);
        match kind {
            Kind::Regular if size > geometry.max_file_size() => {
                return Err(FsError::Damaged("size of a file"));
            }
            // Directories have no holes.
            Kind::Directory
                if size == 0
                    || !size.is_multiple_of(block_size)
                    || blocks > u64::from(geometry.blocks) =>
            {
                return Err(FsError::Damaged("size of a directory"));
            }
            _ => {}
        }
        let attribute_sectors = match disk.file_acl.get() {
            0 => 0,
            _ => geometry.block_size / 512,
        };
        let has_data = disk.sectors.get() > attribute_sectors;
        let is_fast_symlink = kind == Kind::Symlink && !has_data;
        if kind == Kind::Symlink {
            let limit = match is_fast_symlink {
                true => FAST_SYMLINK as u64 - 1,
                false => block_size.min(crate::fs::namei::PATH_MAX as u64 - 1),
            };
            if size == 0 || size > limit {
                return Err(FsError::Damaged("size of a symbolic link"));
            }
        }
        let roots = disk.block.map(U32::get);
        let map = Arc::new(BlockMap {
            core: core.clone(),
            roots,
            blocks,
        });
        let object = match kind {
            Kind::Regular => Some(FileObject::new(&core.uvm, map.clone(), size)?),
            _ => None,
        };
        let is_device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
        let wide = |low: u16, high: u16| u32::from(low) | u32::from(high) << 16;
        let moment = |seconds: U32| Time {
            seconds: i64::from(seconds.get() as i32),
            nanoseconds: 0,
        };
        let attributes = Attributes {
            device: core.device_number,
            ino: u64::from(ino),
            kind,
            permissions: mode & 0o7777,
            links: u32::from(disk.links_count.get()),
            uid: wide(disk.uid.get(), disk.uid_high.get()),
            gid: wide(disk.gid.get(), disk.gid_high.get()),
            represents: match is_device {
                true => device_number(roots[0], roots[1]),
                false => DeviceNumber::default(),
            },
            size,
            block_size: geometry.block_size,
            blocks: u64::from(disk.sectors.get()),
            accessed: moment(disk.access_time),
            modified: moment(disk.modification_time),
            changed: moment(disk.change_time),
        };
        Ok(Ext2Vnode {
            volume: Arc::downgrade(volume),
            attributes,
            map,
            object,
            is_fast_symlink,
        })
    }

    pub(super) fn core(&self) -> &Core {
        &self.map.core
    }

    pub(super) fn map(&self) -> &BlockMap {
        &self.map
    }

    pub(super) fn kind_of_file(&self) -> Kind {
        self.attributes.kind
    }

    fn number(&self) -> u32 {
        // It was made from one.
        self.attributes.ino as u32
    }
}

/// A device's number in the old encoding (first word) or the new one (second).
fn device_number(old: u32, new: u32) -> DeviceNumber {
    match old {
        0 => DeviceNumber {
            major: (new >> 8) & 0xfff,
            minor: (new & 0xff) | (new >> 12) & 0xfff00,
        },
        _ => DeviceNumber {
            major: (old >> 8) & 0xff,
            minor: old & 0xff,
        },
    }
}

impl Recyclable for Ext2Vnode {
    fn is_mapped(&self) -> bool {
        self.object
            .as_ref()
            .is_some_and(|object| Arc::strong_count(object) > 1 || object.is_mapped())
    }
}

#[async_trait]
impl Vnode for Ext2Vnode {
    fn kind(&self) -> Kind {
        self.attributes.kind
    }

    fn ino(&self) -> u64 {
        self.attributes.ino
    }

    fn attributes(&self) -> Attributes {
        self.attributes
    }

    fn lookup_cached(&self, name: &[u8]) -> Option<VnodeRef> {
        let volume = self.volume.upgrade()?;
        let ino = volume.names.get(self.number(), name)?;
        Some(volume.vnodes.get(ino)?)
    }

    async fn lookup(&self, name: &[u8]) -> Result<VnodeRef, FsError> {
        // A file system that is gone has no readable names.
        let volume = self.volume.upgrade().ok_or(FsError::Io)?;
        let ino = self.find(name).await?;
        let vnode = volume.vnode(ino).await?;
        volume.names.insert(self.number(), name, ino);
        Ok(vnode)
    }

    async fn read_dir(&self, from: u64, emit: &mut Emit<'_>) -> Result<u64, FsError> {
        self.list(from, emit).await
    }

    async fn read_link(&self) -> Result<Vec<u8>, FsError> {
        if self.attributes.kind != Kind::Symlink {
            return Err(FsError::Invalid);
        }
        let len = self.attributes.size as usize;
        let text = match self.is_fast_symlink {
            true => self.map.roots.map(U32::new).as_bytes()[..len].to_vec(),
            false => match self.map.run(0, 1).await? {
                Run {
                    start: Some(block), ..
                } => self.core().cache.read(u64::from(block)).await?[..len].to_vec(),
                Run { start: None, .. } => {
                    return Err(FsError::Damaged("hole in a symbolic link"));
                }
            },
        };
        match text.contains(&0) {
            true => Err(FsError::Damaged("character in a symbolic link")),
            false => Ok(text),
        }
    }

    fn object(&self) -> Option<&Arc<FileObject>> {
        self.object.as_ref()
    }
}
