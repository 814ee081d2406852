//! Where things lie in the source tree and in its target directory.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The source tree and its target directory, both absolute.
#[derive(Clone, Debug)]
pub struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// The tree that this launcher was built from.
    ///
    /// # Errors
    /// The tree has gone away since.
    pub fn find() -> Result<Workspace> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let root = root
            .canonicalize()
            .with_context(|| format!("no source tree at {}", root.display()))?;
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => std::path::absolute(dir)?,
            None => root.join("target"),
        };
        Ok(Workspace { root, target })
    }

    /// The directory of the workspace's `Cargo.toml`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `target/NAME`.
    pub fn target(&self, name: &str) -> PathBuf {
        self.target.join(name)
    }

    /// Makes `target/NAME` a directory.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn target_dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.target(name);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(dir)
    }
}

/// A lock that holds between processes: two launchers do not install or make an image at once.
#[derive(Debug)]
#[must_use = "the lock ends with this value"]
pub struct FileLock {
    /// Closing it gives the lock back.
    _file: std::fs::File,
}

impl FileLock {
    /// Waits for the lock kept in the file `path`, which is made if it is missing.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn take(path: &Path) -> Result<FileLock> {
        let file = std::fs::File::create(path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        file.lock()
            .with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(FileLock { _file: file })
    }
}
