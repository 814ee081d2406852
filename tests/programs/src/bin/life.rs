//! Births and deaths, as often as one likes, and what each takes: fork, vfork and exec, threads, the end of a process with much
//! memory.
//!
//!     life KIND ROUNDS [--samples]
//!
//! Prints a line for each thing measured: its name, count, min, p50, p90, p99, max and mean in nanoseconds (`clock_gettime`; instructions
//! where the guest's time counts them). With `--samples` each value instead, as `sample NAME VALUE`. Some rounds before the first
//! one are not counted. Memory written before the rounds is verified after them.

use std::ffi::{CString, c_char, c_int};
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::ptr::null;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use programs::borrowed::{vfork_and_exec, vfork_and_exit};
use programs::{Mapping, PAGE, spawn, wait};

/// Rounds before the first that counts.
const WARM_UP: usize = 8;
/// Bytes that a dying process has written.
const DYING: usize = 64 << 20;
/// Pages that must be the same before and after.
const KEPT: usize = 16;

/// What happens in a round.
const KINDS: [(&str, Kind); 6] = [
    ("fork", fork),
    ("fork-exec", fork_exec),
    ("vfork", vfork),
    ("vfork-exec", vfork_exec),
    ("thread", thread),
    ("exit", exit),
];

/// One round, which adds to each series of its kind.
type Kind = fn(&mut Rounds) -> Result<(), String>;

/// What was measured, by name.
type Series = (&'static str, Vec<u64>);

/// What the rounds have and leave.
struct Rounds {
    nothing: CString,
    /// Where a child says when it ends.
    stamp: Mapping,
    series: Vec<Series>,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words[..] {
        [own, kind, rounds] => run(own, kind, rounds, summary),
        [own, kind, rounds, "--samples"] => run(own, kind, rounds, samples),
        _ => Err("usage: life KIND ROUNDS [--samples]".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("life: {why}");
            ExitCode::FAILURE
        }
    }
}

fn number(word: &str) -> Result<usize, String> {
    word.parse().map_err(|_| format!("`{word}` is not a count"))
}

fn run(
    own: &str,
    kind: &str,
    rounds: &str,
    report: fn(&[Series]) -> io::Result<()>,
) -> Result<(), String> {
    let (_, round) = KINDS
        .iter()
        .find(|(name, _)| *name == kind)
        .ok_or(format!("there is no kind `{kind}`"))?;
    let rounds = number(rounds)?;
    let directory = own.rsplit_once('/').map_or(".", |(directory, _)| directory);
    let nothing =
        CString::new(format!("{directory}/nothing")).map_err(|error| error.to_string())?;
    let shared = libc::MAP_SHARED;
    let mut all = Rounds {
        nothing,
        stamp: Mapping::try_anonymous(PAGE, shared).map_err(|error| format!("mmap: {error}"))?,
        series: Vec::new(),
    };
    let kept = Mapping::try_anonymous(KEPT * PAGE, libc::MAP_PRIVATE)
        .map_err(|error| format!("mmap: {error}"))?;
    (0..kept.len()).for_each(|at| kept.write(at, (at * 7 + at / PAGE) as u8));
    let before = kept.checksum();
    let warm_up = WARM_UP.min(rounds);
    for _ in 0..warm_up {
        round(&mut all)?;
    }
    // Room beforehand: the vectors' own pages must not fault, nor be copied, in a round.
    for (_, values) in &mut all.series {
        *values = vec![1; rounds];
        values.clear();
    }
    for _ in 0..rounds {
        round(&mut all)?;
    }
    if kept.checksum() != before {
        return Err("memory is not what it was".to_owned());
    }
    report(&all.series).map_err(|error| format!("output: {error}"))
}

impl Rounds {
    fn add(&mut self, name: &'static str, value: u64) {
        match self.series.iter_mut().find(|(own, _)| *own == name) {
            Some((_, values)) => values.push(value),
            None => self.series.push((name, vec![value])),
        }
    }

    fn stamped(&self) -> &AtomicU64 {
        &self.stamp.pages()[0][0]
    }
}

/// Nanoseconds.
fn now() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is writable.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Waits for a child, which must have exited with `status`.
fn expect(child: c_int, status: c_int) -> Result<(), String> {
    let ended = wait(child);
    match libc::WIFEXITED(ended.0) && libc::WEXITSTATUS(ended.0) == status {
        true => Ok(()),
        false => Err(format!("a child ended with {ended}, not exit {status}")),
    }
}

fn forked(result: c_int) -> Result<c_int, String> {
    match result {
        -1 => Err(format!("fork: {}", io::Error::last_os_error())),
        child => Ok(child),
    }
}

/// The call alone, and until the child is collected.
fn fork(rounds: &mut Rounds) -> Result<(), String> {
    let start = now();
    // SAFETY: one thread; the child ends at once.
    let child = unsafe {
        match libc::fork() {
            0 => libc::_exit(7),
            child => child,
        }
    };
    let called = now();
    expect(forked(child)?, 7)?;
    let end = now();
    rounds.add("fork", called - start);
    rounds.add("fork-exit-wait", end - start);
    Ok(())
}

fn fork_exec(rounds: &mut Rounds) -> Result<(), String> {
    let arguments = [rounds.nothing.as_ptr(), null()];
    let start = now();
    // SAFETY: one thread; the arguments end in null, and the child ends if it cannot be replaced.
    let child = unsafe {
        match libc::fork() {
            0 => {
                libc::execv(rounds.nothing.as_ptr(), arguments.as_ptr());
                libc::_exit(127)
            }
            child => child,
        }
    };
    expect(forked(child)?, 0)?;
    rounds.add("fork-exec-wait", now() - start);
    Ok(())
}

/// The child writes into its parent's memory, and ends.
fn vfork(rounds: &mut Rounds) -> Result<(), String> {
    let mut mark = 0;
    let start = now();
    let child = vfork_and_exit(&mut mark, 7);
    // The parent goes on when the child is done with its memory.
    let shared = mark == 7;
    expect(forked(child)?, 7)?;
    rounds.add("vfork-exit-wait", now() - start);
    match shared {
        true => Ok(()),
        false => Err("a vfork child did not borrow its parent's memory".to_owned()),
    }
}

fn vfork_exec(rounds: &mut Rounds) -> Result<(), String> {
    let arguments = [rounds.nothing.as_ptr(), null()];
    let environment: [*const c_char; 1] = [null()];
    let start = now();
    let child = vfork_and_exec(&rounds.nothing, &arguments, &environment);
    expect(forked(child)?, 0)?;
    rounds.add("vfork-exec-wait", now() - start);
    Ok(())
}

/// Until it is joined.
fn thread(rounds: &mut Rounds) -> Result<(), String> {
    let start = now();
    let thread = std::thread::Builder::new().spawn(|| {});
    let thread = thread.map_err(|error| format!("thread: {error}"))?;
    thread.join().map_err(|_| "a thread panicked".to_owned())?;
    rounds.add("thread-create-join", now() - start);
    Ok(())
}

/// From the moment when a process with much memory ends until its parent knows.
fn exit(rounds: &mut Rounds) -> Result<(), String> {
    let stamp = rounds.stamped();
    let child = spawn(|| match Mapping::try_anonymous(DYING, libc::MAP_PRIVATE) {
        Ok(memory) => {
            (0..DYING).step_by(PAGE).for_each(|at| memory.write(at, 1));
            stamp.store(now(), Relaxed);
            // SAFETY: ends the process with all that it has.
            unsafe { libc::_exit(0) }
        }
        Err(error) => {
            println!("life: mmap: {error}");
            1
        }
    });
    expect(child, 0)?;
    let took = now() - stamp.load(Relaxed);
    rounds.add("exit-64-mib", took);
    Ok(())
}

/// A line for each series.
fn summary(all: &[Series]) -> io::Result<()> {
    for (name, values) in all {
        let mut values = values.clone();
        values.sort_unstable();
        let Some(last) = values.len().checked_sub(1) else {
            continue;
        };
        // The nearest rank: a value that was measured.
        let rank = |percent: usize| values[(values.len() * percent).div_ceil(100).max(1) - 1];
        let sum: u128 = values.iter().map(|&value| u128::from(value)).sum();
        println!(
            "{name} count {} min {} p50 {} p90 {} p99 {} max {} mean {}",
            values.len(),
            values[0],
            rank(50),
            rank(90),
            rank(99),
            values[last],
            sum / values.len() as u128
        );
    }
    Ok(())
}

/// A line for each value.
fn samples(all: &[Series]) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    for (name, values) in all {
        for value in values {
            writeln!(out, "sample {name} {value}")?;
        }
    }
    out.flush()
}
