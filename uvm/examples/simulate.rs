//! Runs the simulation by hand: replays a run that failed, or looks for new ones, and makes those that fail short.
//!
//! ```text
//! cargo run -p uvm --example simulate -- --seed 7 --ops 4000 --mode torture
//! cargo run -p uvm --example simulate -- --seconds 600
//! cargo run -p uvm --example simulate -- --seed 7 --ops 4000 --mode torture --keep 3,17,204 --trace
//! ```
//!
//! `--mode` is `normal`, `torture`, `starved`, `faulty` or `all` (as without it); `--runs` tries that many seeds from the first on, `--seconds`
//! as many as the time allows. A run that fails is made short, unless `--no-shrink`, and printed as the command that repeats it.
//! `--keep` does only these operations of a run (ranges are `a-b`), and `--trace` prints them.
//!
//! Each run is a process of its own, so that one that aborts or hangs is a failure like any other. The exit status is 1 if a run failed.

use std::io::Read;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use uvm::sim::run::{Mode, Run, Trace, ranges, run};
use uvm::sim::shrink::shrink;

const USAGE: &str = "usage: simulate [--seed N] [--runs N] [--ops N] [--mode normal|torture|starved|faulty|all] \
                     [--keep 3,17-20] [--seconds S] [--no-shrink] [--trace]";

/// Tries that shrinking may take.
const TRIES: usize = 1000;
/// What tells a process that it is one run and no more.
const HERE: &str = "--here";

struct Options {
    seed: u64,
    runs: u64,
    ops: u32,
    modes: Vec<Mode>,
    keep: Option<Vec<u32>>,
    until: Option<Instant>,
    shrinks: bool,
    trace: Trace,
    here: bool,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("simulate: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if options.here {
        return here(&options);
    }
    let (begun, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let output = Mutex::new(());
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        loop {
            let n = begun.fetch_add(1, Relaxed);
            let modes = options.modes.len() as u64;
            let over = match options.until {
                Some(until) => Instant::now() >= until,
                None => n >= options.runs * modes,
            };
            if over {
                begun.fetch_sub(1, Relaxed);
                return;
            }
            let one = Run {
                seed: options.seed.wrapping_add(n / modes),
                ops: options.ops,
                mode: options.modes[(n % modes) as usize],
                keep: options.keep.as_deref(),
                trace: options.trace,
            };
            let (failure, text) = elsewhere(&one);
            let quiet = options.runs > 1 || options.until.is_some();
            let _output = output.lock().expect("not poisoned");
            if let Some(failure) = failure {
                failed.fetch_add(1, Relaxed);
                print!("{text}");
                println!("FAILED ({failure}): {one}");
                if options.shrinks {
                    shortened(&one);
                }
            } else if !quiet {
                print!("{text}");
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner();
    println!("{} runs, {failed} failed", begun.into_inner());
    ExitCode::from(u8::from(failed > 0))
}

/// Does one run in this process.
fn here(options: &Options) -> ExitCode {
    let mode = options.modes[0];
    let one = Run {
        keep: options.keep.as_deref(),
        trace: options.trace,
        ..Run::new(options.seed, options.ops, mode)
    };
    match run(&one) {
        Ok(outcome) => {
            println!("seed {} {}: {outcome:?}", options.seed, mode.name());
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Does one run in a process of its own. Returns how it failed, if it did, and what it printed.
fn elsewhere(one: &Run<'_>) -> (Option<String>, String) {
    let mut command = Command::new(std::env::current_exe().expect("a program has a path"));
    command
        .args([
            "--seed",
            &one.seed.to_string(),
            "--ops",
            &one.ops.to_string(),
        ])
        .args(["--mode", one.mode.name(), HERE])
        .env("RUST_BACKTRACE", "0")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(keep) = one.keep {
        command.args(["--keep", &ranges(keep)]);
    }
    if one.trace == Trace::Print {
        command.arg("--trace");
    }
    let mut child = command.spawn().expect("this program can be started again");
    let (mut out, mut err) = (
        child.stdout.take().expect("piped"),
        child.stderr.take().expect("piped"),
    );
    // Read on the side: a full pipe would stop it.
    let reader = std::thread::spawn(move || {
        let (mut text, mut bytes) = (String::new(), Vec::new());
        let errors = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            err.read_to_end(&mut bytes).map(|_| bytes)
        });
        let _ = out.read_to_end(&mut bytes);
        if let Ok(Ok(errors)) = errors.join() {
            text.push_str(&String::from_utf8_lossy(&errors));
        }
        text.push_str(&String::from_utf8_lossy(&bytes));
        text
    });
    // A poll that never ends is a hang that only the clock sees.
    let patience = Duration::from_secs(20) + Duration::from_millis(u64::from(one.ops) / 2);
    let start = Instant::now();
    let failure = loop {
        match child.try_wait().expect("the child is ours") {
            Some(status) if status.success() => break None,
            Some(status) => break Some(status.to_string()),
            None if start.elapsed() > patience => {
                let _ = child.kill();
                let _ = child.wait();
                break Some("hangs".into());
            }
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    (failure, reader.join().expect("reading does not panic"))
}

/// Makes a failing run short and prints the command that repeats what is left.
fn shortened(one: &Run<'_>) {
    let all = match one.keep {
        Some(keep) => keep.to_vec(),
        None => (0..one.ops).collect(),
    };
    let kept = shrink(all, TRIES, |keep| {
        let keep = Some(keep);
        elsewhere(&Run { keep, ..*one }).0.is_some()
    });
    let short = Run {
        keep: Some(&kept),
        ..*one
    };
    print!("{}", elsewhere(&short).1);
    println!("{} operations are enough:\n{short}", kept.len());
}

/// The reverse of [`ranges`].
fn parse_ranges(text: &str) -> Result<Vec<u32>, String> {
    let mut keep = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| {
            text.parse::<u32>()
                .map_err(|error| format!("--keep {text}: {error}"))
        };
        keep.extend(number(first)?..=number(last)?);
    }
    Ok(keep)
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        seed: 0,
        runs: 1,
        ops: 4_000,
        modes: Mode::ALL.to_vec(),
        keep: None,
        until: None,
        shrinks: true,
        trace: Trace::Silent,
        here: false,
    };
    while let Some(option) = args.next() {
        match option.as_str() {
            "--no-shrink" => options.shrinks = false,
            "--trace" => options.trace = Trace::Print,
            HERE => options.here = true,
            _ => {
                let value = args
                    .next()
                    .ok_or_else(|| format!("{option} wants a value"))?;
                let number = || {
                    value
                        .parse::<u64>()
                        .map_err(|error| format!("{option} {value}: {error}"))
                };
                match option.as_str() {
                    "--seed" => options.seed = number()?,
                    "--runs" => options.runs = number()?,
                    "--ops" => {
                        options.ops = u32::try_from(number()?).map_err(|e| e.to_string())?;
                    }
                    "--seconds" => {
                        options.until = Some(Instant::now() + Duration::from_secs(number()?));
                    }
                    "--keep" => options.keep = Some(parse_ranges(&value)?),
                    "--mode" if value == "all" => options.modes = Mode::ALL.to_vec(),
                    "--mode" => {
                        let mode = Mode::ALL.into_iter().find(|mode| mode.name() == value);
                        options.modes = vec![mode.ok_or_else(|| format!("no mode {value}"))?];
                    }
                    _ => return Err(format!("no option {option}")),
                }
            }
        }
    }
    Ok(options)
}
