//! The harness of the machine tests: boots auvm through its launcher and drives it from its shell.
//!
//! Two ways: [`Auvm::exec`] runs commands and hands back what they printed; [`Auvm::session`] gives a
//! terminal on which a test types and reads. Both go through the launcher's binary, as a user does. At
//! most two machines run at once, over all processes on this host.
//!
//! Failures are panics: this is test code, and each says what auvm printed and what its log ends with.

pub mod oracle;
pub mod pty;
pub mod screen;
pub mod session;
mod slots;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use launcher::workspace::Workspace;
use tempfile::TempDir;

use crate::session::Session;

/// Seconds after which a test that runs commands gives up on its machine.
const TIMEOUT: u64 = 300;

/// A machine to boot.
#[derive(Clone, Debug, Default)]
pub struct Auvm {
    options: Vec<OsString>,
    qemu: Vec<OsString>,
    timeout: Option<u64>,
}

/// What a run of commands left behind.
#[derive(Debug)]
pub struct Outcome {
    /// The launcher's exit status; `None` when a signal ended it.
    pub status: Option<i32>,
    /// What the commands printed.
    pub stdout: String,
    /// What the launcher said.
    pub stderr: String,
    /// The kernel's log.
    pub log: String,
}

impl Auvm {
    /// A machine with the launcher's defaults.
    pub fn new() -> Auvm {
        Auvm::default()
    }

    /// Adds one of the launcher's options with its value.
    pub fn option(mut self, name: &str, value: impl Into<OsString>) -> Auvm {
        self.options.extend([name.into(), value.into()]);
        self
    }

    /// Adds one of the launcher's options that has no value.
    pub fn flag(mut self, name: &str) -> Auvm {
        self.options.push(name.into());
        self
    }

    /// Adds arguments of QEMU's own.
    pub fn qemu(mut self, arguments: &[&str]) -> Auvm {
        self.qemu.extend(arguments.iter().map(OsString::from));
        self
    }

    /// Gives a machine that runs commands so many seconds, instead of five minutes.
    pub fn timeout(mut self, seconds: u64) -> Auvm {
        self.timeout = Some(seconds);
        self
    }

    /// Boots, runs shell commands, powers off.
    ///
    /// # Panics
    /// The launcher cannot be started. Whatever happens inside the machine is in the outcome.
    pub fn exec(&self, commands: &str) -> Outcome {
        self.clone()
            .option("--timeout", self.timeout.unwrap_or(TIMEOUT).to_string())
            .option("--exec", commands)
            .launch()
    }

    /// Runs the launcher with just the given options and no input.
    ///
    /// # Panics
    /// The launcher cannot be started.
    pub fn launch(&self) -> Outcome {
        let files = scratch();
        let mut command = self.command(&files);
        let _slot = slots::take();
        let output = command
            .stdin(Stdio::null())
            .output()
            .expect("the launcher starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Outcome {
            status: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
            log: log(&files),
        }
    }

    /// Boots into the shell, on a terminal, and waits for its prompt.
    ///
    /// # Panics
    /// No prompt comes.
    pub fn session(&self) -> Session {
        let files = scratch();
        let slot = slots::take();
        Session::start(self.command(&files), files, slot)
    }

    fn command(&self, files: &TempDir) -> Command {
        let mut command = Command::new(launcher());
        command
            .arg("--log")
            .arg(files.path().join("log"))
            .args(&self.options)
            .arg("--")
            .args(&self.qemu);
        command
    }
}

impl Outcome {
    /// What the commands printed, given that all went well and nobody complained.
    ///
    /// # Panics
    /// The status is not 0, or the launcher had something to say.
    pub fn success(self) -> String {
        assert!(
            self.status == Some(0) && self.stderr.is_empty(),
            "not a success: {self}"
        );
        self.stdout
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "status {:?}", self.status)?;
        writeln!(
            f,
            "--- stdout\n{}\n--- stderr\n{}",
            tail(&self.stdout),
            tail(&self.stderr)
        )?;
        write!(f, "--- log\n{}", tail(&self.log))
    }
}

/// The last lines of a text.
fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// A directory for a run's log.
fn scratch() -> TempDir {
    tempfile::tempdir().expect("a temporary directory can be made")
}

/// The kernel's log of a run; empty when the machine never started.
fn log(files: &TempDir) -> String {
    let bytes = std::fs::read(files.path().join("log")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The source tree.
///
/// # Panics
/// It has gone away.
pub fn workspace() -> &'static Workspace {
    static WORKSPACE: OnceLock<Workspace> = OnceLock::new();
    WORKSPACE.get_or_init(|| Workspace::find().expect("the source tree is there"))
}

/// The launcher's binary, built once per process.
///
/// # Panics
/// It does not build.
pub fn launcher() -> &'static Path {
    static LAUNCHER: OnceLock<PathBuf> = OnceLock::new();
    LAUNCHER.get_or_init(|| {
        // Cargo holds no lock while it runs tests, and mostly has nothing left to build.
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build
            .args(["build", "--quiet", "--package", "auvm", "--bin", "auvm"])
            .current_dir(workspace().root());
        let built = build.stdin(Stdio::null()).output().expect("cargo starts");
        assert!(
            built.status.success(),
            "{}",
            String::from_utf8_lossy(&built.stderr)
        );
        workspace().target("debug/auvm")
    })
}

/// A file of `size` bytes with pseudo-random content, the same on every call; kept between runs.
///
/// # Panics
/// The file cannot be written.
pub fn data_file(name: &str, size: usize) -> PathBuf {
    let path = workspace()
        .target_dir("test-data")
        .expect("a directory can be made")
        .join(name);
    if std::fs::metadata(&path).is_ok_and(|meta| meta.len() == size as u64) {
        return path;
    }
    let mut value = size as u64 | 1;
    let words = std::iter::repeat_with(|| {
        value ^= value << 13;
        value ^= value >> 7;
        value ^= value << 17;
        value
    });
    let mut bytes: Vec<u8> = words
        .take(size.div_ceil(8))
        .flat_map(u64::to_le_bytes)
        .collect();
    bytes.truncate(size);
    // Another test process may be doing the same: whole files only.
    let aside = tempfile::NamedTempFile::new_in(path.parent().expect("it has one"))
        .expect("a file can be made");
    std::fs::write(&aside, bytes).expect("the file can be written");
    aside.persist(&path).expect("the file can be renamed");
    path
}
