//! The machine as the executor and uvm see it.

use core::fmt;

use ::uvm::{CpuSet, Frame, Machine, PhysAddr, VirtAddr};
use executor::Platform;
use x86_64::instructions::{interrupts, tlb};
use x86_64::registers::control::{Cr4, Cr4Flags};

use super::percpu::PerCpu;
use super::{paging, time};

/// The one machine. Has no state of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pc;

impl Platform for Pc {
    #[inline]
    fn now(&self) -> u64 {
        time::now()
    }

    #[inline]
    fn arm(&self, deadline: Option<u64>) {
        time::arm(deadline);
    }

    fn idle(&self, idle_ok: &dyn Fn() -> bool) {
        interrupts::disable();
        if idle_ok() {
            interrupts::enable_and_hlt();
        } else {
            interrupts::enable();
        }
    }

    #[inline]
    fn cpu(&self) -> usize {
        PerCpu::current().index()
    }

    fn cpus(&self) -> usize {
        1
    }

    /// There is no other CPU; this one is not idle when it gets here.
    fn kick(&self, _: usize) {}

    /// Programs wait for each other or for nothing, or the kernel lost a wake: the machine ends and says who waits.
    fn stalled(&self, report: &dyn fmt::Display) {
        crate::panic::on_deadlock(report)
    }
}

impl Machine for Pc {
    #[inline]
    fn cpu(&self) -> usize {
        PerCpu::current().index()
    }

    #[inline]
    fn now(&self) -> u64 {
        time::now()
    }

    fn invalidate(&self, _: CpuSet, space: Option<Frame>, pages: &[VirtAddr]) {
        if space.is_some_and(|root| !is_loaded(root)) {
            return;
        }
        for &page in pages {
            tlb::flush(page);
        }
    }

    fn invalidate_all(&self, _: CpuSet, space: Option<Frame>) {
        match space {
            Some(root) if is_loaded(root) => tlb::flush_all(),
            Some(_) => {}
            None => {
                // Turning global pages off drops every translation; no one on this CPU may look meanwhile.
                interrupts::without_interrupts(|| {
                    let cr4 = Cr4::read();
                    // SAFETY: the flag only decides what the TLB keeps; it is back at once.
                    unsafe {
                        Cr4::write(cr4 - Cr4Flags::PAGE_GLOBAL);
                        Cr4::write(cr4);
                    }
                });
            }
        }
    }

    #[inline]
    fn load_root(&self, root: PhysAddr) {
        // SAFETY: uvm's root tables have the kernel's half in them.
        unsafe { paging::load_root(root.as_u64()) };
    }
}

fn is_loaded(root: Frame) -> bool {
    PerCpu::current().root.get() == root.addr().as_u64()
}
