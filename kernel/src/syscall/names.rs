//! Files by name: what they are, where links lead, where one is.

use super::Args;
use super::abi::{base_for, file, out, out_words, path};
use super::errno::{Errno, SysError, SysResult};
use crate::fs::FsError;
use crate::fs::mount::{Location, Statistics};
use crate::fs::namei::{Follow, Resolved};
use crate::fs::vnode::{Attributes, Kind};
use crate::proc::Current;
use linux_raw_sys::general as sys;

const CWD: u64 = sys::AT_FDCWD as u64;

fn follow(flags: u64) -> Follow {
    match flags as u32 & sys::AT_SYMLINK_NOFOLLOW {
        0 => Follow::Always,
        _ => Follow::NotLast,
    }
}

async fn lookup(
    current: &Current,
    dir: u64,
    at: u64,
    follow: Follow,
) -> Result<Location, SysError> {
    let path = path(current, at).await?;
    let base = base_for(current, dir, &path)?;
    Ok(current.system().vfs().lookup(&base, &path, follow).await?)
}

/// The attributes of what a path leads to; with `AT_EMPTY_PATH` and no path, of the descriptor's file.
async fn attributes(
    current: &Current,
    dir: u64,
    at: u64,
    flags: u64,
) -> Result<Attributes, SysError> {
    if flags as u32 & sys::AT_EMPTY_PATH != 0 {
        let path = path(current, at).await?;
        if path.is_empty() && dir != CWD {
            return Ok(file(current, dir)?.attributes());
        }
        let location = match path.is_empty() {
            true => current.process().cwd().ok_or(FsError::NotFound)?,
            false => {
                current
                    .system()
                    .vfs()
                    .lookup(&base_for(current, dir, &path)?, &path, follow(flags))
                    .await?
            }
        };
        return Ok(location.vnode().attributes());
    }
    Ok(lookup(current, dir, at, follow(flags))
        .await?
        .vnode()
        .attributes())
}

/// `struct stat`.
fn stat_words(a: &Attributes) -> [u64; 18] {
    let time = |t: crate::fs::vnode::Time| [t.seconds as u64, t.nanoseconds.into()];
    let ([at, atn], [mt, mtn], [ct, ctn]) = (time(a.accessed), time(a.modified), time(a.changed));
    [
        a.device,
        a.ino,
        a.links.into(),
        u64::from(a.mode()) | u64::from(a.uid) << 32,
        a.gid.into(),
        a.represents.packed(),
        a.size,
        a.block_size.into(),
        a.blocks,
        at,
        atn,
        mt,
        mtn,
        ct,
        ctn,
        0,
        0,
        0,
    ]
}

pub(super) async fn stat(current: &mut Current, [at, to, ..]: Args) -> SysResult {
    newfstatat(current, [CWD, at, to, 0, 0, 0]).await
}

pub(super) async fn lstat(current: &mut Current, [at, to, ..]: Args) -> SysResult {
    newfstatat(
        current,
        [CWD, at, to, sys::AT_SYMLINK_NOFOLLOW.into(), 0, 0],
    )
    .await
}

pub(super) async fn fstat(current: &mut Current, [number, to, ..]: Args) -> SysResult {
    let words = stat_words(&file(current, number)?.attributes());
    out_words(current, to, words).await?;
    Ok(0)
}

pub(super) async fn newfstatat(current: &mut Current, [dir, at, to, flags, ..]: Args) -> SysResult {
    let known = sys::AT_SYMLINK_NOFOLLOW | sys::AT_EMPTY_PATH | sys::AT_NO_AUTOMOUNT;
    if flags & !u64::from(known) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let attributes = attributes(current, dir, at, flags).await?;
    out_words(current, to, stat_words(&attributes)).await?;
    Ok(0)
}

/// `struct statx`, of which all but the basic facts stay zero.
fn statx_words(a: &Attributes) -> [u64; 32] {
    let mut words = [0; 32];
    let time = |t: crate::fs::vnode::Time| [t.seconds as u64, t.nanoseconds.into()];
    let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    words[0] = pair(sys::STATX_BASIC_STATS, a.block_size);
    words[2] = pair(a.links, a.uid);
    words[3] = pair(a.gid, a.mode().into());
    [words[4], words[5], words[6]] = [a.ino, a.size, a.blocks];
    words[8..10].copy_from_slice(&time(a.accessed));
    words[12..14].copy_from_slice(&time(a.changed));
    words[14..16].copy_from_slice(&time(a.modified));
    words[16] = pair(a.represents.major, a.represents.minor);
    words[17] = pair(
        (a.device >> 8 & 0xfff) as u32,
        (a.device & 0xff | a.device >> 12 & 0xfff00) as u32,
    );
    words
}

pub(super) async fn statx(current: &mut Current, [dir, at, flags, _, to, ..]: Args) -> SysResult {
    let known = sys::AT_SYMLINK_NOFOLLOW
        | sys::AT_EMPTY_PATH
        | sys::AT_NO_AUTOMOUNT
        | sys::AT_STATX_SYNC_TYPE;
    if flags & !u64::from(known) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let attributes = attributes(current, dir, at, flags).await?;
    out_words(current, to, statx_words(&attributes)).await?;
    Ok(0)
}

/// `struct statfs`.
fn statfs_words(s: &Statistics) -> [u64; 15] {
    let sizes = [
        s.magic,
        s.block_size,
        s.blocks,
        s.free,
        s.available,
        s.files,
        s.files_free,
    ];
    let mut words = [0; 15];
    words[..7].copy_from_slice(&sizes);
    words[8] = s.name_max;
    words[9] = s.block_size;
    words
}

pub(super) async fn statfs(current: &mut Current, [at, to, ..]: Args) -> SysResult {
    let location = lookup(current, CWD, at, Follow::Always).await?;
    out_words(
        current,
        to,
        statfs_words(&location.mount().fs().statistics()),
    )
    .await?;
    Ok(0)
}

pub(super) async fn fstatfs(current: &mut Current, [number, to, ..]: Args) -> SysResult {
    let file = file(current, number)?;
    let location = file.location().ok_or(Errno::ENOSYS)?;
    out_words(
        current,
        to,
        statfs_words(&location.mount().fs().statistics()),
    )
    .await?;
    Ok(0)
}

pub(super) async fn access(current: &mut Current, [at, mode, ..]: Args) -> SysResult {
    faccessat(current, [CWD, at, mode, 0, 0, 0]).await
}

/// What the superuser may do: everything, but execute what nobody may, and write what cannot be written.
pub(super) async fn faccessat(
    current: &mut Current,
    [dir, at, mode, flags, ..]: Args,
) -> SysResult {
    if mode & !u64::from(sys::R_OK | sys::W_OK | sys::X_OK) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let location = lookup(current, dir, at, follow(flags)).await?;
    let attributes = location.vnode().attributes();
    let regular = attributes.kind == Kind::Regular;
    if mode as u32 & sys::X_OK != 0 && regular && !attributes.is_executable() {
        return Err(Errno::EACCES.into());
    }
    let stored = regular || attributes.kind == Kind::Directory;
    if mode as u32 & sys::W_OK != 0 && stored && location.mount().fs().read_only() {
        return Err(Errno::EROFS.into());
    }
    Ok(0)
}

pub(super) async fn readlink(current: &mut Current, [at, to, len, ..]: Args) -> SysResult {
    readlinkat(current, [CWD, at, to, len, 0, 0]).await
}

pub(super) async fn readlinkat(current: &mut Current, [dir, at, to, len, ..]: Args) -> SysResult {
    if (len as i32) <= 0 {
        return Err(Errno::EINVAL.into());
    }
    let location = lookup(current, dir, at, Follow::NotLast).await?;
    let target = location.vnode().read_link().await?;
    let len = target.len().min(len as u32 as usize);
    out(current, to, &target[..len]).await?;
    Ok(len as u64)
}

pub(super) async fn getcwd(current: &mut Current, [to, len, ..]: Args) -> SysResult {
    let cwd = current.process().cwd().ok_or(FsError::NotFound)?;
    let mut path = current.system().vfs().path_of(&cwd).await?;
    path.push(0);
    if path.len() as u64 > len {
        return Err(Errno::ERANGE.into());
    }
    out(current, to, &path).await?;
    Ok(path.len() as u64)
}

fn change_to(current: &Current, location: Location) -> SysResult {
    if location.vnode().kind() != Kind::Directory {
        return Err(FsError::NotDirectory.into());
    }
    current.process().set_cwd(Some(location));
    Ok(0)
}

pub(super) async fn chdir(current: &mut Current, [at, ..]: Args) -> SysResult {
    let location = lookup(current, CWD, at, Follow::Always).await?;
    change_to(current, location)
}

pub(super) async fn fchdir(current: &mut Current, [number, ..]: Args) -> SysResult {
    let location = file(current, number)?.directory()?.clone();
    change_to(current, location)
}

/// Making names: no file system that can be mounted can be written.
pub(super) async fn create(current: &mut Current, [at, ..]: Args) -> SysResult {
    create_at(current, [CWD, at, 0, 0, 0, 0]).await
}

pub(super) async fn create_at(current: &mut Current, [dir, at, ..]: Args) -> SysResult {
    let path = path(current, at).await?;
    let base = base_for(current, dir, &path)?;
    match current
        .system()
        .vfs()
        .resolve(&base, &path, Follow::NotLast)
        .await?
    {
        Resolved::Found(_) => Err(FsError::Exists.into()),
        Resolved::Missing { .. } => Err(FsError::ReadOnly.into()),
    }
}

/// Removing names: the same.
pub(super) async fn remove(current: &mut Current, [at, ..]: Args) -> SysResult {
    remove_at(current, [CWD, at, 0, 0, 0, 0]).await
}

pub(super) async fn remove_at(current: &mut Current, [dir, at, ..]: Args) -> SysResult {
    lookup(current, dir, at, Follow::NotLast).await?;
    Err(FsError::ReadOnly.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::vnode::{DeviceNumber, Time};
    use core::mem::{offset_of, size_of};

    #[test]
    fn facts_lie_where_linux_has_them() {
        let a = Attributes {
            device: 0x801,
            ino: 12,
            kind: Kind::Regular,
            permissions: 0o755,
            links: 3,
            uid: 5,
            gid: 6,
            represents: DeviceNumber {
                major: 4,
                minor: 64,
            },
            size: 7777,
            block_size: 4096,
            blocks: 16,
            accessed: Time {
                seconds: 1,
                nanoseconds: 2,
            },
            modified: Time {
                seconds: 3,
                nanoseconds: 4,
            },
            changed: Time {
                seconds: 5,
                nanoseconds: 6,
            },
        };
        let words = stat_words(&a);
        let bytes = zerocopy::IntoBytes::as_bytes(&words);
        assert_eq!(bytes.len(), size_of::<sys::stat>());
        let u32_at = |b: &[u8], at: usize| u32::from_le_bytes(b[at..at + 4].try_into().unwrap());
        let u64_at = |b: &[u8], at: usize| u64::from_le_bytes(b[at..at + 8].try_into().unwrap());
        assert_eq!(u32_at(bytes, offset_of!(sys::stat, st_mode)), 0o100755);
        assert_eq!(u32_at(bytes, offset_of!(sys::stat, st_uid)), 5);
        assert_eq!(u32_at(bytes, offset_of!(sys::stat, st_gid)), 6);
        assert_eq!(u64_at(bytes, offset_of!(sys::stat, st_size)), 7777);
        assert_eq!(u64_at(bytes, offset_of!(sys::stat, st_mtime)), 3);
        assert_eq!(u64_at(bytes, offset_of!(sys::stat, st_ctime_nsec)), 6);

        let words = statx_words(&a);
        let bytes = zerocopy::IntoBytes::as_bytes(&words);
        assert_eq!(bytes.len(), size_of::<sys::statx>());
        assert_eq!(u32_at(bytes, offset_of!(sys::statx, stx_blksize)), 4096);
        assert_eq!(
            u32_at(bytes, offset_of!(sys::statx, stx_mode)) as u16,
            0o100755
        );
        assert_eq!(u64_at(bytes, offset_of!(sys::statx, stx_size)), 7777);
        assert_eq!(u64_at(bytes, offset_of!(sys::statx, stx_mtime)), 3);
        assert_eq!(u64_at(bytes, offset_of!(sys::statx, stx_ctime)), 5);
        assert_eq!(u32_at(bytes, offset_of!(sys::statx, stx_rdev_minor)), 64);
        assert_eq!(u32_at(bytes, offset_of!(sys::statx, stx_dev_major)), 8);
        assert_eq!(size_of::<sys::statfs>(), size_of::<[u64; 15]>());
    }
}
