//! Commands about the executor's tasks: `tasks`, `top`.

use super::{Command, Status, run, usage};
use crate::shell::Context;
use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::cmp::Reverse;
use core::time::Duration;
use executor::{Class, TaskInfo};

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
        summary: "show the busiest tasks, again every second",
        details: "COUNT times, or until Ctrl-C. BUSY is the share of the last second that a task's polls took, ring 3 left out.",
        run: run!(top),
    },
];

/// Rows of `top`.
const ROWS: usize = 15;

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
        let before = snapshot(&shell);
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
            "{} tasks, {} of {} pages free, {} active, {} inactive",
            busy.len(),
            e.free,
            e.npages,
            e.active,
            e.inactive
        ));
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
