//! The screen against a plain buffer.

use std::boxed::Box;
use std::string::String;
use std::sync::{Arc, Mutex};
use std::vec::Vec;

use super::*;

/// The CRT controller's registers, written through index and data.
#[derive(Clone, Default)]
struct Crtc(Arc<Mutex<(u8, [u8; 32])>>);

impl Registers for Crtc {
    fn read(&self, _: u16) -> u8 {
        0
    }

    fn write(&self, offset: u16, value: u8) {
        let mut state = self.0.lock().unwrap();
        let index = usize::from(state.0);
        match offset {
            0 => state.0 = value,
            _ => state.1[index] = value,
        }
    }
}

struct Screen {
    text: Text<Crtc>,
    crtc: Crtc,
}

impl Screen {
    fn new() -> Screen {
        let buffer: &'static mut [u16] = Box::leak(Box::new([0x1234u16; ROWS * COLUMNS]));
        let crtc = Crtc::default();
        // SAFETY: the buffer is as long as the screen, and is the screen's for good.
        let text = unsafe { Text::new(NonNull::from(buffer).cast(), crtc.clone()) };
        Screen { text, crtc }
    }

    fn after(bytes: &[u8]) -> Screen {
        let mut screen = Screen::new();
        screen.text.write(bytes);
        screen
    }

    fn row(&self, row: usize) -> String {
        let cells = (row * COLUMNS..(row + 1) * COLUMNS).map(|n| self.text.cell(n) as u8 as char);
        String::from(cells.collect::<String>().trim_end())
    }

    fn attribute(&self, row: usize, column: usize) -> u8 {
        (self.text.cell(row * COLUMNS + column) >> 8) as u8
    }

    fn cursor(&self) -> (usize, usize) {
        let crtc = self.crtc.0.lock().unwrap();
        let at = usize::from(crtc.1[0x0e]) << 8 | usize::from(crtc.1[0x0f]);
        (at / COLUMNS, at % COLUMNS)
    }
}

#[test]
fn text_appears_and_the_cursor_follows() {
    let screen = Screen::after(b"hello\r\nworld");
    assert_eq!(
        (screen.row(0).as_str(), screen.row(1).as_str()),
        ("hello", "world")
    );
    assert_eq!(screen.cursor(), (1, 5));
    assert_eq!(screen.attribute(0, 0), 0x07);
}

#[test]
fn a_newline_alone_goes_straight_down() {
    assert_eq!(Screen::after(b"ab\nc").row(1), "  c");
}

#[test]
fn a_full_line_wraps_only_when_more_comes() {
    let mut line = Vec::from([b'x'; COLUMNS]);
    let screen = Screen::after(&line);
    assert_eq!(screen.cursor(), (0, COLUMNS - 1));
    line.extend(b"\r\nnext");
    assert_eq!(Screen::after(&line).row(1), "next", "no empty line between");
    let screen = Screen::after(&[b'x'; COLUMNS + 1]);
    assert_eq!((screen.row(1).as_str(), screen.cursor()), ("x", (1, 1)));
}

#[test]
fn the_screen_scrolls() {
    let mut screen = Screen::new();
    for n in 0..30 {
        screen.text.write(std::format!("line {n}\r\n").as_bytes());
    }
    assert_eq!(screen.row(0), "line 6");
    assert_eq!(screen.row(ROWS - 2), "line 29");
    assert_eq!(screen.row(ROWS - 1), "");
    assert_eq!(screen.cursor(), (ROWS - 1, 0));
}

#[test]
fn backspace_and_tab_move_within_the_line() {
    assert_eq!(Screen::after(b"ab\x08c").row(0), "ac");
    assert_eq!(Screen::after(b"\x08\x08a").row(0), "a");
    assert_eq!(Screen::after(b"a\tb").row(0), "a       b");
    assert_eq!(Screen::after(&[b'\t'; 20]).cursor(), (0, COLUMNS - 1));
    let mut full = Vec::from([b'x'; COLUMNS]);
    full.extend(b"\x08");
    assert_eq!(Screen::after(&full).cursor(), (0, COLUMNS - 2));
}

#[test]
fn sequences_move_the_cursor_within_the_screen() {
    assert_eq!(Screen::after(b"\x1b[5;10H").cursor(), (4, 9));
    assert_eq!(
        Screen::after(b"\x1b[999;999H").cursor(),
        (ROWS - 1, COLUMNS - 1)
    );
    assert_eq!(Screen::after(b"\x1b[5;10H\x1b[H").cursor(), (0, 0));
    assert_eq!(Screen::after(b"\x1b[5;10H\x1b[2A\x1b[3C").cursor(), (2, 12));
    assert_eq!(
        Screen::after(b"\x1b[5;10H\x1b[99B\x1b[99D").cursor(),
        (ROWS - 1, 0)
    );
    assert_eq!(Screen::after(b"abc\x1b[D\x1b[0DX").row(0), "aXc");
    assert_eq!(Screen::after(b"abc\x1b[2G").cursor(), (0, 1));
}

#[test]
fn sequences_erase() {
    assert_eq!(Screen::after(b"abcdef\x1b[3D\x1b[K").row(0), "abc");
    assert_eq!(Screen::after(b"abcdef\x1b[3D\x1b[1K").row(0), "    ef");
    assert_eq!(Screen::after(b"abcdef\x1b[3D\x1b[2K").row(0), "");
    let screen = Screen::after(b"one\r\ntwo\r\nthree\x1b[2;2H\x1b[J");
    assert_eq!(
        (
            screen.row(0).as_str(),
            screen.row(1).as_str(),
            screen.row(2).as_str()
        ),
        ("one", "t", "")
    );
    assert_eq!(Screen::after(b"one\r\ntwo\x1b[2J").row(0), "");
}

#[test]
fn colours_are_vgas() {
    let screen = Screen::after(b"\x1b[31ma\x1b[1;34;43mb\x1b[0mc\x1b[7md\x1b[27;92me");
    let attributes: Vec<u8> = (0..5).map(|column| screen.attribute(0, column)).collect();
    assert_eq!(attributes, [0x04, 0x69, 0x07, 0x70, 0x0a]);
}

#[test]
fn unknown_input_is_swallowed() {
    assert_eq!(
        Screen::after(b"a\x1b[?25lb\x1b[1;2;3;4;5;6;7;8;9;10;11mc\x1b[99999999999zd").row(0),
        "abcd"
    );
    assert_eq!(Screen::after(b"a\x1b7b\x1b\x1b[Kc\x07\x00").row(0), "abc");
    let screen = Screen::after("ä→x".as_bytes());
    assert_eq!(screen.text.cell(0) as u8, 0xfe);
    assert_eq!(screen.text.cell(2) as u8, b'x');
}
