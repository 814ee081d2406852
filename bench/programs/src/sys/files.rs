//! Files and pipes.

use core::ffi::CStr;

use linux_raw_sys::general as linux;

use super::{Answer, Errno, call};

/// Opens a file for reading.
///
/// # Errors
/// The kernel's.
#[inline(always)]
pub fn open(path: &CStr) -> Answer {
    // SAFETY: the string ends in a zero.
    unsafe {
        call(
            linux::__NR_open,
            [path.as_ptr() as usize, linux::O_RDONLY as usize, 0, 0, 0, 0],
        )
    }
}

/// Closes a file.
///
/// # Errors
/// The kernel's.
#[inline(always)]
pub fn close(file: usize) -> Answer {
    // SAFETY: touches no memory.
    unsafe { call(linux::__NR_close, [file, 0, 0, 0, 0, 0]) }
}

/// Reads at `offset` bytes of a file.
///
/// # Errors
/// The kernel's.
#[inline(always)]
pub fn read_at(file: usize, into: &mut [u8], offset: usize) -> Answer {
    let arguments = [file, into.as_mut_ptr() as usize, into.len(), offset, 0, 0];
    // SAFETY: the kernel writes into the slice.
    unsafe { call(linux::__NR_pread64, arguments) }
}

/// Reads from a pipe.
///
/// # Errors
/// The kernel's.
#[inline(always)]
pub fn read(file: usize, into: &mut [u8]) -> Answer {
    let arguments = [file, into.as_mut_ptr() as usize, into.len(), 0, 0, 0];
    // SAFETY: the kernel writes into the slice.
    unsafe { call(linux::__NR_read, arguments) }
}

/// Writes.
///
/// # Errors
/// The kernel's.
#[inline(always)]
pub fn write(file: usize, bytes: &[u8]) -> Answer {
    let arguments = [file, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0];
    // SAFETY: the kernel reads the slice.
    unsafe { call(linux::__NR_write, arguments) }
}

/// Writes all of `text` to standard output. Nobody could be told that it failed.
pub fn print(text: &str) {
    let mut rest = text.as_bytes();
    while let Ok(written @ 1..) = write(1, rest) {
        rest = &rest[written.min(rest.len())..];
        if rest.is_empty() {
            break;
        }
    }
}

/// A pipe's two ends: what is read, what is written.
///
/// # Errors
/// The kernel's.
pub fn pipe() -> Result<[usize; 2], Errno> {
    let mut ends = [0_i32; 2];
    // SAFETY: the kernel writes two words there.
    unsafe { call(linux::__NR_pipe, [&raw mut ends as usize, 0, 0, 0, 0, 0]) }?;
    Ok(ends.map(|end| end as usize))
}

/// Asks which of `files` are ready to be read, and does not wait.
///
/// # Errors
/// The kernel's.
#[inline(always)]
pub fn poll(files: &mut [linux::pollfd]) -> Answer {
    // SAFETY: the kernel writes into the slice.
    unsafe {
        call(
            linux::__NR_poll,
            [files.as_mut_ptr() as usize, files.len(), 0, 0, 0, 0],
        )
    }
}
