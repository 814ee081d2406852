//! A machine for models: loom's threads are its CPUs and its interrupts.

use core::cell::Cell;
use core::fmt;
use std::sync::Arc;
use std::vec::Vec;

use loom::sync::Notify;
use loom::sync::atomic::AtomicU64;
use loom::sync::atomic::Ordering::{AcqRel, Acquire};

use crate::{Executor, Platform};

loom::thread_local! {
    static CPU: Cell<usize> = Cell::new(0);
}

/// Says on which CPU this thread runs. CPU 0 unless told.
pub(super) fn on_cpu(index: usize) {
    CPU.with(|cpu| cpu.set(index));
}

/// CPUs that halt and are interrupted, a clock that is set by hand, and what becomes of a stall.
pub(super) struct Machine {
    interrupts: Vec<Notify>,
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
            interrupts: (0..cpus).map(|_| Notify::new()).collect(),
            clock: AtomicU64::new(0),
            stalled,
        });
        (machine.clone(), Executor::new(machine))
    }

    /// An interrupt of `cpu`. Kept for it if it does not halt now.
    pub(super) fn interrupt(&self, cpu: usize) {
        self.interrupts[cpu].notify();
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
        if idle_ok() {
            self.interrupts[self.cpu()].wait();
        }
    }

    fn cpu(&self) -> usize {
        CPU.with(Cell::get)
    }

    fn cpus(&self) -> usize {
        self.interrupts.len()
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
    while !done() {
        now = executor.turn(cpu, now);
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
