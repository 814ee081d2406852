//! The process table: who exists, whose child each is, which group and session, who waits to be collected.
//!
//! Plain data under one short lock (the owner is [`super::Processes`]): a kinship change touches several
//! processes at once, and one lock makes it one step. Nothing here waits; waiting is [`super::wait`]'s.
//! Kinship is kept as numbers, so the table holds the only links between processes. Groups, sessions and the
//! terminals that control them are in [`session`], what a wait is told in `news`.

mod news;
pub mod session;

pub use news::{Change, Interest, Taking, Which};
pub use session::SetGroupError;

use super::process::Process;
use super::signal::Signal;
use crate::fs::tty::Tty;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::fmt;
use uvm::km::HeapRoom;

/// A process number; 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(pub u32);

impl Pid {
    /// The kernel's own process: parent of what the shell starts, and of orphans.
    pub const INIT: Pid = Pid(1);
    const NONE: Pid = Pid(0);
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Numbers go round below this one.
const PID_LIMIT: u32 = 1 << 22;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// By itself, with this code.
    Exited(u8),
    /// By a signal.
    Killed(Signal),
}

impl ExitStatus {
    /// The status as a shell shows it: the code, or 128 and the signal's number.
    #[must_use]
    pub fn shell_status(self) -> u8 {
        match self {
            ExitStatus::Exited(code) => code,
            ExitStatus::Killed(signal) => 128 + signal.number(),
        }
    }
}

/// Where a process stands in its life: `Alive` <-> `Stopped`, either -> `Zombie`, then collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Running or waiting for something.
    Alive,
    /// Stopped by this signal.
    Stopped(Signal),
    /// Ended; nobody has asked for its status yet.
    Zombie(ExitStatus),
}

/// Why kinship cannot be changed as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// There is no such process, or not one that may be asked for.
    #[error("no such process")]
    NoSuchProcess,
    /// The caller has no such child.
    #[error("no such child")]
    NoChild,
    /// A session leader cannot move, nor a process into another session's group.
    #[error("not permitted")]
    NotPermitted,
    /// Every number is in use.
    #[error("no process number left")]
    Full,
}

struct Entry {
    process: Arc<Process>,
    life: Life,
    news: news::News,
    /// A child of init that nobody in the kernel waits for: init's reaping task collects it.
    orphan: bool,
    parent: Pid,
    group: Pid,
    session: Pid,
    /// The terminal that controls it.
    terminal: Option<Arc<Tty>>,
    /// It has run a program of its own since it was made.
    executed: bool,
    /// Its group was orphaned while a member was stopped: it is owed SIGHUP and SIGCONT.
    hang_up: bool,
    first_child: Pid,
    next: Pid,
    previous: Pid,
}

/// Bytes of a process's place in the table.
pub(super) const ENTRY_BYTES: usize = size_of::<(Pid, Entry)>();

/// A row of `ps`.
#[derive(Clone, Debug)]
pub struct Row {
    /// The process.
    pub process: Arc<Process>,
    /// Its parent.
    pub parent: Pid,
    /// Its group.
    pub group: Pid,
    /// Its session.
    pub session: Pid,
    /// Where it stands.
    pub life: Life,
}

/// The table.
#[derive(Default)]
pub struct Table {
    entries: BTreeMap<Pid, Entry>,
    /// Threads whose number is not their process's, and that.
    threads: BTreeMap<Pid, Pid>,
    last: u32,
    /// How many are stopped: mostly none, and then nobody looks for them.
    stopped: usize,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub const fn new() -> Table {
        Table {
            entries: BTreeMap::new(),
            threads: BTreeMap::new(),
            last: 0,
            stopped: 0,
        }
    }

    /// A number that no process, group or session has.
    ///
    /// # Errors
    /// [`TableError::Full`]
    pub fn free_pid(&mut self) -> Result<Pid, TableError> {
        for _ in 0..PID_LIMIT {
            self.last = if self.last + 1 >= PID_LIMIT {
                2
            } else {
                self.last + 1
            };
            let pid = Pid(self.last);
            if !self.entries.contains_key(&pid)
                && !self.threads.contains_key(&pid)
                && !self.in_use_as_group(pid)
            {
                return Ok(pid);
            }
        }
        Err(TableError::Full)
    }

    /// Numbers are handed out in rising order, so this scan matters only once they have gone round.
    fn in_use_as_group(&self, pid: Pid) -> bool {
        let highest = self.entries.last_key_value().map_or(Pid::NONE, |(p, _)| *p);
        pid <= highest
            && self
                .entries
                .values()
                .any(|e| e.group == pid || e.session == pid)
    }

    /// Enters a process as the child of `parent`, in its group and session and before its terminal; with no
    /// parent, as the leader of its own. Its number comes from [`free_pid`](Table::free_pid).
    pub fn insert(&mut self, process: Arc<Process>, parent: Option<Pid>, _room: &HeapRoom<'_>) {
        let pid = process.pid();
        let (group, session, terminal) = match parent.and_then(|p| self.entries.get(&p)) {
            Some(p) => (p.group, p.session, p.terminal.clone()),
            None => (pid, pid, None),
        };
        let entry = Entry {
            process,
            life: Life::Alive,
            news: news::News::None,
            orphan: false,
            parent: Pid::NONE,
            group,
            session,
            terminal,
            executed: false,
            hang_up: false,
            first_child: Pid::NONE,
            next: Pid::NONE,
            previous: Pid::NONE,
        };
        self.entries.insert(pid, entry);
        if let Some(parent) = parent {
            self.link(pid, parent);
        }
    }

    /// Enters a thread of a process; its number comes from [`free_pid`](Table::free_pid).
    pub fn insert_thread(&mut self, tid: Pid, pid: Pid, _room: &HeapRoom<'_>) {
        self.threads.insert(tid, pid);
    }

    /// Removes a thread.
    pub fn forget_thread(&mut self, tid: Pid) {
        self.threads.remove(&tid);
    }

    /// The process of the thread with this number.
    #[must_use]
    pub fn process_of(&self, tid: Pid) -> Option<&Arc<Process>> {
        self.get(self.threads.get(&tid).copied().unwrap_or(tid))
    }

    /// Removes a process that never came to life.
    pub fn forget(&mut self, pid: Pid) {
        self.unlink(pid);
        self.entries.remove(&pid);
    }

    /// The process with this number, zombies included.
    #[must_use]
    pub fn get(&self, pid: Pid) -> Option<&Arc<Process>> {
        self.entries.get(&pid).map(|e| &e.process)
    }

    /// Group and session of a process.
    #[must_use]
    pub fn group_and_session(&self, pid: Pid) -> Option<(Pid, Pid)> {
        self.entries.get(&pid).map(|e| (e.group, e.session))
    }

    /// Where a process stands.
    #[must_use]
    pub fn life(&self, pid: Pid) -> Option<Life> {
        self.entries.get(&pid).map(|e| e.life)
    }

    /// Number of processes, zombies included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no process.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The first process with a number of at least `from`, as a row of `ps`: a caller walks the table so,
    /// one short lock per row.
    #[must_use]
    pub fn row_from(&self, from: Pid) -> Option<Row> {
        self.entries.range(from..).next().map(|(_, e)| Row {
            process: e.process.clone(),
            parent: e.parent,
            group: e.group,
            session: e.session,
            life: e.life,
        })
    }

    /// Makes `pid` a zombie and gives its children to init. Returns what must be told: the parent, if it
    /// wants to know, whether init got zombies to collect, and whether groups were orphaned.
    pub fn exit(&mut self, pid: Pid, status: ExitStatus) -> Option<Exit> {
        let entry = self.entries.get_mut(&pid)?;
        let was = core::mem::replace(&mut entry.life, Life::Zombie(status));
        let (parent, mut child) = (entry.parent, entry.first_child);
        let mut orphaned_zombies = entry.orphan;
        self.stopped -= usize::from(matches!(was, Life::Stopped(_)));
        let link = self.link_outside(pid, parent);
        let mut hang_up = false;
        while child != Pid::NONE {
            let Some(orphan) = self.entries.get(&child) else {
                break;
            };
            orphaned_zombies |= matches!(orphan.life, Life::Zombie(_));
            let next = orphan.next;
            let link = self.link_outside(child, pid);
            if let Some(orphan) = self.entries.get_mut(&child) {
                orphan.orphan = true;
            }
            self.unlink(child);
            self.link(child, Pid::INIT);
            hang_up |= self.hang_up_if_orphaned(link);
            child = next;
        }
        hang_up |= self.hang_up_if_orphaned(link);
        // To the front: a parent of many finds the dead without a search.
        self.unlink(pid);
        self.link(pid, parent);
        Some(Exit {
            parent: self.get(parent).cloned(),
            orphaned_zombies,
            hang_up,
        })
    }

    /// Makes a child of init one that the reaping task collects: who started it does not wait. Returns
    /// whether it has ended already.
    pub fn disown(&mut self, pid: Pid) -> bool {
        let Some(entry) = self.entries.get_mut(&pid) else {
            return false;
        };
        entry.orphan = true;
        matches!(entry.life, Life::Zombie(_))
    }

    /// Removes a zombie orphan from the table, if there is one.
    pub fn collect_orphan(&mut self) -> Option<Arc<Process>> {
        let mut at = self.entries.get(&Pid::INIT)?.first_child;
        loop {
            let entry = self.entries.get(&at)?;
            if entry.orphan && matches!(entry.life, Life::Zombie(_)) {
                self.unlink(at);
                return self.entries.remove(&at).map(|e| e.process);
            }
            at = entry.next;
        }
    }

    fn link(&mut self, child: Pid, parent: Pid) {
        let Some(above) = self.entries.get_mut(&parent) else {
            return;
        };
        let old = core::mem::replace(&mut above.first_child, child);
        if let Some(entry) = self.entries.get_mut(&child) {
            entry.parent = parent;
            entry.process.set_parent(parent);
            entry.next = old;
            entry.previous = Pid::NONE;
        }
        if let Some(entry) = self.entries.get_mut(&old) {
            entry.previous = child;
        }
    }

    fn unlink(&mut self, child: Pid) {
        let Some(entry) = self.entries.get(&child) else {
            return;
        };
        let (parent, next, previous) = (entry.parent, entry.next, entry.previous);
        if let Some(entry) = self.entries.get_mut(&next) {
            entry.previous = previous;
        }
        if let Some(entry) = self.entries.get_mut(&previous) {
            entry.next = next;
        } else if let Some(above) = self.entries.get_mut(&parent) {
            above.first_child = next;
        }
    }
}

/// Who must be told of an exit.
pub struct Exit {
    /// The parent, if there is one.
    pub parent: Option<Arc<Process>>,
    /// There are zombies for init's reaping task.
    pub orphaned_zombies: bool,
    /// Groups with stopped members were orphaned: [`Table::take_hung_up`] has who must be told.
    pub hang_up: bool,
}

#[cfg(test)]
mod tests;
