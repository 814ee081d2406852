//! Runs the loom models of `src/loom`, which need a build of their own: `--cfg loom` and a target directory beside the ordinary one.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What an outer cargo or a test harness puts into the environment about the package that *it* builds. The launcher's `scrub` has
/// such a list too; depending on the launcher here would build its host libraries under `--cfg loom`.
const FOREIGN: [&str; 13] = [
    "CARGO",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_CRATE_NAME",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_PRIMARY_PACKAGE",
    "CARGO_TARGET_DIR",
    "CARGO_TARGET_TMPDIR",
    "LD_LIBRARY_PATH",
    "OUT_DIR",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTFLAGS",
    "RUST_TEST_THREADS",
];
const FOREIGN_PREFIXES: [&str; 4] = [
    "CARGO_BIN_",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "RUSTUP_TOOLCHAIN",
];

/// `<target>/loom`: cargo gives integration tests `<target>/tmp`.
fn target_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("it lies in the target directory")
        .join("loom")
}

fn run_models() -> Output {
    // The toolchain that runs this test, not the one that rustup would choose here.
    let running = std::env::var_os("CARGO").map(PathBuf::from);
    let rustc = running.as_ref().map(|cargo| cargo.with_file_name("rustc"));
    let mut cargo = Command::new(running.unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let foreign = FOREIGN_PREFIXES
            .iter()
            .any(|prefix| text.starts_with(prefix));
        if foreign || FOREIGN.contains(&&*text) {
            cargo.env_remove(&name);
        }
    }
    if let Some(rustc) = rustc.filter(|rustc| rustc.exists()) {
        cargo.env("RUSTC", rustc);
    }
    cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["test", "--release", "--lib", "--target-dir"])
        .arg(target_dir())
        .args(["--", "loom::"])
        .env("CARGO_ENCODED_RUSTFLAGS", "--cfg\x1floom")
        // The assertions on the states of a task are part of the models.
        .env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true")
        .output()
        .expect("cargo starts")
}

/// How many tests libtest says have passed.
fn passed(stdout: &str) -> u32 {
    stdout
        .lines()
        .filter_map(|line| line.strip_prefix("test result: ok. "))
        .filter_map(|rest| rest.split(' ').next()?.parse::<u32>().ok())
        .sum()
}

#[test]
fn the_models_hold() {
    let output = run_models();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "the models failed: {}\n{stdout}\n{stderr}",
        output.status
    );
    assert_ne!(passed(&stdout), 0, "no model ran\n{stdout}\n{stderr}");
}
