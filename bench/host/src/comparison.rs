//! Two runs side by side.

use anyhow::{Result, bail};
use bench_programs::cases::{self, CASES, Group};

use crate::collector::Run;
use crate::record::{Machine, Measured};
use crate::statistics::geometric_mean;

/// Parts in a million by which a tick may differ from an instruction; an interrupt may fall into the loop that is timed.
const TICK_TOLERANCE: u64 = 2000;

/// Every case on both kernels.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// What they ran on, in the order of the boots.
    pub boots: Vec<Boots<Machine>>,
    /// The cases that were asked for, in the order of the report.
    pub rows: Vec<Row>,
}

/// A boot of either kernel on machines of the same kind, and what each came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Boots<T> {
    /// The machine's name.
    pub configuration: String,
    /// On auvm.
    pub auvm: T,
    /// On Linux.
    pub linux: T,
}

/// A case on both kernels.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// On auvm.
    pub auvm: Side,
    /// On Linux.
    pub linux: Side,
}

/// What a case came to on a kernel, or why to nothing.
pub type Side = Result<Measured, String>;

impl Comparison {
    /// Puts the runs side by side.
    ///
    /// # Errors
    /// The time-stamp counter of one did not count instructions: its figures are worth nothing.
    pub fn new(boots: Vec<Boots<Run>>) -> Result<Comparison> {
        let machines = boots.iter().flat_map(|boots| [&boots.auvm, &boots.linux]);
        for Machine {
            kernel,
            ticks_per_million,
            ..
        } in machines.map(|run| &run.machine)
        {
            if ticks_per_million.abs_diff(1_000_000) > TICK_TOLERANCE {
                bail!(
                    "on {kernel} a million instructions took {ticks_per_million} ticks: does this QEMU not count instructions?"
                );
            }
        }
        let row = |name| {
            boots.iter().find_map(|boots| {
                Some(Row {
                    name: String::from(name),
                    auvm: side(&boots.auvm, name)?,
                    linux: side(&boots.linux, name)?,
                })
            })
        };
        let rows = CASES.iter().filter_map(|case| row(case.name)).collect();
        let machines = boots.into_iter().map(|boots| Boots {
            configuration: boots.configuration,
            auvm: boots.auvm.machine,
            linux: boots.linux.machine,
        });
        Ok(Comparison {
            boots: machines.collect(),
            rows,
        })
    }

    /// The rows of the cases about `group`.
    pub fn rows_of(&self, group: Group) -> impl Iterator<Item = &Row> {
        let of_group =
            move |row: &&Row| cases::find(&row.name).is_some_and(|case| case.group == group);
        self.rows.iter().filter(of_group)
    }

    /// Whether every case was measured on both.
    pub fn is_complete(&self) -> bool {
        self.rows.iter().all(|row| row.both().is_some())
    }

    /// The geometric mean of the ratios over medians and over means, of the cases about `group` that were measured on both.
    pub fn geometric_means(&self, group: Group) -> Option<Ratios> {
        let ratios: Vec<Ratios> = self.rows_of(group).filter_map(Row::ratios).collect();
        Some(Ratios {
            p50: geometric_mean(ratios.iter().map(|ratios| ratios.p50))?,
            mean: geometric_mean(ratios.iter().map(|ratios| ratios.mean))?,
        })
    }
}

fn side(run: &Run, name: &str) -> Option<Side> {
    if let Some(case) = run.cases.iter().find(|case| case.name == name) {
        return Some(Ok(case.clone()));
    }
    let failed = run.failures.iter().find(|(failed, _)| failed == name);
    failed.map(|(_, why)| Err(why.clone()))
}

/// auvm by Linux: below 1 is less work on auvm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratios {
    /// Over medians.
    pub p50: f64,
    /// Over means.
    pub mean: f64,
}

impl Row {
    /// auvm's and Linux's figures, if there are both.
    pub fn both(&self) -> Option<(&Measured, &Measured)> {
        Some((self.auvm.as_ref().ok()?, self.linux.as_ref().ok()?))
    }

    /// The ratios, if both sides were measured.
    pub fn ratios(&self) -> Option<Ratios> {
        let (auvm, linux) = self.both()?;
        Some(Ratios {
            p50: auvm.p50.max(1) as f64 / linux.p50.max(1) as f64,
            mean: auvm.mean.max(1.0) / linux.mean.max(1.0),
        })
    }

    /// The sides on which the faults were not those that the case is about, by the kernels' names.
    pub fn doubtful(&self) -> Vec<&'static str> {
        let Some(expected) = cases::find(&self.name).and_then(|case| case.faults) else {
            return Vec::new();
        };
        let sides = [("auvm", &self.auvm), ("Linux", &self.linux)];
        let wrong = |side: &Side| {
            side.as_ref()
                .is_ok_and(|case| case.faults != case.count * u64::from(expected))
        };
        sides
            .into_iter()
            .filter(|(_, side)| wrong(side))
            .map(|(kernel, _)| kernel)
            .collect()
    }
}

/// Comparisons for tests.
#[cfg(test)]
pub(crate) mod example {
    use super::*;
    use crate::record::example::{case, machine};

    /// Of the runs of one machine.
    pub(crate) fn of(auvm: Run, linux: Run) -> Result<Comparison> {
        let configuration = "plain".to_owned();
        Comparison::new(vec![Boots {
            configuration,
            auvm,
            linux,
        }])
    }

    /// One row: a fault, with the medians and means of both sides.
    pub(crate) fn one(auvm: (u64, f64), linux: (u64, f64)) -> Comparison {
        let run = |kernel, (p50, mean)| Run {
            machine: machine(kernel),
            cases: vec![case("read-unwritten", p50, mean)],
            failures: vec![],
        };
        of(run("auvm", auvm), run("Linux", linux)).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::example::{case, machine};

    #[test]
    fn ratios_are_auvm_by_linux() {
        let comparison = example::one((100, 110.0), (400, 440.0));
        let means = comparison.geometric_means(Group::Operations).unwrap();
        assert!((means.p50 - 0.25).abs() < 1e-9 && (means.mean - 0.25).abs() < 1e-9);
        assert!(comparison.is_complete());
        assert!(comparison.rows[0].doubtful().is_empty());
    }

    #[test]
    fn samples_without_their_faults_are_doubtful() {
        let mut comparison = example::one((1, 1.0), (1, 1.0));
        comparison.rows[0].linux.as_mut().unwrap().faults -= 1;
        assert_eq!(comparison.rows[0].doubtful(), ["Linux"]);
    }

    #[test]
    fn a_failure_is_a_row_and_not_in_the_mean() {
        let good = Run {
            machine: machine("auvm"),
            cases: vec![case("signal", 1, 1.0)],
            failures: vec![],
        };
        let bad = Run {
            machine: machine("Linux"),
            cases: vec![],
            failures: vec![("signal".to_owned(), "no".to_owned())],
        };
        let comparison = example::of(good, bad).unwrap();
        assert_eq!(comparison.rows.len(), 1);
        assert!(
            !comparison.is_complete() && comparison.geometric_means(Group::Operations).is_none()
        );
    }

    #[test]
    fn a_tick_must_be_an_instruction() {
        let run = || Run {
            machine: machine("auvm"),
            cases: vec![],
            failures: vec![],
        };
        let mut timed = run();
        timed.machine.ticks_per_million = 350_000;
        assert!(example::of(run(), timed).is_err());
    }
}
