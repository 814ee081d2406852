//! The simulated machine's world: disks, files and programs for tests of the whole crate on the host.
//!
//! [`World`] puts a [`Host`] (RAM, CPUs with software TLBs) under an executor with a seeded choice of the next task and a virtual
//! clock, and starts the pagedaemon. A "program" is a task that loads and stores through the software MMU and
//! faults where that refuses, as an LWP does; [`run`] makes many of them do random things and compares every byte.
//!
//! Reading order of the simulation: [`plan`] and [`weather`] (what a seed decides), [`op`] (the operations), [`model`] (what must come of them), `lwp`,
//! `mapping`, `growing`, `wiring`, `advice`, `lending`, `moving`, `spaces`, `heirs`, `swapping`, `napping`, `killing` (who does them), `drive` (who runs next and on which CPU, and what is looked at after each poll), [`run`], [`shrink`].

mod advice;
mod content;
pub mod disk;
mod draw;
mod drive;
mod growing;
mod heirs;
pub mod holes;
mod killing;
mod lending;
mod lwp;
mod mapping;
pub mod model;
mod moving;
mod napping;
pub mod op;
pub mod plan;
mod process;
pub mod random;
mod request;
pub mod run;
mod shared;
pub mod shrink;
mod spaces;
mod swapping;
pub mod weather;
mod wiring;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use executor::testing::Driver;
use executor::{Class, Executor};

use crate::addr::{PAGE_SIZE, VirtAddr};
use crate::check::CheckReport;
use crate::fault::FaultError;
use crate::io::BlockDevice;
use crate::map::VmSpace;
use crate::object::vnode::{FileMap, VnodeObject};
use crate::prot::Access;
use crate::sim::disk::SimDisk;
use crate::testing::{Host, HostConfig, HostMachine, PageFault};
use crate::{Pace, Uvm, WORKERS, discard_worker, pagedaemon, pageout_worker};

/// The pace of discards where little time passes and disks are small.
const BRISK: Pace = Pace {
    enough: 2,
    others: 0,
    pause: Duration::from_micros(20),
    quiet: Duration::from_micros(500),
};

/// Faults in a row after which an access is taken to make no progress.
const PATIENCE: usize = 10_000;

/// A machine, its executor and its pagedaemon.
pub struct World {
    /// The system under test.
    pub uvm: Arc<Uvm>,
    /// The machine below it.
    pub machine: Arc<HostMachine>,
    /// Who runs it all.
    pub executor: Arc<Executor>,
    /// The loop around the executor. Last: it ends the tasks, which use the rest.
    pub driver: Driver,
}

impl World {
    /// A machine of so many frames; tasks run in an order that `seed` decides.
    #[must_use]
    pub fn new(frames: usize, seed: u64) -> Self {
        Self::with(
            &HostConfig {
                frames,
                ..HostConfig::default()
            },
            seed,
        )
    }

    /// A machine as described.
    #[must_use]
    pub fn with(config: &HostConfig, seed: u64) -> Self {
        let driver = Driver::seeded(seed);
        let executor = driver.executor().clone();
        let Host { uvm, machine } = Host::with_executor(config, executor.clone());
        executor.spawn(Class::Daemon, "pagedaemon", pagedaemon(uvm.clone()));
        Self {
            uvm,
            machine,
            executor,
            driver,
        }
    }

    /// An empty address space.
    ///
    /// # Panics
    /// If there is no memory for one.
    #[must_use]
    pub fn space(&self) -> Arc<VmSpace> {
        VmSpace::new(&self.uvm).expect("memory for an address space")
    }

    /// Starts the workers of swap, and uses a disk as swap space.
    ///
    /// # Panics
    /// If that cannot be.
    pub fn swapon(&self, disk: &Arc<SimDisk>, name: &'static str, priority: i16) {
        self.swap_to(disk.device(), name, priority, BRISK);
    }

    fn swap_to(
        &self,
        device: Arc<dyn BlockDevice>,
        name: &'static str,
        priority: i16,
        discards: Pace,
    ) {
        if self.uvm.swap_devices().is_empty() {
            for _ in 0..WORKERS {
                let worker = pageout_worker(self.uvm.clone());
                self.executor.spawn(Class::Daemon, "page-out", worker);
            }
            let worker = discard_worker(self.uvm.clone(), discards, |_, _| {});
            self.executor.spawn(Class::Daemon, "discard", worker);
        }
        let uvm = self.uvm.clone();
        let result = self.run(async move { uvm.swapon(device, name, priority).await });
        result.expect("a good swap disk");
    }

    /// A file of `size` bytes as an object.
    ///
    /// # Panics
    /// If there is no memory for one.
    #[must_use]
    pub fn file(&self, file: Arc<dyn FileMap>, size: u64) -> Arc<VnodeObject> {
        VnodeObject::new(&self.uvm, file, size).expect("memory for an object")
    }

    /// A program in `space`.
    #[must_use]
    pub fn program(&self, space: &Arc<VmSpace>) -> Program {
        Program {
            machine: self.machine.clone(),
            space: space.clone(),
        }
    }

    /// Runs `f` to its end, and whatever else can run meanwhile.
    pub fn run<T: Send + 'static>(&self, f: impl Future<Output = T> + Send + 'static) -> T {
        self.driver.run_until(f)
    }

    /// Checks everything.
    ///
    /// # Panics
    /// If something contradicts itself.
    pub fn check(&self) -> CheckReport {
        match self.uvm.check() {
            Ok(report) => report,
            Err(error) => panic!("{error}"),
        }
    }

    /// Checks everything, and that nothing is under way.
    ///
    /// # Panics
    /// As [`Self::check`].
    pub fn check_quiet(&self) -> CheckReport {
        let report = self.check();
        assert_eq!(
            (report.floating, report.in_transit),
            (0, 0),
            "under way: {report:?}"
        );
        assert!(!self.uvm.is_paging(), "transfers are under way");
        report
    }
}

/// What runs in ring 3: loads and stores, and the faults they take.
#[derive(Clone)]
pub struct Program {
    machine: Arc<HostMachine>,
    space: Arc<VmSpace>,
}

impl Program {
    /// The address space that it runs in.
    #[must_use]
    pub fn space(&self) -> &Arc<VmSpace> {
        &self.space
    }

    /// A program on the same machine, in another space.
    #[must_use]
    pub fn in_space(&self, space: &Arc<VmSpace>) -> Self {
        Self {
            machine: self.machine.clone(),
            space: space.clone(),
        }
    }

    /// Repeats an access until it gets through or the fault routine refuses. On its way back to ring 3 no flush may be outstanding.
    async fn access<T>(
        &self,
        va: u64,
        access: Access,
        f: impl Fn(&HostMachine, VirtAddr) -> Result<T, PageFault>,
    ) -> Result<T, FaultError> {
        let va = VirtAddr::new(va);
        for _ in 0..PATIENCE {
            self.space.activate();
            self.space.assert_settled();
            assert_eq!(self.space.uvm().deferred_flushes(), 0, "deferred flushes");
            match f(&self.machine, va) {
                Ok(value) => {
                    self.space.made_progress();
                    return Ok(value);
                }
                Err(_) => self.space.fault(va, access).await?,
            }
        }
        panic!("no progress at {va:?}");
    }

    /// Loads a byte.
    ///
    /// # Errors
    /// [`FaultError`]: what the program would be killed for.
    pub async fn load(&self, va: u64) -> Result<u8, FaultError> {
        self.access(va, Access::Read, HostMachine::load).await
    }

    /// Fetches a byte as an instruction.
    ///
    /// # Errors
    /// [`FaultError`]: what the program would be killed for.
    pub async fn fetch(&self, va: u64) -> Result<u8, FaultError> {
        self.access(va, Access::Exec, HostMachine::fetch).await
    }

    /// Stores a byte.
    ///
    /// # Errors
    /// [`FaultError`]: what the program would be killed for.
    pub async fn store(&self, va: u64, byte: u8) -> Result<(), FaultError> {
        self.access(va, Access::Write, |machine, va| machine.store(va, byte))
            .await
    }

    /// Stores `byte` in each of `pages` pages from `va` on.
    ///
    /// # Errors
    /// [`FaultError`] of the first that fails.
    pub async fn touch(&self, va: u64, pages: usize, byte: u8) -> Result<(), FaultError> {
        for page in 0..pages {
            self.store(va + (page * PAGE_SIZE) as u64, byte).await?;
        }
        Ok(())
    }

    /// Loads a byte of each of `pages` pages from `va` on.
    ///
    /// # Errors
    /// [`FaultError`] of the first that fails.
    pub async fn peek(&self, va: u64, pages: usize) -> Result<Vec<u8>, FaultError> {
        let mut bytes = Vec::new();
        for page in 0..pages {
            bytes.push(self.load(va + (page * PAGE_SIZE) as u64).await?);
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod seeds;
#[cfg(test)]
mod tests {
    use super::disk::{Layout, Mode, SimDisk, SimFile};
    use super::*;
    use crate::addr::PageIndex;

    #[test]
    fn a_read_that_nobody_awaits_is_under_way() {
        let world = World::new(256, 0);
        let disk = SimDisk::new(&world.uvm, 1 << 20, Mode::Told);
        let file = world.file(SimFile::new(&disk, Layout::Contiguous(0)), 1 << 20);
        let uvm = world.uvm.clone();
        let reader = async move { file.page_in(&uvm, PageIndex(0)).await.map(drop) };
        let reader = world.executor.spawn(Class::User, "reader", reader);
        world.driver.run_until_stalled();
        let quiet = || {
            let check = core::panic::AssertUnwindSafe(|| world.check_quiet());
            std::panic::catch_unwind(check).is_ok()
        };
        assert!(!quiet());
        disk.complete(1);
        assert_eq!(world.run(reader), Ok(()));
        assert!(quiet());
    }
}
