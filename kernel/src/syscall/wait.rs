//! Waiting for children: `wait4` and `waitid`.

use super::Args;
use super::abi::out;
use super::errno::{Errno, SysError, SysResult};
use crate::proc::process::Process;
use crate::proc::signal::Signal;
use crate::proc::table::{Change, Interest, Taking, Which};
use crate::proc::usage::Used;
use crate::proc::wait::{self, Patience, WaitError};
use crate::proc::{Current, ExitStatus, Pid};
use linux_raw_sys::general as sys;

/// What does not say which changes are waited for, in both calls.
const COMMON: u32 = sys::WNOHANG | sys::__WNOTHREAD | sys::__WCLONE | sys::__WALL;
/// Where `siginfo_t` tells of a child, behind its first three numbers.
const SIGINFO_CHILD: u64 = 16;

/// `wait4`'s status word.
fn status_word(change: Change) -> u32 {
    match change {
        Change::Ended(ExitStatus::Exited(code)) => u32::from(code) << 8,
        Change::Ended(ExitStatus::Killed(signal)) => signal.number().into(),
        Change::Stopped(signal) => u32::from(signal.number()) << 8 | 0x7f,
        Change::Continued => 0xffff,
    }
}

/// `waitid`'s `si_code` and `si_status`.
fn code_and_status(change: Change) -> (u32, u32) {
    match change {
        Change::Ended(ExitStatus::Exited(code)) => (sys::CLD_EXITED, code.into()),
        Change::Ended(ExitStatus::Killed(signal)) => (sys::CLD_KILLED, signal.number().into()),
        Change::Stopped(signal) => (sys::CLD_STOPPED, signal.number().into()),
        Change::Continued => (sys::CLD_CONTINUED, Signal::CONT.number().into()),
    }
}

fn own_group(current: &Current) -> Result<Which, Errno> {
    let own = current.process().pid();
    let found = current.system().table().lock().group_and_session(own);
    Ok(Which::Group(found.ok_or(Errno::ECHILD)?.0))
}

/// Every child tells of its end by SIGCHLD: `__WCLONE` alone asks for those that do not.
fn with_clones(which: Which, options: u32) -> Which {
    if options & (sys::__WCLONE | sys::__WALL) == sys::__WCLONE {
        Which::Silent
    } else {
        which
    }
}

fn patience(options: u32) -> Patience {
    if options & sys::WNOHANG != 0 {
        Patience::Never
    } else {
        Patience::Wait
    }
}

/// What a child has used, and those that it has waited for.
fn used(child: &Process) -> Used {
    child.usage().used().plus(child.children_used())
}

pub(super) async fn wait4(
    current: &mut Current,
    [pid, status_at, options, usage_at, ..]: Args,
) -> SysResult {
    let options = options as u32;
    if options & !(COMMON | sys::WUNTRACED | sys::WCONTINUED) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let which = match pid as i32 {
        i32::MIN => return Err(Errno::ESRCH.into()),
        -1 => Which::Any,
        0 => own_group(current)?,
        group @ ..-1 => Which::Group(Pid(group.unsigned_abs())),
        pid => Which::One(Pid(pid.unsigned_abs())),
    };
    let interest = Interest {
        stopped: options & sys::WUNTRACED != 0,
        continued: options & sys::WCONTINUED != 0,
        ..Interest::END
    };
    let which = with_clones(which, options);
    let Some((child, change)) = wait::wait(current, which, interest, patience(options)).await?
    else {
        return Ok(0);
    };
    if status_at != 0 {
        out(current, status_at, &status_word(change).to_le_bytes()).await?;
    }
    if usage_at != 0 {
        super::info::usage_out(current, usage_at, used(&child)).await?;
    }
    Ok(child.pid().0.into())
}

pub(super) async fn waitid(
    current: &mut Current,
    [kind, id, info_at, options, usage_at, _]: Args,
) -> SysResult {
    let options = options as u32;
    let changes = sys::WEXITED | sys::WSTOPPED | sys::WCONTINUED;
    if options & !(COMMON | changes | sys::WNOWAIT) != 0 || options & changes == 0 {
        return Err(Errno::EINVAL.into());
    }
    let which = match (kind as u32, id as i32) {
        (sys::P_ALL, _) => Which::Any,
        (sys::P_PID, 1..) => Which::One(Pid(id as u32)),
        (sys::P_PGID, 0) => own_group(current)?,
        (sys::P_PGID, 1..) => Which::Group(Pid(id as u32)),
        // There are no descriptors of processes.
        _ => return Err(Errno::EINVAL.into()),
    };
    let interest = Interest {
        ended: options & sys::WEXITED != 0,
        stopped: options & sys::WSTOPPED != 0,
        continued: options & sys::WCONTINUED != 0,
        taking: match options & sys::WNOWAIT {
            0 => Taking::Take,
            _ => Taking::Leave,
        },
    };
    let which = with_clones(which, options);
    let news = wait::wait(current, which, interest, patience(options)).await;
    let result = match news {
        Err(error @ WaitError::Interrupted) => return Err(error.into()),
        Err(error @ WaitError::NoChild) => Err(SysError::from(error)),
        Ok(_) => Ok(0),
    };
    let news = news.unwrap_or(None);
    if let Some((child, _)) = &news
        && usage_at != 0
    {
        super::info::usage_out(current, usage_at, used(child)).await?;
    }
    if info_at != 0 {
        // Without news all is 0, the signal's number too.
        let words = news.map_or([0; 6], |(child, change)| {
            let (code, status) = code_and_status(change);
            [sys::SIGCHLD, 0, code, child.pid().0, 0, status]
        });
        let (signal, child) = words.split_at(3);
        out(current, info_at, zerocopy::IntoBytes::as_bytes(signal)).await?;
        let at = info_at.wrapping_add(SIGINFO_CHILD);
        out(current, at, zerocopy::IntoBytes::as_bytes(child)).await?;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_words() {
        assert_eq!(status_word(Change::Ended(ExitStatus::Exited(3))), 0x300);
        assert_eq!(
            status_word(Change::Ended(ExitStatus::Killed(Signal::SEGV))),
            11
        );
        assert_eq!(status_word(Change::Stopped(Signal::TSTP)), 0x147f);
        assert_eq!(status_word(Change::Continued), 0xffff);
    }
}
