//! Signals: answers, masks, sending, waiting, the way back from a handler.

use super::Args;
use super::abi::{out, out_words, words};
use super::errno::{Errno, SysError, SysResult};
use super::time::{Moment, timeout_at};
use crate::fs::io::Sleeper;
use crate::proc::deliver;
use crate::proc::pending::Full;
use crate::proc::sigframe::AltStack;
use crate::proc::signal::{
    Action, Detail, Disposition, Kept, SIGINFO_LEN, SigInfo, SigSet, Signal,
};
use crate::proc::{Current, End, ExitStatus, Pid, Restart};
use crate::proc::{timers, usermem};
use linux_raw_sys::general as sys;

/// Bytes of a `sigset_t`.
const SET_LEN: u64 = 8;
/// `SIG_DFL` and `SIG_IGN`.
const DEFAULT: u64 = 0;
const IGNORE: u64 = 1;

/// `SA_*` that mean something.
const FLAGS: u32 = sys::SA_NOCLDSTOP
    | sys::SA_NOCLDWAIT
    | sys::SA_SIGINFO
    | sys::SA_ONSTACK
    | sys::SA_RESTART
    | sys::SA_NODEFER
    | sys::SA_RESETHAND
    | sys::SA_RESTORER;

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
            // A program can ask which flags there are: those that stay.
            flags: flags & u64::from(FLAGS),
            restorer,
            mask: SigSet::mask_from_bits(mask),
        };
        let process = current.process();
        let kept = process.signals().lock().set_action(signal, action);
        match kept {
            Kept::Dropped(which) => process.forget_signals(which),
            Kept::All => {
                if let Some(timers) = process.timers() {
                    timers.heed(signal, current.system().executor().now());
                }
            }
        }
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
    let held_back = current.lwp().mask();
    let pending = current.lwp().all_pending().intersection(held_back);
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

/// Takes a signal of a set as soon as one is there, whatever is held back; `SI_*` and all else as a handler would get it.
pub(super) async fn rt_sigtimedwait(
    current: &mut Current,
    [set, to, timeout, len, ..]: Args,
) -> SysResult {
    set_len(len)?;
    let [bits] = words(current, set).await?;
    let wanted = SigSet::mask_from_bits(bits);
    let deadline = timeout_at(current, timeout).await?;
    let lwp = current.lwp().clone();
    lwp.set_awaited(wanted);
    let taken = until_taken(current, wanted, deadline).await;
    lwp.set_awaited(SigSet::EMPTY);
    let info = taken?;
    if to != 0 {
        out(current, to, &info.to_bytes()).await?;
    }
    Ok(info.signal.number().into())
}

async fn until_taken(
    current: &Current,
    wanted: SigSet,
    deadline: Moment,
) -> Result<SigInfo, SysError> {
    let lwp = current.lwp();
    let take = || loop {
        let taken = {
            let mut signals = current.process().signals().lock();
            signals.take_info(wanted, &mut lwp.pending().lock())?
        };
        // One of a timer that has been set anew since is nothing any more.
        if let Some(info) = timers::took(current.system(), lwp, taken) {
            return Some(info);
        }
    };
    if let Some(info) = take() {
        return Ok(info);
    }
    let executor = current.system().executor();
    let waited = match deadline {
        Moment::Now => Ok(()),
        Moment::Never => lwp.sleep(core::future::pending()).await,
        Moment::At(ns) => lwp.sleep(executor.sleep_until(ns)).await,
    };
    match (take(), waited) {
        (Some(info), _) => Ok(info),
        (None, Ok(())) => Err(Errno::EAGAIN.into()),
        // Never started over.
        (None, Err(_)) => Err(Errno::EINTR.into()),
    }
}

/// A `siginfo_t` of a program's own making, for a process or one thread of it.
async fn queued(current: &Current, number: u64, at: u64) -> Result<Option<SigInfo>, SysError> {
    let mut bytes = [0; SIGINFO_LEN];
    usermem::copy_in(current.space(), &mut bytes, at).await?;
    let word = |at: usize| {
        let mut word = [0; 4];
        word.copy_from_slice(&bytes[at..at + 4]);
        u32::from_le_bytes(word)
    };
    let code = word(8) as i32;
    // What the kernel itself says is not for programs to say.
    if code >= 0 || code == sys::SI_TKILL {
        return Err(Errno::EPERM.into());
    }
    let value = u64::from(word(24)) | u64::from(word(28)) << 32;
    let detail = Detail::Value {
        pid: word(16),
        value,
    };
    Ok(signal(number)?.map(|signal| SigInfo {
        signal,
        code,
        detail,
    }))
}

pub(super) async fn rt_sigqueueinfo(
    current: &mut Current,
    [pid, number, at, ..]: Args,
) -> SysResult {
    let info = queued(current, number, at).await?;
    let process = current.system().find(Pid(pid as u32)).ok_or(Errno::ESRCH)?;
    if let Some(info) = info.filter(|_| process.pid() != Pid::INIT) {
        process.send(info, None).map_err(|Full| Errno::EAGAIN)?;
    }
    Ok(0)
}

pub(super) async fn rt_tgsigqueueinfo(
    current: &mut Current,
    [group, tid, number, at, ..]: Args,
) -> SysResult {
    let info = queued(current, number, at).await?;
    let found = current.system().find_lwp(Pid(tid as u32));
    let (process, lwp) = found
        .filter(|(process, _)| process.pid() == Pid(group as u32))
        .ok_or(Errno::ESRCH)?;
    if let Some(info) = info {
        process
            .send(info, Some(&lwp))
            .map_err(|Full| Errno::EAGAIN)?;
    }
    Ok(0)
}

pub(super) async fn rt_sigreturn(current: &mut Current, _: Args) -> SysResult {
    match deliver::sigreturn(current).await {
        Ok(()) => Ok(current.frame().rax),
        Err(_) => {
            // The frame is gone: there is nothing to go back to.
            current.end(End::Process(ExitStatus::Killed(Signal::SEGV)));
            Ok(0)
        }
    }
}

pub(super) async fn sigaltstack(current: &mut Current, [new, old, ..]: Args) -> SysResult {
    let (before, sp) = (current.alt_stack(), current.frame().rsp);
    if new != 0 {
        let [base, flags, size] = words(current, new).await?;
        if before.is_in_use(sp) {
            return Err(Errno::EPERM.into());
        }
        let stack = AltStack {
            base,
            size,
            flags: flags as u32,
        };
        current.set_alt_stack(stack.asked()?);
    }
    if old != 0 {
        let shown = u64::from(before.shown_flags(sp));
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
    send_thread(current, None, tid, number)
}

pub(super) fn tgkill(current: &mut Current, [group, tid, number, ..]: Args) -> SysResult {
    if group as i32 <= 0 {
        return Err(Errno::EINVAL.into());
    }
    send_thread(current, Some(Pid(group as u32)), tid, number)
}

fn send_thread(current: &Current, of: Option<Pid>, tid: u64, number: u64) -> SysResult {
    if tid as i32 <= 0 {
        return Err(Errno::EINVAL.into());
    }
    let signal = signal(number)?;
    let found = current.system().find_lwp(Pid(tid as u32));
    let (process, lwp) = found
        .filter(|(process, _)| of.is_none_or(|pid| pid == process.pid()))
        .ok_or(Errno::ESRCH)?;
    if let Some(signal) = signal {
        let info = SigInfo {
            code: sys::SI_TKILL,
            ..SigInfo::from_process(signal, current.process().pid().0)
        };
        process
            .send(info, Some(&lwp))
            .map_err(|Full| Errno::EAGAIN)?;
    }
    Ok(0)
}
