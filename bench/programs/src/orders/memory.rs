//! How Linux's memory is made as large as auvm's, and its swap disk.

use core::ffi::CStr;

use crate::PAGE;
use crate::bench::{Failure, Outcome};
use crate::sys::{self, Access, Sharing, administration};

/// Pages written to a disk at once: 1 MiB.
const PIECE: usize = 256;
/// Tries to leave so many pages: how many more than asked for a piece takes, only the kernel knows.
const TRIES: usize = 16;

/// Where a swap area's header has its version, and the number of its last page behind it.
const VERSION: usize = 1024;
const MAGIC: &[u8] = b"SWAPSPACE2";

/// Makes a swap area of so many pages on `disk` and has the kernel use it. All of it is written first: a disk in memory that takes its
/// pages as they are written has taken them all then.
pub(super) fn swap(disk: &CStr, pages: usize) -> Outcome {
    let piece = sys::map(PIECE, Access::ReadWrite, Sharing::Private)?;
    // SAFETY: made above; a disk is written in whole pages from there alone.
    let bytes = unsafe { core::slice::from_raw_parts_mut(piece, PIECE * PAGE) };
    bytes.fill(1);
    let last = u32::try_from(pages - 1).map_err(|_| Failure::Wrong("too large a swap area"))?;
    bytes[..PAGE].fill(0);
    bytes[VERSION..VERSION + 4].copy_from_slice(&1_u32.to_le_bytes());
    bytes[VERSION + 4..VERSION + 8].copy_from_slice(&last.to_le_bytes());
    bytes[PAGE - MAGIC.len()..PAGE].copy_from_slice(MAGIC);
    let file = administration::open_to_write(disk, administration::DIRECT)?;
    let mut left = pages * PAGE;
    while left > 0 {
        left -= match sys::write(file, &bytes[..left.min(PIECE * PAGE)])? {
            0 => return Err(Failure::Wrong("the disk is too small")),
            written => written,
        };
        // The header was in the first piece alone.
        bytes[..PAGE].fill(1);
    }
    sys::close(file)?;
    // SAFETY: nothing refers to it any more.
    unsafe { sys::unmap(piece, PIECE) }?;
    administration::swap_on(disk)?;
    Ok(())
}

/// Takes memory, and keeps it in memory, until `pages` are free.
pub(super) fn leave(pages: usize) -> Outcome {
    for _ in 0..TRIES {
        let [_, free] = sys::memory()?;
        let more = (free as usize / PAGE).saturating_sub(pages);
        if more == 0 {
            break;
        }
        // Its page tables are memory, too.
        let more = (more - more / 256).max(1);
        let place = sys::map(more, Access::ReadWrite, Sharing::Private)?;
        sys::lock(place, more)?;
    }
    Ok(())
}
