//! Birth, death and replacement of processes. Waiting for them is `wait`'s.

use super::Args;
use super::abi::{out, path, words};
use super::errno::{Errno, SysResult};
use crate::proc::fork::{self, ForkRequest, Memory};
use crate::proc::machine::USER_END;
use crate::proc::process::{NAME_MAX, Name};
use crate::proc::stack::{Strings, StringsError};
use crate::proc::usermem::{self, BadAddress};
use crate::proc::{Current, ExitStatus, exec};
use linux_raw_sys::{general as sys, prctl as pr};

pub(super) async fn fork(current: &mut Current, _: Args) -> SysResult {
    Ok(fork::fork(current, ForkRequest::FORK).await?.0.into())
}

pub(super) async fn vfork(current: &mut Current, _: Args) -> SysResult {
    Ok(fork::fork(current, ForkRequest::VFORK).await?.0.into())
}

/// `clone` where it makes a process: like fork, or like vfork with both flags of that. Threads and shared
/// parts are refused.
pub(super) async fn clone(
    current: &mut Current,
    [flags, stack, parent_tid, child_tid, tls, _]: Args,
) -> SysResult {
    let signal = flags & u64::from(sys::CSIGNAL);
    let flags = (flags & !u64::from(sys::CSIGNAL)) as u32;
    let known = sys::CLONE_VM
        | sys::CLONE_VFORK
        | sys::CLONE_PARENT_SETTID
        | sys::CLONE_CHILD_SETTID
        | sys::CLONE_CHILD_CLEARTID
        | sys::CLONE_SETTLS
        | sys::CLONE_DETACHED
        | sys::CLONE_UNTRACED;
    if flags & !known != 0 || signal != u64::from(sys::SIGCHLD) {
        return Err(Errno::EINVAL.into());
    }
    let memory = match (flags & sys::CLONE_VM != 0, flags & sys::CLONE_VFORK != 0) {
        (false, false) => Memory::Copy,
        (true, true) => Memory::Borrow,
        _ => return Err(Errno::EINVAL.into()),
    };
    if flags & sys::CLONE_SETTLS != 0 && tls >= USER_END {
        return Err(Errno::EPERM.into());
    }
    let given = |flag: u32, value: u64| (flags & flag != 0).then_some(value);
    let request = ForkRequest {
        memory,
        stack: (stack != 0).then_some(stack),
        tls: given(sys::CLONE_SETTLS, tls),
        parent_tid: given(sys::CLONE_PARENT_SETTID, parent_tid),
        child_tid: given(sys::CLONE_CHILD_SETTID, child_tid),
        clear_tid: given(sys::CLONE_CHILD_CLEARTID, child_tid).unwrap_or(0),
    };
    Ok(fork::fork(current, request).await?.0.into())
}

/// Why a program's argument vector could not be taken.
enum VectorError {
    Address,
    Strings(StringsError),
}

impl From<BadAddress> for VectorError {
    fn from(_: BadAddress) -> VectorError {
        VectorError::Address
    }
}

/// The strings of a vector that ends with a null pointer; a null vector is an empty one.
async fn strings(current: &Current, vector: u64) -> Result<Strings, super::SysError> {
    let mut strings = Strings::new();
    if vector == 0 {
        return Ok(strings);
    }
    for i in 0.. {
        let [at] = words(current, vector.wrapping_add(8 * i)).await?;
        if at == 0 {
            break;
        }
        let taken = usermem::string_in(current.space(), at, |piece| {
            strings.piece(piece).map_err(VectorError::Strings)
        });
        match taken.await {
            Ok(()) => strings.end()?,
            Err(VectorError::Address) => return Err(Errno::EFAULT.into()),
            Err(VectorError::Strings(error)) => return Err(error.into()),
        }
    }
    Ok(strings)
}

pub(super) async fn execve(current: &mut Current, [at, argv, envp, ..]: Args) -> SysResult {
    let path = path(current, at).await?;
    let (argv, envp) = (strings(current, argv).await?, strings(current, envp).await?);
    exec::exec(current, &path, argv, envp).await?;
    Ok(0)
}

pub(super) async fn exit(current: &mut Current, [code, ..]: Args) -> SysResult {
    current.exit(ExitStatus::Exited(code as u8));
    Ok(0)
}

pub(super) async fn prctl(current: &mut Current, [option, argument, ..]: Args) -> SysResult {
    match option as u32 {
        pr::PR_SET_NAME => {
            let mut name = [0; NAME_MAX];
            let mut len = 0;
            let taken = usermem::string_in(current.space(), argument, |piece| {
                let more = piece.len().min(NAME_MAX - len);
                name[len..len + more].copy_from_slice(&piece[..more]);
                len += more;
                // Long enough: what follows is cut off, and need not even be readable.
                if len == NAME_MAX {
                    Err(NameEnd::Full)
                } else {
                    Ok(())
                }
            });
            if let Err(NameEnd::Address) = taken.await {
                return Err(Errno::EFAULT.into());
            }
            current.process().set_name(Name::new(&name[..len]));
            Ok(0)
        }
        pr::PR_GET_NAME => {
            let mut name = [0; NAME_MAX + 1];
            let current_name = current.process().name();
            name[..current_name.as_bytes().len()].copy_from_slice(current_name.as_bytes());
            out(current, argument, &name).await?;
            Ok(0)
        }
        pr::PR_GET_DUMPABLE => Ok(1),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// Why taking a name ended early.
enum NameEnd {
    Address,
    Full,
}

impl From<BadAddress> for NameEnd {
    fn from(_: BadAddress) -> NameEnd {
        NameEnd::Address
    }
}

pub(super) async fn sched_yield(current: &mut Current, _: Args) -> SysResult {
    current.system().executor().yield_now().await;
    Ok(0)
}
