//! Swap: the tasks that write and discard, and the disks that the command line names.

use alloc::sync::Arc;

use executor::{Class, Executor};
use uvm::{IoError, Pace, Uvm};

use crate::disk::NamedDisk;

/// Starts the page-out's workers and the one that discards, and uses every disk as swap space, in order: the first is filled first. What cannot be used is logged
/// and left out. Awaits the disks.
pub async fn start(uvm: &Arc<Uvm>, executor: &Arc<Executor>, disks: &[NamedDisk]) {
    for _ in 0..uvm::WORKERS {
        executor.spawn(Class::Daemon, "page-out", uvm::pageout_worker(uvm.clone()));
    }
    let report = |disk: &str, error: IoError| {
        log::warn!("{disk}: {error} in a discard; free slots are discarded there no more");
    };
    let discards = uvm::discard_worker(uvm.clone(), Pace::default(), report);
    executor.spawn(Class::Daemon, "discard", discards);
    for (disk, priority) in disks.iter().zip(0..) {
        match uvm.swapon(disk.device.clone(), &disk.name, priority).await {
            Ok(()) => log::info!("{}: swap space", disk.name),
            Err(error) => log::error!("{}: {error}", disk.name),
        }
    }
}
