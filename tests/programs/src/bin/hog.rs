//! `hog` is a load on memory: processes that touch pages in a pattern, again and again, and can tell whether
//! each page still holds what was written to it. See USAGE.
//!
//! All that it does follows from its arguments, and so does what it prints, however little memory there is:
//! all but the time that `--together` tells. Only if processes are killed for the lack of it, this is reported, and the others go on.

use std::fmt;
use std::io::{self, Write};
use std::num::{NonZeroU32, NonZeroU64};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use libc::{MAP_PRIVATE, MAP_SHARED, c_int};
use programs::gate::Gate;
use programs::pattern::{Moving, Pattern, Sequential, Uniform, Zipf};
use programs::stamp::{Ledger, Page};
use programs::{Ended, Mapping, PAGE, Random, mix, size, try_spawn, wait};

const USAGE: &str = "\
usage: hog [--procs N] [--size SIZE] [--pattern PATTERN] [--rounds N] [--seed N] [--verify] [--shared] [--together]

  --procs N      processes, each with memory of its own (1)
  --size SIZE    memory of each, up to whole pages: 512k, 32M, 1G (16M)
  --pattern P    the order of touches: sequential, random, zipf, moving (sequential)
  --rounds N     rounds of as many touches as there are pages (1)
  --seed N       of all that is random (1)
  --verify       check before each touch, and in the end, that the page holds what was written
  --shared       one shared mapping, each process in its own part of it
  --together     begin each round together, the first one when all processes have their memory, and tell how long
                 the rounds took, until the last one's end; the check in the end comes after that
";

/// Exit status when a process was killed or found wrong memory.
const FAILED: u8 = 1;

/// Exit status after arguments that make no sense.
const BAD_USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    if arguments.iter().any(|argument| argument == "--help") {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    match Load::parse(&arguments) {
        Ok(load) => load.run(),
        Err(what) => {
            complain(format_args!("{what}; `hog --help` shows the options"));
            ExitCode::from(BAD_USAGE)
        }
    }
}

/// What is to be done.
#[derive(Debug)]
struct Load {
    processes: NonZeroU32,
    /// Pages of each process, at least one.
    pages: usize,
    pattern: Pattern,
    rounds: NonZeroU64,
    seed: u64,
    content: Content,
    memory: Memory,
    start: Start,
}

/// What a touch does to its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// One store, whatever is there.
    Any,
    /// Checks the page's stamp and writes the next.
    Verified,
}

/// Whose the pages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Memory {
    Private,
    Shared,
}

/// When the processes begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// Each when it is there.
    Alone,
    /// All at once, with every round, and their time is taken.
    Together,
}

/// What processes that begin together pass: before each round, and after the last.
struct Gates(Vec<Gate>);

/// How the processes ended, apart from those that were killed or never came to be.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// With all touches done, and nothing wrong.
    completed: u32,
    /// By themselves, with something wrong.
    failed: u32,
}

impl Load {
    fn parse(arguments: &[String]) -> Result<Load, String> {
        let mut load = Load {
            processes: NonZeroU32::MIN,
            pages: (16 << 20) / PAGE,
            pattern: Pattern::Sequential,
            rounds: NonZeroU64::MIN,
            seed: 1,
            content: Content::Any,
            memory: Memory::Private,
            start: Start::Alone,
        };
        let mut arguments = arguments.iter();
        while let Some(option) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .ok_or_else(|| format!("{option} needs a value"))
            };
            match option.as_str() {
                "--procs" => load.processes = number(option, value()?, 1)?,
                "--size" => load.pages = pages(option, value()?)?,
                "--pattern" => {
                    let name = value()?;
                    load.pattern = name.parse().map_err(|why| bad(option, name, why))?;
                }
                "--rounds" => load.rounds = number(option, value()?, 1)?,
                "--seed" => load.seed = number(option, value()?, 0)?,
                "--verify" => load.content = Content::Verified,
                "--shared" => load.memory = Memory::Shared,
                "--together" => load.start = Start::Together,
                unknown => return Err(format!("unknown argument '{unknown}'")),
            }
        }
        Ok(load)
    }

    /// Runs all processes and tells how it went.
    fn run(&self) -> ExitCode {
        let shared = match self.memory {
            Memory::Private => None,
            Memory::Shared => match self.map_shared() {
                Ok(mapping) => Some(mapping),
                Err(error) => {
                    complain(format_args!("no shared memory: {error}"));
                    return ExitCode::from(FAILED);
                }
            },
        };
        let gates = match self.start {
            Start::Alone => None,
            Start::Together => match Gates::new(self.rounds) {
                Ok(gates) => Some(gates),
                Err(error) => {
                    complain(format_args!("no pipes: {error}"));
                    return ExitCode::from(FAILED);
                }
            },
        };
        // All are started before any is waited for.
        let children: Vec<io::Result<c_int>> = (0..self.processes.get())
            .map(|process| {
                try_spawn(
                    || match self.process(process, shared.as_ref(), gates.as_ref()) {
                        Ok(()) => 0,
                        Err(what) => {
                            complain(format_args!("process {process}: {what}"));
                            FAILED.into()
                        }
                    },
                )
            })
            .collect();
        let took = gates.map(Gates::take_time);
        let mut tally = Tally::default();
        for (process, child) in children.into_iter().enumerate() {
            match child.map(wait) {
                Ok(Ended(0)) => tally.completed += 1,
                Ok(Ended(status)) if libc::WIFSIGNALED(status) => complain(format_args!(
                    "process {process}: killed by signal {}",
                    libc::WTERMSIG(status)
                )),
                Ok(ended) => {
                    tally.failed += 1;
                    // What ends so has said why itself.
                    if !(libc::WIFEXITED(ended.0) && libc::WEXITSTATUS(ended.0) == FAILED.into()) {
                        complain(format_args!("process {process}: {ended}"));
                    }
                }
                Err(error) => complain(format_args!("process {process}: fork: {error}")),
            }
        }
        println!("{}", self.summary(tally));
        if let Some(took) = took {
            println!("rounds took: {} us", took.as_micros());
        }
        match tally.completed == self.processes.get() {
            true => ExitCode::SUCCESS,
            false => ExitCode::from(FAILED),
        }
    }

    /// What was done by those processes that came to their end.
    fn summary(&self, tally: Tally) -> String {
        let Tally { completed, failed } = tally;
        let processes = match self.processes.get() {
            all if completed == all => format!("{all}"),
            all => format!("{completed} of {all}"),
        };
        let touches = u128::from(completed) * u128::from(self.rounds.get()) * self.pages as u128;
        // Who was killed found nothing wrong so far.
        let verified = match self.content {
            Content::Verified if completed != 0 && failed == 0 => ", verified",
            _ => "",
        };
        format!(
            "processes: {processes}, bytes each: {}, pattern: {}, rounds: {}, touches: {touches}{verified}",
            self.pages * PAGE,
            self.pattern,
            self.rounds,
        )
    }

    fn map_shared(&self) -> io::Result<Mapping> {
        let bytes = (self.pages * PAGE)
            .checked_mul(self.processes.get() as usize)
            .ok_or(io::ErrorKind::OutOfMemory)?;
        Mapping::try_anonymous(bytes, MAP_SHARED)
    }

    /// All that one process does, with its part of the `shared` memory or some of its own.
    fn process(
        &self,
        process: u32,
        shared: Option<&Mapping>,
        gates: Option<&Gates>,
    ) -> Result<(), String> {
        let private;
        let memory = match shared {
            Some(mapping) => &mapping.pages()[process as usize * self.pages..][..self.pages],
            None => {
                private = Mapping::try_anonymous(self.pages * PAGE, MAP_PRIVATE)
                    .map_err(|error| format!("no memory: {error}"))?;
                private.pages()
            }
        };
        let random = Random::new(mix(self.seed).wrapping_add(process.into()));
        match self.pattern {
            Pattern::Sequential => self.touch(process, memory, gates, Sequential::new(self.pages)),
            Pattern::Random => self.touch(process, memory, gates, Uniform::new(self.pages, random)),
            Pattern::Zipf => self.touch(process, memory, gates, Zipf::new(self.pages, random)),
            Pattern::Moving => self.touch(process, memory, gates, Moving::new(self.pages, random)),
        }
    }

    /// Touches pages in this order. A function of its own for each kind of order, with nothing to look up.
    fn touch(
        &self,
        process: u32,
        memory: &[Page],
        gates: Option<&Gates>,
        mut order: impl Iterator<Item = usize>,
    ) -> Result<(), String> {
        let pass = |round| gates.map_or(Ok(()), |gates| gates.pass(round));
        match self.content {
            Content::Any => {
                for round in 0..self.rounds.get() {
                    pass(round)?;
                    for page in order.by_ref().take(self.pages) {
                        memory[page][0].store(round + 1, Relaxed);
                    }
                }
                pass(self.rounds.get())
            }
            Content::Verified => {
                let mut ledger = Ledger::new(self.seed, process, self.pages)
                    .map_err(|error| format!("no memory to count in: {error}"))?;
                for round in 0..self.rounds.get() {
                    pass(round)?;
                    for page in order.by_ref().take(self.pages) {
                        ledger
                            .touch(memory, page)
                            .map_err(|mismatch| mismatch.to_string())?;
                    }
                }
                pass(self.rounds.get())?;
                ledger
                    .check(memory)
                    .map_err(|mismatch| mismatch.to_string())
            }
        }
    }
}

impl Gates {
    fn new(rounds: NonZeroU64) -> io::Result<Gates> {
        (0..=rounds.get())
            .map(|_| Gate::new())
            .collect::<io::Result<_>>()
            .map(Gates)
    }

    /// Lets the processes through every gate as soon as all are there; how long it took from the first to the last. A process that
    /// has died is not waited for.
    fn take_time(self) -> Duration {
        let mut start = None;
        let mut took = Duration::ZERO;
        for gate in &self.0 {
            gate.await_all();
            took = start.get_or_insert_with(Instant::now).elapsed();
            gate.open();
        }
        took
    }

    /// In a process: passes the gate before this round, counted from 0.
    fn pass(&self, round: u64) -> Result<(), String> {
        let gate = usize::try_from(round)
            .ok()
            .and_then(|round| self.0.get(round));
        let passed = gate.map_or(Ok(()), Gate::pass);
        passed.map_err(|error| format!("no start together: {error}"))
    }
}

/// A whole number of a type whose least is `least`.
fn number<T: FromStr>(option: &str, text: &str, least: u8) -> Result<T, String> {
    text.parse().map_err(|_| {
        bad(
            option,
            text,
            format_args!("expected a whole number from {least} up"),
        )
    })
}

/// Pages that hold a size.
fn pages(option: &str, text: &str) -> Result<usize, String> {
    match size::parse(text) {
        Ok(0) => Err(bad(option, text, "at least one byte is needed")),
        Ok(bytes) => Ok(bytes.div_ceil(PAGE)),
        Err(why) => Err(bad(option, text, why)),
    }
}

fn bad(option: &str, text: &str, why: impl fmt::Display) -> String {
    format!("{option} '{text}': {why}")
}

/// Says what is wrong, in one write: several processes may have something to say.
fn complain(what: fmt::Arguments) {
    // Who closed standard error does not want to know.
    let _ = io::stderr().write_all(format!("hog: {what}\n").as_bytes());
}
