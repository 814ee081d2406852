//! Commands about memory: `free`, `vmstat`, `pmap`, `check`.

use super::{Command, FAILED, Status, run, usage};
use crate::proc::Pid;
use crate::shell::Context;
use alloc::{string::String, vec::Vec};
use core::time::Duration;
use uvm::PoolUse;
use uvm::map::Sharing;
use uvm::meter::{Counter, Gauge, Uvmexp};
use uvm::prot::Prot;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "free",
        usage: "",
        summary: "show how memory is used",
        details: "Sizes are in KiB. `cached` is file pages, which can be given up at once; `wired` never moves.",
        run: run!(free),
    },
    Command {
        name: "vmstat",
        usage: "[-s | -m | INTERVAL [COUNT]]",
        summary: "show paging activity",
        details: "With no argument: one line of totals since boot. INTERVAL (seconds) prints a line of differences each time, COUNT \
                  times or until Ctrl-C. -s prints every counter with its meaning (`sysctl vm` has their names), -m what each pool of \
                  the memory system holds.\n\
                  wait: tasks that wait for a frame. free, act, inact: pages. flt: faults. pi, po: page-in and page-out operations. fi, si, so: pages \
                  read from files, from swap, and written to swap. re: pages that came back soon after they were evicted. fr, sr: pages freed \
                  and scanned by the pagedaemon. io: page I/O in flight now. calls, polls: system calls, polls of tasks.",
        run: run!(vmstat),
    },
    Command {
        name: "pmap",
        usage: "PID",
        summary: "show a process's address space",
        details: "One line a mapping: addresses, size and resident pages in KiB, protection, what is mapped.",
        run: run!(pmap),
    },
    Command {
        name: "check",
        usage: "",
        summary: "verify every invariant of the memory system",
        details: "Walks all frames, queues, maps, amaps, objects and page tables and compares their counts. Fails with a line for each \
                  contradiction.",
        run: run!(check),
    },
];

async fn free(shell: Context, args: Vec<String>) -> Status {
    if !args.is_empty() {
        return usage(&shell, "free", format_args!("takes no arguments"));
    }
    let e = shell.system().uvm.uvmexp();
    let kib = |pages: u64| pages * e.pagesize / 1024;
    shell.say(format_args!(
        "{:>14}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}",
        "total", "used", "free", "zeroed", "anonymous", "cached", "wired"
    ));
    shell.say(format_args!(
        "KiB{:>11}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}",
        kib(e.npages),
        kib(e.npages - e.free),
        kib(e.free),
        kib(e.zeropages),
        kib(e.gauge(Gauge::Anonpages)),
        kib(e.gauge(Gauge::Filepages)),
        kib(e.gauge(Gauge::Wired)),
    ));
    0
}

async fn vmstat(shell: Context, args: Vec<String>) -> Status {
    let mut words = args.iter().map(String::as_str).peekable();
    if let Some(option) = words.next_if(|word| word.starts_with('-')) {
        if let Some(extra) = words.next() {
            return usage(
                &shell,
                "vmstat",
                format_args!("{option} and {extra} do not go together"),
            );
        }
        match option {
            "-s" => shell.print(format_args!("{}", shell.system().uvm.uvmexp())),
            "-m" => pools(&shell),
            _ => {
                return usage(
                    &shell,
                    "vmstat",
                    format_args!("there is no option {option}"),
                );
            }
        }
        return 0;
    }
    let mut number = |what: &str| match words.next() {
        None => Ok(None),
        Some(word) => match word.parse::<u32>() {
            Ok(n) if n > 0 => Ok(Some(n)),
            _ => Err(usage(
                &shell,
                "vmstat",
                format_args!("`{word}` is not a {what}"),
            )),
        },
    };
    let (interval, count) = match (number("number of seconds"), number("number of lines")) {
        (Ok(interval), Ok(count)) => (interval, count),
        (Err(status), _) | (_, Err(status)) => return status,
    };
    if let Some(extra) = words.next() {
        return usage(
            &shell,
            "vmstat",
            format_args!("`{extra}` is one argument too many"),
        );
    }
    shell.say(format_args!(
        "{:>5}{:>8}{:>8}{:>8}{:>8}{:>7}{:>7}{:>7}{:>7}{:>7}{:>7}{:>7}{:>8}{:>5}{:>8}{:>8}",
        "wait",
        "free",
        "act",
        "inact",
        "flt",
        "pi",
        "po",
        "fi",
        "si",
        "so",
        "re",
        "fr",
        "sr",
        "io",
        "calls",
        "polls"
    ));
    let system = shell.system();
    let mut before = (system.uvm.uvmexp(), system.executor.switches());
    vmstat_line(&shell, &before, None);
    let Some(interval) = interval else { return 0 };
    let mut left = count.map(|count| count - 1);
    while left != Some(0) {
        system
            .executor
            .sleep(Duration::from_secs(interval.into()))
            .await;
        let now = (system.uvm.uvmexp(), system.executor.switches());
        vmstat_line(&shell, &now, Some(&before));
        before = now;
        left = left.map(|left| left - 1);
    }
    0
}

fn pools(shell: &Context) {
    shell.say(format_args!(
        "{:<16}{:>10}{:>10}",
        "POOL", "OBJECTS", "PAGES"
    ));
    for PoolUse {
        name,
        objects,
        pages,
    } in shell.system().uvm.pools()
    {
        shell.say(format_args!("{name:<16}{objects:>10}{pages:>10}"));
    }
}

/// Counters, and polls of tasks.
type Activity = (Uvmexp, u64);

fn vmstat_line(shell: &Context, (now, polls): &Activity, before: Option<&Activity>) {
    let grown = |counter| now.get(counter) - before.map_or(0, |before| before.0.get(counter));
    let polls_before = before.map_or(0, |before| before.1);
    shell.say(format_args!(
        "{:>5}{:>8}{:>8}{:>8}{:>8}{:>7}{:>7}{:>7}{:>7}{:>7}{:>7}{:>7}{:>8}{:>5}{:>8}{:>8}",
        now.waiters,
        now.free,
        now.active,
        now.inactive,
        grown(Counter::Faults),
        grown(Counter::Pageins),
        grown(Counter::Pageouts),
        grown(Counter::Pgswapin),
        grown(Counter::Swapins),
        grown(Counter::Swapouts),
        grown(Counter::Refaults),
        grown(Counter::Pdfreed),
        grown(Counter::Pdscans),
        now.io,
        grown(Counter::Syscalls),
        polls - polls_before,
    ));
}

async fn check(shell: Context, args: Vec<String>) -> Status {
    if !args.is_empty() {
        return usage(&shell, "check", format_args!("takes no arguments"));
    }
    if shell
        .system()
        .uvm
        .wait_for_memory_for_check()
        .await
        .is_err()
    {
        shell.say(format_args!(
            "check: too little memory is free for the check's own lists; end some programs first"
        ));
        return FAILED;
    }
    match shell.system().uvm.check() {
        Ok(report) => {
            shell.say(format_args!("{report}"));
            0
        }
        Err(error) => {
            shell.print(format_args!("check: {error}"));
            FAILED
        }
    }
}

async fn pmap(shell: Context, args: Vec<String>) -> Status {
    let [pid] = args.as_slice() else {
        return usage(&shell, "pmap", format_args!("takes one process number"));
    };
    let Ok(number) = pid.parse::<u32>() else {
        return usage(
            &shell,
            "pmap",
            format_args!("`{pid}` is not a process number"),
        );
    };
    let process = shell.system().processes.find(Pid(number));
    let Some(space) = process.as_ref().and_then(|process| process.space()) else {
        shell.say(format_args!(
            "pmap: process {pid} does not exist or has no address space; `ps` lists processes"
        ));
        return FAILED;
    };
    shell.say(format_args!(
        "{:<35}{:>11} {:<5}{:<8} WHAT",
        "ADDRESSES", "KiB", "PROT", "SHARING"
    ));
    let page = uvm::PAGE_SIZE as u64;
    for region in space.regions() {
        let letter = |prot: Prot, letter: char| {
            if region.prot.contains(prot) {
                letter
            } else {
                '-'
            }
        };
        let (start, end) = (region.range.start().as_u64(), region.range.end().as_u64());
        shell.print(format_args!(
            "{start:016x}-{end:016x}  {:>11} {}{}{}  {:<8} ",
            (end - start) / 1024,
            letter(Prot::READ, 'r'),
            letter(Prot::WRITE, 'w'),
            letter(Prot::EXEC, 'x'),
            match region.sharing {
                Sharing::Private => "private",
                Sharing::Shared => "shared",
            }
        ));
        match (region.file, region.anons) {
            (true, anons) => shell.say(format_args!(
                "file at {:#x}, {anons} pages of its own",
                region.offset.0 * page
            )),
            (false, anons) => shell.say(format_args!("anonymous, {anons} pages")),
        }
    }
    shell.say(format_args!(
        "resident: {} KiB",
        space.resident_pages() as u64 * page / 1024
    ));
    0
}
