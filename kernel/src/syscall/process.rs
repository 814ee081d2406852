//! Birth, death and replacement of processes. Waiting for them is `wait`'s.

use super::Args;
use super::abi::{out, path, words};
use super::errno::{Errno, SysResult};
use crate::proc::fork::{self, ForkRequest};
use crate::proc::process::{NAME_MAX, Name};
use crate::proc::stack::{Strings, StringsError};
use crate::proc::usermem::{self, BadAddress};
use crate::proc::{Current, End, ExitStatus, exec};
use linux_raw_sys::prctl as pr;

pub(super) async fn fork(current: &mut Current, _: Args) -> SysResult {
    Ok(fork::fork(current, ForkRequest::FORK).await?.0.into())
}

pub(super) async fn vfork(current: &mut Current, _: Args) -> SysResult {
    Ok(fork::fork(current, ForkRequest::VFORK).await?.0.into())
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
    current.end(End::Thread(ExitStatus::Exited(code as u8)));
    Ok(0)
}

pub(super) async fn exit_group(current: &mut Current, [code, ..]: Args) -> SysResult {
    current.end(End::Process(ExitStatus::Exited(code as u8)));
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
