//! Commands about who does what: `tasks`, `top`.

use super::{Command, Status, run, usage};
use crate::proc::{Pid, Process};
use crate::shell::Context;
use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::cmp::Reverse;
use core::time::Duration;
use executor::{Class, TaskInfo};
use uvm::meter::Gauge;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "tasks",
        usage: "",
        summary: "list the executor's tasks",
        details: "Times are in microseconds, ring 3 left out. LONGEST is the longest single poll; AWAITS says what a waiting task waits \
                  for, SPAWNED where in the source it began.",
        run: run!(tasks),
    },
    Command {
        name: "top",
        usage: "[COUNT]",
        summary: "show the busiest processes and tasks, again every second",
        details: "COUNT times, or until Ctrl-C. CPU is the share of the last second that a process took, BUSY that which a task's polls took, ring 3 \
                  left out. RES, SHARED and SWAP are KiB in memory, of those what others have too, and on swap. FLT and WAITED are faults \
                  of the last second and those of them that had to wait, FAULTS all since the program began.",
        run: run!(top),
    },
];

/// Tasks and processes that `top` shows.
const ROWS: usize = 10;

async fn tasks(shell: Context, args: Vec<String>) -> Status {
    if !args.is_empty() {
        return usage(&shell, "tasks", format_args!("takes no arguments"));
    }
    shell.say(format_args!(
        "{:>5} {:<19}{:<11}{:<14}{:>9}{:>12}{:>10}  {:<22} SPAWNED",
        "ID", "NAME", "CLASS", "STATE", "POLLS", "TOTAL", "LONGEST", "AWAITS"
    ));
    for task in snapshot(&shell).values() {
        shell.say(format_args!(
            "{:>5} {:<19}{:<11}{:<14}{:>9}{:>12}{:>10}  {:<22} {}:{}",
            task.id,
            task.name,
            class_name(task.class),
            task.state.as_str(),
            task.polls,
            task.total_ns / 1000,
            task.longest_ns / 1000,
            task.awaiting.unwrap_or("-"),
            task.site.file(),
            task.site.line(),
        ));
    }
    0
}

async fn top(shell: Context, args: Vec<String>) -> Status {
    let mut left = match args.as_slice() {
        [] => None,
        [count] => match count.parse::<u32>() {
            Ok(count) if count > 0 => Some(count),
            _ => return usage(&shell, "top", format_args!("`{count}` is not a count")),
        },
        _ => return usage(&shell, "top", format_args!("takes one count")),
    };
    let system = shell.system();
    while left != Some(0) {
        let (before, activity) = (snapshot(&shell), activities(&shell));
        let start = system.executor.now();
        system.executor.sleep(Duration::from_secs(1)).await;
        let elapsed = (system.executor.now() - start).max(1);
        let mut busy = BTreeMap::new();
        for (id, task) in snapshot(&shell) {
            let earlier = before.get(&id).map_or(0, |earlier| earlier.total_ns);
            busy.insert((Reverse(task.total_ns - earlier), id), task);
        }
        if system.console.is_interactive() {
            shell.print(format_args!("\x1b[2J\x1b[H"));
        }
        let e = system.uvm.uvmexp();
        shell.say(format_args!(
            "{} tasks, {} of {} pages free, {} active, {} inactive, {} of {} of swap used, {} tasks wait for a frame",
            busy.len(),
            e.free,
            e.npages,
            e.active,
            e.inactive,
            e.gauge(Gauge::Swpginuse),
            e.gauge(Gauge::Swpages),
            e.waiters
        ));
        processes(&shell, &activity, elapsed).await;
        shell.say(format_args!(
            "{:>7} {:>5} {:<19}{:<11}{:<14} AWAITS",
            "BUSY", "ID", "NAME", "CLASS", "STATE"
        ));
        for ((Reverse(busy), _), task) in busy.iter().take(ROWS) {
            let permille = busy * 1000 / elapsed;
            shell.say(format_args!(
                "{:>4}.{}% {:>5} {:<19}{:<11}{:<14} {}",
                permille / 10,
                permille % 10,
                task.id,
                task.name,
                class_name(task.class),
                task.state.as_str(),
                task.awaiting.unwrap_or("-"),
            ));
        }
        left = left.map(|left| left - 1);
    }
    0
}

/// What a process has done so far.
#[derive(Clone, Copy, Default)]
struct Activity {
    /// Processor time in nanoseconds.
    time: u64,
    faults: u64,
    waited: u64,
}

/// By number of the process. A tree, because its nodes stay small however many there are.
fn activities(shell: &Context) -> BTreeMap<Pid, Activity> {
    let rows = shell.system().processes.list();
    rows.map(|row| (row.process.pid(), Activity::of(&row.process)))
        .collect()
}

impl Activity {
    fn of(process: &Process) -> Self {
        let times = process.usage().times();
        let (faults, waited) = process.space().map_or((0, 0), |space| space.faults());
        Self {
            time: times.user + times.system,
            faults,
            waited,
        }
    }

    /// What came after `earlier`. An exec begins with new counts of faults.
    fn since(self, earlier: Self) -> Self {
        Self {
            time: self.time.saturating_sub(earlier.time),
            faults: self
                .faults
                .checked_sub(earlier.faults)
                .unwrap_or(self.faults),
            waited: self
                .waited
                .checked_sub(earlier.waited)
                .unwrap_or(self.waited),
        }
    }
}

/// The processes that did most since `before`, `elapsed` nanoseconds ago. Awaits its turn while it counts their pages.
async fn processes(shell: &Context, before: &BTreeMap<Pid, Activity>, elapsed: u64) {
    let mut rows = BTreeMap::new();
    for row in shell.system().processes.list() {
        // What has no memory (init, zombies) is for `ps`.
        if let Some(space) = row.process.space() {
            let (pid, all) = (row.process.pid(), Activity::of(&row.process));
            let new = all.since(before.get(&pid).copied().unwrap_or_default());
            rows.insert(
                (Reverse((new.time, new.faults)), pid),
                (row, space, all, new),
            );
        }
    }
    shell.say(format_args!(
        "{:>7} {:>7}{:>10}{:>10}{:>10}{:>8}{:>8}{:>10} COMMAND",
        "CPU", "PID", "RES", "SHARED", "SWAP", "FLT", "WAITED", "FAULTS"
    ));
    for ((_, pid), (row, space, all, new)) in rows.into_iter().take(ROWS) {
        let (usage, permille) = (space.usage().await, new.time * 1000 / elapsed);
        let kib = |pages: u64| pages * uvm::PAGE_SIZE as u64 / 1024;
        shell.say(format_args!(
            "{:>4}.{}% {:>7}{:>10}{:>10}{:>10}{:>8}{:>8}{:>10} {}",
            permille / 10,
            permille % 10,
            pid.0,
            kib(usage.resident),
            kib(usage.shared),
            kib(usage.swapped),
            new.faults,
            new.waited,
            all.faults,
            row.process.name(),
        ));
    }
}

fn class_name(class: Class) -> &'static str {
    match class {
        Class::Completion => "completion",
        Class::Daemon => "daemon",
        Class::User => "user",
        Class::Idle => "idle",
    }
}

/// All tasks by number. A tree, because its nodes stay small however many there are.
fn snapshot(shell: &Context) -> BTreeMap<u64, TaskInfo> {
    let mut tasks = BTreeMap::new();
    shell.system().executor.for_each_task(|task| {
        tasks.insert(task.id, *task);
    });
    tasks
}
