//! Commands about programs: `run`, `ps`, `kill`.

use super::{Command, FAILED, NOT_FOUND, Status, jobs, run, usage};
use crate::fs::FsError;
use crate::fs::file::{OpenFile, OpenFlags};
use crate::fs::tty::Tty;
use crate::proc::exec::ExecError;
use crate::proc::signal::{SigInfo, Signal};
use crate::proc::table::Change;
use crate::proc::{Child, ExitStatus, Life, Pid, Program, SpawnError};
use crate::shell::Context;
use crate::shell::jobs::{Job, State};
use crate::system::System;
use alloc::{format, string::String, sync::Arc, vec::Vec};
use executor::Class;
use uvm::Patience;
use uvm::meter::Gauge;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "run",
        usage: "PATH [ARG]...",
        summary: "run a program and wait for it",
        details: "The program gets the console as its standard files. The status is the program's, or 128 and the number of the \
                  signal that ended it; 127 if there is no such program, 126 if it cannot be run. `run PATH &` does not wait. Ctrl-C \
                  ends the program, Ctrl-Z stops it: `fg` and `bg` let it go on.",
        run: run!(run_program),
    },
    Command {
        name: "ps",
        usage: "[-v]",
        summary: "list processes",
        details: "TIME is processor time in seconds, RSS resident memory in KiB. LWPS counts its threads. STATE: R runs, could run, or waits for memory or a disk; S asleep, T stopped, Z ended and not waited for; W behind it: all its threads are out of memory. \
                  -v shows memory instead: OUT counts the threads that are out, RSS and SWAP are KiB in memory and on swap, KMEM is what of the kernel's memory it takes, in bytes: \
                  headers, map, its share of anons, page tables, and the u-areas of threads that are in. Sums follow.",
        run: run!(ps),
    },
    Command {
        name: "kill",
        usage: "[-SIGNAL] PID|%JOB...",
        summary: "send a signal to processes",
        details: "SIGNAL is a name, with or without SIG, or a number; TERM unless told. %JOB stands for all processes of a job's program.",
        run: run!(kill),
    },
];

/// A program could not be run although its file is there.
const NOT_EXECUTABLE: Status = 126;
/// What programs find in their environment.
const ENVIRONMENT: &[&[u8]] = &[
    b"PATH=/bin:/sbin:/usr/bin:/programs",
    b"HOME=/",
    b"TERM=linux",
    b"USER=root",
];

async fn run_program(shell: Context, args: Vec<String>) -> Status {
    let Some(path) = args.first().cloned() else {
        return usage(&shell, "run", format_args!("a path is missing"));
    };
    let title = format!("run {}", args.join(" "));
    let lent = shell.lend_terminal();
    let mut child = match start(&shell, args, None, shell.front()).await {
        Ok(child) => child,
        Err(error) => {
            shell.say(format_args!("run: {path}: {error}"));
            return status_of(error);
        }
    };
    if let Some(job) = shell.job() {
        job.set_group(child.pid());
        return follow(&shell, &mut child, &path, job).await;
    }
    loop {
        match child.change().await {
            Change::Ended(status) => {
                drop(lent);
                return ended(&shell, &path, status);
            }
            Change::Stopped(signal) if shell.controls_jobs() => {
                let job = shell.jobs().add(title);
                job.set_group(child.pid());
                job.set_state(State::Stopped(signal));
                job.leave_front(shell.system().console.tty().termios());
                drop(lent);
                shell.say(format_args!("\n{job}"));
                keep(&shell, child, path, job);
                return ExitStatus::Killed(signal).shell_status();
            }
            Change::Stopped(_) | Change::Continued => {}
        }
    }
}

/// Keeps a job that was stopped in front from now on.
fn keep(shell: &Context, mut child: Child, path: String, job: Arc<Job>) {
    let context = shell.clone();
    let executor = &shell.system().executor;
    executor.spawn(Class::Daemon, "shell job", async move {
        let status = follow(&context, &mut child, &path, &job).await;
        job.set_state(State::Ended(status));
    });
}

/// Waits for a program's end, and tells its job how it stands meanwhile.
async fn follow(shell: &Context, child: &mut Child, path: &str, job: &Job) -> Status {
    loop {
        match child.change().await {
            Change::Ended(status) => return ended(shell, path, status),
            Change::Stopped(signal) => job.set_state(State::Stopped(signal)),
            Change::Continued => job.set_state(State::Running),
        }
    }
}

/// What a program's end is to the shell.
fn ended(shell: &Context, path: &str, status: ExitStatus) -> Status {
    if let ExitStatus::Killed(signal) = status
        && signal != Signal::INT
        && signal != Signal::PIPE
    {
        shell.say(format_args!("run: {path}: ended by {signal}"));
    }
    status.shell_status()
}

/// Starts a program with the console as its standard files, or, given an `output`, with that as its output and nothing to read; in
/// `front` of that terminal, if one is given.
///
/// In a task of its own, because a start that was begun must not be dropped halfway. One that nobody waits for any more (Ctrl-C) is
/// ended as soon as it is there.
pub(super) async fn start(
    shell: &Context,
    args: Vec<String>,
    output: Option<Arc<OpenFile>>,
    front: Option<Arc<Tty>>,
) -> Result<Child, SpawnError> {
    let wanted = Arc::new(());
    let still_wanted = Arc::downgrade(&wanted);
    let system = shell.system_handle();
    let start = system
        .executor
        .clone()
        .spawn(Class::Daemon, "run", async move {
            let child = load(&system, &args, output, front).await?;
            if still_wanted.strong_count() == 0 {
                system.processes.kill(child.pid(), Signal::KILL);
                system.console.take_back_from(child.pid());
            }
            Ok(child)
        });
    let started = start.await;
    drop(wanted);
    started
}

async fn load(
    system: &System,
    args: &[String],
    output: Option<Arc<OpenFile>>,
    front: Option<Arc<Tty>>,
) -> Result<Child, SpawnError> {
    let root = system.vfs.root()?;
    let device: &[u8] = match output {
        Some(_) => b"/dev/null",
        None => b"/dev/console",
    };
    let input = system
        .vfs
        .open(&root, device, OpenFlags::READ_WRITE)
        .await?;
    let argv: Vec<&[u8]> = args.iter().map(String::as_bytes).collect();
    let output = output.unwrap_or_else(|| input.clone());
    let files = [input, output.clone(), output];
    let mut patience = Patience::new();
    loop {
        let program = Program {
            path: argv[0],
            argv: &argv,
            env: ENVIRONMENT,
            cwd: root.clone(),
            files: &files,
            front: front.clone(),
        };
        match system.processes.spawn(program).await {
            Err(error) if error.is_shortage() && patience.wait(&system.uvm).await.is_ok() => {}
            result => return result,
        }
    }
}

/// As other shells have it.
fn status_of(error: SpawnError) -> Status {
    match error {
        SpawnError::Exec(ExecError::File(FsError::NotFound)) => NOT_FOUND,
        _ => NOT_EXECUTABLE,
    }
}

async fn ps(shell: Context, args: Vec<String>) -> Status {
    match args.first().map(String::as_str) {
        None => {}
        Some("-v") if args.len() == 1 => return ps_memory(&shell).await,
        Some(word) => return usage(&shell, "ps", format_args!("`{word}` is not an option")),
    }
    shell.say(format_args!(
        "{:>7}{:>7}{:>7}{:>6} STATE{:>10}{:>11} COMMAND",
        "PID", "PPID", "PGID", "LWPS", "RSS", "TIME"
    ));
    let page = uvm::PAGE_SIZE as u64 / 1024;
    for row in shell.system().processes.list() {
        let times = row.process.usage().times();
        let time = times.user + times.system;
        let resident = row
            .process
            .space()
            .map_or(0, |space| space.resident_pages() as u64 * page);
        let state = match row.life {
            Life::Alive if row.process.is_asleep() => 'S',
            Life::Alive => 'R',
            Life::Stopped(_) => 'T',
            Life::Zombie(_) => 'Z',
        };
        let lwps = row.process.lwps();
        let out = match lwps > 0 && row.process.lwps_out().0 == lwps {
            true => 'W',
            false => ' ',
        };
        shell.say(format_args!(
            "{:>7}{:>7}{:>7}{lwps:>6} {state}{out:<4}{resident:>10}{:>7}.{:03} {}",
            row.process.pid().0,
            row.parent.0,
            row.group.0,
            time / 1_000_000_000,
            time / 1_000_000 % 1000,
            row.process.name(),
        ));
    }
    0
}

/// What processes take of memory: their own, and the kernel's for them.
async fn ps_memory(shell: &Context) -> Status {
    let page = uvm::PAGE_SIZE as u64 / 1024;
    shell.say(format_args!(
        "{:>7}{:>6}{:>6}{:>10}{:>10}{:>10} COMMAND",
        "PID", "LWPS", "OUT", "RSS", "SWAP", "KMEM"
    ));
    let (mut processes, mut lwps, mut out, mut of_out, mut kernel) = (0, 0, 0, 0, 0);
    for row in shell.system().processes.list() {
        let process = &row.process;
        let memory = match process.space() {
            Some(space) => space.usage().await,
            None => Default::default(),
        };
        let own = process.kernel_bytes().await;
        let all = process.lwps();
        let (gone, of_gone) = process.lwps_out();
        processes += 1;
        lwps += all;
        out += gone;
        of_out += of_gone;
        kernel += own;
        shell.say(format_args!(
            "{:>7}{all:>6}{gone:>6}{:>10}{:>10}{own:>10} {}",
            process.pid().0,
            memory.resident * page,
            memory.swapped * page,
            process.name(),
        ));
    }
    let uvm = &shell.system().uvm;
    let pools = uvm.slab_pages() as u64 * page;
    let tables = uvm.meter().gauge(Gauge::PmapTables) * page;
    shell.say(format_args!(
        "{processes} processes, {lwps} LWPs: {kernel} bytes of kernel memory; {out} LWPs of them are out of memory: {of_out} bytes of that"
    ));
    shell.say(format_args!(
        "kernel memory in all: {pools} KiB of pools and heap, {tables} KiB of page tables"
    ));
    0
}

async fn kill(shell: Context, args: Vec<String>) -> Status {
    let mut words = args.iter().map(String::as_str).peekable();
    let mut signal = Signal::TERM;
    if let Some(word) = words.next_if(|word| word.starts_with('-')) {
        let name = &word[1..];
        let found = match name.parse::<u64>() {
            Ok(number) => Signal::new(number),
            Err(_) => Signal::by_name(name),
        };
        match found {
            Some(found) => signal = found,
            None => return usage(&shell, "kill", format_args!("`{name}` is not a signal")),
        }
    }
    if words.peek().is_none() {
        return usage(&shell, "kill", format_args!("a process number is missing"));
    }
    let mut status = 0;
    for word in words {
        if word.starts_with('%') {
            let sent = jobs::program(&shell, "kill", word).map(|(_, group)| {
                let info = SigInfo::from_kernel(signal);
                shell.system().processes.kill_group(group, info);
            });
            status = sent.err().unwrap_or(status);
            continue;
        }
        let Ok(pid) = word.parse::<u32>() else {
            return usage(
                &shell,
                "kill",
                format_args!("`{word}` is not a process number"),
            );
        };
        let pid = Pid(pid);
        if pid == Pid::INIT {
            shell.say(format_args!(
                "kill: 1 is the kernel's own process and takes no signals"
            ));
            status = FAILED;
        } else if !shell.system().processes.kill(pid, signal) {
            shell.say(format_args!(
                "kill: there is no process {word}; `ps` lists them"
            ));
            status = FAILED;
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_of_programs_that_did_not_start() {
        assert_eq!(
            status_of(ExecError::File(FsError::NotFound).into()),
            NOT_FOUND
        );
        assert_eq!(
            status_of(ExecError::File(FsError::IsDirectory).into()),
            NOT_EXECUTABLE
        );
        assert_eq!(status_of(SpawnError::OutOfMemory), NOT_EXECUTABLE);
    }
}
