//! `bench fork` and `bench exec`: what births and deaths of processes and threads cost, as a program sees it.
//!
//! # What this owns
//! Which runs there are ([`FORK`], [`EXEC`]): each is a program in ring 3 that does rounds of one kind ([`Kind`]) and says what each took, while
//! the u-area cache is as the run wants it ([`Cache`]). What the program says becomes samples in a [`Listener`], and what the kernel
//! knows besides becomes figures ([`Reading`]). Starting the program and setting the cache is for who has processes: the kernel.
//!
//! # How it synchronises
//! Not at all: plain data.

mod listener;

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use executor::Executor;
use uvm::Uvm;
use uvm::meter::{Counter, Gauge};
use uvm::uarea::{UAREA_KEEP, UAREA_PAGES};

pub use self::listener::{Listener, Trouble};

/// The program that does the rounds. It executes its neighbour `nothing`.
pub const PROGRAM: &str = "/programs/static/life";

/// How much rarer than other rounds those are in which a process with much memory ends.
const RARE: usize = 20;

/// Whether u-areas are there already when one is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// They come from the cache.
    Warm,
    /// Each is made, wired, and released again.
    Cold,
}

impl Cache {
    /// What [`uvm::policy::Setting::Uareakeep`] must be for that.
    pub const fn keep(self) -> u64 {
        match self {
            Self::Warm => UAREA_KEEP as u64,
            Self::Cold => 0,
        }
    }
}

/// What happens in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A child that ends at once is forked and waited for.
    Fork,
    /// A thread that ends at once is created and joined.
    Thread,
    /// A child with much memory ends.
    Exit,
    /// A child executes another program; it was made by vfork.
    VforkExec,
    /// The same, made by fork.
    ForkExec,
}

/// One thing that is measured in a round.
#[derive(Debug, PartialEq, Eq)]
pub struct Series {
    /// Its name in what the program says, and with a warm cache.
    pub name: &'static str,
    /// Its name with a cold one.
    pub cold: &'static str,
    /// What one sample spans, in a line.
    pub what: &'static str,
}

impl Kind {
    /// Its name, as the program takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fork => "fork",
            Self::Thread => "thread",
            Self::Exit => "exit",
            Self::VforkExec => "vfork-exec",
            Self::ForkExec => "fork-exec",
        }
    }

    /// What is measured in a round.
    pub const fn series(self) -> &'static [Series] {
        match self {
            Self::Fork => &[
                Series {
                    name: "fork",
                    cold: "fork-cold",
                    what: "the call, until it returns in the parent",
                },
                Series {
                    name: "fork-exit-wait",
                    cold: "fork-exit-wait-cold",
                    what: "from the call until the child, which ends at once, is collected",
                },
            ],
            Self::Thread => &[Series {
                name: "thread-create-join",
                cold: "thread-create-join-cold",
                what: "a thread that ends at once, until it is joined, stack mapped and unmapped",
            }],
            Self::Exit => &[Series {
                name: "exit-64-mib",
                cold: "exit-64-mib-cold",
                what: "the end of a process that has written 64 MiB, until its parent has collected it",
            }],
            Self::VforkExec => &[Series {
                name: "vfork-exec-wait",
                cold: "vfork-exec-wait-cold",
                what: "vfork; the child executes a static program that ends at once, and is collected",
            }],
            Self::ForkExec => &[Series {
                name: "fork-exec-wait",
                cold: "fork-exec-wait-cold",
                what: "fork; the child executes a static program that ends at once, and is collected",
            }],
        }
    }

    /// Rounds that are done where `count` samples are asked for.
    pub const fn rounds(self, count: usize) -> usize {
        match self {
            Self::Exit => count.div_ceil(RARE),
            _ => count,
        }
    }
}

/// A run of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// What it does.
    pub kind: Kind,
    /// With which u-areas.
    pub cache: Cache,
}

impl Run {
    const fn warm(kind: Kind) -> Self {
        let cache = Cache::Warm;
        Self { kind, cache }
    }

    const fn cold(kind: Kind) -> Self {
        let cache = Cache::Cold;
        Self { kind, cache }
    }

    /// The command line for so many rounds, its path first.
    pub fn words(self, rounds: usize) -> Vec<String> {
        [PROGRAM, self.kind.name(), &rounds.to_string(), "--samples"]
            .map(String::from)
            .into()
    }

    /// What a series is called in this run.
    pub const fn name(self, series: &Series) -> &'static str {
        match self.cache {
            Cache::Warm => series.name,
            Cache::Cold => series.cold,
        }
    }
}

/// What `bench fork` runs. What u-areas cost cannot be seen beside 64 MiB.
pub const FORK: &[Run] = &[
    Run::warm(Kind::Fork),
    Run::cold(Kind::Fork),
    Run::warm(Kind::Thread),
    Run::cold(Kind::Thread),
    Run::warm(Kind::Exit),
];

/// What `bench exec` runs.
pub const EXEC: &[Run] = &[
    Run::warm(Kind::VforkExec),
    Run::cold(Kind::VforkExec),
    Run::warm(Kind::ForkExec),
    Run::cold(Kind::ForkExec),
];

/// What the kernel knows before a run and after it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    /// u-areas that came from the cache, that were made, and that were released.
    pub hits: u64,
    /// See `hits`.
    pub made: u64,
    /// See `hits`.
    pub released: u64,
    /// Frames in use; not counted are cached pages of files, cached u-areas, and what pools and heap hold.
    pub frames: u64,
    /// Frames that pools and heap hold, free objects and all.
    pub pool_pages: u64,
    /// Tasks of the executor.
    pub tasks: u64,
}

impl Reading {
    /// As of now.
    pub fn take(uvm: &Uvm, executor: &Executor) -> Self {
        let now = uvm.uvmexp();
        let uareas = now.uarea_cached * UAREA_PAGES as u64;
        let kept = now.gauge(Gauge::Filepages) + uareas + now.pool_pages;
        let mut tasks = 0;
        executor.for_each_task(|_| tasks += 1);
        Self {
            hits: now.get(Counter::UareaHits),
            made: now.get(Counter::UareaFresh),
            released: now.get(Counter::UareaDrained),
            frames: (now.npages - now.free).saturating_sub(kept),
            pool_pages: now.pool_pages,
            tasks,
        }
    }
}

#[cfg(test)]
mod tests;
