//! The process table: who exists, whose child each is, which group and session, who waits to be collected.
//!
//! Plain data under one short lock (the owner is [`super::Processes`]): a kinship change touches several
//! processes at once, and one lock makes it one step. Nothing here waits; waiting is [`super::wait`]'s.
//! Kinship is kept as numbers, so the table holds the only links between processes.

use super::process::Process;
use super::signal::Signal;
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

/// News of a child that `wait4` has not told yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    None,
    Stopped,
    Continued,
}

/// What `wait4` tells of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It ended, and is now gone.
    Ended(ExitStatus),
    /// It stopped.
    Stopped(Signal),
    /// It went on.
    Continued,
}

/// Which children a wait is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Any.
    Any,
    /// This one.
    One(Pid),
    /// Those of a process group.
    Group(Pid),
}

/// Which changes of a child a wait is for, beyond its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Children that stop (`WUNTRACED`).
    pub stopped: bool,
    /// Children that go on (`WCONTINUED`).
    pub continued: bool,
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
    news: News,
    /// A child of init that nobody in the kernel waits for: init's reaping task collects it.
    orphan: bool,
    parent: Pid,
    group: Pid,
    session: Pid,
    first_child: Pid,
    next: Pid,
    previous: Pid,
}

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
    last: u32,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub const fn new() -> Table {
        Table {
            entries: BTreeMap::new(),
            last: 0,
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
            if !self.entries.contains_key(&pid) && !self.in_use_as_group(pid) {
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

    /// Enters a process as the child of `parent`, in its group and session; with no parent, as the leader
    /// of its own. Its number comes from [`free_pid`](Table::free_pid).
    pub fn insert(&mut self, process: Arc<Process>, parent: Option<Pid>, _room: &HeapRoom<'_>) {
        let pid = process.pid();
        let (group, session) = match parent.and_then(|p| self.entries.get(&p)) {
            Some(p) => (p.group, p.session),
            None => (pid, pid),
        };
        let entry = Entry {
            process,
            life: Life::Alive,
            news: News::None,
            orphan: false,
            parent: Pid::NONE,
            group,
            session,
            first_child: Pid::NONE,
            next: Pid::NONE,
            previous: Pid::NONE,
        };
        self.entries.insert(pid, entry);
        if let Some(parent) = parent {
            self.link(pid, parent);
        }
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

    /// Makes `pid` the leader of a new session and group (`setsid`).
    ///
    /// # Errors
    /// [`TableError::NotPermitted`] if a group has that number already.
    pub fn new_session(&mut self, pid: Pid) -> Result<(), TableError> {
        if self.entries.values().any(|e| e.group == pid) {
            return Err(TableError::NotPermitted);
        }
        let entry = self
            .entries
            .get_mut(&pid)
            .ok_or(TableError::NoSuchProcess)?;
        entry.group = pid;
        entry.session = pid;
        Ok(())
    }

    /// Moves `pid` (the caller or a child of it) into a group of its session, or a new one (`setpgid`).
    ///
    /// # Errors
    /// [`TableError::NoSuchProcess`], [`TableError::NotPermitted`].
    pub fn set_group(&mut self, caller: Pid, pid: Pid, group: Pid) -> Result<(), TableError> {
        let session = self
            .entries
            .get(&caller)
            .ok_or(TableError::NoSuchProcess)?
            .session;
        let entry = self.entries.get(&pid).ok_or(TableError::NoSuchProcess)?;
        if pid != caller && entry.parent != caller {
            return Err(TableError::NoSuchProcess);
        }
        let exists = self
            .entries
            .values()
            .any(|e| e.group == group && e.session == session);
        if entry.session != session || entry.session == pid || (group != pid && !exists) {
            return Err(TableError::NotPermitted);
        }
        if let Some(entry) = self.entries.get_mut(&pid) {
            entry.group = group;
        }
        Ok(())
    }

    /// Makes `pid` a zombie and gives its children to init. Returns what must be told: the parent, if it
    /// wants to know, and whether init got zombies to collect.
    pub fn exit(&mut self, pid: Pid, status: ExitStatus) -> Option<Exit> {
        let entry = self.entries.get_mut(&pid)?;
        entry.life = Life::Zombie(status);
        let (parent, mut child) = (entry.parent, entry.first_child);
        let mut orphaned_zombies = entry.orphan;
        while child != Pid::NONE {
            let Some(orphan) = self.entries.get(&child) else {
                break;
            };
            orphaned_zombies |= matches!(orphan.life, Life::Zombie(_));
            let next = orphan.next;
            if let Some(orphan) = self.entries.get_mut(&child) {
                orphan.orphan = true;
            }
            self.unlink(child);
            self.link(child, Pid::INIT);
            child = next;
        }
        // To the front: a parent of many finds the dead without a search.
        self.unlink(pid);
        self.link(pid, parent);
        Some(Exit {
            parent: self.get(parent).cloned(),
            orphaned_zombies,
        })
    }

    /// Marks `pid` stopped; returns the parent, who may wait for that.
    pub fn stop(&mut self, pid: Pid, signal: Signal) -> Option<Arc<Process>> {
        let entry = self.entries.get_mut(&pid)?;
        entry.life = Life::Stopped(signal);
        entry.news = News::Stopped;
        let parent = entry.parent;
        self.get(parent).cloned()
    }

    /// Marks a stopped process as going on; `None` if it was not stopped, else its parent.
    pub fn go_on(&mut self, pid: Pid) -> Option<Arc<Process>> {
        let entry = self.entries.get_mut(&pid)?;
        if !matches!(entry.life, Life::Stopped(_)) {
            return None;
        }
        entry.life = Life::Alive;
        entry.news = News::Continued;
        let parent = entry.parent;
        self.get(parent).cloned()
    }

    /// News of a child of `parent`, if there is any; a zombie leaves the table with it.
    ///
    /// # Errors
    /// [`TableError::NoChild`] if there is no such child at all.
    pub fn collect(
        &mut self,
        parent: Pid,
        which: Which,
        interest: Interest,
    ) -> Result<Option<(Arc<Process>, Change)>, TableError> {
        let mut at = self
            .entries
            .get(&parent)
            .ok_or(TableError::NoChild)?
            .first_child;
        let mut any = false;
        while at != Pid::NONE {
            let Some(child) = self.entries.get_mut(&at) else {
                break;
            };
            let next = child.next;
            let wanted = match which {
                Which::Any => true,
                Which::One(pid) => pid == at,
                Which::Group(group) => group == child.group,
            };
            if wanted {
                any = true;
                match (child.life, child.news) {
                    (Life::Zombie(status), _) => {
                        self.unlink(at);
                        let entry = self.entries.remove(&at).ok_or(TableError::NoChild)?;
                        return Ok(Some((entry.process, Change::Ended(status))));
                    }
                    (Life::Stopped(signal), News::Stopped) if interest.stopped => {
                        child.news = News::None;
                        return Ok(Some((child.process.clone(), Change::Stopped(signal))));
                    }
                    (Life::Alive, News::Continued) if interest.continued => {
                        child.news = News::None;
                        return Ok(Some((child.process.clone(), Change::Continued)));
                    }
                    _ => {}
                }
            }
            at = next;
        }
        if any {
            Ok(None)
        } else {
            Err(TableError::NoChild)
        }
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
}

#[cfg(test)]
mod tests;
