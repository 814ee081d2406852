//! The simulation from many seeds, in all modes: five million operations, a few seconds.
//!
//! `AUVM_SEEDS` sets another number of seeds for each mode. A failure prints the command that repeats it and makes it short (see `examples/simulate.rs`).

use super::run::{Mode, Outcome, Run, run};

/// Seeds for each mode unless `AUVM_SEEDS` says otherwise, and operations for each seed.
const SEEDS: u64 = 320;
const OPS: u32 = 4_000;

fn seeds(mode: Mode) {
    let wanted = std::env::var("AUVM_SEEDS").ok();
    let seeds = wanted.map_or(SEEDS, |n| n.parse().expect("AUVM_SEEDS is a number"));
    let mut sum = Outcome::default();
    for seed in 0..seeds {
        match run(&Run::new(seed, OPS, mode)) {
            Ok(outcome) => {
                assert_eq!(outcome.ops, u64::from(OPS));
                sum.accesses += outcome.accesses;
                sum.out_of_memory += outcome.out_of_memory;
                sum.io_errors += outcome.io_errors;
                sum.forks += outcome.forks;
                sum.growths += outcome.growths;
                sum.swapoffs += outcome.swapoffs;
                sum.kept_swaps += outcome.kept_swaps;
                sum.swap_errors += outcome.swap_errors;
                sum.kills += outcome.kills;
                sum.discarded += outcome.discarded;
                sum.outs += outcome.outs;
                sum.stays += outcome.stays;
                sum.without_tables += outcome.without_tables;
            }
            Err(error) => panic!("{error}"),
        }
    }
    // What a mode is for has happened.
    assert!(sum.accesses > seeds * u64::from(OPS) / 5, "{sum:?}");
    assert!(sum.forks > seeds * 5, "{sum:?}");
    assert!(sum.growths > seeds * 5, "{sum:?}");
    assert_eq!(sum.out_of_memory > seeds, mode == Mode::Starved, "{sum:?}");
    assert_eq!(sum.io_errors > seeds, mode == Mode::Faulty, "{sum:?}");
    assert!(sum.swapoffs >= seeds, "{sum:?}");
    assert!(sum.outs > seeds && sum.stays > seeds, "{sum:?}");
    assert!(sum.without_tables > seeds, "{sum:?}");
    let bad_disk = mode == Mode::Faulty;
    let refused = bad_disk || mode == Mode::Starved;
    assert_eq!(sum.kept_swaps > seeds / 16, refused, "{sum:?}");
    assert_eq!(sum.swap_errors > seeds, bad_disk, "{sum:?}");
    assert!(sum.discarded > seeds, "{sum:?}");
    assert_eq!(sum.kills > seeds / 32, mode == Mode::Starved, "{sum:?}");
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
        // There was no memory to unmap what mremap had added, and the model took it for gone.
        (1_000_472, 20_000, Mode::Starved),
        // The model did not know that the heap is wired as it grows, and so is not given up through another mapping of it.
        (4_000_587, 20_000, Mode::Faulty),
        (3_000_199, 20_000, Mode::Faulty),
        // swapoff did not find what no entry of an amap shows any more, where memory was too short to count.
        (5020, 10_000, Mode::Starved),
        (5374, 10_000, Mode::Starved),
    ] {
        if let Err(error) = run(&Run::new(seed, ops, mode)) {
            panic!("{error}");
        }
    }
}
