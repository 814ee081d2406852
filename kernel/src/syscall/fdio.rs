//! Reading and writing through descriptors.

use super::abi::{file, out, transfer, words};
use super::errno::{Errno, SysError, SysResult};
use super::{Args, abi, tty};
use crate::fs::FsError;
use crate::fs::file::{OpenFile, Whence};
use crate::fs::vnode::DirEntry;
use crate::proc::Current;
use crate::proc::signal::{SigInfo, Signal};
use crate::proc::usermem::{Piece, UserBuffer};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::ControlFlow;
use linux_raw_sys::general as sys;

/// `UIO_MAXIOV`.
const MAX_PIECES: u64 = 1024;
/// Pieces taken from the program at a time: a kernel block of a page.
const PIECES_AT_ONCE: usize = 256;
/// Bytes that `sendfile` moves at a time.
const SENDFILE_CHUNK: usize = 4096;

pub(super) async fn read(current: &mut Current, [number, buf, len, ..]: Args) -> SysResult {
    let file = file(current, number)?;
    tty::may_read(current, &file)?;
    let mut sink = UserBuffer::new(current.space(), buf, transfer(len));
    Ok(file.read(&**current.lwp(), &mut sink).await? as u64)
}

pub(super) async fn write(current: &mut Current, [number, buf, len, ..]: Args) -> SysResult {
    let file = file(current, number)?;
    tty::may_write(current, &file)?;
    let mut source = UserBuffer::new(current.space(), buf, transfer(len));
    let written = file.write(&**current.lwp(), &mut source).await;
    written_or_pipe(current, written)
}

/// A write to a pipe that nobody reads also owes the writer a signal.
fn written_or_pipe(current: &Current, written: Result<usize, FsError>) -> SysResult {
    if written == Err(FsError::BrokenPipe) {
        let info = SigInfo::from_process(Signal::PIPE, current.process().pid().0);
        current.process().post(info);
    }
    Ok(written? as u64)
}

pub(super) async fn pread64(
    current: &mut Current,
    [number, buf, len, offset, ..]: Args,
) -> SysResult {
    if (offset as i64) < 0 {
        return Err(Errno::EINVAL.into());
    }
    let file = file(current, number)?;
    let mut sink = UserBuffer::new(current.space(), buf, transfer(len));
    Ok(file.read_at(&mut sink, offset).await? as u64)
}

/// The pieces of a scattered buffer, at most [`PIECES_AT_ONCE`] and [`abi::MAX_TRANSFER`] bytes of them: a
/// call may move less than was asked for.
async fn pieces(current: &Current, at: u64, count: u64) -> Result<Vec<Piece>, SysError> {
    if count > MAX_PIECES {
        return Err(Errno::EINVAL.into());
    }
    let count = (count as usize).min(PIECES_AT_ONCE);
    let mut pieces = Vec::new();
    pieces
        .try_reserve_exact(count)
        .map_err(|_| SysError::Shortage)?;
    let mut room = abi::MAX_TRANSFER;
    for i in 0..count as u64 {
        let [start, len] = words(current, at.wrapping_add(16 * i)).await?;
        if (len as i64) < 0 {
            return Err(Errno::EINVAL.into());
        }
        let len = len.min(room);
        room -= len;
        pieces.push(Piece { at: start, len });
    }
    Ok(pieces)
}

pub(super) async fn readv(current: &mut Current, [number, at, count, ..]: Args) -> SysResult {
    let file = file(current, number)?;
    tty::may_read(current, &file)?;
    let pieces = pieces(current, at, count).await?;
    let mut sink = UserBuffer::scattered(current.space(), pieces);
    Ok(file.read(&**current.lwp(), &mut sink).await? as u64)
}

pub(super) async fn writev(current: &mut Current, [number, at, count, ..]: Args) -> SysResult {
    let file = file(current, number)?;
    tty::may_write(current, &file)?;
    let pieces = pieces(current, at, count).await?;
    let mut source = UserBuffer::scattered(current.space(), pieces);
    let written = file.write(&**current.lwp(), &mut source).await;
    written_or_pipe(current, written)
}

pub(super) async fn lseek(
    current: &mut Current,
    [number, distance, whence, ..]: Args,
) -> SysResult {
    let file = file(current, number)?;
    let whence = match whence as u32 {
        sys::SEEK_SET => Whence::Start,
        sys::SEEK_CUR => Whence::Current,
        sys::SEEK_END => Whence::End,
        _ => return Err(Errno::EINVAL.into()),
    };
    Ok(file.seek(distance as i64, whence).await?)
}

/// Between two files without passing through the program: a page of kernel memory at a time.
pub(super) async fn sendfile(
    current: &mut Current,
    [to, from, offset_at, len, ..]: Args,
) -> SysResult {
    let (to, from) = (file(current, to)?, file(current, from)?);
    if !to.flags().writes() {
        return Err(Errno::EBADF.into());
    }
    tty::may_write(current, &to)?;
    let mut offset = match offset_at {
        0 => from.seek(0, Whence::Current).await?,
        at => words::<1>(current, at).await?[0],
    };
    if (offset as i64) < 0 {
        return Err(Errno::EINVAL.into());
    }
    let len = transfer(len);
    let mut buffer = Vec::new();
    buffer
        .try_reserve_exact(SENDFILE_CHUNK.min(len))
        .map_err(|_| SysError::Shortage)?;
    let mut total = 0;
    let mut failure = None;
    while total < len {
        match step(current, &to, &from, offset, len - total, &mut buffer).await {
            Ok(0) => break,
            Ok(n) => {
                total += n;
                offset += n as u64;
            }
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    match offset_at {
        0 => {
            from.seek(offset as i64, Whence::Start).await?;
        }
        at => abi::out_words(current, at, [offset]).await?,
    }
    match failure {
        Some(error) if total == 0 => written_or_pipe(current, Err(error)),
        _ => Ok(total as u64),
    }
}

async fn step(
    current: &Current,
    to: &Arc<OpenFile>,
    from: &Arc<OpenFile>,
    offset: u64,
    most: usize,
    buffer: &mut Vec<u8>,
) -> Result<usize, FsError> {
    buffer.resize(most.min(SENDFILE_CHUNK), 0);
    let n = from.read_at(&mut &mut buffer[..], offset).await?;
    let mut source = &buffer[..n];
    to.write(&**current.lwp(), &mut source).await
}

/// Offset of the name in `struct linux_dirent64`.
const NAME_AT: usize = 19;
/// Bytes of entries collected before they are copied out.
const DIRENTS_LEN: usize = 2048;

pub(super) async fn getdents64(current: &mut Current, [number, buf, len, ..]: Args) -> SysResult {
    let file = file(current, number)?;
    let most = (len as u32 as usize).min(DIRENTS_LEN);
    let mut entries: Vec<u8> = Vec::new();
    entries
        .try_reserve_exact(most)
        .map_err(|_| SysError::Shortage)?;
    let mut full = false;
    let mut emit = |entry: DirEntry<'_>| {
        let record = (NAME_AT + entry.name.len() + 1).next_multiple_of(8);
        if entries.len() + record > most {
            full = true;
            return ControlFlow::Break(());
        }
        let start = entries.len();
        entries.extend(entry.ino.to_le_bytes());
        entries.extend(entry.next.to_le_bytes());
        entries.extend((record as u16).to_le_bytes());
        entries.push(entry.kind.map_or(0, |kind| kind.dirent_type()));
        entries.extend(entry.name);
        entries.resize(start + record, 0);
        ControlFlow::Continue(())
    };
    let before = file.seek(0, Whence::Current).await?;
    file.read_dir(&mut emit).await?;
    if entries.is_empty() && full {
        return Err(Errno::EINVAL.into());
    }
    if let Err(error) = out(current, buf, &entries).await {
        file.seek(before as i64, Whence::Start).await?;
        return Err(error);
    }
    Ok(entries.len() as u64)
}
