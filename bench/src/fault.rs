//! `bench fault`: what each case of the fault routine costs, called as a trap calls it.
//!
//! Every case makes an address space of its own, touches pages one by one and takes it down again. A sample spans one call of
//! `VmSpace::fault`, from the call to the translation being in the page table; what the clock itself costs is measured first and taken
//! off. While a case runs, its task does not wait (but for pages from disk), so nothing else runs beside it on this CPU.

use crate::report::{Case, Figure};
use crate::samples::{NoRoom, Samples};
use alloc::sync::Arc;
use alloc::vec;
use executor::Executor;
use uvm::fault::FaultError;
use uvm::glue::VmSpace;
use uvm::map::{MapRequest, VmError};
use uvm::meter::{Counter, Uvmexp};
use uvm::object::vnode::VnodeObject;
use uvm::{Access, PAGE_SIZE, PageIndex, Prot, Uvm, VirtAddr};

/// Pages touched per case unless there is less memory.
pub const PAGES: usize = 1024;

/// What the cases run on.
#[derive(Clone)]
pub struct Env {
    /// The memory system.
    pub uvm: Arc<Uvm>,
    /// Its clock.
    pub executor: Arc<Executor>,
    /// A file on disk, for the cases with files.
    pub file: Arc<VnodeObject>,
}

/// Why a case could not be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BenchError {
    /// No memory for the samples or the pages.
    #[error("not enough free memory; give the machine more with --memory")]
    NoRoom,
    /// An address space could not be set up.
    #[error("{0}")]
    Vm(#[from] VmError),
    /// A fault failed.
    #[error("a fault failed: {0}")]
    Fault(#[from] FaultError),
    /// The file is too small.
    #[error("the file has fewer than {0} pages")]
    SmallFile(usize),
}

impl From<NoRoom> for BenchError {
    fn from(_: NoRoom) -> Self {
        Self::NoRoom
    }
}

/// A case's name and what one sample of it spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// First write to anonymous memory, a zeroed frame at hand.
    FirstTouchZeroed,
    /// The same with no zeroed frame: the fault zeroes one.
    FirstTouchUnzeroed,
    /// First read of anonymous memory.
    ReadUnwritten,
    /// Write to a page shared with a forked child.
    CopyOnWrite,
    /// Read of a mapped file's page that is in memory.
    FileResident,
    /// Read of a mapped file's page that is not.
    FileFromDisk,
}

impl Kind {
    /// All cases, in the order in which they run.
    pub const ALL: [Self; 6] = [
        Self::FirstTouchZeroed,
        Self::FirstTouchUnzeroed,
        Self::ReadUnwritten,
        Self::CopyOnWrite,
        Self::FileFromDisk,
        Self::FileResident,
    ];

    /// As the command line has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FirstTouchZeroed => "first-touch-zeroed",
            Self::FirstTouchUnzeroed => "first-touch-unzeroed",
            Self::ReadUnwritten => "read-unwritten",
            Self::CopyOnWrite => "copy-on-write",
            Self::FileResident => "file-resident",
            Self::FileFromDisk => "file-from-disk",
        }
    }

    /// The case of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    const fn what(self) -> &'static str {
        match self {
            Self::FirstTouchZeroed => "first write to anonymous memory, a zeroed frame ready",
            Self::FirstTouchUnzeroed => "first write to anonymous memory, the fault zeroes the frame",
            Self::ReadUnwritten => "read of never-written anonymous memory",
            Self::CopyOnWrite => "write to a page shared with a forked child",
            Self::FileResident => "read of a mapped file's page, resident, no neighbour mapped",
            Self::FileFromDisk => "read of a mapped file's page, read from the disk alone",
        }
    }
}

/// Measures one case. Awaits what its faults await; `yield`s to nobody in between.
///
/// # Errors
/// [`BenchError`]; the memory of the case is given back in any case.
pub async fn measure(env: &Env, kind: Kind) -> Result<Case, BenchError> {
    let mut run = Run::new(env)?;
    let before = env.uvm.uvmexp();
    let result = match kind {
        Kind::FirstTouchZeroed => first_touch_zeroed(&mut run).await,
        Kind::FirstTouchUnzeroed => first_touch_unzeroed(&mut run).await,
        Kind::ReadUnwritten => read_unwritten(&mut run).await,
        Kind::CopyOnWrite => copy_on_write(&mut run).await,
        Kind::FileResident => file_resident(&mut run).await,
        Kind::FileFromDisk => file_from_disk(&mut run).await,
    };
    result?;
    let counted = run.counted.unwrap_or_else(|| Counted::between(&before, &env.uvm.uvmexp()));
    Ok(Case {
        name: kind.name(),
        what: kind.what(),
        kernel: run.kernel,
        device: run.device,
        figures: counted.figures(),
    })
}

/// Growth of the counters that say whether a fault did what it must not.
#[derive(Debug, Clone, Copy)]
struct Counted([u64; COUNTERS.len()]);

/// What is counted over a case, and its key in the output.
const COUNTERS: [(Counter, &str); 6] = [
    (Counter::Faults, "faults"),
    (Counter::HeapAllocs, "heap_allocations"),
    (Counter::FreelistLocks, "free_list_locks"),
    (Counter::QueueLocks, "page_queue_locks"),
    (Counter::PoolLocks, "pool_locks"),
    (Counter::TlbFlush, "tlb_flushes"),
];

impl Counted {
    fn between(before: &Uvmexp, after: &Uvmexp) -> Self {
        Self(COUNTERS.map(|(counter, _)| after.get(counter) - before.get(counter)))
    }

    fn figures(self) -> alloc::vec::Vec<Figure> {
        let names = COUNTERS.iter().map(|&(_, name)| name);
        names.zip(self.0).map(|(name, value)| Figure { name, value }).collect()
    }
}

/// A case under way.
struct Run<'a> {
    env: &'a Env,
    kernel: Samples,
    device: Samples,
    /// What reading the clock twice costs, in nanoseconds.
    clock: u64,
    counted: Option<Counted>,
}

impl<'a> Run<'a> {
    fn new(env: &'a Env) -> Result<Self, BenchError> {
        let pair = || {
            let start = env.executor.now();
            env.executor.now() - start
        };
        Ok(Self {
            env,
            kernel: Samples::with_capacity(PAGES)?,
            device: Samples::with_capacity(PAGES)?,
            clock: (0..32).map(|_| pair()).min().unwrap_or(0),
            counted: None,
        })
    }

    /// Faults `pages` pages from `base` on, one sample each.
    async fn touch(&mut self, space: &Arc<VmSpace>, base: VirtAddr, pages: usize, access: Access) -> Result<(), BenchError> {
        let before = self.env.uvm.uvmexp();
        for page in 0..pages {
            let va = base + (page * PAGE_SIZE) as u64;
            let start = self.env.executor.now();
            space.fault(va, access).await?;
            let took = self.env.executor.now() - start;
            self.kernel.push(took.saturating_sub(self.clock));
        }
        self.counted = Some(Counted::between(&before, &self.env.uvm.uvmexp()));
        Ok(())
    }
}

/// An address space with one mapping of `pages` pages, taken down by [`Space::end`].
struct Space {
    space: Arc<VmSpace>,
    base: VirtAddr,
}

impl Space {
    fn new(env: &Env, request: MapRequest) -> Result<Self, BenchError> {
        let space = VmSpace::new(&env.uvm)?;
        let base = space.map(request)?;
        Ok(Self { space, base })
    }

    fn anonymous(env: &Env, pages: usize) -> Result<Self, BenchError> {
        Self::new(env, MapRequest::anonymous(pages * PAGE_SIZE, Prot::RW))
    }

    async fn end(self) {
        self.space.teardown().await;
    }
}

/// How many pages a case may touch: a quarter of what is free at most, so that the pagedaemon stays asleep.
fn pages(env: &Env) -> Result<usize, BenchError> {
    match PAGES.min(env.uvm.free_frames() / 4) {
        0..16 => Err(BenchError::NoRoom),
        pages => Ok(pages),
    }
}

async fn first_touch_zeroed(run: &mut Run<'_>) -> Result<(), BenchError> {
    let pages = pages(run.env)?;
    // The idle task zeroes free frames whenever nothing else runs: let it.
    while run.env.uvm.free_counts().zeroed < pages {
        run.env.executor.sleep(core::time::Duration::from_millis(1)).await;
    }
    let space = Space::anonymous(run.env, pages)?;
    let result = run.touch(&space.space, space.base, pages, Access::Write).await;
    space.end().await;
    result
}

async fn first_touch_unzeroed(run: &mut Run<'_>) -> Result<(), BenchError> {
    let pages = pages(run.env)?;
    // Use all zeroed frames up: whatever is freed again is not zero, and no idle moment comes before the samples are taken.
    let mut spaces = vec![];
    while run.env.uvm.free_counts().zeroed > 0 && run.env.uvm.free_frames() > 4 * pages {
        let space = Space::anonymous(run.env, pages)?;
        for page in 0..pages {
            space.space.fault(space.base + (page * PAGE_SIZE) as u64, Access::Write).await?;
        }
        spaces.push(space);
    }
    for space in spaces {
        space.end().await;
    }
    let space = Space::anonymous(run.env, pages)?;
    let result = run.touch(&space.space, space.base, pages, Access::Write).await;
    space.end().await;
    result
}

async fn read_unwritten(run: &mut Run<'_>) -> Result<(), BenchError> {
    let pages = pages(run.env)?;
    let space = Space::anonymous(run.env, pages)?;
    let result = run.touch(&space.space, space.base, pages, Access::Read).await;
    space.end().await;
    result
}

async fn copy_on_write(run: &mut Run<'_>) -> Result<(), BenchError> {
    let pages = pages(run.env)?;
    let parent = Space::anonymous(run.env, pages)?;
    for page in 0..pages {
        parent.space.fault(parent.base + (page * PAGE_SIZE) as u64, Access::Write).await?;
    }
    let result = match parent.space.fork().await {
        Ok(child) => {
            let result = run.touch(&parent.space, parent.base, pages, Access::Write).await;
            child.teardown().await;
            result
        }
        Err(error) => Err(error.into()),
    };
    parent.end().await;
    result
}

/// A mapping of the file that maps no neighbours, so that each page faults.
fn file(env: &Env, pages: usize) -> Result<Space, BenchError> {
    if env.file.size() < (pages * PAGE_SIZE) as u64 {
        return Err(BenchError::SmallFile(pages));
    }
    let mut request = MapRequest::object(env.file.object().clone(), PageIndex(0), pages * PAGE_SIZE, Prot::READ);
    request.advice = uvm::map::Advice::Random;
    Space::new(env, request)
}

async fn file_resident(run: &mut Run<'_>) -> Result<(), BenchError> {
    let pages = pages(run.env)?.min(FILE_PAGES);
    for page in 0..pages {
        env_page(run.env, page).await?;
    }
    let space = file(run.env, pages)?;
    let result = run.touch(&space.space, space.base, pages, Access::Read).await;
    space.end().await;
    result
}

async fn file_from_disk(run: &mut Run<'_>) -> Result<(), BenchError> {
    let pages = pages(run.env)?.min(FILE_PAGES);
    run.env.file.object().evict_clean(&run.env.uvm);
    let space = file(run.env, pages)?;
    let result = touch_disk(run, &space, pages).await;
    space.end().await;
    result
}
