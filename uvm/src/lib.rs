//! auvm's virtual memory system: NetBSD's UVM, as asynchronous code.
//!
//! # Purpose
//! Everything between a page fault and a disk: which memory a program has ([`map`]), what stands
//! behind it ([`amap`], [`anon`], [`object`]), how it gets in ([`fault`]) and out again
//! ([`pdaemon`]), and below that the frames ([`page`]), page tables ([`pmap`]) and kernel memory
//! ([`pool`], [`km`], [`uarea`]). Wherever UVM puts a thread to sleep, a future is pending here;
//! nothing blocks. The crate knows page tables as data, disks as a trait ([`BlockDevice`]) and the
//! machine as another ([`Machine`]), so that all of it runs in host tests (see below).
//!
//! All state hangs off a [`Uvm`] value; there are no globals.
//!
//! # Reading order
//! 1. [`addr`], [`prot`], [`lock`]: the vocabulary. [`machine`], [`phys`]: what is below.
//! 2. [`page`], then [`page::freelist`] and [`page::queues`]: the frames, and who may have the last
//!    of them.
//! 3. [`pmap`], then [`pmap::pv`], [`pmap::page_ops`], `pmap::sweep`, [`pmap::flush`]: page tables, forwards and
//!    backwards.
//! 4. [`pool`] and [`km`]: where structures live. [`uarea`], [`meter`].
//! 5. [`map`], [`amap`], [`anon`], [`object`]: what a program's memory is made of.
//! 6. [`fault`]: where all of it meets. [`pdaemon`], [`policy`], [`swap`], [`io`]: the way out, and back. [`loan`]: pages
//!    that others read without a copy. [`glue`]: fork, exec, exit.
//! 7. [`uarea::Residence`], [`glue::swapout`], `pmap::away`: whole LWPs go out of memory, and come back.
//!
//! # Lock order
//! Spin locks, none of them ever held across an await:
//!
//! ```text
//! holder > map > amap > object > anon > pmap > page identity (pv) > kernel pmap > pool > page queues > free list > leaf
//! ```
//!
//! A lock is taken only while those to its left may be held, and builds with debug assertions panic, with the names of both, where
//! that is not so ([`lock`]). Within one level: two holders, maps, objects, pmaps, anons or identities are never held together; per-CPU locks
//! (magazines, batches) come before the global lock behind them, as levels of their own; [`amap::Amap`]'s copy is filled under
//! the lock of its source, when nobody else knows it yet. *Leaf* are all those under which nothing else is taken: limits and heap of a
//! space, the pages that it waited for lately, the list of spaces, what a CPU has loaded, u-areas, I/O slots.
//!
//! *Busy* is no lock: a busy page is waited for by awaiting, with nothing held ([`page::PageArray::busy_wait`]); so is a map's busy
//! token, which comes before its lock. Debug builds assert at each of these waits that nothing is held. The pagedaemon,
//! which starts from a page, goes from right to left: it gets its owner by [`page::Page::owner_ref`] and then only tries to lock,
//! skipping the page on failure. TLBs are flushed with nothing later than a pmap locked.
//!
//! # Page operations
//! What each operation on a page needs (Owner: the lock of its anon or object. Busy: the page is
//! busy, and by the caller) and whether it may await:
//!
//! | operation | needs | takes inside | awaits |
//! |---|---|---|---|
//! | [`Uvm::alloc_frame`] | nothing | free list | never: `None` |
//! | [`Uvm::free_frame`] | Owner, no mapping, [`Pmap::update`] done | page queues, free list | never |
//! | [`page::Page::set_owner`], [`clear_owner`](page::Page::clear_owner) | Owner | identity | never |
//! | [`page::Page::set_busy`], [`Uvm::unbusy`] | Owner | | never |
//! | [`page::PageArray::busy_wait`] | no lock, no busy page | | until it is not busy |
//! | [`Uvm::activate`], [`deactivate`](Uvm::deactivate), [`unwire_page`](Uvm::unwire_page) | Owner | page queues, now and then | never |
//! | [`Uvm::wire_page`] | Owner | page queues, now and then | never: `OutOfMemory` when it is wired 65,535 times |
//! | [`Pmap::enter`] | Owner, not busy for others | pmap, identity, pool | never: `OutOfMemory` |
//! | [`Pmap::remove`], [`protect`](Pmap::protect) | map (its range cannot change) | pmap, identity | never |
//! | [`Uvm::page_protect`], [`remove_unwired`](Uvm::remove_unwired), [`clear_modified`](Uvm::clear_modified), [`is_modified`](Uvm::is_modified), [`is_referenced`](Uvm::is_referenced) | Owner | identity | never |
//! | to lend it ([`loan`]) | Owner, not busy, not wired; or a loan of it | identity | never |
//! | to break a loan | Owner, not busy | identity, free list | never: `OutOfMemory` |
//! | to give a loan back | nothing | free list | never |
//! | page-in, page-out | Busy; no lock | | until the device is done |
//! | [`Uvm::bytes`] | Busy, or Owner | | never |
//! | [`Uvm::wait_for_free`] | no lock, no busy page (rule 9) | | until there are frames |
//!
//! # Operation against operation
//! What each takes, in order, and what it holds while it awaits:
//!
//! | | operation | locks | while it awaits |
//! |---|---|---|---|
//! | **F** | fault ([`fault`]) | map (read), amap, object, anon, pmap | a hold on the page it waits for |
//! | **W** | wire, unwire | map (write) for the entries; then, a page at a time, as a fault, and the wire count under the owner's lock | the map's busy token, holds |
//! | **U** | unmap, replace, tear down | map (write) with pmap in it; then, unlocked, amap | the busy token |
//! | **P** | protect, inherit, advise | map (write) with pmap in it; protect that allows writes then, as a fault, map (read), amap, pmap, and tries the anon | the busy token, before it locks |
//! | **K** | fork | for each entry: map (write), amap (a copy: source and new target, anon), pmap; then the child's map | the busy token |
//! | **T** | extract, mremap | each mapping as fork does, or for a move map (write) with pmap in it; then, unlocked, the target's map (write) with pmap in it | the source's busy token |
//! | **I** | page-in: a pager puts busy pages in | object | nothing but the frame that nobody has yet |
//! | **C** | page-in's completion | object | never awaits |
//! | **E** | eviction | the owner's, tried; identity | for page-out: pages that it has made BUSY, with a reference to each one's owner |
//! | **O** | page-out to swap, page-in from there ([`swap`]) | the owner's, at its start and its end | the same |
//! | **L** | loan, to the kernel or to a process | as a fault by reading; the hold and the mark under the owner's lock | holds |
//! | **X** | loan break: a write to a page on loan | as a fault by writing; the owner gets another frame under its lock | nothing |
//! | **Z** | [`check`] | every one, one at a time | never awaits |
//!
//! What serialises two of them on the same entry or page. *M*: the map's lock. *B*: the map's busy token. *O*: the lock of the page's owner
//! (and for an anon that of the amap that shows it). *Y*: the page is BUSY. *H*: a hold on the page. *D*: identity lock and atomic
//! table entry. A dash: nothing, and nothing need be, see below.
//!
//! | | F | W | U | P | K | I | C | E | L | X |
//! |---|---|---|---|---|---|---|---|---|---|---|
//! | **F** | O¹ | O² | M | M O¹ | M | O Y | Y | O | O | O |
//! | **W** | | B | B | B | B | O Y | Y | O H³ | O⁴ | O⁴ |
//! | **U** | | | B | B | B | –⁵ | –⁵ | D⁶ | M H⁷ | M |
//! | **P** | | | | B | B | –⁵ | –⁵ | D⁸ | D⁸ | M O⁸ |
//! | **K** | | | | | B | –⁵ | –⁵ | D | O⁹ | O⁹ |
//! | **I** | | | | | | O Y | O | O Y | Y | O |
//! | **C** | | | | | | | O¹⁰ | O Y | Y | Y |
//! | **E** | | | | | | | | –¹¹ | O H | O H |
//! | **L** | | | | | | | | | O | O |
//! | **X** | | | | | | | | | | O |
//!
//! 1. Two faults in one map read it at the same time. Of two on one page the second finds what the first has entered, or waits for the
//!    same BUSY page: one read, one copy.
//! 2. A fault may come while some pages of an entry that counts as wired are not there yet: that they are is promised when
//!    `mlock` returns. What the fault brings is what the wiring will find.
//! 3. From the page-in to the wire count the page is held; after it the count itself tells the pagedaemon to leave it.
//! 4. A wired page is never on loan: a loan of it is a copy, and wiring breaks a loan first. Both look under the owner's lock.
//! 5. A request owns its pages by references to the object. Maps may come and go; what is read arrives in the object all the same.
//! 6. Who swaps the table entry to nothing does the accounts of it, the other finds nothing. An anon whose last reference goes is not
//!    found through its page any more ([`page::Page::owner_ref`] under the identity lock). Who finds no mapping left while a flush is
//!    outstanding on another CPU flushes everything.
//! 7. The page is found, and held, under the map's lock. After an unmap it has lost its owner, and the last to let go frees the frame.
//! 8. Both only take rights away, each flushes what it took. A write that protect allows is a fault that nobody had to wait for (**F**): under
//!    the owner's lock, and only in place of the translation that it has looked at.
//! 9. An anon's count rises only under the lock of an amap that shows it, so that a write that sees 1 there is alone. Fork write-protects
//!    and marks "needs copy" in one hold of the map's lock: no write falls in between.
//! 10. One request for each page, because it is BUSY: two completions meet in the object, not at a page.
//! 11. There is one pagedaemon. Who evicts on request, from an object ([`object::UvmObject::evict_unused`]), has the owner locked, which
//!     the pagedaemon tries.
//!
//! **O** stands in no row either: towards the others it is a page that is BUSY, from **E** or **I** to **C**, and what refers to its owner keeps
//! frame and slot until then, whoever else lets go. An anon that it refers to seems to be shown once more: a write to it makes a copy that was
//! not needed. Nobody can refer to an *amap* so, whose references are counted as entries.
//!
//! **T** stands in no row of its own: in its source it is a **K**, or a **U** if it moves, and in its target a **U** that needs no token
//! there, as making a mapping does not.
//!
//! **Tables put away** ([`VmSpace::put_tables_away`]): towards the others a **U** that needs no busy token, since it leaves the entries as they are. Who maps
//! something meanwhile keeps the tables.
//!
//! **u-areas** meet none of these: nobody but their owner has them, and whether that one does is told by [`uarea::Residence`].
//!
//! Within a row that names several, all are needed. Different address spaces meet at amaps, objects and anons alone; no operation
//! ever has two maps locked or two busy tokens. Check (**Z**) is serialised with nothing: what it reads one by one fits together only
//! between two polls of a single CPU, while nothing else runs.
//!
//! # Host tests
//! The feature `testing` adds `testing`: a machine with RAM and software TLBs that walks the same
//! page tables.
#![no_std]

extern crate alloc;
#[cfg(any(test, feature = "testing"))]
extern crate std;

// Lower half: what a machine has.
pub mod addr;
pub mod km;
pub mod lock;
pub mod machine;
pub mod meter;
pub mod page;
mod percpu;
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
pub mod check;
pub mod fault;
pub mod glue;
pub mod io;
pub mod loan;
pub mod map;
pub mod object;
pub mod pdaemon;
pub mod policy;
#[cfg(any(test, feature = "testing"))]
pub mod sim;
pub mod swap;
mod upper;

use alloc::sync::Arc;
use core::sync::atomic::AtomicUsize;

pub use addr::{Frame, PAGE_SIZE, PageIndex, Pages, PhysAddr, PhysRange, VaRange, VirtAddr, Vpn};
pub use machine::{Config, CpuSet, Machine};
pub use page::freelist::{AllocFor, Zero};
pub use page::{Page, PageFlags};
pub use pmap::{EnterFlags, Mapping, Pmap, TablesStay};
pub use pool::OutOfMemory;
pub use prot::{Access, Prot};

pub use fault::FaultError;
pub use loan::{KernelLoan, LoanError};

pub use io::{BlockDevice, IoError, PageIo};
pub use map::{Advice, Backing, Inherit, MapRequest, Placement, Sharing, Sync, VmError, VmSpace};
pub use object::UvmObject;
pub use object::vnode::VnodeObject;
pub use pdaemon::demand::Patience;
pub use pdaemon::lwps::{Looked, LwpSwapper, Need};
pub use pdaemon::pagedaemon;
pub use pdaemon::victim::{Gain, Killer, Shortage};
pub use swap::discard::{Pace, discard_worker};
pub use swap::pageout::{WORKERS, pageout_worker};
pub use swap::{Discarding, SwapDevice, SwapError};
pub use upper::PoolUse;

use executor::Executor;

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
    spaces: percpu::PerCpu<pmap::CpuSpace>,
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
    /// `config` tells the truth: the RAM is mapped at the direct map's base, nothing else uses it,
    /// the kernel's root table is one, and all that stays so as long as the `Uvm` exists.
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
            upper: upper::Upper::new(cpus, pages.managed(), config.executor.clone()),
            machine: config.machine,
            executor: config.executor,
            cpus,
            torture_evict: config.torture_evict,
            meter: meter::Meter::new(cpus),
            phys,
            kernel_root: Frame::containing(config.kernel_root),
            pages,
            kernel: pmap::kernel::KernelPmap::default(),
            spaces: percpu::PerCpu::new(cpus, pmap::CpuSpace::default),
            flushes_pending: AtomicUsize::new(0),
            pmap_pool: pool::Pool::new("pmap", cpus),
            pv_pool: pool::Pool::new("pv", cpus),
        });
        if let Some(kva) = config.kva {
            uvm.prepare_kernel_range(kva)
                .expect("memory for the first kernel tables");
        }
        uvm.set_targets();
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
