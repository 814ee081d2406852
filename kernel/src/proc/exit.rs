//! The end of a thread, and of a process with its last one, in the thread itself, step by step.
//!
//! There is no reaper thread (UVM.md 1, row 2): the dying LWP itself frees its address space while it can
//! still await, then becomes a zombie that the parent can collect at once. What is left of it after that is
//! its future in the u-area, which ends with this function; the executor's drop gives the u-area back.

use super::Processes;
use super::body::Current;
use super::job;
use super::lwp::Lwp;
use super::process::Process;
use super::robust;
use super::signal::{Detail, Disposition, SigInfo, Signal};
use super::table::{ExitStatus, Interest, Which};
use super::threads::Left;
use alloc::sync::Arc;
use linux_raw_sys::general as sys;

/// What comes to an end, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The thread alone; if it is the last one, the process with it.
    Thread(ExitStatus),
    /// The process with all its threads.
    Process(ExitStatus),
}

/// The last act of a thread's body.
pub(super) async fn exit(mut current: Current, end: End) {
    let (system, lwp) = (current.system().clone(), current.lwp().clone());
    current.charge_faults();
    let status = match end {
        End::Thread(status) => status,
        End::Process(status) => lwp.process().end(status),
    };
    robust::let_go(&mut current).await;
    leave_space(current);
    leave(&system, &lwp, status).await;
}

/// The end of a thread that is out of memory and cannot be read back, and of its process. It leaves its locks held, and its number in memory.
pub(super) async fn of_lost(system: &Processes, lwp: &Arc<Lwp>) {
    let status = lwp.process().end(ExitStatus::Killed(Signal::BUS));
    system.futexes().leave(lwp);
    lwp.set_space(None);
    leave(system, lwp, status).await;
}

/// Takes the thread out of the process, which ends with the last one.
async fn leave(system: &Processes, lwp: &Arc<Lwp>, status: ExitStatus) {
    let process = lwp.process();
    match leave_threads(system, process, lwp, status) {
        // Nobody waits for a thread: what those before it have left behind goes here.
        Left::Others => system.uvm().uarea_drain_excess().await,
        Left::Nobody(status) => {
            if let Some(timers) = process.timers() {
                timers.end();
            }
            close_files(process);
            free_space(process).await;
            job::leave_terminal(system, process);
            become_zombie(system, process, status);
        }
    }
}

/// From now on no poll of this thread loads the address space; the process still has it.
fn leave_space(current: Current) {
    let space = current.space().clone();
    current.lwp().set_space(None);
    drop(current);
    space.deactivate();
}

/// Takes the thread out of its process; signals that it was told of are others' to take.
fn leave_threads(
    system: &Processes,
    process: &Process,
    lwp: &Arc<Lwp>,
    status: ExitStatus,
) -> Left {
    let tid = lwp.tid();
    if tid != process.pid() {
        system.table().lock().forget_thread(tid);
    }
    let left = process.threads().leave(lwp, status);
    process.retarget(tid);
    left
}

fn close_files(process: &Process) {
    process.files().close_all();
    process.set_cwd(None);
}

/// Lets go of the address space, and tears it down unless others have it: a vfork parent. Pages under way are awaited.
async fn free_space(process: &Process) {
    process.space_ref().leave().await;
    process.end_vfork();
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
