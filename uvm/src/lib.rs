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

use alloc::sync::Arc;

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
    pages: page::PageArray,
    free: page::freelist::FreeList,
    queues: page::queues::Queues,
    pv_pool: pool::Pool<pmap::pv::PvEntry>,
    upper: upper::Upper,
}

impl Uvm {
    /// Takes the machine's memory over.
    ///
    /// # Safety
    /// `config` tells the truth: the RAM is mapped at the direct map's base, nothing else uses it, and it
    /// stays so as long as the `Uvm` exists.
    pub unsafe fn new(config: Config<'_>) -> Arc<Self> {
        todo!()
    }

    /// Number of the CPU that runs the caller.
    #[inline]
    #[must_use]
    pub fn cpu(&self) -> usize {
        // One CPU is common and need not ask.
        if self.cpus == 1 { 0 } else { self.machine.cpu() }
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
        todo!()
    }
}
