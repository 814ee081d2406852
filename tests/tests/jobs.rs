//! Job control, as a person at the terminal meets it: the built-in shell's, and that of an unmodified busybox.

use std::process::Command;

use launcher::packages::BUSYBOX;
use tests::oracle::programs;
use tests::session::{PROMPT, Session};
use tests::{Auvm, pty};

/// What busybox's shell prints when it waits for a line.
const SH_PROMPT: &str = "/ # ";

/// Types keys, waits for the prompt, and returns the lines printed from the one on that the keys were typed in.
fn typed(auvm: &mut Session, keys: &str, prompt: &str) -> Vec<String> {
    let before = auvm.screen().done().len();
    auvm.keys(keys);
    auvm.wait_until(&format!("the prompt after {keys:?}"), |screen| {
        screen.done().len() > before && screen.line() == prompt
    });
    auvm.screen().done()[before..].to_vec()
}

/// Types a line for busybox's shell and returns what it printed.
fn sh(auvm: &mut Session, line: &str) -> Vec<String> {
    typed(auvm, &format!("{line}\r"), SH_PROMPT).split_off(1)
}

/// Presses a key that concerns the program in front, and returns the last line before the prompt that follows.
fn press(auvm: &mut Session, key: &str, prompt: &str) -> String {
    let before = auvm.screen().done().len();
    auvm.press(key, &format!("the prompt after {key:?}"), |screen| {
        screen.done().len() >= before && screen.line() == prompt
    });
    auvm.screen().done().last().cloned().unwrap_or_default()
}

/// Types a line that starts a program which prints nothing, and waits until it begins.
fn start(auvm: &mut Session, line: &str) {
    let before = auvm.screen().done().len();
    auvm.keys(&format!("{line}\r"));
    auvm.wait_until(line, |screen| {
        screen.done().len() > before && screen.line().is_empty()
    });
}

/// Brings the job with this title to the front.
fn bring(auvm: &mut Session, command: &str, title: &str) {
    let before = auvm.screen().done().len();
    auvm.keys(&format!("{command}\r"));
    auvm.wait_until(command, |screen| {
        screen.done()[before..].iter().any(|line| line == title)
    });
}

#[test]
fn the_shell_stops_programs_and_lets_them_go_on() {
    const SLEEP: &str = "run /bin/busybox sleep 1000";
    let mut auvm = Auvm::new().session();
    start(&mut auvm, SLEEP);
    let stopped = format!("[1] stopped: {SLEEP}");
    assert_eq!(press(&mut auvm, "\x1a", PROMPT), stopped);
    assert_eq!(auvm.command("echo $?"), ["148"]);
    assert_eq!(auvm.command("jobs"), [stopped.as_str()]);
    assert_eq!(auvm.command("wait"), [stopped.as_str()]);
    let running = format!("[1] running: {SLEEP}");
    assert_eq!(auvm.command("bg"), [running.as_str()]);
    assert_eq!(auvm.command("jobs"), [running.as_str()]);
    bring(&mut auvm, "fg", SLEEP);
    auvm.keys("\x03");
    auvm.wait_until("the prompt after Ctrl-C", |screen| screen.line() == PROMPT);
    assert_eq!(auvm.command("echo $?"), ["130"]);
    assert!(auvm.command("jobs").is_empty());

    // In the background nobody reads the terminal.
    const CAT: &str = "run /bin/busybox cat";
    assert_eq!(auvm.command(&format!("{CAT} &")), ["[1]"]);
    let stopped = format!("[1] stopped: {CAT}");
    while !auvm.command("jobs").contains(&stopped) {}
    bring(&mut auvm, "fg %1", CAT);
    auvm.keys("typed\r");
    auvm.wait_until("its answer", |screen| {
        screen.done().ends_with(&["typed".into(), "typed".into()])
    });
    auvm.keys("\x04");
    auvm.wait_until("its end", |screen| screen.line() == PROMPT);
    assert_eq!(auvm.command("echo $?"), ["0"]);
    assert_eq!(auvm.command("fg"), ["fg: there is no job"]);
    assert_eq!(
        auvm.command("bg 3"),
        ["bg: there is no job 3; `jobs` lists them"]
    );
    // A job of the shell's own is no program.
    auvm.command(&format!("{SLEEP} &"));
    let lines = auvm.command("wait 1 & fg");
    let last = lines.last().map_or("", String::as_str);
    assert!(last.starts_with("fg: job 2 is the shell's own"), "{last}");
    auvm.command("kill -KILL %1; wait");
    assert_eq!(auvm.command("echo $?"), ["137"]);
    assert_eq!(
        auvm.command("check; echo $?").last().map(String::as_str),
        Some("0")
    );
    assert_eq!(auvm.power_off().code(), Some(0));
}

#[test]
fn an_interactive_shell_of_busybox() {
    let mut auvm = Auvm::new().session();
    auvm.keys("run /bin/busybox sh\r");
    auvm.wait_until("busybox's prompt", |screen| screen.line() == SH_PROMPT);
    let auvm = &mut auvm;
    assert!(
        !auvm.screen().text().contains("job control turned off"),
        "{}",
        auvm.screen().text()
    );
    // A program is stopped, goes on behind, comes to the front, and is ended.
    start(auvm, "sleep 1000");
    let words = |lines: Vec<String>| -> Vec<String> {
        let tidy = |line: &String| line.split_whitespace().collect::<Vec<_>>().join(" ");
        lines.iter().map(tidy).collect()
    };
    let line = press(auvm, "\x1a", SH_PROMPT);
    assert!(line.contains("^Z[1]+  Stopped"), "{line}");
    assert_eq!(words(sh(auvm, "jobs")), ["[1]+ Stopped sleep 1000"]);
    assert_eq!(sh(auvm, "bg"), ["[1] sleep 1000"]);
    assert_eq!(words(sh(auvm, "jobs")), ["[1]+ Running sleep 1000"]);
    bring(auvm, "fg", "sleep 1000");
    assert_eq!(press(auvm, "\x03", SH_PROMPT), "^C");
    assert_eq!(sh(auvm, "echo $?"), ["130"]);
    assert!(sh(auvm, "jobs").is_empty());
    start(auvm, "sleep 1000");
    assert_eq!(press(auvm, "\x1c", SH_PROMPT), "^\\Quit");

    // Pipelines are one job; so is what they leave behind.
    assert_eq!(sh(auvm, "seq 1000 | grep 7 | wc -l"), ["271"]);
    start(auvm, "sleep 1000 | cat");
    press(auvm, "\x1a", SH_PROMPT);
    assert_eq!(sh(auvm, "jobs | wc -l"), ["1"]);
    bring(auvm, "fg", "sleep 1000 | cat");
    press(auvm, "\x03", SH_PROMPT);
    assert!(sh(auvm, "jobs").is_empty());
    let lines = sh(auvm, "(sleep 0.2; exit 3) & wait $!; echo status $?");
    assert!(lines.contains(&"status 3".to_owned()), "{lines:?}");

    // What reads in the background is stopped; what writes is too, once the terminal is set so.
    sh(auvm, "cat &");
    while !words(sh(auvm, "jobs")).contains(&"[1]+ Stopped (tty input) cat".to_owned()) {}
    sh(auvm, "kill %1; fg");
    sh(auvm, "stty tostop; echo loud &");
    while !words(sh(auvm, "jobs")).contains(&"[1]+ Stopped (tty output) echo loud".to_owned()) {}
    let lines = sh(auvm, "stty -tostop; fg");
    assert_eq!(lines, ["echo loud", "loud"]);
    assert_eq!(sh(auvm, "stty size"), ["24 80"]);

    // An editor has the whole screen, and gives it back.
    let drawn = |auvm: &mut Session, keys: &str, what: &str| {
        let before = auvm.screen().text().len();
        auvm.keys(keys);
        auvm.wait_until(what, |screen| screen.text()[before..].contains(what));
    };
    drawn(auvm, "vi /etc/passwd\r", "1/1 100%");
    assert!(
        auvm.screen()
            .text()
            .contains("root:x:0:0:root:/root:/bin/sh")
    );
    drawn(auvm, "x", "[Modified]");
    auvm.keys("\x1a");
    auvm.wait_until("the prompt after Ctrl-Z", |screen| {
        screen.line().ends_with(SH_PROMPT)
    });
    drawn(auvm, "fg\r", "oot:x:0:0");
    auvm.keys(":q!\r");
    auvm.wait_until("the prompt after vi", |screen| {
        screen.line().ends_with(SH_PROMPT)
    });
    auvm.keys("\r");
    auvm.wait_until("a prompt alone", |screen| screen.line() == SH_PROMPT);
    assert_eq!(sh(auvm, "echo echoed"), ["echoed"]);

    let before = auvm.screen().done().len();
    auvm.keys("exit 5\r");
    auvm.wait_until("auvm's prompt", |screen| {
        screen.done().len() > before && screen.line() == PROMPT
    });
    assert_eq!(auvm.command("echo $?"), ["5"]);
    assert_eq!(
        auvm.command("check; echo $?").last().map(String::as_str),
        Some("0")
    );
}

/// Scripts of pipelines and background jobs: the same busybox on this host says what is right.
#[test]
fn scripts_do_what_they_do_on_linux() {
    const SCRIPTS: &[&str] = &[
        "seq 100 | sort -r | head -n 3 | tr 0 x",
        "for i in 3 1 2; do (exit $i) & p=$!; wait $p; echo $i $?; done",
        "(sleep 0.3; echo late) & (sleep 0.1; echo early) & wait; echo all",
        "a=$(seq 10 | while read n; do [ $n = 7 ] && break; echo $n; done); echo $a",
        "sleep 100 & p=$!; kill $p; wait $p; echo $?",
        "sleep 100 & p=$!; kill -STOP $p; kill -CONT $p; kill -INT $p; kill -9 $p; wait $p; echo $?",
        "trap 'echo got it' USR1; kill -USR1 $$; (kill -USR1 $$); echo end",
        "trap 'echo bye' EXIT; false | true; echo $?; true | false; echo $?",
        "yes | head -n 2; echo ${PIPESTATUS:-none}",
        "sh -c 'kill -TERM $$'; echo $?; setsid sh -c 'exit 9'; echo $?",
        "x=1; { x=2; } ; (x=3); echo $x; set -m; sleep 0.1 & wait; echo $?",
        "cat /dev/tty 2>/dev/null || echo none",
    ];
    let quoted =
        |script: &&str| format!("setsid busybox sh -c '{}'", script.replace('\'', "'\\''"));
    // The last command must not take the place of the shell: as leader of a group, `setsid` would not wait.
    let all: Vec<_> = SCRIPTS
        .iter()
        .map(quoted)
        .chain(["true".to_owned()])
        .collect();
    let linux = Command::new(BUSYBOX)
        .args(["sh", "-c", &format!("exec 2>&1; {}", all.join("; "))])
        .env_clear()
        .env("PATH", "/bin:/sbin:/usr/bin")
        .stdin(std::process::Stdio::null())
        .output()
        .expect("busybox starts");
    let linux = String::from_utf8_lossy(&linux.stdout).into_owned();
    let line = all.join("; ").replace('\\', "\\\\").replace('"', "\\\"");
    let line = line.replace("$?", "\\$?");
    let auvm = Auvm::new()
        .exec(&format!("run /bin/busybox sh -c \"{line}\""))
        .success();
    assert_eq!(auvm, linux);
}

/// What `terminal` is typed, by the question that it asks.
const ANSWERS: &[(&str, &str)] = &[
    ("three?", "abc"),
    ("two of three?", "xyz"),
    ("a gap?", "pq"),
    ("one in time?", "\x03"),
    ("edited?", "ab\x7f\x7f\x7fcd\tx\x7f\x7fe\r"),
    ("word?", "one two-three\x17\x17four\r"),
    ("killed?", "gone\x15kept\x02\r"),
    ("literal?", "\x16\x03\x16\x04end\r"),
    ("nothing?", "\x04"),
    ("part?", "part\x04"),
    ("unseen?", "secret\x7f\x7f\r"),
    ("ended otherwise?", "one;two\r"),
];

/// A program that uses its terminal in every way does so on Linux too, before a pseudo-terminal there.
#[test]
fn a_terminal_is_what_it_is_on_linux() {
    let program = programs()
        .iter()
        .find(|program| program.name == "terminal")
        .expect("it was built");
    // A shell with job control starts it, as auvm's own does.
    let line = format!("set -m; {}; true", program.host.display());
    let words = [BUSYBOX, "setsid", "-c", BUSYBOX, "sh", "-c", &line];
    let linux = pty::run(&words, ANSWERS);
    let mut auvm = Auvm::new().session();
    let before = auvm.screen().done().len() + 1;
    auvm.keys(&format!("run {}\r", program.guest()));
    for (question, answer) in ANSWERS {
        auvm.wait_until(question, |screen| {
            let mut shown = screen.done().iter().skip(before);
            shown.any(|line| line == question)
        });
        auvm.keys(answer);
    }
    auvm.wait_until("its end", |screen| screen.line() == PROMPT);
    // What was erased at the end of a line may have left blanks.
    let tidy = |lines: &[String]| -> Vec<String> {
        lines
            .iter()
            .map(|line| line.trim_end().to_owned())
            .collect()
    };
    assert_eq!(tidy(&auvm.screen().done()[before..]), tidy(&linux));
}
