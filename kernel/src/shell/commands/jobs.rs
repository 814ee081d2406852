//! Commands about jobs of the shell: `wait`, `jobs`, `time`.

use super::{Command, FAILED, Status, dispatch, run, usage};
use crate::shell::Context;
use crate::shell::jobs::List;
use alloc::{boxed::Box, string::String, vec::Vec};
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
        usage: "COMMAND [ARG]...",
        summary: "run a command and show what it took",
        details: "Real time in seconds, then what the whole machine did meanwhile: faults, pages in and out, system calls, switches. \
                  The status is the command's.",
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
    if args.is_empty() {
        return usage(&shell, "time", format_args!("a command is missing"));
    }
    let system = shell.system();
    let (start, before) = (system.executor.now(), system.uvm.uvmexp());
    let polls = system.executor.switches();
    // Boxed, because a command may be `time` again.
    let command: futures_util::future::BoxFuture<'_, Status> =
        Box::pin(dispatch(shell.clone(), args));
    let status = command.await;
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
