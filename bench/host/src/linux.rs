//! The cases on Linux: Debian's kernel, and a first file system that holds nothing but the programs.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bench_programs::DIRECTORY;
use bench_programs::cases::Case;
use launcher::qemu;
use launcher::session::{self, Console, Ended};

use crate::auvm::{TIMEOUT, options};
use crate::collector::Collector;
use crate::configuration::Configuration;
use crate::cpio::Archive;
use crate::debian::Package;
use crate::programs::Programs;

/// Linux as strong as it can honestly be made: nothing that costs instructions and is not auvm's to match. Then the console, quiet.
pub const COMMAND_LINE: &str = "mitigations=off init_on_alloc=0 randomize_kstack_offset=off lsm=landlock audit=0 norandmaps \
    transparent_hugepage=never nokaslr console=ttyS0 quiet loglevel=1 panic=-1";

/// Boots the kernel of `package` and runs the cases. The first file system's archive is made in `directory`.
///
/// # Errors
/// A file cannot be read or written; the machine did not end as it should.
pub fn run(
    configuration: &Configuration,
    package: &Package,
    programs: &Programs,
    cases: &[&Case],
    directory: &Path,
    to: &mut Collector,
) -> Result<()> {
    let archive = directory.join("linux.cpio");
    fs::write(&archive, archived(configuration, package, programs, cases)?)
        .with_context(|| format!("cannot write {}", archive.display()))?;
    let mut machine = qemu::processor(&options(&[])?)?;
    machine.args(["-m", configuration.linux_memory]);
    machine.arg("-kernel").arg(package.image());
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

fn archived(
    configuration: &Configuration,
    package: &Package,
    programs: &Programs,
    cases: &[&Case],
) -> Result<Vec<u8>> {
    let read =
        |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let mut archive = Archive::default();
    ["/dev", "/proc", "/sys", DIRECTORY]
        .iter()
        .for_each(|directory| archive.directory(directory));
    // Where the first process's output goes.
    archive.device("/dev/console", (5, 1));
    archive.file("/init", &read(&programs.init())?);
    for (host, guest) in programs.files(configuration.files) {
        archive.file(guest, &read(&host)?);
    }
    for module in configuration.linux_modules {
        let path = package.module(module)?;
        let name = path.file_name().context("a module has a name")?;
        archive.file(
            &format!("{DIRECTORY}/{}", name.to_string_lossy()),
            &read(&path)?,
        );
    }
    let orders = orders(configuration, cases);
    archive.file(&format!("{DIRECTORY}/orders"), orders.as_bytes());
    Ok(archive.finish())
}

/// What the first process is to do, a line each.
fn orders(configuration: &Configuration, cases: &[&Case]) -> String {
    let (measure, itself): (Vec<&Case>, Vec<&Case>) =
        cases.iter().partition(|case| case.run.is_some());
    let names: Vec<&str> = measure.iter().map(|case| case.name).collect();
    let run = format!("run machine {}", names.join(" "));
    let itself = itself.iter().map(|case| case.name);
    let prepare = configuration.linux_orders.iter().copied();
    itself
        .chain(prepare)
        .chain([&*run])
        .map(|line| format!("{line}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use bench_programs::cases::CASES;
    use bench_programs::orders::ROOM;

    use super::*;
    use crate::configuration::CONFIGURATIONS;

    #[test]
    fn orders_end_with_the_cases() {
        let [plain, paging] = CONFIGURATIONS;
        let all: Vec<&Case> = CASES.iter().collect();
        let text = orders(plain, &plain.cases(&all));
        assert!(
            text.starts_with("boot\nrun machine null-system-call "),
            "{text}"
        );
        assert!(text.len() < ROOM, "{}", text.len());
        let text = orders(paging, &paging.cases(&all));
        assert!(text.starts_with("mount devtmpfs /dev\n"), "{text}");
        assert!(text.contains("\nrun machine paging-cyclic-1 "), "{text}");
    }
}
