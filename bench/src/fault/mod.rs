//! `bench fault`: what one page fault of each kind costs.
//!
//! # What this owns
//! The cases ([`Kind`]), each with an address space of its own that is torn down at the end. A case runs as a task of the kernel
//! ([`start`]) and calls the fault routine as an LWP does after the trap; the trap itself is not in the samples.
//!
//! # What a sample is
//! Exactly one fault, and the counters of `uvmexp` prove it: they are read before and after, and a sample in which anything but
//! what the case is about has happened (another CPU's fault, say) is discarded, counted and taken again. So is what the case is about:
//! whether the frame was zeroed beforehand, whether the page was copied, whether one page was read. The page tables
//! exist, and a mapping's first fault, which makes what its later ones share, is not a sample.
//!
//! # How it synchronises
//! Not at all: it uses uvm as programs do. It gives way after each sample if it is asked to, and looks then whether it shall stop.

mod cases;
mod recorder;

use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::AtomicBool;

use executor::Executor;
use uvm::object::PagerError;
use uvm::{FaultError, Uvm, VmError, VmSpace, VnodeObject};

use crate::report::Case;
use crate::running;
use recorder::Recorder;

/// Most samples in a case: their blocks' addresses fill a page.
pub const MAX_COUNT: usize = 512 * 512;

/// What the cases run on.
#[derive(Clone)]
pub struct Env {
    /// Memory.
    pub uvm: Arc<Uvm>,
    /// Whose task a case becomes, and whose clock is read.
    pub executor: Arc<Executor>,
    /// The file that the file cases read.
    pub file: Option<Arc<VnodeObject>>,
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env")
            .field("file", &self.file.is_some())
            .finish_non_exhaustive()
    }
}

/// A sort of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// First write to anonymous memory, a zeroed frame being ready.
    FirstTouchZeroed,
    /// The same with none ready: the fault writes the zeroes.
    FirstTouchUnzeroed,
    /// First read of anonymous memory.
    ReadUnwritten,
    /// Write to a page shared since a fork.
    CopyOnWrite,
    /// Read of a file's page that is in memory.
    FileResident,
    /// Read of a file's page that is not.
    FileFromDisk,
}

impl Kind {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 6] = [
        Self::FirstTouchZeroed,
        Self::FirstTouchUnzeroed,
        Self::ReadUnwritten,
        Self::CopyOnWrite,
        Self::FileResident,
        Self::FileFromDisk,
    ];

    /// Its name, as it is typed and printed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FirstTouchZeroed => "first-touch-zeroed",
            Self::FirstTouchUnzeroed => "first-touch-unzeroed",
            Self::ReadUnwritten => "read-unwritten",
            Self::CopyOnWrite => "copy-on-write",
            Self::FileResident => "file-resident",
            Self::FileFromDisk => "file-from-disk",
        }
    }

    /// What one sample spans, in a line.
    pub const fn what(self) -> &'static str {
        match self {
            Self::FirstTouchZeroed => "first write to an anonymous page; a zeroed frame is ready",
            Self::FirstTouchUnzeroed => {
                "first write to an anonymous page; no zeroed frame is ready, the fault clears one"
            }
            Self::ReadUnwritten => {
                "first read of a never-written anonymous page; a zeroed frame is ready"
            }
            Self::CopyOnWrite => "a child's first write to a page that it shares since a fork",
            Self::FileResident => {
                "read of a file page that is in memory and not mapped; no neighbours are mapped along"
            }
            Self::FileFromDisk => {
                "read of a file page that is not in memory: one page is read, none ahead"
            }
        }
    }

    /// The case of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it reads [`Env::file`].
    pub const fn needs_file(self) -> bool {
        matches!(self, Self::FileResident | Self::FileFromDisk)
    }
}

/// Why a case could not be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// No memory for the samples or for the task.
    #[error("no memory for the samples")]
    NoRoom,
    /// [`Running`] was dropped.
    #[error("stopped")]
    Stopped,
    /// A file case without a file.
    #[error("there is no file to read")]
    NoFile,
    /// A file without a page.
    #[error("the file is empty")]
    EmptyFile,
    /// The zeroing task did not get to work.
    #[error("no frame was zeroed ahead: the machine is never idle, or memory is short")]
    NoZeroedFrames,
    /// The file's pages are mapped or held by others.
    #[error("the file's pages are in use and cannot be evicted")]
    FileInUse,
    /// Not one sample was the fault that it should be.
    #[error("no sample was the one fault that it should be")]
    NoSample,
    /// A mapping or a fork failed.
    #[error("{0}")]
    Map(#[from] VmError),
    /// A fault failed.
    #[error("fault: {0}")]
    Fault(#[from] FaultError),
    /// The file could not be read beforehand.
    #[error("read: {0}")]
    Read(#[from] PagerError),
}

/// A case under way.
pub type Running = running::Running<Result<Case, Trouble>>;

/// Starts a task that takes `count` samples (no more than [`MAX_COUNT`]) of `kind`.
///
/// # Errors
/// [`Trouble::NoRoom`] if there is no memory for the task.
pub fn start(env: &Env, kind: Kind, count: usize) -> Result<Running, Trouble> {
    let case = |stop| measure(env.clone(), kind, count.min(MAX_COUNT), stop);
    Running::start(&env.executor, kind.name(), case).map_err(|_| Trouble::NoRoom)
}

/// One case, from an empty address space to none.
async fn measure(
    env: Env,
    kind: Kind,
    count: usize,
    stop: Arc<AtomicBool>,
) -> Result<Case, Trouble> {
    let mut recorder = Recorder::new(&env, kind, count, &stop)?;
    let space = VmSpace::new(&env.uvm)?;
    let result = cases::run(&mut recorder, &space).await;
    space.deactivate();
    space.teardown().await;
    result?;
    recorder.into_case()
}

#[cfg(test)]
mod tests;
