//! What keys show, and where that leaves the cursor.

use super::LineDiscipline;
use crate::fs::tty::termios::{LocalFlags, OutputFlags};
use arrayvec::ArrayVec;

/// Bytes between two stops of the tabulator.
const TAB: usize = 8;

/// What a key shows: first some columns are taken off the screen, then some text is put on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::fs::tty) struct Echo {
    /// Columns to erase.
    pub(in crate::fs::tty) columns: usize,
    /// Text to show.
    pub(in crate::fs::tty) text: ArrayVec<u8, 4>,
}

impl Echo {
    pub(super) fn put(&mut self, text: &[u8]) {
        // No key shows more than `^U\r\n`.
        self.text.extend(text.iter().copied());
    }
}

impl LineDiscipline {
    /// What is being typed.
    pub(super) fn typed(&self) -> impl Iterator<Item = u8> {
        self.queue
            .range(self.whole.min(self.queue.len())..)
            .copied()
    }

    /// What the byte number `at` of the line that is being typed showed; `None` behind its end.
    pub(in crate::fs::tty) fn typed_echo(&mut self, at: usize) -> Option<Echo> {
        let byte = self.typed().nth(at)?;
        let mut echo = Echo::default();
        self.show(byte, &mut echo);
        if at == 0 {
            self.start = self.column;
        }
        self.shown(&echo.text);
        Some(echo)
    }

    /// The column after an echoed byte.
    pub(super) fn after(&self, column: usize, byte: u8) -> usize {
        let caret = self.termios.local().contains(LocalFlags::ECHOCTL);
        match byte {
            b'\t' => column - column % TAB + TAB,
            _ if is_control(byte) => column + if caret { 2 } else { 0 },
            // Of a character of several bytes, the first counts.
            0x80..0xc0 => column,
            _ => column + 1,
        }
    }

    /// Follows the cursor over bytes that were put on the screen.
    pub(in crate::fs::tty) fn shown(&mut self, text: &[u8]) {
        for &byte in text {
            self.column = match byte {
                b'\r' | b'\n' => 0,
                b'\t' => self.column - self.column % TAB + TAB,
                0x08 => self.column.saturating_sub(1),
                ..0x20 | 0x7f | 0x80..0xc0 => self.column,
                _ => self.column + 1,
            };
        }
    }

    pub(super) fn show(&self, byte: u8, echo: &mut Echo) {
        let local = self.termios.local();
        match byte {
            b'\n' if local.intersects(LocalFlags::ECHO | LocalFlags::ECHONL) => {
                self.show_newline(echo);
            }
            _ if !local.contains(LocalFlags::ECHO) => {}
            _ if is_control(byte) && local.contains(LocalFlags::ECHOCTL) => {
                echo.put(&[b'^', byte ^ 0x40]);
            }
            _ => echo.put(&[byte]),
        }
    }

    pub(super) fn show_newline(&self, echo: &mut Echo) {
        let turns = OutputFlags::OPOST | OutputFlags::ONLCR;
        match self.termios.output().contains(turns) {
            true => echo.put(b"\r\n"),
            false => echo.put(b"\n"),
        }
    }
}

fn is_control(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t' && byte != b'\n') || byte == 0x7f
}
