//! The line discipline: keys in, lines and echo out. Pure data; [`Tty`](super::Tty) locks it.
//!
//! ```text
//!   queue:  [ line \n | line \n | EOF | being typed ]
//!            `-- whole: readable now --'  `- canonical mode: editable, not readable
//! ```

use super::termios::{InputFlags, LocalFlags, Termios, index};
use crate::fs::io::IoSink;
use alloc::collections::VecDeque;
use arrayvec::ArrayVec;

/// Bytes typed ahead that are kept; more are refused with a bell.
pub const QUEUE: usize = 2048;
/// Lines typed ahead that are kept.
const LINES: usize = 512;

/// What a special character asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// `VINTR`: `SIGINT`.
    Interrupt,
    /// `VQUIT`: `SIGQUIT`.
    Quit,
    /// `VSUSP`: `SIGTSTP`.
    Suspend,
}

/// What a key shows: first some columns are taken off the screen, then some text is put on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Echo {
    /// Columns to erase.
    pub(super) columns: usize,
    /// Text to show.
    pub(super) text: ArrayVec<u8, 4>,
}

impl Echo {
    fn put(&mut self, text: &[u8]) {
        // No key shows more than `^U\r\n`.
        self.text.extend(text.iter().copied());
    }
}

/// What a read came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadOutcome {
    /// So many bytes; 0 is the end of the file.
    Done(usize),
    /// So many bytes, then the sink was not resident.
    Fault(usize),
    /// Nothing to read yet.
    Empty,
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
}

impl LineDiscipline {
    pub(super) fn new() -> LineDiscipline {
        LineDiscipline {
            termios: Termios::cooked(),
            // Reserved whole: input never allocates.
            queue: VecDeque::with_capacity(QUEUE),
            lines: VecDeque::with_capacity(LINES),
            whole: 0,
        }
    }

    /// Takes one byte from the keyboard. `echo`, empty before, gets what is to be shown.
    pub(super) fn input(&mut self, byte: u8, echo: &mut Echo) -> Option<Signal> {
        let (input, local) = (self.termios.input(), self.termios.local());
        let byte = match byte {
            b'\r' if input.contains(InputFlags::IGNCR) => return None,
            b'\r' if input.contains(InputFlags::ICRNL) => b'\n',
            b'\n' if input.contains(InputFlags::INLCR) => b'\r',
            byte => byte,
        };
        if local.contains(LocalFlags::ISIG) {
            let signal = match () {
                () if self.is(byte, index::VINTR) => Some(Signal::Interrupt),
                () if self.is(byte, index::VQUIT) => Some(Signal::Quit),
                () if self.is(byte, index::VSUSP) => Some(Signal::Suspend),
                () => None,
            };
            if signal.is_some() {
                self.flush();
                self.show(byte, echo);
                return signal;
            }
        }
        if !local.contains(LocalFlags::ICANON) {
            if self.queue.len() < QUEUE {
                self.queue.push_back(byte);
                self.show(byte, echo);
            }
            return None;
        }
        self.edit(byte, echo);
        None
    }

    /// One byte of a line that is being typed.
    fn edit(&mut self, byte: u8, echo: &mut Echo) {
        if self.is(byte, index::VERASE) || byte == 0x08 {
            self.erase_one(echo);
        } else if self.is(byte, index::VWERASE) && self.termios.local().contains(LocalFlags::IEXTEN)
        {
            let is_blank = |c: Option<u8>| matches!(c, Some(b' ' | b'\t'));
            while is_blank(self.last_typed()) {
                self.erase_one(echo);
            }
            while self.last_typed().is_some() && !is_blank(self.last_typed()) {
                self.erase_one(echo);
            }
        } else if self.is(byte, index::VKILL) {
            if self.termios.local().contains(LocalFlags::ECHOKE) {
                while self.last_typed().is_some() {
                    self.erase_one(echo);
                }
            } else {
                self.queue.truncate(self.whole);
                self.show(byte, echo);
                if self.termios.local().contains(LocalFlags::ECHOK) {
                    echo.put(b"\r\n");
                }
            }
        } else if self.is(byte, index::VEOF) {
            self.end_line();
        } else if byte == b'\n' || self.is(byte, index::VEOL) {
            if self.lines.len() == LINES || self.queue.len() == QUEUE {
                echo.put(b"\x07");
                return;
            }
            self.queue.push_back(byte);
            self.end_line();
            self.show(byte, echo);
        } else if self.queue.len() + 1 < QUEUE {
            // The last place is kept for the newline.
            self.queue.push_back(byte);
            self.show(byte, echo);
        } else {
            echo.put(b"\x07");
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
            let is_caret = is_control(byte) && local.contains(LocalFlags::ECHOCTL);
            echo.columns += 1 + usize::from(is_caret);
        }
    }

    fn show(&self, byte: u8, echo: &mut Echo) {
        let local = self.termios.local();
        match byte {
            b'\n' if local.intersects(LocalFlags::ECHO | LocalFlags::ECHONL) => echo.put(b"\r\n"),
            _ if !local.contains(LocalFlags::ECHO) => {}
            _ if is_control(byte) && local.contains(LocalFlags::ECHOCTL) => {
                echo.put(&[b'^', byte ^ 0x40]);
            }
            _ => echo.put(&[byte]),
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

    /// Whether a read would not wait.
    pub(super) fn is_readable(&self) -> bool {
        match self.termios.local().contains(LocalFlags::ICANON) {
            true => !self.lines.is_empty(),
            false => !self.queue.is_empty() || self.termios.characters[index::VMIN] == 0,
        }
    }

    /// Moves bytes to `sink`, and forgets exactly those that it took: at most one line in canonical mode.
    /// `so_far` bytes of the same read went before.
    pub(super) fn read(&mut self, sink: &mut impl IoSink, so_far: usize) -> ReadOutcome {
        let canonical = self.termios.local().contains(LocalFlags::ICANON);
        let limit = match canonical {
            true => match self.lines.front() {
                None => return ReadOutcome::Empty,
                Some(&len) => usize::from(len),
            },
            false if self.queue.is_empty() => {
                let at_once = self.termios.characters[index::VMIN] == 0 || so_far > 0;
                return match at_once {
                    true => ReadOutcome::Done(0),
                    false => ReadOutcome::Empty,
                };
            }
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

fn is_control(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t' && byte != b'\n') || byte == 0x7f
}

#[cfg(test)]
mod tests;
