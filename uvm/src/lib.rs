//! auvm's virtual memory system: NetBSD's UVM, as asynchronous code.
#![no_std]

extern crate alloc;
#[cfg(any(test, feature = "testing"))]
extern crate std;

// Lower half: what a machine has.
pub mod addr;
pub mod exec;
pub mod km;
pub mod machine;
pub mod meter;
pub mod page;
pub mod phys;
pub mod pmap;
pub mod pool;
pub mod prot;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod uarea;

// Upper half: what a program sees.
pub mod amap;
pub mod anon;
pub mod fault;
pub mod glue;
pub mod io;
pub mod map;
pub mod object;
pub mod pdaemon;
pub mod policy;
mod upper;

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::AtomicUsize;

pub use addr::{Frame, PAGE_SIZE, PageIndex, Pages, PhysAddr, PhysRange, VaRange, VirtAddr, Vpn};
pub use machine::{Config, CpuSet, Machine};
pub use page::freelist::{AllocFor, Zero};
pub use page::{Page, PageFlags};
pub use pmap::{EnterFlags, Mapping, Pmap};
pub use pool::OutOfMemory;
pub use prot::{Access, Prot};

pub use fault::FaultError;
pub use glue::VmSpace;
pub use io::{BlockDevice, IoError, PageIo};
pub use map::{Advice, Backing, Inherit, MapRequest, Placement, Sharing, VmError};
pub use object::UvmObject;
pub use object::vnode::VnodeObject;
pub use pdaemon::pagedaemon;

use exec::Executor;

/// One machine's virtual memory system. Everything hangs off it; there are no globals.
pub struct Uvm {
    machine: Arc<dyn Machine>,
    executor: Arc<Executor>,
    cpus: usize,
    torture_evict: bool,
    meter: meter::Meter,
    phys: phys::PhysMem,
    kernel_root: Frame,
    pages: page::PageArray,
    free: page::freelist::FreeList,
    queues: page::queues::Queues,
    kernel: pmap::kernel::KernelPmap,
    /// What each CPU has loaded.
    spaces: Box<[pmap::CpuSpace]>,
    /// Pmaps that have deferred flushes.
    flushes_pending: AtomicUsize,
    pmap_pool: pool::Pool<Pmap>,
    pv_pool: pool::Pool<pmap::pv::PvEntry>,
    uareas: uarea::Uareas,
    upper: upper::Upper,
}

impl Uvm {
    /// Takes the machine's memory over.
    ///
    /// # Safety
    /// `config` tells the truth: the RAM is mapped at the direct map's base, nothing else uses it, the kernel's
    /// root table is one, and all that stays so as long as the `Uvm` exists.
    ///
    /// # Panics
    /// If there is too little memory to begin with, or no CPU or too many.
    #[must_use]
    pub unsafe fn new(config: Config<'_>) -> Arc<Self> {
        let cpus = config.cpus;
        assert!((1..=machine::MAX_CPUS).contains(&cpus), "{cpus} CPUs");
        let phys = phys::PhysMem::new(config.direct_map_base);
        // SAFETY: the caller's promise about the RAM.
        let pages = unsafe { page::PageArray::new(&phys, config.ram) };
        let uvm = Arc::new(Self {
            free: page::freelist::FreeList::new(&pages, cpus),
            uareas: uarea::Uareas::new(config.kva, pages.managed()),
            queues: page::queues::Queues::new(cpus),
            upper: upper::Upper::new(cpus, config.executor.clone()),
            machine: config.machine,
            executor: config.executor,
            cpus,
            torture_evict: config.torture_evict,
            meter: meter::Meter::new(cpus),
            phys,
            kernel_root: Frame::containing(config.kernel_root),
            pages,
            kernel: pmap::kernel::KernelPmap::default(),
            spaces: (0..cpus).map(|_| pmap::CpuSpace::default()).collect(),
            flushes_pending: AtomicUsize::new(0),
            pmap_pool: pool::Pool::new("pmap", cpus),
            pv_pool: pool::Pool::new("pv", cpus),
        });
        if let Some(kva) = config.kva {
            uvm.prepare_kernel_range(kva)
                .expect("memory for the first kernel tables");
        }
        uvm
    }

    /// Number of the CPU that runs the caller.
    #[inline]
    #[must_use]
    pub fn cpu(&self) -> usize {
        // One CPU is common and need not ask.
        if self.cpus == 1 {
            0
        } else {
            self.machine.cpu()
        }
    }

    /// How many CPUs there are.
    #[must_use]
    pub fn cpus(&self) -> usize {
        self.cpus
    }

    /// The machine below.
    #[must_use]
    pub fn machine(&self) -> &Arc<dyn Machine> {
        &self.machine
    }

    /// The executor that runs the tasks that call in here.
    #[must_use]
    pub fn executor(&self) -> &Arc<Executor> {
        &self.executor
    }

    /// Whether the pagedaemon shall evict all the time.
    #[must_use]
    pub fn torture_evict(&self) -> bool {
        self.torture_evict
    }

    /// The counters.
    #[inline]
    #[must_use]
    pub fn meter(&self) -> &meter::Meter {
        &self.meter
    }

    /// The direct map.
    #[inline]
    #[must_use]
    pub fn phys(&self) -> &phys::PhysMem {
        &self.phys
    }

    /// Pages that pools and heap hold.
    #[must_use]
    pub fn slab_pages(&self) -> usize {
        (self.meter.get(meter::Counter::SlabAllocs) - self.meter.get(meter::Counter::SlabFrees))
            as usize
    }
}

impl Drop for Uvm {
    fn drop(&mut self) {
        // While everything is still there: what the CPUs had loaded goes back to its pool.
        for cpu in 0..self.cpus {
            self.forget_space(cpu);
        }
    }
}
