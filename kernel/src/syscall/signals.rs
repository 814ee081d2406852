//! Signals: answers, masks, sending, waiting, the way back from a handler.

use super::Args;
use super::abi::{out_words, words};
use super::errno::{Errno, SysError, SysResult};
use crate::fs::io::Sleeper;
use crate::proc::deliver::{self, shown_flags};
use crate::proc::sigframe::AltStack;
use crate::proc::signal::{Action, Disposition, SigInfo, SigSet, Signal};
use crate::proc::{Current, ExitStatus, Pid, Restart};
use linux_raw_sys::general as sys;

/// Bytes of a `sigset_t`.
const SET_LEN: u64 = 8;
/// `SIG_DFL` and `SIG_IGN`.
const DEFAULT: u64 = 0;
const IGNORE: u64 = 1;

fn set_len(len: u64) -> Result<(), Errno> {
    if len == SET_LEN {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}

pub(super) async fn rt_sigaction(
    current: &mut Current,
    [number, new, old, len, ..]: Args,
) -> SysResult {
    set_len(len)?;
    let signal = Signal::new(number).ok_or(Errno::EINVAL)?;
    let before = current.process().signals().lock().action(signal);
    if new != 0 {
        let [handler, flags, restorer, mask] = words(current, new).await?;
        if SigSet::UNMASKABLE.contains(signal) {
            return Err(Errno::EINVAL.into());
        }
        let disposition = match handler {
            DEFAULT => Disposition::Default,
            IGNORE => Disposition::Ignore,
            at => Disposition::Handler(at),
        };
        let action = Action {
            disposition,
            flags,
            restorer,
            mask: SigSet::mask_from_bits(mask),
        };
        current
            .process()
            .signals()
            .lock()
            .set_action(signal, action);
    }
    if old != 0 {
        let handler = match before.disposition {
            Disposition::Default => DEFAULT,
            Disposition::Ignore => IGNORE,
            Disposition::Handler(at) => at,
        };
        out_words(
            current,
            old,
            [handler, before.flags, before.restorer, before.mask.bits()],
        )
        .await?;
    }
    Ok(0)
}

pub(super) async fn rt_sigprocmask(
    current: &mut Current,
    [how, new, old, len, ..]: Args,
) -> SysResult {
    set_len(len)?;
    let before = current.lwp().mask();
    if new != 0 {
        let [bits] = words(current, new).await?;
        let given = SigSet::mask_from_bits(bits);
        let mask = match how as u32 {
            sys::SIG_BLOCK => before.union(given),
            sys::SIG_UNBLOCK => before.without(given),
            sys::SIG_SETMASK => given,
            _ => return Err(Errno::EINVAL.into()),
        };
        current.lwp().set_mask(mask);
    }
    if old != 0 {
        out_words(current, old, [before.bits()]).await?;
    }
    Ok(0)
}

pub(super) async fn rt_sigpending(current: &mut Current, [to, len, ..]: Args) -> SysResult {
    set_len(len)?;
    let pending = current.process().signals().lock().pending();
    out_words(current, to, [pending.bits()]).await?;
    Ok(0)
}

/// Awaits a signal that is not held back.
async fn until_signal(current: &Current) -> SysResult {
    match current.lwp().sleep(core::future::pending::<()>()).await {
        Ok(()) => Ok(0),
        Err(_) => Err(SysError::Interrupted(Restart::UnlessHandled)),
    }
}

pub(super) async fn pause(current: &mut Current, _: Args) -> SysResult {
    until_signal(current).await
}

pub(super) async fn rt_sigsuspend(current: &mut Current, [mask, len, ..]: Args) -> SysResult {
    set_len(len)?;
    let [bits] = words(current, mask).await?;
    current.mask_for_wait(SigSet::mask_from_bits(bits));
    until_signal(current).await
}

pub(super) async fn rt_sigreturn(current: &mut Current, _: Args) -> SysResult {
    match deliver::sigreturn(current).await {
        Ok(()) => Ok(current.frame().rax),
        Err(_) => {
            // The frame is gone: there is nothing to go back to.
            current.exit(ExitStatus::Killed(Signal::SEGV));
            Ok(0)
        }
    }
}

pub(super) async fn sigaltstack(current: &mut Current, [new, old, ..]: Args) -> SysResult {
    let before = current.alt_stack();
    let in_use = before.contains(current.frame().rsp);
    if new != 0 {
        let [base, flags, size] = words(current, new).await?;
        let flags = flags as u32;
        if in_use {
            return Err(Errno::EPERM.into());
        }
        if flags & !(sys::SS_DISABLE | sys::SS_ONSTACK) != 0 {
            return Err(Errno::EINVAL.into());
        }
        let stack = if flags & sys::SS_DISABLE != 0 {
            AltStack::default()
        } else if size < u64::from(sys::MINSIGSTKSZ) {
            return Err(Errno::ENOMEM.into());
        } else {
            AltStack {
                base,
                size,
                flags: 0,
            }
        };
        current.set_alt_stack(stack);
    }
    if old != 0 {
        let shown = u64::from(shown_flags(before, in_use));
        out_words(current, old, [before.base, shown, before.size]).await?;
    }
    Ok(0)
}

/// The signal argument: 0 sends none and only looks whether it could be sent.
fn signal(argument: u64) -> Result<Option<Signal>, Errno> {
    match argument as u32 {
        0 => Ok(None),
        number => Signal::new(number.into()).map(Some).ok_or(Errno::EINVAL),
    }
}

pub(super) fn kill(current: &mut Current, [pid, number, ..]: Args) -> SysResult {
    let signal = signal(number)?;
    let own = current.process().pid();
    let reached = match pid as i32 {
        i32::MIN => return Err(Errno::ESRCH.into()),
        pid @ 1.. => send_one(current, Pid(pid.unsigned_abs()), signal),
        0 => {
            let found = current.system().table().lock().group_and_session(own);
            send_group(current, found.ok_or(Errno::ESRCH)?.0, signal)
        }
        -1 => match signal {
            Some(signal) => {
                let info = SigInfo::from_process(signal, own.0);
                current
                    .system()
                    .kill_where(info, |row| row.process.pid() != own)
            }
            None => 1,
        },
        group => send_group(current, Pid(group.unsigned_abs()), signal),
    };
    if reached == 0 {
        Err(Errno::ESRCH.into())
    } else {
        Ok(0)
    }
}

fn send_one(current: &Current, pid: Pid, signal: Option<Signal>) -> usize {
    let Some(process) = current.system().find(pid) else {
        return 0;
    };
    // Nothing kills init.
    if let Some(signal) = signal.filter(|_| pid != Pid::INIT) {
        process.post(SigInfo::from_process(signal, current.process().pid().0));
    }
    1
}

fn send_group(current: &Current, group: Pid, signal: Option<Signal>) -> usize {
    match signal {
        Some(signal) => {
            let info = SigInfo::from_process(signal, current.process().pid().0);
            current.system().kill_group(group, info)
        }
        None => current
            .system()
            .list()
            .filter(|row| row.group == group)
            .count(),
    }
}

pub(super) fn tkill(current: &mut Current, [tid, number, ..]: Args) -> SysResult {
    if tid as i32 <= 0 {
        return Err(Errno::EINVAL.into());
    }
    let signal = signal(number)?;
    let Some(process) = current.system().find(Pid(tid as u32)) else {
        return Err(Errno::ESRCH.into());
    };
    if let Some(signal) = signal.filter(|_| process.pid() != Pid::INIT) {
        let code = sys::SI_TKILL;
        process.post(SigInfo {
            code,
            ..SigInfo::from_process(signal, current.process().pid().0)
        });
    }
    Ok(0)
}

pub(super) fn tgkill(current: &mut Current, [group, tid, number, ..]: Args) -> SysResult {
    // A process has one thread, whose number is its own.
    if group as u32 != tid as u32 {
        return Err(Errno::ESRCH.into());
    }
    tkill(current, [tid, number, 0, 0, 0, 0])
}
