//! The files that both kernels are given.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bench_programs::{CASE, ENDS, FILE, FILE_PAGES, FIRST, PAGE};

/// Where the files are on this machine.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Where the programs were built.
    built: PathBuf,
    /// The file that the cases about files read.
    data: PathBuf,
}

impl Programs {
    /// The programs in `built`, and the file, which is written into `directory`.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn new(built: PathBuf, directory: &Path) -> Result<Programs> {
        let data = directory.join("file");
        // No page like another, and none of zeroes.
        let page = |number: usize| vec![(number % 251) as u8 + 1; PAGE];
        let content: Vec<u8> = (0..FILE_PAGES).flat_map(page).collect();
        fs::write(&data, content).with_context(|| format!("cannot write {}", data.display()))?;
        Ok(Programs { built, data })
    }

    /// The files with these names there: where each is here, and where it is to be there.
    pub fn files<'a>(
        &'a self,
        names: &'a [&'static str],
    ) -> impl Iterator<Item = (PathBuf, &'static str)> + 'a {
        let all = [
            (self.built.join("case"), CASE),
            (self.built.join("ends"), ENDS),
            (self.built.join("first"), FIRST),
            (self.data.clone(), FILE),
        ];
        all.into_iter().filter(|(_, name)| names.contains(name))
    }

    /// What Linux starts first.
    pub fn init(&self) -> PathBuf {
        self.built.join("init")
    }
}
