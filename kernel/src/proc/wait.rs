//! Waiting for children, and init's reaping task.

use super::Processes;
use super::body::Current;
use super::process::Process;
use super::table::{Change, Interest, Pid, TableError, Taking, Which};
use crate::fs::io::{Interrupted, Sleeper};
use alloc::sync::Arc;

/// Whether to wait at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Until there is news.
    Wait,
    /// Answer at once (`WNOHANG`).
    Never,
}

/// Why there is no news.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// No such child.
    #[error("no such child")]
    NoChild,
    /// A signal came first.
    #[error("interrupted")]
    Interrupted,
}

impl From<TableError> for WaitError {
    fn from(_: TableError) -> WaitError {
        WaitError::NoChild
    }
}
impl From<Interrupted> for WaitError {
    fn from(_: Interrupted) -> WaitError {
        WaitError::Interrupted
    }
}

/// News of a child, as `wait4` and `waitid` give it; `None` if there is none and `patience` says so.
///
/// # Errors
/// See [`WaitError`].
pub async fn wait(
    current: &Current,
    which: Which,
    interest: Interest,
    patience: Patience,
) -> Result<Option<(Arc<Process>, Change)>, WaitError> {
    let (system, parent) = (current.system(), current.process());
    let look = || {
        system
            .table()
            .lock()
            .collect(parent.pid(), which, interest)
            .transpose()
    };
    let news = match (look(), patience) {
        (Some(news), _) => Some(news?),
        (None, Patience::Never) => None,
        (None, Patience::Wait) => Some(
            current
                .lwp()
                .sleep(parent.children().wait_until(look))
                .await??,
        ),
    };
    if let Some((child, Change::Ended(_))) = &news
        && interest.taking == Taking::Take
    {
        account(parent, child);
        // The dead leave u-areas behind: what is too much goes here, where one may wait.
        system.uvm().uarea_drain_excess().await;
    }
    Ok(news)
}

/// Adds a collected child's times to its parent's.
fn account(parent: &Process, child: &Process) {
    parent.add_childs_use(child.usage().used());
    parent.add_childs_use(child.children_used());
}

/// Awaits news of a child of init; one that has ended is removed.
pub(super) async fn for_init(system: &Processes, pid: Pid, interest: Interest) -> Option<Change> {
    let look = || {
        let found = system
            .table()
            .lock()
            .collect(Pid::INIT, Which::One(pid), interest);
        found.transpose()
    };
    let (child, change) = system.init().children().wait_until(look).await.ok()?;
    if let Change::Ended(_) = change {
        account(system.init(), &child);
        system.uvm().uarea_drain_excess().await;
    }
    Some(change)
}

/// Init's reaping task: collects orphans, which nobody else will.
pub(super) async fn reap_orphans(system: Arc<Processes>) {
    loop {
        let look = || system.table().lock().collect_orphan();
        let child = system.orphans.wait_until(look).await;
        account(system.init(), &child);
        drop(child);
        system.uvm().uarea_drain_excess().await;
    }
}
