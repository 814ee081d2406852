//! The virtual memory system over the memory that boot and drivers left.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::fmt::{self, Write};

use conquer_once::spin::OnceCell;
use executor::{Class, Executor};
use uvm::meter::{Counter, Gauge};
use uvm::{Config, PhysAddr, PhysRange, Uvm, VaRange, VirtAddr};

use crate::arch::devices::Hardware;
use crate::arch::platform::Pc;
use crate::arch::{heap, paging};

/// The machine's one memory system, for those that nobody hands anything to: the heap and a panic.
static UVM: OnceCell<Arc<Uvm>> = OnceCell::uninit();

/// Gives all memory that is left to a new [`Uvm`], lets the heap grow from it, and starts its tasks. `kernel_root` is the physical
/// address of the kernel's top-level table. Once; drivers have taken theirs before.
pub fn start(
    hardware: &Hardware,
    kernel_root: u64,
    executor: &Arc<Executor>,
    torture_evict: bool,
) -> &'static Arc<Uvm> {
    let memory = hardware.release_memory();
    let mut free: Vec<_> = memory.free().to_vec();
    // More ranges than uvm takes: the smallest stay unused.
    free.sort_unstable_by_key(|range| Reverse(range.size()));
    free.truncate(uvm::page::MAX_RANGES);
    free.sort_unstable_by_key(|range| range.start());
    let ram: Vec<_> = free
        .iter()
        .map(|range| PhysRange {
            start: PhysAddr::new(range.start()),
            end: PhysAddr::new(range.end()),
        })
        .collect();
    let kva = VaRange::new(
        VirtAddr::new(paging::KVA_BASE),
        VirtAddr::new(paging::KVA_BASE + paging::KVA_SIZE),
    );
    let config = Config {
        direct_map_base: VirtAddr::new(paging::DIRECT_MAP),
        ram: &ram,
        kernel_root: PhysAddr::new(kernel_root),
        kva: Some(kva),
        cpus: 1,
        machine: Arc::new(Pc),
        executor: executor.clone(),
        torture_evict,
    };
    // Debug builds watch the order of uvm's locks from here on.
    uvm::lock::watch(|| uvm::Machine::cpu(&Pc));
    // SAFETY: the ranges are RAM in the direct map that nobody has taken (the map hands out each page once); the root is the one
    // that this CPU runs on, and has all top-level entries of the kernel's half.
    let uvm = UVM.get_or_init(|| unsafe { Uvm::new(config) });
    heap::attach(uvm);
    uvm.take_turns();
    crate::panic::set_report(report);
    log::info!(
        "memory: {} KiB in {} ranges for uvm",
        ram.iter().map(|r| r.end - r.start).sum::<u64>() / 1024,
        ram.len(),
    );
    executor.spawn(Class::Daemon, "pagedaemon", uvm::pagedaemon(uvm.clone()));
    executor.spawn(Class::Idle, "zero pages", async move {
        uvm.zero_idle_task().await
    });
    uvm
}

/// What a panic tells of memory: all counters that are not zero. Reads atomics only.
fn report(out: &mut dyn Write) -> fmt::Result {
    let Some(uvm) = UVM.get() else {
        return Ok(());
    };
    writeln!(out, "uvm:")?;
    let counters = Counter::ALL.iter().map(|&c| (c.name(), uvm.meter().get(c)));
    let gauges = Gauge::ALL.iter().map(|&g| (g.name(), uvm.meter().gauge(g)));
    for (name, value) in gauges.chain(counters).filter(|(_, value)| *value != 0) {
        write!(out, " {name}={value}")?;
    }
    writeln!(out)
}
