//! LWPs come back into memory before they are polled.
//!
//! # What this owns
//! [`SwapIn`], the LWPs that were woken while their u-areas, or their page tables, were out; and the tasks that bring those in, several at once, the one of the
//! highest priority first ([`uvm::glue::swapout::Waiting`]). An LWP that is not in cannot wait for its own u-area: it has nothing to wait with. So its task is
//! left pending, with its header in line, and is polled again when it is in.
//!
//! Nor does anybody come in while somebody in memory waits for frames ([`uvm::uarea::Residence::bring_in_for`]): memory must not be full of those who cannot go on.
//!
//! Who must end does not stand behind others, which may wait for the memory that its end gives: there is a line of their own for those, with a task of its own,
//! and they may use the kernel's reserve. An LWP that must end while it stands in the first line stands in both; who brings it in second has nothing to do.
//!
//! If a u-area cannot be read, all that its thread was is lost. The process ends, as after a page that cannot be read; its thread's part of that is done here
//! ([`exit::of_lost`]). What it waited with, a reference to a file perhaps, stays allocated.
//!
//! # How it synchronises
//! A spin lock around each line. Who finds an LWP out registers its waker, then puts it in line unless it is in line; who has brought it in takes it off the line,
//! then wakes it. So one of the two sees the other. After `uvm_scheduler` (uvm_glue.c), with several tasks in place of its loop.

mod line;

use super::Processes;
use super::exit;
use super::lwp::Lwp;
use super::machine;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use core::task::Waker;
use core::time::Duration;
use executor::Class;
use executor::sync::{SpinLock, WaitQueue};
use line::{Line, Links};
use uvm::glue::swapout::Waiting;
use uvm::uarea::ComesNot;

/// LWPs that are brought in at once, besides one that must end.
const WORKERS: usize = 8;

/// The lines.
#[derive(Clone, Copy, Debug)]
enum Which {
    /// Those that go on.
    Living,
    /// Those that must end.
    Dying,
}

/// An LWP's own part.
pub(super) struct Coming {
    /// Bit by bit, the lines in which it stands.
    stands: AtomicU8,
    /// One for each line, to which they belong.
    links: SpinLock<[Links; 2]>,
    /// When it was last put on its way out, as the machine's clock has it in nanoseconds.
    sent_out: AtomicU64,
    /// What it was is lost.
    lost: AtomicBool,
}

impl Coming {
    pub(super) fn new() -> Coming {
        Coming {
            stands: AtomicU8::new(0),
            links: SpinLock::default(),
            sent_out: AtomicU64::new(0),
            lost: AtomicBool::new(false),
        }
    }

    /// It goes out now.
    pub(super) fn goes(&self) {
        self.sent_out.store(machine::now(), Relaxed);
    }

    /// Whether its u-area could not be read: neither that nor the body in it is to be touched any more.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Relaxed)
    }
}

/// See the module.
pub(super) struct SwapIn {
    lines: [SpinLock<Line>; 2],
    wanted: [WaitQueue; 2],
}

impl SwapIn {
    pub(super) fn new() -> SwapIn {
        SwapIn {
            lines: [Which::Living, Which::Dying].map(|which| SpinLock::new(Line::new(which))),
            wanted: ["LWP to bring in", "dying LWP to bring in"].map(WaitQueue::new),
        }
    }

    /// An LWP that is out is to be polled: has it brought in, and polled then. Never waits, allocates nothing. For its own task, which stays pending.
    pub(super) fn bring_in(&self, lwp: &Arc<Lwp>, waker: &Waker) {
        lwp.wants_poll(waker);
        let which = match lwp.must_leave() {
            true => Which::Dying,
            false => Which::Living,
        };
        let bit = 1 << which as u8;
        if lwp.coming.stands.fetch_or(bit, SeqCst) & bit == 0 {
            let priority = priority(lwp);
            self.lines[which as usize]
                .lock()
                .push(lwp.clone(), priority);
            self.wanted[which as usize].wake_one();
        }
    }

    /// Awaits the first of a line.
    async fn next(&self, which: Which) -> Arc<Lwp> {
        let line = &self.lines[which as usize];
        self.wanted[which as usize]
            .wait_until(|| line.lock().pop())
            .await
    }
}

/// The LWP's priority if it were there at time 0: theirs all grow alike.
fn priority(lwp: &Lwp) -> i64 {
    let now = machine::now();
    let since = |at: u64| Duration::from_nanos(now.saturating_sub(at));
    let waiting = Waiting {
        out: since(lwp.coming.sent_out.load(Relaxed)),
        slept: since(lwp.asleep_since().unwrap_or(now)),
        nice: 0,
    };
    waiting.priority().saturating_sub_unsigned(now)
}

/// Starts the tasks that bring LWPs in.
pub(super) fn start(processes: &Arc<Processes>) {
    let executor = processes.executor();
    for _ in 0..WORKERS {
        executor.spawn(
            Class::Daemon,
            "swapin",
            worker(processes.clone(), Which::Living),
        );
    }
    executor.spawn(
        Class::Daemon,
        "swapin dying",
        worker(processes.clone(), Which::Dying),
    );
}

async fn worker(processes: Arc<Processes>, which: Which) {
    loop {
        let lwp = processes.swapin().next(which).await;
        let came = match lwp.space() {
            Some(space) => lwp.residence().bring_in_for(&space).await,
            // It has left its address space, and sleeps no more.
            None => Ok(()),
        };
        lwp.coming.stands.fetch_and(!(1 << which as u8), SeqCst);
        if let Err(ComesNot::Io(error)) = came
            && !lwp.coming.lost.swap(true, SeqCst)
        {
            log::error!(
                "process {} ({}): its thread {} cannot be read back from swap ({error}); the process ends",
                lwp.process().pid(),
                lwp.process().name(),
                lwp.tid(),
            );
            exit::of_lost(&processes, &lwp).await;
        }
        lwp.poll_again();
    }
}

#[cfg(test)]
mod tests;
