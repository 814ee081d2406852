//! Timers: `alarm`, `setitimer` and the POSIX calls. Times inside the kernel are nanoseconds.

use super::Args;
use super::abi::{out, out_words, words};
use super::errno::{Errno, SysError, SysResult};
use super::time::{SECOND, timespec, timeval, to_timespec, to_timeval};
use crate::proc::countdown::{Countdown, Setting};
use crate::proc::cpu_timers::CpuClock;
use crate::proc::signal::Signal;
use crate::proc::timers::{self, Notice, Recipient, TimerClock, TimerError, Timers};
use crate::proc::{Current, Pid};
use linux_raw_sys::general as sys;

/// Microseconds in a second.
const MICROSECONDS: u64 = 1_000_000;

pub(super) fn alarm(current: &mut Current, [seconds, ..]: Args) -> SysResult {
    let seconds = u64::from(seconds as u32).min(i32::MAX as u64);
    let setting = Setting {
        value: seconds * SECOND,
        interval: 0,
    };
    let room = current.system().uvm().heap_room()?;
    let old = timers::set_real(current.system(), current.process(), setting, &room)?.value;
    // To the nearest, but one that runs is never told as 0.
    let left = (old + SECOND / 2) / SECOND;
    Ok(if old == 0 { 0 } else { left.max(1) })
}

/// A clock of `setitimer`.
enum Interval {
    Real,
    Cpu(CpuClock),
}

fn interval(which: u64) -> Result<Interval, Errno> {
    match which as u32 {
        sys::ITIMER_REAL => Ok(Interval::Real),
        sys::ITIMER_VIRTUAL => Ok(Interval::Cpu(CpuClock::User)),
        sys::ITIMER_PROF => Ok(Interval::Cpu(CpuClock::All)),
        _ => Err(Errno::EINVAL),
    }
}

/// A `struct itimerval`.
fn itimerval([is, iu, vs, vu]: [u64; 4]) -> Result<Setting, SysError> {
    if iu >= MICROSECONDS || vu >= MICROSECONDS {
        return Err(Errno::EINVAL.into());
    }
    Ok(Setting {
        value: timeval([vs, vu])?,
        interval: timeval([is, iu])?,
    })
}

/// Of what is left, never 0 while there is some.
fn to_itimerval(setting: Setting) -> [u64; 4] {
    let [is, iu] = to_timeval(setting.interval);
    let left = match setting.value {
        0 => 0,
        ns => ns.max(1000),
    };
    let [vs, vu] = to_timeval(left);
    [is, iu, vs, vu]
}

pub(super) async fn setitimer(current: &mut Current, [which, from, to, ..]: Args) -> SysResult {
    let setting = match from {
        0 => Setting::default(),
        from => itimerval(words(current, from).await?)?,
    };
    let old = match interval(which)? {
        Interval::Real => {
            let room = current.system().uvm().heap_room()?;
            timers::set_real(current.system(), current.process(), setting, &room)?
        }
        Interval::Cpu(clock) => {
            let used = super::info::used_so_far(current).times;
            let room = current.system().uvm().heap_room()?;
            (current.process().cpu_timers()).set(clock, used, setting, &room)
        }
    };
    if to != 0 {
        out_words(current, to, to_itimerval(old)).await?;
    }
    Ok(0)
}

pub(super) async fn getitimer(current: &mut Current, [which, to, ..]: Args) -> SysResult {
    let setting = match interval(which)? {
        Interval::Real => {
            let now = current.system().executor().now();
            let timers = current.process().timers();
            timers.map_or(Setting::default(), |timers| timers.real(now))
        }
        Interval::Cpu(clock) => {
            let used = super::info::used_so_far(current).times;
            current.process().cpu_timers().get(clock, used)
        }
    };
    out_words(current, to, to_itimerval(setting)).await?;
    Ok(0)
}

/// A `struct sigevent`: value, signal, what to do, for which thread.
fn notice(current: &Current, [value, signal, thread]: [u64; 3]) -> Result<Notice, Errno> {
    let (number, kind) = (signal as u32, (signal >> 32) as u32);
    let to = match kind {
        sys::SIGEV_NONE => return Ok(Notice::None),
        // What the thread then does is the library's.
        sys::SIGEV_SIGNAL | sys::SIGEV_THREAD => Recipient::Process,
        sys::SIGEV_THREAD_ID => {
            let tid = Pid(thread as u32);
            current.process().lwp(tid).ok_or(Errno::EINVAL)?;
            Recipient::Lwp(tid)
        }
        _ => return Err(Errno::EINVAL),
    };
    Ok(Notice::Signal {
        signal: Signal::new(number.into()).ok_or(Errno::EINVAL)?,
        value: Some(value),
        to,
    })
}

pub(super) async fn timer_create(current: &mut Current, [clock, event, to, ..]: Args) -> SysResult {
    let clock = match clock as u32 {
        sys::CLOCK_REALTIME | sys::CLOCK_TAI => TimerClock::Realtime,
        sys::CLOCK_MONOTONIC | sys::CLOCK_BOOTTIME => TimerClock::Monotonic,
        // Those of used time are `setitimer`'s alone.
        sys::CLOCK_PROCESS_CPUTIME_ID | sys::CLOCK_THREAD_CPUTIME_ID => {
            return Err(Errno::EOPNOTSUPP.into());
        }
        _ => return Err(Errno::EINVAL.into()),
    };
    let notice = match event {
        0 => Notice::Signal {
            signal: Signal::ALRM,
            value: None,
            to: Recipient::Process,
        },
        at => notice(current, words(current, at).await?)?,
    };
    let id = {
        let room = current.system().uvm().heap_room()?;
        timers::make(current.process(), clock, notice, &room)?
    };
    if let Err(error) = out(current, to, &id.to_le_bytes()).await {
        // Made just now; another thread may have deleted it.
        let _ = of(current).and_then(|timers| timers.delete(id));
        return Err(error);
    }
    Ok(0)
}

/// The timers of the process: who has none knows none.
fn of(current: &Current) -> Result<&Timers, TimerError> {
    current.process().timers().ok_or(TimerError::Unknown)
}

/// A timer's number: a wrong one is an unknown one.
fn number(id: u64) -> u32 {
    id as u32
}

fn to_itimerspec(setting: Setting) -> [u64; 4] {
    let ([is, ins], [vs, vns]) = (to_timespec(setting.interval), to_timespec(setting.value));
    [is, ins, vs, vns]
}

pub(super) async fn timer_settime(
    current: &mut Current,
    [id, flags, from, to, ..]: Args,
) -> SysResult {
    if from == 0 {
        return Err(Errno::EINVAL.into());
    }
    let [is, ins, vs, vns] = words(current, from).await?;
    let (interval, value) = (timespec([is, ins])?, timespec([vs, vns])?);
    let clock = of(current)?.clock(number(id))?;
    let (system, process) = (current.system().clone(), current.process().clone());
    let now = system.executor().now();
    let new = match (value, flags as u32 & sys::TIMER_ABSTIME) {
        (0, _) => Countdown::from(now, Setting { value, interval }),
        (_, 0) => Countdown::from(now, Setting { value, interval }),
        (at, _) => {
            let passed = match clock {
                TimerClock::Monotonic => 0,
                TimerClock::Realtime => system.time_of_day().saturating_sub(now),
            };
            Countdown::until(at.saturating_sub(passed), interval)
        }
    };
    let old = timers::set(&system, &process, number(id), new)?;
    if to != 0 {
        out_words(current, to, to_itimerspec(old)).await?;
    }
    Ok(0)
}

pub(super) async fn timer_gettime(current: &mut Current, [id, to, ..]: Args) -> SysResult {
    let now = current.system().executor().now();
    let setting = of(current)?.get(number(id), now)?;
    out_words(current, to, to_itimerspec(setting)).await?;
    Ok(0)
}

pub(super) fn timer_getoverrun(current: &mut Current, [id, ..]: Args) -> SysResult {
    Ok(of(current)?.overruns(number(id))?.into())
}

pub(super) fn timer_delete(current: &mut Current, [id, ..]: Args) -> SysResult {
    of(current)?.delete(number(id))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_timers_are_checked() {
        let setting = itimerval([1, 2, 3, 4]).expect("a good one");
        assert_eq!(setting.interval, SECOND + 2000);
        assert_eq!(setting.value, 3 * SECOND + 4000);
        assert_eq!(to_itimerval(setting), [1, 2, 3, 4]);
        assert!(itimerval([0, 0, 0, MICROSECONDS]).is_err());
        assert!(itimerval([0, MICROSECONDS, 0, 0]).is_err());
        assert!(itimerval([u64::MAX, 0, 0, 0]).is_err());
        let nearly = Setting {
            value: 1,
            interval: 0,
        };
        assert_eq!(to_itimerval(nearly), [0, 0, 0, 1]);
    }
}
