//! The proof has teeth: each of the bugs in `tests/bugs/*.patch`, put into a copy of the crate, is caught by the simulation.
//!
//! ```text
//! cargo test -p uvm --test bugs -- --ignored --nocapture
//! AUVM_BUGS=fork cargo test -p uvm --test bugs -- --ignored --nocapture     only those with "fork" in their names
//! ```
//!
//! A patch begins with a line `Bug: ` that says what is wrong and a line `Breaks: ` that says which rule or row it breaks. It has a
//! budget of [`BUDGET`] operations over all modes. That it does not apply, does not build, hangs, or survives is a failure. The
//! same operations must pass without any patch.
//!
//! The copy lies outside the tree: the workspace with `executor` and `uvm` as its only members. There is one, changed
//! from patch to patch, so that only `uvm` is built again.

use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Operations in which a bug must show, over all modes and seeds.
const BUDGET: u64 = 100_000;
/// Operations of one run.
const OPS: u64 = 2_500;
const MODES: [&str; 4] = ["normal", "torture", "starved", "faulty"];
/// After this a run counts as a hang that the simulation has not noticed.
const PATIENCE: Duration = Duration::from_secs(120);

type Outcome<T> = Result<T, String>;

/// One patch.
struct Bug {
    name: String,
    patch: PathBuf,
    what: String,
    breaks: String,
}

/// Where a bug showed.
struct Caught {
    mode: &'static str,
    seed: u64,
    /// Operations up to the end of the run that failed.
    operations: u64,
}

/// The copy of the workspace. Removed when dropped.
struct Copy {
    root: PathBuf,
}

#[test]
#[ignore = "builds the crate once for each bug"]
fn the_simulation_catches_each() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = manifest.parent().expect("the crate is in a workspace");
    let filter = std::env::var("AUVM_BUGS").unwrap_or_default();
    let bugs = bugs(&manifest.join("tests/bugs"), &filter).expect("patches with headers");
    assert!(!bugs.is_empty(), "no patch has {filter:?} in its name");
    let copy = Copy::new(workspace).expect("a copy of the workspace");
    copy.restore(workspace).expect("the crate's sources");
    copy.build().expect("the crate as it is builds");
    match copy.hunt() {
        Ok(None) => {}
        Ok(Some(caught)) => panic!("without any bug: mode {} seed {}", caught.mode, caught.seed),
        Err(error) => panic!("without any bug: {error}"),
    }
    let mut table = format!(
        "{:<32} {:>8} {:>5} {:>10}  breaks\n",
        "bug", "mode", "seed", "operations"
    );
    let mut missed = Vec::new();
    for bug in &bugs {
        let outcome = copy
            .restore(workspace)
            .and_then(|()| copy.apply(&bug.patch))
            .and_then(|()| copy.build())
            .and_then(|()| copy.hunt());
        let line = match outcome {
            Ok(Some(caught)) => format!(
                "{:<32} {:>8} {:>5} {:>10}  {}",
                bug.name, caught.mode, caught.seed, caught.operations, bug.breaks
            ),
            Ok(None) => {
                missed.push(format!("{}: survives. {}", bug.name, bug.what));
                format!("{:<32} MISSED", bug.name)
            }
            Err(error) => {
                missed.push(format!("{}: {error}", bug.name));
                format!("{:<32} FAILED", bug.name)
            }
        };
        println!("{line}");
        writeln!(table, "{line}").expect("a string takes everything");
    }
    println!("\n{table}");
    assert!(
        missed.is_empty(),
        "{} of {} bugs were not caught:\n{}",
        missed.len(),
        bugs.len(),
        missed.join("\n")
    );
}

/// The patches in `folder` with `filter` in their names, in order.
fn bugs(folder: &Path, filter: &str) -> Outcome<Vec<Bug>> {
    let mut bugs = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| format!("{folder:?}: {error}"))? {
        let patch = entry.map_err(|error| error.to_string())?.path();
        if patch
            .extension()
            .is_none_or(|extension| extension != "patch")
        {
            continue;
        }
        let name = patch
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default();
        let text = fs::read_to_string(&patch).map_err(|error| format!("{patch:?}: {error}"))?;
        let header = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            line.map(|value| value.trim().to_owned())
                .ok_or_else(|| format!("{name}: no line {key:?}"))
        };
        let bug = Bug {
            what: header("Bug:")?,
            breaks: header("Breaks:")?,
            patch,
            name,
        };
        if bug.name.contains(filter) {
            bugs.push(bug);
        }
    }
    bugs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(bugs)
}

impl Copy {
    /// An empty workspace with this one's settings.
    fn new(workspace: &Path) -> Outcome<Self> {
        let root = std::env::temp_dir().join(format!("auvm-bugs-{}", std::process::id()));
        let copy = Self { root };
        fs::create_dir_all(&copy.root).map_err(|error| error.to_string())?;
        let manifest = read(&workspace.join("Cargo.toml"))?;
        write(&copy.root.join("Cargo.toml"), &with_two_members(&manifest)?)?;
        write(
            &copy.root.join("Cargo.lock"),
            &read(&workspace.join("Cargo.lock"))?,
        )?;
        for optional in [".cargo", "rust-toolchain.toml"] {
            let from = workspace.join(optional);
            if from.exists() {
                mirror(&from, &copy.root.join(optional))?;
            }
        }
        mirror(&workspace.join("executor"), &copy.root.join("executor"))?;
        Ok(copy)
    }

    /// Brings the crate's sources back to what they are in the workspace.
    fn restore(&self, workspace: &Path) -> Outcome<()> {
        mirror(&workspace.join("uvm"), &self.root.join("uvm"))
    }

    fn apply(&self, patch: &Path) -> Outcome<()> {
        let mut git = Command::new("git");
        git.args(["apply", "--whitespace=nowarn"])
            .arg(patch)
            .current_dir(&self.root)
            // Whatever repository the folder for temporary files may lie in.
            .env("GIT_CEILING_DIRECTORIES", std::env::temp_dir());
        run(git).map_err(|error| format!("the patch no longer applies, make it anew: {error}"))
    }

    fn build(&self) -> Outcome<()> {
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["build", "--offline", "--quiet", "--package", "uvm"])
            .args(["--example", "simulate", "--features", "testing"])
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", self.root.join("target"))
            .env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only")
            .env_remove("RUSTFLAGS");
        run(cargo).map_err(|error| format!("does not build: {error}"))
    }

    /// Runs all modes in turn, seed after seed, until one fails or the budget is used up.
    fn hunt(&self) -> Outcome<Option<Caught>> {
        let program = self.root.join("target/debug/examples/simulate");
        let runs = (0..).flat_map(|seed| MODES.map(|mode| (seed, mode)));
        for (n, (seed, mode)) in (1..=BUDGET / OPS).zip(runs) {
            if fails(&program, seed, mode)? {
                return Ok(Some(Caught {
                    mode,
                    seed,
                    operations: n * OPS,
                }));
            }
        }
        Ok(None)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// Whether the simulation says that this run failed.
fn fails(program: &Path, seed: u64, mode: &str) -> Outcome<bool> {
    let mut child = Command::new(program)
        .args(["--seed", &seed.to_string(), "--ops", &OPS.to_string()])
        .args(["--mode", mode, "--runs", "1", "--no-shrink"])
        .env("RUST_BACKTRACE", "0")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("{program:?}: {error}"))?;
    let mut out = child.stdout.take().expect("it is piped");
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        out.read_to_end(&mut text).map(|_| text)
    });
    let start = Instant::now();
    let status = loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break status,
            None if start.elapsed() > PATIENCE => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("mode {mode} seed {seed} hangs, and is not told of"));
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let text = reader.join().expect("reading does not panic");
    let text = String::from_utf8_lossy(&text.map_err(|error| error.to_string())?).into_owned();
    let told = text.lines().any(|line| line.starts_with("FAILED"));
    match (status.code(), told) {
        (Some(0), false) => Ok(false),
        (Some(1), true) => Ok(true),
        _ => Err(format!(
            "mode {mode} seed {seed} ends with {status}:\n{text}"
        )),
    }
}

/// The workspace's manifest with `executor` and `uvm` as its members.
fn with_two_members(manifest: &str) -> Outcome<String> {
    let mut text = String::new();
    let mut within = false;
    let mut found = 0;
    for line in manifest.lines() {
        match line {
            "members = [" | "default-members = [" => {
                (within, found) = (true, found + 1);
                writeln!(text, "{line} \"executor\", \"uvm\" ]").expect("a string");
            }
            "]" if within => within = false,
            _ if within => {}
            _ => writeln!(text, "{line}").expect("a string"),
        }
    }
    if found == 2 {
        Ok(text)
    } else {
        Err("the manifest's lists of members have another form".into())
    }
}

/// Makes `to` a copy of `from`. Files that are alike stay untouched, so that cargo builds no more than it must.
fn mirror(from: &Path, to: &Path) -> Outcome<()> {
    let told = |error: std::io::Error| format!("{}: {error}", from.display());
    if from.is_file() {
        let bytes = fs::read(from).map_err(told)?;
        if fs::read(to).ok().as_ref() != Some(&bytes) {
            fs::write(to, bytes).map_err(told)?;
        }
        return Ok(());
    }
    fs::create_dir_all(to).map_err(told)?;
    for entry in fs::read_dir(from).map_err(told)? {
        let name = entry.map_err(told)?.file_name();
        if name != "target" {
            mirror(&from.join(&name), &to.join(&name))?;
        }
    }
    // What a patch has added.
    for entry in fs::read_dir(to).map_err(told)? {
        let path = entry.map_err(told)?.path();
        if path.is_file()
            && path
                .file_name()
                .is_some_and(|name| !from.join(name).exists())
        {
            fs::remove_file(path).map_err(told)?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Outcome<String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> Outcome<()> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Runs a command to its end; an error is what it printed.
fn run(mut command: Command) -> Outcome<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[test]
fn every_patch_has_its_header() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bugs");
    assert!(!bugs(&folder, "").expect("patches with headers").is_empty());
}
