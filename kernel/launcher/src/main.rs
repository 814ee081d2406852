//! `cargo run`: see [`launcher`].

use std::process::ExitCode;

use launcher::options::Options;
use launcher::outcome::Status;

fn main() -> ExitCode {
    let done = Options::from_args().and_then(|options| {
        // The whole chain of causes in one line.
        launcher::run(&options).map_err(|error| format!("{error:#}"))
    });
    let status = done.unwrap_or_else(|error| {
        eprintln!("auvm: {error}");
        Status::NotStarted
    });
    ExitCode::from(status.code())
}
