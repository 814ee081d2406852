//! Commands about jobs of the shell: `wait`, `jobs`, `fg`, `bg`, `time`.

use super::{Command, FAILED, Status, dispatch, run, usage};
use crate::proc::signal::{SigInfo, Signal};
use crate::proc::{ExitStatus, Life, Pid};
use crate::shell::Context;
use crate::shell::jobs::{Job, List, State};
use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};
use futures_util::future::BoxFuture;
use uvm::meter::Counter;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "wait",
        usage: "[JOB]...",
        summary: "wait for background jobs",
        details: "JOB is a number as `jobs` shows it, with or without %. Without one, waits for all. The status is that of the \
                  youngest job waited for. A job that is stopped is not waited for: its status is 128 and the number of the signal.",
        run: run!(wait),
    },
    Command {
        name: "jobs",
        usage: "",
        summary: "list background jobs, and stopped ones",
        details: "",
        run: run!(jobs),
    },
    Command {
        name: "fg",
        usage: "[JOB]",
        summary: "bring a program to the front",
        details: "It goes on if it was stopped (Ctrl-Z), and has the terminal. JOB is a number as `jobs` shows it; unless told, the job that \
                  was stopped last, or started. The status is the job's.",
        run: run!(fg),
    },
    Command {
        name: "bg",
        usage: "[JOB]",
        summary: "let a stopped program go on in the background",
        details: "JOB as for `fg`. It is stopped again when it reads the terminal.",
        run: run!(bg),
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

/// The job that a word means.
fn named(shell: &Context, command: &str, word: &str) -> Result<Arc<Job>, Status> {
    let number = word.strip_prefix('%').unwrap_or(word);
    let Ok(id) = number.parse::<usize>() else {
        let why = format_args!("`{word}` is not the number of a job");
        return Err(usage(shell, command, why));
    };
    shell.jobs().all().remove(&id).ok_or_else(|| {
        shell.say(format_args!(
            "{command}: there is no job {id}; `jobs` lists them"
        ));
        FAILED
    })
}

async fn wait(shell: Context, args: Vec<String>) -> Status {
    let mut wanted = List::new();
    for arg in &args {
        match named(&shell, "wait", arg) {
            Ok(job) => wanted.insert(job.id, job),
            Err(status) => return status,
        };
    }
    if args.is_empty() {
        wanted = shell.jobs().all();
    }
    let mut status = 0;
    for job in wanted.values() {
        let state = job.until(|state| (state != State::Running).then_some(state));
        match state.await {
            State::Ended(ended) => {
                status = ended;
                shell.jobs().remove(job.id);
            }
            State::Stopped(signal) => {
                shell.say(format_args!("{job}"));
                status = ExitStatus::Killed(signal).shell_status();
            }
            State::Running => {}
        }
    }
    status
}

/// The job that `fg` or `bg` is about, and its program's group.
fn wanted(shell: &Context, command: &str, args: &[String]) -> Result<(Arc<Job>, Pid), Status> {
    match args {
        [] => match shell.jobs().current() {
            Some(job) => group_of(shell, command, job),
            None => {
                shell.say(format_args!("{command}: there is no job"));
                Err(FAILED)
            }
        },
        [word] => program(shell, command, word),
        _ => Err(usage(shell, command, format_args!("takes one job"))),
    }
}

/// The job that a word means, and its program's group. What is wrong is said.
pub(super) fn program(
    shell: &Context,
    command: &str,
    word: &str,
) -> Result<(Arc<Job>, Pid), Status> {
    group_of(shell, command, named(shell, command, word)?)
}

fn group_of(shell: &Context, command: &str, job: Arc<Job>) -> Result<(Arc<Job>, Pid), Status> {
    match (job.state(), job.group()) {
        (State::Ended(_), _) => {
            shell.say(format_args!("{command}: it has ended: {job}"));
            Err(FAILED)
        }
        (_, Some(group)) => Ok((job, group)),
        (_, None) => {
            let id = job.id;
            shell.say(format_args!(
                "{command}: job {id} is the shell's own and no program; `wait {id}` waits for it"
            ));
            Err(FAILED)
        }
    }
}

/// Lets a group go on.
fn resume(shell: &Context, group: Pid) {
    let info = SigInfo::from_kernel(Signal::CONT);
    shell.system().processes.kill_group(group, info);
}

async fn fg(shell: Context, args: Vec<String>) -> Status {
    let (job, group) = match wanted(&shell, "fg", &args) {
        Ok(found) => found,
        Err(status) => return status,
    };
    let front = shell.bring_to_front(&job, group);
    shell.say(format_args!("{}", job.title()));
    job.enter_front();
    resume(&shell, group);
    let state = job.until(|state| match state {
        State::Running => None,
        // What it was before it was told to go on may be heard only now.
        State::Stopped(_) if !is_stopped(&shell, &job) => None,
        state => Some(state),
    });
    let state = state.await;
    job.leave_front(shell.system().console.tty().termios());
    drop(front);
    match state {
        State::Ended(status) => {
            shell.jobs().remove(job.id);
            status
        }
        State::Stopped(signal) => {
            shell.say(format_args!("\n{job}"));
            ExitStatus::Killed(signal).shell_status()
        }
        State::Running => 0,
    }
}

/// Whether the job's program is stopped at this moment.
fn is_stopped(shell: &Context, job: &Job) -> bool {
    let table = shell.system().processes.table().lock();
    let life = job.group().and_then(|leader| table.life(leader));
    matches!(life, Some(Life::Stopped(_)))
}

async fn bg(shell: Context, args: Vec<String>) -> Status {
    match wanted(&shell, "bg", &args) {
        Ok((job, group)) => {
            job.set_state(State::Running);
            resume(&shell, group);
            shell.say(format_args!("{job}"));
            0
        }
        Err(status) => status,
    }
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
