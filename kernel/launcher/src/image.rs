//! The images that the machine boots with: root disk, file systems on RAM disks, and the one module
//! that carries what must be in memory.
//!
//! Images live in `target/images`, named by a hash of all that goes into them, and are made once. They
//! are never written to: a root disk that changes is a copy, or QEMU's own scratch file. Making one
//! happens under a lock between processes. The files of swap disks lie there too, and are written to:
//! each belongs to one run.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use crate::add::Add;
use crate::compile::{Linking, Program};
use crate::ext2;
use crate::packages::BUSYBOX;
use crate::ramdisk::{Carries, RamDisk};
use crate::steps::Steps;
use crate::swap::{self, SwapArea};
use crate::swapfile::{self, SwapFile};
use crate::tree::Tree;
use crate::units::Bytes;
use crate::workspace::{FileLock, Workspace};

/// Part of every name: a new way of making images does not find the old ones.
const VERSION: u32 = 1;

/// Room for what is written later.
const SLACK: u64 = 16 << 20;

/// Programs that are commands too, below `/bin`: people run them, not only tests.
const COMMANDS: &[&str] = &["hog", "sleepers"];

/// Images that are kept at least, and the age up to which all are.
const KEEP: usize = 12;
const KEEP_AGE: Duration = Duration::from_secs(3600);

/// A finished image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its file.
    pub path: PathBuf,
    /// Its length, a multiple of 4 KiB.
    pub size: Bytes,
}

/// Where images are kept.
#[derive(Clone, Debug)]
pub struct Images {
    directory: PathBuf,
    steps: Steps,
}

/// Trees of the file systems that a machine is to have.
#[derive(Clone, Debug)]
pub struct FileSystems {
    /// The root.
    pub root: Tree,
    /// One for each RAM disk, if it carries a file system.
    pub ram: Vec<Option<Tree>>,
}

impl FileSystems {
    /// Busybox and its applets, `programs`, what `/etc` is expected to hold, and the added files.
    ///
    /// # Errors
    /// An added file cannot be read; busybox does not answer.
    pub fn new(programs: &[Program], added: &[Add], disks: &[RamDisk]) -> Result<FileSystems> {
        let mut root = Tree::default();
        for directory in [
            "/bin",
            "/data",
            "/dev",
            "/etc",
            "/programs",
            "/root",
            "/tmp",
            "/usr",
        ] {
            root.directory(directory);
        }
        // One directory of commands under all the names that it usually has.
        for (link, to) in [
            ("/sbin", "bin"),
            ("/usr/bin", "../bin"),
            ("/usr/sbin", "../bin"),
        ] {
            root.symlink(link, to);
        }
        root.text("/etc/group", "root:x:0:\n");
        root.text("/etc/hostname", "auvm\n");
        root.text("/etc/hosts", "127.0.0.1 localhost auvm\n");
        root.text("/etc/os-release", "NAME=auvm\nID=auvm\nPRETTY_NAME=auvm\n");
        root.text("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
        root.text("/etc/profile", "export PATH=/bin:/programs\n");
        if Path::new(BUSYBOX).exists() {
            root.host("/bin/busybox", Path::new(BUSYBOX))?;
            let list = Command::new(BUSYBOX)
                .arg("--list")
                .output()
                .context("cannot start busybox")?;
            for applet in String::from_utf8_lossy(&list.stdout)
                .lines()
                .filter(|applet| *applet != "busybox")
            {
                root.symlink(&format!("/bin/{applet}"), "busybox");
            }
        }
        for program in programs.iter().filter(|program| program.host.exists()) {
            root.host(&program.guest(), &program.host)?;
            if program.linking == Linking::StaticPie && COMMANDS.contains(&program.name.as_str()) {
                root.symlink(
                    &format!("/bin/{}", program.name),
                    format!("..{}", program.guest()),
                );
            }
        }
        for add in added {
            root.host(&add.guest, &add.host)?;
        }
        let ram = disks.iter().enumerate().map(|(index, disk)| {
            (disk.carries == Carries::FileSystem).then(|| {
                let mount_point = format!("/ram{index}");
                root.directory(&mount_point);
                root.split_off(&mount_point)
            })
        });
        let ram = ram.collect();
        Ok(FileSystems { root, ram })
    }
}

impl Images {
    /// The images of this workspace.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn new(workspace: &Workspace, steps: Steps) -> Result<Images> {
        Ok(Images {
            directory: workspace.target_dir("images")?,
            steps,
        })
    }

    /// The image of the root file system.
    ///
    /// # Errors
    /// Those of [`ext2::make`].
    pub fn root(&self, tree: &Tree) -> Result<Image> {
        // 256 bytes an inode, and the spare ones that ext2::make adds.
        let space = tree.space()? + (tree.len() as u64 + 1024) * 256;
        let size = (space + space / 16 + SLACK).next_multiple_of(1 << 20);
        self.file_system("root", Bytes(size), tree)
    }

    /// An image of exactly `size` bytes that holds `tree`.
    ///
    /// # Errors
    /// Those of [`ext2::make`].
    pub fn file_system(&self, label: &str, size: Bytes, tree: &Tree) -> Result<Image> {
        let mut hasher = DefaultHasher::new();
        (label, size).hash(&mut hasher);
        tree.hash(&mut hasher)?;
        let title = format!("making the {label} image ({size}, {} files)", tree.len());
        self.cached(label, size, hasher, title, |path| {
            ext2::make(path, label, size, tree, &self.steps)
        })
    }

    /// The first page of a disk with the swap area `area`; all other pages may be zeroes.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn swap_header(&self, area: SwapArea) -> Result<Image> {
        let header = area.header();
        let mut hasher = DefaultHasher::new();
        header.hash(&mut hasher);
        let title = format!("making the header of a swap area ({})", area.size());
        self.cached("swap", Bytes(swap::PAGE), hasher, title, |path| {
            Ok(fs::write(path, header)?)
        })
    }

    /// The disk with the `index`-th swap area of this run, and what keeps its file: nothing in a dry run. The
    /// files of runs that were killed are removed.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn swap_disk(&self, index: usize, area: SwapArea) -> Result<(Image, Option<SwapFile>)> {
        let (run, size) = (std::process::id(), area.size());
        let path = self
            .directory
            .join(format!("{run}-{index}.{}", swapfile::EXTENSION));
        let _lock = FileLock::take(&self.directory.join("lock"))?;
        let file = self.steps.act(format!("making a swap disk ({size})"), || {
            swapfile::remove_abandoned(&self.directory)?;
            SwapFile::create(&path, area)
        })?;
        Ok((Image { path, size }, file))
    }

    /// One image with all `parts`, each beginning at a multiple of 4 KiB, in order. A single part is its own.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn container(&self, parts: &[Image]) -> Result<Image> {
        if let [only] = parts {
            return Ok(only.clone());
        }
        let mut hasher = DefaultHasher::new();
        parts.iter().for_each(|part| part.path.hash(&mut hasher));
        let size = Bytes(parts.iter().map(|part| part.size.0).sum());
        self.cached(
            "modules",
            size,
            hasher,
            format!("joining {} images", parts.len()),
            |path| {
                let mut container = File::create(path)?;
                let mut start = 0;
                for part in parts {
                    // Explicitly placed: copying keeps no holes at the end of a part.
                    container.seek(SeekFrom::Start(start))?;
                    std::io::copy(&mut File::open(&part.path)?, &mut container)?;
                    start += part.size.0;
                }
                Ok(container.set_len(start)?)
            },
        )
    }

    /// Looks the image up by its hash, or makes it aside and moves it into place.
    fn cached(
        &self,
        label: &str,
        size: Bytes,
        mut hasher: DefaultHasher,
        title: String,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Image> {
        VERSION.hash(&mut hasher);
        let path = self
            .directory
            .join(format!("{label}-{:016x}.img", hasher.finish()));
        let image = Image {
            path: path.clone(),
            size,
        };
        let _lock = FileLock::take(&self.directory.join("lock"))?;
        if path.exists() {
            // The age of an image counts from its last use.
            File::options()
                .append(true)
                .open(&path)?
                .set_modified(SystemTime::now())?;
            return Ok(image);
        }
        self.steps.act(title, || {
            self.prune()?;
            let aside = path.with_extension("new");
            make(&aside)?;
            Ok(fs::rename(&aside, &path)?)
        })?;
        Ok(image)
    }

    /// Forgets images that nobody has used for long. A machine that runs from one keeps it open.
    fn prune(&self) -> Result<()> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "img") {
                found.push((fs::metadata(&path)?.modified()?, path));
            }
        }
        found.sort();
        let spare = found.len().saturating_sub(KEEP);
        for (used, path) in found.into_iter().take(spare) {
            if used.elapsed().is_ok_and(|age| age > KEEP_AGE) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_files_go_to_the_ram_disk_that_they_name() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cold"), "cold").unwrap();
        let add = |guest: &str| Add {
            host: dir.path().join("cold"),
            guest: guest.to_owned(),
        };
        let disks = ["1M".parse().unwrap(), "1M,fs".parse().unwrap()];
        let systems =
            FileSystems::new(&[], &[add("/ram0/cold"), add("/ram1/cold")], &disks).unwrap();
        let [None, Some(ram1)] = &systems.ram[..] else {
            panic!("only the second disk carries a file system");
        };
        assert_eq!(ram1.len(), 1);
        // Nothing is mounted at /ram0: it is an ordinary directory.
        let mut root = systems.root;
        assert_eq!(root.split_off("/ram0").len(), 1);
        assert_eq!(root.split_off("/ram1").len(), 0);
    }

    #[test]
    fn programs_that_people_run_are_commands() {
        let dir = tempfile::tempdir().unwrap();
        let program = |name: &str, linking| {
            let host = dir.path().join(name);
            fs::write(&host, name).unwrap();
            Program {
                name: name.to_owned(),
                linking,
                host,
            }
        };
        let programs = [
            program("hog", Linking::StaticPie),
            program("hog", Linking::Fixed),
            program("hello", Linking::StaticPie),
        ];
        let tree = FileSystems::new(&programs, &[], &[]).unwrap().root;
        let root = tempfile::tempdir().unwrap();
        tree.write(root.path()).unwrap();
        let command = root.path().join("bin/hog");
        assert!(command.is_symlink());
        assert_eq!(fs::read_to_string(command).unwrap(), "hog");
        assert!(root.path().join("programs/static/hog").exists());
        assert!(!root.path().join("bin/hello").exists());
    }

    #[test]
    fn a_container_keeps_order_and_places() {
        let dir = tempfile::tempdir().unwrap();
        let images = Images {
            directory: dir.path().to_owned(),
            steps: Steps::new(false),
        };
        let part = |name: &str, byte: u8, pages: u64| {
            let path = dir.path().join(name);
            fs::write(&path, vec![byte; pages as usize * 4096]).unwrap();
            Image {
                path,
                size: Bytes(pages * 4096),
            }
        };
        let parts = [part("a", 1, 1), part("b", 2, 2)];
        let whole = images.container(&parts).unwrap();
        assert_eq!(whole.size, Bytes(3 * 4096));
        let bytes = fs::read(&whole.path).unwrap();
        assert!(
            bytes[..4096].iter().all(|byte| *byte == 1)
                && bytes[4096..].iter().all(|byte| *byte == 2)
        );
        assert_eq!(images.container(&parts).unwrap(), whole);
        assert_eq!(images.container(&parts[..1]).unwrap(), parts[0]);
    }
}
