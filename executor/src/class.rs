//! Scheduling classes.

use core::fmt;

/// What a task is, and so when it runs.
///
/// A better class is looked at first, but it cannot starve the next: see `cpu.rs` for the
/// budgets. Only [`Class::Idle`] has no such promise.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Class {
    /// Finishes what a device has completed: pops its ring, wakes the waiters. Short polls.
    Completion = 0,
    /// Kernel daemons: the pagedaemon, page-out workers, the shell.
    Daemon = 1,
    /// LWPs, and kernel tasks that work on their behalf.
    User = 2,
    /// Runs only when nothing else can: zeroing frames.
    Idle = 3,
}

/// How many classes there are.
pub(crate) const CLASSES: usize = 4;

impl Class {
    /// Every class, best first.
    pub const ALL: [Class; CLASSES] = [Class::Completion, Class::Daemon, Class::User, Class::Idle];

    /// The class's name as the task dump prints it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Class::Completion => "completion",
            Class::Daemon => "daemon",
            Class::User => "user",
            Class::Idle => "idle",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
