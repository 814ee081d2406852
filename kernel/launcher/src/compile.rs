//! Builds the kernel and the programs that go into its image, through nested cargo runs.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::steps::Steps;
use crate::toolchain::{KERNEL_TARGET, KernelCompiler, PROGRAM_TARGET, Toolchain};
use crate::workspace::Workspace;

/// How much the compiler optimises the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// All of it.
    Release,
    /// Not at all, with debug assertions.
    Dev,
}

/// What a warning in a build means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warnings {
    /// Nothing.
    Quiet,
    /// The build has failed.
    Deny,
}

/// How user programs are linked. Both kinds are static.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linking {
    /// Loaded anywhere: Rust's default for static programs.
    StaticPie,
    /// Loaded at one fixed address.
    Fixed,
}

/// One program for the image.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its name in `tests/programs/src/bin`.
    pub name: String,
    /// How it was linked.
    pub linking: Linking,
    /// Where the file is on this machine.
    pub host: PathBuf,
}

impl Program {
    /// Where the program is inside auvm.
    pub fn guest(&self) -> String {
        match self.linking {
            Linking::StaticPie => format!("/programs/{}", self.name),
            Linking::Fixed => format!("/programs/static/{}", self.name),
        }
    }
}

/// Builds the kernel; answers its ELF file.
///
/// # Errors
/// The compiler's messages when it does not compile, or when `warnings` are denied and there are some.
pub fn kernel(
    workspace: &Workspace,
    toolchain: &Toolchain,
    compiler: &KernelCompiler,
    profile: Profile,
    warnings: Warnings,
    steps: &Steps,
) -> Result<PathBuf> {
    let directory = workspace.target(&toolchain.directory(compiler));
    let mut cargo = toolchain.kernel_cargo(compiler);
    cargo.args(["--package", "kernel", "--bin", "kernel"]);
    // A panic's backtrace follows frame pointers; the kernel runs where it is linked.
    rustflags(
        &mut cargo,
        &["force-frame-pointers=yes", "relocation-model=static"],
    );
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    let output = run(workspace, &directory, "building the kernel", cargo, steps)?;
    // Cargo repeats the warnings of what it does not build again.
    if warnings == Warnings::Deny && output.lines().any(|line| line.starts_with("warning:")) {
        bail!("the kernel's build has warnings:\n{}", output.trim_end());
    }
    let built = match profile {
        Profile::Release => "release",
        Profile::Dev => "debug",
    };
    Ok(directory.join(KERNEL_TARGET).join(built).join("kernel"))
}

/// Builds every program in `tests/programs`, in both kinds.
///
/// # Errors
/// The compiler's messages when one does not compile.
pub fn programs(
    workspace: &Workspace,
    toolchain: &Toolchain,
    steps: &Steps,
) -> Result<Vec<Program>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(workspace.root().join("tests/programs/src/bin"))? {
        if let Some(name) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.strip_suffix(".rs"))
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    let mut programs = Vec::new();
    for linking in [Linking::StaticPie, Linking::Fixed] {
        let (kind, flags) = match linking {
            Linking::StaticPie => ("pie", &["target-feature=+crt-static"][..]),
            Linking::Fixed => (
                "fixed",
                &["target-feature=+crt-static", "relocation-model=static"][..],
            ),
        };
        let directory = workspace.target(&format!("programs-{}-{kind}", toolchain.version()));
        let mut cargo = toolchain.programs_cargo();
        cargo.args(["--package", "programs", "--bins", "--release"]);
        // The image is kept small: symbols of user programs help nobody in there.
        cargo
            .env("CARGO_PROFILE_RELEASE_STRIP", "true")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "0");
        rustflags(&mut cargo, flags);
        run(workspace, &directory, "building the programs", cargo, steps)?;
        let built = directory.join(PROGRAM_TARGET).join("release");
        programs.extend(names.iter().map(|name| Program {
            name: name.clone(),
            linking,
            host: built.join(name),
        }));
    }
    Ok(programs)
}

/// Builds the programs of `bench/programs`, which stand on nothing but the kernel; answers the directory that they are in.
///
/// # Errors
/// The compiler's messages when one does not compile.
pub fn bench_programs(
    workspace: &Workspace,
    toolchain: &Toolchain,
    steps: &Steps,
) -> Result<PathBuf> {
    let directory = workspace.target(&format!("programs-{}-bare", toolchain.version()));
    let mut cargo = toolchain.programs_cargo();
    cargo.args(["--package", "bench-programs", "--bins", "--release"]);
    cargo
        .env("CARGO_PROFILE_RELEASE_STRIP", "true")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0");
    let flags = [
        "target-feature=+crt-static",
        "relocation-model=static",
        // It is by this that the programs know that they have no library under them.
        "panic=abort",
        "link-arg=-nostartfiles",
        "link-arg=-nostdlib",
    ];
    rustflags(&mut cargo, &flags);
    run(
        workspace,
        &directory,
        "building the measuring programs",
        cargo,
        steps,
    )?;
    Ok(directory.join(PROGRAM_TARGET).join("release"))
}

fn rustflags(cargo: &mut Command, codegen: &[&str]) {
    let flags: Vec<&str> = codegen.iter().flat_map(|flag| ["-C", flag]).collect();
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
}

fn run(
    workspace: &Workspace,
    directory: &Path,
    title: &str,
    mut cargo: Command,
    steps: &Steps,
) -> Result<String> {
    cargo
        .arg("--target-dir")
        .arg(directory)
        .current_dir(workspace.root());
    // Steps turns cargo's progress into a bar of its own.
    cargo
        .env("CARGO_TERM_PROGRESS_WHEN", "always")
        .env("CARGO_TERM_PROGRESS_WIDTH", "80")
        .env("CARGO_TERM_COLOR", "never");
    steps.run(title, &mut cargo)
}
