//! What uvm needs from the machine below it, and how one is described to [`crate::Uvm::new`].
//!
//! Page tables, pages and page contents are memory, reached through the direct map, so they need
//! nothing from here. What remains is small: which CPU this is, what time it is, and TLBs. The
//! kernel implements [`Machine`] with `invlpg` and `mov cr3`; `uvm::testing` with software TLBs.

use alloc::sync::Arc;

use executor::Executor;

use crate::addr::{Frame, PhysAddr, PhysRange, VaRange, VirtAddr};

/// Most CPUs that a machine may have: the width of [`CpuSet`].
pub const MAX_CPUS: usize = 64;

/// A set of CPUs, by their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuSet(pub u64);

impl CpuSet {
    /// No CPU.
    pub const NONE: Self = Self(0);

    /// CPUs 0 to `n - 1`.
    #[must_use]
    pub const fn first(n: usize) -> Self {
        if n >= MAX_CPUS {
            Self(u64::MAX)
        } else {
            Self((1 << n) - 1)
        }
    }

    /// Whether there is none in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `cpu` is in it.
    #[must_use]
    pub const fn contains(self, cpu: usize) -> bool {
        self.0 >> cpu & 1 != 0
    }

    /// The CPUs in it, in order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..MAX_CPUS).filter(move |&cpu| self.contains(cpu))
    }
}

/// The machine below. All calls come from tasks, never from interrupt handlers.
pub trait Machine: Send + Sync + 'static {
    /// Number of the CPU that runs the caller, below [`Config::cpus`].
    fn cpu(&self) -> usize;

    /// Monotonic time in nanoseconds.
    fn now(&self) -> u64;

    /// Makes each CPU of `cpus` forget its translations of `pages` (page-aligned). `space` is the
    /// root table that they belong to, `None` for kernel addresses. A CPU that does not have that
    /// root loaded any more need do nothing: user translations are never global, so that loading
    /// another root dropped them. On return no CPU uses an old translation.
    fn invalidate(&self, cpus: CpuSet, space: Option<Frame>, pages: &[VirtAddr]);

    /// The same for every user translation (`space` is some root table), or for every
    /// translation, kernel ones too (`None`).
    fn invalidate_all(&self, cpus: CpuSet, space: Option<Frame>);

    /// Loads the root table at `root` (cr3) on this CPU, which drops its user translations.
    fn load_root(&self, root: PhysAddr);

    /// A u-area at these kernel addresses was made and wired; one that comes from the cache is not told again. For a machine that has
    /// to prepare such memory, say to keep it in its caches: after `PMAP_UAREA`. No lock is held. Nothing, unless it says otherwise.
    fn uarea_wired(&self, pages: VaRange) {
        let _ = pages;
    }
}

/// Everything that [`crate::Uvm::new`] must be told.
pub struct Config<'a> {
    /// Physical address 0 in the direct map (on the host: where the simulated RAM begins).
    pub direct_map_base: VirtAddr,
    /// RAM that uvm shall manage: nothing else uses it, all of it lies in the direct map. At most
    /// [`crate::page::MAX_RANGES`] ranges. Frame 0 is ignored.
    pub ram: &'a [PhysRange],
    /// The kernel's root table. Its upper half is copied into each new user root, so every entry
    /// there that will ever be needed must be present by now; uvm itself adds those that `kva` lies
    /// in.
    pub kernel_root: PhysAddr,
    /// Kernel addresses that uvm may map as it likes, for u-areas. `None` where nothing translates
    /// kernel addresses (host): u-areas are then contiguous frames in the direct map.
    pub kva: Option<VaRange>,
    /// Number of CPUs, 1 to [`MAX_CPUS`].
    pub cpus: usize,
    /// The machine.
    pub machine: Arc<dyn Machine>,
    /// The executor that runs the tasks that call uvm.
    pub executor: Arc<Executor>,
    /// `torture=evict`: the pagedaemon takes every page that it may, always.
    pub torture_evict: bool,
}
