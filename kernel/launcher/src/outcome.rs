//! What became of a run: the launcher's exit status, and a line about it unless all is well.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::backtrace;
use crate::session::{self, Console, Ended};

/// The launcher's exit status: what `--exec` and the shell's `poweroff` answer to their caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// All well.
    Success,
    /// The last command failed.
    CommandFailed,
    /// auvm was not started: something is missing, does not build, or was asked for wrongly.
    NotStarted,
    /// The kernel panicked.
    KernelPanic,
    /// QEMU ended in a way that the kernel did not ask for.
    MachineDied,
    /// `--timeout` was over.
    TimedOut,
    /// A signal ended the launcher.
    Interrupted(Signal),
}

impl Status {
    /// The number that the process exits with.
    pub fn code(self) -> u8 {
        match self {
            Status::Success => 0,
            Status::CommandFailed => 1,
            Status::NotStarted => 2,
            Status::KernelPanic => 101,
            Status::MachineDied => 102,
            Status::TimedOut => 124,
            // As shells have it.
            Status::Interrupted(signal) => 128 + signal as u8,
        }
    }
}

/// What follows from the end of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The guest wants to be booted again.
    Boot,
    /// The launcher ends with this status, and with these words if it has any.
    End(Status, Option<String>),
}

/// Where a run left its traces.
#[derive(Clone, Copy, Debug)]
pub struct Traces<'a> {
    /// The kernel's log.
    pub log: &'a Path,
    /// QEMU's record of processor resets.
    pub resets: &'a Path,
    /// The kernel's ELF file.
    pub kernel: &'a Path,
}

/// Judges the end of a run on `console` that was given `timeout`.
pub fn conclude(
    ended: &Ended,
    console: Console,
    timeout: Option<Duration>,
    traces: Traces,
) -> Next {
    /// What the kernel writes to the exit device; QEMU makes it `2 * value + 1`.
    const DONE: i32 = 0x10 << 1 | 1;
    const FAILED: i32 = 0x11 << 1 | 1;
    const PANIC: i32 = 0x12 << 1 | 1;
    const REBOOT: i32 = 0x13 << 1 | 1;
    let (status, complaints) = match ended {
        Ended::Exited { status, complaints } => (status, complaints),
        Ended::TimedOut => {
            let seconds = timeout.unwrap_or_default().as_secs();
            let words = format!("killed after {seconds} seconds (--timeout)");
            return Next::End(Status::TimedOut, Some(words));
        }
        Ended::Interrupted(signal) => return Next::End(Status::Interrupted(*signal), None),
        Ended::NobodyListens => return Next::End(Status::Interrupted(Signal::SIGPIPE), None),
    };
    match session::exit_code(*status) {
        Some(DONE) => Next::End(Status::Success, None),
        Some(FAILED) => Next::End(Status::CommandFailed, None),
        Some(REBOOT) => Next::Boot,
        Some(PANIC) => {
            let words = backtrace::explain(&text(traces.log), traces.kernel);
            let bare = || format!("the kernel panicked; its log is {}", traces.log.display());
            let words = words.map_or_else(bare, |words| words.trim_end().to_owned());
            Next::End(Status::KernelPanic, Some(words))
        }
        Some(0) => match triple_fault(&text(traces.resets)) {
            Some(registers) => {
                let words = format!("the processor gave up (triple fault)\n{registers}");
                Next::End(Status::MachineDied, Some(words))
            }
            // Ctrl-A X.
            None if console == Console::Terminal => Next::End(Status::Success, None),
            None => Next::End(
                Status::MachineDied,
                Some("the machine was reset".to_owned()),
            ),
        },
        _ => {
            let words = format!("QEMU ended by itself ({status}): {complaints}");
            Next::End(Status::MachineDied, Some(words))
        }
    }
}

/// The registers at a triple fault, if there was one.
fn triple_fault(resets: &str) -> Option<&str> {
    let (_, after) = resets.rsplit_once("Triple fault\n")?;
    // First the state that led there; then, further down, the reset's own.
    let end = after
        .find("\n\n")
        .or_else(|| Some(after[1..].find("CPU Reset")? + 1));
    let dump = &after[..end.unwrap_or(after.len())];
    let registers = dump.find("XMM").or_else(|| dump.find("FCW="));
    Some(dump[..registers.unwrap_or(dump.len())].trim_end())
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    fn after(code: i32, console: Console, resets: &str) -> Next {
        let files = tempfile::tempdir().unwrap();
        let resets_file = files.path().join("resets");
        fs::write(&resets_file, resets).unwrap();
        let log = files.path().join("log");
        fs::write(&log, "boot\n\nkernel panic: boom\n").unwrap();
        let traces = Traces {
            log: &log,
            resets: &resets_file,
            kernel: Path::new("/nosuch"),
        };
        let status = ExitStatus::from_raw(code << 8);
        let ended = Ended::Exited {
            status,
            complaints: "ouch".to_owned(),
        };
        conclude(&ended, console, None, traces)
    }

    #[test]
    fn the_kernels_word() {
        let end = |code| after(code, Console::Output, "");
        assert_eq!(end(33), Next::End(Status::Success, None));
        assert_eq!(end(35), Next::End(Status::CommandFailed, None));
        let words = Some("kernel panic: boom".to_owned());
        assert_eq!(end(37), Next::End(Status::KernelPanic, words));
        assert_eq!(end(39), Next::Boot);
    }

    #[test]
    fn without_the_kernels_word() {
        let words = Some("QEMU ended by itself (exit status: 1): ouch".to_owned());
        assert_eq!(
            after(1, Console::Output, ""),
            Next::End(Status::MachineDied, words)
        );
        assert_eq!(
            after(0, Console::Terminal, ""),
            Next::End(Status::Success, None)
        );
        let words = Some("the machine was reset".to_owned());
        assert_eq!(
            after(0, Console::Output, ""),
            Next::End(Status::MachineDied, words)
        );
        let resets = "CPU Reset (CPU 0)\nRAX=0\nTriple fault\nCPU Reset (CPU 0)\nRAX=7\nXMM00=0\n";
        let words = "the processor gave up (triple fault)\nCPU Reset (CPU 0)\nRAX=7".to_owned();
        let died = Next::End(Status::MachineDied, Some(words));
        assert_eq!(after(0, Console::Terminal, resets), died);
    }

    #[test]
    fn time_and_signals() {
        let path = Path::new("/nosuch");
        let traces = Traces {
            log: path,
            resets: path,
            kernel: path,
        };
        let end = |ended| {
            conclude(
                &ended,
                Console::Output,
                Some(Duration::from_secs(5)),
                traces,
            )
        };
        let words = Some("killed after 5 seconds (--timeout)".to_owned());
        assert_eq!(end(Ended::TimedOut), Next::End(Status::TimedOut, words));
        let interrupted = Status::Interrupted(Signal::SIGTERM);
        assert_eq!(
            end(Ended::Interrupted(Signal::SIGTERM)),
            Next::End(interrupted, None)
        );
        assert_eq!(interrupted.code(), 143);
    }
}
