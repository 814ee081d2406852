//! `bench executor` and `bench memory`: what the parts cost that faults, page-out and system calls are made of.
//!
//! # What this owns
//! The cases of each [`Part`], one after the other in a task of the kernel ([`start`]). A sample is one operation between two readings of the
//! clock; `clock_reading_ns` says what these alone come to, and is not taken off.
//!
//! # How it synchronises
//! Not at all: it calls what the rest of the kernel calls. Between two samples it gives way if it is asked to, and looks whether it shall stop.

mod executor;
mod memory;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use uvm::VmError;

use crate::env::Env;
use crate::report::{Case, Figure};
use crate::running;
use crate::samples::{NoRoom, Samples};

/// A part of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Tasks, wake-ups, timers.
    Executor,
    /// Frames, the heap, address spaces.
    Memory,
}

impl Part {
    /// Its name, as it is typed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Executor => "executor",
            Self::Memory => "memory",
        }
    }

    /// Its cases, in the order in which they run: the name of each, and what one sample spans.
    pub const fn cases(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Executor => &executor::CASES,
            Self::Memory => &memory::CASES,
        }
    }
}

/// Why a part could not be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// No memory for the samples, for a task, or for what is measured.
    #[error("no memory for the samples")]
    NoRoom,
    /// [`Running`] was dropped.
    #[error("stopped")]
    Stopped,
    /// A mapping failed.
    #[error("{0}")]
    Map(#[from] VmError),
}

impl From<NoRoom> for Trouble {
    fn from(NoRoom: NoRoom) -> Self {
        Self::NoRoom
    }
}

impl From<::executor::OutOfMemory> for Trouble {
    fn from(::executor::OutOfMemory: ::executor::OutOfMemory) -> Self {
        Self::NoRoom
    }
}

/// A part being measured.
pub type Running = running::Running<Result<Vec<Case>, Trouble>>;

/// Starts a task that takes `count` samples of each case of `part`.
///
/// # Errors
/// [`Trouble::NoRoom`] if there is no memory for the task.
pub fn start(env: &Env, part: Part, count: usize) -> Result<Running, Trouble> {
    let measure = |stop| measure(env.clone(), part, count, stop);
    Ok(Running::start(&env.executor, part.name(), measure)?)
}

async fn measure(
    env: Env,
    part: Part,
    count: usize,
    stop: Arc<AtomicBool>,
) -> Result<Vec<Case>, Trouble> {
    let mut bench = Bench {
        env,
        count,
        stop,
        cases: Vec::new(),
    };
    bench
        .cases
        .try_reserve_exact(part.cases().len())
        .map_err(|_| Trouble::NoRoom)?;
    match part {
        Part::Executor => executor::run(&mut bench).await?,
        Part::Memory => memory::run(&mut bench).await?,
    }
    Ok(bench.cases)
}

/// The cases so far, and how the next one is measured.
struct Bench {
    env: Env,
    /// Samples of a case.
    count: usize,
    stop: Arc<AtomicBool>,
    cases: Vec<Case>,
}

impl Bench {
    fn now(&self) -> u64 {
        self.env.executor.now()
    }

    /// Memory for the samples of a case.
    fn samples(&self) -> Result<Samples, Trouble> {
        Ok(Samples::with_capacity(self.count)?)
    }

    /// Between two samples.
    async fn give_way(&self) -> Result<(), Trouble> {
        self.env.executor.reschedule_if_asked().await;
        match self.stop.load(Relaxed) {
            true => Err(Trouble::Stopped),
            false => Ok(()),
        }
    }

    /// A case is through.
    fn add(&mut self, (name, what): (&'static str, &'static str), kernel: Samples) {
        let reading = |_| {
            let start = self.now();
            self.now().saturating_sub(start)
        };
        let figures = [Figure {
            name: "clock_reading_ns",
            value: (0..32).map(reading).min().unwrap_or(0),
        }];
        self.cases.push(Case {
            name,
            what,
            kernel,
            device: Samples::none(),
            figures: figures.into(),
        });
    }
}

#[cfg(test)]
mod tests;
