//! The shell's commands: one table, one file per family.
//!
//! A command is an `async fn` that takes its context and its arguments (its name left out) and answers with an exit status:
//! 0 for success, 1 when the thing asked for failed, 2 when it was asked for wrongly. It owns both arguments, so that the same
//! function runs in the foreground, behind `&` and under `time`.

mod bench;
mod examine;
mod files;
mod jobs;
mod memory;
mod piped;
mod processes;
mod stress;
mod swap;
mod system;
mod tasks;

use super::Context;
use alloc::{string::String, vec::Vec};
use core::fmt;
use futures_util::future::BoxFuture;

/// What a command answers: as an exit status of a process.
pub type Status = u8;
/// The thing asked for failed; the command has said why.
pub const FAILED: Status = 1;
/// The command was called wrongly; it has said how.
pub const USAGE: Status = 2;
/// There is no such command or program.
pub const NOT_FOUND: Status = 127;

/// A command of the shell.
pub struct Command {
    /// As it is typed.
    pub name: &'static str,
    /// Its arguments, as `help` shows them.
    pub usage: &'static str,
    /// One line for the list of commands.
    pub summary: &'static str,
    /// What else `help NAME` says; may be empty.
    pub details: &'static str,
    run: fn(Context, Vec<String>) -> BoxFuture<'static, Status>,
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Families of commands, in the order in which `help` lists them.
const FAMILIES: &[&[Command]] = &[
    processes::COMMANDS,
    jobs::COMMANDS,
    memory::COMMANDS,
    examine::COMMANDS,
    swap::COMMANDS,
    tasks::COMMANDS,
    files::COMMANDS,
    bench::COMMANDS,
    stress::COMMANDS,
    system::COMMANDS,
];

/// All commands.
pub fn all() -> impl Iterator<Item = &'static Command> {
    FAMILIES.iter().flat_map(|family| family.iter())
}

/// The command called `name`.
pub fn find(name: &str) -> Option<&'static Command> {
    all().find(|command| command.name == name)
}

/// Runs `words` as a command and gives its status. An unknown name is answered here.
pub async fn dispatch(shell: Context, mut words: Vec<String>) -> Status {
    let name = words.remove(0);
    match find(&name) {
        Some(command) => (command.run)(shell, words).await,
        None => {
            shell.say(format_args!(
                "{name}: no such command; `help` lists them, `run PATH` runs a program"
            ));
            NOT_FOUND
        }
    }
}

/// Says how `name` is used, and why that comes up.
fn usage(shell: &Context, name: &str, why: fmt::Arguments<'_>) -> Status {
    let usage = find(name).map_or("", |command| command.usage);
    shell.say(format_args!("{name}: {why}; usage: {name} {usage}"));
    USAGE
}

/// Boxes an `async fn(Context, Vec<String>) -> Status` for the table.
macro_rules! run {
    ($f:path) => {
        |shell, args| alloc::boxed::Box::pin($f(shell, args))
    };
}
use run;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        let mut names: Vec<_> = all().map(|command| command.name).collect();
        for name in [
            "help", "run", "ps", "kill", "wait", "free", "vmstat", "pmap", "tasks", "top",
            "sysctl", "ls", "cat", "time", "dmesg", "uptime", "check", "bench", "poweroff",
            "reboot", "swapctl", "stress",
        ] {
            assert!(names.contains(&name), "{name} is missing");
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "a name stands twice");
    }
}
