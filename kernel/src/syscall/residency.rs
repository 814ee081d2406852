//! Which of its memory a program wants to have, keep, or give back: `madvise`, `msync`, `mlock` and their kin, `mincore`.

use super::Args;
use super::abi::out;
use super::errno::{Errno, SysError, SysResult};
use super::memory::{PAGE, range};
use crate::proc::Current;
use crate::proc::machine::USER_END;
use linux_raw_sys::general as sys;
use uvm::addr::{VaRange, VirtAddr, round_page, trunc_page};
use uvm::map::{Advice, Inherit, MlockAll, Sync, VmError};

/// Pages that one round of `mincore` answers for.
const ROUND: usize = 256;

pub(super) async fn madvise(current: &mut Current, [start, len, advice, ..]: Args) -> SysResult {
    let range = range(start, len)?;
    let advice = u32::try_from(advice).map_err(|_| Errno::EINVAL)?;
    let space = current.space();
    match advice {
        // Nothing is not even looked at, if only the advice is one.
        _ if range.is_empty() && advice <= sys::MADV_COLLAPSE => {}
        sys::MADV_NORMAL => space.advise(range, Advice::Normal).await?,
        sys::MADV_RANDOM => space.advise(range, Advice::Random).await?,
        sys::MADV_SEQUENTIAL => space.advise(range, Advice::Sequential).await?,
        sys::MADV_WILLNEED => space.will_need(range).await?,
        sys::MADV_DONTNEED => space.dont_need(range).await?,
        sys::MADV_FREE => space.free(range).await?,
        sys::MADV_DONTFORK => space.inherit(range, Inherit::None).await?,
        sys::MADV_DOFORK | sys::MADV_KEEPONFORK => space.inherit_as_mapped(range).await?,
        sys::MADV_WIPEONFORK => space.inherit_zeroes(range).await?,
        // Pure hints, which may go unheeded.
        sys::MADV_HUGEPAGE
        | sys::MADV_NOHUGEPAGE
        | sys::MADV_DONTDUMP
        | sys::MADV_DODUMP
        | sys::MADV_MERGEABLE
        | sys::MADV_UNMERGEABLE
        | sys::MADV_COLD => {}
        _ => return Err(Errno::EINVAL.into()),
    }
    Ok(0)
}

pub(super) async fn msync(current: &mut Current, [start, len, flags, ..]: Args) -> SysResult {
    let known = u64::from(sys::MS_ASYNC | sys::MS_INVALIDATE | sys::MS_SYNC);
    let both = u64::from(sys::MS_ASYNC | sys::MS_SYNC);
    if flags & !known != 0 || flags & both == both || !start.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL.into());
    }
    let range = range(start, len).map_err(|_| Errno::ENOMEM)?;
    if range.is_empty() {
        return Ok(0);
    }
    let mut sync = Sync::empty();
    // What is written at leisure (MS_ASYNC) is written by the pagedaemon, asked or not.
    sync.set(Sync::WRITE, flags & u64::from(sys::MS_SYNC) != 0);
    sync.set(Sync::INVALIDATE, flags & u64::from(sys::MS_INVALIDATE) != 0);
    current.space().sync(range, sync).await?;
    Ok(0)
}

/// The pages that bytes from `start` over `len` touch.
fn touched(start: u64, len: u64) -> Result<VaRange, Errno> {
    let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
    let end = round_page(end).ok_or(Errno::EINVAL)?;
    if end > USER_END {
        // Nothing is mapped up there.
        return Err(Errno::ENOMEM);
    }
    Ok(VaRange::new(
        VirtAddr::new(trunc_page(start)),
        VirtAddr::new(end),
    ))
}

pub(super) async fn mlock(current: &mut Current, [start, len, ..]: Args) -> SysResult {
    let range = touched(start, len)?;
    if !range.is_empty() {
        current.space().mlock(range).await.map_err(unlockable)?;
    }
    Ok(0)
}

/// Why memory could not be locked. A page that cannot be had is `ENOMEM`, and a shortage of memory is `EAGAIN`, as POSIX has it.
fn unlockable(error: VmError) -> SysError {
    match error {
        VmError::OutOfMemory => Errno::EAGAIN.into(),
        VmError::Fault(_) => Errno::ENOMEM.into(),
        error => error.into(),
    }
}

/// `mlock` with flags. Locking pages only as they come in (`MLOCK_ONFAULT`) is not known here.
pub(super) async fn mlock2(current: &mut Current, [start, len, flags, ..]: Args) -> SysResult {
    if flags != 0 {
        return Err(Errno::EINVAL.into());
    }
    mlock(current, [start, len, 0, 0, 0, 0]).await
}

pub(super) async fn munlock(current: &mut Current, [start, len, ..]: Args) -> SysResult {
    let range = touched(start, len)?;
    if !range.is_empty() {
        current.space().munlock(range).await?;
    }
    Ok(0)
}

pub(super) async fn mlockall(current: &mut Current, [flags, ..]: Args) -> SysResult {
    let known = u64::from(sys::MCL_CURRENT | sys::MCL_FUTURE);
    if flags == 0 || flags & !known != 0 {
        return Err(Errno::EINVAL.into());
    }
    let mut which = MlockAll::empty();
    which.set(MlockAll::CURRENT, flags & u64::from(sys::MCL_CURRENT) != 0);
    which.set(MlockAll::FUTURE, flags & u64::from(sys::MCL_FUTURE) != 0);
    current
        .space()
        .clone()
        .mlockall(which)
        .await
        .map_err(unlockable)?;
    Ok(0)
}

pub(super) async fn munlockall(current: &mut Current, _: Args) -> SysResult {
    current.space().munlockall().await;
    Ok(0)
}

pub(super) async fn mincore(current: &mut Current, [start, len, to, ..]: Args) -> SysResult {
    let range = range(start, len).map_err(|error| match start.is_multiple_of(PAGE) {
        true => Errno::ENOMEM,
        false => error,
    })?;
    let mut answer = [0; ROUND];
    let mut at = range.start();
    let mut done = 0;
    while at < range.end() {
        let pages = ((range.end() - at) / PAGE).min(ROUND as u64) as usize;
        let round = VaRange::of_pages(at, pages);
        current.space().mincore(round, &mut answer[..pages])?;
        out(current, to.wrapping_add(done), &answer[..pages]).await?;
        done += pages as u64;
        at = round.end();
    }
    Ok(0)
}
