//! Descriptors: opening, closing, duplicating, flags.

use super::abi::{base_for, fd, file, out, path};
use super::errno::{Errno, SysError, SysResult};
use super::{Args, tty};
use crate::fs::fd::{Fd, OnExec};
use crate::fs::file::{OpenFile, OpenFlags};
use crate::proc::Current;
use linux_raw_sys::general as sys;

fn on_exec(flags: OpenFlags) -> OnExec {
    match flags.contains(OpenFlags::CLOSE_ON_EXEC) {
        true => OnExec::Close,
        false => OnExec::Keep,
    }
}

pub(super) async fn open(current: &mut Current, [at, flags, mode, ..]: Args) -> SysResult {
    openat(current, [sys::AT_FDCWD as u64, at, flags, mode, 0, 0]).await
}

pub(super) async fn openat(current: &mut Current, [dir, at, flags, ..]: Args) -> SysResult {
    let path = path(current, at).await?;
    let base = base_for(current, dir, &path)?;
    // As on Linux, unknown bits are ignored.
    let flags = OpenFlags::from_bits_truncate(flags as u32);
    let file = current.system().vfs().open(&base, &path, flags).await?;
    let file = tty::opened(current, file)?;
    Ok(current
        .process()
        .files()
        .insert(file, Fd(0), on_exec(flags))?
        .0
        .into())
}

pub(super) fn close(current: &mut Current, [number, ..]: Args) -> SysResult {
    let file = current.process().files().close(fd(number))?;
    drop(file);
    Ok(0)
}

pub(super) fn dup(current: &mut Current, [number, ..]: Args) -> SysResult {
    let file = file(current, number)?;
    Ok(current
        .process()
        .files()
        .insert(file, Fd(0), OnExec::Keep)?
        .0
        .into())
}

pub(super) fn dup2(current: &mut Current, [old, new, ..]: Args) -> SysResult {
    if fd(old) == fd(new) {
        file(current, old)?;
        return Ok(fd(new).0.into());
    }
    duplicate_to(current, old, new, OnExec::Keep)
}

pub(super) fn dup3(current: &mut Current, [old, new, flags, ..]: Args) -> SysResult {
    let allowed = OpenFlags::CLOSE_ON_EXEC.bits();
    if fd(old) == fd(new) || flags as u32 & !allowed != 0 {
        return Err(Errno::EINVAL.into());
    }
    duplicate_to(
        current,
        old,
        new,
        on_exec(OpenFlags::from_bits_truncate(flags as u32)),
    )
}

fn duplicate_to(current: &Current, old: u64, new: u64, on_exec: OnExec) -> SysResult {
    let file = file(current, old)?;
    let replaced = current.process().files().replace(fd(new), file, on_exec)?;
    drop(replaced);
    Ok(fd(new).0.into())
}

pub(super) fn fcntl(current: &mut Current, [number, command, argument, ..]: Args) -> SysResult {
    let files = current.process().files();
    let duplicate = |on_exec| {
        let least = u32::try_from(argument).map_err(|_| Errno::EINVAL)?;
        let file = file(current, number)?;
        Ok::<u64, SysError>(files.insert(file, Fd(least), on_exec)?.0.into())
    };
    match command as u32 {
        sys::F_DUPFD => duplicate(OnExec::Keep),
        sys::F_DUPFD_CLOEXEC => duplicate(OnExec::Close),
        sys::F_GETFD => Ok(match files.on_exec(fd(number))? {
            OnExec::Close => sys::FD_CLOEXEC.into(),
            OnExec::Keep => 0,
        }),
        sys::F_SETFD => {
            let on_exec = match argument as u32 & sys::FD_CLOEXEC {
                0 => OnExec::Keep,
                _ => OnExec::Close,
            };
            files.set_on_exec(fd(number), on_exec)?;
            Ok(0)
        }
        sys::F_GETFL => {
            let flags = file(current, number)?.flags();
            let hidden = OpenFlags::CLOSE_ON_EXEC
                | OpenFlags::CREATE
                | OpenFlags::EXCLUSIVE
                | OpenFlags::TRUNCATE
                | OpenFlags::NO_TERMINAL;
            Ok((flags - hidden).bits().into())
        }
        sys::F_SETFL => {
            file(current, number)?.set_status(OpenFlags::from_bits_truncate(argument as u32));
            Ok(0)
        }
        _ => {
            file(current, number)?;
            Err(Errno::EINVAL.into())
        }
    }
}

pub(super) async fn pipe(current: &mut Current, [at, ..]: Args) -> SysResult {
    pipe2(current, [at, 0, 0, 0, 0, 0]).await
}

pub(super) async fn pipe2(current: &mut Current, [at, flags, ..]: Args) -> SysResult {
    let allowed = OpenFlags::CLOSE_ON_EXEC | OpenFlags::NONBLOCK;
    let flags = OpenFlags::from_bits(flags as u32).filter(|f| allowed.contains(*f));
    let flags = flags.ok_or(Errno::EINVAL)?;
    let (reader, writer) = OpenFile::pipe(flags, &current.system().uvm().heap_room()?);
    let files = current.process().files();
    let reading = files.insert(reader, Fd(0), on_exec(flags))?;
    let writing = match files.insert(writer, Fd(0), on_exec(flags)) {
        Ok(writing) => writing,
        Err(error) => {
            drop(files.close(reading));
            return Err(error.into());
        }
    };
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&reading.0.to_le_bytes());
    bytes[4..].copy_from_slice(&writing.0.to_le_bytes());
    if let Err(error) = out(current, at, &bytes).await {
        for end in [reading, writing] {
            drop(current.process().files().close(end));
        }
        return Err(error);
    }
    Ok(0)
}

/// Nothing is ever dirty while no file system is written.
pub(super) fn sync(_: &mut Current, _: Args) -> SysResult {
    Ok(0)
}

pub(super) fn fsync(current: &mut Current, [number, ..]: Args) -> SysResult {
    let file = file(current, number)?;
    // Pipes and terminals cannot be synchronised.
    match file.location() {
        Some(_) => Ok(0),
        None => Err(Errno::EINVAL.into()),
    }
}

/// Advice on files is taken and not needed: read-ahead follows the faults.
pub(super) fn fadvise(current: &mut Current, [number, ..]: Args) -> SysResult {
    file(current, number)?;
    Ok(0)
}
