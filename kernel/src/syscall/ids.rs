//! Who a process is: numbers, groups, sessions, credentials (everybody is the superuser), thread pointers.

use super::Args;
use super::abi::out;
use super::errno::{Errno, SysError, SysResult};
use crate::proc::machine::USER_END;
use crate::proc::{Current, Pid};

/// `arch_prctl` commands: Linux's, which its header crate does not have.
const ARCH_SET_GS: u64 = 0x1001;
const ARCH_SET_FS: u64 = 0x1002;
const ARCH_GET_FS: u64 = 0x1003;
const ARCH_GET_GS: u64 = 0x1004;

pub(super) fn getpid(current: &mut Current, _: Args) -> SysResult {
    Ok(current.process().pid().0.into())
}

pub(super) fn gettid(current: &mut Current, _: Args) -> SysResult {
    Ok(current.lwp().tid().0.into())
}

pub(super) fn getppid(current: &mut Current, _: Args) -> SysResult {
    Ok(current.process().parent().into())
}

/// User and group are always 0.
pub(super) fn superuser(_: &mut Current, _: Args) -> SysResult {
    Ok(0)
}

/// There is nobody to become but the superuser.
pub(super) fn become_superuser(_: &mut Current, [id, ..]: Args) -> SysResult {
    if id as u32 == 0 {
        Ok(0)
    } else {
        Err(Errno::EPERM.into())
    }
}

pub(super) fn setgroups(_: &mut Current, [count, ..]: Args) -> SysResult {
    if count as u32 == 0 {
        Ok(0)
    } else {
        Err(Errno::EPERM.into())
    }
}

/// No supplementary groups.
pub(super) fn getgroups(_: &mut Current, _: Args) -> SysResult {
    Ok(0)
}

pub(super) async fn getres(current: &mut Current, [real, effective, saved, ..]: Args) -> SysResult {
    for at in [real, effective, saved] {
        out(current, at, &[0; 4]).await?;
    }
    Ok(0)
}

/// A process argument: 0 is the caller.
fn process(current: &Current, argument: u64) -> Pid {
    match argument as u32 {
        0 => current.process().pid(),
        pid => Pid(pid),
    }
}

fn group_and_session(current: &Current, argument: u64) -> Result<(Pid, Pid), SysError> {
    let pid = process(current, argument);
    let found = current.system().table().lock().group_and_session(pid);
    found.ok_or(Errno::ESRCH.into())
}

pub(super) fn getpgrp(current: &mut Current, _: Args) -> SysResult {
    Ok(group_and_session(current, 0)?.0.0.into())
}

pub(super) fn getpgid(current: &mut Current, [pid, ..]: Args) -> SysResult {
    Ok(group_and_session(current, pid)?.0.0.into())
}

pub(super) fn getsid(current: &mut Current, [pid, ..]: Args) -> SysResult {
    Ok(group_and_session(current, pid)?.1.0.into())
}

pub(super) fn setsid(current: &mut Current, _: Args) -> SysResult {
    let pid = current.process().pid();
    current.system().table().lock().new_session(pid)?;
    Ok(pid.0.into())
}

pub(super) fn setpgid(current: &mut Current, [pid, group, ..]: Args) -> SysResult {
    let pid = process(current, pid);
    let group = match group as u32 {
        0 => pid,
        group => Pid(group),
    };
    if (group.0 as i32) < 0 {
        return Err(Errno::EINVAL.into());
    }
    let caller = current.process().pid();
    current
        .system()
        .table()
        .lock()
        .set_group(caller, pid, group)?;
    Ok(0)
}

pub(super) fn set_tid_address(current: &mut Current, [at, ..]: Args) -> SysResult {
    current.set_clear_tid(at);
    Ok(current.lwp().tid().0.into())
}

/// Bytes of a `struct robust_list_head`.
const ROBUST_LIST_HEAD: u64 = 24;

pub(super) fn set_robust_list(current: &mut Current, [head, len, ..]: Args) -> SysResult {
    if len != ROBUST_LIST_HEAD {
        return Err(Errno::EINVAL.into());
    }
    current.set_robust_list(head);
    Ok(0)
}

/// Of the caller; what another thread said is in that thread's own memory.
pub(super) async fn get_robust_list(
    current: &mut Current,
    [tid, head, len, ..]: Args,
) -> SysResult {
    let own = current.lwp().tid();
    match tid as u32 {
        tid if tid != 0 && tid != own.0 => return Err(Errno::EPERM.into()),
        _ => {}
    }
    let list = current.robust_list();
    out(current, head, &list.to_le_bytes()).await?;
    out(current, len, &ROBUST_LIST_HEAD.to_le_bytes()).await?;
    Ok(0)
}

pub(super) async fn arch_prctl(current: &mut Current, [command, argument, ..]: Args) -> SysResult {
    match command {
        ARCH_SET_FS | ARCH_SET_GS if argument >= USER_END => Err(Errno::EPERM.into()),
        ARCH_SET_FS => {
            current.set_fs_base(argument);
            Ok(0)
        }
        ARCH_SET_GS => {
            current.set_gs_base(argument);
            Ok(0)
        }
        ARCH_GET_FS | ARCH_GET_GS => {
            let base = if command == ARCH_GET_FS {
                current.fs_base()
            } else {
                current.gs_base()
            };
            out(current, argument, &base.to_le_bytes()).await?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL.into()),
    }
}

pub(super) fn umask(current: &mut Current, [mask, ..]: Args) -> SysResult {
    Ok(current.process().set_umask(mask as u32).into())
}
