//! Memory: mappings, and how much there is.

use linux_raw_sys::general as linux;
use linux_raw_sys::system;

use super::{Answer, Errno, call};
use crate::PAGE;

/// Whose changes a mapping's are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Ours alone.
    Private,
    /// Shared with children (anonymous memory) or the file.
    Shared,
}

/// What a mapping may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    None,
    /// Reading.
    Read,
    /// Reading and writing.
    ReadWrite,
}

impl Access {
    fn bits(self) -> usize {
        (match self {
            Access::None => linux::PROT_NONE,
            Access::Read => linux::PROT_READ,
            Access::ReadWrite => linux::PROT_READ | linux::PROT_WRITE,
        }) as usize
    }
}

/// Anonymous memory of so many pages, where the kernel likes.
///
/// # Errors
/// The kernel's.
#[inline(always)]
pub fn map(pages: usize, access: Access, sharing: Sharing) -> Result<*mut u8, Errno> {
    let sharing = match sharing {
        Sharing::Private => linux::MAP_PRIVATE,
        Sharing::Shared => linux::MAP_SHARED,
    };
    let flags = (sharing | linux::MAP_ANONYMOUS) as usize;
    let arguments = [0, pages * PAGE, access.bits(), flags, usize::MAX, 0];
    // SAFETY: new memory at a place of the kernel's choice is nobody else's.
    unsafe { call(linux::__NR_mmap, arguments) }.map(|place| place as *mut u8)
}

/// Private anonymous memory at `place`, in place of what is there.
///
/// # Safety
/// What is there is the caller's to lose.
///
/// # Errors
/// The kernel's.
pub unsafe fn map_at(place: *mut u8, pages: usize, access: Access) -> Answer {
    let flags = (linux::MAP_PRIVATE | linux::MAP_ANONYMOUS | linux::MAP_FIXED) as usize;
    let arguments = [
        place as usize,
        pages * PAGE,
        access.bits(),
        flags,
        usize::MAX,
        0,
    ];
    // SAFETY: the caller's promise.
    unsafe { call(linux::__NR_mmap, arguments) }
}

/// The first `pages` pages of a file, private.
///
/// # Errors
/// The kernel's.
#[inline(always)]
pub fn map_file(file: usize, pages: usize, access: Access) -> Result<*mut u8, Errno> {
    let flags = linux::MAP_PRIVATE as usize;
    let arguments = [0, pages * PAGE, access.bits(), flags, file, 0];
    // SAFETY: as in `map`.
    unsafe { call(linux::__NR_mmap, arguments) }.map(|place| place as *mut u8)
}

/// Gives memory back.
///
/// # Safety
/// Nobody uses it any more.
///
/// # Errors
/// The kernel's.
#[inline(always)]
pub unsafe fn unmap(place: *mut u8, pages: usize) -> Answer {
    // SAFETY: the caller's promise.
    unsafe {
        call(
            linux::__NR_munmap,
            [place as usize, pages * PAGE, 0, 0, 0, 0],
        )
    }
}

/// Changes what memory may be used for.
///
/// # Safety
/// Nobody uses it meanwhile for what it forbids.
///
/// # Errors
/// The kernel's.
#[inline(always)]
pub unsafe fn protect(place: *mut u8, pages: usize, access: Access) -> Answer {
    let arguments = [place as usize, pages * PAGE, access.bits(), 0, 0, 0];
    // SAFETY: the caller's promise.
    unsafe { call(linux::__NR_mprotect, arguments) }
}

/// Forgets the content of private anonymous memory: it reads as zeroes.
///
/// # Safety
/// The memory is the caller's.
///
/// # Errors
/// The kernel's.
#[inline(always)]
pub unsafe fn forget(place: *mut u8, pages: usize) -> Answer {
    let advice = linux::MADV_DONTNEED as usize;
    // SAFETY: the caller's promise.
    unsafe {
        call(
            linux::__NR_madvise,
            [place as usize, pages * PAGE, advice, 0, 0, 0],
        )
    }
}

/// Keeps memory in memory.
///
/// # Errors
/// The kernel's.
#[inline(always)]
pub fn lock(place: *mut u8, pages: usize) -> Answer {
    // SAFETY: content and mapping stay.
    unsafe {
        call(
            linux::__NR_mlock,
            [place as usize, pages * PAGE, 0, 0, 0, 0],
        )
    }
}

/// Undoes [`lock`].
///
/// # Errors
/// The kernel's.
#[inline(always)]
pub fn unlock(place: *mut u8, pages: usize) -> Answer {
    // SAFETY: content and mapping stay.
    unsafe {
        call(
            linux::__NR_munlock,
            [place as usize, pages * PAGE, 0, 0, 0, 0],
        )
    }
}

/// Memory in all, and free, in bytes.
///
/// # Errors
/// The kernel's.
pub fn memory() -> Result<[u64; 2], Errno> {
    // Longer than the structure, whose end has no fixed size.
    let mut words = [0_u64; 16];
    let to = words.as_mut_ptr() as usize;
    // SAFETY: the kernel writes a `struct sysinfo` there.
    unsafe { call(linux::__NR_sysinfo, [to, 0, 0, 0, 0, 0]) }?;
    let total = words[core::mem::offset_of!(system::sysinfo, totalram) / 8];
    let free = words[core::mem::offset_of!(system::sysinfo, freeram) / 8];
    Ok([total, free])
}
