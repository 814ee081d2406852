//! `poll` and `select`: waiting for any of several files.

use super::Args;
use super::abi::{fd, out, out_words, words};
use super::errno::{Errno, SysError, SysResult};
use super::time::{Moment, deadline_after, timespec, timeval, to_timespec, to_timeval};
use crate::fs::file::{OpenFile, Readiness, wait_any};
use crate::fs::io::Sleeper;
use crate::proc::signal::SigSet;
use crate::proc::usermem;
use crate::proc::{Current, Restart, Resume};
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general as sys;

/// Most files that one call waits for: what is kept of them fits a page.
const MAX_FILES: usize = 256;
/// Bytes of `struct pollfd`.
const POLLFD_LEN: usize = 8;
/// Most descriptors of a `select`.
const MAX_SELECT: u64 = 1024;

/// Files and what is wanted of each.
type Wanted = Vec<(Arc<OpenFile>, Readiness)>;

fn with_room<T>(count: usize) -> Result<Vec<T>, SysError> {
    let mut list = Vec::new();
    if count > MAX_FILES {
        return Err(Errno::ENOMEM.into());
    }
    list.try_reserve_exact(count)
        .map_err(|_| SysError::Shortage)?;
    Ok(list)
}

/// Awaits that one of the files is ready, until the deadline; a signal ends it too.
async fn wait(current: &Current, files: &Wanted, deadline: Moment) -> Result<(), SysError> {
    let interrupted = |_| SysError::Interrupted(Restart::UnlessHandled);
    match deadline {
        Moment::Now => {}
        Moment::Never => current
            .lwp()
            .sleep(wait_any(files))
            .await
            .map_err(interrupted)?,
        Moment::At(ns) => {
            let executor = current.system().executor();
            // Which of the two ended it shows when the files are looked at again.
            let _ = current
                .lwp()
                .sleep(executor.timeout_at(ns, wait_any(files)))
                .await
                .map_err(interrupted)?;
        }
    }
    Ok(())
}

fn passed(current: &Current, deadline: Moment) -> bool {
    match deadline {
        Moment::Now => true,
        Moment::Never => false,
        Moment::At(ns) => current.system().executor().now() >= ns,
    }
}

pub(super) async fn poll(current: &mut Current, [at, count, timeout, ..]: Args) -> SysResult {
    let deadline = match timeout as i32 {
        ..0 => Moment::Never,
        0 => Moment::Now,
        ms => deadline_after(current, u64::from(ms.unsigned_abs()) * 1_000_000),
    };
    let result = poll_until(current, at, count, deadline).await;
    if let (Moment::At(until), Err(SysError::Interrupted(_))) = (deadline, result) {
        let list = at;
        current.keep(Resume::Poll { list, count, until });
        return Err(SysError::Interrupted(Restart::GoOn));
    }
    result
}

/// Tells the program how much of its time limit at `at` is left: a call that is started over goes on with that.
async fn left_out(
    current: &Current,
    at: u64,
    deadline: Moment,
    form: fn(u64) -> [u64; 2],
    result: SysResult,
) -> SysResult {
    let Moment::At(until) = deadline else {
        return result;
    };
    let left = until.saturating_sub(current.system().executor().now());
    match (out_words(current, at, form(left)).await, result) {
        // It would begin its time anew.
        (Err(_), Err(SysError::Interrupted(_))) => Err(Errno::EINTR.into()),
        (_, result) => result,
    }
}

pub(super) async fn ppoll(
    current: &mut Current,
    [at, count, timeout, mask, mask_len, _]: Args,
) -> SysResult {
    let deadline = match timeout {
        0 => Moment::Never,
        from => deadline_after(current, timespec(words(current, from).await?)?),
    };
    mask_from(current, mask, mask_len).await?;
    let result = poll_until(current, at, count, deadline).await;
    let result = left_out(current, timeout, deadline, to_timespec, result).await;
    unmask(current, &result);
    result
}

/// Holds back the set at `mask`, if there is one, for the time of the wait.
async fn mask_from(current: &mut Current, mask: u64, len: u64) -> Result<(), SysError> {
    if mask != 0 {
        if len != 8 {
            return Err(Errno::EINVAL.into());
        }
        let [bits] = words(current, mask).await?;
        current.mask_for_wait(SigSet::mask_from_bits(bits));
    }
    Ok(())
}

/// A wait that a signal ended keeps its mask until the signal has been delivered.
fn unmask(current: &mut Current, result: &SysResult) {
    if !matches!(result, Err(SysError::Interrupted(_))) {
        current.unmask_after_wait();
    }
}

/// Awaits that one of `count` files listed at `at` is ready, until the deadline.
pub(super) async fn poll_until(
    current: &mut Current,
    at: u64,
    count: u64,
    deadline: Moment,
) -> SysResult {
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
    let mut entries: Vec<[u8; POLLFD_LEN]> = with_room(count)?;
    entries.resize(count, [0; POLLFD_LEN]);
    usermem::copy_in(current.space(), entries.as_flattened_mut(), at).await?;
    loop {
        let mut ready = 0;
        let mut wanted: Wanted = with_room(count)?;
        for entry in &mut entries {
            let number = i32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]);
            let events = u16::from_le_bytes([entry[4], entry[5]]);
            let found = match number {
                ..0 => 0,
                _ => match current
                    .process()
                    .files()
                    .get(fd(u64::from(number.unsigned_abs())))
                {
                    Ok(file) => {
                        let interest = Readiness::from_bits_truncate(events);
                        let answer =
                            file.readiness() & (interest | Readiness::ERROR | Readiness::HANGUP);
                        wanted.push((file, interest));
                        answer.bits()
                    }
                    Err(_) => sys::POLLNVAL as u16,
                },
            };
            entry[6..].copy_from_slice(&found.to_le_bytes());
            ready += u64::from(found != 0);
        }
        if ready > 0 || passed(current, deadline) {
            out(current, at, entries.as_flattened()).await?;
            return Ok(ready);
        }
        wait(current, &wanted, deadline).await?;
    }
}

pub(super) async fn select(
    current: &mut Current,
    [count, read, write, except, timeout, _]: Args,
) -> SysResult {
    let deadline = match timeout {
        0 => Moment::Never,
        from => deadline_after(current, timeval(words(current, from).await?)?),
    };
    let result = select_until(current, count, [read, write, except], deadline).await;
    left_out(current, timeout, deadline, to_timeval, result).await
}

pub(super) async fn pselect6(
    current: &mut Current,
    [count, read, write, except, timeout, mask]: Args,
) -> SysResult {
    let deadline = match timeout {
        0 => Moment::Never,
        from => deadline_after(current, timespec(words(current, from).await?)?),
    };
    if mask != 0 {
        let [set, len] = words(current, mask).await?;
        mask_from(current, set, len).await?;
    }
    let result = select_until(current, count, [read, write, except], deadline).await;
    let result = left_out(current, timeout, deadline, to_timespec, result).await;
    unmask(current, &result);
    result
}

/// A set of descriptors, as far as `select` takes them.
type Bits = [u64; MAX_SELECT as usize / 64];

async fn select_until(
    current: &mut Current,
    count: u64,
    at: [u64; 3],
    deadline: Moment,
) -> SysResult {
    if count > MAX_SELECT {
        return Err(Errno::EINVAL.into());
    }
    let bytes = (count as usize).div_ceil(64) * 8;
    let mut sets: [Bits; 3] = [[0; MAX_SELECT as usize / 64]; 3];
    for (set, at) in sets.iter_mut().zip(at).filter(|(_, at)| *at != 0) {
        usermem::copy_in(
            current.space(),
            &mut zerocopy::IntoBytes::as_mut_bytes(set)[..bytes],
            at,
        )
        .await?;
    }
    let has = |set: &Bits, n: usize| set[n / 64] >> (n % 64) & 1 != 0;
    let listed = (0..count as usize)
        .filter(|&n| sets.iter().any(|set| has(set, n)))
        .count();
    loop {
        let mut found: [Bits; 3] = [[0; MAX_SELECT as usize / 64]; 3];
        let mut ready = 0;
        let mut wanted: Wanted = with_room(listed)?;
        for n in 0..count as usize {
            if !sets.iter().any(|set| has(set, n)) {
                continue;
            }
            let file = current.process().files().get(fd(n as u64))?;
            let now = file.readiness();
            let mut interest = Readiness::empty();
            interest.set(Readiness::IN, has(&sets[0], n));
            interest.set(Readiness::OUT, has(&sets[1], n));
            let gone = now.intersects(Readiness::HANGUP | Readiness::ERROR);
            for (i, way) in [Readiness::IN, Readiness::OUT].into_iter().enumerate() {
                if interest.contains(way) && (now.contains(way) || gone) {
                    found[i][n / 64] |= 1 << (n % 64);
                    ready += 1;
                }
            }
            wanted.push((file, interest));
        }
        if ready > 0 || passed(current, deadline) {
            for (set, at) in found.iter().zip(at).filter(|(_, at)| *at != 0) {
                out(current, at, &zerocopy::IntoBytes::as_bytes(set)[..bytes]).await?;
            }
            return Ok(ready);
        }
        wait(current, &wanted, deadline).await?;
    }
}
