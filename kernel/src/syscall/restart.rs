//! `restart_syscall`: what a program makes in place of a wait that a signal broke off and no handler noticed.

use super::errno::{Errno, SysResult};
use super::time::{self, Moment};
use super::{Args, futex, poll};
use crate::proc::{Current, Resume};

pub(super) async fn restart_syscall(current: &mut Current, _: Args) -> SysResult {
    match current.resume() {
        // A handler has run, or a program makes it by itself.
        None => Err(Errno::EINTR.into()),
        Some(Resume::Sleep { until, remaining }) => time::sleep(current, until, remaining).await,
        Some(Resume::Futex {
            word,
            expected,
            bits,
            until,
        }) => futex::wait(current, word, expected, bits, Moment::At(until)).await,
        Some(Resume::Poll { list, count, until }) => {
            poll::poll_until(current, list, count, Moment::At(until)).await
        }
    }
}
