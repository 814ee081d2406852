//! Which compiler builds what.
//!
//! Host tools and user programs are built by the toolchain that runs this launcher. The kernel needs
//! `core` for its bare target, which that toolchain may lack: then it is added through rustup, or the
//! distribution's own compiler builds `core` from source. No toolchain is ever changed beyond
//! `rustup target add`, and not even that where `RUSTUP_AUTO_INSTALL=0` asks for none of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::packages::Package;
use crate::steps::Steps;

/// The kernel's target.
pub const KERNEL_TARGET: &str = "x86_64-unknown-none";

/// The target of user programs.
pub const PROGRAM_TARGET: &str = "x86_64-unknown-linux-gnu";

/// Debian's compiler, where its source package puts `core` for building.
const DISTRIBUTION_RUSTC: &str = "/usr/bin/rustc";

/// Oldest minor version of Rust 1 that builds auvm; the workspace's `rust-version`.
const OLDEST_MINOR: u32 = 95;

/// A cargo and a rustc that belong together.
#[derive(Clone, Debug)]
pub struct Toolchain {
    cargo: PathBuf,
    rustc: PathBuf,
    sysroot: PathBuf,
    version: String,
}

/// What compiles the kernel.
#[derive(Clone, Debug)]
pub enum KernelCompiler {
    /// The toolchain itself: it has the target's `core`.
    Toolchain,
    /// The distribution's rustc, with `core` built from source.
    Distribution {
        /// Its version, such as `1.96.0`.
        version: String,
        /// What links: its own sysroot has no linker for the target.
        linker: PathBuf,
    },
}

impl Toolchain {
    /// The toolchain whose cargo runs this process, else the one on the path.
    ///
    /// # Errors
    /// There is no rustc.
    pub fn current() -> Result<Toolchain> {
        let running = std::env::var_os("CARGO").map(PathBuf::from);
        // The real compiler next to the real cargo: no proxy of rustup's in between, which might install.
        let beside = running
            .as_deref()
            .and_then(Path::parent)
            .map(|dir| dir.join("rustc"))
            .filter(|rustc| rustc.exists());
        let asked = beside.unwrap_or_else(|| "rustc".into());
        let sysroot = PathBuf::from(ask(Command::new(&asked).args(["--print", "sysroot"]))?);
        let own = |name: &str| Some(sysroot.join("bin").join(name)).filter(|path| path.exists());
        let rustc = own("rustc").unwrap_or(asked);
        let cargo = own("cargo").or(running).unwrap_or_else(|| "cargo".into());
        let version = version_of(&rustc)?;
        Ok(Toolchain {
            cargo,
            rustc,
            sysroot,
            version,
        })
    }

    /// Such as `1.95.0`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether the prebuilt `core` of `target` is installed.
    fn has_core(&self, target: &str) -> bool {
        let libraries = self.sysroot.join("lib/rustlib").join(target).join("lib");
        std::fs::read_dir(libraries).is_ok_and(|entries| {
            entries
                .flatten()
                .any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
        })
    }

    /// Its linker for bare targets.
    fn lld(&self) -> Option<PathBuf> {
        let path = self
            .sysroot
            .join("lib/rustlib")
            .join(PROGRAM_TARGET)
            .join("bin/rust-lld");
        path.exists().then_some(path)
    }

    /// The name by which rustup knows it, if it does.
    fn rustup_name(&self) -> Option<&str> {
        let parent = self.sysroot.parent()?;
        (parent.file_name()? == "toolchains").then_some(self.sysroot.file_name()?.to_str()?)
    }

    /// Adds the kernel's target through rustup, if that is possible and allowed.
    ///
    /// # Errors
    /// rustup could not be started. That it failed is no error: there is another way.
    pub fn add_kernel_target(&self, steps: &Steps) -> Result<()> {
        if std::env::var_os("RUSTUP_AUTO_INSTALL").is_some_and(|value| value == "0")
            || self.has_core(KERNEL_TARGET)
        {
            return Ok(());
        }
        let Some(name) = self
            .rustup_name()
            .filter(|_| crate::packages::find_program("rustup").is_some())
        else {
            return Ok(());
        };
        let mut command = Command::new("rustup");
        command.args(["target", "add", "--toolchain", name, KERNEL_TARGET]);
        scrub(&mut command);
        steps.try_run(format!("adding {KERNEL_TARGET} to {name}"), &mut command)?;
        Ok(())
    }

    /// Chooses the kernel's compiler, or says which packages are missing.
    ///
    /// # Errors
    /// A compiler that does not answer.
    pub fn kernel_compiler(&self) -> Result<Result<KernelCompiler, Vec<Package>>> {
        if self.has_core(KERNEL_TARGET) {
            return Ok(Ok(KernelCompiler::Toolchain));
        }
        let linker = self
            .lld()
            .or_else(|| crate::packages::find_program("ld.lld"));
        let mut missing = Vec::new();
        let version = distribution_compiler()?;
        if version.is_none() {
            missing.extend([Package::RUSTC, Package::RUST_SRC]);
        }
        if linker.is_none() {
            missing.push(Package::LLD);
        }
        Ok(match (version, linker) {
            (Some(version), Some(linker)) => Ok(KernelCompiler::Distribution { version, linker }),
            _ => Err(missing),
        })
    }

    /// A cargo command in a clean environment.
    fn cargo(&self) -> Command {
        let mut command = Command::new(&self.cargo);
        scrub(&mut command);
        command
    }

    /// `cargo build` for user programs, linked statically.
    pub fn programs_cargo(&self) -> Command {
        let mut command = self.cargo();
        command
            .env("RUSTC", &self.rustc)
            .args(["build", "--target", PROGRAM_TARGET]);
        command
    }

    /// `cargo build` for the kernel's target with `compiler`.
    pub fn kernel_cargo(&self, compiler: &KernelCompiler) -> Command {
        let mut command = self.cargo();
        command.args(["build", "--target", KERNEL_TARGET]);
        match compiler {
            KernelCompiler::Toolchain => {
                command.env("RUSTC", &self.rustc);
            }
            KernelCompiler::Distribution { linker, .. } => {
                command
                    .args([
                        "-Zbuild-std=core,alloc,compiler_builtins",
                        "-Zbuild-std-features=compiler-builtins-mem",
                    ])
                    .env("RUSTC", DISTRIBUTION_RUSTC)
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env("CARGO_TARGET_X86_64_UNKNOWN_NONE_LINKER", linker);
            }
        }
        command
    }

    /// A name for the target directory of what `compiler` makes: artefacts of two compilers do not mix.
    pub fn directory(&self, compiler: &KernelCompiler) -> String {
        match compiler {
            KernelCompiler::Toolchain => format!("kernel-toolchain-{}", self.version),
            KernelCompiler::Distribution { version, .. } => {
                format!("kernel-distribution-{version}")
            }
        }
    }
}

/// Version of the distribution's rustc, if it is new enough and has the sources of `core` with it.
fn distribution_compiler() -> Result<Option<String>> {
    let rustc = Path::new(DISTRIBUTION_RUSTC);
    if !rustc.exists() {
        return Ok(None);
    }
    let version = version_of(rustc)?;
    let minor = version
        .split('.')
        .nth(1)
        .and_then(|minor| minor.parse::<u32>().ok());
    let sysroot = PathBuf::from(ask(Command::new(rustc).args(["--print", "sysroot"]))?);
    let sources = sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml");
    Ok((minor >= Some(OLDEST_MINOR) && sources.exists()).then_some(version))
}

/// `1.95.0` out of `rustc 1.95.0 (59807616e 2026-04-14)`.
fn version_of(rustc: &Path) -> Result<String> {
    let line = ask(Command::new(rustc).arg("--version"))?;
    match line.split(' ').nth(1) {
        Some(version) => Ok(version.to_owned()),
        None => bail!("{} --version answers '{line}'", rustc.display()),
    }
}

/// First line of what a command prints.
fn ask(command: &mut Command) -> Result<String> {
    scrub(command);
    let output = command
        .output()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    if !output.status.success() {
        bail!(
            "{} failed: {}",
            crate::steps::shell_line(command),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned())
}

/// Takes out of the environment what an outer cargo put there about the package and toolchain that *it* builds
/// or runs. `CARGO_HOME` and the network's settings stay.
pub fn scrub(command: &mut Command) {
    const NAMES: [&str; 14] = [
        "CARGO",
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_CRATE_NAME",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_PRIMARY_PACKAGE",
        "CARGO_TARGET_DIR",
        "CARGO_TARGET_TMPDIR",
        "LD_LIBRARY_PATH",
        "OUT_DIR",
        "RUSTC",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTDOCFLAGS",
        "RUSTFLAGS",
    ];
    const PREFIXES: [&str; 4] = [
        "CARGO_BIN_",
        "CARGO_MANIFEST_",
        "CARGO_PKG_",
        "RUSTUP_TOOLCHAIN",
    ];
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if NAMES.contains(&&*text) || PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
}
