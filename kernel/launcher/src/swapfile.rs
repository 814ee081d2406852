//! The files of swap disks. Each belongs to one run and goes with it.
//!
//! A run holds a lock on its files, which ends with the process however that ends. So a file that can be
//! locked was left by a run that was killed, and the next run with a swap disk removes it: such files can
//! be large. QEMU, which writes to the file, does not outlive the run (see `session`) and knows nothing of
//! this lock.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::swap::SwapArea;

/// What the files' names end in; nothing else in their directory does.
pub const EXTENSION: &str = "swap";

/// The file of a swap disk, removed when dropped.
#[derive(Debug)]
#[must_use = "the file is removed with this value"]
pub struct SwapFile {
    path: PathBuf,
    /// Keeps the lock.
    _file: File,
}

impl SwapFile {
    /// Makes a file with the swap area `area` at `path`, where there must be none. It takes up its first
    /// page only; the others are holes until somebody writes to them.
    ///
    /// Files must be made and removed ([`remove_abandoned`]) under one lock: this one's own comes after it exists.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create(path: &Path, area: SwapArea) -> Result<SwapFile> {
        let context = || format!("cannot make {}", path.display());
        // What was in memory is nobody else's to read.
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .with_context(context)?;
        file.try_lock().with_context(context)?;
        file.set_len(area.size().0)
            .and_then(|()| file.write_all_at(&area.header(), 0))
            .inspect_err(|_| {
                // The first error is the one to tell.
                let _ = fs::remove_file(path);
            })
            .with_context(context)?;
        Ok(SwapFile {
            path: path.to_owned(),
            _file: file,
        })
    }
}

impl Drop for SwapFile {
    fn drop(&mut self) {
        // If this fails the next run with a swap disk does it.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes the swap files in `directory` that belong to no run any more.
///
/// # Errors
/// Those of the file system.
pub fn remove_abandoned(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_none_or(|found| found != EXTENSION) {
            continue;
        }
        // A run may end, and its file with it, at any time.
        let Ok(file) = File::open(&path) else {
            continue;
        };
        if file.try_lock().is_err() {
            continue;
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_file_is_sparse_and_goes_with_its_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1-0.swap");
        let area: SwapArea = "64M".parse().unwrap();
        let file = SwapFile::create(&path, area).unwrap();
        let meta = fs::metadata(&path).unwrap();
        assert_eq!((meta.len(), meta.mode() & 0o777), (64 << 20, 0o600));
        assert!(meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes[..4096], area.header());
        assert!(SwapFile::create(&path, area).is_err(), "it is somebody's");
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn only_abandoned_files_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let area = "40k".parse().unwrap();
        let kept = SwapFile::create(&path("1-0.swap"), area).unwrap();
        for name in ["2-0.swap", "swap-2.img"] {
            fs::write(path(name), "x").unwrap();
        }
        remove_abandoned(dir.path()).unwrap();
        let exist = ["1-0.swap", "2-0.swap", "swap-2.img"].map(|name| path(name).exists());
        assert_eq!(exist, [true, false, true]);
        drop(kept);
    }
}
