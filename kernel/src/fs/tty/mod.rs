//! The terminal.
//!
//! A [`Tty`] stands between a [`Console`] (serial line, screen and keyboard) and its readers. The console's
//! task feeds keys in with [`Tty::input`]; echo goes straight back out. Programs read whole lines, or single
//! keys once they have switched [`Termios`] to raw. The kernel's shell uses the same calls.
//!
//! Synchronisation: the line discipline has one spin lock, under which input is copied to a reader's sink
//! (an attempt that never waits); the console is written outside of it. Whose the terminal is ([`Owner`]) has a
//! lock of its own; it changes under that of the process table, which comes first.

mod line;
mod read;
mod termios;

pub use line::{Flow, Signal};
pub use termios::{InputFlags, LocalFlags, OutputFlags, Termios, WindowSize, index};

use super::FsError;
use super::file::Readiness;
use super::io::{IoSource, Sleeper};
use super::pipe::Wait;
use alloc::boxed::Box;
use alloc::sync::Arc;
use async_trait::async_trait;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use executor::Executor;
use executor::sync::{SpinLock, WaitQueue};
use line::{Echo, Event, LineDiscipline};

/// What shows bytes to the user.
#[async_trait]
pub trait Console: Send + Sync {
    /// Shows as many of `bytes` as there is room for now, and returns how many. Never waits; called from
    /// tasks.
    fn write(&self, bytes: &[u8]) -> usize;

    /// Awaits room for at least one byte.
    async fn room(&self);
}

/// Whom a special character concerns: told from the console's task, must not wait.
pub type SignalHandler = Arc<dyn Fn(Signal) + Send + Sync>;

/// A terminal.
pub struct Tty {
    console: Arc<dyn Console>,
    line: SpinLock<LineDiscipline>,
    readable: WaitQueue,
    window: SpinLock<WindowSize>,
    owner: SpinLock<Owner>,
    /// Output is held back.
    held: AtomicBool,
    let_go: WaitQueue,
    executor: Arc<Executor>,
    on_signal: SpinLock<Option<SignalHandler>>,
    /// Nobody types any more.
    ended: AtomicBool,
}

/// Whose a terminal is; 0 for nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The session that it controls.
    pub session: u32,
    /// The process group in front.
    pub foreground: u32,
}

impl Owner {
    /// Nobody's.
    pub const NOBODY: Owner = Owner {
        session: 0,
        foreground: 0,
    };
}

/// Whether a change of settings forgets what was typed (`TCSETSF`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Typed {
    /// It stays.
    Keep,
    /// It is forgotten.
    Flush,
}

impl Tty {
    /// A terminal on `console`, in cooked mode, 80 by 24, nobody's. The executor's timers end raw reads.
    pub fn new(console: Arc<dyn Console>, executor: Arc<Executor>) -> Arc<Tty> {
        Arc::new(Tty {
            console,
            line: SpinLock::new(LineDiscipline::new()),
            readable: WaitQueue::new("terminal input"),
            window: SpinLock::new(WindowSize {
                rows: 24,
                columns: 80,
                width: 0,
                height: 0,
            }),
            owner: SpinLock::new(Owner::NOBODY),
            held: AtomicBool::new(false),
            let_go: WaitQueue::new("terminal output"),
            executor,
            on_signal: SpinLock::new(None),
            ended: AtomicBool::new(false),
        })
    }

    /// Keys from the console's task (never from an interrupt handler): edits lines, echoes, raises signals,
    /// wakes readers.
    pub fn input(&self, bytes: &[u8]) {
        for &byte in bytes {
            let mut echo = Echo::default();
            let event = self.line.lock().input(byte, &mut echo);
            self.echo(&echo);
            match event {
                None => {}
                Some(Event::Signal(signal)) => {
                    self.flow(Flow::Start);
                    self.signal(signal);
                }
                Some(Event::Flow(flow)) => self.flow(flow),
                Some(Event::Reprint) => self.reprint(),
            }
        }
        self.readable.wake_all();
    }

    /// Echo that finds no room is dropped: input never waits for output.
    fn echo(&self, echo: &Echo) {
        for _ in 0..echo.columns {
            self.console.write(b"\x08 \x08");
        }
        if !echo.text.is_empty() {
            self.console.write(&echo.text);
        }
    }

    /// Shows the line that is being typed once more.
    fn reprint(&self) {
        for at in 0.. {
            let echo = self.line.lock().typed_echo(at);
            match echo {
                Some(echo) => self.echo(&echo),
                None => break,
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let handler = self.on_signal.lock().clone();
        if let Some(handler) = handler {
            handler(signal);
        }
    }

    /// Holds output back, or lets it go on (`TCOOFF`, `TCOON`).
    pub fn flow(&self, flow: Flow) {
        self.held.store(flow == Flow::Stop, SeqCst);
        if flow == Flow::Start {
            self.let_go.wake_all();
            self.readable.wake_all();
        }
    }

    /// Asks who types to stop, or to go on: sends the character for that (`TCIOFF`, `TCION`).
    pub fn ask(&self, flow: Flow) {
        let characters = self.line.lock().termios.characters;
        let character = match flow {
            Flow::Stop => characters[index::VSTOP],
            Flow::Start => characters[index::VSTART],
        };
        if character != 0 {
            self.console.write(&[character]);
        }
    }

    /// Says that nobody will type any more: readers get what there is, and then the end of the file.
    pub fn end_input(&self) {
        self.ended.store(true, Relaxed);
        self.readable.wake_all();
    }

    /// Writes all of `source`, newlines as the settings have it. Awaits room, and that output is no longer held
    /// back, unless `wait` is [`Wait::Never`].
    ///
    /// # Errors
    /// [`FsError::WouldBlock`], [`FsError::Fault`] and [`FsError::Interrupted`], only if nothing was written.
    pub async fn write(
        &self,
        cx: &impl Sleeper,
        source: &mut impl IoSource,
        wait: Wait,
    ) -> Result<usize, FsError> {
        let mut total = 0;
        while source.remaining() > 0 {
            let mut chunk = [0; 128];
            let want = source.remaining().min(chunk.len());
            let n = source.peek(0, &mut chunk[..want]);
            if n > 0 {
                let (shown, result) = self.show(cx, &chunk[..n], wait).await;
                source.advance(shown);
                total += shown;
                match result {
                    Err(error) if total == 0 => return Err(error),
                    Err(_) => return Ok(total),
                    Ok(()) => {}
                }
            } else if let Err(error) = source.fault_in(want).await {
                return match total {
                    0 => Err(error),
                    _ => Ok(total),
                };
            }
        }
        Ok(total)
    }

    /// Shows `text` with newlines as the settings have it. Returns how much of it was shown.
    async fn show(
        &self,
        cx: &impl Sleeper,
        text: &[u8],
        wait: Wait,
    ) -> (usize, Result<(), FsError>) {
        let output = self.line.lock().termios.output();
        let processed = output.contains(OutputFlags::OPOST);
        let mut shown = 0;
        while shown < text.len() {
            let rest = &text[shown..];
            let as_they_are = |&&c: &&u8| !processed || (c != b'\n' && c != b'\r');
            let plain = rest.iter().take_while(as_they_are).count();
            let (piece, len): (&[u8], usize) = match rest[0] {
                _ if plain > 0 => (&rest[..plain], plain),
                b'\n' if output.contains(OutputFlags::ONLCR) => (b"\r\n", 1),
                b'\r' if output.contains(OutputFlags::OCRNL) => (b"\n", 1),
                _ => (&rest[..1], 1),
            };
            let (put, result) = self.put(cx, piece, wait).await;
            // Of what became two bytes, the first one alone counts for nothing.
            shown += if put == piece.len() {
                len
            } else {
                put.min(plain)
            };
            self.line.lock().shown(&piece[..put]);
            if result.is_err() {
                return (shown, result);
            }
        }
        (shown, Ok(()))
    }

    /// Puts bytes on the console as they are. Returns how many.
    async fn put(
        &self,
        cx: &impl Sleeper,
        text: &[u8],
        wait: Wait,
    ) -> (usize, Result<(), FsError>) {
        let mut put = 0;
        loop {
            if !self.held.load(SeqCst) {
                put += self.console.write(&text[put..]);
            }
            if put == text.len() {
                return (put, Ok(()));
            }
            let waited = match wait {
                Wait::Never => Err(FsError::WouldBlock),
                Wait::Allowed if self.held.load(SeqCst) => {
                    let go = || (!self.held.load(SeqCst)).then_some(());
                    cx.sleep(self.let_go.wait_until(go))
                        .await
                        .map_err(Into::into)
                }
                Wait::Allowed => cx.sleep(self.console.room()).await.map_err(Into::into),
            };
            if waited.is_err() {
                return (put, waited);
            }
        }
    }

    /// The settings.
    pub fn termios(&self) -> Termios {
        self.line.lock().termios
    }

    /// Changes the settings.
    pub fn set_termios(&self, termios: Termios, typed: Typed) {
        let mut line = self.line.lock();
        if typed == Typed::Flush {
            line.flush();
        }
        let held = |termios: &Termios| termios.input().contains(InputFlags::IXON);
        let frees = held(&line.termios) && !held(&termios);
        line.set_termios(termios);
        drop(line);
        if frees {
            // The key that would let output go on is one like others now.
            self.flow(Flow::Start);
        }
        self.readable.wake_all();
    }

    /// Forgets what was typed (`TCFLSH`).
    pub fn flush_input(&self) {
        self.line.lock().flush();
    }

    /// Its size.
    pub fn window(&self) -> WindowSize {
        *self.window.lock()
    }

    /// Changes its size, and tells the processes in front if it is another one.
    pub fn set_window(&self, window: WindowSize) {
        let before = core::mem::replace(&mut *self.window.lock(), window);
        if before != window {
            self.signal(Signal::Window);
        }
    }

    /// Whose it is.
    pub fn owner(&self) -> Owner {
        *self.owner.lock()
    }

    /// Makes it another's. For the process table, which agrees with it.
    pub fn set_owner(&self, owner: Owner) {
        *self.owner.lock() = owner;
    }

    /// Puts a process group of its session in front.
    pub fn set_foreground(&self, group: u32) {
        self.owner.lock().foreground = group;
    }

    /// Puts a process group in front unless the terminal is another session's than `session`: what a shell does.
    pub fn take_back(&self, session: u32, group: u32) {
        let mut owner = self.owner.lock();
        if owner.session == session || owner.session == 0 {
            owner.foreground = group;
        }
    }

    /// Puts the group `to` in front where `from` is now.
    pub fn hand_over(&self, from: u32, to: u32) {
        let mut owner = self.owner.lock();
        if owner.foreground == from {
            owner.foreground = to;
        }
    }

    /// Says who hears of special characters from now on.
    pub fn set_signal_handler(&self, handler: Option<SignalHandler>) {
        let old = core::mem::replace(&mut *self.on_signal.lock(), handler);
        drop(old);
    }

    /// Bytes that a read finds now.
    pub fn available(&self) -> usize {
        self.line.lock().available()
    }

    /// What can be done now without waiting.
    pub fn readiness(&self) -> Readiness {
        let mut ready = Readiness::empty();
        ready.set(Readiness::OUT, !self.held.load(SeqCst));
        let input = self.line.lock().is_readable() || self.ended.load(Relaxed);
        ready.set(Readiness::IN, input);
        ready
    }

    /// Woken whenever there may be more to read, and when output goes on.
    pub(super) fn queue(&self) -> &WaitQueue {
        &self.readable
    }
}

#[cfg(test)]
mod tests;
