//! Who dies when memory and swap are full: the process that uvm has chosen, by what its end gives back.
//!
//! Owns nothing. uvm knows address spaces; this knows which processes have one, and how to tell the user.

use super::Processes;
use super::signal::{SigInfo, Signal};
use crate::console::Console;
use alloc::sync::{Arc, Weak};
use uvm::meter::Gauge;
use uvm::{Gain, Killer, PAGE_SIZE, VmSpace};

/// Kills by SIGKILL, and says so on the console and in the log.
pub struct OomKiller {
    processes: Weak<Processes>,
    console: Arc<Console>,
}

impl OomKiller {
    /// A killer of these processes.
    #[must_use]
    pub fn new(processes: &Arc<Processes>, console: Arc<Console>) -> Arc<OomKiller> {
        Arc::new(OomKiller {
            processes: Arc::downgrade(processes),
            console,
        })
    }
}

impl Killer for OomKiller {
    fn kill(&self, space: &Arc<VmSpace>, gain: Gain) -> bool {
        let Some(processes) = self.processes.upgrade() else {
            return false;
        };
        let meter = processes.uvm().meter();
        let (swap, used) = (meter.gauge(Gauge::Swpages), meter.gauge(Gauge::Swpginuse));
        let why = match used < swap / 16 * 15 {
            // Page tables, say, or what is wired.
            true => "memory is full of what cannot be paged out",
            false => "memory and swap are full",
        };
        let mut killed = false;
        log::error!("out of memory: {}", processes.uvm().shortage());
        for row in processes.list() {
            let process = &row.process;
            let has = |other: Arc<VmSpace>| Arc::ptr_eq(&other, space);
            if !process.space().is_some_and(has) {
                continue;
            }
            let kib = |pages: usize| pages * PAGE_SIZE / 1024;
            let (pid, name) = (process.pid(), process.name());
            let (resident, swapped) = (kib(gain.resident), kib(gain.swapped));
            log::error!(
                "out of memory: killed process {pid} ({name}) for {resident} KiB of memory and {swapped} KiB of swap"
            );
            self.console.print(format_args!(
                "auvm: {why}: killed process {pid} ({name}), which gives {resident} KiB of memory and {swapped} KiB of \
                 swap back\n"
            ));
            process.post(SigInfo::from_kernel(Signal::KILL));
            killed = true;
        }
        killed
    }
}
