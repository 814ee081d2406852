//! Debian's package of the Linux kernel: fetched through apt, never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use launcher::steps::Steps;
use launcher::workspace::Workspace;

/// The kernel that the stored reference was measured with; another one of the series will do.
const PREFERRED: &str = "linux-image-6.1.0-50-cloud-amd64";

/// What depends on the newest.
const NEWEST: &str = "linux-image-cloud-amd64";

/// An unpacked package.
#[derive(Clone, Debug)]
pub struct Package {
    directory: PathBuf,
    image: PathBuf,
}

impl Package {
    /// The kernel.
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// The module that is at `name` below `kernel/`.
    ///
    /// # Errors
    /// The package holds none.
    pub fn module(&self, name: &str) -> Result<PathBuf> {
        let releases = fs::read_dir(self.directory.join("lib/modules"))?;
        let mut paths = releases
            .flatten()
            .map(|release| release.path().join("kernel").join(name));
        paths
            .find(|path| path.exists())
            .with_context(|| format!("{} holds no module {name}", self.directory.display()))
    }
}

/// Finds the kernel in `given`, or in a package that is fetched on first use and kept in `target/bench/linux`.
///
/// # Errors
/// There is no package and none can be fetched; it is not what it should be.
pub fn package(workspace: &Workspace, given: Option<&Path>, steps: &Steps) -> Result<Package> {
    let directory = workspace.target_dir("bench/linux")?;
    let package = match given {
        Some(package) => package.to_owned(),
        None => match kept(&directory)? {
            Some(package) => package,
            None => {
                fetch(&directory, steps)?;
                kept(&directory)?.context("a package was fetched and is gone")?
            }
        },
    };
    let name = package.file_stem().and_then(|name| name.to_str());
    let name = name.with_context(|| format!("{} has no name", package.display()))?;
    let unpacked = directory.join(name);
    if !unpacked.exists() {
        let aside = directory.join(format!("{name}.new"));
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("--extract").arg(&package).arg(&aside);
        steps.run(format!("unpacking {name}"), &mut unpack)?;
        fs::rename(&aside, &unpacked)?;
    }
    let image = image(&unpacked).with_context(|| {
        format!(
            "{} holds no boot/vmlinuz-*: is it a package linux-image-*-cloud-amd64?",
            package.display()
        )
    })?;
    let directory = unpacked;
    Ok(Package { directory, image })
}

/// A package from an earlier run.
fn kept(directory: &Path) -> Result<Option<PathBuf>> {
    let mut packages: Vec<PathBuf> = fs::read_dir(directory)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    packages.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
    packages.sort();
    let preferred = packages.iter().position(|path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(PREFERRED))
    });
    Ok(match preferred {
        Some(at) => Some(packages.swap_remove(at)),
        None => packages.pop(),
    })
}

fn fetch(directory: &Path, steps: &Steps) -> Result<()> {
    let refreshed = || {
        let mut update = Command::new("apt-get");
        update.args(["-q", "-o", "DPkg::Lock::Timeout=600", "update"]);
        // Only root may; and without a network there is nothing new to learn.
        steps.try_run("refreshing the list of packages", &mut update)
    };
    let first = download(directory, steps);
    let again = first.or_else(|_| {
        refreshed()?;
        download(directory, steps)
    });
    again.context(
        "cannot fetch Debian's kernel package. With a network, `apt-get update` as root may help; without one, \
         bring a package linux-image-6.1.0-*-cloud-amd64_*.deb from packages.debian.org and give it: \
         cargo bench -- --linux-package FILE.deb",
    )
}

fn download(directory: &Path, steps: &Steps) -> Result<()> {
    let name = candidate()?;
    // Aside, so that half a package, of a download that was interrupted, is never taken for a whole one.
    let aside = directory.join("new");
    if aside.exists() {
        fs::remove_dir_all(&aside)?;
    }
    fs::create_dir(&aside)?;
    let mut download = Command::new("apt-get");
    download.args(["-q", "download", &name]).current_dir(&aside);
    steps.run(format!("fetching {name}"), &mut download)?;
    let package = kept(&aside)?.context("apt-get download succeeded and left no package")?;
    let file = package.file_name().context("a package has a name")?;
    fs::rename(&package, directory.join(file))?;
    fs::remove_dir(&aside)?;
    Ok(())
}

/// The package to fetch.
fn candidate() -> Result<String> {
    let known = ask(&["show", "--no-all-versions", PREFERRED])?;
    if known.contains("Package:") {
        return Ok(PREFERRED.to_owned());
    }
    let depends = ask(&["depends", NEWEST])?;
    match dependency(&depends) {
        Some(name) => Ok(name.to_owned()),
        None => {
            bail!("apt knows neither {PREFERRED} nor {NEWEST}: are Debian's package lists here?")
        }
    }
}

/// `linux-image-6.1.0-56-cloud-amd64` out of what `apt-cache depends` prints.
fn dependency(depends: &str) -> Option<&str> {
    let mut names = depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "));
    names.find(|name| name.starts_with("linux-image-"))
}

/// What apt-cache prints; nothing when it knows nothing.
fn ask(words: &[&str]) -> Result<String> {
    let output = Command::new("apt-cache").args(words).output();
    let output = output.context("cannot start apt-cache")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The kernel's image in an unpacked package.
fn image(unpacked: &Path) -> Option<PathBuf> {
    let boot = fs::read_dir(unpacked.join("boot")).ok()?;
    let mut files = boot.flatten().map(|entry| entry.path());
    files.find(|path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_what_the_meta_package_depends_on() {
        let depends = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";
        assert_eq!(
            dependency(depends),
            Some("linux-image-6.1.0-56-cloud-amd64")
        );
        assert_eq!(dependency(""), None);
    }

    #[test]
    fn the_preferred_package_is_taken_first() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(kept(dir.path()).unwrap(), None);
        let newer = dir
            .path()
            .join("linux-image-6.1.0-99-cloud-amd64_1_amd64.deb");
        fs::write(&newer, "").unwrap();
        assert_eq!(kept(dir.path()).unwrap(), Some(newer));
        let preferred = dir.path().join(format!("{PREFERRED}_1_amd64.deb"));
        fs::write(&preferred, "").unwrap();
        assert_eq!(kept(dir.path()).unwrap(), Some(preferred));
    }

    #[test]
    fn modules_are_found_whatever_the_release() {
        let dir = tempfile::tempdir().unwrap();
        let modules = dir.path().join("lib/modules/6.1.0-1/kernel/fs");
        fs::create_dir_all(&modules).unwrap();
        fs::write(modules.join("a.ko"), "").unwrap();
        let directory = dir.path().to_owned();
        let package = Package {
            image: directory.clone(),
            directory,
        };
        assert_eq!(package.module("fs/a.ko").unwrap(), modules.join("a.ko"));
        assert!(package.module("fs/b.ko").is_err());
    }

    #[test]
    fn an_image_is_found_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(image(dir.path()), None);
        fs::create_dir(dir.path().join("boot")).unwrap();
        fs::write(dir.path().join("boot/config-6.1"), "").unwrap();
        fs::write(dir.path().join("boot/vmlinuz-6.1"), "").unwrap();
        assert_eq!(image(dir.path()), Some(dir.path().join("boot/vmlinuz-6.1")));
    }
}
