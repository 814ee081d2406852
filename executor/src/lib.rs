//! An async executor for a kernel.
//!
//! It runs futures as tasks on the CPUs of one machine, and knows no hardware: what it needs from the machine is the [`Platform`] trait,
//! which the kernel implements over a clock, a timer interrupt and `hlt`, and [`testing`] over a virtual clock on the host.
//!
//! Reading order: `task` (the states of a task, drawn before any code), `ready` (queues that interrupt handlers may push to), `cpu` (which
//! task comes next), `executor` (the loop, the idle rule, the stall rule), `timer`, [`sync`].
//!
//! **What it promises.** Waking neither allocates nor locks, and may be done by interrupt handlers (through
//! [`Waker::wake_by_ref`](core::task::Waker::wake_by_ref) or [`sync::AtomicWaker`]). A wake between a future's last look and the end of its
//! poll is not lost. Tasks of a class run in the order in which they were woken, and no class starves the next. Interrupts stay enabled while
//! tasks are polled.
//!
//! **What it does not do.** Tasks stay on the CPU that spawned them; they are never polled by an interrupt handler.

#![no_std]

extern crate alloc;
#[cfg(any(test, loom))]
extern crate std;

mod class;
mod cpu;
mod executor;
mod info;
mod platform;
mod ready;
mod shim;
pub mod sync;
mod task;
#[cfg(not(target_os = "none"))]
pub mod testing;
mod timer;

#[cfg(all(test, loom))]
mod loom;
#[cfg(all(test, not(loom)))]
mod tests;

pub use class::Class;
pub use executor::{
    Executor, InFlight, OutOfMemory, Outside, RescheduleIfAsked, SLICE, YieldNow, yield_now,
};
pub use info::TaskInfo;
pub use platform::Platform;
pub use task::{JoinHandle, Name, State, task_bytes};
pub use timer::{Elapsed, Sleep};
