//! What the launcher needs from the distribution, and how it gets there.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::steps::Steps;

/// Where Debian puts the static busybox.
pub const BUSYBOX: &str = "/bin/busybox";

/// A package of Debian or Ubuntu.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Package(&'static str);

impl Package {
    const QEMU: Package = Package("qemu-system-x86");
    const QEMU_WINDOWS: Package = Package("qemu-system-gui");
    const E2FSPROGS: Package = Package("e2fsprogs");
    const BUSYBOX: Package = Package("busybox-static");
    /// A compiler that goes with the sources of its `core`.
    pub const RUSTC: Package = Package("rustc-web");
    /// Those sources.
    pub const RUST_SRC: Package = Package("rust-web-src");
    /// A linker for bare targets.
    pub const LLD: Package = Package("lld");
}

/// The packages without which nothing boots and that are not there; `display` asks for a window.
pub fn missing(display: bool) -> Vec<Package> {
    let mut missing = Vec::new();
    if find_program("qemu-system-x86_64").is_none() {
        missing.push(Package::QEMU);
    }
    if display && window_backend().is_none() {
        missing.push(Package::QEMU_WINDOWS);
    }
    if find_program("mke2fs").is_none() {
        missing.push(Package::E2FSPROGS);
    }
    if !is_static_program(Path::new(BUSYBOX)) {
        missing.push(Package::BUSYBOX);
    }
    missing
}

/// Which of QEMU's window backends is installed.
pub fn window_backend() -> Option<&'static str> {
    let output = Command::new("qemu-system-x86_64")
        .args(["-display", "help"])
        .output()
        .ok()?;
    let offered = String::from_utf8_lossy(&output.stdout).into_owned();
    ["gtk", "sdl"]
        .into_iter()
        .find(|name| offered.lines().any(|line| line == *name))
}

/// Installs packages through apt as root, without asking.
///
/// # Errors
/// Not root, or no apt: the error is the one command that has to be run. apt failed: its output.
pub fn install(packages: &[Package], steps: &Steps) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = packages.iter().map(|package| package.0).collect();
    let names = names.join(" ");
    if find_program("apt-get").is_none() {
        bail!(
            "what Debian calls {names} is missing, and there is no apt-get here: please install it"
        );
    }
    if !nix::unistd::geteuid().is_root() && !steps.dry_run() {
        bail!(
            "some packages are missing; please run:  sudo apt-get install --no-install-recommends {names}"
        );
    }
    let [refresh, install] = installation(packages);
    // Without a network what the old list names may still be at hand: only the installation has to succeed.
    steps.try_run("refreshing the list of packages", &mut { refresh })?;
    steps.run(format!("installing {names}"), &mut { install })?;
    Ok(())
}

/// The commands that install packages, in order. The list of packages first: one from when the machine was made may name versions
/// that are too old for us, or gone from the mirror.
fn installation(packages: &[Package]) -> [Command; 2] {
    [apt("update"), apt_install(packages)]
}

fn apt_install(packages: &[Package]) -> Command {
    let mut command = apt("install");
    command
        .args(["-y", "--no-install-recommends"])
        .args(packages.iter().map(|package| package.0));
    command
}

fn apt(verb: &str) -> Command {
    let mut command = Command::new("apt-get");
    // Another apt at work is waited for, not an error.
    command.env("DEBIAN_FRONTEND", "noninteractive").args([
        "-q",
        "-o",
        "DPkg::Lock::Timeout=600",
        verb,
    ]);
    command
}

/// Looks a program up on the path and where administrators' tools live, which users' paths often lack.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    places.map(|dir: PathBuf| dir.join(name)).find(|path| {
        std::fs::metadata(path)
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    })
}

/// Whether `path` is a 64-bit ELF program that asks for no interpreter.
fn is_static_program(path: &Path) -> bool {
    const PT_INTERP: u32 = 3;
    let Ok(file) = std::fs::read(path) else {
        return false;
    };
    let word = |at: usize, size: usize| {
        let bytes = file.get(at..at + size)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0, |value, byte| value << 8 | usize::from(*byte)),
        )
    };
    // Offset, size and number of the program headers (ELF-64).
    let (Some(start), Some(size), Some(count)) = (word(32, 8), word(54, 2), word(56, 2)) else {
        return false;
    };
    file.starts_with(b"\x7fELF\x02")
        && (0..count).all(|index| {
            word(start.saturating_add(index * size), 4)
                .is_some_and(|kind| kind != PT_INTERP as usize)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_or_not() {
        assert!(find_program("sh").is_some());
        assert!(find_program("no-such-program-anywhere").is_none());
    }

    #[test]
    fn a_stale_list_of_packages_is_refreshed_first() {
        let verbs = installation(&[Package::RUSTC]).map(|command| {
            let mut args = command.get_args();
            args.find(|arg| *arg == "update" || *arg == "install")
                .map(|arg| arg.to_owned())
        });
        assert_eq!(verbs, [Some("update".into()), Some("install".into())]);
    }

    #[test]
    fn a_dynamic_program_is_not_static() {
        // This very test is linked dynamically.
        assert!(!is_static_program(&std::env::current_exe().unwrap()));
        assert!(!is_static_program(Path::new("/etc/passwd")));
    }
}
