//! The tree of files: the root file system, `/dev`, and a directory for each RAM disk that carries a file system.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use uvm::Uvm;

use super::disks::Disks;
use crate::cmdline::RamDiskUse;
use crate::fs::devfs::DevFs;
use crate::fs::ext2::Ext2;
use crate::fs::mount::Vfs;
use crate::fs::tty::Tty;

/// Device numbers that `stat` shows: virtio's block devices for the root, RAM disks from here on.
const ROOT_DEVICE: u64 = 0xfe00;
const RAM_DEVICE: u64 = 0x0100;

/// Mounts what there is. What cannot be mounted is logged and left out. Awaits the disks.
///
/// # Errors
/// Why there is no root file system, in words for the user.
pub async fn mount(uvm: &Arc<Uvm>, vfs: &Vfs, disks: Disks, tty: Arc<Tty>) -> Result<(), String> {
    let device = disks
        .root
        .ok_or("there is no disk with a root file system; see the log")?;
    let root = Ext2::mount(uvm, device, ROOT_DEVICE)
        .await
        .map_err(|error| format!("the root file system cannot be mounted: {error}"))?;
    vfs.mount_root(root)
        .map_err(|error| format!("the root file system cannot be mounted: {error}"))?;
    if let Err(error) = vfs.mount(b"/dev", DevFs::new(tty)).await {
        return Err(format!("/dev cannot be mounted: {error}"));
    }
    for disk in disks.ramdisks {
        if disk.spec.purpose != RamDiskUse::FileSystem {
            continue;
        }
        let index = disk.spec.index;
        let path = format!("/ram{index}");
        match Ext2::mount(uvm, disk.device, RAM_DEVICE + index as u64).await {
            Ok(fs) => match vfs.mount(path.as_bytes(), fs).await {
                Ok(()) => log::info!("{path}: mounted"),
                Err(error) => log::error!("{path}: {error}"),
            },
            Err(error) => log::error!("{path}: {error}"),
        }
    }
    Ok(())
}
