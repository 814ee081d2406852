//! A machine on the host, for tests: RAM, and CPUs with software TLBs.
//!
//! The MMU here walks the very tables that [`crate::pmap`] writes, honours rights, sets accessed
//! and dirty bits, and *caches translations per CPU*, for as long as nothing flushes them: a
//! missing flush shows as an access that should have faulted, or as bytes of a frame that is
//! someone else's by now. Memory starts full of garbage.
//!
//! One thread plays all CPUs in turn ([`on_cpu`]), or several threads one each.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::sync::Mutex;
use std::thread_local;

use executor::Executor;

use crate::addr::{Frame, PAGE_SIZE, PhysAddr, PhysRange, VaRange, VirtAddr};
use crate::machine::{Config, CpuSet, Machine};
use crate::phys::PhysMem;
use crate::pmap::walk::Pte;
use crate::prot::Access;
use crate::{Uvm, phys};

mod audit;
mod tlb;

pub use audit::{Stale, Why};
use tlb::{Cached, Tlb};

/// Where kernel addresses for u-areas begin.
pub const KVA: VirtAddr = VirtAddr::new(0xffff_c000_0000_0000);

/// What fresh RAM is full of.
pub const GARBAGE: u8 = 0xa5;

thread_local! {
    static CPU: Cell<usize> = const { Cell::new(0) };
}

/// Makes the calling thread play CPU `cpu` from now on (0 at first).
pub fn on_cpu(cpu: usize) {
    CPU.set(cpu);
}

/// How a [`Host`] is made.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Frames that uvm manages, a little less than that being usable.
    pub frames: usize,
    /// A hole of so many frames in the middle of them.
    pub hole: usize,
    /// Number of CPUs.
    pub cpus: usize,
    /// As [`Config::torture_evict`].
    pub torture_evict: bool,
    /// Translations that a CPU caches at most; which of them makes room for a new one, `seed` decides.
    pub tlb: usize,
    /// See `tlb`.
    pub seed: u64,
    /// Pages of kernel addresses for u-areas, at [`KVA`]. None: these lie in the direct map.
    pub kva_pages: usize,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            frames: 1024,
            hole: 0,
            cpus: 1,
            torture_evict: false,
            tlb: usize::MAX,
            seed: 0,
            kva_pages: 0,
        }
    }
}

/// A simulated machine and the `Uvm` that manages it.
pub struct Host {
    /// The virtual memory system under test.
    pub uvm: Arc<Uvm>,
    /// The machine below it.
    pub machine: Arc<HostMachine>,
}

impl Host {
    /// A machine of one CPU with so many frames.
    #[must_use]
    pub fn new(frames: usize) -> Self {
        Self::with(&HostConfig {
            frames,
            ..HostConfig::default()
        })
    }

    /// A machine as described, with an executor of its own.
    #[must_use]
    pub fn with(config: &HostConfig) -> Self {
        Self::with_executor(config, executor::testing::Driver::new().executor().clone())
    }

    /// A machine as described, under a given executor.
    #[must_use]
    pub fn with_executor(config: &HostConfig, executor: Arc<Executor>) -> Self {
        on_cpu(0);
        let machine = Arc::new(HostMachine::new(config, executor.clone()));
        let page = |n: usize| PhysAddr::new((n * PAGE_SIZE) as u64);
        let (half, end) = (
            FIRST + config.frames / 2,
            FIRST + config.frames + config.hole,
        );
        let ram = [
            PhysRange {
                start: page(FIRST),
                end: page(half),
            },
            PhysRange {
                start: page(half + config.hole),
                end: page(end),
            },
        ];
        let whole = [PhysRange {
            start: page(FIRST),
            end: page(end),
        }];
        // SAFETY: the machine owns that RAM, uses none of it itself, and lives as long as the
        // `Uvm`.
        let uvm = unsafe {
            Uvm::new(Config {
                direct_map_base: VirtAddr::from_ptr(machine.ram.start.as_ptr()),
                ram: if config.hole > 0 { &ram } else { &whole },
                kernel_root: page(KERNEL_ROOT),
                kva: (config.kva_pages > 0).then(|| VaRange::of_pages(KVA, config.kva_pages)),
                cpus: config.cpus,
                machine: machine.clone(),
                executor,
                torture_evict: config.torture_evict,
            })
        };
        Self { uvm, machine }
    }
}

/// Frame of the kernel's root table.
const KERNEL_ROOT: usize = 1;
/// First frame that uvm manages.
const FIRST: usize = 2;
/// Pages of the [`HostMachine`]'s device.
pub const DEVICE_PAGES: usize = 24;

/// RAM and CPUs.
pub struct HostMachine {
    ram: Ram,
    phys: PhysMem,
    device: PhysAddr,
    cpus: Vec<Mutex<Cpu>>,
    executor: Arc<Executor>,
    /// What [`Machine::uarea_wired`] was told.
    uareas: Mutex<Vec<VaRange>>,
}

struct Ram {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: an allocation with one owner.
unsafe impl Send for Ram {}
// SAFETY: the owner gives out only its address.
unsafe impl Sync for Ram {}

impl Ram {
    fn new(frames: usize) -> Self {
        let layout = Layout::from_size_align(frames * PAGE_SIZE, PAGE_SIZE).expect("size of RAM");
        // SAFETY: the layout is not empty; the bytes are written before anyone reads them.
        unsafe {
            let Some(start) = NonNull::new(alloc(layout)) else {
                handle_alloc_error(layout)
            };
            start.write_bytes(GARBAGE, layout.size());
            Self { start, layout }
        }
    }
}

impl Drop for Ram {
    fn drop(&mut self) {
        // SAFETY: allocated so in `new`.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// One CPU: a root table and a TLB, by page number.
struct Cpu {
    root: PhysAddr,
    tlb: Tlb,
}

/// An access was refused, as the hardware would do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFault {
    /// The address.
    pub va: VirtAddr,
    /// What was tried.
    pub access: Access,
    /// Whether there was a translation, without the right.
    pub present: bool,
}

impl HostMachine {
    fn new(config: &HostConfig, executor: Arc<Executor>) -> Self {
        let end = FIRST + config.frames + config.hole;
        let ram = Ram::new(end + DEVICE_PAGES);
        let phys = PhysMem::new(VirtAddr::from_ptr(ram.start.as_ptr()));
        let root = Frame::new(KERNEL_ROOT as u32);
        // SAFETY: a frame of the RAM that is ours alone as yet.
        unsafe { phys.bytes(root) }.zero();
        let cpu = |n: usize| {
            Mutex::new(Cpu {
                root: root.addr(),
                tlb: Tlb::new(config.tlb, config.seed.wrapping_add(n as u64)),
            })
        };
        Self {
            ram,
            phys,
            device: PhysAddr::new((end * PAGE_SIZE) as u64),
            cpus: (0..config.cpus).map(cpu).collect(),
            executor,
            uareas: Mutex::default(),
        }
    }

    /// Where the memory of a device begins, [`DEVICE_PAGES`] long, that uvm does not manage. It is as full of garbage as RAM.
    #[must_use]
    pub const fn device(&self) -> PhysAddr {
        self.device
    }

    fn cpu_state(&self, cpu: usize) -> std::sync::MutexGuard<'_, Cpu> {
        self.cpus[cpu]
            .lock()
            .expect("no test panicked inside the machine")
    }

    /// Translates `va` for an access by this CPU, by TLB or tables, as hardware does: user or
    /// kernel mode.
    pub fn translate(
        &self,
        va: VirtAddr,
        access: Access,
        user: bool,
    ) -> Result<*mut u8, PageFault> {
        let mut cpu = self.cpu_state(CPU.get());
        let vpn = va.as_u64() >> 12;
        let usable = |c: &Cached| c.allows(access, user) && (c.dirty || access != Access::Write);
        let cached = match cpu.tlb.get(vpn).filter(usable) {
            Some(cached) => cached,
            None => {
                // A refusal from the TLB is checked against the tables, and the entry dropped.
                cpu.tlb.remove(vpn);
                let walked = self.walk(cpu.root, va, access, user)?;
                cpu.tlb.insert(vpn, walked);
                walked
            }
        };
        Ok(self
            .phys
            .ptr(cached.frame)
            .wrapping_add((va.as_u64() & 0xfff) as usize))
    }

    fn walk(
        &self,
        root: PhysAddr,
        va: VirtAddr,
        access: Access,
        user: bool,
    ) -> Result<Cached, PageFault> {
        let fault = |present| PageFault {
            va,
            access,
            present,
        };
        let mut frame = Frame::containing(root);
        let (mut user_ok, mut write, mut exec) = (true, true, true);
        for level in (0..4).rev() {
            // SAFETY: a table in our RAM, or else the test is about to fail: tables are all that
            // roots lead to.
            let table: &phys::Table = unsafe { self.phys.table(frame) };
            let slot = &table.0[(va.as_u64() >> (12 + 9 * level) & 511) as usize];
            loop {
                let entry = Pte(slot.load(Relaxed));
                if !entry.is_present() {
                    return Err(fault(false));
                }
                let combined = Cached {
                    frame: entry.frame(),
                    user: user_ok && entry.is_user(),
                    write: write && entry.prot().allows(Access::Write),
                    exec: exec && entry.prot().allows(Access::Exec),
                    dirty: access == Access::Write,
                };
                if level == 0 && !combined.allows(access, user) {
                    return Err(fault(true));
                }
                let dirty = if level == 0 && access == Access::Write {
                    Pte::DIRTY
                } else {
                    0
                };
                let noted = entry.0 | Pte::ACCESSED | dirty;
                if slot
                    .compare_exchange(entry.0, noted, Relaxed, Relaxed)
                    .is_err()
                {
                    continue;
                }
                if level == 0 {
                    let dirty = noted & Pte::DIRTY != 0;
                    return Ok(Cached { dirty, ..combined });
                }
                (frame, user_ok, write, exec) =
                    (combined.frame, combined.user, combined.write, combined.exec);
                break;
            }
        }
        unreachable!("level 0 returns")
    }

    /// Loads a byte as ring 3 does.
    pub fn load(&self, va: VirtAddr) -> Result<u8, PageFault> {
        let at = self.translate(va, Access::Read, true)?;
        // SAFETY: a byte of our RAM. Should it be the kernel's, a test will notice that it is
        // wrong.
        Ok(unsafe { at.read_volatile() })
    }

    /// Fetches a byte as an instruction of ring 3.
    pub fn fetch(&self, va: VirtAddr) -> Result<u8, PageFault> {
        let at = self.translate(va, Access::Exec, true)?;
        // SAFETY: as for `load`.
        Ok(unsafe { at.read_volatile() })
    }

    /// Caches the translation of `va` on this CPU if there is one, as hardware may do at any time of its own accord.
    pub fn speculate(&self, va: VirtAddr) {
        let mut cpu = self.cpu_state(CPU.get());
        let vpn = va.as_u64() >> 12;
        if cpu.tlb.get(vpn).is_none()
            && let Ok(walked) = self.walk(cpu.root, va, Access::Read, true)
        {
            cpu.tlb.insert(vpn, walked);
        }
    }

    /// Stores a byte as ring 3 does.
    pub fn store(&self, va: VirtAddr, byte: u8) -> Result<(), PageFault> {
        let at = self.translate(va, Access::Write, true)?;
        // SAFETY: a byte of our RAM that a table lets ring 3 write.
        unsafe { at.write_volatile(byte) };
        Ok(())
    }

    /// Loads a byte as the kernel does.
    pub fn load_kernel(&self, va: VirtAddr) -> Result<u8, PageFault> {
        let at = self.translate(va, Access::Read, false)?;
        // SAFETY: as for `load`.
        Ok(unsafe { at.read_volatile() })
    }

    /// Stores a byte as the kernel does.
    pub fn store_kernel(&self, va: VirtAddr, byte: u8) -> Result<(), PageFault> {
        let at = self.translate(va, Access::Write, false)?;
        // SAFETY: a byte of our RAM that a table lets the kernel write.
        unsafe { at.write_volatile(byte) };
        Ok(())
    }

    /// Whether this CPU has a translation of `va` cached.
    #[must_use]
    pub fn is_cached(&self, va: VirtAddr) -> bool {
        self.cpu_state(CPU.get())
            .tlb
            .get(va.as_u64() >> 12)
            .is_some()
    }

    /// The u-areas of which it was told that they are newly wired ([`Machine::uarea_wired`]), in that order.
    #[must_use]
    pub fn uareas_wired(&self) -> Vec<VaRange> {
        self.uareas_told().clone()
    }

    fn uareas_told(&self) -> std::sync::MutexGuard<'_, Vec<VaRange>> {
        self.uareas
            .lock()
            .expect("no test panicked inside the machine")
    }

    /// The root table that this CPU has loaded.
    #[must_use]
    pub fn loaded_root(&self) -> PhysAddr {
        self.cpu_state(CPU.get()).root
    }
}

impl Machine for HostMachine {
    fn cpu(&self) -> usize {
        CPU.get()
    }

    fn now(&self) -> u64 {
        self.executor.now()
    }

    fn invalidate(&self, cpus: CpuSet, space: Option<Frame>, pages: &[VirtAddr]) {
        for cpu in cpus.iter() {
            let mut cpu = self.cpu_state(cpu);
            if space.is_none_or(|root| root.addr() == cpu.root) {
                for va in pages {
                    cpu.tlb.remove(va.as_u64() >> 12);
                }
            }
        }
    }

    fn invalidate_all(&self, cpus: CpuSet, space: Option<Frame>) {
        for cpu in cpus.iter() {
            let mut cpu = self.cpu_state(cpu);
            if space.is_none_or(|root| root.addr() == cpu.root) {
                cpu.tlb.clear();
            }
        }
    }

    fn load_root(&self, root: PhysAddr) {
        let mut cpu = self.cpu_state(CPU.get());
        cpu.root = root;
        cpu.tlb.clear();
    }

    fn uarea_wired(&self, pages: VaRange) {
        self.uareas_told().push(pages);
    }
}
