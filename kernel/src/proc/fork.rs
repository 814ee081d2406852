//! fork, vfork, and clone as far as they make processes.
//!
//! A vfork child shares the address space: the parent's thread waits until the child has let go of it, which only
//! exec and the exit path do (`Process::end_vfork`).

use super::body::{self, ChildRegisters, Current, Inherited};
use super::lwp::Lwp;
use super::process::{Parts, Process};
use super::table::{ExitStatus, Pid, TableError};
use super::uarea;
use crate::fs::FsError;
use alloc::sync::Arc;
use executor::Class;
use uvm::VmSpace;
use uvm::addr::VirtAddr;
use uvm::glue::SpaceRef;
use uvm::map::VmError;

/// Whose memory the child gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// A copy on write.
    Copy,
    /// The parent's own (`CLONE_VM`).
    Shared,
    /// The same, while the parent's thread waits (vfork).
    Borrowed,
}

/// What child is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForkRequest {
    /// Whose memory it gets.
    pub memory: Memory,
    /// Its stack pointer, if not the parent's.
    pub stack: Option<u64>,
    /// Its FS base, if not the parent's; below the end of user memory.
    pub tls: Option<u64>,
    /// Where its number is written in the parent's memory.
    pub parent_tid: Option<u64>,
    /// Where its number is written in its own memory.
    pub child_tid: Option<u64>,
    /// What is cleared when it ends; 0 for nothing.
    pub clear_tid: u64,
}

impl ForkRequest {
    /// A plain fork.
    pub const FORK: ForkRequest = ForkRequest {
        memory: Memory::Copy,
        stack: None,
        tls: None,
        parent_tid: None,
        child_tid: None,
        clear_tid: 0,
    };
    /// A plain vfork.
    pub const VFORK: ForkRequest = ForkRequest {
        memory: Memory::Borrowed,
        ..ForkRequest::FORK
    };
}

/// Why there is no child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForkError {
    /// No memory for it.
    #[error("out of memory")]
    OutOfMemory,
    /// There can never be memory for it.
    #[error("larger than memory and swap")]
    TooLarge,
    /// No number for it.
    #[error("no process number left")]
    NoPid,
    /// The process is ending.
    #[error("the process is ending")]
    Ending,
}

impl From<VmError> for ForkError {
    fn from(error: VmError) -> ForkError {
        match error {
            VmError::TooLarge => ForkError::TooLarge,
            _ => ForkError::OutOfMemory,
        }
    }
}
impl From<uvm::OutOfMemory> for ForkError {
    fn from(_: uvm::OutOfMemory) -> ForkError {
        ForkError::OutOfMemory
    }
}
impl From<FsError> for ForkError {
    fn from(_: FsError) -> ForkError {
        ForkError::OutOfMemory
    }
}
impl From<TableError> for ForkError {
    fn from(_: TableError) -> ForkError {
        ForkError::NoPid
    }
}

/// Makes a child of the running process. With borrowed memory, returns when the child has let go of it, or the caller must end.
///
/// # Errors
/// See [`ForkError`]; nothing is left behind.
pub async fn fork(current: &mut Current, request: ForkRequest) -> Result<Pid, ForkError> {
    let parent = current.process().clone();
    let (space, holder) = match request.memory {
        Memory::Copy => {
            let copying = parent.threads().copy(current.lwp().tid());
            let space = current.space().fork().await?;
            drop(copying);
            (space.clone(), SpaceRef::new(space))
        }
        Memory::Shared | Memory::Borrowed => {
            let holder = SpaceRef::empty();
            holder.share(parent.space_ref()).await;
            (current.space().clone(), holder)
        }
    };
    let child = start(current, request, &space, holder).await?;
    if request.memory == Memory::Borrowed {
        // Cut short only when there is nothing to go back to.
        let _ = current.lwp().sleep_to_the_end(child.vfork_over()).await;
    }
    Ok(child.pid())
}

/// Makes the process and its thread, and sets it going.
async fn start(
    current: &mut Current,
    request: ForkRequest,
    space: &Arc<VmSpace>,
    holder: SpaceRef,
) -> Result<Arc<Process>, ForkError> {
    let (system, parent) = (current.system().clone(), current.process().clone());
    let pid = system.table().lock().free_pid()?;
    for (at, of) in [
        (request.child_tid, space),
        (request.parent_tid, current.space()),
    ] {
        if let Some(at) = at.and_then(|at| VirtAddr::try_new(at).ok()) {
            // As on Linux, a bad address here is the program's own business.
            let _ = of.write_bytes(at, &pid.0.to_le_bytes()).await;
        }
    }
    let room = system.uvm().heap_room()?;
    parent.expect_child(&room);
    let residence = uarea::for_lwp_of(&system, pid, &room)?;
    let parts = Parts {
        space: holder,
        files: parent.files().fork()?,
        cwd: parent.cwd(),
        umask: parent.umask(),
        signals: parent.signals().lock().fork(),
        name: parent.name(),
        limits: parent.limits(),
    };
    let child = Process::new(pid, parts, &room);
    let mask = current.saved_mask.unwrap_or(current.lwp().mask());
    let lwp = Lwp::new(pid, child.clone(), space.clone(), mask, residence, &room);
    child.threads().begin(lwp.clone());
    let machine = current.machine().duplicate();
    let alt_stack = match request.memory {
        Memory::Shared => Default::default(),
        Memory::Copy | Memory::Borrowed => current.alt_stack(),
    };
    let registers = Some(ChildRegisters {
        stack: request.stack,
        tls: request.tls,
    });
    let inherited = Inherited {
        alt_stack,
        clear_tid: request.clear_tid,
        registers,
    };
    let thread = body::thread(&system, machine, lwp.clone(), space.clone(), inherited);
    system
        .table()
        .lock()
        .insert(child.clone(), Some(parent.pid()), &room);
    if system
        .executor()
        .try_spawn(Class::User, "lwp", thread)
        .map(|task| lwp.set_task(task))
        .is_err()
    {
        system.table().lock().forget(pid);
        // Breaks the ring of process and thread header.
        let _ = child.threads().leave(&lwp, ExitStatus::Exited(0));
        return Err(ForkError::OutOfMemory);
    }
    Ok(child)
}
