//! QEMU's command line.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::fail;
use crate::image::Image;
use crate::options::{Accel, Options};
use crate::packages::window_backend;
use crate::ramdisk::RamDisk;
use crate::session::Console;
use crate::units::Bytes;
use crate::words::{Root, Words};

/// Room for the command that QEMU and its firmware round sizes to.
const MEMORY_STEP: u64 = 1 << 20;

/// The disk that holds the root file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootDisk {
    /// A disk of the host whose changes are forgotten.
    Scratch(Image),
    /// A disk of the host that keeps its changes.
    Kept(Image),
    /// In memory, as a module.
    Memory(Image),
}

/// A RAM disk with what is on it at boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedRamDisk {
    /// What was asked for.
    pub disk: RamDisk,
    /// Its contents, which travel in memory; zeroes without.
    pub image: Option<Image>,
}

/// Everything that the machine is made of.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The root.
    pub root: RootDisk,
    /// The disks with swap areas, behind the root disk. They are written to, and nobody keeps them.
    pub swaps: Vec<Image>,
    /// The RAM disks, in the order of their numbers.
    pub ram: Vec<LoadedRamDisk>,
}

impl Machine {
    /// The images that travel in memory, in the order of their module numbers.
    pub fn modules(&self) -> Vec<Image> {
        let root = match &self.root {
            RootDisk::Memory(image) => Some(image),
            RootDisk::Scratch(_) | RootDisk::Kept(_) => None,
        };
        let ram = self.ram.iter().filter_map(|ram| ram.image.as_ref());
        root.into_iter().chain(ram).cloned().collect()
    }

    /// The kernel's command line.
    pub fn words(&self, options: &Options) -> Words {
        let mut words = Words::default();
        let in_memory = matches!(self.root, RootDisk::Memory(_));
        words.root(if in_memory {
            Root::Module(0)
        } else {
            Root::Disk
        });
        // Virtio disks are numbered in the order of QEMU's command line.
        let first = self.first_swap();
        for disk in first..first + self.swaps.len() {
            words.swap(disk);
        }
        words.modules(&self.modules());
        let mut modules = usize::from(in_memory)..;
        for (index, LoadedRamDisk { disk, image }) in self.ram.iter().enumerate() {
            let module = image.as_ref().and_then(|_| modules.next());
            words.ramdisk(index, disk, module);
        }
        if options.icount {
            words.verbatim("icount");
        }
        if let Some(commands) = &options.exec {
            words.exec(commands);
        }
        options.append.iter().for_each(|more| words.verbatim(more));
        words
    }

    /// The number of the first disk with a swap area.
    fn first_swap(&self) -> usize {
        usize::from(!matches!(self.root, RootDisk::Memory(_)))
    }

    /// Memory of the whole machine: images and RAM disks come on top of what the kernel is to have. An image as large as
    /// its RAM disk is the disk, a smaller one is copied there.
    fn memory(&self, options: &Options) -> Bytes {
        let root = match &self.root {
            RootDisk::Memory(image) => image.size.0,
            RootDisk::Scratch(_) | RootDisk::Kept(_) => 0,
        };
        let ram = self.ram.iter().map(|LoadedRamDisk { disk, image }| {
            let copied = image.as_ref().filter(|image| image.size < disk.size);
            disk.size.0 + copied.map_or(0, |image| image.size.0)
        });
        Bytes((options.memory.0 + root + ram.sum::<u64>()).next_multiple_of(MEMORY_STEP))
    }

    /// The command that boots `kernel`. `container` holds the modules, if there are some.
    ///
    /// # Errors
    /// An accelerator or a window that was asked for and is not to be had here.
    pub fn command(
        &self,
        options: &Options,
        kernel: &Path,
        container: Option<&Image>,
        log: &Path,
        console: Console,
    ) -> Result<Command> {
        let mut qemu = processor(options)?;
        qemu.args(["-m", &format!("{}M", self.memory(options).0 >> 20)]);
        qemu.arg("-kernel").arg(kernel);
        qemu.args(["-append", self.words(options).line()?]);
        if let Some(container) = container {
            qemu.arg("-initrd").arg(&container.path);
        }
        if let RootDisk::Scratch(image) | RootDisk::Kept(image) = &self.root {
            let snapshot = if matches!(self.root, RootDisk::Scratch(_)) {
                "on"
            } else {
                "off"
            };
            let file = fail::drive(0, &escaped(&image.path), &options.fail);
            qemu.arg("-drive").arg(format!(
                "id=root,if=none,format=raw,snapshot={snapshot},discard=unmap,{file}"
            ));
            qemu.arg("-device").arg(device("root", options));
        }
        for (index, Image { path, .. }) in self.swaps.iter().enumerate() {
            let disk = self.first_swap() + index;
            let file = fail::drive(disk, &escaped(path), &options.fail);
            // Nothing there outlives the run, so nothing need reach the host's disk. When that is full the guest is to
            // see an error: QEMU would stop the machine and wait.
            qemu.arg("-drive").arg(format!(
                "id=swap{index},if=none,format=raw,cache=unsafe,discard=unmap,werror=report,{file}"
            ));
            qemu.arg("-device")
                .arg(device(&format!("swap{index}"), options));
        }
        qemu.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
        qemu.arg("-chardev")
            .arg(format!("file,id=log,path={}", escaped(log)));
        qemu.args(["-device", "isa-debugcon,iobase=0xe9,chardev=log"]);
        qemu.args(match console {
            // Ctrl-C is the guest's; Ctrl-A X ends QEMU, Ctrl-A H shows what else there is.
            Console::Terminal => [
                "-chardev",
                "stdio,id=console,mux=on,signal=off",
                "-mon",
                "chardev=console",
            ],
            Console::Pipes | Console::Output => [
                "-chardev",
                "stdio,id=console,signal=off",
                "-monitor",
                "none",
            ],
        });
        qemu.args(["-serial", "chardev:console"]);
        if options.display {
            // A dry run may come before the installation.
            let backend = window_backend().unwrap_or("gtk");
            qemu.args(["-vga", "std", "-display", backend]);
        } else {
            qemu.args(["-display", "none"]);
        }
        if options.gdb {
            qemu.args(["-gdb", "tcp::1234", "-S"]);
        }
        Ok(qemu)
    }
}

/// The beginning of every machine's command: the board, the processors, and how guest code runs and guest time passes. Whatever is
/// compared with auvm boots on the same.
///
/// # Errors
/// An accelerator that was asked for and is not to be had here.
pub fn processor(options: &Options) -> Result<Command> {
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args([
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-machine",
        "q35",
        "-accel",
        accelerator(options)?,
    ]);
    qemu.args(["-cpu", if options.icount { "qemu64" } else { "max" }]);
    qemu.args(["-smp", &options.cpus.to_string()]);
    if options.icount {
        qemu.args([
            "-icount",
            "shift=0,sleep=off",
            "-rtc",
            "base=2024-01-01,clock=vm",
        ]);
    }
    Ok(qemu)
}

/// The virtio disk on a drive. One that fails answers each request by itself: QEMU would merge them, and a whole lot fail for one bad page.
fn device(drive: &str, options: &Options) -> String {
    let merging = if options.fail.is_empty() {
        ""
    } else {
        ",request-merging=off"
    };
    format!("virtio-blk-pci,drive={drive},disable-legacy=on{merging}")
}

/// QEMU splits option lists at commas; a doubled one stands for itself.
fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

fn accelerator(options: &Options) -> Result<&'static str> {
    match (options.accel, options.icount) {
        (Accel::Kvm, _) => match kvm_works() {
            true => Ok("kvm"),
            false => bail!(
                "--accel kvm cannot work here: no vmx or svm in /proc/cpuinfo, or /dev/kvm is not usable"
            ),
        },
        (Accel::Auto, false) if kvm_works() => Ok("kvm"),
        (Accel::Auto | Accel::Tcg, _) => Ok("tcg"),
    }
}

/// A device node alone proves nothing: some machines have one and run no guest.
fn kvm_works() -> bool {
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let offered = flags
        .lines()
        .filter(|line| line.starts_with("flags"))
        .any(|line| {
            line.split_whitespace()
                .any(|flag| flag == "vmx" || flag == "svm")
        });
    offered
        && std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(mib: u64) -> Image {
        Image {
            path: "/images/a,b.img".into(),
            size: Bytes::mib(mib),
        }
    }

    fn line(words: &[&str], machine: &Machine) -> String {
        let options = Options::from_words(["auvm"].iter().chain(words)).unwrap();
        let command = machine
            .command(
                &options,
                Path::new("kernel"),
                None,
                Path::new("log"),
                Console::Output,
            )
            .unwrap();
        crate::steps::shell_line(&command)
    }

    #[test]
    fn disks_are_scratch_unless_kept() {
        let scratch = Machine {
            root: RootDisk::Scratch(image(8)),
            swaps: vec![],
            ram: vec![],
        };
        let text = line(&["--accel", "tcg"], &scratch);
        assert!(
            text.contains("snapshot=on") && text.contains("file=/images/a,,b.img"),
            "{text}"
        );
        assert!(text.contains("-append root=virtio0 "), "{text}");
        assert!(text.contains("-m 256M"), "{text}");
        let kept = Machine {
            root: RootDisk::Kept(image(8)),
            swaps: vec![],
            ram: vec![],
        };
        assert!(line(&["--accel", "tcg"], &kept).contains("snapshot=off"));
    }

    #[test]
    fn swap_disks_come_after_the_root_disk() {
        let machine = Machine {
            root: RootDisk::Scratch(image(8)),
            swaps: vec![image(1), image(2)],
            ram: vec![],
        };
        let text = line(&["--accel", "tcg"], &machine);
        assert!(
            text.contains("-append 'root=virtio0 swap=virtio1 swap=virtio2' "),
            "{text}"
        );
        let device = |drive| text.find(&format!("virtio-blk-pci,drive={drive},"));
        let places = ["root", "swap0", "swap1"].map(device);
        assert!(places[0].is_some() && places.is_sorted(), "{text}");
        assert_eq!(text.matches("cache=unsafe").count(), 2, "{text}");
        // They are no part of its memory.
        assert!(text.contains("-m 256M"), "{text}");
    }

    #[test]
    fn a_disk_that_fails_merges_nothing() {
        let machine = Machine {
            root: RootDisk::Scratch(image(8)),
            swaps: vec![image(1)],
            ram: vec![],
        };
        let words = ["--swap", "1M", "--fail", "virtio1:read:5"];
        let text = line(&words, &machine);
        assert_eq!(text.matches("driver=blkdebug").count(), 1, "{text}");
        assert!(
            text.contains("file.image.filename=/images/a,,b.img,file.inject-error.0.event=none"),
            "{text}"
        );
        assert!(
            text.contains("drive=swap0,disable-legacy=on,request-merging=off"),
            "{text}"
        );
        assert!(!line(&["--swap", "1M"], &machine).contains("merging"));
    }

    #[test]
    fn a_run_that_repeats_has_no_disk_of_the_host() {
        let machine = Machine {
            root: RootDisk::Memory(image(8)),
            swaps: vec![],
            ram: vec![
                LoadedRamDisk {
                    disk: "1M".parse().unwrap(),
                    image: None,
                },
                LoadedRamDisk {
                    disk: "64M:10ms:16,fs".parse().unwrap(),
                    image: Some(image(64)),
                },
                LoadedRamDisk {
                    disk: "2M,swap".parse().unwrap(),
                    image: Some(Image {
                        size: Bytes(4096),
                        ..image(0)
                    }),
                },
            ],
        };
        let text = line(&["--icount"], &machine);
        assert!(!text.contains("virtio-blk"), "{text}");
        assert!(
            text.contains("-icount shift=0,sleep=off") && text.contains("-cpu qemu64"),
            "{text}"
        );
        // 256 for the kernel, 8 for the root, 67 for the RAM disks, and the header that is copied.
        assert!(text.contains("-m 332M"), "{text}");
        assert!(
            text.contains(
                "root=module0 module=0,0,8388608 module=1,8388608,67108864 module=2,75497472,4096 "
            ),
            "{text}"
        );
        assert!(
            text.contains(
                "ramdisk=0,1048576,0,256,raw,- ramdisk=1,67108864,10000000,16,fs,module1 \
                 ramdisk=2,2097152,0,256,swap,module2 icount"
            ),
            "{text}"
        );
    }
}
