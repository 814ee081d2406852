//! The built-in shell: a task of the kernel that reads lines from the console and runs commands.
//!
//! It owns the command language ([`parse`]), the line editor ([`editor`]), the list of background jobs (`jobs`) and the table of
//! commands ([`commands`]). It does not own the terminal (that is `fs::tty`), nor processes (`proc`): `run` makes one and waits.
//!
//! **How it synchronises.** One task reads the terminal and runs foreground jobs one after the other; each background job is a task
//! of its own. They share a [`Shell`], whose parts sit behind short spin locks. To programs the shell is what the kernel's own process
//! is: their parent, the leader of their session, with a group of its own in front of the terminal while none of theirs is. Ctrl-C
//! reaches a foreground program as `SIGINT`; a foreground command of the shell's own is dropped at its next await, which no command minds: a page in transfer belongs to its
//! request and not to who waits for it.

pub mod commands;
mod complete;
pub mod editor;
mod jobs;
pub mod parse;

use crate::fs::tty::{Tty, Typed};
use crate::proc::Pid;
use crate::proc::table::session::Claim;
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
use jobs::{Job, Jobs, State};

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
#[derive(Debug, Clone)]
enum Place {
    /// The shell waits for it, and it has the terminal.
    Foreground,
    /// Behind `&`; it has the terminal only while `fg` waits for it.
    Background(Arc<Job>),
}

impl Deref for Context {
    type Target = Shell;

    fn deref(&self) -> &Shell {
        &self.shell
    }
}

impl Context {
    /// The job in the background that this runs in.
    fn job(&self) -> Option<&Arc<Job>> {
        match &self.place {
            Place::Foreground => None,
            Place::Background(job) => Some(job),
        }
    }

    /// The terminal, if what is started here has it.
    fn front(&self) -> Option<Arc<Tty>> {
        let in_front = self.job().is_none_or(|job| job.is_in_front());
        in_front.then(|| self.system.console.tty().clone())
    }

    /// Lets programs have the terminal until the guard is dropped. Does nothing for a job in the background.
    fn lend_terminal(&self) -> impl Drop + use<> {
        Lent(self.job().is_none().then(|| self.shell.clone()))
    }

    /// Puts a job in front until the guard is dropped, with the terminal as it left it.
    fn bring_to_front(&self, job: &Job, group: Pid) -> impl Drop + use<> {
        let console = &self.system.console;
        console.put_in_front(group);
        if let Some(settings) = job.settings() {
            console.tty().set_termios(settings, Typed::Keep);
        }
        Lent(Some(self.shell.clone()))
    }

    /// What the shell commands, to keep.
    fn system_handle(&self) -> Arc<System> {
        self.shell.system.clone()
    }
}

/// Gives the terminal back to the shell when dropped.
struct Lent(Option<Arc<Shell>>);

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(shell) = &self.0 {
            shell.system.console.take_back();
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

    /// Whether programs are stopped and go on from here: only where a person can say so.
    fn controls_jobs(&self) -> bool {
        self.system.console.is_interactive()
    }

    /// Makes the console the terminal of the session that all programs start in, unless another session has it.
    fn own_terminal(&self) {
        if self.controls_jobs() {
            let tty = self.system.console.tty();
            let mut table = self.system.processes.table().lock();
            // It stays whose it is if it is not to be had.
            let _ = table.acquire(Pid::INIT, tty, Claim::Polite);
        }
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
            self.own_terminal();
            for job in self.jobs.news().values() {
                self.say(format_args!("{job}"));
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
        let context = self.context(Place::Background(job.clone()));
        self.system
            .executor
            .spawn(Class::Daemon, "shell job", async move {
                let status = commands::dispatch(context, words).await;
                job.set_state(State::Ended(status));
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
