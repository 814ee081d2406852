//! The cases on auvm.

use anyhow::{Result, bail};
use bench_programs::CASE;
use bench_programs::cases::Case;
use launcher::options::Options;
use launcher::outcome::Status;

use crate::collector::Collector;
use crate::programs::Programs;

/// Memory of either machine, as the command line has it. auvm's comes without what its root image takes, which is in memory as well.
pub const MEMORY: &str = "256M";

/// Seconds of this machine's time that a run may take: many times what it takes.
pub const TIMEOUT: &str = "1800";

/// Options of the launcher that both machines are made with.
///
/// # Errors
/// The launcher does not understand them.
pub fn options(more: &[String]) -> Result<Options> {
    let fixed = ["auvm", "--icount", "--memory", MEMORY, "--timeout", TIMEOUT];
    let words = fixed
        .into_iter()
        .map(str::to_owned)
        .chain(more.iter().cloned());
    Options::from_words(words).map_err(anyhow::Error::msg)
}

/// Builds auvm, boots it and runs the cases.
///
/// # Errors
/// It does not build, or the machine did not end as it should.
pub fn run(programs: &Programs, cases: &[&Case], to: &mut Collector) -> Result<()> {
    let mut words = Vec::new();
    for (host, guest) in programs.files() {
        words.extend(["--add".to_owned(), format!("{}:{guest}", host.display())]);
    }
    let names: Vec<&str> = cases.iter().map(|case| case.name).collect();
    words.extend([
        "--exec".to_owned(),
        format!("run {CASE} machine {}", names.join(" ")),
    ]);
    to.show();
    let status = launcher::run_into(&options(&words)?, &mut |piece| {
        to.take(piece);
        true
    })?;
    match status {
        // A case that failed says so itself.
        Status::Success | Status::CommandFailed => Ok(()),
        status => bail!("auvm's run ended with status {}: {status:?}", status.code()),
    }
}
