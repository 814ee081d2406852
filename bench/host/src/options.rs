//! The command line of `cargo bench`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use bench_programs::cases::{self, CASES, Case};
use clap::Parser;

/// Run the same programs on auvm and on Linux, and write target/bench/report.md and report.json.
#[derive(Parser, Clone, Debug)]
#[command(name = "cargo bench --")]
pub struct Options {
    /// Only these cases
    #[arg(value_name = "CASE")]
    pub cases: Vec<String>,

    /// List the cases, run nothing
    #[arg(long)]
    pub list: bool,

    /// Keep this run as bench/reference.json, which later runs are compared with, and its drawings beside it
    #[arg(long, conflicts_with = "cases")]
    pub store: bool,

    /// Debian's package of the Linux kernel [default: fetched through apt-get, once]
    #[arg(long, value_name = "FILE.deb")]
    pub linux_package: Option<PathBuf>,

    /// Given by cargo to every bench
    #[arg(long, hide = true)]
    pub bench: bool,
}

impl Options {
    /// The cases to run, in the order of the report.
    ///
    /// # Errors
    /// One does not exist; all that do are listed.
    pub fn chosen(&self) -> Result<Vec<&'static Case>> {
        if let Some(unknown) = self.cases.iter().find(|name| cases::find(name).is_none()) {
            let known: Vec<&str> = CASES.iter().map(|case| case.name).collect();
            bail!(
                "there is no case '{unknown}'; there are: {}",
                known.join(", ")
            );
        }
        let chosen =
            |case: &&Case| self.cases.is_empty() || self.cases.iter().any(|name| name == case.name);
        Ok(CASES.iter().filter(chosen).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> Options {
        Options::try_parse_from(["bench"].iter().chain(words)).unwrap()
    }

    #[test]
    fn cargos_own_word_is_ignored() {
        assert_eq!(options(&["--bench"]).chosen().unwrap().len(), CASES.len());
    }

    #[test]
    fn some_cases_in_the_reports_order() {
        let (first, last) = (CASES[0].name, CASES[CASES.len() - 1].name);
        let chosen = options(&[last, first, "--bench"]).chosen().unwrap();
        assert_eq!(
            chosen.iter().map(|case| case.name).collect::<Vec<_>>(),
            [first, last]
        );
    }

    #[test]
    fn unknown_cases_are_refused_with_the_list() {
        let error = options(&["nosuch"]).chosen().unwrap_err().to_string();
        assert!(
            error.contains("'nosuch'") && error.contains(CASES[0].name),
            "{error}"
        );
    }

    #[test]
    fn only_whole_runs_are_stored() {
        assert!(Options::try_parse_from(["bench", "--store", "a"]).is_err());
    }
}
