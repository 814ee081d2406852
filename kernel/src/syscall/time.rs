//! Clocks and sleeping. Times inside the kernel are nanoseconds.

use super::Args;
use super::abi::{out_words, words};
use super::errno::{Errno, SysError, SysResult};
use crate::fs::io::Sleeper;
use crate::proc::stack::CLOCK_TICKS;
use crate::proc::{Current, Restart, Resume};
use linux_raw_sys::general as sys;

pub(super) const SECOND: u64 = 1_000_000_000;

/// When a wait ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// At once.
    Now,
    /// At this time of the monotonic clock.
    At(u64),
    /// Not at all.
    Never,
}

/// The moment `ns` from now.
pub(super) fn deadline_after(current: &Current, ns: u64) -> Moment {
    match ns {
        0 => Moment::Now,
        _ => current
            .system()
            .executor()
            .now()
            .checked_add(ns)
            .map_or(Moment::Never, Moment::At),
    }
}

/// A `struct timespec` in nanoseconds; longer than the clock can count is as long as it can.
pub(super) fn timespec([seconds, nanoseconds]: [u64; 2]) -> Result<u64, SysError> {
    if (seconds as i64) < 0 || nanoseconds >= SECOND {
        return Err(Errno::EINVAL.into());
    }
    Ok(seconds.saturating_mul(SECOND).saturating_add(nanoseconds))
}

/// A `struct timeval` in nanoseconds.
pub(super) fn timeval([seconds, microseconds]: [u64; 2]) -> Result<u64, SysError> {
    if (seconds as i64) < 0 || (microseconds as i64) < 0 {
        return Err(Errno::EINVAL.into());
    }
    Ok(seconds
        .saturating_mul(SECOND)
        .saturating_add(microseconds.saturating_mul(1000)))
}

/// Nanoseconds as a `struct timespec`.
pub(super) fn to_timespec(ns: u64) -> [u64; 2] {
    [ns / SECOND, ns % SECOND]
}

/// Nanoseconds as a `struct timeval`.
pub(super) fn to_timeval(ns: u64) -> [u64; 2] {
    [ns / SECOND, ns % SECOND / 1000]
}

/// What a clock shows.
fn read(current: &Current, clock: u64) -> Result<u64, SysError> {
    match clock as u32 {
        sys::CLOCK_REALTIME | sys::CLOCK_REALTIME_COARSE | sys::CLOCK_TAI => {
            Ok(current.system().time_of_day())
        }
        sys::CLOCK_MONOTONIC
        | sys::CLOCK_MONOTONIC_RAW
        | sys::CLOCK_MONOTONIC_COARSE
        | sys::CLOCK_BOOTTIME => Ok(current.system().executor().now()),
        sys::CLOCK_PROCESS_CPUTIME_ID => Ok(super::info::used_so_far(current).times.all()),
        sys::CLOCK_THREAD_CPUTIME_ID => Ok(super::info::used_by_thread(current).times.all()),
        _ => Err(Errno::EINVAL.into()),
    }
}

pub(super) async fn clock_gettime(current: &mut Current, [clock, to, ..]: Args) -> SysResult {
    let ns = read(current, clock)?;
    out_words(current, to, to_timespec(ns)).await?;
    Ok(0)
}

pub(super) async fn clock_getres(current: &mut Current, [clock, to, ..]: Args) -> SysResult {
    read(current, clock)?;
    if to != 0 {
        out_words(current, to, [0, 1]).await?;
    }
    Ok(0)
}

pub(super) async fn gettimeofday(current: &mut Current, [to, zone, ..]: Args) -> SysResult {
    if to != 0 {
        out_words(current, to, to_timeval(current.system().time_of_day())).await?;
    }
    if zone != 0 {
        out_words(current, zone, [0]).await?;
    }
    Ok(0)
}

pub(super) async fn time(current: &mut Current, [to, ..]: Args) -> SysResult {
    let seconds = current.system().time_of_day() / SECOND;
    if to != 0 {
        out_words(current, to, [seconds]).await?;
    }
    Ok(seconds)
}

pub(super) async fn times(current: &mut Current, [to, ..]: Args) -> SysResult {
    let ticks = |ns: u64| ns / (SECOND / CLOCK_TICKS);
    if to != 0 {
        let own = super::info::used_so_far(current).times;
        let children = current.process().children_used().times;
        let all = [own.user, own.system, children.user, children.system];
        out_words(current, to, all.map(ticks)).await?;
    }
    Ok(ticks(current.system().executor().now()))
}

/// Sleeps until `until` on the monotonic clock. Where a signal ends it, `remaining` (if any) gets what was
/// left; the sleep then goes on unless a handler runs.
pub(super) async fn sleep(current: &mut Current, until: u64, remaining: u64) -> SysResult {
    let executor = current.system().executor().clone();
    if current
        .lwp()
        .sleep(executor.sleep_until(until))
        .await
        .is_err()
    {
        if remaining != 0 {
            let left = until.saturating_sub(executor.now());
            out_words(current, remaining, to_timespec(left)).await?;
        }
        current.keep(Resume::Sleep { until, remaining });
        return Err(SysError::Interrupted(Restart::GoOn));
    }
    Ok(0)
}

pub(super) async fn nanosleep(current: &mut Current, [at, remaining, ..]: Args) -> SysResult {
    let ns = timespec(words(current, at).await?)?;
    let until = current.system().executor().now().saturating_add(ns);
    sleep(current, until, remaining).await
}

pub(super) async fn clock_nanosleep(
    current: &mut Current,
    [clock, flags, at, remaining, ..]: Args,
) -> SysResult {
    match clock as u32 {
        sys::CLOCK_REALTIME | sys::CLOCK_TAI | sys::CLOCK_MONOTONIC | sys::CLOCK_BOOTTIME => {}
        sys::CLOCK_PROCESS_CPUTIME_ID => return Err(Errno::EOPNOTSUPP.into()),
        _ => return Err(Errno::EINVAL.into()),
    }
    let ns = timespec(words(current, at).await?)?;
    let system = current.system().clone();
    let now = system.executor().now();
    if flags as u32 & sys::TIMER_ABSTIME == 0 {
        return sleep(current, now.saturating_add(ns), remaining).await;
    }
    let shown = read(current, clock)?;
    let until = now.saturating_add(ns.saturating_sub(shown));
    let slept = current.lwp().sleep(system.executor().sleep_until(until));
    // Begun anew it ends at the same time.
    slept
        .await
        .map_err(|_| SysError::Interrupted(Restart::UnlessHandled))?;
    Ok(0)
}

/// The program's copy of a time limit, for `futex`.
pub(super) async fn timeout_at(current: &Current, at: u64) -> Result<Moment, SysError> {
    match at {
        0 => Ok(Moment::Never),
        _ => Ok(deadline_after(
            current,
            timespec(words(current, at).await?)?,
        )),
    }
}

/// The program's copy of a moment on `clock`.
pub(super) async fn clock_moment(
    current: &Current,
    clock: u32,
    at: u64,
) -> Result<Moment, SysError> {
    if at == 0 {
        return Ok(Moment::Never);
    }
    let moment = timespec(words(current, at).await?)?;
    let shown = read(current, clock.into())?;
    Ok(deadline_after(current, moment.saturating_sub(shown)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_checked_and_never_wrap() {
        assert_eq!(timespec([1, 5]), Ok(SECOND + 5));
        assert_eq!(timespec([i64::MAX as u64, 0]), Ok(u64::MAX));
        assert!(timespec([u64::MAX, 0]).is_err());
        assert!(timespec([0, SECOND]).is_err());
        assert_eq!(timeval([2, 3]), Ok(2 * SECOND + 3000));
        assert!(timeval([0, u64::MAX]).is_err());
        assert_eq!(to_timespec(SECOND + 7), [1, 7]);
        assert_eq!(to_timeval(SECOND + 7000), [1, 7]);
    }
}
