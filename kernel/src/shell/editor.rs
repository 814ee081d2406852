//! The line editor: bytes from a terminal in, a finished line out.
//!
//! It owns the line being typed, the cursor and the history, and draws through a `fmt::Write`. It knows no device and waits
//! for nothing: the shell feeds it one byte at a time, and computes completions (which may read directories) on
//! [`Edited::Complete`]. Long lines scroll sideways inside the terminal's width, so that it never depends on how a
//! terminal wraps.
//!
//! Keys: arrows, Home, End, Delete, Backspace, Tab, and the usual control letters: A E B F (move), P N (history), K U W
//! (cut to the end, to the start, a word), D (delete; end of input on an empty line), L (clear the screen), C (drop the line).

use alloc::{collections::VecDeque, string::String, vec::Vec};
use core::fmt::Write;

/// Lines kept in the history.
const HISTORY: usize = 100;
/// Characters taken into one line; further ones ring the bell. A line fits in a page, the most that the heap gives in one piece.
const LINE: usize = 1000;

/// What a byte did.
#[derive(Debug, PartialEq, Eq)]
pub enum Edited {
    /// The line goes on.
    Pending,
    /// Enter: this is the line. It is in the history already.
    Line(String),
    /// Ctrl-C: the line was dropped.
    Interrupt,
    /// Ctrl-D on an empty line.
    EndOfInput,
    /// Tab: the caller should find completions and call [`Editor::complete`].
    Complete,
}

/// Where the decoder of escape sequences stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    None,
    /// ESC seen.
    Started,
    /// `ESC [` or `ESC O` seen, and this number so far.
    Sequence(u8),
}

/// A line being edited, with the history of earlier ones.
#[derive(Debug)]
pub struct Editor {
    prompt: String,
    columns: usize,
    line: Vec<char>,
    cursor: usize,
    /// First character of the line that is on the screen.
    left: usize,
    escape: Escape,
    /// Bytes of an unfinished UTF-8 character.
    utf8: Vec<u8>,
    history: VecDeque<String>,
    /// Index into the history while walking it, and the line that was being typed before.
    walking: Option<(usize, Vec<char>)>,
}

impl Editor {
    /// An editor that prints `prompt` on a terminal of `columns` characters a row.
    pub fn new(prompt: &str, columns: usize) -> Self {
        Self {
            prompt: String::from(prompt),
            columns: columns.max(prompt.chars().count() + 10),
            line: Vec::new(),
            cursor: 0,
            left: 0,
            escape: Escape::None,
            utf8: Vec::new(),
            history: VecDeque::new(),
            walking: None,
        }
    }

    /// Prints the prompt of a new, empty line.
    pub fn start(&mut self, out: &mut dyn Write) {
        self.set(Vec::new());
        self.walking = None;
        self.draw(out);
    }

    /// The text before the cursor: what completion looks at.
    pub fn before_cursor(&self) -> String {
        self.line[..self.cursor].iter().collect()
    }

    /// The lines entered so far, oldest first.
    pub fn history(&self) -> impl Iterator<Item = &str> {
        self.history.iter().map(String::as_str)
    }

    /// Takes one byte from the terminal.
    pub fn feed(&mut self, byte: u8, out: &mut dyn Write) -> Edited {
        match self.escape {
            Escape::None => self.key(byte, out),
            Escape::Started => {
                self.escape = match byte {
                    b'[' | b'O' => Escape::Sequence(0),
                    _ => Escape::None,
                };
                Edited::Pending
            }
            Escape::Sequence(number) => {
                self.escape = Escape::None;
                match byte {
                    b'0'..=b'9' => {
                        let digit = byte - b'0';
                        let number = number.saturating_mul(10).saturating_add(digit);
                        self.escape = Escape::Sequence(number);
                    }
                    // Parameters after the first (Shift-arrow and the like) are of no interest here.
                    b';' => self.escape = Escape::Sequence(0),
                    b'A' => self.walk(Direction::Older, out),
                    b'B' => self.walk(Direction::Newer, out),
                    b'C' => self.move_to(self.cursor + 1, out),
                    b'D' => self.move_to(self.cursor.saturating_sub(1), out),
                    b'H' => self.move_to(0, out),
                    b'F' => self.move_to(self.line.len(), out),
                    b'~' => match number {
                        1 | 7 => self.move_to(0, out),
                        3 => self.delete(self.cursor, self.cursor + 1, out),
                        4 | 8 => self.move_to(self.line.len(), out),
                        _ => {}
                    },
                    _ => {}
                }
                Edited::Pending
            }
        }
    }

    /// Puts a completion in: `word_start` is where the word under the cursor begins (in bytes of
    /// [`before_cursor`](Self::before_cursor)), `candidates` are whole words. One candidate replaces the word, several extend it by what they
    /// share; if they share nothing more, they are listed below the line.
    pub fn complete(&mut self, word_start: usize, candidates: &[String], out: &mut dyn Write) {
        let Some(first) = candidates.first() else {
            return bell(out);
        };
        let before = self.before_cursor();
        let start = before[..word_start.min(before.len())].chars().count();
        let shared = candidates.iter().skip(1).fold(first.as_str(), |shared, c| {
            let same = shared
                .char_indices()
                .zip(c.chars())
                .find(|((_, a), b)| a != b)
                .map_or(shared.len().min(c.len()), |((at, _), _)| at);
            &shared[..same]
        });
        let mut word: Vec<char> = shared.chars().collect();
        if candidates.len() == 1 && !shared.ends_with('/') {
            word.push(' ');
        }
        if candidates.len() > 1 && word.len() <= self.cursor - start {
            self.list(candidates, out);
        } else if self.line.len() + word.len() <= LINE {
            let end = start + word.len();
            self.line.splice(start..self.cursor, word);
            self.cursor = end;
        }
        self.draw(out);
    }

    fn list(&self, candidates: &[String], out: &mut dyn Write) {
        let width = candidates
            .iter()
            .map(|c| c.chars().count())
            .max()
            .unwrap_or(0)
            + 2;
        let per_row = (self.columns / width).max(1);
        for row in candidates.chunks(per_row) {
            put(out, "\n");
            for candidate in row {
                let _ = write!(out, "{candidate:width$}");
            }
        }
        put(out, "\n");
    }

    fn key(&mut self, byte: u8, out: &mut dyn Write) -> Edited {
        match byte {
            0x1b => self.escape = Escape::Started,
            b'\r' | b'\n' => return self.enter(out),
            b'\t' => return Edited::Complete,
            0x01 => self.move_to(0, out),
            0x02 => self.move_to(self.cursor.saturating_sub(1), out),
            0x03 => {
                put(out, "^C\n");
                return Edited::Interrupt;
            }
            0x04 if self.line.is_empty() => return Edited::EndOfInput,
            0x04 => self.delete(self.cursor, self.cursor + 1, out),
            0x05 => self.move_to(self.line.len(), out),
            0x06 => self.move_to(self.cursor + 1, out),
            0x08 | 0x7f if self.cursor > 0 => self.delete(self.cursor - 1, self.cursor, out),
            0x0b => self.delete(self.cursor, self.line.len(), out),
            0x0c => {
                put(out, "\x1b[2J\x1b[H");
                self.draw(out);
            }
            0x0e => self.walk(Direction::Newer, out),
            0x10 => self.walk(Direction::Older, out),
            0x15 => self.delete(0, self.cursor, out),
            0x17 => self.delete(self.word_start(), self.cursor, out),
            0x00..=0x1f | 0x7f => {}
            _ => self.text(byte, out),
        }
        Edited::Pending
    }

    fn text(&mut self, byte: u8, out: &mut dyn Write) {
        self.utf8.push(byte);
        match core::str::from_utf8(&self.utf8) {
            Ok(text) => {
                let c = text.chars().next();
                self.utf8.clear();
                if let Some(c) = c {
                    self.insert(c, out);
                }
            }
            // An unfinished character waits for its rest; a wrong one is dropped.
            Err(error) if error.error_len().is_some() || self.utf8.len() >= 4 => self.utf8.clear(),
            Err(_) => {}
        }
    }

    fn insert(&mut self, c: char, out: &mut dyn Write) {
        if self.line.len() >= LINE {
            return bell(out);
        }
        self.line.insert(self.cursor, c);
        self.cursor += 1;
        // The common case, typing at the end of a line that fits, is one character of output.
        if self.cursor == self.line.len() && self.cursor - self.left < self.window() {
            let _ = out.write_char(c);
        } else {
            self.draw(out);
        }
    }

    fn enter(&mut self, out: &mut dyn Write) -> Edited {
        put(out, "\n");
        let line: String = self.line.iter().collect();
        self.set(Vec::new());
        self.walking = None;
        if !line.trim().is_empty() && self.history.back() != Some(&line) {
            if self.history.len() == HISTORY {
                self.history.pop_front();
            }
            self.history.push_back(line.clone());
        }
        Edited::Line(line)
    }

    fn delete(&mut self, from: usize, to: usize, out: &mut dyn Write) {
        let to = to.min(self.line.len());
        if from >= to {
            return bell(out);
        }
        self.line.drain(from..to);
        self.cursor = from;
        self.draw(out);
    }

    fn word_start(&self) -> usize {
        let before = &self.line[..self.cursor];
        let blanks = before.iter().rev().take_while(|c| **c == ' ').count();
        let word = before[..before.len() - blanks]
            .iter()
            .rev()
            .take_while(|c| **c != ' ')
            .count();
        self.cursor - blanks - word
    }

    fn move_to(&mut self, to: usize, out: &mut dyn Write) {
        if to > self.line.len() || to == self.cursor {
            return;
        }
        self.cursor = to;
        self.draw(out);
    }

    fn walk(&mut self, direction: Direction, out: &mut dyn Write) {
        let at = self
            .walking
            .as_ref()
            .map_or(self.history.len(), |(at, _)| *at);
        let to = match direction {
            Direction::Older => at.checked_sub(1),
            Direction::Newer => (at < self.history.len()).then_some(at + 1),
        };
        let Some(to) = to else { return bell(out) };
        if to == self.history.len() {
            let typed = self.walking.take().map(|(_, typed)| typed);
            self.set(typed.unwrap_or_default());
        } else {
            let typed = match self.walking.take() {
                Some((_, typed)) => typed,
                None => core::mem::take(&mut self.line),
            };
            self.walking = Some((to, typed));
            self.set(self.history[to].chars().collect());
        }
        self.draw(out);
    }

    fn set(&mut self, line: Vec<char>) {
        self.cursor = line.len();
        self.line = line;
        self.left = 0;
        self.utf8.clear();
    }

    /// Characters of the line that fit beside the prompt, with one column left for the cursor.
    fn window(&self) -> usize {
        self.columns - self.prompt.chars().count() - 1
    }

    fn draw(&mut self, out: &mut dyn Write) {
        let window = self.window();
        if self.cursor < self.left {
            self.left = self.cursor;
        } else if self.cursor - self.left > window {
            self.left = self.cursor - window;
        }
        put(out, "\r");
        put(out, &self.prompt);
        let end = self.line.len().min(self.left + window);
        for &c in &self.line[self.left..end] {
            let _ = out.write_char(c);
        }
        put(out, "\x1b[K");
        if self.cursor < end {
            let _ = write!(out, "\x1b[{}D", end - self.cursor);
        }
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Older,
    Newer,
}

/// A terminal that cannot be written to is not the editor's business.
fn put(out: &mut dyn Write, text: &str) {
    let _ = out.write_str(text);
}

fn bell(out: &mut dyn Write) {
    put(out, "\x07");
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{string::ToString, vec};

    fn type_in(editor: &mut Editor, keys: &str) -> Vec<Edited> {
        let mut out = String::new();
        keys.bytes()
            .map(|byte| editor.feed(byte, &mut out))
            .filter(|edited| *edited != Edited::Pending)
            .collect()
    }

    fn line(keys: &str) -> String {
        let mut editor = Editor::new("auvm> ", 80);
        match type_in(&mut editor, keys).pop() {
            Some(Edited::Line(line)) => line,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn edits_in_the_middle() {
        assert_eq!(line("helo\x1b[Dl\r"), "hello");
        assert_eq!(line("bc\x01a\x05d\r"), "abcd");
        assert_eq!(line("abc\x7f\x7fx\r"), "ax");
        assert_eq!(line("one two three\x17\x17four\r"), "one four");
        assert_eq!(line("abc\x1b[H\x1b[3~\r"), "bc");
        assert_eq!(line("abc\x02\x02\x0b\r"), "a");
        assert_eq!(line("abc\x02\x15\r"), "c");
        assert_eq!(line("\x1b[Da\x1b[1;2Cb\r"), "ab");
    }

    #[test]
    fn takes_utf8_and_drops_broken_bytes() {
        assert_eq!(line("für\x7f\x7fu\r"), "fu");
        let mut editor = Editor::new("> ", 80);
        let mut out = String::new();
        for byte in [0xff, b'a', 0xc3, 0x28] {
            editor.feed(byte, &mut out);
        }
        assert_eq!(editor.before_cursor(), "a");
    }

    #[test]
    fn history_comes_back_and_keeps_what_was_typed() {
        let mut editor = Editor::new("> ", 80);
        type_in(&mut editor, "one\rtwo\rtwo\r");
        assert_eq!(editor.history().collect::<Vec<_>>(), ["one", "two"]);
        type_in(&mut editor, "thr\x1b[A\x1b[A\x1b[B\x1b[B");
        assert_eq!(editor.before_cursor(), "thr");
        assert_eq!(
            type_in(&mut editor, "\x10\x10\r"),
            vec![Edited::Line("one".to_string())]
        );
    }

    #[test]
    fn control_keys_report() {
        let mut editor = Editor::new("> ", 80);
        assert_eq!(type_in(&mut editor, "\x04"), vec![Edited::EndOfInput]);
        assert_eq!(type_in(&mut editor, "abc\x03"), vec![Edited::Interrupt]);
        assert_eq!(type_in(&mut editor, "\t"), vec![Edited::Complete]);
    }

    #[test]
    fn completion_replaces_extends_or_lists() {
        let mut out = String::new();
        let mut editor = Editor::new("> ", 80);
        type_in(&mut editor, "run /bi");
        editor.complete(4, &["/bin/".to_string()], &mut out);
        assert_eq!(editor.before_cursor(), "run /bin/");
        let two = ["/bin/busybox".to_string(), "/bin/bunzip2".to_string()];
        editor.complete(4, &two, &mut out);
        assert_eq!(editor.before_cursor(), "run /bin/bu");
        out.clear();
        editor.complete(4, &two, &mut out);
        assert!(out.contains("/bin/bunzip2"), "{out:?}");
        editor.complete(4, &two[..1], &mut out);
        assert_eq!(editor.before_cursor(), "run /bin/busybox ");
    }

    #[test]
    fn long_lines_scroll_inside_the_width() {
        let mut editor = Editor::new("> ", 20);
        let mut out = String::new();
        for byte in "abcdefghijklmnopqrstuvwxyz".bytes() {
            out.clear();
            editor.feed(byte, &mut out);
        }
        // One row: the last characters, and never more than the width.
        assert_eq!(out, "\r> jklmnopqrstuvwxyz\x1b[K");
    }
}
