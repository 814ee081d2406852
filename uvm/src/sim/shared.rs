//! What the programs of a run share: the world, its disks, files and objects, and how far the run has got.
//!
//! Synchronises itself: one thread plays all CPUs, and each field is an atomic or has a lock.

use alloc::string::{String, ToString};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::eprintln;
use std::sync::Mutex;

use executor::Class;

use crate::addr::{PAGE_SIZE, Pages};
use crate::glue::SpaceRef;
use crate::map::VmSpace;
use crate::object::UvmObject;
use crate::object::vnode::VnodeObject;
use crate::pool::Ref;
use crate::sim::World;
use crate::sim::disk::{self, Layout, SimDisk, SimFile};
use crate::sim::holes::SparseFile;
use crate::sim::killing::Axe;
use crate::sim::lwp::Lwp;
use crate::sim::model::{Content, Model, Risk};
use crate::sim::napping::{Bed, Beds, Swapper};
use crate::sim::op::{FILES, OBJECT_PAGES, OBJECTS, Op, Then};
use crate::sim::plan::Plan;
use crate::sim::process::Process;
use crate::sim::random::Random;
use crate::sim::run::{Mode, Outcome, Run, Trace};
use crate::sim::swapping::SwapDisk;
use crate::sim::weather::Weather;
use crate::testing::{DEVICE_PAGES, HostConfig};

/// Kernel addresses for as many u-areas as there ever are programs.
const KVA_PAGES: usize = 3 * 64 + 1;

/// Has the tables for these addresses made, which stay; how many pages the kernel has then, besides its slabs.
fn with_kernel_tables(world: &World) -> usize {
    let (uarea, _) = world.uvm.uarea_alloc().expect("memory at the start");
    world.uvm.uarea_free(uarea);
    let uvm = world.uvm.clone();
    world.run(async move { uvm.uarea_drain(0).await });
    world.check().kernel - world.uvm.slab_pages()
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
    /// A file of holes that is written through mappings.
    pub(super) written: (Arc<VnodeObject>, Vec<Content>),
    /// A device's memory.
    pub(super) device: (Ref<UvmObject>, Vec<Content>),
    /// All processes, those that have ended too until another begins.
    processes: Mutex<Vec<Weak<Process>>>,
    /// Address spaces alive.
    pub(super) spaces: AtomicUsize,
    /// Processes started.
    started: AtomicUsize,
    /// Programs that will go on.
    pub(super) programs: AtomicUsize,
    disks: Vec<Arc<SimDisk>>,
    pub(super) swaps: Vec<SwapDisk>,
    /// Where programs sleep, and the seed of the next one's.
    pub(super) beds: Beds,
    next_bed: AtomicU64,
    /// Pages of the kernel that are there from the start to the end.
    pub(super) kernel_pages: usize,
    trace: Trace,
    /// How many operations there are, and which of them are done, in order; all if not given.
    ops: u32,
    kept: Option<Vec<u32>>,
    /// How many have been begun.
    begun: AtomicU32,
    done: Mutex<Outcome>,
    pub(super) world: World,
}

impl Shared {
    /// The world of a run, with nobody in it yet.
    pub(super) fn new(run: &Run<'_>) -> Arc<Self> {
        let plan = Plan::of(run.seed);
        let frames = match run.mode {
            Mode::Starved => 120 + 24 * plan.cpus + plan.spare,
            _ => 1600,
        };
        let world = World::with(
            &HostConfig {
                frames,
                hole: (run.seed % 3 * 100) as usize,
                cpus: plan.cpus,
                // Bad blocks show only where pages come and go; what has been read is to stay now and then, all the same.
                torture_evict: match run.mode {
                    Mode::Torture => true,
                    Mode::Faulty => plan.weather != Weather::Sharing,
                    Mode::Normal | Mode::Starved => false,
                },
                tlb: plan.tlb,
                seed: run.seed,
                kva_pages: KVA_PAGES,
            },
            run.seed ^ 0xace,
        );
        if run.mode == Mode::Starved {
            world
                .uvm
                .keep_for_the_modest(4 + run.seed as usize % 3 * 10);
        }
        let kernel_pages = with_kernel_tables(&world);
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
        let swaps = SwapDisk::all(&world, &plan, run.mode, &mut random);
        let size = OBJECT_PAGES * PAGE_SIZE as u64;
        let layouts: [_; FILES] = [
            (Layout::Contiguous(0), size),
            (Layout::Holes(1 << 20), size),
            (Layout::Blocks(2 << 20), size),
            (Layout::Contiguous(1 << 20), size - PAGE_SIZE as u64 + 1024),
        ];
        let file = |(i, (layout, size)): (usize, (Layout, u64))| {
            let disk = &disks[i % 2];
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
        let sparse = SparseFile::new(&disks[0], 3 << 20);
        sparse.answer(Ok(()));
        let written = (
            world.file(sparse, size),
            (0..OBJECT_PAGES).map(|_| Content::object()).collect(),
        );
        let device = UvmObject::device(&world.uvm, world.machine.device(), Pages(DEVICE_PAGES));
        let device = (
            device.expect("memory at the start"),
            (0..DEVICE_PAGES).map(|_| Content::device()).collect(),
        );
        let shared = Arc::new(Self {
            mode: run.mode,
            written,
            device,
            files,
            objects: (0..OBJECTS).map(object).collect(),
            processes: Mutex::new(Vec::new()),
            spaces: AtomicUsize::new(0),
            started: AtomicUsize::new(0),
            programs: AtomicUsize::new(0),
            disks,
            swaps,
            beds: Beds::default(),
            next_bed: AtomicU64::new(run.seed << 20),
            kernel_pages,
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
        });
        shared.world.uvm.set_lwp_swapper(Swapper::new(&shared));
        if shared.mode == Mode::Starved && shared.plan.kills {
            shared.world.uvm.set_killer(Axe::new(&shared));
        }
        shared
    }

    /// Starts a process of so many programs; it has been counted.
    pub(super) fn start(self: &Arc<Self>, space: Arc<VmSpace>, model: Model, programs: usize) {
        self.programs.fetch_add(programs, Relaxed);
        let first = Arc::new(SpaceRef::new(space));
        let Some(process) = self.process(first.clone(), model) else {
            return;
        };
        let others = (1..programs).filter_map(|_| process.join());
        for holder in core::iter::once(first).chain(others) {
            let lwp = Lwp {
                program: self.world.program(&process.space),
                process: process.clone(),
                shared: self.clone(),
                holder,
                bed: Bed::new(self.next_bed.fetch_add(1, Relaxed)),
            };
            let executor = &self.world.executor;
            executor.spawn(Class::User, "program", lwp.live());
        }
    }

    /// A process in the space of `holder`, listed.
    pub(super) fn process(&self, holder: Arc<SpaceRef>, model: Model) -> Option<Arc<Process>> {
        let mut processes = self.processes.lock().expect("not poisoned");
        processes.retain(|process| process.strong_count() > 0);
        let number = self.started.fetch_add(1, Relaxed);
        let process = Arc::new(Process::new(number, holder, model)?);
        processes.push(Arc::downgrade(&process));
        Some(process)
    }

    /// The process that has `space`.
    pub(super) fn process_in(&self, space: &Arc<VmSpace>) -> Option<Arc<Process>> {
        let processes = self.processes.lock().expect("not poisoned");
        let mut alive = processes.iter().filter_map(Weak::upgrade);
        alive.find(|process| Arc::ptr_eq(&process.space, space))
    }

    /// Reads from swap that have failed.
    pub(super) fn swap_errors(&self) -> u64 {
        self.swaps.iter().map(|swap| swap.disk.read_errors()).sum()
    }

    /// One of the processes beside `own`, and who visits it: it goes on until that is given to [`Self::leave`].
    pub(super) fn visit(
        &self,
        own: &Arc<Process>,
        choice: u64,
    ) -> Option<(Arc<Process>, Arc<SpaceRef>)> {
        let processes = self.processes.lock().expect("not poisoned");
        let others: Vec<_> = processes
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|process| !Arc::ptr_eq(process, own))
            .collect();
        let other = others.get(choice as usize % others.len().max(1))?;
        Some((other.clone(), other.join()?))
    }

    /// A program, or a visitor, needs a process no longer. The last frees the space.
    pub(super) async fn leave(&self, process: &Process, holder: &Arc<SpaceRef>) {
        holder.leave().await;
        self.left(process, holder);
    }

    /// `holder` has left a space, and taken it down if nobody else had it.
    pub(super) fn left(&self, process: &Process, holder: &Arc<SpaceRef>) {
        if process.is_left_by(holder) {
            self.spaces.fetch_sub(1, Relaxed);
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
            || self.swaps.iter().any(|swap| swap.disk.pending() > 0)
            || self.world.uvm.is_paging()
            || self.world.uvm.swap().is_discarding()
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let mut misused = self.swaps.iter().filter_map(|swap| swap.disk.misuse());
        if let Some(misuse) = misused.next() {
            return Err(misuse);
        }
        self.world.uvm.check().map(drop).map_err(|e| e.to_string())
    }
}
