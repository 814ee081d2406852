//! A pseudo-terminal of this host, on which Linux does what auvm's console then must do too.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use nix::pty::openpty;

use crate::screen::Screen;

/// Runs a command before a terminal of its own until all have closed that, and returns the lines that it showed. Whenever one of the
/// questions has appeared as a line, its answer is typed; they come in that order.
///
/// # Panics
/// There is no terminal to be had, or the command does not start.
pub fn run(words: &[&str], answers: &[(&str, &str)]) -> Vec<String> {
    let pty = openpty(None, None).expect("a terminal can be had");
    let (mut terminal, other_end) = (File::from(pty.master), File::from(pty.slave));
    let end = || Stdio::from(other_end.try_clone().expect("a descriptor can be had"));
    let mut child = Command::new(words[0])
        .args(&words[1..])
        .env_clear()
        .stdin(end())
        .stdout(end())
        .stderr(end())
        .spawn()
        .expect("the command starts");
    drop(other_end);
    let mut screen = Screen::default();
    let mut answers = answers.iter().peekable();
    let mut piece = [0; 4096];
    // The terminal fails when nobody has its other end any more.
    while let Ok(n @ 1..) = terminal.read(&mut piece) {
        screen.feed(&piece[..n]);
        while let Some((_, answer)) =
            answers.next_if(|(question, _)| screen.done().iter().any(|line| line == question))
        {
            terminal
                .write_all(answer.as_bytes())
                .expect("the terminal takes keys");
        }
    }
    child.wait().expect("it can be waited for");
    screen.done().to_vec()
}
