//! The machine's other ways to a person: its screen and keyboard, and its last words.

use std::time::{Duration, Instant};

use tests::Auvm;
use tests::session::PROMPT;

/// Characters in a row of the text screen, and rows.
const COLUMNS: usize = 80;
const ROWS: usize = 25;

#[test]
fn screen_and_keyboard_feed_the_same_shell() {
    let mut auvm = Auvm::new().qemu(&["-vga", "std"]).session();
    let keys = "e c h o spc shift-s e e n ret"
        .split(' ')
        .map(|key| format!("sendkey {key}"));
    let keys: Vec<_> = keys.collect();
    auvm.monitor(keys.iter().map(String::as_str));
    auvm.wait_until("the answer on the terminal", |screen| {
        screen.done().iter().any(|line| line == "Seen") && screen.line() == PROMPT
    });
    let files = tempfile::tempdir().unwrap();
    let dump = files.path().join("screen");
    let save = format!(
        "pmemsave 0xb8000 {} \"{}\"",
        COLUMNS * ROWS * 2,
        dump.display()
    );
    // The screen may still be drawn when the terminal has it all.
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        auvm.monitor([save.as_str()]);
        let cells = std::fs::read(&dump).unwrap();
        // Each cell is a character and its colours.
        let rows = cells.chunks(COLUMNS * 2).map(|row| {
            row.iter()
                .step_by(2)
                .map(|c| char::from(*c))
                .collect::<String>()
        });
        let rows: Vec<String> = rows
            .map(|row| row.trim_end_matches([' ', '\0']).to_owned())
            .collect();
        let typed = rows.iter().any(|row| *row == format!("{PROMPT}echo Seen"));
        if typed && rows.iter().any(|row| row == "Seen") {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "the screen shows\n{}",
            rows.join("\n")
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_panic_names_its_functions() {
    let mut auvm = Auvm::new().session();
    // An interrupt that no kernel can mask, and that nothing here sends.
    auvm.keys("\x01c");
    auvm.wait_until("the monitor", |screen| screen.line().starts_with("(qemu)"));
    auvm.keys("nmi\r");
    let (status, said) = auvm.end();
    assert_eq!(status.code(), Some(101), "{said}");
    assert!(said.starts_with("auvm: kernel panic: "), "{said}");
    let frames: Vec<_> = said
        .lines()
        .filter(|line| line.trim_start().starts_with('#'))
        .collect();
    assert!(!frames.is_empty(), "{said}");
    assert!(
        frames
            .iter()
            .any(|frame| frame.contains("executor") && frame.contains(".rs:")),
        "{said}"
    );
}
