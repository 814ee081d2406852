//! Helpers that handlers share: descriptors, paths and structures of the program's.

use super::errno::{Errno, SysError};
use crate::fs::FsError;
use crate::fs::fd::Fd;
use crate::fs::file::OpenFile;
use crate::fs::mount::Location;
use crate::fs::namei::PATH_MAX;
use crate::proc::Current;
use crate::proc::usermem::{self, BadAddress};
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general as sys;

/// Most bytes that one read or write transfers, as on Linux: the rest is another call's.
pub(super) const MAX_TRANSFER: u64 = 0x7fff_f000;

/// A descriptor argument.
pub(super) fn fd(argument: u64) -> Fd {
    // A negative number is a large one: no table has it.
    Fd(argument as u32)
}

/// The file behind a descriptor argument.
pub(super) fn file(current: &Current, argument: u64) -> Result<Arc<OpenFile>, SysError> {
    Ok(current.process().files().get(fd(argument))?)
}

/// The length argument of a transfer, cut to what one call moves.
pub(super) fn transfer(len: u64) -> usize {
    len.min(MAX_TRANSFER) as usize
}

/// Why a path could not be taken from the program.
pub(super) enum PathError {
    /// It lies where nothing can be read.
    Address,
    /// It does not end within [`PATH_MAX`] bytes.
    TooLong,
    /// No memory to hold it.
    OutOfMemory,
}

impl From<BadAddress> for PathError {
    fn from(_: BadAddress) -> PathError {
        PathError::Address
    }
}

impl From<PathError> for SysError {
    fn from(error: PathError) -> SysError {
        match error {
            PathError::Address => Errno::EFAULT.into(),
            PathError::TooLong => Errno::ENAMETOOLONG.into(),
            PathError::OutOfMemory => SysError::Shortage,
        }
    }
}

/// The path at an address of the program's.
pub(super) async fn path(current: &Current, at: u64) -> Result<Vec<u8>, PathError> {
    let mut path = Vec::new();
    usermem::string_in(current.space(), at, |piece| {
        if path.len() + piece.len() >= PATH_MAX {
            return Err(PathError::TooLong);
        }
        path.try_reserve(piece.len())
            .map_err(|_| PathError::OutOfMemory)?;
        path.extend_from_slice(piece);
        Ok(())
    })
    .await?;
    Ok(path)
}

/// The directory where a relative path begins: the working directory, or what a descriptor stands for.
pub(super) fn base(current: &Current, dir: u64) -> Result<Location, SysError> {
    if dir as i32 == sys::AT_FDCWD {
        return Ok(current.process().cwd().ok_or(FsError::NotFound)?);
    }
    Ok(file(current, dir)?.directory()?.clone())
}

/// As [`base`], for a path that may be absolute: then the descriptor does not matter.
pub(super) fn base_for(current: &Current, dir: u64, path: &[u8]) -> Result<Location, SysError> {
    match path.first() {
        Some(b'/') => base(current, sys::AT_FDCWD as u64),
        _ => base(current, dir),
    }
}

/// Copies bytes to the program.
pub(super) async fn out(current: &Current, to: u64, bytes: &[u8]) -> Result<(), SysError> {
    Ok(usermem::copy_out(current.space(), to, bytes).await?)
}

/// Copies words to the program.
pub(super) async fn out_words<const N: usize>(
    current: &Current,
    to: u64,
    words: [u64; N],
) -> Result<(), SysError> {
    out(current, to, zerocopy::IntoBytes::as_bytes(&words)).await
}

/// Copies words from the program.
pub(super) async fn words<const N: usize>(
    current: &Current,
    from: u64,
) -> Result<[u64; N], SysError> {
    Ok(usermem::words_in(current.space(), from).await?)
}
