//! An interactive session: a terminal with auvm's shell on it.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::screen::Screen;
use crate::slots::Slot;

/// What the shell prints when it waits for a line.
pub const PROMPT: &str = "auvm> ";

/// How long an answer may take. Far beyond what it should: machines that run tests are busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// Building everything the first time comes before the first prompt.
const FIRST_PATIENCE: Duration = Duration::from_secs(900);

/// A booted machine and the terminal in front of it. Dropping it ends the machine.
pub struct Session {
    launcher: Child,
    terminal: File,
    output: Receiver<Vec<u8>>,
    screen: Screen,
    files: TempDir,
    /// The terminal's other end, kept open so that its settings can be looked at when the launcher is gone.
    other_end: File,
    before: Termios,
    _slot: Slot,
}

impl Session {
    pub(crate) fn start(mut command: Command, files: TempDir, slot: Slot) -> Session {
        let pty = openpty(None, None).expect("a terminal can be had");
        let (terminal, other_end) = (File::from(pty.master), File::from(pty.slave));
        let before = tcgetattr(&other_end).expect("it is a terminal");
        let end = || Stdio::from(other_end.try_clone().expect("a descriptor can be had"));
        let errors = File::create(files.path().join("stderr")).expect("a file can be made");
        let launcher = command
            .stdin(end())
            .stdout(end())
            .stderr(errors)
            .spawn()
            .expect("the launcher starts");
        let (pieces, output) = mpsc::channel();
        let mut reader = terminal.try_clone().expect("a descriptor can be had");
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut piece) {
                if pieces.send(piece[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        let screen = Screen::default();
        let mut session = Session {
            launcher,
            terminal,
            output,
            screen,
            files,
            other_end,
            before,
            _slot: slot,
        };
        session.wait_for("the first prompt", FIRST_PATIENCE, |screen| {
            screen.line() == PROMPT
        });
        session
    }

    /// Types `keys` as they are.
    ///
    /// # Panics
    /// The terminal is gone.
    pub fn keys(&mut self, keys: &str) {
        self.terminal
            .write_all(keys.as_bytes())
            .expect("the terminal takes keys");
    }

    /// Types a line, waits for the next prompt, and returns the lines printed in between.
    ///
    /// # Panics
    /// No prompt comes.
    pub fn command(&mut self, line: &str) -> Vec<String> {
        let before = self.screen.done().len();
        self.keys(&format!("{line}\r"));
        self.wait_for(line, PATIENCE, |screen| {
            screen.done().len() > before && screen.line() == PROMPT
        });
        // The first is the prompt with the line typed behind it.
        self.screen.done()[before + 1..].to_vec()
    }

    /// Waits until the screen is as `looks` wants it; `what` names it should that never happen.
    ///
    /// # Panics
    /// It never happens.
    pub fn wait_until(&mut self, what: &str, looks: impl Fn(&Screen) -> bool) {
        self.wait_for(what, PATIENCE, looks);
    }

    /// Types `keys` until the screen is as `looks` wants it, once a second: for keys that concern a program which the screen does
    /// not show to be there yet.
    ///
    /// # Panics
    /// It never happens.
    pub fn press(&mut self, keys: &str, what: &str, looks: impl Fn(&Screen) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            self.keys(keys);
            let again = Instant::now() + Duration::from_secs(1);
            while Instant::now() < again {
                if looks(&self.screen) {
                    return;
                }
                if let Ok(piece) = self.output.recv_timeout(Duration::from_millis(100)) {
                    self.screen.feed(&piece);
                }
            }
        }
        self.fail(what);
    }

    /// What is on the screen.
    pub fn screen(&self) -> &Screen {
        &self.screen
    }

    /// Types `poweroff`, waits for the launcher's end, and looks whether it left the terminal as it was.
    ///
    /// # Panics
    /// It does not end, or the terminal has changed.
    pub fn power_off(mut self) -> ExitStatus {
        self.keys("poweroff\r");
        let status = self.ended();
        self.assert_terminal_restored();
        status
    }

    /// Sends the launcher a signal and waits for its end.
    ///
    /// # Panics
    /// It does not end, or the terminal has changed.
    pub fn signal(mut self, signal: Signal) -> ExitStatus {
        kill(self.pid(), signal).expect("the launcher runs");
        let status = self.ended();
        self.assert_terminal_restored();
        status
    }

    /// The launcher's process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.launcher.id() as i32)
    }

    /// Gives commands to QEMU's monitor, which shares the terminal.
    ///
    /// # Panics
    /// The monitor does not answer.
    pub fn monitor<'a>(&mut self, commands: impl IntoIterator<Item = &'a str>) {
        const MONITOR_PROMPT: &str = "(qemu) ";
        /// Ctrl-A C goes there and back.
        const SWITCH: &str = "\x01c";
        self.keys(SWITCH);
        // The prompt comes with the first key or newline only, when the monitor was used before.
        self.keys("\r");
        // The guest goes on printing on the same line: what follows the prompt may be its own.
        let prompts = |screen: &Screen| screen.line().starts_with(MONITOR_PROMPT);
        self.wait_until("the monitor", prompts);
        for command in commands {
            let before = self.screen.done().len();
            self.keys(&format!("{command}\r"));
            self.wait_until(command, |screen| {
                screen.done().len() > before && prompts(screen)
            });
        }
        self.keys(SWITCH);
    }

    /// Waits for the launcher's end and returns what it said on standard error.
    ///
    /// # Panics
    /// It does not end.
    pub fn end(mut self) -> (ExitStatus, String) {
        let status = self.ended();
        self.assert_terminal_restored();
        (status, self.errors())
    }

    fn errors(&self) -> String {
        std::fs::read_to_string(self.files.path().join("stderr")).unwrap_or_default()
    }

    fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.launcher.try_wait().expect("it can be waited for") {
                return status;
            }
            if Instant::now() > deadline {
                self.fail("the launcher's end");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn assert_terminal_restored(&self) {
        let after = tcgetattr(&self.other_end).expect("it is a terminal");
        assert!(
            after == self.before,
            "the terminal was left in another mode:\n{after:?}\nand was\n{:?}",
            self.before
        );
    }

    fn wait_for(&mut self, what: &str, patience: Duration, looks: impl Fn(&Screen) -> bool) {
        let deadline = Instant::now() + patience;
        while !looks(&self.screen) {
            match self.output.recv_timeout(Duration::from_millis(200)) {
                Ok(piece) => self.screen.feed(&piece),
                Err(RecvTimeoutError::Timeout) => {
                    let ended = self.launcher.try_wait().expect("it can be waited for");
                    if ended.is_some() || Instant::now() > deadline {
                        self.fail(what);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => self.fail(what),
            }
        }
    }

    fn fail(&mut self, what: &str) -> ! {
        let errors = self.errors();
        let status = self.launcher.try_wait();
        let printed = crate::tail(&self.screen.done().join("\n"));
        panic!(
            "waited in vain for {what}; launcher: {status:?}\n--- screen\n{printed}\n{}\n--- stderr\n{}\n--- log\n{}",
            self.screen.line(),
            crate::tail(&errors),
            crate::tail(&crate::log(&self.files))
        )
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It may have ended already. QEMU goes with it.
        let _ = self.launcher.kill();
        let _ = self.launcher.wait();
    }
}
