//! What can be told about a task.

use core::fmt;
use core::panic::Location;
use core::sync::atomic::Ordering::Relaxed;

use crate::class::Class;
use crate::executor::Executor;
use crate::task::{Header, Name, State};

/// A task as `tasks` and the dump show it. Read while it may be running: the numbers need not belong to one moment.
#[derive(Clone, Copy, Debug)]
pub struct TaskInfo {
    /// Counts from 1 in the order of spawning.
    pub id: u64,
    /// Its name.
    pub name: Name,
    /// Its class.
    pub class: Class,
    /// What it is doing.
    pub state: State,
    /// Where in the source it was spawned.
    pub site: &'static Location<'static>,
    /// How often it was polled.
    pub polls: u64,
    /// Nanoseconds that its polls took, ring 3 left out.
    pub total_ns: u64,
    /// Nanoseconds that it spent in ring 3.
    pub user_ns: u64,
    /// Nanoseconds of its longest poll, ring 3 left out.
    pub longest_ns: u64,
    /// What it awaits, if it waits for something of ours.
    pub awaiting: Option<&'static str>,
}

impl TaskInfo {
    pub(crate) fn of(header: &Header) -> Self {
        let stats = &header.stats;
        let user_ns = stats.user.load(Relaxed);
        Self {
            id: header.id.load(Relaxed),
            name: header.name,
            class: header.class,
            state: header.state.state(),
            site: header.site,
            polls: stats.polls.load(Relaxed),
            total_ns: stats.total.load(Relaxed).saturating_sub(user_ns),
            user_ns,
            longest_ns: stats.longest.load(Relaxed),
            awaiting: stats.awaiting.get(),
        }
    }
}

impl fmt::Display for TaskInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "task {} {} ({}) is {}, awaits {}, spawned at {}:{}, {} polls",
            self.id,
            self.name,
            self.class,
            self.state,
            self.awaiting.unwrap_or("something unnamed"),
            self.site.file(),
            self.site.line(),
            self.polls
        )
    }
}

/// Every pending task, a line each.
pub(crate) struct Report<'a>(pub(crate) &'a Executor);

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut result = Ok(());
        self.0.for_each_task(|task| {
            if result.is_ok() {
                result = writeln!(f, "{task}");
            }
        });
        result
    }
}
