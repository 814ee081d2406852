//! A machine for models: loom's threads are its CPUs and its interrupts.

use core::cell::Cell;
use core::fmt;
use std::sync::Arc;
use std::vec::Vec;

use loom::sync::Notify;
use loom::sync::atomic::Ordering::{AcqRel, Acquire};
use loom::sync::atomic::{AtomicBool, AtomicU64};

use crate::{Executor, Platform};

loom::thread_local! {
    static CPU: Cell<usize> = Cell::new(0);
}

/// Says on which CPU this thread runs. CPU 0 unless told.
pub(super) fn on_cpu(index: usize) {
    CPU.with(|cpu| cpu.set(index));
}

#[derive(Default)]
struct Core {
    interrupts_off: AtomicBool,
    halt: Notify,
}

/// CPUs that halt and are interrupted, a clock that is set by hand, and what becomes of a stall.
pub(super) struct Machine {
    cores: Vec<Core>,
    clock: AtomicU64,
    stalled: fn(&Machine),
}

impl Machine {
    /// A machine in which a stall is a failure.
    pub(super) fn new(cpus: usize) -> (Arc<Machine>, Arc<Executor>) {
        Self::with_stall(cpus, |_| {
            panic!("a stall was reported while a task could still run")
        })
    }

    /// A machine that calls `stalled` on a stall.
    pub(super) fn with_stall(cpus: usize, stalled: fn(&Machine)) -> (Arc<Machine>, Arc<Executor>) {
        let machine = Arc::new(Machine {
            cores: (0..cpus).map(|_| Core::default()).collect(),
            clock: AtomicU64::new(0),
            stalled,
        });
        (machine.clone(), Executor::new(machine))
    }

    /// An interrupt of `cpu`, whose handler has run. It ends the halt only if it comes while interrupts are off or the CPU halts: one that
    /// comes before leaves nothing behind but what its handler did.
    pub(super) fn interrupt(&self, cpu: usize) {
        let core = &self.cores[cpu];
        if core.interrupts_off.fetch_or(false, AcqRel) {
            core.halt.notify();
        }
    }

    /// Lets the loop of `cpu` come round once more, so that it finds the model over.
    pub(super) fn nudge(&self, cpu: usize) {
        self.cores[cpu].halt.notify();
    }

    /// Lets time pass until `now`.
    pub(super) fn set_clock(&self, now: u64) {
        self.clock.fetch_max(now, AcqRel);
    }
}

impl Platform for Machine {
    fn now(&self) -> u64 {
        self.clock.load(Acquire)
    }

    fn arm(&self, _: Option<u64>) {}

    fn idle(&self, idle_ok: &dyn Fn() -> bool) {
        let core = &self.cores[self.cpu()];
        core.interrupts_off.swap(true, AcqRel);
        if idle_ok() {
            core.halt.wait();
        }
        core.interrupts_off.swap(false, AcqRel);
    }

    fn cpu(&self) -> usize {
        CPU.with(Cell::get)
    }

    fn cpus(&self) -> usize {
        self.cores.len()
    }

    fn kick(&self, cpu: usize) {
        self.interrupt(cpu);
    }

    fn stalled(&self, _: &dyn fmt::Display) {
        (self.stalled)(self);
    }
}

/// Runs the loop of this thread's CPU until `done` says yes; it is asked between two rounds.
pub(super) fn run(executor: &Executor, mut done: impl FnMut() -> bool) {
    let cpu = executor.cpu();
    let mut now = executor.now();
    for turns in 0.. {
        if done() {
            return;
        }
        now = executor.turn(cpu, now);
        if turns > 6 {
            // As in `block_on`.
            loom::thread::yield_now();
        }
    }
}

/// Polls what is ready on this thread's CPU, which does not sleep.
pub(super) fn run_ready(executor: &Executor) {
    let cpu = executor.cpu();
    while let Some(task) = cpu.pick() {
        // SAFETY: it was taken from this CPU's queue just now.
        unsafe { executor.poll(cpu, task, 0) };
    }
}
