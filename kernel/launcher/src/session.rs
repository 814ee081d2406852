//! One run of QEMU, watched until it ends.
//!
//! Whatever happens to the launcher, QEMU does not outlive it: it is killed when the launcher leaves
//! this module in any way, and by the host's kernel when the launcher dies without a chance to. One
//! thread does it all: signals arrive through a file descriptor, next to QEMU's output.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::getppid;

use crate::terminal::RawTerminal;

/// What auvm's console is on this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Console {
    /// The user's terminal, in raw mode.
    Terminal,
    /// Standard input and output as they are, byte by byte.
    Pipes,
    /// Output only, with the lines ended as on this host.
    Output,
}

/// How a run ended.
#[derive(Debug)]
pub enum Ended {
    /// QEMU ended by itself.
    Exited {
        /// Its exit status.
        status: ExitStatus,
        /// What it complained about.
        complaints: String,
    },
    /// The time was up.
    TimedOut,
    /// The launcher was asked to end.
    Interrupted(Signal),
    /// Nobody reads our output any more.
    NobodyListens,
}

/// Where a machine's output goes.
pub type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> bool;

/// Runs QEMU until it ends, `timeout` is over, or a signal asks the launcher to end.
///
/// To be called from the main thread, which lives as long as the process: QEMU dies with the thread.
///
/// What comes out of [`Console::Output`] is given to `sink` piece by piece, lines ended as on this host; the end of output is an empty piece.
/// It answers whether anybody still listens.
///
/// # Errors
/// QEMU could not be started.
pub fn run(
    mut qemu: Command,
    console: Console,
    timeout: Option<Duration>,
    sink: Sink,
) -> Result<Ended> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    // SIGCHLD too: it tells of QEMU's end.
    let mut watched = SigSet::empty();
    for signal in [
        Signal::SIGCHLD,
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
    ] {
        watched.add(signal);
    }
    watched.thread_block()?;
    let signals = SignalFd::with_flags(&watched, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let terminal = match console {
        Console::Terminal => Some(RawTerminal::take()?),
        Console::Pipes | Console::Output => None,
    };
    qemu.stderr(Stdio::piped());
    if console == Console::Output {
        qemu.stdin(Stdio::null()).stdout(Stdio::piped());
    }
    let launcher = nix::unistd::getpid();
    // SAFETY: between fork and exec the closure only makes system calls and touches no lock or allocator.
    unsafe {
        qemu.pre_exec(move || {
            watched.thread_unblock()?;
            set_pdeathsig(Signal::SIGKILL)?;
            // The launcher may have died just before: then no signal will come.
            if getppid() != launcher {
                return Err(Errno::ESRCH.into());
            }
            Ok(())
        });
    }
    let child = qemu.spawn().context("cannot start qemu-system-x86_64")?;
    let ended = Running { child }.watch(&signals, deadline, sink);
    drop(terminal);
    watched.thread_unblock()?;
    ended
}

/// QEMU, killed when dropped.
struct Running {
    child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn watch(mut self, signals: &SignalFd, deadline: Option<Instant>, sink: Sink) -> Result<Ended> {
        let mut stdout = self.child.stdout.take();
        let mut stderr = self.child.stderr.take();
        let mut lines = HostLines::default();
        let mut complaints = Vec::new();
        loop {
            let timeout =
                match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                    None => PollTimeout::NONE,
                    Some(Duration::ZERO) => return Ok(Ended::TimedOut),
                    // Rounded up, or the last millisecond would spin.
                    Some(left) => PollTimeout::try_from(left + Duration::from_millis(1))
                        .unwrap_or(PollTimeout::MAX),
                };
            let outputs = [
                stdout.as_ref().map(AsFd::as_fd),
                stderr.as_ref().map(AsFd::as_fd),
            ];
            let mut files = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            files.extend(
                outputs
                    .into_iter()
                    .flatten()
                    .map(|file| PollFd::new(file, PollFlags::POLLIN)),
            );
            match poll(&mut files, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            let mut ready = files.iter().map(|file| file.any() == Some(true));
            let signalled = ready.next() == Some(true);
            let stdout_ready = stdout.is_some() && ready.next() == Some(true);
            let stderr_ready = stderr.is_some() && ready.next() == Some(true);
            if stdout_ready
                && let Some(piece) = next_piece(&mut stdout)?
                && !sink(&lines.take(&piece))
            {
                return Ok(Ended::NobodyListens);
            }
            if stderr_ready && let Some(piece) = next_piece(&mut stderr)? {
                complaints.extend_from_slice(&piece);
            }
            if signalled && let Some(signal) = signals.read_signal()? {
                match Signal::try_from(signal.ssi_signo as i32)? {
                    Signal::SIGCHLD => {}
                    signal => return Ok(Ended::Interrupted(signal)),
                }
            }
            // Its pipes first: what it wrote last is still in there.
            let drained = stdout.is_none() && stderr.is_none();
            if drained && let Some(status) = self.child.try_wait()? {
                if !sink(&lines.finish()) {
                    return Ok(Ended::NobodyListens);
                }
                let complaints = String::from_utf8_lossy(&complaints).trim().to_owned();
                return Ok(Ended::Exited { status, complaints });
            }
        }
    }
}

/// Reads once from a pipe that is ready; at its end closes it and answers `None`.
fn next_piece(pipe: &mut Option<impl Read>) -> Result<Option<Vec<u8>>> {
    let Some(from) = pipe else { return Ok(None) };
    let mut piece = vec![0; 16 << 10];
    let n = from.read(&mut piece)?;
    piece.truncate(n);
    if n == 0 {
        *pipe = None;
        return Ok(None);
    }
    Ok(Some(piece))
}

/// Passes console output on; answers whether anybody still takes it.
pub(crate) fn show(bytes: &[u8]) -> bool {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .is_ok()
}

/// Undoes what a console does to the end of each line: CR LF becomes LF. A CR elsewhere stays.
#[derive(Default)]
struct HostLines {
    /// A CR came last, and what follows decides about it.
    held: bool,
}

impl HostLines {
    fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + 1);
        for &byte in bytes {
            if std::mem::take(&mut self.held) && byte != b'\n' {
                out.push(b'\r');
            }
            match byte {
                b'\r' => self.held = true,
                _ => out.push(byte),
            }
        }
        out
    }

    fn finish(&mut self) -> Vec<u8> {
        if std::mem::take(&mut self.held) {
            vec![b'\r']
        } else {
            Vec::new()
        }
    }
}

/// The status with which QEMU ended, or `None` when a signal ended it.
pub fn exit_code(status: ExitStatus) -> Option<i32> {
    match status.signal() {
        Some(_) => None,
        None => status.code(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_become_the_hosts() {
        let mut lines = HostLines::default();
        let mut out = lines.take(b"one\r\ntwo\r");
        out.extend(lines.take(b"\nraw\r\r\n5%\r9%"));
        out.extend(lines.take(b"\r"));
        out.extend(lines.finish());
        assert_eq!(out, b"one\ntwo\nraw\r\n5%\r9%\r");
    }
}
