//! What a wait is told of a child: that it ended, stopped, or went on.
//!
//! A stop or its end is news until a wait has taken it; a zombie is news until it is collected, and leaves the
//! table with that. [`Taking::Leave`] (`WNOWAIT`) looks and takes nothing.

use super::{ExitStatus, Life, Pid, Table, TableError};
use crate::proc::process::Process;
use crate::proc::signal::Signal;
use alloc::sync::Arc;

/// News of a child that no wait has been told yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    None,
    Stopped,
    Continued,
}

/// What a wait tells of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It ended.
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
    /// None that there can be: all children tell of their end by SIGCHLD, and this asks for others
    /// (`__WCLONE`).
    Silent,
}

/// What becomes of the news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taking {
    /// It is told this once; a zombie leaves the table.
    Take,
    /// It stays news (`WNOWAIT`).
    Leave,
}

/// Which changes of a child a wait is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    /// Children that end (`WEXITED`).
    pub ended: bool,
    /// Children that stop (`WUNTRACED`, `WSTOPPED`).
    pub stopped: bool,
    /// Children that go on (`WCONTINUED`).
    pub continued: bool,
    /// What becomes of what was found.
    pub taking: Taking,
}

impl Interest {
    /// In a child's end alone.
    pub const END: Interest = Interest {
        ended: true,
        stopped: false,
        continued: false,
        taking: Taking::Take,
    };
    /// In everything.
    pub const ALL: Interest = Interest {
        stopped: true,
        continued: true,
        ..Interest::END
    };
}

impl Table {
    /// Marks `pid` stopped; returns the parent, who may wait for that.
    pub fn stop(&mut self, pid: Pid, signal: Signal) -> Option<Arc<Process>> {
        let entry = self.entries.get_mut(&pid)?;
        match core::mem::replace(&mut entry.life, Life::Stopped(signal)) {
            Life::Alive => self.stopped += 1,
            Life::Stopped(_) => {}
            zombie @ Life::Zombie(_) => {
                entry.life = zombie;
                return None;
            }
        }
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
        self.stopped -= 1;
        let parent = entry.parent;
        self.get(parent).cloned()
    }

    /// News of a child of `parent`, if there is any.
    ///
    /// # Errors
    /// [`TableError::NoChild`] if there is no such child of which there will ever be such news.
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
                Which::Silent => false,
            };
            if wanted {
                let change = match (child.life, child.news) {
                    (Life::Zombie(status), _) if interest.ended => Some(Change::Ended(status)),
                    (Life::Stopped(signal), News::Stopped) if interest.stopped => {
                        Some(Change::Stopped(signal))
                    }
                    (Life::Alive, News::Continued) if interest.continued => Some(Change::Continued),
                    _ => None,
                };
                if let Some(change) = change {
                    return Ok(self
                        .take(at, change, interest.taking)
                        .map(|process| (process, change)));
                }
                // The dead neither stop nor go on.
                any |= !matches!(child.life, Life::Zombie(_));
            }
            at = next;
        }
        if any {
            Ok(None)
        } else {
            Err(TableError::NoChild)
        }
    }

    fn take(&mut self, pid: Pid, change: Change, taking: Taking) -> Option<Arc<Process>> {
        match (taking, change) {
            (Taking::Leave, _) => self.get(pid).cloned(),
            (Taking::Take, Change::Ended(_)) => {
                self.unlink(pid);
                self.entries.remove(&pid).map(|entry| entry.process)
            }
            (Taking::Take, Change::Stopped(_) | Change::Continued) => {
                let entry = self.entries.get_mut(&pid)?;
                entry.news = News::None;
                Some(entry.process.clone())
            }
        }
    }
}
