//! One more thread for a process: `clone` with everything shared.

use super::body::{self, ChildRegisters, Current, Inherited};
use super::fork::ForkError;
use super::lwp::Lwp;
use super::table::{ExitStatus, Pid};
use super::threads::Ending;
use super::uarea;
use executor::Class;
use uvm::addr::VirtAddr;

/// What thread is wanted. Addresses are the program's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadRequest {
    /// Its stack pointer, if not its maker's.
    pub stack: Option<u64>,
    /// Its FS base, if not its maker's; below the end of user memory.
    pub tls: Option<u64>,
    /// Where its number is written before either goes on.
    pub tids: [Option<u64>; 2],
    /// What is cleared, and woken as a futex, when it ends; 0 for nothing.
    pub clear_tid: u64,
}

/// Starts a thread in the running process; gives its number. All that it needs is there before it can run. Awaits page-ins for its number.
///
/// # Errors
/// See [`ForkError`]; nothing is left behind but, perhaps, its number in memory.
pub async fn start(current: &mut Current, request: ThreadRequest) -> Result<Pid, ForkError> {
    let (system, process) = (current.system().clone(), current.process().clone());
    let space = current.space().clone();
    let tid = system.table().lock().free_pid()?;
    for at in request.tids.into_iter().flatten() {
        if let Ok(at) = VirtAddr::try_new(at) {
            // As on Linux, a bad address here is the program's own business.
            let _ = space.write_bytes(at, &tid.0.to_le_bytes()).await;
        }
    }
    let room = system.uvm().heap_room()?;
    let residence = uarea::for_lwp_of(&system, process.pid(), &room)?;
    let mask = current.saved_mask.unwrap_or(current.lwp().mask());
    let (own, its) = (process.clone(), space.clone());
    let lwp = Lwp::new(tid, own, its, mask, residence, &room);
    let machine = current.machine().duplicate();
    let inherited = Inherited {
        clear_tid: request.clear_tid,
        registers: Some(ChildRegisters {
            stack: request.stack,
            tls: request.tls,
        }),
        ..Inherited::default()
    };
    let thread = body::thread(&system, machine, lwp.clone(), space, inherited);
    process.threads().add(lwp.clone(), &room)?;
    (system.table().lock()).insert_thread(tid, process.pid(), &room);
    let spawned = system.executor().try_spawn(Class::User, "lwp", thread);
    if spawned.map(|task| lwp.set_task(task)).is_err() {
        system.table().lock().forget_thread(tid);
        // Its maker lives: it is not the last.
        let _ = process.threads().leave(&lwp, ExitStatus::Exited(0));
        return Err(ForkError::OutOfMemory);
    }
    Ok(tid)
}

impl From<Ending> for ForkError {
    fn from(_: Ending) -> ForkError {
        ForkError::Ending
    }
}
