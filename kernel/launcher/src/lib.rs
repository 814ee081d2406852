//! The host side of auvm: sets up what is missing, builds the kernel and its programs, makes the images,
//! boots QEMU and reports how it went.
//!
//! The binary `auvm` is this library behind a command line. The machine tests use a few of its parts
//! directly, to get at the same programs that travel in the image.

pub mod add;
pub mod backtrace;
pub mod compile;
pub mod ext2;
pub mod fail;
pub mod image;
pub mod options;
pub mod outcome;
pub mod packages;
pub mod qemu;
pub mod ramdisk;
pub mod session;
pub mod steps;
pub mod swap;
pub mod swapfile;
pub mod terminal;
pub mod toolchain;
pub mod tree;
pub mod units;
pub mod words;
pub mod workspace;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::compile::{Profile, Warnings};
use crate::image::{FileSystems, Image, Images};
use crate::options::Options;
use crate::outcome::{Next, Status, Traces};
use crate::qemu::{LoadedRamDisk, Machine, RootDisk};
use crate::ramdisk::Carries;
use crate::session::{Console, Sink};
use crate::steps::Steps;
use crate::swap::SwapArea;
use crate::swapfile::SwapFile;
use crate::toolchain::{KernelCompiler, Toolchain};
use crate::workspace::{FileLock, Workspace};

/// Seconds that `--exec` may take unless told otherwise.
const EXEC_TIMEOUT: u64 = 600;

/// Does all that `options` ask for.
///
/// # Errors
/// auvm was not started, and why.
pub fn run(options: &Options) -> Result<Status> {
    run_into(options, &mut session::show)
}

/// As [`run`], with what the machine prints under `--exec` given to `sink`, which answers whether anybody still listens.
///
/// # Errors
/// auvm was not started, and why.
pub fn run_into(options: &Options, sink: Sink) -> Result<Status> {
    let steps = Steps::new(options.dry_run);
    let workspace = Workspace::find()?;
    let built = build(options, &workspace, &steps)?;
    if options.build_only {
        return Ok(Status::Success);
    }
    let log = match &options.log {
        Some(log) => std::path::absolute(log)?,
        None => workspace.target_dir("")?.join("auvm.log"),
    };
    let console = match &options.exec {
        Some(_) => Console::Output,
        None if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() => {
            Console::Terminal
        }
        None => Console::Pipes,
    };
    // Of this run alone: another may be under way.
    let resets = workspace.target(&format!("resets-{}.log", std::process::id()));
    let command = || built.command(options, console, &log, &resets);
    if options.dry_run {
        println!("# booting\n{}", steps::shell_line(&command()?));
        return Ok(Status::Success);
    }
    if options.gdb {
        let kernel = built.kernel.display();
        eprintln!("auvm: waiting for  gdb {kernel} -ex 'target remote :1234'");
    }
    let timeout = options
        .timeout
        .or(options.exec.is_some().then_some(EXEC_TIMEOUT));
    let timeout = timeout.map(Duration::from_secs);
    let traces = Traces {
        log: &log,
        resets: &resets,
        kernel: &built.kernel,
    };
    loop {
        // An old log must not speak for this run.
        std::fs::write(&log, "")
            .with_context(|| format!("cannot write the log {}", log.display()))?;
        let ended = session::run(command()?, console, timeout, sink)?;
        let next = outcome::conclude(&ended, console, timeout, traces);
        // QEMU may have ended before it made the file.
        let _ = std::fs::remove_file(&resets);
        if let Next::End(status, words) = next {
            if let Some(words) = words {
                eprintln!("auvm: {words}");
            }
            return Ok(status);
        }
    }
}

/// What a boot needs.
struct Built {
    kernel: PathBuf,
    machine: Machine,
    container: Option<Image>,
    /// The machine's swap disks last as long as these.
    _swap_files: Vec<SwapFile>,
}

impl Built {
    fn command(
        &self,
        options: &Options,
        console: Console,
        log: &Path,
        resets: &Path,
    ) -> Result<Command> {
        let mut qemu =
            self.machine
                .command(options, &self.kernel, self.container.as_ref(), log, console)?;
        // A processor that gives up leaves its registers there.
        qemu.args(["-d", "cpu_reset", "-D"])
            .arg(resets)
            .args(&options.qemu);
        Ok(qemu)
    }
}

fn build(options: &Options, workspace: &Workspace, steps: &Steps) -> Result<Built> {
    let toolchain = Toolchain::current()?;
    let compiler = set_up(&toolchain, workspace, options.display, steps)?;
    let profile = if options.debug {
        Profile::Dev
    } else {
        Profile::Release
    };
    let warnings = if options.build_only {
        Warnings::Deny
    } else {
        Warnings::Quiet
    };
    let kernel = compile::kernel(workspace, &toolchain, &compiler, profile, warnings, steps)?;
    let programs = compile::programs(workspace, &toolchain, steps)?;
    let ram_disks = options.ram_disks();
    let systems = FileSystems::new(&programs, &options.add, &ram_disks)?;
    let images = Images::new(workspace, *steps)?;
    let root = match &options.disk {
        Some(disk) if disk.exists() => kept(disk)?,
        Some(disk) => {
            let fresh = images.root(&systems.root)?;
            let copied = steps.act(format!("making {}", disk.display()), || {
                Ok(std::fs::copy(&fresh.path, disk)?)
            })?;
            RootDisk::Kept(Image {
                path: std::path::absolute(disk)?,
                size: copied.map_or(fresh.size, units::Bytes),
            })
        }
        None if options.icount => RootDisk::Memory(images.root(&systems.root)?),
        None => RootDisk::Scratch(images.root(&systems.root)?),
    };
    let ram = ram_disks.into_iter().zip(&systems.ram).enumerate();
    let ram = ram.map(|(index, (disk, tree))| {
        let image = match tree {
            Some(tree) => Some(images.file_system(&format!("ram{index}"), disk.size, tree)?),
            None if disk.carries == Carries::Swap => {
                Some(images.swap_header(SwapArea::new(disk.size)?)?)
            }
            None => None,
        };
        Ok(LoadedRamDisk { disk, image })
    });
    let ram = ram.collect::<Result<_>>()?;
    let mut swaps = Vec::new();
    let mut swap_files = Vec::new();
    for (index, area) in options.swap_files().iter().enumerate() {
        let (image, file) = images.swap_disk(index, *area)?;
        swaps.push(image);
        swap_files.extend(file);
    }
    let machine = Machine { root, swaps, ram };
    let modules = machine.modules();
    let container = (!modules.is_empty())
        .then(|| images.container(&modules))
        .transpose()?;
    Ok(Built {
        kernel,
        machine,
        container,
        _swap_files: swap_files,
    })
}

/// A root disk from an earlier run.
fn kept(disk: &Path) -> Result<RootDisk> {
    let meta =
        std::fs::metadata(disk).with_context(|| format!("cannot read {}", disk.display()))?;
    Ok(RootDisk::Kept(Image {
        path: std::path::absolute(disk)?,
        size: units::Bytes(meta.len()),
    }))
}

/// Installs what is missing and chooses the kernel's compiler.
///
/// # Errors
/// Something is missing and cannot be installed; the error tells what to do about it.
pub fn set_up(
    toolchain: &Toolchain,
    workspace: &Workspace,
    display: bool,
    steps: &Steps,
) -> Result<KernelCompiler> {
    let _lock = FileLock::take(&workspace.target_dir("")?.join("setup.lock"))?;
    toolchain.add_kernel_target(steps)?;
    let mut missing = packages::missing(display);
    let compiler = match toolchain.kernel_compiler()? {
        Ok(compiler) => Some(compiler),
        Err(more) => {
            missing.extend(more);
            None
        }
    };
    packages::install(&missing, steps)?;
    match compiler {
        Some(compiler) => Ok(compiler),
        None if steps.dry_run() => Ok(KernelCompiler::Toolchain),
        None => match toolchain.kernel_compiler()? {
            Ok(compiler) => Ok(compiler),
            Err(_) => anyhow::bail!(
                "no compiler for {}: rustc-web is older than this workspace needs, and rustup may not add the target",
                toolchain::KERNEL_TARGET
            ),
        },
    }
}
