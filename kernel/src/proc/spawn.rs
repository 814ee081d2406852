//! Programs started by the kernel itself: what the shell's `run` does.

use super::Processes;
use super::body::{self, Inherited};
use super::exec::{self, ExecError, Request};
use super::lwp::Lwp;
use super::machine::LwpMachineState;
use super::process::{Parts, Process};
use super::signal::{SigSet, SignalState};
use super::stack::{Strings, StringsError};
use super::table::{Change, ExitStatus, Interest, Pid, TableError};
use super::uarea;
use super::wait;
use crate::fs::FsError;
use crate::fs::fd::{Fd, FdTable, OnExec};
use crate::fs::file::OpenFile;
use crate::fs::mount::Location;
use crate::fs::tty::Tty;
use alloc::sync::Arc;
use executor::Class;
use uvm::glue::SpaceRef;

/// A program to be started.
pub struct Program<'a> {
    /// The file; relative to `cwd` unless it begins with `/`.
    pub path: &'a [u8],
    /// Its arguments, its own name first.
    pub argv: &'a [&'a [u8]],
    /// Its environment, `NAME=value` each.
    pub env: &'a [&'a [u8]],
    /// Its working directory.
    pub cwd: Location,
    /// Its files 0, 1, 2, ..: the console, usually.
    pub files: &'a [Arc<OpenFile>],
    /// The terminal before which its group stands in front from its first instruction on.
    pub front: Option<Arc<Tty>>,
}

/// Why a program was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpawnError {
    /// It cannot be run.
    #[error("{0}")]
    Exec(#[from] ExecError),
    /// No memory for the process.
    #[error("out of memory")]
    OutOfMemory,
    /// No number for the process.
    #[error("no process number left")]
    NoPid,
}

impl SpawnError {
    /// As [`ExecError::is_shortage`].
    #[must_use]
    pub fn is_shortage(&self) -> bool {
        match self {
            Self::Exec(error) => error.is_shortage(),
            Self::OutOfMemory => true,
            Self::NoPid => false,
        }
    }
}

impl From<FsError> for SpawnError {
    fn from(error: FsError) -> SpawnError {
        SpawnError::Exec(error.into())
    }
}
impl From<StringsError> for SpawnError {
    fn from(error: StringsError) -> SpawnError {
        SpawnError::Exec(error.into())
    }
}
impl From<TableError> for SpawnError {
    fn from(_: TableError) -> SpawnError {
        SpawnError::NoPid
    }
}

/// A running program that the kernel started: the leader of a process group of its own, a child of init.
///
/// Dropping it leaves the program running; init's reaping task collects it then.
#[must_use = "a program that nobody waits for still runs"]
pub struct Child {
    system: Arc<Processes>,
    process: Arc<Process>,
    collected: bool,
}

impl Child {
    /// Its number, which is also its process group's.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// The process.
    #[must_use]
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// Awaits its end. Dropping the wait drops the child's handle with it (see there).
    pub async fn wait(mut self) -> ExitStatus {
        loop {
            if let Change::Ended(status) = self.next(Interest::END).await {
                return status;
            }
        }
    }

    /// Awaits that it ends, stops or goes on. Once it has ended, it always answers that it ended well.
    pub async fn change(&mut self) -> Change {
        self.next(Interest::ALL).await
    }

    async fn next(&mut self, interest: Interest) -> Change {
        let change = wait::for_init(&self.system, self.pid(), interest).await;
        // Nobody else collects it.
        let change = change.unwrap_or(Change::Ended(ExitStatus::Exited(0)));
        self.collected |= matches!(change, Change::Ended(_));
        change
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.collected && self.system.table().lock().disown(self.pid()) {
            self.system.orphans.wake_all();
        }
    }
}

impl Processes {
    /// Starts a program as the leader of a new process group. Awaits its first pages.
    ///
    /// # Errors
    /// See [`SpawnError`]; nothing is left behind.
    pub async fn spawn(self: &Arc<Self>, program: Program<'_>) -> Result<Child, SpawnError> {
        let mut argv = Strings::new();
        program.argv.iter().try_for_each(|s| argv.push(s))?;
        let mut envp = Strings::new();
        program.env.iter().try_for_each(|s| envp.push(s))?;
        let files = FdTable::new();
        for (number, file) in (0..).zip(program.files) {
            files.insert(file.clone(), Fd(number), OnExec::Keep)?;
        }
        let request = Request {
            base: &program.cwd,
            path: program.path,
            argv,
            envp,
            limits: self.limits(),
        };
        let loaded = exec::load(self, request).await?;
        let space = loaded.space.clone();
        let parts = Parts {
            space: SpaceRef::new(space.clone()),
            files,
            cwd: Some(program.cwd),
            umask: 0o22,
            signals: SignalState::new(),
            name: loaded.name,
            limits: self.limits(),
        };
        match self.start(loaded, parts, program.front) {
            Ok(process) => Ok(Child {
                system: self.clone(),
                process,
                collected: false,
            }),
            Err(error) => {
                space.teardown().await;
                Err(error)
            }
        }
    }

    fn start(
        self: &Arc<Self>,
        loaded: exec::Loaded,
        parts: Parts,
        front: Option<Arc<Tty>>,
    ) -> Result<Arc<Process>, SpawnError> {
        let uvm = self.uvm().clone();
        let room = uvm.heap_room().map_err(|_| SpawnError::OutOfMemory)?;
        let pid = self.table().lock().free_pid()?;
        let residence = uarea::for_lwp_of(self, pid, &room).map_err(|_| SpawnError::OutOfMemory)?;
        let process = Process::new(pid, parts, &room);
        let (own, space) = (process.clone(), loaded.space.clone());
        let lwp = Lwp::new(pid, own, space, SigSet::EMPTY, residence, &room);
        process.threads().begin(lwp.clone());
        let machine = LwpMachineState::new(loaded.entry, loaded.sp);
        let thread = body::thread(
            self,
            machine,
            lwp.clone(),
            loaded.space,
            Inherited::default(),
        );
        {
            let mut table = self.table().lock();
            table.insert(process.clone(), Some(Pid::INIT), &room);
            // A child of init's that leads no group yet: this cannot be refused.
            let _ = table.set_group(Pid::INIT, pid, pid);
            table.executed(pid);
            if let Some(tty) = front {
                tty.take_back(Pid::INIT.0, pid.0);
            }
        }
        if self
            .executor()
            .try_spawn(Class::User, "lwp", thread)
            .map(|task| lwp.set_task(task))
            .is_err()
        {
            self.table().lock().forget(pid);
            let _ = process.threads().leave(&lwp, ExitStatus::Exited(0));
            return Err(SpawnError::OutOfMemory);
        }
        Ok(process)
    }
}
