//! The console: every screen shows what is printed, every keyboard types into one terminal.
//!
//! It owns the list of output devices and the [`Tty`] between them and their readers, and says whom Ctrl-C concerns: the process
//! group in front, or the shell's own command where that is the shell's. It does not own the devices' input: a task per keyboard calls
//! [`Tty::input`].
//!
//! **How it synchronises.** The list of screens is fixed at boot. Printing takes one spin lock, so that lines of two tasks do not mix
//! inside a write; a screen's own write never waits.

use crate::fs::FsError;
use crate::fs::io::{Uninterruptible, VecSink};
use crate::fs::pipe::Wait;
use crate::fs::tty::{self, Flow, Signal, Termios, Tty, Typed};
use crate::proc::Pid;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use async_trait::async_trait;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use executor::Executor;
use executor::sync::{SpinLock, WaitQueue};

/// A device that shows bytes.
pub trait Screen: Send + Sync {
    /// Shows `bytes`, in which lines already end in CR LF. Never waits for another task.
    fn show(&self, bytes: &[u8]);
}

/// Who reads what is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// A person at a terminal: prompts and job numbers are wanted.
    Person,
    /// A command line given beforehand: nothing but the commands' own output is wanted, and programs that read find the end of
    /// the file.
    Script,
}

/// The process group of the shell, and the session of all that it starts: the kernel's own process's.
const SHELL: u32 = Pid::INIT.0;

/// All screens as one device.
struct Screens(SpinLock<Vec<Arc<dyn Screen>>>);

impl Screens {
    fn show(&self, bytes: &[u8]) {
        for screen in self.0.lock().iter() {
            screen.show(bytes);
        }
    }
}

#[async_trait]
impl tty::Console for Screens {
    fn write(&self, bytes: &[u8]) -> usize {
        self.show(bytes);
        bytes.len()
    }

    async fn room(&self) {
        // `write` always has room.
    }
}

/// The system's console.
pub struct Console {
    screens: Arc<Screens>,
    tty: Arc<Tty>,
    audience: Audience,
    /// Counts presses of Ctrl-C that concern the shell's own command.
    interrupts: Arc<Interrupts>,
}

struct Interrupts {
    count: AtomicU64,
    waiters: WaitQueue,
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console")
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

impl Console {
    /// A console on `screens`.
    pub fn new(
        screens: Vec<Arc<dyn Screen>>,
        audience: Audience,
        executor: &Arc<Executor>,
    ) -> Arc<Self> {
        let screens = Arc::new(Screens(SpinLock::new(screens)));
        let tty = Tty::new(screens.clone(), executor.clone());
        if audience == Audience::Script {
            tty.end_input();
        }
        Arc::new(Self {
            screens,
            tty,
            audience,
            interrupts: Arc::new(Interrupts {
                count: AtomicU64::new(0),
                waiters: WaitQueue::new("Ctrl-C"),
            }),
        })
    }

    /// The terminal that programs read and write.
    pub fn tty(&self) -> &Arc<Tty> {
        &self.tty
    }

    /// Whether a person sits before it.
    pub fn is_interactive(&self) -> bool {
        self.audience == Audience::Person
    }

    /// Gives the terminal back to the shell, from programs that may have left it without echo, or held back.
    pub fn take_back(&self) {
        self.tty.take_back(SHELL, SHELL);
        self.tty.set_termios(Termios::cooked(), Typed::Keep);
        self.tty.flow(Flow::Start);
    }

    /// Gives the terminal back to the shell if `group` is in front.
    pub fn take_back_from(&self, group: Pid) {
        self.tty.hand_over(group.0, SHELL);
    }

    /// Puts a process group in front.
    pub fn put_in_front(&self, group: Pid) {
        self.tty.take_back(SHELL, group.0);
    }

    /// Sends special characters to `signal_group`, called with the process group in front, or, while that is the shell's, to
    /// [`interrupted`](Self::interrupted).
    pub fn route_signals(&self, signal_group: impl Fn(u32, Signal) + Send + Sync + 'static) {
        let interrupts = self.interrupts.clone();
        // Weak, because the terminal owns its handler.
        let tty = Arc::downgrade(&self.tty);
        self.tty.set_signal_handler(Some(Arc::new(move |signal| {
            let front = tty.upgrade().map_or(0, |tty| tty.owner().foreground);
            match (front, signal) {
                (0 | SHELL, Signal::Interrupt | Signal::Quit) => {
                    interrupts.count.fetch_add(1, Ordering::Release);
                    interrupts.waiters.wake_all();
                }
                // The shell's own commands do not stop.
                (0 | SHELL, Signal::Suspend | Signal::Window) => {}
                (group, signal) => signal_group(group, signal),
            }
        })));
    }

    /// Waits for a Ctrl-C, pressed from now on, that concerns no process group.
    pub async fn interrupted(&self) {
        let seen = self.interrupts.count.load(Ordering::Acquire);
        self.interrupts
            .waiters
            .wait_until(|| (self.interrupts.count.load(Ordering::Acquire) != seen).then_some(()))
            .await;
    }

    /// Prints text; lines end in LF.
    pub fn print(&self, text: fmt::Arguments<'_>) {
        // A screen cannot fail.
        let _ = fmt::write(&mut CrLf(&self.screens), text);
    }

    /// Prints bytes that may not be text; lines end in LF.
    pub fn print_bytes(&self, bytes: &[u8]) {
        CrLf(&self.screens).put(bytes);
    }

    /// Switches the terminal to single keys until the guard is dropped.
    pub fn raw(&self) -> Raw<'_> {
        let before = self.tty.termios();
        self.tty.set_termios(Termios::keys(), Typed::Keep);
        Raw {
            tty: &self.tty,
            before,
        }
    }
}

/// The terminal gives single keys while this lives.
#[must_use = "the terminal goes back to lines when this is dropped"]
pub struct Raw<'a> {
    tty: &'a Tty,
    before: Termios,
}

impl fmt::Debug for Raw<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Raw").finish_non_exhaustive()
    }
}

impl Raw<'_> {
    /// Awaits a key.
    ///
    /// # Errors
    /// [`FsError::OutOfMemory`] when there is no room for one byte.
    pub async fn read_byte(&self) -> Result<u8, FsError> {
        loop {
            let mut sink = VecSink::new(1);
            self.tty
                .read(&Uninterruptible, &mut sink, Wait::Allowed)
                .await?;
            if let Some(&byte) = sink.bytes.first() {
                return Ok(byte);
            }
        }
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        self.tty.set_termios(self.before, Typed::Keep);
    }
}

/// Text on its way to the screens: LF becomes CR LF.
struct CrLf<'a>(&'a Screens);

impl CrLf<'_> {
    fn put(&self, bytes: &[u8]) {
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            match line.strip_suffix(b"\n") {
                Some(line) => {
                    self.0.show(line);
                    self.0.show(b"\r\n");
                }
                None => self.0.show(line),
            }
        }
    }
}

impl fmt::Write for CrLf<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text.as_bytes());
        Ok(())
    }
}
