//! Which disks there are: virtio's, RAM disks that the command line asks for, and the root file system's image where it
//! came as a boot module. Each has one use: the root file system, swap, or what the command line says of a RAM disk.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use drivers::block::Disk;
use drivers::pci::Function;
use drivers::ramdisk::{RamDisk, RamDiskConfig};
use drivers::virtio;
use executor::Executor;
use uvm::io::BlockDevice;

use crate::arch::boot::RawModule;
use crate::arch::devices::Hardware;
use crate::cmdline::{BadWord, CommandLine, ModuleSpec, RamDiskSpec, RamDiskUse, Root};
use crate::disk::{DiskDevice, NamedDisk};

/// Requests that the root image in memory serves at once: it is as good as resident.
const ROOT_DEPTH: usize = 256;

/// Why the disks are not as the command line wants them.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// A word that cannot be understood.
    #[error(transparent)]
    BadWord(#[from] BadWord),
    /// A virtio disk is named that is not there.
    #[error("there is no disk virtio{0}")]
    NoDisk(usize),
    /// A virtio disk is named for a second use.
    #[error("the disk virtio{0} is in use already")]
    InUse(usize),
    /// An image should be in a boot module that is not there.
    #[error("there is no boot module {0}")]
    NoModule(usize),
    /// There is not enough memory for a RAM disk.
    #[error("no memory for RAM disk {0}")]
    NoMemory(usize),
}

/// A RAM disk with what was asked for.
pub struct SpecifiedDisk {
    /// What was asked for.
    pub spec: RamDiskSpec,
    /// The disk.
    pub device: Arc<DiskDevice>,
}

/// What was found.
#[derive(Default)]
pub struct Disks {
    /// The disk with the root file system.
    pub root: Option<Arc<DiskDevice>>,
    /// Disks for swap: virtio's in the command line's order, then RAM disks in theirs.
    pub swaps: Vec<NamedDisk>,
    /// Other RAM disks, in the command line's order.
    pub ramdisks: Vec<SpecifiedDisk>,
}

/// What disks are made of.
pub struct Sources<'a> {
    /// The command line.
    pub words: CommandLine<'a>,
    /// What the loader put into memory; the images are in the first file.
    pub modules: &'a [RawModule],
    /// PCI functions.
    pub functions: &'a [Function],
    /// The machine.
    pub hardware: &'static Hardware,
    /// Where drivers' tasks run.
    pub executor: &'a Arc<Executor>,
}

impl Sources<'_> {
    /// Starts all disks. What is wrong is logged, and the disk in question left out.
    pub fn start(&self) -> Disks {
        let mut virtio = VirtioDisks::new(virtio::blk::probe(
            self.functions,
            self.hardware,
            self.hardware,
            self.executor,
        ));
        let mut disks = Disks {
            root: logged(self.root(&mut virtio)),
            ..Disks::default()
        };
        for index in self.words.swaps() {
            let swap = index.map_err(DiskError::from).and_then(|index| {
                Ok(NamedDisk {
                    name: format!("virtio{index}"),
                    device: virtio.take(index)?,
                })
            });
            disks.swaps.extend(logged(swap));
        }
        for spec in logged(self.words.ramdisks().map_err(DiskError::from)).unwrap_or_default() {
            let Some(device) = logged(self.ramdisk(&spec)) else {
                continue;
            };
            match spec.purpose {
                RamDiskUse::Swap => disks.swaps.push(NamedDisk {
                    name: ramdisk_name(&spec),
                    device,
                }),
                RamDiskUse::FileSystem | RamDiskUse::Raw => {
                    disks.ramdisks.push(SpecifiedDisk { spec, device });
                }
            }
        }
        for NamedDisk { name, device } in &disks.swaps {
            log::info!("swap disk {name}, {} KiB", device.size() / 1024);
        }
        disks
    }

    fn root(&self, virtio: &mut VirtioDisks) -> Result<Arc<DiskDevice>, DiskError> {
        match self.words.root()? {
            Root::Virtio(index) => virtio.take(index),
            Root::Module(index) => {
                let (phys, size) = self.module(index)?;
                let config = RamDiskConfig {
                    latency_ns: 0,
                    depth: ROOT_DEPTH,
                    read_only: false,
                };
                self.in_memory("root", phys, size, config)
                    .ok_or(DiskError::NoModule(index))
            }
        }
    }

    fn ramdisk(&self, spec: &RamDiskSpec) -> Result<Arc<DiskDevice>, DiskError> {
        let fresh = || {
            self.hardware
                .take_memory(spec.size)
                .ok_or(DiskError::NoMemory(spec.index))
        };
        let phys = match spec.module {
            // The image is the disk, unless the disk is larger.
            Some(index) => {
                let (image, size) = self.module(index)?;
                if size >= spec.size {
                    image
                } else {
                    self.copied(image, size, fresh()?, spec.size)
                }
            }
            None => self.copied(0, 0, fresh()?, spec.size),
        };
        let config = RamDiskConfig {
            latency_ns: spec.latency,
            depth: spec.depth,
            read_only: false,
        };
        self.in_memory(&ramdisk_name(spec), phys, spec.size, config)
            .ok_or(DiskError::NoMemory(spec.index))
    }

    /// Fills `size` bytes at physical address `to` with the `len` bytes at `from`, and zeroes. Gives `to`.
    fn copied(&self, from: u64, len: u64, to: u64, size: u64) -> u64 {
        use drivers::Dma;
        let (from, start) = (
            self.hardware.phys_to_virt(from),
            self.hardware.phys_to_virt(to),
        );
        // SAFETY: both ranges are RAM in the direct map; `to` was taken for this disk alone, so they do not overlap.
        unsafe {
            core::ptr::copy_nonoverlapping(from, start, len as usize);
            core::ptr::write_bytes(start.add(len as usize), 0, (size - len) as usize);
        }
        to
    }

    fn in_memory(
        &self,
        name: &str,
        phys: u64,
        size: u64,
        config: RamDiskConfig,
    ) -> Option<Arc<DiskDevice>> {
        // SAFETY: a module's memory is reserved and given to one disk only (the command line names each once); other
        // memory was taken for this disk. Requests come from uvm, whose frames are in the direct map and stay its own
        // until the request is done.
        let disk = unsafe { RamDisk::new(name, phys, size, config, self.hardware, self.executor) }?;
        log::info!(
            "{name}: {} KiB in memory, {} ns, depth {}",
            size / 1024,
            config.latency_ns,
            config.depth
        );
        Some(DiskDevice::new(disk))
    }

    /// Physical address and size in bytes of a boot module.
    fn module(&self, index: usize) -> Result<(u64, u64), DiskError> {
        let missing = DiskError::NoModule(index);
        let Some(spec) = self
            .words
            .modules()?
            .into_iter()
            .find(|spec| spec.index == index)
        else {
            return Err(missing);
        };
        let ModuleSpec { offset, size, .. } = spec;
        match self.modules.first() {
            Some(file) if offset <= file.size && size <= file.size - offset => {
                Ok((file.address + offset, size))
            }
            _ => Err(missing),
        }
    }
}

/// The virtio disks that have no use yet.
struct VirtioDisks {
    /// By number; `None` for those in use.
    disks: Vec<Option<Arc<dyn Disk>>>,
}

impl VirtioDisks {
    fn new(disks: Vec<Arc<virtio::blk::VirtioBlk>>) -> VirtioDisks {
        VirtioDisks {
            disks: disks
                .into_iter()
                .map(|disk| Some(disk as Arc<dyn Disk>))
                .collect(),
        }
    }

    /// The device around a disk. There can be only one: the disk is in use from then on.
    fn take(&mut self, index: usize) -> Result<Arc<DiskDevice>, DiskError> {
        let disk = self.disks.get_mut(index).ok_or(DiskError::NoDisk(index))?;
        let disk = disk.take().ok_or(DiskError::InUse(index))?;
        Ok(DiskDevice::new(disk))
    }
}

fn ramdisk_name(spec: &RamDiskSpec) -> String {
    format!("ram{}", spec.index)
}

fn logged<T>(result: Result<T, DiskError>) -> Option<T> {
    result
        .inspect_err(|error| log::error!("disks: {error}"))
        .ok()
}
