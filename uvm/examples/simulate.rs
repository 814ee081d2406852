//! Runs the simulation by hand: replays the seed that a failed run printed, or looks for new ones.
//!
//! ```text
//! cargo run -p uvm --features testing --example simulate -- --seed 7 --ops 4000 --mode torture
//! cargo run -p uvm --features testing --example simulate -- --seed 0 --runs 1000
//! ```
//!
//! Without `--mode` each seed runs in all modes; `--runs` tries that many seeds from the first on. Ends with status 1 if a run failed.

use std::panic::catch_unwind;
use std::process::ExitCode;

use uvm::sim::run::{Mode, run};

struct Options {
    seed: u64,
    runs: u64,
    ops: u64,
    modes: Vec<Mode>,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("simulate: {error}");
            eprintln!(
                "usage: simulate [--seed N] [--runs N] [--ops N] [--mode normal|torture|starved|faulty]"
            );
            return ExitCode::from(2);
        }
    };
    let mut failed = 0;
    for seed in (0..options.runs).map(|n| options.seed.wrapping_add(n)) {
        for &mode in &options.modes {
            // The panic has said what was wrong.
            match catch_unwind(|| run(seed, options.ops, mode)) {
                Ok(outcome) if options.runs == 1 => println!("seed {seed} {mode:?}: {outcome:?}"),
                Ok(_) => {}
                Err(_) => {
                    println!(
                        "FAILED: --seed {seed} --ops {} --mode {}",
                        options.ops,
                        name(mode)
                    );
                    failed += 1;
                }
            }
        }
    }
    println!(
        "{} runs, {failed} failed",
        options.runs * options.modes.len() as u64
    );
    ExitCode::from(u8::from(failed > 0))
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        seed: 0,
        runs: 1,
        ops: 4_000,
        modes: Mode::ALL.to_vec(),
    };
    while let Some(option) = args.next() {
        let value = args
            .next()
            .ok_or_else(|| format!("{option} wants a value"))?;
        let number = || {
            value
                .parse()
                .map_err(|error| format!("{option} {value}: {error}"))
        };
        match option.as_str() {
            "--seed" => options.seed = number()?,
            "--runs" => options.runs = number()?,
            "--ops" => options.ops = number()?,
            "--mode" => {
                let mode = Mode::ALL.into_iter().find(|&mode| name(mode) == value);
                options.modes = vec![mode.ok_or_else(|| format!("no mode {value}"))?];
            }
            _ => return Err(format!("no option {option}")),
        }
    }
    Ok(options)
}

fn name(mode: Mode) -> String {
    format!("{mode:?}").to_lowercase()
}
