//! Commands about jobs of the shell: `wait`, `jobs`, `time`.

use super::{Command, FAILED, Status, dispatch, run, usage};
use crate::shell::Context;
use crate::shell::jobs::List;
use alloc::{boxed::Box, string::String, vec::Vec};
use futures_util::future::BoxFuture;
use uvm::meter::Counter;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "wait",
        usage: "[JOB]...",
        summary: "wait for background jobs",
        details: "JOB is a number as `jobs` shows it, with or without %. Without one, waits for all. The status is that of the \
                  youngest job waited for.",
        run: run!(wait),
    },
    Command {
        name: "jobs",
        usage: "",
        summary: "list background jobs",
        details: "",
        run: run!(jobs),
    },
    Command {
        name: "time",
        usage: "[-n COUNT] COMMAND [ARG]...",
        summary: "run a command and show what it took",
        details: "Real time in seconds, then what the whole machine did meanwhile: faults, pages in and out, system calls, switches. \
                  The status is the command's. -n runs it COUNT times, 20 ms apart, and shows how long the answers took: each counts from \
                  the moment when it was due, so that waiting for a turn is in it. The status is that of the last run that failed.",
        run: run!(time),
    },
];

async fn wait(shell: Context, args: Vec<String>) -> Status {
    let all = shell.jobs().all();
    let mut wanted = List::new();
    for arg in &args {
        let number = arg.strip_prefix('%').unwrap_or(arg);
        let Ok(id) = number.parse::<usize>() else {
            return usage(
                &shell,
                "wait",
                format_args!("`{arg}` is not the number of a job"),
            );
        };
        let Some(job) = all.get(&id) else {
            shell.say(format_args!(
                "wait: there is no job {id}; `jobs` lists them"
            ));
            return FAILED;
        };
        wanted.insert(id, job.clone());
    }
    if args.is_empty() {
        wanted = all;
    }
    let mut status = 0;
    for job in wanted.values() {
        status = job.wait().await;
        shell.jobs().remove(job.id);
    }
    status
}

async fn jobs(shell: Context, args: Vec<String>) -> Status {
    if !args.is_empty() {
        return usage(&shell, "jobs", format_args!("takes no arguments"));
    }
    for job in shell.jobs().all().values() {
        shell.say(format_args!("{job}"));
    }
    0
}

async fn time(shell: Context, args: Vec<String>) -> Status {
    match args.as_slice() {
        [] => usage(&shell, "time", format_args!("a command is missing")),
        [option, count, command @ ..] if option == "-n" && !command.is_empty() => {
            match count.parse() {
                Ok(count) if (1..=MOST_RUNS).contains(&count) => {
                    time_many(&shell, count, command).await
                }
                _ => usage(
                    &shell,
                    "time",
                    format_args!("-n takes 1 to {MOST_RUNS}, not `{count}`"),
                ),
            }
        }
        [option, ..] if option == "-n" => usage(
            &shell,
            "time",
            format_args!("-n takes a count and a command"),
        ),
        command => time_once(&shell, command).await,
    }
}

/// Runs of `time -n`, at most: what is noted of them is one block of the heap.
const MOST_RUNS: usize = 500;
/// Nanoseconds between them.
const APART: u64 = 20_000_000;

/// Boxed, because a command may be `time` again.
fn begin(shell: &Context, command: &[String]) -> BoxFuture<'static, Status> {
    Box::pin(dispatch(shell.clone(), command.into()))
}

async fn time_many(shell: &Context, count: usize, command: &[String]) -> Status {
    let executor = &shell.system().executor;
    let mut status = 0;
    let mut took = Vec::with_capacity(count);
    let mut due = executor.now();
    for _ in 0..count {
        // One that was late does not make the next ones so.
        due = (due + APART).max(executor.now());
        executor.sleep_until(due).await;
        match begin(shell, command).await {
            0 => {}
            failed => status = failed,
        }
        took.push(executor.now() - due);
    }
    took.sort_unstable();
    shell.say(format_args!(
        "{count} runs: min {}, median {}, p99 {}, max {} us",
        took[0] / 1000,
        percentile(&took, 50) / 1000,
        percentile(&took, 99) / 1000,
        took[count - 1] / 1000
    ));
    status
}

/// The least of the sorted, which are some, that so many percent of them do not exceed.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
}

async fn time_once(shell: &Context, command: &[String]) -> Status {
    let system = shell.system();
    let (start, before) = (system.executor.now(), system.uvm.uvmexp());
    let polls = system.executor.switches();
    let status = begin(shell, command).await;
    let (elapsed, after) = (system.executor.now() - start, system.uvm.uvmexp());
    shell.say(format_args!(
        "real {}.{:06} s",
        elapsed / 1_000_000_000,
        elapsed / 1000 % 1_000_000
    ));
    for counter in [Counter::Faults, Counter::Pgswapin, Counter::Syscalls] {
        shell.say(format_args!(
            "{:>12} {}",
            after.get(counter) - before.get(counter),
            counter.describe()
        ));
    }
    let polls = system.executor.switches() - polls;
    shell.say(format_args!("{polls:>12} polls of tasks"));
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let sorted: Vec<u64> = (1..=200).collect();
        assert_eq!(percentile(&sorted, 50), 100);
        assert_eq!(percentile(&sorted, 99), 198);
        assert_eq!(percentile(&sorted, 0), 1);
        assert_eq!(percentile(&sorted[..1], 99), 1);
    }
}
