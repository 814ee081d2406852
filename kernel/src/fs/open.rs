//! Opening files by name.

use super::FsError;
use super::file::{OpenFile, OpenFlags, Target};
use super::mount::{Location, Vfs};
use super::namei::{Follow, Resolved};
use super::vnode::Kind;
use alloc::sync::Arc;

impl Vfs {
    /// Opens the file at `path`, seen from the directory `base`. Awaits the lookup.
    ///
    /// # Errors
    /// Those of [`lookup`](Self::lookup); [`FsError::ReadOnly`] where the file system would have to be
    /// written, [`FsError::Exists`], [`FsError::IsDirectory`], [`FsError::NotDirectory`],
    /// [`FsError::NoDevice`] for nodes without a device, [`FsError::Loop`] for a link under
    /// [`OpenFlags::NOFOLLOW`].
    pub async fn open(
        &self,
        base: &Location,
        path: &[u8],
        flags: OpenFlags,
    ) -> Result<Arc<OpenFile>, FsError> {
        let exclusive = flags.contains(OpenFlags::CREATE | OpenFlags::EXCLUSIVE);
        let follow = match exclusive || flags.contains(OpenFlags::NOFOLLOW) {
            true => Follow::NotLast,
            false => Follow::Always,
        };
        let location = match self.resolve(base, path, follow).await? {
            Resolved::Found(_) if exclusive => return Err(FsError::Exists),
            Resolved::Found(location) => location,
            // No file system that can be mounted can create files.
            Resolved::Missing { .. } if flags.contains(OpenFlags::CREATE) => {
                return Err(FsError::ReadOnly);
            }
            Resolved::Missing { .. } => return Err(FsError::NotFound),
        };
        open_at(location, flags)
    }
}

/// Opens what stands at `location`.
///
/// # Errors
/// Those of [`Vfs::open`] but for the lookup's.
pub fn open_at(location: Location, flags: OpenFlags) -> Result<Arc<OpenFile>, FsError> {
    let vnode = location.vnode().clone();
    let kind = vnode.kind();
    let alters = flags.writes() || flags.contains(OpenFlags::TRUNCATE);
    if flags.contains(OpenFlags::DIRECTORY) && kind != Kind::Directory {
        return Err(FsError::NotDirectory);
    }
    let target = match kind {
        Kind::Directory if alters || flags.contains(OpenFlags::CREATE) => {
            return Err(FsError::IsDirectory);
        }
        Kind::Directory => Target::Directory(location),
        Kind::Symlink => return Err(FsError::Loop),
        Kind::Regular if alters && location.mount().fs().read_only() => {
            return Err(FsError::ReadOnly);
        }
        Kind::Regular => {
            let object = vnode.object().ok_or(FsError::NotSupported)?.clone();
            Target::Regular(location, object)
        }
        Kind::CharDevice | Kind::BlockDevice | Kind::Fifo | Kind::Socket => {
            let device = vnode.device().ok_or(FsError::NoDevice)?;
            Target::Device(location, device)
        }
    };
    Ok(OpenFile::new(target, flags))
}
