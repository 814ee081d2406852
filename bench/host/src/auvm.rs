//! The cases on auvm.

use anyhow::{Result, bail};
use bench_programs::cases::Case;
use bench_programs::{CASE, FIRST};
use launcher::options::Options;
use launcher::outcome::Status;

use crate::collector::Collector;
use crate::configuration::Configuration;
use crate::programs::Programs;

/// Seconds of this machine's time that a run may take: many times what it takes.
pub const TIMEOUT: &str = "1800";

/// Options of the launcher that all machines are made with.
///
/// # Errors
/// The launcher does not understand them.
pub fn options(more: &[String]) -> Result<Options> {
    let fixed = ["auvm", "--icount", "--timeout", TIMEOUT];
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
pub fn run(
    configuration: &Configuration,
    programs: &Programs,
    cases: &[&Case],
    to: &mut Collector,
) -> Result<()> {
    let mut words: Vec<String> = configuration.auvm.iter().map(|&word| word.into()).collect();
    for (host, guest) in programs.files(configuration.files) {
        words.extend(["--add".to_owned(), format!("{}:{guest}", host.display())]);
    }
    let measure = |case: &&&Case| case.run.is_some();
    let names: Vec<&str> = cases.iter().filter(measure).map(|case| case.name).collect();
    let mut commands = format!("run {CASE} machine {}", names.join(" "));
    if cases.iter().any(|case| case.run.is_none()) {
        commands.insert_str(0, &format!("run {FIRST}; "));
    }
    words.extend(["--exec".to_owned(), commands]);
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
