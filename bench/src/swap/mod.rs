//! `bench swap`: how much of what the swap device can do page-out and page-in make use of.
//!
//! # What this owns
//! Four loads ([`Kind`]), two of them on the device itself and two on memory that does not fit, and their ratios. Raw transfers go to slots
//! that swap gives for it ([`uvm::swap::raw`]), so that nothing on the device is lost, and through the same request slots as page-out
//! and page-in. The memory is a mapping of a space of its own, several times as large as the machine, which is freed at the end.
//!
//! # How it synchronises
//! Not at all: each load is tasks that use uvm as programs do (`load`). They look at each operation whether they shall stop.

mod load;
mod paging;
mod raw;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::AtomicBool;

use uvm::{FaultError, IoError, VmError};

use self::load::Reading;
use crate::env::Env;
use crate::report::{Case, Figure};
use crate::running;
use crate::samples::Samples;

/// A load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Writes of a cluster to the device itself.
    RawWrite,
    /// A task that fills more memory than there is.
    SwapOut,
    /// Reads of a page from the device itself.
    RawRead,
    /// Tasks that touch pages of such memory.
    SwapIn,
}

impl Kind {
    /// All of them, in the order in which they run.
    pub const ALL: [Self; 4] = [Self::RawWrite, Self::SwapOut, Self::RawRead, Self::SwapIn];

    /// Its name, as it is printed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RawWrite => "raw-write",
            Self::SwapOut => "swap-out",
            Self::RawRead => "raw-read",
            Self::SwapIn => "swap-in",
        }
    }

    /// What one sample spans, in a line.
    pub const fn what(self) -> &'static str {
        match self {
            Self::RawWrite => "write of 64 KiB to the swap device, in order, 16 at once",
            Self::SwapOut => {
                "first write to a page of a mapping larger than memory, in order, while pages go to swap"
            }
            Self::RawRead => "read of 4 KiB from the swap device, at random, 64 at once",
            Self::SwapIn => {
                "fault on a page that is on swap, at random, by 64 tasks; one page is read"
            }
        }
    }

    /// Which of the pages that have moved while it was measured are its own.
    const fn pages(self, grown: &Reading) -> u64 {
        match self {
            Self::RawWrite => grown.ended * uvm::swap::raw::Scratch::PAGES as u64,
            Self::SwapOut => grown.swapouts,
            Self::RawRead => grown.ended,
            Self::SwapIn => grown.pageins,
        }
    }
}

/// Why it could not be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// No memory for the samples or for the tasks.
    #[error("no memory for the samples")]
    NoRoom,
    /// [`Running`] was dropped.
    #[error("stopped")]
    Stopped,
    /// There is not enough swap space for a mapping that does not fit into memory.
    #[error("{free} MiB of swap space are free, {needed} MiB are needed")]
    TooLittleSwap {
        /// What is free, in MiB.
        free: u64,
        /// What would do, in MiB.
        needed: u64,
    },
    /// No mapping could be made.
    #[error("{0}")]
    Map(#[from] VmError),
    /// A fault failed.
    #[error("fault: {0}")]
    Fault(#[from] FaultError),
    /// The device failed.
    #[error("swap device: {0}")]
    Io(#[from] IoError),
}

/// A measurement under way: all four loads, one after the other.
pub type Running = running::Running<Result<[Case; 4], Trouble>>;

/// Starts a task that measures.
///
/// # Errors
/// [`Trouble::NoRoom`] if there is no memory for the task.
pub fn start(env: &Env) -> Result<Running, Trouble> {
    let all = |stop| measure(env.clone(), stop);
    Running::start(&env.executor, "bench swap", all).map_err(|_| Trouble::NoRoom)
}

/// All loads; the cases in the order of [`Kind::ALL`].
async fn measure(env: Env, stop: Arc<AtomicBool>) -> Result<[Case; 4], Trouble> {
    // Before anything is done in vain.
    let pages = paging::pages(&env)?;
    let (write, read) = raw::run(&env, &stop).await?;
    let (out, back) = paging::run(&env, &stop, pages).await?;
    let raw_writes = rate(Kind::RawWrite, &write.1);
    let raw_reads = rate(Kind::RawRead, &read.1);
    Ok([
        case(Kind::RawWrite, write, None)?,
        case(Kind::SwapOut, out, Some(raw_writes))?,
        case(Kind::RawRead, read, None)?,
        case(Kind::SwapIn, back, Some(raw_reads))?,
    ])
}

/// Pages a second.
fn rate(kind: Kind, grown: &Reading) -> u64 {
    let pages = u128::from(kind.pages(grown)) * 1_000_000_000;
    (pages / u128::from(grown.at.max(1))) as u64
}

/// A load as it is reported; `raw`: pages a second of what it is compared with.
fn case(
    kind: Kind,
    (samples, grown): (Samples, Reading),
    raw: Option<u64>,
) -> Result<Case, Trouble> {
    let rate = rate(kind, &grown);
    let listed = [
        ("pages", kind.pages(&grown)),
        ("elapsed_ns", grown.at),
        ("pages_per_second", rate),
        ("device_requests", grown.requests),
        // Little's law: of each nanosecond, how many requests have it.
        ("mean_in_flight", grown.device_ns / grown.at.max(1)),
    ];
    let ratio = raw.map(|raw| ("percent_of_raw", rate * 100 / raw.max(1)));
    let mut figures = Vec::new();
    figures
        .try_reserve_exact(listed.len() + 1)
        .map_err(|_| Trouble::NoRoom)?;
    let all = listed.into_iter().chain(ratio);
    figures.extend(all.map(|(name, value)| Figure { name, value }));
    Ok(Case {
        name: kind.name(),
        what: kind.what(),
        kernel: samples,
        device: Samples::none(),
        figures,
    })
}

#[cfg(test)]
mod tests;
