//! Processes: programs in ring 3, and everything that they are to the kernel.
//!
//! | module | holds |
//! |---|---|
//! | [`process`], [`table`] | what a process has; who exists, kinship, groups, zombies |
//! | [`lwp`], `body`, `uarea`, `resident` | a thread's header; its loop as a future; the memory that the future lies in; what lies elsewhere while it sleeps |
//! | [`elf`], [`stack`], [`exec`] | from a file to a program's first instruction |
//! | [`fork`], [`thread`], `exit`, [`wait`], [`spawn`] | birth, end, collection; programs started by the kernel itself |
//! | `threads`, [`futex`], `robust` | the threads of a process; what they wait for; what they owe at their end |
//! | [`signal`], [`pending`], [`deliver`], [`sigframe`], `fatal`, [`Restart`] | what signals mean; handlers; frames; faults as signals; calls broken off |
//! | [`job`], [`stop`] | terminals and the groups before them; stopping |
//! | `swapout`, `swapin`, `footprint` | threads go out of memory, and come back; what of a process stays |
//! | [`usermem`], [`machine`] | the program's memory; the machine, or its double on the host |
//! | [`timers`], [`cpu_timers`], [`countdown`] | timers by the clock, and by used time; what both are made of |
//! | [`usage`], [`limits`] | what was used; how much may be |
//! | [`chunks`], [`random`] | long byte strings; random bytes |
//!
//! [`Processes`] is the root: the table, and what all processes share. It knows nothing of numbers of system
//! calls nor of `errno`; that is [`crate::syscall`].
//!
//! **How it synchronises.** The table has one short spin lock, each part of a process one of its own
//! ([`process`]); a thread's private state needs none. No lock is held across an await. Order: table, then a
//! process's parts; wait queues are woken after all locks are released.

mod body;
pub mod chunks;
pub mod countdown;
pub mod cpu_timers;
pub mod deliver;
pub mod elf;
pub mod exec;
mod exit;
mod fatal;
mod footprint;
pub mod fork;
pub mod futex;
pub mod job;
pub mod limits;
pub mod lwp;
pub mod machine;
pub mod oom;
pub mod pending;
pub mod process;
pub mod random;
mod resident;
mod restart;
mod robust;
pub mod sigframe;
pub mod signal;
pub mod spawn;
pub mod stack;
pub mod stop;
mod swapin;
mod swapout;
pub mod table;
pub mod thread;
mod threads;
pub mod timers;
mod uarea;
pub mod usage;
pub mod usermem;
pub mod wait;

#[cfg(test)]
mod tests;

pub use body::Current;
pub use exit::End;
pub use process::Process;
pub use restart::{Restart, Resume};
pub use spawn::{Child, Program, SpawnError};
pub use table::{ExitStatus, Life, Pid, Row};

use crate::fs::fd::FdTable;
use crate::fs::mount::Vfs;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use executor::sync::{SpinLock, WaitQueue};
use executor::{Class, Executor};
use futex::Futexes;
use limits::Limits;
use lwp::Lwp;
use process::{Name, Parts};
use random::Random;
use signal::{SigInfo, Signal, SignalState};
use swapin::SwapIn;
use table::Table;
use uvm::Uvm;
use uvm::glue::SpaceRef;
use uvm::km::HeapRoom;

/// What processes are made of: given once, at boot.
pub struct Resources {
    /// Runs the threads.
    pub executor: Arc<Executor>,
    /// Their memory.
    pub uvm: Arc<Uvm>,
    /// Their files.
    pub vfs: Arc<Vfs>,
    /// Time of day when the monotonic clock was 0, in nanoseconds since 1970.
    pub epoch: u64,
    /// What [`random`] begins with; the same seed gives the same run.
    pub seed: u64,
}

/// All processes, and what they share.
pub struct Processes {
    resources: Resources,
    table: SpinLock<Table>,
    init: Arc<Process>,
    random: SpinLock<Random>,
    /// Woken when init has inherited zombies.
    orphans: WaitQueue,
    /// What the kernel's own process has, and what it starts.
    limits: Arc<Limits>,
    /// Where threads wait for words of their memory.
    futexes: Futexes,
    /// A bit for each unknown system call that has been logged.
    unknown: [AtomicU64; 8],
    /// Threads that wait to come back into memory.
    swapin: SwapIn,
}

impl Processes {
    /// The table with init in it, and init's reaping task.
    #[must_use]
    pub fn new(resources: Resources) -> Arc<Processes> {
        let mut table = Table::new();
        let limits = Arc::new(Limits::of_machine(&resources.uvm));
        let parts = Parts {
            space: SpaceRef::empty(),
            files: FdTable::new(),
            cwd: None,
            umask: 0o22,
            signals: SignalState::new(),
            name: Name::new(b"init"),
            limits: limits.clone(),
        };
        let init = Process::new(Pid::INIT, parts, &HeapRoom::at_boot());
        init.expect_child(&HeapRoom::at_boot());
        table.insert(init.clone(), None, &HeapRoom::at_boot());
        let seed = resources.seed;
        let this = Arc::new(Processes {
            resources,
            table: SpinLock::new(table),
            init,
            random: SpinLock::new(Random::new(seed)),
            orphans: WaitQueue::new("orphans"),
            limits,
            futexes: Futexes::default(),
            unknown: [const { AtomicU64::new(0) }; 8],
            swapin: SwapIn::new(),
        });
        swapin::start(&this);
        swapout::start(&this);
        this.executor()
            .spawn(Class::Daemon, "reaper", wait::reap_orphans(this.clone()));
        this
    }

    /// What runs the threads.
    #[inline]
    #[must_use]
    pub fn executor(&self) -> &Arc<Executor> {
        &self.resources.executor
    }

    /// Their memory.
    #[must_use]
    pub fn uvm(&self) -> &Arc<Uvm> {
        &self.resources.uvm
    }

    /// Their files.
    #[must_use]
    pub fn vfs(&self) -> &Arc<Vfs> {
        &self.resources.vfs
    }

    /// Nanoseconds since 1970.
    #[must_use]
    pub fn time_of_day(&self) -> u64 {
        self.resources.epoch + machine::now()
    }

    /// The kernel's own process, pid 1.
    #[must_use]
    pub fn init(&self) -> &Arc<Process> {
        &self.init
    }

    /// The table.
    #[must_use]
    pub fn table(&self) -> &SpinLock<Table> {
        &self.table
    }

    /// The process with this number, zombies included.
    #[must_use]
    pub fn find(&self, pid: Pid) -> Option<Arc<Process>> {
        self.table.lock().get(pid).cloned()
    }

    /// The living thread with this number, with its process.
    #[must_use]
    pub fn find_lwp(&self, tid: Pid) -> Option<(Arc<Process>, Arc<Lwp>)> {
        let process = self.table.lock().process_of(tid).cloned()?;
        let lwp = process.lwp(tid)?;
        Some((process, lwp))
    }

    /// All processes in order of their numbers, for `ps`. Takes the table's lock once per row.
    pub fn list(&self) -> impl Iterator<Item = Row> + '_ {
        let mut next = Some(Pid(0));
        core::iter::from_fn(move || {
            let row = self.table.lock().row_from(next?)?;
            next = row.process.pid().0.checked_add(1).map(Pid);
            Some(row)
        })
    }

    /// Random bytes.
    pub fn random(&self, bytes: &mut [u8]) {
        self.random.lock().fill(bytes);
    }

    /// Sends a signal from the kernel to one process. Returns whether there is one.
    pub fn kill(&self, pid: Pid, signal: Signal) -> bool {
        let found = self.find(pid);
        if let Some(process) = &found {
            process.post(SigInfo::from_kernel(signal));
        }
        found.is_some()
    }

    /// Sends a signal to all processes of a group, init excepted. Returns how many there were.
    pub fn kill_group(&self, group: Pid, info: SigInfo) -> usize {
        self.kill_where(info, |row| row.group == group)
    }

    /// Sends a signal to all processes that `which` picks, init excepted. Returns how many there were.
    pub fn kill_where(&self, info: SigInfo, which: impl Fn(&Row) -> bool) -> usize {
        let mut found = 0;
        for row in self
            .list()
            .filter(|row| row.process.pid() != Pid::INIT && which(row))
        {
            row.process.post(info);
            found += 1;
        }
        found
    }

    /// The limits of programs that nobody else has given any.
    pub(crate) fn limits(&self) -> Arc<Limits> {
        self.limits.clone()
    }

    fn swapin(&self) -> &SwapIn {
        &self.swapin
    }

    pub(crate) fn futexes(&self) -> &Futexes {
        &self.futexes
    }

    /// Whether this is the first time that the unknown system call `number` is seen; true only once.
    /// Numbers too large to be any are never new.
    pub(crate) fn is_new_unknown(&self, number: u64) -> bool {
        let bit = 1 << (number % 64);
        let word = usize::try_from(number / 64)
            .ok()
            .and_then(|word| self.unknown.get(word));
        word.is_some_and(|word| word.fetch_or(bit, Relaxed) & bit == 0)
    }
}
