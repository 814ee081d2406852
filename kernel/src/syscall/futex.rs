//! `futex`: waiting for words of memory to change, and waking.

use super::Args;
use super::errno::{Errno, SysError, SysResult};
use super::time::{Moment, clock_moment, timeout_at};
use crate::fs::io::Sleeper;
use crate::proc::futex::{Futexes, Seated};
use crate::proc::machine::{self, Fault, USER_END};
use crate::proc::{Current, Restart, Resume};
use executor::Elapsed;
use linux_raw_sys::general as sys;
use uvm::addr::VirtAddr;
use uvm::map::WordHome;
use uvm::prot::Access;

/// Bits of an operation that are no part of its number.
const OPTIONS: u32 = sys::FUTEX_PRIVATE_FLAG | sys::FUTEX_CLOCK_REALTIME;

pub(super) async fn futex(
    current: &mut Current,
    [at, operation, value, timeout, other, last]: Args,
) -> SysResult {
    let operation = operation as u32;
    let (private, value) = (operation & sys::FUTEX_PRIVATE_FLAG != 0, value as u32);
    let count = |n: u64| usize::try_from(n as i32).unwrap_or(0);
    let all = sys::FUTEX_BITSET_MATCH_ANY;
    match operation & !OPTIONS {
        sys::FUTEX_WAIT => {
            let deadline = timeout_at(current, timeout).await?;
            wait(current, (at, private), value, all, deadline).await
        }
        sys::FUTEX_WAIT_BITSET => {
            let clock = match operation & sys::FUTEX_CLOCK_REALTIME != 0 {
                true => sys::CLOCK_REALTIME,
                false => sys::CLOCK_MONOTONIC,
            };
            let deadline = clock_moment(current, clock, timeout).await?;
            wait(current, (at, private), value, last as u32, deadline).await
        }
        sys::FUTEX_WAKE => wake(current, (at, private), value, all),
        sys::FUTEX_WAKE_BITSET => wake(current, (at, private), value, last as u32),
        // The fourth argument is a number here.
        sys::FUTEX_REQUEUE => {
            let to = (other, count(timeout));
            requeue(current, (at, private), None, value, to).await
        }
        sys::FUTEX_CMP_REQUEUE => {
            let to = (other, count(timeout));
            requeue(current, (at, private), Some(last as u32), value, to).await
        }
        _ => Err(Errno::ENOSYS.into()),
    }
}

/// A word by its address, and whether only this address space is meant.
pub(super) type Word = (u64, bool);

fn home(current: &Current, (at, private): Word) -> Result<WordHome, Errno> {
    if !at.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    if at >= USER_END {
        return Err(Errno::EFAULT);
    }
    let va = VirtAddr::try_new(at).map_err(|_| Errno::EFAULT)?;
    Ok(match private {
        true => current.space().own_word(va),
        false => current.space().shared_word(va),
    })
}

/// Brings the page of a word in.
async fn bring_in(current: &Current, stop: Fault) -> Result<(), Errno> {
    let va = VirtAddr::try_new(stop.va).map_err(|_| Errno::EFAULT)?;
    let fault = current.space().fault(va, Access::Read).await;
    fault.map_err(|_| Errno::EFAULT)
}

fn wake(current: &Current, word: Word, most: u32, bits: u32) -> SysResult {
    if bits == 0 {
        return Err(Errno::EINVAL.into());
    }
    let most = usize::try_from(most as i32).unwrap_or(0);
    let word = home(current, word)?;
    Ok(current.system().futexes().wake(word, most, bits) as u64)
}

async fn requeue(
    current: &Current,
    word: Word,
    expected: Option<u32>,
    most: u32,
    (to, others): (u64, usize),
) -> SysResult {
    if (most as i32) < 0 {
        return Err(Errno::EINVAL.into());
    }
    loop {
        let (from, to) = (home(current, word)?, home(current, (to, word.1))?);
        let futexes = current.system().futexes();
        match futexes.requeue((from, word.0), expected, most as usize, (to, others)) {
            Ok(Some((woken, moved))) => return Ok((woken + moved) as u64),
            Ok(None) => return Err(Errno::EAGAIN.into()),
            Err(stop) => bring_in(current, stop).await?,
        }
    }
}

/// Takes an LWP off its seat however the wait ends.
struct Sitting<'a>(&'a Current);

impl Drop for Sitting<'_> {
    fn drop(&mut self) {
        self.0.system().futexes().leave(self.0.lwp());
    }
}

pub(super) async fn wait(
    current: &mut Current,
    word: Word,
    expected: u32,
    bits: u32,
    deadline: Moment,
) -> SysResult {
    if bits == 0 {
        return Err(Errno::EINVAL.into());
    }
    home(current, word)?;
    loop {
        // Touched first: memory that is shared has a home only then.
        match machine::load_user_u32(word.0) {
            Err(stop) => bring_in(current, stop).await?,
            Ok(_) => {
                let at = (home(current, word)?, word.0);
                let room = current.system().uvm().heap_room()?;
                let (lwp, futexes) = (current.lwp(), current.system().futexes());
                match futexes.sit(lwp, at, expected, bits, &room) {
                    Ok(Seated::Yes) => break,
                    Ok(Seated::Changed) => return Err(Errno::EAGAIN.into()),
                    // Gone again.
                    Err(_) => {}
                }
            }
        }
    }
    let result = sit_out(current, deadline).await;
    if let (Moment::At(until), Err(SysError::Interrupted(Restart::GoOn))) = (deadline, result) {
        current.keep(Resume::Futex {
            word,
            expected,
            bits,
            until,
        });
    }
    result
}

/// Waits on the seat taken.
async fn sit_out(current: &Current, deadline: Moment) -> SysResult {
    let _sitting = Sitting(current);
    let woken = Futexes::woken(current.lwp());
    let timed_out = match deadline {
        Moment::Now => !current.system().futexes().leave(current.lwp()),
        Moment::Never => match current.lwp().sleep(woken).await {
            Ok(()) => false,
            Err(_) => return broken_off(current, Restart::UnlessHandlerSays),
        },
        Moment::At(ns) => {
            let executor = current.system().executor();
            match current.lwp().sleep(executor.timeout_at(ns, woken)).await {
                Ok(Ok(())) => false,
                Ok(Err(Elapsed)) => !current.system().futexes().leave(current.lwp()),
                // What is left of the time, not the whole.
                Err(_) => return broken_off(current, Restart::GoOn),
            }
        }
    };
    match timed_out {
        true => Err(Errno::ETIMEDOUT.into()),
        false => Ok(0),
    }
}

/// A signal came; unless a wake came first, which must not be lost.
fn broken_off(current: &Current, restart: Restart) -> SysResult {
    match current.system().futexes().leave(current.lwp()) {
        true => Ok(0),
        false => Err(SysError::Interrupted(restart)),
    }
}
