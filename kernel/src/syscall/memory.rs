//! The address space: mappings, protection, the heap's end.

use super::Args;
use super::abi::file;
use super::errno::{Errno, SysError, SysResult};
use crate::fs::FsError;
use crate::proc::Current;
use crate::proc::machine::USER_END;
use linux_raw_sys::general as sys;
use uvm::addr::{PageIndex, VaRange, VirtAddr, round_page};
use uvm::map::{Advice, MapRequest, Placement, Sharing};
use uvm::prot::Prot;

const PAGE: u64 = uvm::PAGE_SIZE as u64;

/// The whole pages from `start` over `len` bytes, all of them the user's.
fn range(start: u64, len: u64) -> Result<VaRange, Errno> {
    if !start.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let len = round_page(len).ok_or(Errno::EINVAL)?;
    let end = start
        .checked_add(len)
        .filter(|end| *end <= USER_END)
        .ok_or(Errno::EINVAL)?;
    Ok(VaRange::new(VirtAddr::new(start), VirtAddr::new(end)))
}

fn prot(bits: u64) -> Result<Prot, Errno> {
    let known = sys::PROT_READ | sys::PROT_WRITE | sys::PROT_EXEC;
    if bits & !u64::from(known) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut prot = Prot::empty();
    prot.set(Prot::READ, bits as u32 & sys::PROT_READ != 0);
    // What can be written can be read: x86 knows no other way.
    prot.set(Prot::RW, bits as u32 & sys::PROT_WRITE != 0);
    prot.set(Prot::EXEC, bits as u32 & sys::PROT_EXEC != 0);
    if bits as u32 & sys::PROT_READ != 0 {
        prot |= Prot::READ;
    }
    Ok(prot)
}

fn placement(start: u64, len: u64, flags: u32) -> Result<Placement, Errno> {
    let fixed = flags & sys::MAP_FIXED != 0;
    let exclusive = flags & sys::MAP_FIXED_NOREPLACE != 0;
    if fixed || exclusive {
        let at = range(start, len).map_err(|_| Errno::EINVAL)?.start();
        return Ok(if exclusive {
            Placement::Exclusive(at)
        } else {
            Placement::Fixed(at)
        });
    }
    let hint = round_page(start).filter(|&at| at != 0 && range(at, len).is_ok());
    Ok(Placement::Anywhere(hint.map(VirtAddr::new)))
}

pub(super) async fn mmap(
    current: &mut Current,
    [start, len, bits, flags, number, offset]: Args,
) -> SysResult {
    let (flags, prot) = (flags as u32, prot(bits)?);
    if len == 0 || !offset.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL.into());
    }
    let rounded = round_page(len)
        .filter(|len| *len <= USER_END)
        .ok_or(Errno::ENOMEM)?;
    let placement = placement(start, rounded, flags)?;
    let shared = match flags & sys::MAP_TYPE {
        sys::MAP_PRIVATE => false,
        sys::MAP_SHARED | sys::MAP_SHARED_VALIDATE => true,
        _ => return Err(Errno::EINVAL.into()),
    };
    let len = usize::try_from(rounded).map_err(|_| Errno::ENOMEM)?;
    let request = if flags & sys::MAP_ANONYMOUS != 0 {
        MapRequest::anonymous(len, prot)
    } else {
        file_mapping(current, number, offset, len, prot, shared)?
    };
    let request = request.at(placement);
    let request = if shared { request.shared() } else { request };
    Ok(current.space().map(request)?.as_u64())
}

fn file_mapping(
    current: &Current,
    number: u64,
    offset: u64,
    len: usize,
    prot: Prot,
    shared: bool,
) -> Result<MapRequest, SysError> {
    let file = file(current, number)?;
    let flags = file.flags();
    if !flags.reads() || (shared && prot.contains(Prot::WRITE) && !flags.writes()) {
        return Err(FsError::Permission.into());
    }
    if offset
        .checked_add(len as u64)
        .is_none_or(|end| end > i64::MAX as u64)
    {
        return Err(Errno::EOVERFLOW.into());
    }
    if file.is_zero_device() {
        return Ok(MapRequest::anonymous(len, prot));
    }
    let object = file.object()?.object().object().clone();
    let mut request = MapRequest::object(object, PageIndex::containing(offset), len, prot);
    if shared && !flags.writes() {
        request.max_prot = Prot::READ | Prot::EXEC;
    }
    Ok(request)
}

pub(super) async fn munmap(current: &mut Current, [start, len, ..]: Args) -> SysResult {
    if len == 0 {
        return Err(Errno::EINVAL.into());
    }
    current.space().unmap(range(start, len)?).await?;
    Ok(0)
}

pub(super) async fn mprotect(current: &mut Current, [start, len, bits, ..]: Args) -> SysResult {
    let prot = prot(bits)?;
    let range = match range(start, len) {
        Ok(range) => range,
        Err(_) if start.is_multiple_of(PAGE) => return Err(Errno::ENOMEM.into()),
        Err(error) => return Err(error.into()),
    };
    if !range.is_empty() {
        current.space().protect(range, prot).await?;
    }
    Ok(0)
}

pub(super) async fn madvise(current: &mut Current, [start, len, advice, ..]: Args) -> SysResult {
    let range = range(start, len)?;
    let advice = match advice as u32 {
        sys::MADV_NORMAL => Advice::Normal,
        sys::MADV_RANDOM => Advice::Random,
        sys::MADV_SEQUENTIAL => Advice::Sequential,
        sys::MADV_DONTNEED => {
            if !range.is_empty() {
                discard(current, range)?;
            }
            return Ok(0);
        }
        // Pure hints, which may go unheeded.
        sys::MADV_WILLNEED
        | sys::MADV_HUGEPAGE
        | sys::MADV_NOHUGEPAGE
        | sys::MADV_DONTDUMP
        | sys::MADV_DODUMP
        | sys::MADV_MERGEABLE
        | sys::MADV_UNMERGEABLE
        | sys::MADV_COLD => return Ok(0),
        _ => return Err(Errno::EINVAL.into()),
    };
    if !range.is_empty() {
        current.space().advise(range, advice).await?;
    }
    Ok(0)
}

/// Makes private anonymous memory as new: mapped afresh in its place. Of files only what was never written
/// privately could be dropped without being missed, which is refused rather than guessed.
fn discard(current: &Current, range: VaRange) -> Result<(), SysError> {
    let regions = current.space().regions();
    let inside = || {
        regions.iter().filter_map(|region| {
            let start = region.range.start().max(range.start());
            let end = region.range.end().min(range.end());
            (start < end).then(|| (region, VaRange::new(start, end)))
        })
    };
    if inside().map(|(_, part)| part.pages()).sum::<usize>() < range.pages() {
        return Err(Errno::ENOMEM.into());
    }
    if inside().any(|(region, _)| region.file || region.sharing == Sharing::Shared) {
        return Err(Errno::EINVAL.into());
    }
    for (region, part) in inside() {
        let len = part.pages() * uvm::PAGE_SIZE;
        current
            .space()
            .map(MapRequest::anonymous(len, region.prot).at(Placement::Fixed(part.start())))?;
    }
    Ok(())
}

/// Shrinks a mapping, or leaves it. Growth is refused for want of room, which every allocator copes with.
pub(super) async fn mremap(current: &mut Current, [start, old, new, flags, ..]: Args) -> SysResult {
    let known = sys::MREMAP_MAYMOVE | sys::MREMAP_FIXED;
    if flags & !u64::from(known) != 0 || old == 0 || new == 0 {
        return Err(Errno::EINVAL.into());
    }
    let (old, new) = (range(start, old)?, range(start, new)?);
    if flags as u32 & sys::MREMAP_FIXED != 0 || new.end() > old.end() {
        return Err(Errno::ENOMEM.into());
    }
    let tail = VaRange::new(new.end(), old.end());
    if !tail.is_empty() {
        current.space().unmap(tail).await?;
    }
    Ok(start)
}

/// Nothing mapped can be written to a file yet, so nothing is ever unwritten.
pub(super) async fn msync(_: &mut Current, [start, len, flags, ..]: Args) -> SysResult {
    range(start, len).map_err(|_| Errno::ENOMEM)?;
    let known = sys::MS_ASYNC | sys::MS_INVALIDATE | sys::MS_SYNC;
    match flags & !u64::from(known) {
        0 => Ok(0),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// Answers with the end of the heap as it then is: no error, as Linux has it.
pub(super) async fn brk(current: &mut Current, [end, ..]: Args) -> SysResult {
    // An address that cannot be is below every heap, and leaves it as it is.
    let wanted = if end < USER_END { end } else { 0 };
    Ok(current.space().brk(VirtAddr::new(wanted)).await.as_u64())
}
