//! A case under way: its samples, and what proves that each is the operation that it is said to be.

use core::arch::x86_64::_rdtsc;

use crate::PAGE;
use crate::sys::{self, Access, Errno, Sharing};

/// Samples that a case may have.
pub const ROOM: usize = 4096;

/// Pairs of stamps with nothing between them, to learn what a pair costs.
const EMPTY_PAIRS: usize = 256;

/// Why a case came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The kernel refused a call.
    Refused(Errno),
    /// A child ended with another wait status than it should.
    Child(i32),
    /// What was measured did not do what it was to do.
    Wrong(&'static str),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Failure {
        Failure::Refused(errno)
    }
}

/// What a case needs to run.
pub type Outcome = Result<(), Failure>;

/// The time-stamp counter: where guest time counts instructions, a tick is an instruction, in user mode and in the kernel alike.
#[inline(always)]
pub fn stamp() -> u64 {
    // SAFETY: reading the counter has no side effect.
    unsafe { _rdtsc() }
}

/// Where samples go. The memory is shared, so that a fork makes none of it copy-on-write: writing a sample down must not fault.
#[derive(Debug)]
pub struct Bench {
    samples: &'static mut [u64],
    count: usize,
    recording: Recording,
    overhead: u64,
    faults: u64,
    faults_before: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recording {
    WarmUp,
    On,
}

impl Bench {
    /// A case that has no samples yet.
    ///
    /// # Errors
    /// No memory.
    pub fn new() -> Result<Bench, Errno> {
        let place = sys::map(ROOM * 8 / PAGE, Access::ReadWrite, Sharing::Shared)?;
        // SAFETY: the mapping is that long, aligned to pages, zeroed, ours, and never unmapped.
        let samples = unsafe { core::slice::from_raw_parts_mut(place.cast::<u64>(), ROOM) };
        // Every page is there before the first sample.
        samples.fill(1);
        let mut bench = Bench {
            samples,
            count: 0,
            recording: Recording::On,
            overhead: 0,
            faults: 0,
            faults_before: 0,
        };
        for _ in 0..EMPTY_PAIRS {
            bench.sample(|| ());
        }
        bench.overhead = bench.samples[..EMPTY_PAIRS]
            .iter()
            .copied()
            .min()
            .unwrap_or(0);
        bench.count = 0;
        Ok(bench)
    }

    /// Does `operation` between two stamps: one sample.
    #[inline(always)]
    pub fn sample<T>(&mut self, operation: impl FnOnce() -> T) -> T {
        let start = stamp();
        let done = operation();
        let end = stamp();
        self.record(end.wrapping_sub(start), 1);
        done
    }

    /// As [`Bench::sample`], of an operation on so many pages: the sample is what one of them took.
    #[inline(always)]
    pub fn sample_per_page<T>(&mut self, pages: usize, operation: impl FnOnce() -> T) -> T {
        let start = stamp();
        let done = operation();
        let end = stamp();
        self.record(end.wrapping_sub(start), pages as u64);
        done
    }

    /// Adds a sample of `ticks` on `parts` equal things. Those that find no room are left out.
    #[inline(never)]
    pub fn record(&mut self, ticks: u64, parts: u64) {
        self.keep(ticks.saturating_sub(self.overhead) / parts);
    }

    /// Adds a sample that is no time. Those that find no room are left out.
    pub fn keep(&mut self, value: u64) {
        if self.recording == Recording::On && self.count < self.samples.len() {
            self.samples[self.count] = value;
            self.count += 1;
        }
    }

    /// Runs `round` so often without keeping samples, so that caches, pools and page tables are as they will be.
    ///
    /// # Errors
    /// Those of `round`.
    pub fn warm_up(
        &mut self,
        rounds: usize,
        mut round: impl FnMut(&mut Bench) -> Outcome,
    ) -> Outcome {
        self.recording = Recording::WarmUp;
        for _ in 0..rounds {
            round(self)?;
        }
        self.recording = Recording::On;
        self.faults = 0;
        Ok(())
    }

    /// Runs `round` so often.
    ///
    /// # Errors
    /// Those of `round`.
    pub fn rounds(
        &mut self,
        rounds: usize,
        mut round: impl FnMut(&mut Bench) -> Outcome,
    ) -> Outcome {
        for _ in 0..rounds {
            round(self)?;
        }
        Ok(())
    }

    /// Faults count from here.
    ///
    /// # Errors
    /// The kernel's.
    pub fn count_faults(&mut self) -> Outcome {
        self.faults_before = sys::minor_faults()?;
        Ok(())
    }

    /// Faults count no longer.
    ///
    /// # Errors
    /// The kernel's.
    pub fn counted_faults(&mut self) -> Outcome {
        self.faults += sys::minor_faults()? - self.faults_before;
        Ok(())
    }

    /// Counts faults that were counted in another way.
    pub fn add_faults(&mut self, faults: u64) {
        self.faults += faults;
    }

    /// Ticks that a pair of stamps takes, which were taken off each sample.
    pub fn overhead(&self) -> u64 {
        self.overhead
    }

    /// Faults counted around the samples.
    pub fn faults(&self) -> u64 {
        self.faults
    }

    /// The samples.
    pub fn samples(&mut self) -> &mut [u64] {
        &mut self.samples[..self.count]
    }
}
