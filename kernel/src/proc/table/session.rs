//! Groups, sessions, and the terminals that control them, as POSIX has them.
//!
//! A session is what one login is; its members may share a *controlling terminal*, which they open as
//! `/dev/tty` and whose keys send them signals. A group is a job of it. Each process holds its terminal, as its
//! parent did before it; which session a terminal belongs to and which group is in front, the terminal itself
//! says ([`Owner`]). Both change under the table's lock, so they agree.
//!
//! A group is *orphaned* when no member has a parent in another group of the same session: nobody is left who
//! would make it go on, were it stopped. Children that init has inherited count as such.

use super::{Life, Pid, Table, TableError};
use crate::fs::tty::{Owner, Tty};
use crate::proc::process::Process;
use alloc::sync::Arc;

/// Why a process cannot be moved to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetGroupError {
    /// It is neither the caller nor a child of the caller's.
    #[error("no such process")]
    NoSuchProcess,
    /// It leads a session or is in another one, or there is no such group in the caller's.
    #[error("not permitted")]
    NotPermitted,
    /// It is a child that runs a program of its own already.
    #[error("the child has executed a program")]
    Executed,
}

/// Why a terminal does not become what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TerminalError {
    /// It does not control the caller.
    #[error("not the caller's terminal")]
    NotMine,
    /// The caller leads no session or has a terminal, or the terminal has another session, or the group is
    /// one of another session.
    #[error("not permitted")]
    NotPermitted,
    /// There is no such group.
    #[error("no such group")]
    NoSuchGroup,
}

/// Whether a session may lose its terminal to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// No.
    Polite,
    /// Yes: the superuser asks.
    Steal,
}

impl Table {
    /// Makes `pid` the leader of a new session and group, without a terminal (`setsid`).
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
        entry.terminal = None;
        Ok(())
    }

    /// Moves `pid` (the caller or a child of it) into a group of its session, or a new one (`setpgid`).
    ///
    /// # Errors
    /// See [`SetGroupError`].
    pub fn set_group(&mut self, caller: Pid, pid: Pid, group: Pid) -> Result<(), SetGroupError> {
        let session = self
            .session_of(caller)
            .ok_or(SetGroupError::NoSuchProcess)?;
        let entry = self.entries.get(&pid).ok_or(SetGroupError::NoSuchProcess)?;
        if pid != caller {
            if entry.parent != caller {
                return Err(SetGroupError::NoSuchProcess);
            }
            if entry.session != session {
                return Err(SetGroupError::NotPermitted);
            }
            if entry.executed {
                return Err(SetGroupError::Executed);
            }
        }
        let exists = || {
            let mut all = self.entries.values();
            all.any(|e| e.group == group && e.session == session)
        };
        if entry.session == pid || (group != pid && !exists()) {
            return Err(SetGroupError::NotPermitted);
        }
        if let Some(entry) = self.entries.get_mut(&pid) {
            entry.group = group;
        }
        Ok(())
    }

    /// Notes that `pid` runs a program of its own now.
    pub fn executed(&mut self, pid: Pid) {
        if let Some(entry) = self.entries.get_mut(&pid) {
            entry.executed = true;
        }
    }

    fn session_of(&self, pid: Pid) -> Option<Pid> {
        self.entries.get(&pid).map(|e| e.session)
    }

    /// The terminal that controls `pid`.
    #[must_use]
    pub fn terminal(&self, pid: Pid) -> Option<&Arc<Tty>> {
        self.entries.get(&pid)?.terminal.as_ref()
    }

    fn controls(&self, tty: &Arc<Tty>, pid: Pid) -> bool {
        self.terminal(pid).is_some_and(|own| Arc::ptr_eq(own, tty))
    }

    /// Makes `tty` the controlling terminal of `leader`'s session, with its group in front (`TIOCSCTTY`).
    ///
    /// # Errors
    /// [`TerminalError::NotPermitted`]
    pub fn acquire(
        &mut self,
        leader: Pid,
        tty: &Arc<Tty>,
        claim: Claim,
    ) -> Result<(), TerminalError> {
        let entry = self
            .entries
            .get(&leader)
            .ok_or(TerminalError::NotPermitted)?;
        let owner = tty.owner();
        let leads = entry.session == leader;
        if leads && owner.session == leader.0 {
            return Ok(());
        }
        let taken = owner.session != 0;
        if !leads || entry.terminal.is_some() || (taken && claim == Claim::Polite) {
            return Err(TerminalError::NotPermitted);
        }
        let group = entry.group;
        if taken {
            self.release(Pid(owner.session), tty);
        }
        tty.set_owner(Owner {
            session: leader.0,
            foreground: group.0,
        });
        if let Some(entry) = self.entries.get_mut(&leader) {
            entry.terminal = Some(tty.clone());
        }
        Ok(())
    }

    /// Gives up `tty` (`TIOCNOTTY`): a session's leader for all of it, another for itself. The group that was
    /// in front must be told, if one is returned.
    ///
    /// # Errors
    /// [`TerminalError::NotMine`]
    pub fn give_up(&mut self, pid: Pid, tty: &Arc<Tty>) -> Result<Option<Pid>, TerminalError> {
        if !self.controls(tty, pid) {
            return Err(TerminalError::NotMine);
        }
        if self.session_of(pid) == Some(pid) {
            return Ok(self.leave_terminal(pid));
        }
        if let Some(entry) = self.entries.get_mut(&pid) {
            entry.terminal = None;
        }
        Ok(None)
    }

    /// Where `pid` leads a session with a terminal, the session loses it. Returns the group that was in front,
    /// which must be told (SIGHUP and SIGCONT).
    pub fn leave_terminal(&mut self, pid: Pid) -> Option<Pid> {
        if self.session_of(pid) != Some(pid) {
            return None;
        }
        let tty = self.terminal(pid)?.clone();
        let foreground = tty.owner().foreground;
        tty.set_owner(Owner::NOBODY);
        self.release(pid, &tty);
        (foreground != 0).then_some(Pid(foreground))
    }

    fn release(&mut self, session: Pid, tty: &Arc<Tty>) {
        let members = self.entries.values_mut().filter(|e| e.session == session);
        for entry in members {
            if entry
                .terminal
                .as_ref()
                .is_some_and(|own| Arc::ptr_eq(own, tty))
            {
                entry.terminal = None;
            }
        }
    }

    /// Puts a group of the caller's session in front of its terminal (`TIOCSPGRP`).
    ///
    /// # Errors
    /// See [`TerminalError`].
    pub fn put_in_front(
        &mut self,
        caller: Pid,
        tty: &Arc<Tty>,
        group: Pid,
    ) -> Result<(), TerminalError> {
        let session = self.session_of(caller).ok_or(TerminalError::NotMine)?;
        if !self.controls(tty, caller) || tty.owner().session != session.0 {
            return Err(TerminalError::NotMine);
        }
        // As on Linux, a process that leads no group stands for the one that it will lead.
        let mut members = self.entries.values();
        let of = members
            .find(|e| e.group == group)
            .or_else(|| self.entries.get(&group))
            .ok_or(TerminalError::NoSuchGroup)?
            .session;
        if of != session {
            return Err(TerminalError::NotPermitted);
        }
        tty.set_foreground(group.0);
        Ok(())
    }

    /// Session and foreground group of `tty`, which must be the caller's.
    ///
    /// # Errors
    /// [`TerminalError::NotMine`]
    pub fn owner_of(&self, caller: Pid, tty: &Arc<Tty>) -> Result<Owner, TerminalError> {
        match self.controls(tty, caller) {
            true => Ok(tty.owner()),
            false => Err(TerminalError::NotMine),
        }
    }

    /// The group of `pid` where it is in the background of `tty`, its own terminal.
    #[must_use]
    pub fn in_background(&self, pid: Pid, tty: &Arc<Tty>) -> Option<Pid> {
        let group = self.entries.get(&pid)?.group;
        let front = tty.owner().foreground;
        (front != 0 && front != group.0 && self.controls(tty, pid)).then_some(group)
    }

    /// Whether the group of `pid` is orphaned.
    #[must_use]
    pub fn is_orphaned(&self, pid: Pid) -> bool {
        self.entries
            .get(&pid)
            .is_none_or(|e| self.is_group_orphaned(e.group))
    }

    fn is_group_orphaned(&self, group: Pid) -> bool {
        let mut members = self.entries.iter().filter(|(_, e)| e.group == group);
        !members.any(|(pid, e)| {
            !matches!(e.life, Life::Zombie(_)) && self.link_outside(*pid, e.parent).is_some()
        })
    }

    /// The group of `pid`, if `parent`, being in another one of the session, keeps it from being orphaned.
    pub(super) fn link_outside(&self, pid: Pid, parent: Pid) -> Option<Pid> {
        let child = self.entries.get(&pid)?;
        let above = self.entries.get(&parent)?;
        let links = !child.orphan && above.session == child.session && above.group != child.group;
        links.then_some(child.group)
    }

    /// After the end of a link outside of its group: if that orphaned it while a member is stopped, all members
    /// are owed SIGHUP and SIGCONT.
    pub(super) fn hang_up_if_orphaned(&mut self, lost: Option<Pid>) -> bool {
        let Some(group) = lost.filter(|_| self.stopped > 0) else {
            return false;
        };
        let stopped = |e: &super::Entry| e.group == group && matches!(e.life, Life::Stopped(_));
        if !self.entries.values().any(stopped) || !self.is_group_orphaned(group) {
            return false;
        }
        let members = self.entries.values_mut().filter(|e| e.group == group);
        members.for_each(|e| e.hang_up = true);
        true
    }

    /// The next process that is owed SIGHUP and SIGCONT, which the caller sends.
    pub fn take_hung_up(&mut self) -> Option<Arc<Process>> {
        let entry = self.entries.values_mut().find(|e| e.hang_up)?;
        entry.hang_up = false;
        Some(entry.process.clone())
    }
}
