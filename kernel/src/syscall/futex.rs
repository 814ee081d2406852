//! `futex`, as far as programs with one thread need it: waiting for a word to change, and waking.
//!
//! Waiters queue by address space and address, so parent and vfork child meet; words in memory shared by
//! other processes do not wake across them. A waiter that is woken looks at the word again, as every user of a
//! futex must expect.

use super::Args;
use super::errno::{Errno, SysError, SysResult};
use super::time::{Moment, timeout_at};
use crate::fs::io::Sleeper;
use crate::proc::machine::{self, USER_END};
use crate::proc::usermem;
use crate::proc::{Current, Restart};
use alloc::sync::Arc;
use core::pin::pin;
use futures_util::future::{Either, select};
use linux_raw_sys::general as sys;

/// Bits of an operation that change nothing here.
const OPTIONS: u32 = sys::FUTEX_PRIVATE_FLAG | sys::FUTEX_CLOCK_REALTIME;

pub(super) async fn futex(
    current: &mut Current,
    [at, operation, value, timeout, ..]: Args,
) -> SysResult {
    if !at.is_multiple_of(4) || at >= USER_END {
        return Err(Errno::EINVAL.into());
    }
    match operation as u32 & !OPTIONS {
        sys::FUTEX_WAIT => wait(current, at, value as u32, timeout).await,
        sys::FUTEX_WAKE | sys::FUTEX_WAKE_BITSET => {
            current.system().futexes().wake_all(key(current, at));
            Ok(0)
        }
        _ => Err(Errno::ENOSYS.into()),
    }
}

fn key(current: &Current, at: u64) -> u64 {
    // Addresses of words are below 2^47: the space's own address, turned, keeps two spaces apart.
    at ^ (Arc::as_ptr(current.space()) as u64).rotate_left(29)
}

async fn wait(current: &mut Current, at: u64, value: u32, timeout: u64) -> SysResult {
    let deadline = timeout_at(current, timeout).await?;
    let mut word = [0; 4];
    usermem::copy_in(current.space(), &mut word, at).await?;
    if u32::from_le_bytes(word) != value {
        return Err(Errno::EAGAIN.into());
    }
    // A word that has gone away meanwhile ends the wait too: the program will see.
    let changed = || (machine::load_user_u32(at) != Ok(value)).then_some(());
    let system = current.system().clone();
    let wait = system.futexes().wait(key(current, at), changed);
    let interrupted = |_| SysError::Interrupted(Restart::UnlessHandlerSays);
    match deadline {
        Moment::Now => return Err(Errno::ETIMEDOUT.into()),
        Moment::Never => current.lwp().sleep(wait).await.map_err(interrupted)?,
        Moment::At(ns) => {
            let (wait, timer) = (pin!(wait), pin!(system.executor().sleep_until(ns)));
            if let Either::Right(_) = current
                .lwp()
                .sleep(select(wait, timer))
                .await
                .map_err(interrupted)?
            {
                return Err(Errno::ETIMEDOUT.into());
            }
        }
    }
    Ok(0)
}
