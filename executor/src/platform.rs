//! What the executor needs from the machine, and nothing else.

use core::fmt;

/// The machine under an [`Executor`](crate::Executor).
///
/// The kernel implements it over the TSC, the local APIC and `hlt`; [`crate::testing`] implements it
/// over a virtual clock. All times are nanoseconds of one monotonic clock that every CPU agrees on.
pub trait Platform: Send + Sync + 'static {
    /// The time now, in nanoseconds. Called once per poll of a task: make it cheap.
    fn now(&self) -> u64;

    /// Programs this CPU's timer interrupt for the absolute time `deadline` (nanoseconds), replacing
    /// whatever was programmed; `None` turns it off. A deadline that has passed must still interrupt,
    /// as soon as can be. The interrupt handler calls [`Executor::tick`](crate::Executor::tick).
    fn arm(&self, deadline: Option<u64>);

    /// Waits for an interrupt, if there is still reason to.
    ///
    /// With interrupts off: when `idle_ok()` says yes, enables interrupts and halts, the two back to
    /// back so that no interrupt fits between; when it says no, enables interrupts and returns.
    fn idle(&self, idle_ok: &dyn Fn() -> bool);

    /// The number of the CPU that asks, below [`cpus`](Platform::cpus).
    fn cpu(&self) -> usize;

    /// How many CPUs there are. Must never change.
    fn cpus(&self) -> usize;

    /// Interrupts another CPU, so that it leaves [`idle`](Platform::idle) or ring 3. May be called
    /// from an interrupt handler.
    fn kick(&self, cpu: usize);

    /// Nothing can ever run again although user tasks wait. `report` prints every pending task with
    /// its spawn site and what it awaits. Called once per stall; the CPU idles when it returns.
    fn stalled(&self, report: &dyn fmt::Display);
}
