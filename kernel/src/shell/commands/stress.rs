//! `stress`: mixes of programs that together want several times the machine's memory, for a time.
//!
//! Owns the plan of a run ([`mix`]) and its account; how one program is run and listened to is [`program`]'s. Each part of the mix is a
//! future that runs its programs one after the other. All parts and the clock of the live line are polled by the one command: Ctrl-C
//! drops it, and with it every part, which kills what it runs. A part whose program failed starts no other: one line says what was wrong, and
//! the other parts go on.

mod mix;
mod program;

use super::{Command, FAILED, Status, run, usage};
use crate::fs::FsError;
use crate::fs::namei::Follow;
use crate::fs::vnode::Kind;
use crate::shell::Context;
use crate::system::System;
use alloc::{format, string::String, vec::Vec};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use futures_util::{FutureExt, select_biased};
use mix::{Part, Request, Scale};
use program::Said;
use uvm::meter::{Counter, Gauge, Uvmexp};

pub(super) const COMMANDS: &[Command] = &[Command {
    name: "stress",
    usage: "[--seconds N | --minutes N] [--memory-factor N] [--mix PART,..] [--file PATH]",
    summary: "load the machine with a mix of programs beyond its memory",
    details: "Starts programs for N seconds (30), each part of the mix one after the other, and awaits the end of the last ones. A line a second \
              shows pages paged in and out, faults, programs that ended well and that failed; at the end what the kernel itself holds, \
              before and after. Fails if any program does, or prints anything else than it did the first time. Ctrl-C ends it.\n\
              PART is one of sequential, random, zipf, moving, shared (memory, every byte verified), fork, mmap and file; without --mix, all. \
              Those of the first five that are in the mix share N (4) times the machine's memory. file reads PATH, or the largest \
              in /data.",
    run: run!(stress),
}];

/// What is read if nothing is in /data.
const SMALL_FILE: &str = "/bin/busybox";
const SECOND: u64 = 1_000_000_000;

async fn stress(shell: Context, args: Vec<String>) -> Status {
    let request = match Request::parse(&args) {
        Ok(request) => request,
        Err(why) => return usage(&shell, "stress", format_args!("{why}")),
    };
    let plan = match Plan::new(shell.system(), request).await {
        Ok(plan) => plan,
        Err(why) => {
            shell.say(format_args!("stress: {why}"));
            return FAILED;
        }
    };
    if plan.request.parts.contains(&Part::File) {
        shell.say(format_args!(
            "stress: reading {} ({} KiB)",
            plan.scale.file,
            plan.scale.file_size / 1024
        ));
    }
    let done = AtomicU64::new(0);
    let mut account = Account::open(&shell, &done);
    let failed = account.keep(&plan).await;
    account.close();
    match failed {
        0 => 0,
        _ => FAILED,
    }
}

/// What is run, and how large.
struct Plan {
    request: Request,
    scale: Scale,
}

impl Plan {
    /// Looks for all that is needed. An error is what is missing.
    async fn new(system: &System, request: Request) -> Result<Self, String> {
        let e = system.uvm.uvmexp();
        let bytes = request.bytes(e.npages * e.pagesize);
        // Pages of swap that are free, and what of memory the kernel and the programs' text leave to data; a sixteenth more is wanted
        // for what the programs need besides.
        let swap = e.gauge(Gauge::Swpages) - e.gauge(Gauge::Swpginuse);
        let room = (swap + e.npages / 4 * 3) * e.pagesize;
        let wanted = bytes / 16 * 17;
        if wanted > room {
            const MIB: u64 = 1 << 20;
            return Err(format!(
                "{} times the memory wants {} MiB of memory and swap, and there are {}: start with {}M more of --swap, or use a smaller \
                 --memory-factor",
                request.factor,
                wanted / MIB,
                room / MIB,
                (wanted - room).div_ceil(MIB)
            ));
        }
        let (file, file_size) = match &request.file {
            Some(path) => (
                path.clone(),
                size(system, path)
                    .await
                    .map_err(|why| format!("{path}: {why}"))?,
            ),
            None => largest(system, "/data").await.unwrap_or_default(),
        };
        let (file, file_size) = match file_size {
            0 if request.file.is_none() => {
                let size = size(system, SMALL_FILE).await;
                (
                    SMALL_FILE.into(),
                    size.map_err(|why| format!("{SMALL_FILE}: {why}"))?,
                )
            }
            0 => return Err(format!("{file}: it is empty")),
            size => (file, size),
        };
        let scale = Scale {
            bytes: bytes.checked_div(request.takers()).unwrap_or(0),
            file,
            file_size,
        };
        for part in &request.parts {
            for turn in 0..part.lines() {
                let program = part.line(turn, &scale).swap_remove(0);
                let found = size(system, &program).await;
                found.map_err(|why| format!("{program}: {why}"))?;
            }
        }
        Ok(Self { request, scale })
    }
}

/// The size of a regular file in bytes.
async fn size(system: &System, path: &str) -> Result<u64, FsError> {
    let root = system.vfs.root()?;
    let found = system
        .vfs
        .lookup(&root, path.as_bytes(), Follow::Always)
        .await?;
    let attributes = found.vnode().attributes();
    match attributes.kind {
        Kind::Regular => Ok(attributes.size),
        _ => Err(FsError::NotSupported),
    }
}

/// The largest regular file in a directory, and its size.
async fn largest(system: &System, directory: &str) -> Option<(String, u64)> {
    let mut largest = None;
    for name in system
        .list_directory(directory.as_bytes())
        .await
        .ok()?
        .keys()
    {
        let path = format!("{directory}/{name}");
        if let Ok(size) = size(system, &path).await
            && largest.as_ref().is_none_or(|(_, most)| size > *most)
        {
            largest = Some((path, size));
        }
    }
    largest
}

/// What has happened so far, and what there was before.
struct Account<'a> {
    shell: &'a Context,
    /// The live line is written over.
    overwrites: bool,
    started: u64,
    before: Uvmexp,
    /// Programs that ended well.
    done: &'a AtomicU64,
    failed: u64,
    /// Nobody has ended it.
    finished: bool,
}

impl<'a> Account<'a> {
    fn open(shell: &'a Context, done: &'a AtomicU64) -> Self {
        let system = shell.system();
        Self {
            shell,
            overwrites: shell.job().is_none() && system.console.is_interactive(),
            started: system.executor.now(),
            before: system.uvm.uvmexp(),
            done,
            failed: 0,
            finished: false,
        }
    }

    /// Runs all parts to their ends and keeps the live line; how many have failed.
    async fn keep(&mut self, plan: &Plan) -> u64 {
        let (shell, done, started) = (self.shell, self.done, self.started);
        let executor = &shell.system().executor;
        let deadline = started + plan.request.seconds * SECOND;
        let mut parts: FuturesUnordered<BoxFuture<'_, Result<(), String>>> = plan
            .request
            .parts
            .iter()
            .map(|part| part_until(shell, *part, &plan.scale, deadline, done).boxed())
            .collect();
        let mut last = (started, self.before.clone());
        let mut tick = core::pin::pin!(executor.sleep_until(started + SECOND).fuse());
        loop {
            select_biased! {
                ended = parts.select_next_some() => {
                    if let Err(why) = ended {
                        self.failed += 1;
                        self.clear_line();
                        shell.say(format_args!("stress: {why}"));
                    }
                    if parts.is_empty() {
                        break;
                    }
                }
                () = tick => {
                    let now = (executor.now(), shell.system().uvm.uvmexp());
                    self.line(&last, &now, parts.len());
                    // From the start on, so that no second is lost however late this is.
                    let next = started + ((now.0 - started) / SECOND + 1) * SECOND;
                    tick.set(executor.sleep_until(next).fuse());
                    last = now;
                }
            }
        }
        self.finished = true;
        self.failed
    }

    fn line(&self, (then, before): &(u64, Uvmexp), (now, after): &(u64, Uvmexp), parts: usize) {
        let took = (now - then).max(1);
        let rate = |counters: &[Counter]| {
            let grown: u64 = counters
                .iter()
                .map(|c| after.get(*c) - before.get(*c))
                .sum();
            grown * SECOND / took
        };
        self.clear_line();
        self.shell.print(format_args!(
            "{:>5} s  in {:>6}/s  out {:>6}/s  faults {:>6}/s  free {:>6}  waiting {:>3}  running {parts}  done {}  failed {}{}",
            (now - self.started) / SECOND,
            rate(&[Counter::Swapins, Counter::Pgswapin]),
            rate(&[Counter::Swapouts]),
            rate(&[Counter::Faults]),
            after.free,
            after.waiters,
            self.done.load(Relaxed),
            self.failed,
            if self.overwrites { "" } else { "\n" },
        ));
    }

    fn clear_line(&self) {
        if self.overwrites {
            self.shell.print(format_args!("\r\x1b[K"));
        }
    }

    /// The end of a run that nobody has ended.
    fn close(self) {
        let after = self.shell.system().uvm.uvmexp();
        self.summary("");
        let shell = self.shell;
        shell.say(format_args!(
            "{:<24}{:>10}{:>10}",
            "kernel holds", "before", "after"
        ));
        for (what, held) in HELD {
            shell.say(format_args!(
                "{what:<24}{:>10}{:>10}",
                held(&self.before),
                held(&after)
            ));
        }
    }

    fn summary(&self, how: &str) {
        let system = self.shell.system();
        let (after, took) = (system.uvm.uvmexp(), system.executor.now() - self.started);
        let grown = |counter| after.get(counter) - self.before.get(counter);
        self.clear_line();
        self.shell.say(format_args!(
            "stress: {how}{} programs verified, {} failed in {}.{:03} s; {} pages in, {} pages out, {} faults",
            self.done.load(Relaxed),
            self.failed,
            took / SECOND,
            took / 1_000_000 % 1000,
            grown(Counter::Swapins) + grown(Counter::Pgswapin),
            grown(Counter::Swapouts),
            grown(Counter::Faults),
        ));
    }
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.summary("interrupted: ");
        }
    }
}

/// What the kernel holds: a name, and the amount in it.
type Held = (&'static str, fn(&Uvmexp) -> u64);

const HELD: [Held; 7] = [
    ("pages in pools, heap", |e| e.pool_pages),
    ("heap blocks", |e| {
        e.get(Counter::HeapAllocs) - e.get(Counter::HeapFrees)
    }),
    ("pool objects", |e| {
        e.get(Counter::PoolAllocs) - e.get(Counter::PoolFrees)
    }),
    ("pages wired", |e| e.gauge(Gauge::Wired)),
    ("pages in page tables", |e| e.gauge(Gauge::PmapTables)),
    ("pages of swap in use", |e| e.gauge(Gauge::Swpginuse)),
    ("pages free", |e| e.free),
];

/// Runs the programs of a part, in turn, until the deadline; the last one to its end. At least one is run.
///
/// # Errors
/// What was wrong with one of them.
async fn part_until(
    shell: &Context,
    part: Part,
    scale: &Scale,
    deadline: u64,
    done: &AtomicU64,
) -> Result<(), String> {
    let executor = &shell.system().executor;
    // What each of its command lines printed the first time.
    let mut first: [Option<Said>; 4] = [const { None }; 4];
    for turn in 0.. {
        let words = part.line(turn, scale);
        let line = words.join(" ");
        let said = program::run(shell, words).await?;
        match &first[turn % part.lines()] {
            None => first[turn % part.lines()] = Some(said),
            Some(before) if *before == said => {}
            Some(before) => return Err(format!("{line}: {}", said.instead_of(before))),
        }
        done.fetch_add(1, Relaxed);
        if executor.now() >= deadline {
            break;
        }
    }
    Ok(())
}
