//! The VGA text screen: 80 columns, 25 rows, a small subset of ANSI's control sequences.
//!
//! Owns the text buffer and the cursor. Understood are `\r`, `\n` (down only), `\b`, `\t` and `ESC [` with `K`
//! (clear to the end of the line; 1 to its start, 2 all), `J` (the same for the screen), `A` `B` `C` `D` (cursor up, down,
//! right, left), `G` (column), `H` (row; column), `m` (colours, bold, inverse). Other sequences are swallowed.
//! Characters are code page 437, of which ASCII is printed and anything else shows as one block.
//!
//! Synchronisation: none; `&mut self`. Its owner puts it behind a lock that no interrupt handler takes.

use core::ops::Range;
use core::ptr::NonNull;

use crate::io::Registers;

/// Columns of the screen.
pub const COLUMNS: usize = 80;
/// Rows of the screen.
pub const ROWS: usize = 25;
/// Physical address of the text buffer.
pub const TEXT_BUFFER: u64 = 0xb8000;
/// Bytes in the text buffer.
pub const TEXT_BUFFER_LEN: usize = 2 * COLUMNS * ROWS;
/// The ports of the CRT controller: index, and data behind it.
pub const CRTC_PORTS: u16 = 0x3d4;

const CRTC_CURSOR_HIGH: u8 = 0x0e;
const CRTC_CURSOR_LOW: u8 = 0x0f;

const TAB: usize = 8;
const BLOCK: u8 = 0xfe;
const DEFAULT_COLOURS: Colours = Colours {
    foreground: 7,
    background: 0,
    bold: false,
    inverse: false,
};

/// Parameters of a control sequence that are kept; more are swallowed.
const MAX_PARAMETERS: usize = 8;

/// The text screen.
pub struct Text<R> {
    buffer: NonNull<u16>,
    crtc: R,
    /// Where the next character goes. `column` may be [`COLUMNS`]: the line wraps when another character comes.
    row: usize,
    column: usize,
    colours: Colours,
    parser: Parser,
}

// SAFETY: `new` was promised a buffer that is this value's alone, on whatever CPU.
unsafe impl<R: Send> Send for Text<R> {}

/// How characters look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Colours {
    foreground: u8,
    background: u8,
    bold: bool,
    inverse: bool,
}

impl Colours {
    /// The attribute byte, already in the upper half of a cell.
    fn attribute(self) -> u16 {
        let (front, back) = if self.inverse {
            (self.background, self.foreground)
        } else {
            (self.foreground, self.background)
        };
        let bright = if self.bold { 8 } else { 0 };
        u16::from(back << 4 | front | bright) << 8
    }
}

/// Where in a control sequence the input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parser {
    Text,
    Escape,
    /// Behind `ESC [`: the parameters so far, and the index of the one being read.
    Control {
        parameters: [u16; MAX_PARAMETERS],
        at: usize,
    },
}

impl<R: Registers> Text<R> {
    /// A cleared screen. `crtc` are the two ports of the CRT controller, index and data.
    ///
    /// # Safety
    /// `buffer` points to [`TEXT_BUFFER_LEN`] bytes, aligned to 2, mapped for good, that nobody else touches.
    pub unsafe fn new(buffer: NonNull<u8>, crtc: R) -> Text<R> {
        let mut text = Text {
            buffer: buffer.cast(),
            crtc,
            row: 0,
            column: 0,
            colours: DEFAULT_COLOURS,
            parser: Parser::Text,
        };
        text.clear(0..ROWS * COLUMNS);
        text.show_cursor();
        text
    }

    /// Prints `bytes`, then moves the cursor to where the next one goes.
    pub fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.put(byte);
        }
        self.show_cursor();
    }

    fn put(&mut self, byte: u8) {
        match self.parser {
            Parser::Text => self.put_text(byte),
            Parser::Escape => {
                self.parser = match byte {
                    b'[' => Parser::Control {
                        parameters: [0; MAX_PARAMETERS],
                        at: 0,
                    },
                    _ => Parser::Text,
                };
            }
            Parser::Control {
                mut parameters,
                mut at,
            } => match byte {
                b'0'..=b'9' => {
                    if let Some(parameter) = parameters.get_mut(at) {
                        *parameter = parameter
                            .saturating_mul(10)
                            .saturating_add(u16::from(byte - b'0'));
                    }
                    self.parser = Parser::Control { parameters, at };
                }
                b';' => {
                    at = at.saturating_add(1);
                    self.parser = Parser::Control { parameters, at };
                }
                // The bytes that end a sequence; those below them only qualify it.
                0x40..=0x7e => {
                    self.parser = Parser::Text;
                    let count = (at + 1).min(MAX_PARAMETERS);
                    self.control(byte, &parameters[..count]);
                }
                0x1b => self.parser = Parser::Escape,
                _ => {}
            },
        }
    }

    fn put_text(&mut self, byte: u8) {
        match byte {
            b'\r' => self.column = 0,
            b'\n' => self.line_feed(),
            0x08 => self.column = self.column.min(COLUMNS - 1).saturating_sub(1),
            b'\t' => self.column = ((self.column / TAB + 1) * TAB).min(COLUMNS - 1),
            0x1b => self.parser = Parser::Escape,
            b' '..=b'~' => self.print(byte),
            // The first byte of a UTF-8 sequence stands for all of it.
            0xc0..=0xff => self.print(BLOCK),
            _ => {}
        }
    }

    fn print(&mut self, character: u8) {
        if self.column == COLUMNS {
            self.column = 0;
            self.line_feed();
        }
        self.set_cell(
            self.row * COLUMNS + self.column,
            self.colours.attribute() | u16::from(character),
        );
        self.column += 1;
    }

    fn line_feed(&mut self) {
        if self.row + 1 < ROWS {
            self.row += 1;
            return;
        }
        for cell in 0..(ROWS - 1) * COLUMNS {
            self.set_cell(cell, self.cell(cell + COLUMNS));
        }
        self.clear((ROWS - 1) * COLUMNS..ROWS * COLUMNS);
    }

    fn control(&mut self, function: u8, parameters: &[u16]) {
        let parameter = |n: usize| usize::from(parameters.get(n).copied().unwrap_or(0));
        let distance = parameter(0).max(1);
        // A cursor behind the last column stands on it for whatever moves or clears.
        let column = self.column.min(COLUMNS - 1);
        let cursor = self.row * COLUMNS + column;
        match function {
            b'A' => self.row = self.row.saturating_sub(distance),
            b'B' => self.row = (self.row + distance).min(ROWS - 1),
            b'C' => self.column = (column + distance).min(COLUMNS - 1),
            b'D' => self.column = column.saturating_sub(distance),
            b'G' => self.column = (distance - 1).min(COLUMNS - 1),
            b'H' | b'f' => {
                self.row = (distance - 1).min(ROWS - 1);
                self.column = (parameter(1).max(1) - 1).min(COLUMNS - 1);
            }
            b'J' => self.erase(parameter(0), 0, cursor, ROWS * COLUMNS),
            b'K' => self.erase(
                parameter(0),
                self.row * COLUMNS,
                cursor,
                (self.row + 1) * COLUMNS,
            ),
            b'm' => parameters.iter().for_each(|&p| self.select(p)),
            _ => {}
        }
    }

    /// Clears from the cursor to the end, from the start through the cursor, or all.
    fn erase(&mut self, how: usize, start: usize, cursor: usize, end: usize) {
        match how {
            0 => self.clear(cursor..end),
            1 => self.clear(start..cursor + 1),
            2 => self.clear(start..end),
            _ => {}
        }
    }

    /// Select graphic rendition.
    fn select(&mut self, parameter: u16) {
        let colours = &mut self.colours;
        match parameter {
            0 => *colours = DEFAULT_COLOURS,
            1 => colours.bold = true,
            22 => colours.bold = false,
            7 => colours.inverse = true,
            27 => colours.inverse = false,
            30..=37 => colours.foreground = vga_colour(parameter - 30),
            39 => colours.foreground = DEFAULT_COLOURS.foreground,
            40..=47 => colours.background = vga_colour(parameter - 40),
            49 => colours.background = DEFAULT_COLOURS.background,
            90..=97 => colours.foreground = 8 | vga_colour(parameter - 90),
            _ => {}
        }
    }

    fn clear(&mut self, cells: Range<usize>) {
        let blank = Colours {
            inverse: false,
            bold: false,
            ..self.colours
        }
        .attribute()
            | u16::from(b' ');
        for cell in cells {
            self.set_cell(cell, blank);
        }
    }

    fn show_cursor(&mut self) {
        let cursor = (self.row * COLUMNS + self.column.min(COLUMNS - 1)) as u16;
        let [low, high] = cursor.to_le_bytes();
        for (register, value) in [(CRTC_CURSOR_HIGH, high), (CRTC_CURSOR_LOW, low)] {
            self.crtc.write(0, register);
            self.crtc.write(1, value);
        }
    }

    fn cell(&self, index: usize) -> u16 {
        assert!(index < ROWS * COLUMNS);
        // SAFETY: the index is on the screen, and `new` promised the buffer.
        unsafe { self.buffer.add(index).read_volatile() }
    }

    fn set_cell(&mut self, index: usize, cell: u16) {
        assert!(index < ROWS * COLUMNS);
        // SAFETY: as in `cell`.
        unsafe { self.buffer.add(index).write_volatile(cell) }
    }
}

/// ANSI counts colours red, green, blue from the lowest bit; VGA the other way round.
fn vga_colour(ansi: u16) -> u8 {
    let ansi = ansi as u8;
    ansi & 0b010 | (ansi & 0b001) << 2 | (ansi & 0b100) >> 2
}

#[cfg(test)]
mod tests;
