//! The terminal.
//!
//! A [`Tty`] stands between a [`Console`] (serial line, screen and keyboard) and its readers. The console's
//! task feeds keys in with [`Tty::input`]; echo goes straight back out. Programs read whole lines, or single
//! keys once they have switched [`Termios`] to raw. The kernel's shell uses the same calls.
//!
//! Synchronisation: the line discipline has one spin lock, under which input is copied to a reader's sink
//! (an attempt that never waits); the console is written outside of it.

mod line;
mod termios;

pub use line::Signal;
pub use termios::{InputFlags, LocalFlags, OutputFlags, Termios, WindowSize, index};

use super::FsError;
use super::file::Readiness;
use super::io::{IoSink, IoSource, Sleeper};
use super::pipe::Wait;
use alloc::boxed::Box;
use alloc::sync::Arc;
use async_trait::async_trait;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use executor::sync::{SpinLock, WaitQueue};
use line::{Echo, LineDiscipline, ReadOutcome};

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
    foreground: AtomicU32,
    on_signal: SpinLock<Option<SignalHandler>>,
    /// Nobody types any more.
    ended: AtomicBool,
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
    /// A terminal on `console`, in cooked mode, 80 by 24.
    pub fn new(console: Arc<dyn Console>) -> Arc<Tty> {
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
            foreground: AtomicU32::new(0),
            on_signal: SpinLock::new(None),
            ended: AtomicBool::new(false),
        })
    }

    /// Keys from the console's task (never from an interrupt handler): edits lines, echoes, raises signals,
    /// wakes readers.
    pub fn input(&self, bytes: &[u8]) {
        for &byte in bytes {
            let mut echo = Echo::default();
            let signal = self.line.lock().input(byte, &mut echo);
            // Echo that finds no room is dropped: input never waits for output.
            for _ in 0..echo.columns {
                self.console.write(b"\x08 \x08");
            }
            if !echo.text.is_empty() {
                self.console.write(&echo.text);
            }
            if let Some(signal) = signal {
                let handler = self.on_signal.lock().clone();
                if let Some(handler) = handler {
                    handler(signal);
                }
            }
        }
        self.readable.wake_all();
    }

    /// Says that nobody will type any more: readers get what there is, and then the end of the file.
    pub fn end_input(&self) {
        self.ended.store(true, Relaxed);
        self.readable.wake_all();
    }

    /// Whether a read would not have to wait.
    fn is_readable(&self) -> bool {
        self.line.lock().is_readable() || self.ended.load(Relaxed)
    }

    /// Reads a line, or what the raw mode gives; 0 at the end of the file. Awaits keys unless `wait` is
    /// [`Wait::Never`].
    ///
    /// # Errors
    /// [`FsError::WouldBlock`], [`FsError::Interrupted`], [`FsError::Fault`]: only if nothing was read.
    pub async fn read(
        &self,
        cx: &impl Sleeper,
        sink: &mut impl IoSink,
        wait: Wait,
    ) -> Result<usize, FsError> {
        let mut total = 0;
        if sink.remaining() == 0 {
            return Ok(0);
        }
        loop {
            let outcome = self.line.lock().read(sink, total);
            match outcome {
                ReadOutcome::Done(n) => return Ok(total + n),
                ReadOutcome::Fault(n) => {
                    total += n;
                    match sink.fault_in().await {
                        Err(error) if total == 0 => return Err(error),
                        Err(_) => return Ok(total),
                        Ok(()) => {}
                    }
                }
                ReadOutcome::Empty if total > 0 || self.ended.load(Relaxed) => return Ok(total),
                ReadOutcome::Empty if wait == Wait::Never => return Err(FsError::WouldBlock),
                ReadOutcome::Empty => {
                    let keys = self
                        .readable
                        .wait_until(|| self.is_readable().then_some(()));
                    cx.sleep(keys).await?;
                }
            }
        }
    }

    /// Writes all of `source`, newlines as the settings have it. Awaits room.
    ///
    /// # Errors
    /// [`FsError::Fault`] and [`FsError::Interrupted`], only if nothing was written.
    pub async fn write(
        &self,
        cx: &impl Sleeper,
        source: &mut impl IoSource,
    ) -> Result<usize, FsError> {
        let mut total = 0;
        while source.remaining() > 0 {
            let mut chunk = [0; 128];
            let want = source.remaining().min(chunk.len());
            let n = source.peek(0, &mut chunk[..want]);
            if n > 0 {
                match self.show(cx, &chunk[..n]).await {
                    Err(error) if total == 0 => return Err(error),
                    Err(_) => return Ok(total),
                    Ok(()) => {}
                }
                source.advance(n);
                total += n;
            } else if let Err(error) = source.fault_in(want).await {
                return match total {
                    0 => Err(error),
                    _ => Ok(total),
                };
            }
        }
        Ok(total)
    }

    /// Shows `text` with newlines as the settings have it.
    async fn show(&self, cx: &impl Sleeper, text: &[u8]) -> Result<(), FsError> {
        let output = self.line.lock().termios.output();
        let turns = output.contains(OutputFlags::OPOST | OutputFlags::ONLCR);
        let mut rest = text;
        while !rest.is_empty() {
            let plain = match turns {
                true => rest.iter().take_while(|&&c| c != b'\n').count(),
                false => rest.len(),
            };
            self.put(cx, &rest[..plain]).await?;
            rest = &rest[plain..];
            if let Some((_, after)) = rest.split_first() {
                self.put(cx, b"\r\n").await?;
                rest = after;
            }
        }
        Ok(())
    }

    async fn put(&self, cx: &impl Sleeper, mut text: &[u8]) -> Result<(), FsError> {
        loop {
            let n = self.console.write(text);
            text = &text[n..];
            if text.is_empty() {
                return Ok(());
            }
            cx.sleep(self.console.room()).await?;
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
        line.set_termios(termios);
        drop(line);
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

    /// Changes its size.
    pub fn set_window(&self, window: WindowSize) {
        *self.window.lock() = window;
    }

    /// The process group in front; 0 if none was set.
    pub fn foreground(&self) -> u32 {
        self.foreground.load(Relaxed)
    }

    /// Puts a process group in front.
    pub fn set_foreground(&self, group: u32) {
        self.foreground.store(group, Relaxed);
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
        let mut ready = Readiness::OUT;
        ready.set(Readiness::IN, self.is_readable());
        ready
    }

    /// Woken whenever there may be more to read.
    pub(super) fn queue(&self) -> &WaitQueue {
        &self.readable
    }
}

#[cfg(test)]
mod tests;
