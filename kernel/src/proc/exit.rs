//! The end of a process, in its own thread, step by step.
//!
//! There is no reaper thread (UVM.md 1, row 2): the dying LWP itself frees its address space while it can
//! still await, then becomes a zombie that the parent can collect at once. What is left of it after that is
//! its future in the u-area, which ends with this function; the executor's drop gives the u-area back.

use super::Processes;
use super::body::Current;
use super::job;
use super::machine;
use super::process::Process;
use super::signal::{Detail, Disposition, SigInfo, Signal};
use super::table::{ExitStatus, Interest, Which};
use alloc::sync::Arc;
use linux_raw_sys::general as sys;

/// Ends the process. The last act of a thread's body.
pub(super) async fn exit(current: Current, status: ExitStatus) {
    let (system, process) = (current.system().clone(), current.process().clone());
    clear_tid(&current);
    process.files().close_all();
    process.set_cwd(None);
    leave_space(current, &process).await;
    process.set_lwp(None);
    job::leave_terminal(&system, &process);
    become_zombie(&system, &process, status);
}

/// Clears the word that the thread asked for. Rule 10 of awaiting: it fails rather than waits.
fn clear_tid(current: &Current) {
    if current.clear_tid() != 0 {
        let _ = machine::copyout(current.clear_tid(), &0u32.to_le_bytes());
    }
}

/// Lets go of the address space, and tears it down unless it was borrowed.
async fn leave_space(current: Current, process: &Process) {
    let space = current.space().clone();
    // From now on no poll of this thread loads the space.
    current.lwp().set_space(None);
    drop(current);
    space.deactivate();
    if let Some(space) = process.replace_space(None) {
        space.teardown().await;
    }
}

fn become_zombie(system: &Processes, process: &Process, status: ExitStatus) {
    let Some(exit) = system.table().lock().exit(process.pid(), status) else {
        return;
    };
    if exit.orphaned_zombies {
        system.orphans.wake_all();
    }
    job::tell_orphaned(system, &exit);
    let Some(parent) = exit.parent else { return };
    let action = parent.signals().lock().action(Signal::CHLD);
    let (code, number) = match status {
        ExitStatus::Exited(code) => (sys::CLD_EXITED, i32::from(code)),
        ExitStatus::Killed(signal) => (sys::CLD_KILLED, signal.number().into()),
    };
    let detail = Detail::Child {
        pid: process.pid().0,
        status: number,
    };
    parent.post(SigInfo {
        signal: Signal::CHLD,
        code: code as i32,
        detail,
    });
    // A parent that ignores SIGCHLD never waits: the zombie goes at once.
    if action.disposition == Disposition::Ignore || action.has(sys::SA_NOCLDWAIT) {
        let which = Which::One(process.pid());
        let _gone: Result<Option<(Arc<Process>, _)>, _> =
            system
                .table()
                .lock()
                .collect(parent.pid(), which, Interest::END);
    }
    parent.children().wake_all();
}
