//! Job control: what a terminal means to the processes before it.
//!
//! Who belongs where is the table's ([`super::table::session`] draws it); here are the signals that follow from
//! it. A group in the background that reads its terminal is sent SIGTTIN, one that changes it SIGTTOU; a
//! terminal that loses its session hangs up; a group that is orphaned while stopped is told to go on.
//!
//! All signals are sent after the table's lock is released.

use super::Processes;
use super::body::Current;
use super::process::Process;
use super::signal::{Disposition, SigInfo, Signal};
use super::table::session::{Claim, TerminalError};
use super::table::{Exit, Pid};
use crate::fs::tty::{Owner, Tty};
use alloc::sync::Arc;

/// What a process in the background wants of its terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Its input.
    Read,
    /// To write, while the terminal keeps others from it (`TOSTOP`), or to change its settings.
    Change,
}

/// Why it does not get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Background {
    /// No signal would stop it until it is in front.
    #[error("a process in the background cannot use its terminal")]
    Refused,
    /// A signal was sent to its group; what it did is started over when it goes on.
    #[error("interrupted")]
    Signalled,
}

/// Lets the running process use `tty`, unless that is its own terminal and it is in the background.
///
/// # Errors
/// See [`Background`].
pub fn may_use(current: &Current, tty: &Arc<Tty>, wants: Use) -> Result<(), Background> {
    let (system, process) = (current.system(), current.process());
    let (group, orphaned) = {
        let table = system.table().lock();
        match table.in_background(process.pid(), tty) {
            None => return Ok(()),
            Some(group) => (group, table.is_orphaned(process.pid())),
        }
    };
    let signal = match wants {
        Use::Read => Signal::TTIN,
        Use::Change => Signal::TTOU,
    };
    let ignored = process.signals().lock().action(signal).disposition == Disposition::Ignore;
    if ignored || current.lwp().mask().contains(signal) {
        return match wants {
            Use::Read => Err(Background::Refused),
            Use::Change => Ok(()),
        };
    }
    if orphaned {
        return Err(Background::Refused);
    }
    system.kill_group(group, SigInfo::from_kernel(signal));
    Err(Background::Signalled)
}

/// The terminal that controls the running process.
#[must_use]
pub fn terminal(current: &Current) -> Option<Arc<Tty>> {
    let pid = current.process().pid();
    current.system().table().lock().terminal(pid).cloned()
}

/// Makes `tty` the terminal of the session that the running process leads.
///
/// # Errors
/// [`TerminalError::NotPermitted`]
pub fn acquire(current: &Current, tty: &Arc<Tty>, claim: Claim) -> Result<(), TerminalError> {
    let pid = current.process().pid();
    current.system().table().lock().acquire(pid, tty, claim)
}

/// Gives up the running process's terminal, which must be `tty`.
///
/// # Errors
/// [`TerminalError::NotMine`]
pub fn give_up(current: &Current, tty: &Arc<Tty>) -> Result<(), TerminalError> {
    let pid = current.process().pid();
    let told = current.system().table().lock().give_up(pid, tty)?;
    hang_up(current.system(), told);
    Ok(())
}

/// Puts a group in front of the running process's terminal, which must be `tty`.
///
/// # Errors
/// See [`TerminalError`].
pub fn put_in_front(current: &Current, tty: &Arc<Tty>, group: Pid) -> Result<(), TerminalError> {
    let pid = current.process().pid();
    let mut table = current.system().table().lock();
    table.put_in_front(pid, tty, group)
}

/// Session and foreground group of the running process's terminal, which must be `tty`.
///
/// # Errors
/// [`TerminalError::NotMine`]
pub fn owner(current: &Current, tty: &Arc<Tty>) -> Result<Owner, TerminalError> {
    let pid = current.process().pid();
    current.system().table().lock().owner_of(pid, tty)
}

/// The end of a process: its session, if it leads one, loses its terminal.
pub(super) fn leave_terminal(system: &Processes, process: &Process) {
    let told = system.table().lock().leave_terminal(process.pid());
    hang_up(system, told);
}

fn hang_up(system: &Processes, group: Option<Pid>) {
    if let Some(group) = group {
        system.kill_group(group, SigInfo::from_kernel(Signal::HUP));
        system.kill_group(group, SigInfo::from_kernel(Signal::CONT));
    }
}

/// Sends what groups are owed that `exit` orphaned.
pub(super) fn tell_orphaned(system: &Processes, exit: &Exit) {
    if !exit.hang_up {
        return;
    }
    loop {
        // Taken out first: the lock must not be held while the signals are sent.
        let next = system.table().lock().take_hung_up();
        let Some(process) = next else { break };
        process.post(SigInfo::from_kernel(Signal::HUP));
        process.post(SigInfo::from_kernel(Signal::CONT));
    }
}
