//! Many programs, random operations, one seed: and every byte compared with the [`model`](super::model).
//!
//! Each program is a task that maps, unmaps, protects, forks, loads, stores and exits at random; which task runs next, and on which CPU,
//! is random as well. After each poll the TLBs are looked at, every so often [`crate::Uvm::check`] runs, and at the
//! end nothing may be left.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::panic::AssertUnwindSafe;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::eprintln;
use std::panic::catch_unwind;
use std::sync::Mutex;

use executor::Class;

use crate::addr::{PAGE_SIZE, Pages, VirtAddr};
use crate::io::IO_SLOTS;
use crate::map::{Limits, VmSpace};
use crate::meter::Gauge;
use crate::object::UvmObject;
use crate::object::vnode::VnodeObject;
use crate::pool::Ref;
use crate::sim::World;
use crate::sim::disk::{self, Layout, SimDisk, SimFile};
use crate::sim::drive::drive;
use crate::sim::lwp::Lwp;
use crate::sim::model::{Content, Model, Risk};
use crate::sim::op::{FILES, OBJECT_PAGES, OBJECTS, Op, Then};
use crate::sim::plan::Plan;
use crate::sim::process::Process;
use crate::sim::random::Random;
use crate::testing::{HostConfig, on_cpu};

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
}

/// A file of the simulated world.
pub(super) struct File {
    file: Arc<SimFile>,
    pub(super) object: Arc<VnodeObject>,
    risks: Vec<Risk>,
}

impl File {
    pub(super) fn content(&self, index: u64) -> Content {
        Content::of_file(&self.file, self.object.size(), index)
    }

    pub(super) fn risk(&self, index: u64) -> Risk {
        self.risks
            .get(index as usize)
            .copied()
            .unwrap_or(Risk::None)
    }
}

/// A run under way.
pub(super) struct Shared {
    pub(super) plan: Plan,
    pub(super) mode: Mode,
    pub(super) files: Vec<File>,
    pub(super) objects: Vec<(Ref<UvmObject>, Vec<Content>)>,
    /// Address spaces alive.
    pub(super) spaces: AtomicUsize,
    /// Programs that will go on.
    pub(super) programs: AtomicUsize,
    disks: Vec<Arc<SimDisk>>,
    trace: Trace,
    /// How many operations there are, and which of them are done, in order; all if not given.
    ops: u32,
    kept: Option<Vec<u32>>,
    /// How many have been begun.
    begun: AtomicU32,
    done: Mutex<Outcome>,
    pub(super) world: World,
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
                ..Limits::UNLIMITED
            });
            let arena = &shared.plan.arena;
            let start = VirtAddr::new(arena.start * PAGE_SIZE as u64);
            space.set_brk_start(start);
            space.set_top(VirtAddr::new(arena.end * PAGE_SIZE as u64));
            let mut model = Model::default();
            model.heap = (start.as_u64(), start.as_u64());
            shared.spaces.fetch_add(1, Relaxed);
            shared.start(space, model, 1 + random.below(2) as usize);
        }
        drive(&shared)?;
        shared.world.check_quiet();
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

impl Shared {
    fn new(run: &Run<'_>) -> Arc<Self> {
        let plan = Plan::of(run.seed);
        let frames = match run.mode {
            Mode::Starved => 110 + 24 * plan.cpus + plan.spare,
            _ => 1600,
        };
        let world = World::with(
            &HostConfig {
                frames,
                hole: (run.seed % 3 * 100) as usize,
                cpus: plan.cpus,
                torture_evict: run.mode == Mode::Torture,
                tlb: plan.tlb,
                seed: run.seed,
            },
            run.seed ^ 0xace,
        );
        let mut random = Random::new(run.seed ^ 2);
        let faulty = run.mode == Mode::Faulty;
        let failing = if faulty {
            random.pick(&[0, 0, 20, 100])
        } else {
            0
        };
        let disks: Vec<_> = (0..2)
            .map(|_| {
                let seed = random.draw();
                SimDisk::new(&world.uvm, 4 << 20, disk::Mode::Chance { seed, failing })
            })
            .collect();
        if faulty {
            for disk in &disks {
                for base in [0, 1 << 20, 2 << 20] {
                    let start = base + random.below(OBJECT_PAGES) * PAGE_SIZE as u64;
                    disk.spoil(start, start + 1 + random.below(2 * PAGE_SIZE as u64));
                }
            }
        }
        let size = OBJECT_PAGES * PAGE_SIZE as u64;
        let layouts: [_; FILES] = [
            (Layout::Contiguous(0), size),
            (Layout::Holes(1 << 20), size),
            (Layout::Blocks(2 << 20), size),
            (Layout::Contiguous(1 << 20), size - PAGE_SIZE as u64 + 1024),
        ];
        let file = |(i, (layout, size)): (usize, (Layout, u64))| {
            let disk = &disks[i % disks.len()];
            let file = SimFile::new(disk, layout);
            let risk = |index| match faulty {
                false => Risk::None,
                true if file.is_bad(disk, index) => Risk::Bad,
                true if failing > 0 => Risk::MayFail,
                true => Risk::None,
            };
            File {
                risks: (0..OBJECT_PAGES).map(risk).collect(),
                object: world.file(file.clone(), size),
                file,
            }
        };
        let files = layouts.into_iter().enumerate().map(file).collect();
        let object = |_| {
            let object = UvmObject::anonymous(&world.uvm, Pages(OBJECT_PAGES as usize));
            let pages = (0..OBJECT_PAGES).map(|_| Content::object()).collect();
            (object.expect("memory at the start"), pages)
        };
        Arc::new(Self {
            mode: run.mode,
            files,
            objects: (0..OBJECTS).map(object).collect(),
            spaces: AtomicUsize::new(0),
            programs: AtomicUsize::new(0),
            disks,
            trace: run.trace,
            ops: match run.keep {
                Some(keep) => keep.last().map_or(0, |&last| last + 1),
                None => run.ops,
            },
            kept: run.keep.map(<[u32]>::to_vec),
            begun: AtomicU32::new(0),
            done: Mutex::new(Outcome::default()),
            plan,
            world,
        })
    }

    /// Starts a process of so many programs; it has been counted.
    pub(super) fn start(self: &Arc<Self>, space: Arc<VmSpace>, model: Model, programs: usize) {
        self.programs.fetch_add(programs, Relaxed);
        let process = Arc::new(Process::new(space, model, programs));
        for _ in 0..programs {
            let lwp = Lwp {
                program: self.world.program(&process.space),
                process: process.clone(),
                shared: self.clone(),
            };
            let executor = &self.world.executor;
            executor.spawn(Class::User, "program", lwp.live());
        }
    }

    /// How many bytes a heap may have.
    pub(super) fn heap_limit(&self) -> u64 {
        8 * PAGE_SIZE as u64
    }

    /// The next operation, if it is one of those that are done, and what comes after it in any case: so that to leave one out changes
    /// little else.
    pub(super) fn next_op(&self) -> Option<(Option<Op>, Then)> {
        let index = self.begun.fetch_add(1, Relaxed);
        if index >= self.ops {
            return None;
        }
        let (op, then) = Op::draw(&self.plan, index);
        if let Some(kept) = &self.kept
            && kept.binary_search(&index).is_err()
        {
            return Some((None, then));
        }
        if self.trace == Trace::Print {
            eprintln!("{index}: {op:x?}");
        }
        Some((Some(op), then))
    }

    pub(super) fn note(&self, f: impl FnOnce(&mut Outcome)) {
        f(&mut self.done.lock().expect("not poisoned"));
    }

    pub(super) fn done(&self) -> Outcome {
        *self.done.lock().expect("not poisoned")
    }

    /// Whether a program lives, or a read that one has left behind is under way.
    pub(super) fn is_running(&self) -> bool {
        self.spaces.load(Relaxed) > 0
            || self.disks.iter().any(|disk| disk.pending() > 0)
            || self.world.uvm.is_paging_in()
    }

    pub(super) fn check(&self) -> Result<(), String> {
        self.world.uvm.check().map(drop).map_err(|e| e.to_string())
    }
}

/// Takes everything down and sees that nothing is left.
fn finish(shared: Arc<Shared>) -> Result<(), String> {
    let Ok(Shared {
        world,
        files,
        objects,
        plan,
        ..
    }) = Arc::try_unwrap(shared).map_err(drop)
    else {
        return Err("a program is left".into());
    };
    drop((files, objects));
    // CPUs keep the address space that they were in last.
    for cpu in 0..plan.cpus {
        on_cpu(cpu);
        let other = world.space();
        other.activate();
        other.deactivate();
    }
    on_cpu(0);
    let uvm = &world.uvm;
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
        ("object nodes", upper.page_nodes.in_use()),
        ("listed spaces", upper.listed.in_use()),
        ("pmaps", uvm.pmap_pool.in_use()),
        ("reverse mappings", uvm.pv_pool.in_use()),
        ("deferred flushes", uvm.deferred_flushes()),
        ("I/O slots", IO_SLOTS - uvm.io().free()),
        (
            "kernel pages beside slabs",
            report.kernel - uvm.slab_pages(),
        ),
        ("wired pages", uvm.meter().gauge(Gauge::Wired) as usize),
    ];
    match left.into_iter().find(|&(_, count)| count > 0) {
        None => Ok(()),
        Some((what, count)) => Err(format!("{count} {what} are left: {report:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays() {
        let outcome = || run(&Run::new(7, 2_000, Mode::Normal));
        assert_eq!(outcome(), outcome());
        assert!(outcome().is_ok_and(|o| o.accesses > 300));
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
