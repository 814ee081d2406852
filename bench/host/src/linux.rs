//! The cases on Linux: Debian's kernel, and a first file system that holds nothing but the programs.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bench_programs::DIRECTORY;
use bench_programs::cases::Case;
use launcher::qemu;
use launcher::session::{self, Console, Ended};

use crate::auvm::{MEMORY, TIMEOUT, options};
use crate::collector::Collector;
use crate::cpio::Archive;
use crate::programs::Programs;

/// Linux as strong as it can honestly be made: nothing that costs instructions and is not auvm's to match. Then the console, quiet.
pub const COMMAND_LINE: &str = "mitigations=off init_on_alloc=0 randomize_kstack_offset=off lsm=landlock audit=0 norandmaps \
    transparent_hugepage=never nokaslr console=ttyS0 quiet loglevel=1 panic=-1";

/// Boots `kernel` and runs the cases. The first file system's archive is made in `directory`.
///
/// # Errors
/// A file cannot be read or written; the machine did not end as it should.
pub fn run(
    kernel: &Path,
    programs: &Programs,
    cases: &[&Case],
    directory: &Path,
    to: &mut Collector,
) -> Result<()> {
    let archive = directory.join("linux.cpio");
    fs::write(&archive, archived(programs, cases)?)
        .with_context(|| format!("cannot write {}", archive.display()))?;
    let mut machine = qemu::processor(&options(&[])?)?;
    machine.args(["-m", MEMORY]);
    machine.arg("-kernel").arg(kernel);
    machine.arg("-initrd").arg(&archive);
    machine.args(["-append", COMMAND_LINE]);
    machine.args(["-chardev", "stdio,id=console,signal=off"]);
    machine.args([
        "-serial",
        "chardev:console",
        "-monitor",
        "none",
        "-display",
        "none",
    ]);
    to.show();
    let timeout = Duration::from_secs(TIMEOUT.parse()?);
    let ended = session::run(machine, Console::Output, Some(timeout), &mut |piece| {
        to.take(piece);
        true
    })?;
    match ended {
        Ended::Exited { status, .. } if status.success() => Ok(()),
        Ended::Exited { status, complaints } => {
            bail!("QEMU ended by itself ({status}): {complaints}")
        }
        Ended::TimedOut => bail!("Linux was not done after {TIMEOUT} seconds"),
        Ended::Interrupted(signal) => bail!("interrupted by {signal}"),
        Ended::NobodyListens => bail!("nobody listens"),
    }
}

fn archived(programs: &Programs, cases: &[&Case]) -> Result<Vec<u8>> {
    let read =
        |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let mut archive = Archive::default();
    archive.directory("/dev");
    // Where the first process's output goes.
    archive.device("/dev/console", (5, 1));
    archive.file("/init", &read(&programs.init())?);
    archive.directory(DIRECTORY);
    for (host, guest) in programs.files() {
        archive.file(guest, &read(&host)?);
    }
    let names = cases.iter().map(|case| case.name);
    let lines: String = std::iter::once("machine")
        .chain(names)
        .map(|name| format!("{name}\n"))
        .collect();
    archive.file(&format!("{DIRECTORY}/run"), lines.as_bytes());
    Ok(archive.finish())
}
