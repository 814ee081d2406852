//! The simulation from many seeds, in all modes: five million operations, a few seconds.
//!
//! A failure prints the command that repeats it and makes it short (see `examples/simulate.rs`).

use uvm::sim::run::{Mode, Outcome, Run, run};

/// Seeds for each mode, and operations for each seed.
const SEEDS: u64 = 320;
const OPS: u32 = 4_000;

fn seeds(mode: Mode) {
    let mut sum = Outcome::default();
    for seed in 0..SEEDS {
        match run(&Run::new(seed, OPS, mode)) {
            Ok(outcome) => {
                assert_eq!(outcome.ops, u64::from(OPS));
                sum.accesses += outcome.accesses;
                sum.out_of_memory += outcome.out_of_memory;
                sum.io_errors += outcome.io_errors;
                sum.forks += outcome.forks;
            }
            Err(error) => panic!("{error}"),
        }
    }
    // What a mode is for has happened.
    assert!(sum.accesses > SEEDS * u64::from(OPS) / 5, "{sum:?}");
    assert!(sum.forks > SEEDS * 5, "{sum:?}");
    assert_eq!(sum.out_of_memory > SEEDS, mode == Mode::Starved, "{sum:?}");
    assert_eq!(sum.io_errors > SEEDS, mode == Mode::Faulty, "{sum:?}");
}

#[test]
fn normal() {
    seeds(Mode::Normal);
}

#[test]
fn torture() {
    seeds(Mode::Torture);
}

#[test]
fn starved() {
    seeds(Mode::Starved);
}

#[test]
fn faulty() {
    seeds(Mode::Faulty);
}

/// Runs that once failed, as they were then; what they do changes with every new kind of operation. Each bug has a test of its own too.
#[test]
fn runs_that_once_failed() {
    for (seed, ops, mode) in [
        // fork: "intervals overlap".
        (19, 10_000, Mode::Faulty),
        (28, 10_000, Mode::Torture),
        // Reads were under way when the last program had ended.
        (1094, 5_000, Mode::Starved),
        (2045, 5_000, Mode::Starved),
    ] {
        if let Err(error) = run(&Run::new(seed, ops, mode)) {
            panic!("{error}");
        }
    }
}
