use super::*;
use crate::fs::io::VecSink;
use crate::fs::io::testing::Faulty;
use std::string::String;
use std::vec::Vec;

/// Types `keys` and returns what the screen was sent, erased columns as `<`.
fn type_keys(line: &mut LineDiscipline, keys: &[u8]) -> String {
    let mut shown = Vec::new();
    for &key in keys {
        let mut echo = Echo::default();
        assert_eq!(line.input(key, &mut echo), None);
        shown.extend(std::iter::repeat_n(b'<', echo.columns));
        shown.extend(&echo.text);
    }
    String::from_utf8(shown).unwrap()
}

fn read(line: &mut LineDiscipline, limit: usize) -> Option<Vec<u8>> {
    let mut sink = VecSink::new(limit);
    match line.read(&mut sink, 0) {
        ReadOutcome::Done(n) => {
            assert_eq!(n, sink.bytes.len());
            Some(sink.bytes)
        }
        ReadOutcome::Empty => None,
        ReadOutcome::Fault(_) => panic!("a vector does not fault"),
    }
}

#[test]
fn lines_come_whole_and_one_at_a_time() {
    let mut line = LineDiscipline::new();
    assert_eq!(type_keys(&mut line, b"ab"), "ab");
    assert!(!line.is_readable());
    assert_eq!(read(&mut line, 10), None);
    assert_eq!(type_keys(&mut line, b"c\rsecond\n"), "c\r\nsecond\r\n");
    assert_eq!(line.available(), 11);
    assert_eq!(read(&mut line, 2).unwrap(), b"ab");
    assert_eq!(read(&mut line, 100).unwrap(), b"c\n");
    assert_eq!(read(&mut line, 100).unwrap(), b"second\n");
    assert_eq!(read(&mut line, 100), None);
}

#[test]
fn erase_kill_and_word_erase_edit_only_the_line_being_typed() {
    let mut line = LineDiscipline::new();
    type_keys(&mut line, b"done\n");
    assert_eq!(type_keys(&mut line, b"ax\x7fb"), "ax<b");
    // Erasing stops at the start of the line; a control character has two columns.
    assert_eq!(type_keys(&mut line, b"\x01\x7f"), "^A<<");
    assert_eq!(type_keys(&mut line, b"\x7f\x7f\x7f\x7f"), "<<");
    assert_eq!(type_keys(&mut line, "é\x7f".as_bytes()), "é<");
    assert_eq!(type_keys(&mut line, b"one two  \x17"), "one two  <<<<<");
    assert_eq!(type_keys(&mut line, b"\x15"), "<<<<");
    type_keys(&mut line, b"next\n");
    assert_eq!(read(&mut line, 100).unwrap(), b"done\n");
    assert_eq!(read(&mut line, 100).unwrap(), b"next\n");
}

#[test]
fn end_of_file_is_seen_once() {
    let mut line = LineDiscipline::new();
    assert_eq!(type_keys(&mut line, b"\x04"), "");
    assert_eq!(read(&mut line, 10).unwrap(), b"");
    assert_eq!(read(&mut line, 10), None);
    // In the middle of a line it only hands over what was typed.
    type_keys(&mut line, b"part\x04");
    assert_eq!(read(&mut line, 10).unwrap(), b"part");
    assert_eq!(read(&mut line, 10), None);
}

#[test]
fn special_characters_signal_and_forget_the_line() {
    let mut line = LineDiscipline::new();
    type_keys(&mut line, b"half");
    for (key, signal, shown) in [
        (3, Signal::Interrupt, b"^C"),
        (0x1c, Signal::Quit, b"^\\"),
        (0x1a, Signal::Suspend, b"^Z"),
    ] {
        let mut echo = Echo::default();
        assert_eq!(line.input(key, &mut echo), Some(signal));
        assert_eq!(&echo.text[..], shown);
    }
    type_keys(&mut line, b"x\n");
    assert_eq!(read(&mut line, 10).unwrap(), b"x\n");
    // Without ISIG they are keys like others.
    line.termios.local &= !LocalFlags::ISIG.bits();
    assert_eq!(type_keys(&mut line, b"\x03\n"), "^C\r\n");
    assert_eq!(read(&mut line, 10).unwrap(), b"\x03\n");
}

#[test]
fn raw_keys_come_as_they_are() {
    let mut line = LineDiscipline::new();
    type_keys(&mut line, b"typed");
    line.set_termios(Termios::raw());
    // The unfinished line is not lost.
    assert_eq!(read(&mut line, 10).unwrap(), b"typed");
    assert_eq!(type_keys(&mut line, b"\x03\r\x04\x7f"), "");
    assert_eq!(read(&mut line, 10).unwrap(), b"\x03\r\x04\x7f");
    assert_eq!(read(&mut line, 10), None);
    line.termios.characters[index::VMIN] = 0;
    assert_eq!(read(&mut line, 10).unwrap(), b"");
    type_keys(&mut line, b"back");
    line.set_termios(Termios::cooked());
    assert_eq!(read(&mut line, 10).unwrap(), b"back");
}

#[test]
fn a_full_queue_rings_and_keeps_room_for_the_newline() {
    let mut line = LineDiscipline::new();
    for _ in 0..QUEUE - 1 {
        assert_eq!(type_keys(&mut line, b"x"), "x");
    }
    assert_eq!(type_keys(&mut line, b"x"), "\x07");
    assert_eq!(type_keys(&mut line, b"\n"), "\r\n");
    assert_eq!(type_keys(&mut line, b"\n"), "\x07");
    assert_eq!(read(&mut line, 2 * QUEUE).unwrap().len(), QUEUE);
    // Lines are bounded too.
    for _ in 0..2 * LINES {
        type_keys(&mut line, b"\x04");
    }
    assert_eq!(line.lines.len(), LINES);
}

#[test]
fn a_sink_that_faults_leaves_the_rest() {
    let mut line = LineDiscipline::new();
    type_keys(&mut line, b"abcdef\n");
    let mut sink = Faulty::sink(20, 2);
    assert_eq!(line.read(&mut sink, 0), ReadOutcome::Fault(0));
    sink.resident = 2;
    assert_eq!(line.read(&mut sink, 0), ReadOutcome::Fault(2));
    assert_eq!(read(&mut line, 20).unwrap(), b"cdef\n");
}
