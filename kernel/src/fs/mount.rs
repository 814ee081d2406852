//! Mounted file systems, and the one tree of names that they make.
//!
//! [`Vfs`] owns the mount table. A [`Location`] is a vnode together with the mount through which it was
//! reached: that is what working directories and open files keep, since `..` at the root of a mount leads
//! out of it. The table is read under a short spin lock at each step of a lookup and changes only at mount.

use super::FsError;
use super::namei::Follow;
use super::vnode::{Kind, VnodeRef};
use alloc::sync::Arc;
use alloc::vec::Vec;
use executor::sync::SpinRwLock;

/// A file system that can be mounted.
pub trait FileSystem: Send + Sync {
    /// The directory at its top.
    fn root(&self) -> VnodeRef;

    /// Whether nothing can be written.
    fn read_only(&self) -> bool;

    /// Its name among file systems: `ext2`, `devfs`.
    fn name(&self) -> &'static str;

    /// What `statfs` tells.
    fn statistics(&self) -> Statistics;
}

/// What `statfs` tells about a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statistics {
    /// Linux's magic number of the type.
    pub magic: u64,
    /// Unit of the block counts, in bytes.
    pub block_size: u64,
    /// Size, without the file system's own tables.
    pub blocks: u64,
    /// Free blocks.
    pub free: u64,
    /// Free blocks for ordinary users.
    pub available: u64,
    /// Inodes.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
    /// Longest name, in bytes.
    pub name_max: u64,
}

/// A file system at its place in the tree.
pub struct Mount {
    fs: Arc<dyn FileSystem>,
    root: VnodeRef,
    /// The directory that it hides; none for the root of all.
    covers: Option<Location>,
}

impl Mount {
    /// The file system.
    pub fn fs(&self) -> &Arc<dyn FileSystem> {
        &self.fs
    }

    /// The directory that it hides; none for the root of all.
    pub fn covers(&self) -> Option<&Location> {
        self.covers.as_ref()
    }
}

/// A vnode, and the mount through which it was reached.
#[derive(Clone)]
pub struct Location {
    mount: Arc<Mount>,
    vnode: VnodeRef,
}

impl Location {
    pub(super) fn new(mount: Arc<Mount>, vnode: VnodeRef) -> Location {
        Location { mount, vnode }
    }

    /// The mount.
    pub fn mount(&self) -> &Arc<Mount> {
        &self.mount
    }

    /// The vnode.
    pub fn vnode(&self) -> &VnodeRef {
        &self.vnode
    }

    /// Whether both are the same file in the same mount.
    pub fn same(&self, other: &Location) -> bool {
        Arc::ptr_eq(&self.mount, &other.mount) && self.vnode.ino() == other.vnode.ino()
    }

    /// Whether this is the top of its mount.
    pub fn is_mount_root(&self) -> bool {
        self.vnode.ino() == self.mount.root.ino()
    }
}

/// The tree of names: all mounts.
pub struct Vfs {
    /// The root first. Mounts are few: a scan is the fastest index.
    mounts: SpinRwLock<Vec<Arc<Mount>>>,
}

impl Default for Vfs {
    fn default() -> Vfs {
        Vfs::new()
    }
}

impl Vfs {
    /// A tree with nothing mounted.
    pub const fn new() -> Vfs {
        Vfs {
            mounts: SpinRwLock::new(Vec::new()),
        }
    }

    /// Makes `fs` the root. Once, before anything is looked up.
    ///
    /// # Errors
    /// [`FsError::Busy`] if there is a root.
    pub fn mount_root(&self, fs: Arc<dyn FileSystem>) -> Result<(), FsError> {
        let root = fs.root();
        let mut mounts = self.mounts.write();
        if !mounts.is_empty() {
            return Err(FsError::Busy);
        }
        mounts.push(Arc::new(Mount {
            fs,
            root,
            covers: None,
        }));
        Ok(())
    }

    /// Mounts `fs` over the directory at the absolute `path`. Awaits the lookup.
    ///
    /// # Errors
    /// [`FsError::NotDirectory`], and those of lookup.
    pub async fn mount(&self, path: &[u8], fs: Arc<dyn FileSystem>) -> Result<(), FsError> {
        let covered = self.lookup(&self.root()?, path, Follow::Always).await?;
        if covered.vnode.kind() != Kind::Directory {
            return Err(FsError::NotDirectory);
        }
        let root = fs.root();
        self.mounts.write().push(Arc::new(Mount {
            fs,
            root,
            covers: Some(covered),
        }));
        Ok(())
    }

    /// The top of the tree.
    ///
    /// # Errors
    /// [`FsError::NotFound`] while there is no root.
    pub fn root(&self) -> Result<Location, FsError> {
        let mounts = self.mounts.read();
        let mount = mounts.first().ok_or(FsError::NotFound)?;
        Ok(Location::new(mount.clone(), mount.root.clone()))
    }

    /// All mounts, the root first.
    pub fn mounts(&self) -> Vec<Arc<Mount>> {
        self.mounts.read().clone()
    }

    /// What stands at `location`: the root of the mount that hides it, if one does.
    pub(super) fn uncovered(&self, mut location: Location) -> Location {
        if location.vnode.kind() != Kind::Directory {
            return location;
        }
        let mounts = self.mounts.read();
        // The latest mount on a directory is the one seen.
        while let Some(above) = mounts.iter().rev().find(|m| {
            m.covers
                .as_ref()
                .is_some_and(|covered| covered.same(&location))
        }) {
            location = Location::new(above.clone(), above.root.clone());
        }
        location
    }
}
