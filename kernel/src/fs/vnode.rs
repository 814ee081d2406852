//! Vnodes: what every file system makes of a file.
//!
//! A file system hands out one vnode per inode for as long as anybody uses it (its [`VnodeCache`] sees to
//! that), so a file has one memory object: the vnode owns it, and `read`, `mmap` and `exec` all meet in its
//! pages. Attributes are in memory while the vnode is, so reading them never waits; looking up names,
//! listing and reading links may.
//!
//! [`VnodeCache`]: super::vcache::VnodeCache

use super::FsError;
use super::devfs::Device;
use super::ubc::FileObject;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use async_trait::async_trait;
use core::ops::ControlFlow;

/// A vnode as everybody holds it.
pub type VnodeRef = Arc<dyn Vnode>;

/// Type of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Bytes, with a memory object.
    Regular,
    /// Names.
    Directory,
    /// Another path.
    Symlink,
    /// Character device.
    CharDevice,
    /// Block device.
    BlockDevice,
    /// Pipe.
    Fifo,
    /// Socket.
    Socket,
}

impl Kind {
    /// The type's bits in a mode word, as `stat` and the disk have them.
    pub const fn mode_bits(self) -> u16 {
        match self {
            Kind::Fifo => 0o010000,
            Kind::CharDevice => 0o020000,
            Kind::Directory => 0o040000,
            Kind::BlockDevice => 0o060000,
            Kind::Regular => 0o100000,
            Kind::Symlink => 0o120000,
            Kind::Socket => 0o140000,
        }
    }

    /// The type that a mode word names; `None` when its bits name none.
    pub const fn from_mode(mode: u16) -> Option<Kind> {
        Some(match mode & 0o170000 {
            0o010000 => Kind::Fifo,
            0o020000 => Kind::CharDevice,
            0o040000 => Kind::Directory,
            0o060000 => Kind::BlockDevice,
            0o100000 => Kind::Regular,
            0o120000 => Kind::Symlink,
            0o140000 => Kind::Socket,
            _ => return None,
        })
    }

    /// The type as `getdents64` names it (`DT_*`).
    pub const fn dirent_type(self) -> u8 {
        (self.mode_bits() >> 12) as u8
    }
}

/// A moment: seconds since 1970, and nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Seconds.
    pub seconds: i64,
    /// Nanoseconds, below a thousand million.
    pub nanoseconds: u32,
}

/// A device's number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceNumber {
    /// Which driver.
    pub major: u32,
    /// Which of its devices.
    pub minor: u32,
}

impl DeviceNumber {
    /// As Linux's `stat` packs it into 64 bits (`makedev`).
    pub const fn packed(self) -> u64 {
        let (major, minor) = (self.major as u64, self.minor as u64);
        (minor & 0xff) | (major & 0xfff) << 8 | (minor & !0xff) << 12 | (major & !0xfff) << 32
    }
}

/// What `stat` tells about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Device number of the file system (packed).
    pub device: u64,
    /// Inode number, unique within the file system.
    pub ino: u64,
    /// Type.
    pub kind: Kind,
    /// Permissions and set-id bits (`& 0o7777`).
    pub permissions: u16,
    /// Names this file has.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Which device, for device nodes.
    pub represents: DeviceNumber,
    /// Bytes.
    pub size: u64,
    /// Preferred transfer, in bytes.
    pub block_size: u32,
    /// Disk space, in units of 512 bytes.
    pub blocks: u64,
    /// Last read.
    pub accessed: Time,
    /// Last write.
    pub modified: Time,
    /// Last change of the inode.
    pub changed: Time,
}

impl Attributes {
    /// The whole mode word.
    pub const fn mode(&self) -> u16 {
        self.kind.mode_bits() | self.permissions
    }

    /// Whether anybody may execute it: all that the superuser asks.
    pub const fn is_executable(&self) -> bool {
        self.permissions & 0o111 != 0
    }
}

/// One name of a directory.
#[derive(Debug, Clone, Copy)]
pub struct DirEntry<'a> {
    /// Inode that it names.
    pub ino: u64,
    /// Type, where the directory says it.
    pub kind: Option<Kind>,
    /// The name: 1 to 255 bytes, neither `/` nor NUL in it.
    pub name: &'a [u8],
    /// Where to go on after this entry.
    pub next: u64,
}

/// Takes the names of a directory one by one; `Break` leaves the given one for the next call. Must not wait:
/// the directory's block is held meanwhile.
pub type Emit<'a> = dyn FnMut(DirEntry<'_>) -> ControlFlow<()> + Send + 'a;

/// A file, directory, link or device of a file system.
#[async_trait]
pub trait Vnode: Send + Sync {
    /// Type of the file. Never changes.
    fn kind(&self) -> Kind;

    /// Number within its file system. Never changes while the vnode lives.
    fn ino(&self) -> u64;

    /// What `stat` tells.
    fn attributes(&self) -> Attributes;

    /// The vnode that `name` leads to, if that is known without waiting.
    fn lookup_cached(&self, _name: &[u8]) -> Option<VnodeRef> {
        None
    }

    /// The vnode that `name` leads to. `.` and `..` are names like others; in the root of a file system `..`
    /// is the root itself.
    ///
    /// # Errors
    /// [`FsError::NotDirectory`] unless this is a directory, [`FsError::NotFound`], and what reading a
    /// directory and an inode can meet.
    async fn lookup(&self, _name: &[u8]) -> Result<VnodeRef, FsError> {
        Err(FsError::NotDirectory)
    }

    /// Emits the names from `from` on (0, or the `next` of an entry emitted earlier; anything else is
    /// harmless). Returns where it stopped.
    ///
    /// # Errors
    /// [`FsError::NotDirectory`] unless this is a directory, and what reading one can meet.
    async fn read_dir(&self, _from: u64, _emit: &mut Emit<'_>) -> Result<u64, FsError> {
        Err(FsError::NotDirectory)
    }

    /// The path that a symbolic link holds.
    ///
    /// # Errors
    /// [`FsError::Invalid`] unless this is a symbolic link, and what reading one can meet.
    async fn read_link(&self) -> Result<Vec<u8>, FsError> {
        Err(FsError::Invalid)
    }

    /// A regular file's memory: what `mmap` maps and `read` reads. The same one every time.
    fn object(&self) -> Option<&Arc<FileObject>> {
        None
    }

    /// The device behind a device node.
    fn device(&self) -> Option<Device> {
        None
    }
}
