//! Just enough of a terminal to read what a line editor draws: lines, the cursor's column, and the escape
//! sequences that move it within a line or erase.

/// The lines printed so far and the one being drawn.
#[derive(Debug, Default)]
pub struct Screen {
    done: Vec<String>,
    line: Vec<char>,
    column: usize,
    escape: Option<String>,
    /// All that was ever put on the screen, in that order, without what moved the cursor.
    text: String,
    /// Bytes of a character that is not complete yet.
    partial: Vec<u8>,
}

impl Screen {
    /// Takes what the machine printed.
    pub fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.partial.push(byte);
            match std::str::from_utf8(&self.partial) {
                Ok(text) => {
                    let character = text.chars().next().expect("one byte at least");
                    self.partial.clear();
                    self.put(character);
                }
                Err(error) if error.error_len().is_some() => self.partial.clear(),
                Err(_) => {}
            }
        }
    }

    /// Lines that have ended.
    pub fn done(&self) -> &[String] {
        &self.done
    }

    /// All that was ever put on the screen, in the order in which it came, newlines included: for programs that draw where they
    /// like.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The line that the cursor is in.
    pub fn line(&self) -> String {
        self.line.iter().collect()
    }

    fn put(&mut self, character: char) {
        if let Some(mut sequence) = self.escape.take() {
            sequence.push(character);
            match character {
                '[' if sequence.len() == 1 => self.escape = Some(sequence),
                '0'..='9' | ';' | '?' => self.escape = Some(sequence),
                _ => self.sequence(&sequence),
            }
            return;
        }
        match character {
            '\x1b' => self.escape = Some(String::new()),
            '\r' => self.column = 0,
            '\n' => {
                self.text.push('\n');
                self.done.push(self.line());
                self.line.clear();
                self.column = 0;
            }
            '\t' => self.column = (self.column / 8 + 1) * 8,
            '\x08' => self.column = self.column.saturating_sub(1),
            character if character.is_control() => {}
            character => {
                self.line.resize(self.line.len().max(self.column + 1), ' ');
                self.line[self.column] = character;
                self.text.push(character);
                self.column += 1;
            }
        }
    }

    fn sequence(&mut self, sequence: &str) {
        let Some(body) = sequence.strip_prefix('[') else {
            return;
        };
        let (number, kind) = body.split_at(body.len() - 1);
        let number = number.parse().unwrap_or(1);
        match kind {
            "C" => self.column += number,
            "D" => self.column = self.column.saturating_sub(number),
            "K" => self.line.truncate(self.column),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edited_line_reads_as_it_looks() {
        let mut screen = Screen::default();
        screen.feed(b"\r> lx\x1b[K\r> l\x1b[K\r> ls\x1b[K\x1b[1D\r\nout\r\n\r> \x1b[K");
        assert_eq!(screen.done(), ["> ls", "out"]);
        assert_eq!(screen.line(), "> ");
        assert_eq!(screen.text(), "> lx> l> ls\nout\n> ");
    }

    #[test]
    fn characters_may_come_in_pieces() {
        let mut screen = Screen::default();
        screen.feed(&"µ".as_bytes()[..1]);
        screen.feed(&"µ".as_bytes()[1..]);
        assert_eq!(screen.line(), "µ");
    }
}
