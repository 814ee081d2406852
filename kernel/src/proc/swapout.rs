//! LWPs go out of memory when it is short: which ones, and their page tables after them.
//!
//! # What this owns
//! [`Swapper`]: how far the look through all processes has come, and the processes of which an LWP has gone out. The rule is
//! [`uvm::glue::swapout`]'s: an LWP that has slept for `vm.maxslp` seconds goes; if there is none and hardly any memory, the one that has slept longest. An LWP goes
//! only out of a swappable wait ([`Lwp::may_rest`]), in which nothing outside refers to its u-area; one that has been woken stays.
//!
//! With the last LWP of a process go its page tables, in a task of their own, since that takes its time.
//!
//! # How it synchronises
//! The pagedaemon alone looks for LWPs. An LWP that is woken after the look claims its u-area before it uses it, which calls the write off
//! ([`uvm::uarea::Residence`]). Between that somebody looks whether all LWPs of a process are out and that its tables are away, one may come in: it then finds no
//! tables, and is brought in once more.

use super::Processes;
use super::lwp::Lwp;
use super::machine;
use super::process::Process;
use super::table::Pid;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use core::time::Duration;
use crossbeam_queue::ArrayQueue;
use executor::Class;
use executor::sync::WaitQueue;
use uvm::glue::swapout::{Candidate, Doing, Keeps};
use uvm::uarea::{Residence, StaysIn};
use uvm::{Looked, LwpSwapper, Need};

/// LWPs that one look takes in: well below a millisecond.
const LOOKS: usize = 256;
/// Processes of which an LWP has gone out and that nobody has looked at yet. Past that all are looked at.
const GONE: usize = 128;

/// See the module.
pub(super) struct Swapper {
    processes: Weak<Processes>,
    /// Where the next look begins.
    hand: AtomicU64,
    gone: ArrayQueue<Pid>,
    /// There were more.
    all: AtomicBool,
    /// Somebody looks at one of them, or for one.
    looking: AtomicBool,
    has_gone: WaitQueue,
}

/// A place in the order of all LWPs.
#[derive(Clone, Copy)]
struct Hand {
    pid: Pid,
    /// Behind this LWP of that process.
    tid: Option<Pid>,
}

impl Hand {
    const FIRST: Hand = Hand {
        pid: Pid(0),
        tid: None,
    };

    const fn to_bits(self) -> u64 {
        let tid = match self.tid {
            Some(tid) => tid.0,
            None => 0,
        };
        (self.pid.0 as u64) << 32 | tid as u64
    }

    fn from_bits(bits: u64) -> Hand {
        Hand {
            pid: Pid((bits >> 32) as u32),
            tid: Some(Pid(bits as u32)).filter(|tid| tid.0 != 0),
        }
    }
}

/// Has the pagedaemon put LWPs of these processes out.
pub(super) fn start(processes: &Arc<Processes>) {
    let swapper = Arc::new(Swapper {
        processes: Arc::downgrade(processes),
        hand: AtomicU64::new(Hand::FIRST.to_bits()),
        gone: ArrayQueue::new(GONE),
        all: AtomicBool::new(false),
        looking: AtomicBool::new(false),
        has_gone: WaitQueue::new("swap-out of an LWP"),
    });
    processes.uvm().set_lwp_swapper(swapper.clone());
    let tables = put_tables_away(processes.clone(), swapper);
    processes
        .executor()
        .spawn(Class::Daemon, "page tables out", tables);
}

impl LwpSwapper for Swapper {
    fn put_out_some(&self, need: Need) -> Looked {
        let mut looked = Looked {
            sent: 0,
            rest: false,
        };
        let Some(processes) = self.processes.upgrade() else {
            return looked;
        };
        let mut choice = processes.uvm().choose_lwps(need);
        let mut looks = 0;
        let mut hand = Hand::from_bits(self.hand.load(Relaxed));
        let next = |from: Pid| processes.table().lock().row_from(from);
        'all: while let Some(row) = next(hand.pid) {
            let pid = row.process.pid();
            let after = hand.tid.filter(|_| hand.pid == pid);
            for lwp in row.process.threads().iter_after(after) {
                if looks == LOOKS {
                    looked.rest = true;
                    break 'all;
                }
                looks += 1;
                hand = Hand {
                    pid,
                    tid: Some(lwp.tid()),
                };
                let candidate = candidate(&lwp);
                let Some(lwp) = choice.consider(&candidate, lwp) else {
                    continue;
                };
                match send_out(&lwp) {
                    Ok(()) => {
                        choice.went();
                        looked.sent += 1;
                    }
                    // Woken just now.
                    Err(StaysIn::InUse | StaysIn::Called) => {}
                    // As many as can be are on their way, or no more can go.
                    Err(StaysIn::Busy | StaysIn::NoSwap | StaysIn::Unmapped) => break 'all,
                }
            }
            hand = Hand {
                pid: Pid(pid.0 + 1),
                tid: None,
            };
        }
        if !looked.rest && looked.sent == 0 {
            hand = Hand::FIRST;
        }
        self.hand.store(hand.to_bits(), Relaxed);
        let last = choice.last_resort();
        looked.sent += usize::from(last.is_some_and(|lwp| send_out(&lwp).is_ok()));
        looked
    }

    fn is_freeing(&self) -> bool {
        self.looking.load(SeqCst) || !self.gone.is_empty() || self.all.load(SeqCst)
    }

    fn has_gone(&self, residence: &Residence) {
        let pid = Pid(u32::try_from(residence.tag()).unwrap_or(0));
        if self.gone.push(pid).is_err() {
            self.all.store(true, SeqCst);
        }
        self.has_gone.wake_one();
    }
}

fn candidate(lwp: &Lwp) -> Candidate {
    let residence = lwp.residence();
    let mut keeps = Keeps::empty();
    keeps.set(Keeps::OUT, !residence.is_in());
    keeps.set(Keeps::EXITING, lwp.must_leave());
    // Its task last: whoever is woken after this look claims what has been sent.
    let sleeps = lwp
        .asleep_since()
        .filter(|_| residence.is_idle() && lwp.is_idle());
    keeps.set(Keeps::HELD, sleeps.is_none());
    let long = machine::now().saturating_sub(sleeps.unwrap_or(0));
    Candidate {
        doing: Doing::Sleeps(Duration::from_nanos(long)),
        keeps,
        // One that is polled has claimed its u-area.
        cpu: None,
    }
}

fn send_out(lwp: &Lwp) -> Result<(), StaysIn> {
    machine::take_fpu_from(lwp.residence().base());
    lwp.coming.goes();
    lwp.residence().send_out()
}

/// Puts the page tables of processes away of which all LWPs are out.
async fn put_tables_away(processes: Arc<Processes>, swapper: Arc<Swapper>) {
    loop {
        let gone = || {
            // Before one is taken out, so that it is never nowhere.
            swapper.looking.store(true, SeqCst);
            let found = match swapper.all.swap(false, SeqCst) {
                true => Some(None),
                false => swapper.gone.pop().map(Some),
            };
            swapper.looking.store(found.is_some(), SeqCst);
            found
        };
        match swapper.has_gone.wait_until(gone).await {
            Some(pid) => {
                if let Some(process) = processes.find(pid) {
                    tables_of(&process).await;
                }
            }
            None => {
                for row in processes.list() {
                    tables_of(&row.process).await;
                    processes.executor().reschedule_if_asked().await;
                }
            }
        }
    }
}

async fn tables_of(process: &Process) {
    // Of a space that several have, one may be in.
    let space = process.space().filter(|space| space.is_held_once());
    let Some(space) = space.filter(|_| process.threads().are_out()) else {
        return;
    };
    // Wired memory keeps its tables. If somebody uses the space, he wants them.
    let _ = space.put_tables_away().await;
}
