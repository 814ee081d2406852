//! Many programs, random operations, one seed: and every byte compared with the [`model`](super::model).
//!
//! Each program is a task that maps, unmaps, protects, forks, loads, stores and exits at random; which task runs next is random as
//! well. Operations that change mappings of one address space take turns (their order would decide the result); loads, stores
//! and faults of its other programs go on in the middle of them. `check` runs every so often, and at the end nothing
//! may be left.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use core::time::Duration;
use std::sync::Mutex;

use crate::addr::{PAGE_SIZE, PageIndex, Pages, VaRange, VirtAddr};
use crate::fault::FaultError;
use crate::map::VmSpace;
use crate::map::{Advice, Inherit, MapRequest, Placement, VmError};
use crate::object::UvmObject;
use crate::object::vnode::VnodeObject;
use crate::pool::Ref;
use crate::prot::Prot;
use crate::sim::disk::{self, Layout, SimDisk, SimFile};
use crate::sim::model::{Content, Model, ModelPage, SAMPLES, Verdict};
use crate::sim::random::Random;
use crate::sim::{Program, World};
use crate::testing::HostConfig;
use executor::Class;

/// Where programs map things, in pages.
const ARENA: core::ops::Range<u64> = 0x1_0000..0x1_0080;
/// Pages of each shared object and of each file.
const OBJECT_PAGES: u64 = 24;
/// Address spaces alive at once, at most.
const MAX_SPACES: usize = 6;
/// Operations between two checks of everything.
const CHECK_EVERY: u64 = 200;

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
}

struct Shared {
    world: World,
    seed: u64,
    mode: Mode,
    ops_left: AtomicU64,
    done: Mutex<Outcome>,
    spaces: AtomicUsize,
    files: Vec<(Arc<SimFile>, Arc<VnodeObject>)>,
    objects: Vec<(Ref<UvmObject>, Vec<Content>)>,
}

/// An address space, its model, and the turn-taking of those who change it.
struct Process {
    space: Arc<VmSpace>,
    model: Mutex<Model>,
    turn: executor::sync::Mutex<()>,
    programs: AtomicUsize,
}

/// Runs `ops` operations from `seed`.
///
/// # Panics
/// With the seed, when something is not as the model says.
pub fn run(seed: u64, ops: u64, mode: Mode) -> Outcome {
    let frames = match mode {
        Mode::Starved => 160,
        _ => 1024,
    };
    let torture_evict = mode == Mode::Torture;
    let world = World::with(
        &HostConfig {
            frames,
            torture_evict,
            ..HostConfig::default()
        },
        seed | 1,
    );
    let mut random = Random::new(seed);
    let delay = disk::Mode::After(Duration::from_micros(random.below(200) + 1));
    let disk = SimDisk::new(&world.uvm, 4 << 20, delay);
    let size = OBJECT_PAGES * PAGE_SIZE as u64;
    let files = [
        Layout::Contiguous(0),
        Layout::Holes(1 << 20),
        Layout::Blocks(2 << 20),
    ]
    .map(|layout| {
        let file = SimFile::new(&disk, layout);
        (file.clone(), world.file(file, size))
    })
    .into();
    if mode == Mode::Faulty {
        disk.spoil(10 * 4096, 12 * 4096);
        disk.spoil((2 << 20) + 5 * 4096, (2 << 20) + 5 * 4096 + 1);
    }
    let objects = (0..2)
        .map(|_| {
            let object = UvmObject::anonymous(&world.uvm, Pages(OBJECT_PAGES as usize))
                .expect("memory at the start");
            (
                object,
                (0..OBJECT_PAGES).map(|_| Content::object()).collect(),
            )
        })
        .collect();
    let shared = Arc::new(Shared {
        seed,
        mode,
        ops_left: AtomicU64::new(ops),
        done: Mutex::new(Outcome::default()),
        spaces: AtomicUsize::new(0),
        files,
        objects,
        world,
    });
    for _ in 0..2 {
        let space = shared.world.space();
        shared.start(space, Model::default(), &mut random);
    }
    let waiting = shared.clone();
    shared.world.run(async move {
        // A program that ran out of memory may leave a read behind.
        while waiting.spaces.load(Relaxed) > 0 || disk.pending() > 0 {
            waiting.world.executor.sleep(Duration::from_millis(1)).await;
        }
    });
    shared.world.check_quiet();
    let outcome = *shared.done.lock().expect("not poisoned");
    let Ok(Shared {
        world,
        files,
        objects,
        ..
    }) = Arc::try_unwrap(shared).map_err(drop)
    else {
        panic!("a program is left");
    };
    drop((files, objects));
    let report = world.check_quiet();
    assert_eq!(
        (report.anon, report.object, report.mappings),
        (0, 0, 0),
        "seed {seed}: {report:?}"
    );
    outcome
}

impl Shared {
    fn start(self: &Arc<Self>, space: Arc<VmSpace>, model: Model, random: &mut Random) {
        self.spaces.fetch_add(1, Relaxed);
        let programs = 1 + random.below(2) as usize;
        let process = Arc::new(Process {
            space,
            model: Mutex::new(model),
            turn: executor::sync::Mutex::new("mapping operations", ()),
            programs: AtomicUsize::new(programs),
        });
        for _ in 0..programs {
            let lwp = Lwp {
                program: self.world.program(&process.space),
                process: process.clone(),
                random: Random::new(random.draw()),
                shared: self.clone(),
            };
            self.world
                .executor
                .spawn(Class::User, "program", lwp.live());
        }
    }

    fn note(&self, f: impl FnOnce(&mut Outcome)) {
        f(&mut self.done.lock().expect("not poisoned"));
    }
}

struct Lwp {
    shared: Arc<Shared>,
    process: Arc<Process>,
    program: Program,
    random: Random,
}

impl Lwp {
    async fn live(mut self) {
        loop {
            let left = self.shared.ops_left.load(Relaxed);
            if left == 0 || (self.random.below(400) == 0 && self.shared.spaces.load(Relaxed) > 1) {
                break;
            }
            self.shared.ops_left.store(left - 1, Relaxed);
            self.operation().await;
            self.shared.note(|o| o.ops += 1);
            if left.is_multiple_of(CHECK_EVERY)
                && let Err(error) = self.shared.world.uvm.check()
            {
                panic!(
                    "seed {} mode {:?}: {error}",
                    self.shared.seed, self.shared.mode
                );
            }
        }
        self.process.space.deactivate();
        if self.process.programs.fetch_sub(1, Relaxed) == 1 {
            self.process.space.teardown().await;
            self.shared.spaces.fetch_sub(1, Relaxed);
        }
    }

    async fn operation(&mut self) {
        match self.random.below(100) {
            0..40 => self.load().await,
            40..75 => self.store().await,
            75..84 => self.map().await,
            84..89 => self.unmap().await,
            89..94 => self.protect().await,
            94..96 => self.inherit().await,
            96..98 => self.advise().await,
            _ => self.fork().await,
        }
    }

    fn page(&mut self) -> u64 {
        ARENA.start + self.random.below(ARENA.end - ARENA.start)
    }

    fn pages(&mut self, most: u64) -> core::ops::Range<u64> {
        let start = self.page();
        start..(start + 1 + self.random.below(most)).min(ARENA.end)
    }

    fn model<T>(&self, f: impl FnOnce(&mut Model) -> T) -> T {
        f(&mut self.process.model.lock().expect("not poisoned"))
    }

    fn fail(&self, what: core::fmt::Arguments<'_>) -> ! {
        panic!(
            "seed {} mode {:?}: {what}",
            self.shared.seed, self.shared.mode
        );
    }

    async fn load(&mut self) {
        let (page, sample) = (
            self.page(),
            self.random.below(SAMPLES.len() as u64) as usize,
        );
        let va = page * PAGE_SIZE as u64 + SAMPLES[sample] as u64;
        let result = self.program.load(va).await;
        // No await since the byte was loaded: the model is as of that instant.
        let verdict = self.model(|m| m.judge(page, sample, Prot::READ));
        self.judge(page, "load", &verdict, result.map(Some));
    }

    async fn store(&mut self) {
        let (page, sample) = (
            self.page(),
            self.random.below(SAMPLES.len() as u64) as usize,
        );
        let va = page * PAGE_SIZE as u64 + SAMPLES[sample] as u64;
        let byte = self.random.draw() as u8;
        if self.shared.mode == Mode::Starved {
            self.model(|m| m.may_copy(page));
        }
        let result = self.program.store(va, byte).await;
        let verdict = self.model(|m| m.judge(page, sample, Prot::RW));
        if result.is_ok() {
            self.model(|m| m.store(page, sample, byte));
        }
        self.judge(page, "store", &verdict, result.map(|()| None));
    }

    /// Compares what happened with what had to. `Ok(Some)` is a byte loaded.
    fn judge(
        &self,
        page: u64,
        what: &str,
        verdict: &Verdict,
        result: Result<Option<u8>, FaultError>,
    ) {
        match (verdict, result) {
            (_, Err(FaultError::OutOfMemory)) if self.shared.mode == Mode::Starved => {
                self.shared.note(|o| o.out_of_memory += 1);
            }
            (_, Err(FaultError::Io))
                if self.shared.mode == Mode::Faulty && self.model(|m| m.may_fail(page)) =>
            {
                self.shared.note(|o| o.io_errors += 1);
            }
            (Verdict::Open, Ok(_)) => self.shared.note(|o| o.accesses += 1),
            (Verdict::Open, Err(FaultError::NoMapping | FaultError::Protection)) => {}
            (Verdict::NoMapping, Err(FaultError::NoMapping)) => {}
            (Verdict::Protection, Err(FaultError::Protection)) => {}
            (Verdict::Succeeds(wanted), Ok(got))
                if wanted.is_none() || got.is_none() || *wanted == got =>
            {
                self.shared.note(|o| o.accesses += 1);
            }
            (verdict, result) => self.fail(format_args!(
                "{what} at page {page:#x}: {result:?}, expected {verdict:?}"
            )),
        }
    }

    async fn map(&mut self) {
        let process = self.process.clone();
        let _turn = process.turn.lock().await;
        let pages = self.pages(16);
        let count = pages.end - pages.start;
        let len = count as usize * PAGE_SIZE;
        let prot = self
            .random
            .pick(&[Prot::RW, Prot::RW, Prot::RW, Prot::READ]);
        let mut contents: Vec<Content> = (0..count).map(|_| Content::zeroes()).collect();
        let (mut inherit, mut from_file) = (Inherit::Copy, false);
        let request = match self.random.below(10) {
            0..4 => MapRequest::anonymous(len, prot),
            4..6 => {
                inherit = Inherit::Share;
                contents = (0..count).map(|_| Content::shared()).collect();
                MapRequest::anonymous(len, prot).shared()
            }
            6..8 if count <= OBJECT_PAGES => {
                let offset = self.random.below(OBJECT_PAGES - count + 1);
                let (file, object) = &self.shared.files[self.random.below(3) as usize];
                contents = (offset..offset + count)
                    .map(|i| Content::of_file(file, i))
                    .collect();
                from_file = true;
                MapRequest::object(object.object().clone(), PageIndex(offset), len, prot)
            }
            _ => {
                let offset = self.random.below(OBJECT_PAGES - count + 1);
                let (object, pages) = &self.shared.objects[self.random.below(2) as usize];
                inherit = Inherit::Share;
                contents = pages[offset as usize..(offset + count) as usize].to_vec();
                MapRequest::object(object.clone(), PageIndex(offset), len, prot).shared()
            }
        };
        let at = VirtAddr::new(pages.start * PAGE_SIZE as u64);
        let fixed = self.random.percent(60);
        let request = request.at(if fixed {
            Placement::Fixed(at)
        } else {
            Placement::Exclusive(at)
        });
        let occupied = self.model(|m| m.any(pages.clone()));
        match process.space.map(request) {
            Ok(va) => {
                if va != at || (!fixed && occupied) {
                    self.fail(format_args!(
                        "mapped {pages:x?} at {va:?} (occupied: {occupied})"
                    ));
                }
                self.model(|m| {
                    for (page, content) in pages.zip(contents) {
                        m.insert(
                            page,
                            ModelPage {
                                prot,
                                inherit,
                                content,
                                from_file,
                            },
                        );
                    }
                });
            }
            Err(VmError::Exists) if !fixed && occupied => {}
            Err(error) => self.out_of_memory(error),
        }
    }

    fn out_of_memory(&self, error: VmError) {
        if error != VmError::OutOfMemory || self.shared.mode != Mode::Starved {
            self.fail(format_args!("unexpected: {error}"));
        }
        self.shared.note(|o| o.out_of_memory += 1);
    }

    fn range(pages: &core::ops::Range<u64>) -> VaRange {
        let start = VirtAddr::new(pages.start * PAGE_SIZE as u64);
        VaRange::of_pages(start, (pages.end - pages.start) as usize)
    }

    async fn unmap(&mut self) {
        let process = self.process.clone();
        let _turn = process.turn.lock().await;
        let pages = self.pages(16);
        self.model(|m| m.begin(pages.clone()));
        let result = process.space.unmap(Self::range(&pages)).await;
        self.model(|m| {
            m.end(pages.clone());
            if result.is_ok() {
                m.remove(pages);
            }
        });
        if let Err(error) = result {
            self.out_of_memory(error);
        }
    }

    async fn protect(&mut self) {
        let process = self.process.clone();
        let _turn = process.turn.lock().await;
        let pages = self.pages(12);
        let prot = self
            .random
            .pick(&[Prot::empty(), Prot::READ, Prot::RW, Prot::RW]);
        let mapped = self.model(|m| m.all(pages.clone()));
        self.model(|m| m.begin(pages.clone()));
        let result = process.space.protect(Self::range(&pages), prot).await;
        self.model(|m| m.end(pages.clone()));
        match result {
            Ok(()) if mapped => self.model(|m| m.change(pages, |page| page.prot = prot)),
            Err(VmError::Unmapped) if !mapped => {}
            Err(error) if mapped => self.out_of_memory(error),
            other => self.fail(format_args!(
                "protect {pages:x?}: {other:?}, mapped: {mapped}"
            )),
        }
    }

    async fn inherit(&mut self) {
        let process = self.process.clone();
        let _turn = process.turn.lock().await;
        let pages = self.pages(12);
        let inherit =
            self.random
                .pick(&[Inherit::Share, Inherit::Copy, Inherit::None, Inherit::Zero]);
        let mapped = self.model(|m| m.all(pages.clone()));
        match process.space.inherit(Self::range(&pages), inherit).await {
            Ok(()) if mapped => self.model(|m| {
                m.change(pages.clone(), |page| page.inherit = inherit);
                if inherit == Inherit::Share {
                    m.share(pages);
                }
            }),
            Err(VmError::Unmapped) if !mapped => {}
            Err(error) if mapped => self.out_of_memory(error),
            other => self.fail(format_args!(
                "inherit {pages:x?}: {other:?}, mapped: {mapped}"
            )),
        }
    }

    async fn advise(&mut self) {
        let pages = self.pages(30);
        let advice = self
            .random
            .pick(&[Advice::Normal, Advice::Random, Advice::Sequential]);
        match self.process.space.advise(Self::range(&pages), advice).await {
            Ok(()) | Err(VmError::Unmapped) => {}
            Err(error) => self.out_of_memory(error),
        }
    }

    async fn fork(&mut self) {
        if self.shared.spaces.load(Relaxed) >= MAX_SPACES {
            return;
        }
        let process = self.process.clone();
        let _turn = process.turn.lock().await;
        self.model(Model::fork_begins);
        let result = process.space.fork().await;
        let child = self.model(Model::fork_ended);
        match result {
            Ok(space) => {
                self.shared.note(|o| o.forks += 1);
                self.shared.clone().start(space, child, &mut self.random);
            }
            Err(error) => self.out_of_memory(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seeds for each mode, and operations for each seed: a few seconds in all.
    const SEEDS: u64 = 12;
    const OPS: u64 = 4_000;

    fn seeds(mode: Mode) {
        let mut sum = Outcome::default();
        for seed in 0..SEEDS {
            let outcome = run(seed, OPS, mode);
            assert_eq!(outcome.ops, OPS);
            sum.accesses += outcome.accesses;
            sum.out_of_memory += outcome.out_of_memory;
            sum.io_errors += outcome.io_errors;
            sum.forks += outcome.forks;
        }
        assert!(sum.accesses > SEEDS * OPS / 5, "{mode:?}: {sum:?}");
        assert!(sum.forks > SEEDS, "{mode:?}: {sum:?}");
        assert_eq!(
            sum.out_of_memory > 0,
            mode == Mode::Starved,
            "{mode:?}: {sum:?}"
        );
        assert_eq!(sum.io_errors > 0, mode == Mode::Faulty, "{mode:?}: {sum:?}");
    }

    #[test]
    fn normal() {
        seeds(Mode::Normal);
    }

    #[test]
    fn torture() {
        seeds(Mode::Torture);
    }

    #[test]
    fn starved() {
        seeds(Mode::Starved);
    }

    #[test]
    fn faulty() {
        seeds(Mode::Faulty);
    }

    #[test]
    fn seeds_that_once_failed() {
        // Reads were under way when the last program had ended.
        for (seed, mode) in [(1094, Mode::Starved), (2045, Mode::Starved)] {
            run(seed, 5_000, mode);
        }
    }

    #[test]
    fn a_seed_replays() {
        assert_eq!(run(7, 2_000, Mode::Normal), run(7, 2_000, Mode::Normal));
    }
}
