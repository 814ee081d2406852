//! The line discipline: keys in, lines and echo out. Pure data; [`Tty`](super::Tty) locks it.
//!
//! ```text
//!   queue:  [ line \n | line \n | EOF | being typed ]
//!            `-- whole: readable now --'  `- canonical mode: editable, not readable
//! ```

mod echo;

pub(super) use echo::Echo;

use super::termios::{InputFlags, LocalFlags, Termios, index};
use crate::fs::io::IoSink;
use alloc::collections::VecDeque;

/// Bytes typed ahead that are kept; more are refused with a bell.
pub const QUEUE: usize = 2048;
/// Lines typed ahead that are kept.
const LINES: usize = 512;

/// What a special character asks for, or a change of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// `VINTR`: `SIGINT`.
    Interrupt,
    /// `VQUIT`: `SIGQUIT`.
    Quit,
    /// `VSUSP`: `SIGTSTP`.
    Suspend,
    /// Another size: `SIGWINCH`.
    Window,
}

/// Whether output goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It is held back.
    Stop,
    /// It goes on.
    Start,
}

/// What a key does besides becoming input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// It is told to the processes in front; output goes on.
    Signal(Signal),
    /// It stops output, or lets it go on.
    Flow(Flow),
    /// It shows the line once more.
    Reprint,
}

/// What a read came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadOutcome {
    /// So many bytes; in canonical mode 0 is the end of the file.
    Done(usize),
    /// So many bytes, then the sink was not resident.
    Fault(usize),
    /// Nothing to read yet.
    Empty,
}

/// When a read is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// With a line.
    Line,
    /// Once there are so many bytes (`VMIN`).
    Bytes(usize),
    /// So too, or when no byte has followed another for so many nanoseconds (`VTIME`).
    Gap(usize, u64),
    /// With the first bytes, or so many nanoseconds after its beginning.
    Time(u64),
}

impl Rule {
    /// Bytes that end a read.
    pub(super) fn least(self) -> usize {
        match self {
            Rule::Line | Rule::Time(_) => 1,
            Rule::Bytes(least) | Rule::Gap(least, _) => least,
        }
    }
}

/// The state of a terminal's input.
pub(super) struct LineDiscipline {
    pub(super) termios: Termios,
    queue: VecDeque<u8>,
    /// Lengths of the whole lines at the front of the queue. An end of file without text before it has
    /// length 0.
    lines: VecDeque<u16>,
    /// Bytes in whole lines.
    whole: usize,
    /// The next key is taken as it is.
    literal: bool,
    /// Where the cursor is.
    column: usize,
    /// Where it was when the line that is being typed began.
    start: usize,
}

/// Nanoseconds of a unit of `VTIME`.
const TENTH: u64 = 100_000_000;

impl LineDiscipline {
    pub(super) fn new() -> LineDiscipline {
        LineDiscipline {
            termios: Termios::cooked(),
            // Reserved whole: input never allocates.
            queue: VecDeque::with_capacity(QUEUE),
            lines: VecDeque::with_capacity(LINES),
            whole: 0,
            literal: false,
            column: 0,
            start: 0,
        }
    }

    /// Takes one byte from the keyboard. `echo`, empty before, gets what is to be shown.
    pub(super) fn input(&mut self, byte: u8, echo: &mut Echo) -> Option<Event> {
        if self.last_typed().is_none() {
            self.start = self.column;
        }
        let event = self.key(byte, echo);
        self.column = self.column.saturating_sub(echo.columns);
        self.shown(&echo.text);
        event
    }

    fn key(&mut self, byte: u8, echo: &mut Echo) -> Option<Event> {
        let (input, local) = (self.termios.input(), self.termios.local());
        if core::mem::take(&mut self.literal) {
            self.add(byte, echo);
            return None;
        }
        if input.contains(InputFlags::IXON) {
            if self.is(byte, index::VSTART) {
                return Some(Event::Flow(Flow::Start));
            }
            if self.is(byte, index::VSTOP) {
                return Some(Event::Flow(Flow::Stop));
            }
        }
        if local.contains(LocalFlags::ISIG) {
            let signal = match () {
                () if self.is(byte, index::VINTR) => Some(Signal::Interrupt),
                () if self.is(byte, index::VQUIT) => Some(Signal::Quit),
                () if self.is(byte, index::VSUSP) => Some(Signal::Suspend),
                () => None,
            };
            if let Some(signal) = signal {
                if !local.contains(LocalFlags::NOFLSH) {
                    self.flush();
                }
                self.show(byte, echo);
                return Some(Event::Signal(signal));
            }
        }
        let byte = match byte {
            b'\r' if input.contains(InputFlags::IGNCR) => return None,
            b'\r' if input.contains(InputFlags::ICRNL) => b'\n',
            b'\n' if input.contains(InputFlags::INLCR) => b'\r',
            byte => byte,
        };
        let event = match local.contains(LocalFlags::ICANON) {
            true => self.edit(byte, echo),
            false => {
                self.add(byte, echo);
                None
            }
        };
        let any = input.contains(InputFlags::IXON | InputFlags::IXANY);
        event.or(any.then_some(Event::Flow(Flow::Start)))
    }

    /// One more byte of input.
    fn add(&mut self, byte: u8, echo: &mut Echo) {
        let canonical = self.termios.local().contains(LocalFlags::ICANON);
        // The last place is kept for the newline.
        if self.queue.len() + usize::from(canonical) < QUEUE {
            self.queue.push_back(byte);
            self.show(byte, echo);
        } else if canonical {
            echo.put(b"\x07");
        }
    }

    /// One byte of a line that is being typed.
    fn edit(&mut self, byte: u8, echo: &mut Echo) -> Option<Event> {
        let local = self.termios.local();
        let extended = local.contains(LocalFlags::IEXTEN);
        if self.is(byte, index::VERASE) || byte == 0x08 {
            if self.last_typed().is_some() && !local.contains(LocalFlags::ECHOE) {
                self.show(byte, echo);
            }
            self.erase_one(echo);
        } else if self.is(byte, index::VWERASE) && extended {
            self.erase_word(echo);
        } else if self.is(byte, index::VKILL) {
            self.kill(byte, echo);
        } else if self.is(byte, index::VLNEXT) && extended {
            self.literal = true;
            if local.contains(LocalFlags::ECHO | LocalFlags::ECHOCTL) {
                // The caret shows that the next key is awaited, which then takes its place.
                echo.put(b"^\x08");
            }
        } else if self.is(byte, index::VREPRINT) && extended && local.contains(LocalFlags::ECHO) {
            self.show(byte, echo);
            self.show_newline(echo);
            return Some(Event::Reprint);
        } else if self.is(byte, index::VEOF) {
            self.end_line();
        } else if byte == b'\n'
            || self.is(byte, index::VEOL)
            || (self.is(byte, index::VEOL2) && extended)
        {
            if self.lines.len() == LINES || self.queue.len() == QUEUE {
                echo.put(b"\x07");
                return None;
            }
            self.queue.push_back(byte);
            self.end_line();
            self.show(byte, echo);
        } else {
            self.add(byte, echo);
        }
        None
    }

    /// A word and what follows it: what a word is, is as on Linux.
    fn erase_word(&mut self, echo: &mut Echo) {
        let of_word = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c >= 0x80;
        let mut seen = false;
        while let Some(last) = self.last_typed() {
            if seen && !of_word(last) {
                break;
            }
            seen |= of_word(last);
            self.erase_one(echo);
        }
    }

    fn kill(&mut self, byte: u8, echo: &mut Echo) {
        let local = self.termios.local();
        let wipes = LocalFlags::ECHOK | LocalFlags::ECHOKE | LocalFlags::ECHOE;
        if local.contains(wipes) {
            while self.last_typed().is_some() {
                self.erase_one(echo);
            }
        } else if self.last_typed().is_some() {
            self.queue.truncate(self.whole);
            self.show(byte, echo);
            if local.contains(LocalFlags::ECHO | LocalFlags::ECHOK) {
                self.show_newline(echo);
            }
        }
    }

    /// What is being typed becomes a line.
    fn end_line(&mut self) {
        if self.lines.len() < LINES {
            let len = self.queue.len() - self.whole;
            self.lines.push_back(len as u16);
            self.whole = self.queue.len();
        }
    }

    fn last_typed(&self) -> Option<u8> {
        match self.queue.len() > self.whole {
            true => self.queue.back().copied(),
            false => None,
        }
    }

    fn erase_one(&mut self, echo: &mut Echo) {
        let Some(mut byte) = self.last_typed() else {
            return;
        };
        self.queue.pop_back();
        // A character of several bytes goes as a whole.
        while byte & 0xc0 == 0x80 {
            match self.last_typed() {
                Some(before) => byte = before,
                None => break,
            }
            self.queue.pop_back();
        }
        let local = self.termios.local();
        if local.contains(LocalFlags::ECHO | LocalFlags::ECHOE) {
            let before = self
                .typed()
                .fold(self.start, |at, byte| self.after(at, byte));
            echo.columns += self.after(before, byte) - before;
        }
    }

    fn is(&self, byte: u8, character: usize) -> bool {
        let special = self.termios.characters[character];
        special != 0 && special == byte
    }

    /// Forgets all input.
    pub(super) fn flush(&mut self) {
        self.queue.clear();
        self.lines.clear();
        self.whole = 0;
        self.literal = false;
    }

    /// Changes the settings. What was typed stays readable: leaving canonical mode makes the unfinished
    /// line readable, entering it makes all that is there one line.
    pub(super) fn set_termios(&mut self, termios: Termios) {
        let was = self.termios.local().contains(LocalFlags::ICANON);
        let is = termios.local().contains(LocalFlags::ICANON);
        self.termios = termios;
        if was != is {
            self.lines.clear();
            self.whole = 0;
            if is && !self.queue.is_empty() {
                self.end_line();
            }
        }
    }

    /// Bytes that a read finds now.
    pub(super) fn available(&self) -> usize {
        match self.termios.local().contains(LocalFlags::ICANON) {
            true => self.whole,
            false => self.queue.len(),
        }
    }

    /// Whether there is something for a read: a line, the end of the file, or in raw mode a byte.
    pub(super) fn has_input(&self) -> bool {
        match self.rule() {
            Rule::Line => !self.lines.is_empty(),
            _ => !self.queue.is_empty(),
        }
    }

    /// Whether `poll` says so: in raw mode there must be as many bytes as a read waits for.
    pub(super) fn is_readable(&self) -> bool {
        match self.rule() {
            Rule::Bytes(least) => self.queue.len() >= least,
            _ => self.has_input(),
        }
    }

    /// When a read is over.
    pub(super) fn rule(&self) -> Rule {
        if self.termios.local().contains(LocalFlags::ICANON) {
            return Rule::Line;
        }
        let least = usize::from(self.termios.characters[index::VMIN]);
        let ns = u64::from(self.termios.characters[index::VTIME]) * TENTH;
        match (least, ns) {
            (0, ns) => Rule::Time(ns),
            (least, 0) => Rule::Bytes(least),
            (least, ns) => Rule::Gap(least, ns),
        }
    }

    /// Moves bytes to `sink`, and forgets exactly those that it took: at most one line in canonical mode.
    pub(super) fn read(&mut self, sink: &mut impl IoSink) -> ReadOutcome {
        let canonical = self.rule() == Rule::Line;
        let limit = match canonical {
            true => match self.lines.front() {
                None => return ReadOutcome::Empty,
                Some(&len) => usize::from(len),
            },
            false if self.queue.is_empty() => return ReadOutcome::Empty,
            false => self.queue.len(),
        };
        let mut total = 0;
        let mut fault = false;
        while total < limit && sink.remaining() > 0 && !fault {
            let piece = self.queue.as_slices().0;
            let want = piece.len().min(limit - total).min(sink.remaining());
            let n = sink.put(&piece[..want]);
            self.queue.drain(..n);
            total += n;
            fault = n < want;
        }
        if canonical {
            self.whole -= total;
            // An empty line is an end of file: seen once, then gone.
            match self.lines.front_mut() {
                Some(line) if usize::from(*line) > total => *line -= total as u16,
                _ => drop(self.lines.pop_front()),
            }
        }
        match fault {
            true => ReadOutcome::Fault(total),
            false => ReadOutcome::Done(total),
        }
    }
}

#[cfg(test)]
mod tests;
