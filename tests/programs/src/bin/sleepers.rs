//! Many who sleep: each is started with a secret of its own in its memory, sleeps, and is asked for it. See USAGE.
//!
//! It shows what a sleeper costs, and that one whose memory, and whose own state in the kernel, has been elsewhere meanwhile still knows what it knew.

use std::fmt;
use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::process::ExitCode;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use libc::{MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE, c_int};
use programs::{Ended, Mapping, PAGE, mix, size, try_spawn, wait};

const USAGE: &str = "\
usage: sleepers [--count N] [--threads] [--rest SECONDS] [--ballast SIZE] [--seed N]

  --count N       sleepers (100)
  --threads       threads of this process, instead of processes forked from it
  --rest SECONDS  how long they sleep before the first is woken (0)
  --ballast SIZE  memory that this process writes, over and over, while they rest: 512k, 40M (0)
  --seed N        of their secrets (1)
";

/// Exit status when a sleeper did not answer right.
const FAILED: u8 = 1;
/// Exit status after arguments that make no sense.
const BAD_USAGE: u8 = 2;
/// Bytes of a thread's stack.
const STACK: usize = 32 << 10;
/// Between two writes of the ballast.
const BREATH: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help") {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    match Plan::parse(&arguments) {
        Ok(plan) => match plan.run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                println!("sleepers: {why}");
                ExitCode::from(FAILED)
            }
        },
        Err(what) => {
            println!("sleepers: {what}; `sleepers --help` shows the options");
            ExitCode::from(BAD_USAGE)
        }
    }
}

/// Who sleeps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Processes,
    Threads,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Processes => "processes",
            Kind::Threads => "threads",
        })
    }
}

/// What is to be done.
struct Plan {
    count: usize,
    kind: Kind,
    rest: Duration,
    ballast: usize,
    seed: u64,
}

/// A word that one side waits for and the other changes.
struct Signal(AtomicU32);

impl Signal {
    /// Waits until it is no longer `value`.
    fn wait_past(&self, value: u32) {
        while self.0.load(SeqCst) == value {
            self.wait(value, ptr::null());
        }
    }

    /// The same, unless `gone`, which is asked now and then: nobody changes it any more. Whether it has changed.
    fn wait_past_unless(&self, value: u32, gone: impl Fn() -> bool) -> bool {
        let moment = libc::timespec {
            tv_sec: 0,
            tv_nsec: 200_000_000,
        };
        while self.0.load(SeqCst) == value {
            if gone() {
                return self.0.load(SeqCst) != value;
            }
            self.wait(value, &raw const moment);
        }
        true
    }

    fn wait(&self, value: u32, timeout: *const libc::timespec) {
        let word = self.0.as_ptr();
        // SAFETY: the word is ours and lives; so is the timeout, if there is one.
        unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAIT, value, timeout) };
    }

    fn raise(&self) {
        self.0.fetch_add(1, SeqCst);
        // SAFETY: the word is ours and lives.
        unsafe { libc::syscall(libc::SYS_futex, self.0.as_ptr(), libc::FUTEX_WAKE, 1) };
    }
}

/// What a sleeper and its waker share.
struct Bed {
    /// 1: it is about to sleep. 2: it has answered.
    sleeper: Signal,
    /// 1: it is asked.
    asked: Signal,
    /// Its process, if it has one of its own. (Here, so that the memory that forks copy does not grow.)
    pid: AtomicI32,
    answer: AtomicU64,
}

impl Bed {
    fn process(&self) -> Option<c_int> {
        Some(self.pid.load(SeqCst)).filter(|&pid| pid != 0)
    }
}

/// The beds of all, in memory that forks share, for as long as any of them may sleep.
fn beds(count: usize) -> io::Result<&'static [Bed]> {
    let len = (count * size_of::<Bed>()).max(1).next_multiple_of(PAGE);
    let memory = ManuallyDrop::new(Mapping::try_anonymous(len, MAP_SHARED)?);
    // SAFETY: as much memory, for good, and aligned; zeroes are a bed, and all of it is atomic.
    Ok(unsafe { std::slice::from_raw_parts(memory.base().cast(), count) })
}

/// What one that knows `secret` says.
fn answer(secret: u64) -> u64 {
    mix(secret ^ 1)
}

/// A sleeper's life.
fn sleep(bed: &Bed, secret: u64) -> i32 {
    // In this one's own memory, on its stack, and not in a register while it sleeps.
    let secret = AtomicU64::new(secret);
    bed.sleeper.raise();
    bed.asked.wait_past(0);
    bed.answer
        .store(answer(std::hint::black_box(&secret).load(SeqCst)), SeqCst);
    bed.sleeper.raise();
    0
}

/// Whether a child has ended; it can be waited for all the same.
fn has_ended(pid: c_int) -> bool {
    // SAFETY: zeroes are a `siginfo_t`.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is writable.
    let waited = unsafe { libc::waitid(libc::P_PID, pid as libc::id_t, &mut info, options) };
    // SAFETY: of a child there is a number, and 0 if there is no news.
    waited != 0 || unsafe { info.si_pid() } != 0
}

impl Plan {
    fn parse(arguments: &[String]) -> Result<Plan, String> {
        let mut plan = Plan {
            count: 100,
            kind: Kind::Processes,
            rest: Duration::ZERO,
            ballast: 0,
            seed: 1,
        };
        let mut arguments = arguments.iter();
        while let Some(option) = arguments.next() {
            if option == "--threads" {
                plan.kind = Kind::Threads;
                continue;
            }
            let value = arguments
                .next()
                .ok_or_else(|| format!("{option} needs a value, or is unknown"))?;
            let number = || {
                let bad = |_| format!("{option}: `{value}` is not a number");
                value.parse::<u64>().map_err(bad)
            };
            match option.as_str() {
                "--count" => plan.count = number()? as usize,
                "--rest" => plan.rest = Duration::from_secs(number()?),
                "--seed" => plan.seed = number()?,
                "--ballast" => {
                    plan.ballast = size::parse(value).map_err(|why| format!("{option}: {why}"))?;
                }
                _ => return Err(format!("unknown argument '{option}'")),
            }
        }
        Ok(plan)
    }

    fn run(&self) -> Result<(), String> {
        let beds = beds(self.count).map_err(|why| format!("no memory for their beds: {why}"))?;
        let secret = |i: usize| mix(mix(self.seed).wrapping_add(i as u64));
        let mut threads = Vec::new();
        for (i, bed) in beds.iter().enumerate() {
            self.start(&mut threads, bed, secret(i))
                .map_err(|why| format!("sleeper {i} does not start: {why}"))?;
            bed.sleeper.wait_past(0);
        }
        say(format_args!("{} {} sleep", self.count, self.kind));
        self.rest()?;
        let (mut answered, mut wrong) = (0, 0);
        for (i, bed) in beds.iter().enumerate() {
            bed.asked.raise();
            let gone = || bed.process().is_some_and(has_ended);
            if bed.sleeper.wait_past_unless(1, gone) {
                answered += 1;
                wrong += usize::from(bed.answer.load(SeqCst) != answer(secret(i)));
            }
        }
        say(format_args!("{answered} answered, {wrong} of them wrong"));
        let processes = beds.iter().filter_map(Bed::process).map(wait);
        let threads = (threads.into_iter()).map(|one| Ended(one.join().unwrap_or(-1)));
        let bad = processes
            .chain(threads)
            .filter(|&ended| ended != Ended(0))
            .count();
        say(format_args!("{} ended, {bad} of them badly", self.count));
        match wrong + bad + self.count - answered {
            0 => Ok(()),
            _ => Err("not all is well".to_owned()),
        }
    }

    fn start(
        &self,
        threads: &mut Vec<JoinHandle<i32>>,
        bed: &'static Bed,
        secret: u64,
    ) -> io::Result<()> {
        let body = move || sleep(bed, secret);
        match self.kind {
            Kind::Processes => bed.pid.store(try_spawn(body)?, SeqCst),
            Kind::Threads => {
                let thread = thread::Builder::new().stack_size(STACK);
                threads.push(thread.spawn(body)?);
            }
        }
        Ok(())
    }

    /// Waits, and writes the ballast meanwhile.
    fn rest(&self) -> Result<(), String> {
        let until = Instant::now() + self.rest;
        if self.ballast == 0 {
            thread::sleep(self.rest);
            return Ok(());
        }
        let len = self.ballast.next_multiple_of(PAGE);
        let ballast = Mapping::anonymous(len, PROT_READ | PROT_WRITE, MAP_PRIVATE);
        let mut round = 0_u8;
        while Instant::now() < until {
            round = round.wrapping_add(1);
            for at in (0..len).step_by(PAGE) {
                // SAFETY: inside of the mapping.
                unsafe { ballast.base().add(at).write_volatile(round) };
            }
            thread::sleep(BREATH);
        }
        Ok(())
    }
}

fn say(what: fmt::Arguments<'_>) {
    println!("{what}");
    // Nobody shall miss it because it is buffered; a console that is gone is no matter.
    let _ = io::stdout().flush();
}
