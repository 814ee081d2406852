//! The steps that lead to a booted machine, each one quiet unless it takes long or fails.
//!
//! A step is a command. While it runs its output is kept back, and shown only when it fails. After a
//! second a progress bar appears, on a terminal only. In a dry run steps are printed and not done.

use std::fmt::Display;
use std::io::Read;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A step shorter than this draws no bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// Performs steps, or prints them.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    dry_run: bool,
}

/// What a finished command left behind.
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Everything it wrote, standard output and error mixed as they came.
    pub output: String,
}

impl Steps {
    /// Steps that are done, or (`dry_run`) only printed.
    pub fn new(dry_run: bool) -> Steps {
        Steps { dry_run }
    }

    /// Whether steps are only printed.
    pub fn dry_run(&self) -> bool {
        self.dry_run
    }

    /// Does `action` with a spinner named `title`, or prints `title` and answers `None`.
    ///
    /// # Errors
    /// Those of `action`, with the title as context.
    pub fn act<T>(
        &self,
        title: impl Display,
        action: impl FnOnce() -> Result<T>,
    ) -> Result<Option<T>> {
        let title = title.to_string();
        if self.dry_run {
            println!("# {title}");
            return Ok(None);
        }
        let (done, waits) = mpsc::channel::<()>();
        let ticker = thread::spawn({
            let title = title.clone();
            move || {
                let mut bar = Bar::new(&title);
                while waits.recv_timeout(Duration::from_millis(100))
                    == Err(RecvTimeoutError::Timeout)
                {
                    bar.tick();
                }
            }
        });
        let result = action().with_context(|| title);
        drop(done);
        ticker.join().expect("the progress bar does not panic");
        result.map(Some)
    }

    /// Runs `command` to its end and expects success. A dry run prints it.
    ///
    /// # Errors
    /// The command could not be started, or failed: then its output is in the error.
    pub fn run(&self, title: impl Display, command: &mut Command) -> Result<String> {
        match self.try_run(&title, command)? {
            None => Ok(String::new()),
            Some(finished) if finished.status.success() => Ok(finished.output),
            Some(finished) => {
                bail!(
                    "{title} failed ({}):\n{}",
                    finished.status,
                    finished.output.trim_end()
                )
            }
        }
    }

    /// Runs `command` to its end, whatever that is. A dry run prints it and answers `None`.
    ///
    /// # Errors
    /// The command could not be started.
    pub fn try_run(&self, title: impl Display, command: &mut Command) -> Result<Option<Finished>> {
        if self.dry_run {
            println!("# {title}\n{}", shell_line(command));
            return Ok(None);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let (pieces, output) = mpsc::channel();
        let readers = [
            pump(child.stdout.take().expect("piped"), pieces.clone()),
            pump(child.stderr.take().expect("piped"), pieces),
        ];
        let mut bar = Bar::new(&title.to_string());
        let mut kept = Transcript::default();
        loop {
            match output.recv_timeout(Duration::from_millis(100)) {
                Ok(piece) => kept.take(&piece, &mut bar),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            bar.tick();
        }
        for reader in readers {
            reader.join().expect("the reader does not panic");
        }
        let status = child.wait()?;
        Ok(Some(Finished {
            status,
            output: kept.finish(),
        }))
    }
}

/// The command as one would type it, with the variables that it sets.
pub fn shell_line(command: &Command) -> String {
    let set = command.get_envs().filter_map(|(name, value)| {
        let value = value?.to_string_lossy().replace('\x1f', " ");
        Some(format!("{}={}", name.display(), quoted(&value)))
    });
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(|word| quoted(&word.to_string_lossy()));
    set.chain(words).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c);
    match word {
        "" => "''".to_owned(),
        _ if word.chars().all(plain) => word.to_owned(),
        _ => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

fn pump(mut from: impl Read + Send + 'static, to: Sender<Vec<u8>>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut piece = vec![0; 4096];
        while let Ok(n @ 1..) = from.read(&mut piece) {
            if to.send(piece[..n].to_vec()).is_err() {
                break;
            }
        }
    })
}

/// Collects lines; those that cargo draws over (they end in a carriage return) only move the bar.
#[derive(Default)]
struct Transcript {
    kept: Vec<u8>,
    line: Vec<u8>,
}

impl Transcript {
    fn take(&mut self, piece: &[u8], bar: &mut Bar) {
        for &byte in piece {
            match byte {
                b'\n' => {
                    let line = std::mem::take(&mut self.line);
                    if !is_cargo_status(&String::from_utf8_lossy(&line)) {
                        self.kept.extend_from_slice(&line);
                        self.kept.push(b'\n');
                    }
                }
                b'\r' => {
                    let line = std::mem::take(&mut self.line);
                    if let Some((done, total)) = cargo_progress(&String::from_utf8_lossy(&line)) {
                        bar.set(done, total);
                    }
                }
                // Cargo clears the rest of its bar with an escape sequence.
                _ => self.line.push(byte),
            }
        }
    }

    fn finish(mut self) -> String {
        self.kept.append(&mut self.line);
        String::from_utf8_lossy(&self.kept).replace("\x1b[K", "")
    }
}

/// Lines in which cargo only says what it is at.
fn is_cargo_status(line: &str) -> bool {
    let line = line.trim_start_matches("\x1b[K").trim_start();
    ["Compiling ", "Downloaded ", "Downloading ", "Updating "]
        .iter()
        .any(|word| line.starts_with(word))
}

/// Reads `Building [=====>     ] 12/87: serde, syn` as (12, 87).
fn cargo_progress(line: &str) -> Option<(u64, u64)> {
    let (_, counts) = line.rsplit_once("] ")?;
    let (counts, _) = counts.split_once(':').unwrap_or((counts, ""));
    let (done, total) = counts.trim().split_once('/')?;
    Some((done.parse().ok()?, total.parse().ok()?))
}

/// A progress bar that stays away until it is worth looking at.
struct Bar {
    bar: ProgressBar,
    since: Instant,
    shown: bool,
}

impl Bar {
    fn new(title: &str) -> Bar {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        bar.set_style(style("{spinner} {msg} {elapsed}"));
        bar.set_message(title.to_owned());
        Bar {
            bar,
            since: Instant::now(),
            shown: false,
        }
    }

    fn set(&mut self, done: u64, total: u64) {
        if self.bar.length().is_none() {
            self.bar
                .set_style(style("{spinner} {msg} {wide_bar} {pos}/{len} {elapsed}"));
        }
        self.bar.set_length(total);
        self.bar.set_position(done);
    }

    fn tick(&mut self) {
        if !self.shown && self.since.elapsed() >= PATIENCE {
            self.shown = true;
            // Draws nothing where standard error is not a terminal.
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.tick();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is well-formed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_kept_for_failures() {
        let error = Steps::new(false)
            .run(
                "trying",
                Command::new("sh").args(["-c", "echo one; echo two >&2; exit 3"]),
            )
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("trying failed (exit status: 3):\n"),
            "{error}"
        );
        assert!(error.contains("one") && error.contains("two"), "{error}");
    }

    #[test]
    fn a_dry_run_does_nothing() {
        let output = Steps::new(true)
            .run("never", Command::new("false").arg("x"))
            .unwrap();
        assert_eq!(output, "");
    }

    #[test]
    fn commands_print_as_typed() {
        let mut command = Command::new("cargo");
        command.args(["build", "it's", ""]).env("A", "b c");
        assert_eq!(shell_line(&command), r"A='b c' cargo build 'it'\''s' ''");
    }

    #[test]
    fn progress_of_cargo() {
        assert_eq!(
            cargo_progress("    Building [====>    ] 12/87: syn, quote"),
            Some((12, 87))
        );
        assert_eq!(cargo_progress("   Compiling syn v2"), None);
    }
}
