//! Takes samples, and lets only those count that the counters agree with.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use core::time::Duration;

use uvm::meter::Counter;
use uvm::{Access, Uvm, VirtAddr, VmSpace};

use super::{Env, Kind, Trouble};
use crate::report::{Case, Figure};
use crate::samples::Samples;

/// Counters read around every sample, with the names of those that are reported.
const WATCHED: [(Counter, Option<&str>); 15] = [
    (Counter::Faults, Some("faults")),
    (Counter::FltNowait, None),
    (Counter::FltPrzero, None),
    (Counter::FltAcow, None),
    (Counter::FltObj, None),
    (Counter::FltNamap, None),
    (Counter::Pageins, Some("page_reads")),
    (Counter::Pgzeromiss, Some("frames_zeroed_late")),
    (Counter::HeapAllocs, Some("heap_allocations")),
    (Counter::PoolAllocs, Some("pool_allocations")),
    (Counter::SlabAllocs, Some("slabs_made")),
    (Counter::Pgalloc, Some("frames_allocated")),
    (Counter::FreelistLocks, Some("free_list_locks")),
    (Counter::QueueLocks, Some("page_queue_locks")),
    (Counter::PoolLocks, Some("pool_locks")),
];

/// How many attempts a sample may cost, on average, and how many on top, before the case ends with those it has.
const ATTEMPTS: usize = 4;
const MORE_ATTEMPTS: usize = 64;

/// Zeroed frames that are waited for once there are none, so that the wait is rare.
const ZEROED: usize = 64;
/// How long the machine is left idle at a time, and how often in a row that may bring nothing.
const IDLE: Duration = Duration::from_millis(1);
const PATIENCE: u32 = 200;
/// Frames marked as dirty at a time.
const FORGET: usize = 256;

/// What is counted, as of now.
#[derive(Clone, Copy)]
struct Snapshot {
    counters: [u64; WATCHED.len()],
    requests: u64,
    device_ns: u64,
}

impl Snapshot {
    fn take(uvm: &Uvm) -> Self {
        let device = uvm.io().device_time();
        Self {
            counters: WATCHED.map(|(counter, _)| uvm.meter().get(counter)),
            requests: device.requests,
            device_ns: device.ns,
        }
    }

    /// How much everything has grown since `before`.
    fn since(&self, before: &Self) -> Self {
        Self {
            counters: core::array::from_fn(|i| self.counters[i] - before.counters[i]),
            requests: self.requests - before.requests,
            device_ns: self.device_ns - before.device_ns,
        }
    }

    fn get(&self, counter: Counter) -> u64 {
        let at = WATCHED.iter().position(|&(watched, _)| watched == counter);
        at.map_or(0, |at| self.counters[at])
    }

    /// Whether this growth is one fault of that kind and nothing else.
    fn is_one(&self, kind: Kind) -> bool {
        let case = match kind {
            Kind::FirstTouchZeroed | Kind::FirstTouchUnzeroed | Kind::ReadUnwritten => {
                Counter::FltPrzero
            }
            Kind::CopyOnWrite => Counter::FltAcow,
            Kind::FileResident | Kind::FileFromDisk => Counter::FltObj,
        };
        let reads = u64::from(kind == Kind::FileFromDisk);
        let zeroed_late = u64::from(kind == Kind::FirstTouchUnzeroed);
        self.get(Counter::Faults) == 1
            && self.get(case) == 1
            // A fault that reads waits, and no other does.
            && self.get(Counter::FltNowait) == 1 - reads
            && self.get(Counter::FltNamap) == 0
            && self.get(Counter::Pageins) == reads
            && self.get(Counter::Pgzeromiss) == zeroed_late
            && self.requests == reads
    }
}

/// One case's samples as they come.
pub(super) struct Recorder<'a> {
    pub(super) env: &'a Env,
    pub(super) kind: Kind,
    stop: &'a AtomicBool,
    wanted: usize,
    attempts: usize,
    kernel: Samples,
    device: Samples,
    totals: [u64; WATCHED.len()],
    resident: u64,
    discarded: u64,
}

impl<'a> Recorder<'a> {
    /// Room for `wanted` samples: from here on nothing is allocated for them.
    pub(super) fn new(
        env: &'a Env,
        kind: Kind,
        wanted: usize,
        stop: &'a AtomicBool,
    ) -> Result<Self, Trouble> {
        let reads = kind == Kind::FileFromDisk;
        let room = |count| Samples::with_capacity(count).map_err(|_| Trouble::NoRoom);
        Ok(Self {
            env,
            kind,
            stop,
            wanted,
            attempts: wanted.saturating_mul(ATTEMPTS) + MORE_ATTEMPTS,
            kernel: room(wanted)?,
            device: room(if reads { wanted } else { 0 })?,
            totals: [0; WATCHED.len()],
            resident: 0,
            discarded: 0,
        })
    }

    /// Whether samples are missing and it is worth going on.
    pub(super) fn wants_more(&self) -> bool {
        self.kernel.len() < self.wanted && self.attempts > 0
    }

    /// Attempts that may still be made: falls with each sample, good or not.
    pub(super) fn attempts(&self) -> usize {
        self.attempts
    }

    /// Lets others run if they ask for it.
    ///
    /// # Errors
    /// [`Trouble::Stopped`].
    pub(super) async fn give_way(&self) -> Result<(), Trouble> {
        self.env.executor.reschedule_if_asked().await;
        if self.stop.load(Relaxed) {
            return Err(Trouble::Stopped);
        }
        Ok(())
    }

    /// Faults on `va`, which has no translation for `access`, and records it if it was what it should be. Awaits the
    /// fault, and before it others' turn and zeroed frames.
    ///
    /// # Errors
    /// [`Trouble`].
    pub(super) async fn sample(
        &mut self,
        space: &VmSpace,
        va: VirtAddr,
        access: Access,
    ) -> Result<(), Trouble> {
        let (env, kind) = (self.env, self.kind);
        self.attempts = self.attempts.saturating_sub(1);
        self.give_way().await?;
        self.frames_ready().await?;
        // Nothing awaits from here to the fault.
        space.activate();
        let resident = space.resident_pages();
        let before = Snapshot::take(&env.uvm);
        let start = env.executor.now();
        let result = space.fault(va, access).await;
        let end = env.executor.now();
        let grown = Snapshot::take(&env.uvm).since(&before);
        result?;
        let mapped = space.resident_pages().saturating_sub(resident);
        let took = end.saturating_sub(start);
        if !grown.is_one(kind) || mapped != 1 || grown.device_ns > took {
            self.discarded += 1;
            return Ok(());
        }
        self.kernel.push(took - grown.device_ns);
        if kind == Kind::FileFromDisk {
            self.device.push(grown.device_ns);
        }
        self.resident += mapped as u64;
        for (total, grown) in self.totals.iter_mut().zip(grown.counters) {
            *total += grown;
        }
        Ok(())
    }

    /// Sees to it that there are zeroed free frames, or none, as the case wants it.
    async fn frames_ready(&self) -> Result<(), Trouble> {
        let uvm = &self.env.uvm;
        match self.kind {
            Kind::FirstTouchZeroed | Kind::ReadUnwritten if uvm.free_counts().zeroed == 0 => {
                self.await_zeroed().await
            }
            Kind::FirstTouchUnzeroed => {
                // Only if there are any: it empties the magazines. Once, unless another CPU is idle and writes zeroes.
                while uvm.free_counts().zeroed > 0 {
                    uvm.forget_zeroed(FORGET);
                    self.give_way().await?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Leaves the machine idle until the zeroing task has got ahead.
    async fn await_zeroed(&self) -> Result<(), Trouble> {
        let mut fruitless = 0;
        let mut before = 0;
        while fruitless < PATIENCE {
            self.env.executor.sleep(IDLE).await;
            self.give_way().await?;
            let zeroed = self.env.uvm.free_counts().zeroed;
            if zeroed >= ZEROED {
                return Ok(());
            }
            fruitless = if zeroed > before { 0 } else { fruitless + 1 };
            before = zeroed;
        }
        match before {
            0 => Err(Trouble::NoZeroedFrames),
            _ => Ok(()),
        }
    }

    /// The case as it is reported.
    ///
    /// # Errors
    /// [`Trouble::NoSample`], [`Trouble::NoRoom`].
    pub(super) fn into_case(self) -> Result<Case, Trouble> {
        if self.kernel.is_empty() && self.wanted > 0 {
            return Err(Trouble::NoSample);
        }
        let mut figures = Vec::new();
        figures
            .try_reserve_exact(WATCHED.len() + 3)
            .map_err(|_| Trouble::NoRoom)?;
        for (&(_, name), value) in WATCHED.iter().zip(self.totals) {
            figures.extend(name.map(|name| Figure { name, value }));
        }
        figures.extend([
            Figure {
                name: "resident_pages",
                value: self.resident,
            },
            Figure {
                name: "discarded_samples",
                value: self.discarded,
            },
            Figure {
                name: "clock_reading_ns",
                value: clock_reading(self.env),
            },
        ]);
        Ok(Case {
            name: self.kind.name(),
            what: self.kind.what(),
            kernel: self.kernel,
            device: self.device,
            figures,
        })
    }
}

/// What two readings of the clock cost with nothing in between: part of every sample, and not taken off it.
fn clock_reading(env: &Env) -> u64 {
    let reading = |_| {
        let start = env.executor.now();
        env.executor.now().saturating_sub(start)
    };
    (0..32).map(reading).min().unwrap_or(0)
}
