//! `clone` and `clone3`: processes and threads from one set of flags.

use super::Args;
use super::errno::{Errno, SysError, SysResult};
use crate::proc::fork::{self, ForkRequest, Memory};
use crate::proc::machine::USER_END;
use crate::proc::thread::{self, ThreadRequest};
use crate::proc::{Current, usermem};
use linux_raw_sys::general as sys;

/// What is asked for, wherever it stood. Addresses are the program's; 0 is none.
struct Wanted {
    flags: u64,
    exit_signal: u64,
    stack: u64,
    parent_tid: u64,
    child_tid: u64,
    tls: u64,
}

/// What all threads of a process share here, as on Linux.
const SHARED: u32 = sys::CLONE_VM | sys::CLONE_FS | sys::CLONE_FILES | sys::CLONE_SIGHAND;
/// Flags that a thread may have beside those, and a process.
const OF_BOTH: u32 = sys::CLONE_PARENT_SETTID
    | sys::CLONE_CHILD_SETTID
    | sys::CLONE_CHILD_CLEARTID
    | sys::CLONE_SETTLS
    | sys::CLONE_DETACHED
    | sys::CLONE_UNTRACED
    | sys::CLONE_SYSVSEM;

pub(super) async fn clone(
    current: &mut Current,
    [flags, stack, parent_tid, child_tid, tls, _]: Args,
) -> SysResult {
    let signal = u64::from(sys::CSIGNAL);
    let wanted = Wanted {
        flags: flags & !signal & u64::from(u32::MAX),
        exit_signal: flags & signal,
        stack,
        parent_tid,
        child_tid,
        tls,
    };
    make(current, wanted).await
}

/// Words of the first, and of the newest, `struct clone_args` that is understood.
const LEAST_WORDS: usize = 8;
const WORDS: usize = 11;

pub(super) async fn clone3(current: &mut Current, [at, size, ..]: Args) -> SysResult {
    let page = uvm::PAGE_SIZE as u64;
    match size {
        _ if size > page => return Err(Errno::E2BIG.into()),
        _ if size < (LEAST_WORDS * 8) as u64 => return Err(Errno::EINVAL.into()),
        _ => {}
    }
    let mut words = [0_u64; WORDS];
    let bytes = zerocopy::IntoBytes::as_mut_bytes(&mut words);
    let known = (size as usize).min(bytes.len());
    usermem::copy_in(current.space(), &mut bytes[..known], at).await?;
    // What is not understood must not be asked for.
    for beyond in (known as u64..size).step_by(8) {
        let mut more = [0; 8];
        let len = (size - beyond).min(8) as usize;
        usermem::copy_in(current.space(), &mut more[..len], at + beyond).await?;
        if more != [0; 8] {
            return Err(Errno::E2BIG.into());
        }
    }
    let [
        flags,
        _pidfd,
        child_tid,
        parent_tid,
        exit_signal,
        stack,
        stack_size,
        tls,
        _set_tid,
        set_tid_size,
        _cgroup,
    ] = words;
    if set_tid_size != 0
        || flags & u64::from(sys::CSIGNAL) != 0
        || (stack == 0) != (stack_size == 0)
    {
        return Err(Errno::EINVAL.into());
    }
    let wanted = Wanted {
        flags,
        exit_signal,
        stack: stack.checked_add(stack_size).ok_or(Errno::EINVAL)?,
        parent_tid,
        child_tid,
        tls,
    };
    make(current, wanted).await
}

async fn make(current: &mut Current, wanted: Wanted) -> SysResult {
    let flags = u32::try_from(wanted.flags).map_err(|_| Errno::EINVAL)?;
    let has = |flag: u32| flags & flag != 0;
    let given = |flag: u32, value: u64| has(flag).then_some(value);
    let tls = given(sys::CLONE_SETTLS, wanted.tls);
    if tls.is_some_and(|tls| tls >= USER_END) {
        return Err(Errno::EPERM.into());
    }
    let stack = (wanted.stack != 0).then_some(wanted.stack);
    let parent_tid = given(sys::CLONE_PARENT_SETTID, wanted.parent_tid);
    let child_tid = given(sys::CLONE_CHILD_SETTID, wanted.child_tid);
    let clear_tid = given(sys::CLONE_CHILD_CLEARTID, wanted.child_tid).unwrap_or(0);
    let known = |also: u32| -> Result<(), SysError> {
        match flags & !(OF_BOTH | also) {
            0 => Ok(()),
            _ => Err(Errno::EINVAL.into()),
        }
    };
    if has(sys::CLONE_THREAD) {
        known(SHARED | sys::CLONE_THREAD)?;
        // A process has one of each: a thread with its own is none.
        if flags & SHARED != SHARED {
            return Err(Errno::EINVAL.into());
        }
        let request = ThreadRequest {
            stack,
            tls,
            tids: [parent_tid, child_tid],
            clear_tid,
        };
        return Ok(thread::start(current, request).await?.0.into());
    }
    known(sys::CLONE_VM | sys::CLONE_VFORK)?;
    if wanted.exit_signal != u64::from(sys::SIGCHLD) {
        return Err(Errno::EINVAL.into());
    }
    let memory = match (has(sys::CLONE_VM), has(sys::CLONE_VFORK)) {
        (false, false) => Memory::Copy,
        (true, false) => Memory::Shared,
        (true, true) => Memory::Borrowed,
        // To wait for a child that has memory of its own.
        (false, true) => return Err(Errno::EINVAL.into()),
    };
    let request = ForkRequest {
        memory,
        stack,
        tls,
        parent_tid,
        child_tid,
        clear_tid,
    };
    Ok(fork::fork(current, request).await?.0.into())
}
