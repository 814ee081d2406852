//! `cargo bench`: see [`bench_host`].

use std::process::ExitCode;

use bench_host::options::Options;
use clap::Parser;

fn main() -> ExitCode {
    let options = Options::parse();
    // `cargo test --all-targets` runs benches too, without this word: the comparison takes minutes and is no test.
    if !options.bench {
        return ExitCode::SUCCESS;
    }
    match bench_host::compare(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::from(2)
        }
    }
}
