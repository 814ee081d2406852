//! Many programs, random operations, one seed: and every byte compared with the [`model`](super::model).
//!
//! Each program is a task that maps, unmaps, protects, forks, loads, stores and exits at random; which task runs next, and on which CPU,
//! is random as well. After each poll the TLBs are looked at, every so often [`crate::Uvm::check`] runs, and at the
//! end nothing may be left.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::fmt;
use core::panic::AssertUnwindSafe;
use core::pin::pin;
use core::sync::atomic::Ordering::Relaxed;
use core::task::{Context, Waker};
use std::panic::catch_unwind;

use crate::Uvm;
use crate::addr::{PAGE_SIZE, VirtAddr};
use crate::io::IO_SLOTS;
use crate::map::{Limits, MapRequest, Placement};
use crate::meter::{Counter, Gauge};
use crate::prot::Prot;
use crate::sim::drive::drive;
use crate::sim::model::{Model, ModelPage};
use crate::sim::plan::MARGIN;
use crate::sim::random::Random;
use crate::sim::shared::Shared;
use crate::testing::on_cpu;

/// What the machine is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Enough memory.
    Normal,
    /// The pagedaemon evicts all the time.
    Torture,
    /// Not enough memory.
    Starved,
    /// Some of the disk is unreadable.
    Faulty,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Normal, Self::Torture, Self::Starved, Self::Faulty];

    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Torture => "torture",
            Self::Starved => "starved",
            Self::Faulty => "faulty",
        }
    }
}

/// Whether each operation is printed as it begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trace {
    /// No.
    #[default]
    Silent,
    /// To standard error.
    Print,
}

/// A run. What it does is a pure function of this.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// Decides everything else.
    pub seed: u64,
    /// How many operations there are, unless `keep` says which.
    pub ops: u32,
    /// What the machine is like.
    pub mode: Mode,
    /// The operations that are done, by number and in order; all if not given.
    pub keep: Option<&'a [u32]>,
    /// Whether it tells what it does.
    pub trace: Trace,
}

impl Run<'_> {
    /// All of so many operations.
    #[must_use]
    pub const fn new(seed: u64, ops: u32, mode: Mode) -> Self {
        Self {
            seed,
            ops,
            mode,
            keep: None,
            trace: Trace::Silent,
        }
    }
}

/// The command that repeats it.
impl fmt::Display for Run<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seed, ops, mode) = (self.seed, self.ops, self.mode.name());
        write!(
            f,
            "cargo run -p uvm --example simulate -- --seed {seed} --ops {ops} --mode {mode}"
        )?;
        if let Some(keep) = self.keep {
            write!(f, " --keep {}", ranges(keep))?;
        }
        Ok(())
    }
}

/// A sorted list as it is written: `3,17-20`.
#[must_use]
pub fn ranges(keep: &[u32]) -> String {
    let mut text = String::new();
    let mut rest = keep;
    while let Some(&first) = rest.first() {
        let follow = |&(&index, expected): &(&u32, u32)| index == expected;
        let run = rest.iter().zip(first..).take_while(follow).count();
        let comma = if text.is_empty() { "" } else { "," };
        text += &match run {
            1 => format!("{comma}{first}"),
            _ => format!("{comma}{first}-{}", rest[run - 1]),
        };
        rest = &rest[run..];
    }
    text
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Operations done.
    pub ops: u64,
    /// Loads and stores that succeeded.
    pub accesses: u64,
    /// Operations that found no memory.
    pub out_of_memory: u64,
    /// Accesses that met a bad block.
    pub io_errors: u64,
    /// Address spaces made by fork.
    pub forks: u64,
    /// Ranges wired.
    pub wirings: u64,
    /// Stacks that have grown.
    pub growths: u64,
    /// Swap devices taken away.
    pub swapoffs: u64,
    /// Swap devices that could not be taken away.
    pub kept_swaps: u64,
    /// Swap slots discarded.
    pub discarded: u64,
    /// Reads from swap that failed.
    pub swap_errors: u64,
    /// Processes killed for memory.
    pub kills: u64,
    /// u-areas put out.
    pub outs: u64,
    /// u-areas that stayed, though they were about to be put out.
    pub stays: u64,
    /// Address spaces whose page tables were put away.
    pub without_tables: u64,
}

/// Does a run.
///
/// # Errors
/// What was wrong, when something was not as the model says. What there was then stays in memory: after an error nothing can be trusted
/// to take itself down.
pub fn run(run: &Run<'_>) -> Result<Outcome, String> {
    let shared = Shared::new(run);
    let keep = shared.clone();
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut random = Random::new(run.seed ^ 1);
        for _ in 0..2 {
            let space = shared.world.space();
            space.set_limits(Limits {
                address_space: shared.plan.limit,
                data: shared.heap_limit(),
                locked: shared.plan.locked,
                stack: shared.plan.stack * PAGE_SIZE as u64,
            });
            let arena = &shared.plan.arena;
            let start = VirtAddr::new(arena.start * PAGE_SIZE as u64);
            space.set_brk_start(start);
            space.set_top(VirtAddr::new(arena.end * PAGE_SIZE as u64));
            let mut model = Model::default();
            model.heap = (start.as_u64(), start.as_u64());
            let top = shared.plan.stacks.end - MARGIN;
            let stack = MapRequest::anonymous(2 * PAGE_SIZE, Prot::RW).growing();
            let at = VirtAddr::new((top - 2) * PAGE_SIZE as u64);
            space
                .map(stack.at(Placement::Fixed(at)))
                .expect("memory at the start");
            for page in top - 2..top {
                let stack = Some(top);
                let new = ModelPage::zeroes(Prot::RW);
                model.insert(page, ModelPage { stack, ..new });
            }
            shared.spaces.fetch_add(1, Relaxed);
            shared.start(space, model, 1 + random.below(2) as usize);
        }
        drive(&shared)?;
        shared.check()?;
        shared.world.check_quiet();
        let count = |counter| shared.world.uvm.meter().get(counter);
        let (outs, stays) = (count(Counter::UareaPuts), count(Counter::UareaStays));
        let (swap_errors, discarded) = (shared.swap_errors(), count(Counter::Swdiscards));
        shared.note(|o| (o.swap_errors, o.discarded) = (swap_errors, discarded));
        shared.note(|o| (o.outs, o.stays) = (outs, stays));
        let outcome = shared.done();
        drop(keep);
        finish(shared)?;
        Ok(outcome)
    }));
    let error = match result {
        Ok(Ok(outcome)) => return Ok(outcome),
        Ok(Err(error)) => error,
        Err(panic) => match panic.downcast::<String>() {
            Ok(message) => *message,
            Err(panic) => panic
                .downcast::<&str>()
                .map_or_else(|_| "a panic".to_string(), |message| message.to_string()),
        },
    };
    Err(format!("{error}\n  {run}"))
}

/// Takes everything down and sees that nothing is left.
fn finish(shared: Arc<Shared>) -> Result<(), String> {
    let Ok(Shared {
        world,
        files,
        objects,
        written,
        device,
        plan,
        kernel_pages,
        ..
    }) = Arc::try_unwrap(shared).map_err(drop)
    else {
        return Err("a program is left".into());
    };
    drop((files, objects, written, device));
    // CPUs keep the address space that they were in last.
    for cpu in 0..plan.cpus {
        on_cpu(cpu);
        let other = world.space();
        other.activate();
        other.deactivate();
    }
    on_cpu(0);
    let uvm = &world.uvm;
    drain(uvm);
    let report = world.check_quiet();
    let upper = &uvm.upper;
    let left = [
        ("anonymous pages", report.anon),
        ("pages of objects", report.object),
        ("translations", report.mappings),
        ("things that float", report.floating),
        ("address spaces", report.spaces),
        ("map entries", upper.entries.in_use()),
        ("amaps", upper.amaps.in_use()),
        ("amap chunks", upper.slot_nodes.in_use()),
        ("amap runs", upper.runs.in_use()),
        ("anons", upper.anons.in_use()),
        ("objects", upper.objects.in_use()),
        ("listed objects", upper.listed_objects.in_use()),
        ("object nodes", upper.page_nodes.in_use()),
        ("listed spaces", upper.listed.in_use()),
        ("pmaps", uvm.pmap_pool.in_use()),
        ("reverse mappings", uvm.pv_pool.in_use()),
        ("swap nodes", upper.swap_nodes.in_use()),
        ("swap slots", uvm.meter().gauge(Gauge::Swpginuse) as usize),
        (
            "pages on swap only",
            uvm.meter().gauge(Gauge::Swpgonly) as usize,
        ),
        (
            "pages on their way out",
            uvm.meter().gauge(Gauge::Paging) as usize,
        ),
        ("listed u-areas", upper.listed_uareas.in_use()),
        (
            "u-areas that are out",
            uvm.meter().gauge(Gauge::UareasOut) as usize,
        ),
        ("deferred flushes", uvm.deferred_flushes()),
        ("I/O slots", IO_SLOTS - uvm.io().free()),
        (
            "kernel pages beside slabs",
            report.kernel - uvm.slab_pages() - kernel_pages,
        ),
        ("wired pages", uvm.meter().gauge(Gauge::Wired) as usize),
    ];
    match left.into_iter().find(|&(_, count)| count > 0) {
        None => Ok(()),
        Some((what, count)) => Err(format!("{count} {what} are left: {report:?}")),
    }
}

/// Releases all cached u-areas, while no task runs.
fn drain(uvm: &Uvm) {
    let mut drain = pin!(uvm.uarea_drain(0));
    let mut cx = Context::from_waker(Waker::noop());
    while drain.as_mut().poll(&mut cx).is_pending() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays() {
        let outcome = || run(&Run::new(7, 2_000, Mode::Normal));
        assert_eq!(outcome(), outcome());
        assert!(outcome().is_ok_and(|o| o.accesses > 100));
    }

    #[test]
    fn a_run_is_written_as_a_command() {
        let keep = [3, 17, 18, 19, 204];
        let run = Run {
            keep: Some(&keep),
            ..Run::new(7, 300, Mode::Starved)
        };
        let text = run.to_string();
        assert!(text.ends_with("--seed 7 --ops 300 --mode starved --keep 3,17-19,204"));
    }

    #[test]
    fn only_what_is_kept_is_done() {
        let keep = [3, 700, 701];
        let run = run(&Run {
            keep: Some(&keep),
            ..Run::new(7, 2_000, Mode::Torture)
        });
        assert_eq!(run.map(|o| o.ops), Ok(3));
    }
}
