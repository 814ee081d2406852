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
    match line.read(&mut sink) {
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
        assert_eq!(line.input(key, &mut echo), Some(Event::Signal(signal)));
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
    assert_eq!(line.read(&mut sink), ReadOutcome::Fault(0));
    sink.resident = 2;
    assert_eq!(line.read(&mut sink), ReadOutcome::Fault(2));
    assert_eq!(read(&mut line, 20).unwrap(), b"cdef\n");
}

/// The four cases of POSIX, and what `poll` says in each.
#[test]
fn raw_reads_end_by_rules() {
    let mut line = LineDiscipline::new();
    assert_eq!(line.rule(), Rule::Line);
    for (least, time, rule, readable_at) in [
        (3, 0, Rule::Bytes(3), 3),
        (3, 2, Rule::Gap(3, 200_000_000), 1),
        (0, 5, Rule::Time(500_000_000), 1),
        (0, 0, Rule::Time(0), 1),
    ] {
        let mut raw = Termios::raw();
        raw.characters[index::VMIN] = least;
        raw.characters[index::VTIME] = time;
        line.set_termios(raw);
        assert_eq!(line.rule(), rule);
        for typed in 0..4 {
            assert_eq!(line.has_input(), typed > 0, "{rule:?} {typed}");
            assert_eq!(line.is_readable(), typed >= readable_at, "{rule:?} {typed}");
            type_keys(&mut line, b"x");
        }
        line.flush();
    }
}

#[test]
fn without_the_echo_flags_less_is_shown() {
    let mut line = LineDiscipline::new();
    let without = |flags: LocalFlags| {
        let mut termios = Termios::cooked();
        termios.local &= !flags.bits();
        termios
    };
    line.set_termios(without(LocalFlags::ECHOE));
    assert_eq!(type_keys(&mut line, b"ab\x7f\x7f\x7f"), "ab^?^?");
    line.set_termios(without(LocalFlags::ECHOKE));
    assert_eq!(type_keys(&mut line, b"ab\x15"), "ab^U\r\n");
    line.set_termios(without(LocalFlags::ECHOK | LocalFlags::ECHOKE));
    assert_eq!(type_keys(&mut line, b"ab\x15"), "ab^U");
    line.set_termios(without(LocalFlags::ECHOCTL));
    assert_eq!(type_keys(&mut line, b"a\x01\x7f\x7f"), "a\x01<");
    line.set_termios(without(LocalFlags::ECHO));
    assert_eq!(type_keys(&mut line, b"ab\x7f\x15c\n"), "");
    let mut newline = without(LocalFlags::ECHO);
    newline.local |= LocalFlags::ECHONL.bits();
    line.set_termios(newline);
    assert_eq!(type_keys(&mut line, b"d\n"), "\r\n");
    assert_eq!(read(&mut line, 10).unwrap(), b"c\n");
    assert_eq!(read(&mut line, 10).unwrap(), b"d\n");
}

#[test]
fn tabs_are_erased_as_wide_as_they_are() {
    let mut line = LineDiscipline::new();
    line.shown(b"prompt> ");
    // The cursor is at column 8: three letters and a tab of five.
    assert_eq!(type_keys(&mut line, b"abc\t\x7f"), "abc\t<<<<<");
    assert_eq!(type_keys(&mut line, b"\td\x15"), "\td<<<<<<<<<");
    line.shown(b"\r\nab");
    assert_eq!(type_keys(&mut line, b"\t\x7f"), "\t<<<<<<");
}

#[test]
fn the_next_key_can_be_taken_as_it_is() {
    let mut line = LineDiscipline::new();
    assert_eq!(
        type_keys(&mut line, b"\x16\x03\x16\x7f\x16\n"),
        "^\x08^C^\x08^?^\x08\r\n"
    );
    assert_eq!(read(&mut line, 10), None, "that newline ended nothing");
    type_keys(&mut line, b"\n");
    assert_eq!(read(&mut line, 10).unwrap(), b"\x03\x7f\n\n");
}

#[test]
fn a_line_ends_as_it_is_told_to() {
    let mut line = LineDiscipline::new();
    line.termios.characters[index::VEOL] = b';';
    line.termios.characters[index::VEOL2] = b'|';
    assert_eq!(type_keys(&mut line, b"a;b|c\n"), "a;b|c\r\n");
    assert_eq!(read(&mut line, 10).unwrap(), b"a;");
    assert_eq!(read(&mut line, 10).unwrap(), b"b|");
    assert_eq!(read(&mut line, 10).unwrap(), b"c\n");
    line.termios.input = InputFlags::INLCR.bits();
    type_keys(&mut line, b"x\n\x04");
    assert_eq!(read(&mut line, 10).unwrap(), b"x\r");
    line.termios.input = InputFlags::IGNCR.bits();
    type_keys(&mut line, b"\ry\r\n");
    assert_eq!(read(&mut line, 10).unwrap(), b"y\n");
}

#[test]
fn words_are_erased_as_linux_has_them() {
    let mut line = LineDiscipline::new();
    assert_eq!(type_keys(&mut line, b"/usr/lib-x \x17"), "/usr/lib-x <<");
    assert_eq!(type_keys(&mut line, b"\x17\x17\x17\x17"), "<<<<<<<<<");
}

#[test]
fn keys_hold_output_back() {
    let mut line = LineDiscipline::new();
    let mut echo = Echo::default();
    let event = |line: &mut LineDiscipline, key| line.input(key, &mut Echo::default());
    assert_eq!(event(&mut line, 0x13), Some(Event::Flow(Flow::Stop)));
    assert_eq!(event(&mut line, 0x11), Some(Event::Flow(Flow::Start)));
    assert_eq!(event(&mut line, b'a'), None);
    line.termios.input |= InputFlags::IXANY.bits();
    assert_eq!(event(&mut line, b'a'), Some(Event::Flow(Flow::Start)));
    line.termios.input = 0;
    assert_eq!(line.input(0x13, &mut echo), None);
    assert_eq!(&echo.text[..], b"^S");
}

#[test]
fn signals_may_leave_what_was_typed() {
    let mut line = LineDiscipline::new();
    line.termios.local |= LocalFlags::NOFLSH.bits();
    type_keys(&mut line, b"ab");
    line.input(3, &mut Echo::default());
    type_keys(&mut line, b"c\n");
    assert_eq!(read(&mut line, 10).unwrap(), b"abc\n");
}
