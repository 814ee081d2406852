//! The address space: mappings, protection, the heap's end.

use super::Args;
use super::abi::file;
use super::errno::{Errno, SysError, SysResult};
use crate::fs::FsError;
use crate::proc::Current;
use crate::proc::machine::USER_END;
use linux_raw_sys::general as sys;
use uvm::addr::{PageIndex, VaRange, VirtAddr, round_page};
use uvm::map::{MapRequest, Mremap, Placement, VmError};
use uvm::prot::Prot;
use uvm::{OutOfMemory, Patience};

pub(super) const PAGE: u64 = uvm::PAGE_SIZE as u64;

/// The whole pages from `start` over `len` bytes, all of them the user's.
pub(super) fn range(start: u64, len: u64) -> Result<VaRange, Errno> {
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
    let mut request = if shared { request.shared() } else { request };
    request.grows = flags & sys::MAP_GROWSDOWN != 0 && !shared;
    let space = current.space();
    let at = space.mmap(request).await?;
    if flags & sys::MAP_LOCKED != 0 {
        // What cannot be locked is mapped all the same, as Linux has it.
        let _ = space.mlock(VaRange::new(at, at + rounded)).await;
    }
    Ok(at.as_u64())
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

/// Changes a mapping's length, and its place if it may move.
pub(super) async fn mremap(
    current: &mut Current,
    [start, old, new, flags, to, ..]: Args,
) -> SysResult {
    let known = sys::MREMAP_MAYMOVE | sys::MREMAP_FIXED;
    let (may_move, fixed) = (
        flags & u64::from(sys::MREMAP_MAYMOVE) != 0,
        flags & u64::from(sys::MREMAP_FIXED) != 0,
    );
    if flags & !u64::from(known) != 0 || fixed && !may_move {
        return Err(Errno::EINVAL.into());
    }
    // An address beyond what can be mapped is one where nothing is.
    let start = VirtAddr::try_new(start).map_err(|_| Errno::EFAULT)?;
    if new > USER_END {
        return Err(Errno::EINVAL.into());
    }
    let how = match (may_move, fixed) {
        (_, true) => Mremap::Fixed(VirtAddr::try_new(to).map_err(|_| Errno::EINVAL)?),
        (true, _) => Mremap::MayMove,
        (false, _) => Mremap::InPlace,
    };
    match current.space().mremap(start, old, new, how).await {
        Ok(at) => Ok(at.as_u64()),
        Err(VmError::Unmapped) => Err(Errno::EFAULT.into()),
        Err(VmError::Limit) => Err(Errno::EAGAIN.into()),
        Err(error) => Err(error.into()),
    }
}

/// Answers with the end of the heap as it then is: no error, as Linux has it.
pub(super) async fn brk(current: &mut Current, [end, ..]: Args) -> SysResult {
    // An address that cannot be is below every heap, and leaves it as it is.
    let wanted = if end < USER_END { end } else { 0 };
    let (space, mut patience) = (current.space(), Patience::new());
    loop {
        match space.brk(VirtAddr::new(wanted)).await {
            Ok(end) => return Ok(end.as_u64()),
            Err(OutOfMemory) if patience.wait_in(space).await.is_ok() => {}
            Err(OutOfMemory) => return Ok(space.brk_end().as_u64()),
        }
    }
}
