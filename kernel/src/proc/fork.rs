//! fork, vfork, and clone as far as they make processes.
//!
//! A vfork child borrows the address space: the parent waits until the child has let go of it, which only
//! exec and the exit path do (`Process::replace_space`).

use super::body::{self, ChildRegisters, Current, Inherited};
use super::lwp::Lwp;
use super::process::{Parts, Process};
use super::table::{Pid, TableError};
use crate::fs::FsError;
use alloc::sync::Arc;
use executor::Class;
use uvm::VmSpace;
use uvm::addr::VirtAddr;
use uvm::map::VmError;

/// Whose memory the child gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// A copy on write.
    Copy,
    /// The parent's own, while the parent waits (vfork).
    Borrow,
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
        memory: Memory::Borrow,
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

/// Makes a child of the running process. With borrowed memory, returns when the child has let go of it.
///
/// # Errors
/// See [`ForkError`]; nothing is left behind.
pub async fn fork(current: &mut Current, request: ForkRequest) -> Result<Pid, ForkError> {
    let parent = current.process().clone();
    let space = match request.memory {
        Memory::Copy => current.space().fork().await?,
        Memory::Borrow => current.space().clone(),
    };
    let child = match start(current, request, &space).await {
        Ok(child) => child,
        Err(error) => {
            if request.memory == Memory::Copy {
                space.teardown().await;
            }
            return Err(error);
        }
    };
    debug_assert!(!Arc::ptr_eq(&child, &parent));
    if request.memory == Memory::Borrow {
        child.vfork_over().await;
    }
    Ok(child.pid())
}

/// Makes the process and its thread, and sets it going.
async fn start(
    current: &mut Current,
    request: ForkRequest,
    space: &Arc<VmSpace>,
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
    let parts = Parts {
        files: parent.files().fork()?,
        cwd: parent.cwd(),
        umask: parent.umask(),
        signals: parent.signals().lock().fork(),
        name: parent.name(),
        limits: parent.limits(),
    };
    let child = Process::new(pid, parts, &room);
    match request.memory {
        Memory::Copy => {
            child.replace_space(Some(space.clone()));
        }
        Memory::Borrow => child.borrow_space(space.clone()),
    }
    let (uarea, _) = system.uvm().uarea_alloc()?;
    let mask = current.saved_mask.unwrap_or(current.lwp().mask());
    let lwp = Lwp::new(pid, child.clone(), space.clone(), mask, &room);
    child.set_lwp(Some(lwp.clone()));
    let machine = current.machine().duplicate();
    let alt_stack = match request.memory {
        Memory::Copy => current.alt_stack(),
        Memory::Borrow => Default::default(),
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
    let thread = body::thread(&system, uarea, machine, lwp, space.clone(), inherited);
    system
        .table()
        .lock()
        .insert(child.clone(), Some(parent.pid()), &room);
    if system
        .executor()
        .try_spawn(Class::User, "lwp", thread)
        .is_err()
    {
        system.table().lock().forget(pid);
        // Breaks the ring of process and thread header; gives back a borrowed space.
        child.set_lwp(None);
        child.replace_space(None);
        return Err(ForkError::OutOfMemory);
    }
    Ok(child)
}
