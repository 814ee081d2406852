//! The built-in shell: a task of the kernel that reads lines from the console and runs commands.
//!
//! It owns the command language ([`parse`]), the line editor ([`editor`]), the list of background jobs (`jobs`) and the table of
//! commands ([`commands`]). It does not own the terminal (that is `fs::tty`), nor processes (`proc`): `run` makes one and waits.
//!
//! **How it synchronises.** One task reads the terminal and runs foreground jobs one after the other; each background job is a task
//! of its own. They share a [`Shell`], whose parts sit behind short spin locks. Ctrl-C reaches a foreground program as `SIGINT`; a
//! foreground command of the shell's own is dropped at its next await, which no command minds: a page in transfer belongs to its
//! request and not to who waits for it.

pub mod commands;
mod complete;
pub mod editor;
mod jobs;
pub mod parse;

use crate::fs::tty::{Termios, Tty, Typed};
use crate::proc::Pid;
use crate::system::System;
use alloc::{string::String, sync::Arc, vec::Vec};
use commands::Status;
use core::{
    fmt,
    ops::Deref,
    sync::atomic::{AtomicU8, Ordering},
};
use editor::{Edited, Editor};
use executor::Class;
use futures_util::{FutureExt, select_biased};
use jobs::Jobs;

/// What the shell prints before a line is typed.
pub const PROMPT: &str = "auvm> ";
/// Status of a command that Ctrl-C ended, as in other shells: 128 and SIGINT.
const INTERRUPTED: Status = 130;

/// What a command runs in: the shell, and whether it has the terminal.
#[derive(Debug, Clone)]
pub struct Context {
    shell: Arc<Shell>,
    place: Place,
}

/// Where a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The shell waits for it, and it has the terminal.
    Foreground,
    /// Behind `&`.
    Background,
}

impl Deref for Context {
    type Target = Shell;

    fn deref(&self) -> &Shell {
        &self.shell
    }
}

impl Context {
    /// Gives the terminal to a process group until the guard is dropped: Ctrl-C is a signal to it. Does nothing for a job in the
    /// background.
    fn take_terminal(&self, group: Pid) -> impl Drop + use<> {
        let tty = (self.place == Place::Foreground).then(|| self.system.console.tty().clone());
        if let Some(tty) = &tty {
            tty.set_foreground(group.0);
        }
        Terminal(tty)
    }

    /// What the shell commands, to keep.
    fn system_handle(&self) -> Arc<System> {
        self.shell.system.clone()
    }
}

/// Gives the terminal back to the shell when dropped.
struct Terminal(Option<Arc<Tty>>);

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(tty) = &self.0 {
            tty.set_foreground(0);
            // A program that died may have left it without echo.
            tty.set_termios(Termios::cooked(), Typed::Keep);
        }
    }
}

/// The shell's state, shared by its tasks.
pub struct Shell {
    system: Arc<System>,
    /// Exit status of the last foreground job: `$?`.
    status: AtomicU8,
    jobs: Jobs,
}

impl fmt::Debug for Shell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shell")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Shell {
    /// A shell on the system's console.
    pub fn new(system: Arc<System>) -> Arc<Self> {
        Arc::new(Self {
            system,
            status: AtomicU8::new(0),
            jobs: Jobs::new(),
        })
    }

    /// What the shell commands.
    pub fn system(&self) -> &System {
        &self.system
    }

    /// The jobs in the background.
    fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// Prints a line on the console.
    pub fn say(&self, text: fmt::Arguments<'_>) {
        self.print(format_args!("{text}\n"));
    }

    /// Prints on the console, without ending the line.
    pub fn print(&self, text: fmt::Arguments<'_>) {
        self.system.console.print(text);
    }

    /// Reads and runs lines until the machine is powered off. Ctrl-D on an empty line powers it off too.
    pub async fn interact(self: Arc<Self>) {
        let mut editor = Editor::new(PROMPT, 80);
        loop {
            for done in self.jobs.take_ended().values() {
                self.say(format_args!("{done}"));
            }
            match self.read_line(&mut editor).await {
                Some(line) => {
                    self.run_line(&line).await;
                }
                None => {
                    self.say(format_args!("poweroff"));
                    self.run_line("poweroff").await;
                }
            }
        }
    }

    /// Runs one line, job after job, and gives the status of its last foreground job.
    pub async fn run_line(self: &Arc<Self>, line: &str) -> Status {
        let parsed = match parse::parse(line) {
            Ok(parsed) => parsed,
            Err(error) => {
                self.say(format_args!("auvm: {error}"));
                self.status.store(commands::USAGE, Ordering::Relaxed);
                return commands::USAGE;
            }
        };
        for job in parsed {
            let words = job.expand(self.status());
            let status = if job.background {
                self.background(words);
                0
            } else {
                self.foreground(words).await
            };
            self.status.store(status, Ordering::Relaxed);
            // Ctrl-C ends the whole line, as it does elsewhere.
            if status == INTERRUPTED {
                break;
            }
        }
        self.status()
    }

    /// The status of the last foreground job.
    pub fn status(&self) -> Status {
        self.status.load(Ordering::Relaxed)
    }

    fn context(self: &Arc<Self>, place: Place) -> Context {
        Context {
            shell: self.clone(),
            place,
        }
    }

    async fn foreground(self: &Arc<Self>, words: Vec<String>) -> Status {
        let mut interrupt = core::pin::pin!(self.system.console.interrupted().fuse());
        let mut command = commands::dispatch(self.context(Place::Foreground), words)
            .boxed()
            .fuse();
        select_biased! {
            status = command => status,
            () = interrupt => INTERRUPTED,
        }
    }

    fn background(self: &Arc<Self>, words: Vec<String>) {
        let job = self.jobs.add(words.join(" "));
        if self.system.console.is_interactive() {
            self.say(format_args!("[{}]", job.id));
        }
        let context = self.context(Place::Background);
        self.system
            .executor
            .spawn(Class::Daemon, "shell job", async move {
                job.end(commands::dispatch(context, words).await);
            });
    }

    async fn read_line(&self, editor: &mut Editor) -> Option<String> {
        let console = &self.system.console;
        let raw = console.raw();
        let mut out = String::new();
        editor.start(&mut out);
        loop {
            console.print(format_args!("{out}"));
            out.clear();
            let Ok(byte) = raw.read_byte().await else {
                return None;
            };
            match editor.feed(byte, &mut out) {
                Edited::Pending => {}
                Edited::Line(line) => {
                    console.print(format_args!("{out}"));
                    return Some(line);
                }
                Edited::Interrupt => editor.start(&mut out),
                Edited::EndOfInput => return None,
                Edited::Complete => {
                    let before = editor.before_cursor();
                    let (start, candidates) = complete::candidates(self, &before).await;
                    editor.complete(start, &candidates, &mut out);
                }
            }
        }
    }
}
