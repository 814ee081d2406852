//! `cargo bench`: boots auvm and Linux in the same QEMU, on one machine after the other, has both run the same programs, and reports what each operation took.
//!
//! The order of events is [`compare`]'s. What is measured is written in `bench/programs`; how a machine is built and
//! booted is the launcher's.

pub mod auvm;
pub mod collector;
pub mod comparison;
pub mod configuration;
pub mod cpio;
pub mod debian;
pub mod documents;
pub mod json;
pub mod linux;
pub mod markdown;
pub mod options;
pub mod plots;
pub mod programs;
pub mod record;
pub mod reference;
pub mod statistics;
pub mod svg;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use bench_programs::cases::{CASES, Case};
use launcher::compile;
use launcher::steps::Steps;
use launcher::toolchain::Toolchain;
use launcher::workspace::Workspace;

use crate::collector::{Collector, Run};
use crate::comparison::{Boots, Comparison};
use crate::configuration::{CONFIGURATIONS, Configuration};
use crate::options::Options;
use crate::programs::Programs;

/// Does all that `options` ask for; answers whether every case ran on both kernels.
///
/// # Errors
/// Something cannot be built, fetched or booted: the error says what, and what to do about it.
pub fn compare(options: &Options) -> Result<bool> {
    if options.list {
        for case in CASES {
            println!("{:<32} {}", case.name, case.sample);
        }
        return Ok(true);
    }
    let cases = options.chosen()?;
    let Bench {
        workspace,
        steps,
        directory,
        programs,
    } = Bench::set_up()?;
    let package = debian::package(&workspace, options.linux_package.as_deref(), &steps)?;

    let mut boots = Vec::new();
    for configuration in CONFIGURATIONS {
        let cases = configuration.cases(&cases);
        if cases.is_empty() {
            continue;
        }
        let mut auvm = Collector::new("auvm", configuration.name, &cases);
        auvm::run(configuration, &programs, &cases, &mut auvm)?;
        let auvm = auvm.finish()?;
        let mut linux = Collector::new("Linux", configuration.name, &cases);
        linux::run(
            configuration,
            &package,
            &programs,
            &cases,
            &directory,
            &mut linux,
        )?;
        boots.push(Boots {
            configuration: configuration.name.to_owned(),
            auvm,
            linux: linux.finish()?,
        });
    }

    let comparison = Comparison::new(boots)?;
    let text = markdown::report(&comparison, linux::COMMAND_LINE);
    let json = json::write(&comparison, linux::COMMAND_LINE);
    save(&directory.join("report.md"), &text)?;
    save(&directory.join("report.json"), &json)?;
    let drawings = plots::all(&comparison);
    for (name, drawing) in &drawings {
        save(&directory.join(name), drawing)?;
    }
    print!("{text}");

    let kept = workspace.root().join("bench");
    let stored = kept.join("reference.json");
    match fs::read_to_string(&stored).map(|before| json::read(&before)) {
        Ok(Ok(before)) => print!("\n{}", reference::against(&before, &comparison)),
        Ok(Err(error)) if options.store => println!(
            "\n{} cannot be read and is replaced: {error:#}",
            stored.display()
        ),
        Ok(Err(error)) => {
            return Err(error.context(format!("{} is not a report", stored.display())));
        }
        Err(_) => println!("\nThere is no {} to compare with.", stored.display()),
    }
    let complete = comparison.is_complete();
    if options.store {
        if !complete {
            bail!("not stored as the reference: some cases did not run");
        }
        save(&stored, &json)?;
        for (name, drawing) in &drawings {
            save(&kept.join(name), drawing)?;
        }
        documents::renew(workspace.root(), &comparison)?;
        println!("Stored as {}; the READMEs show it.", stored.display());
    }
    Ok(complete)
}

/// What both kernels' runs begin with.
struct Bench {
    workspace: Workspace,
    steps: Steps,
    /// Where files go.
    directory: PathBuf,
    programs: Programs,
}

impl Bench {
    fn set_up() -> Result<Self> {
        let workspace = Workspace::find()?;
        let steps = Steps::new(false);
        let toolchain = Toolchain::current()?;
        launcher::set_up(&toolchain, &workspace, false, &steps)?;
        let built = compile::bench_programs(&workspace, &toolchain, &steps)?;
        let directory = workspace.target_dir("bench")?;
        let programs = Programs::new(built, &directory)?;
        Ok(Self {
            workspace,
            steps,
            directory,
            programs,
        })
    }
}

/// Measures cases of one machine on auvm alone: nothing of Linux is fetched or booted.
///
/// # Errors
/// As [`compare`].
pub fn on_auvm(configuration: &Configuration, cases: &[&'static Case]) -> Result<Run> {
    let bench = Bench::set_up()?;
    let mut auvm = Collector::new("auvm", configuration.name, cases);
    auvm::run(configuration, &bench.programs, cases, &mut auvm)?;
    auvm.finish()
}

/// The run that was kept.
///
/// # Errors
/// There is none, or it is no report.
pub fn kept() -> Result<Comparison> {
    let file = Workspace::find()?.root().join("bench/reference.json");
    let text =
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    json::read(&text).with_context(|| format!("{} is not a report", file.display()))
}

fn save(path: &std::path::Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
