//! The shell, from outside: what `--exec` prints and answers, and a person at a terminal.

use tests::Auvm;

#[test]
fn busybox_runs_unmodified() {
    let text = Auvm::new()
        .exec("run /bin/busybox sh -c \"echo hello | wc -c; ls -l /bin | head -3; uname -a\"")
        .success();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 5, "{text}");
    assert_eq!(lines[0].trim(), "6");
    assert!(lines[1].starts_with("total "), "{text}");
    for line in &lines[2..4] {
        assert!(
            line.starts_with("lrwx") && line.ends_with("-> busybox"),
            "{text}"
        );
    }
    assert!(
        lines[4].starts_with("auvm auvm ") && lines[4].contains("x86_64"),
        "{text}"
    );
}

#[test]
fn the_status_is_the_last_commands() {
    let outcome = Auvm::new().exec("run /bin/busybox true; run /bin/busybox false");
    assert_eq!(
        (
            outcome.status,
            outcome.stdout.as_str(),
            outcome.stderr.as_str()
        ),
        (Some(1), "", ""),
        "{outcome}"
    );
    let outcome = Auvm::new().exec("run /bin/busybox false; run /bin/busybox true");
    assert_eq!(
        (
            outcome.status,
            outcome.stdout.as_str(),
            outcome.stderr.as_str()
        ),
        (Some(0), "", ""),
        "{outcome}"
    );
}

#[test]
fn what_is_not_there_gets_one_line() {
    let outcome = Auvm::new().exec("run /nosuch");
    assert_eq!(outcome.status, Some(1), "{outcome}");
    assert_eq!(outcome.stdout.lines().count(), 1, "{outcome}");
    assert!(outcome.stdout.contains("/nosuch"), "{outcome}");
    let outcome = Auvm::new().exec("nosuchcommand");
    assert_eq!(outcome.status, Some(1), "{outcome}");
    assert_eq!(outcome.stdout.lines().count(), 1, "{outcome}");
}

#[test]
fn ordinary_commands_of_busybox() {
    let commands = [
        ("seq 3", "1\n2\n3\n"),
        ("echo a b", "a b\n"),
        (
            "sh -c 'seq 1000 | tail -1; seq 10 | md5sum'",
            "1000\n3b0332e02daabf31651a5a0d81ba830a  -\n",
        ),
        ("sh -c 'exit 7' ; echo $?", "7\n"),
        (
            "sh -c 'kill -SEGV $$' ; echo $?",
            "run: /bin/busybox: ended by SIGSEGV\n139\n",
        ),
        (
            "sh -c 'dd if=/dev/zero bs=4k count=100 2>/dev/null | wc -c'",
            "409600\n",
        ),
        ("cat /etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
        ("sh -c 'sleep 0.1; echo slept'", "slept\n"),
        (
            "sh -c 'for i in 1 2 3 4 5 6 7 8; do (exit $i) & done; wait; echo all'",
            "all\n",
        ),
        ("sh -c 'x=$(echo inner); echo $x'", "inner\n"),
        ("sh -c 'cat < /etc/hostname'", "auvm\n"),
    ];
    let line: Vec<_> = commands
        .iter()
        .map(|(command, _)| format!("run /bin/busybox {command}"))
        .collect();
    let expected: String = commands.iter().map(|(_, output)| *output).collect();
    assert_eq!(Auvm::new().exec(&line.join("; ")).success(), expected);
}

#[test]
fn a_session_at_the_terminal() {
    let mut auvm = Auvm::new().session();
    assert_eq!(auvm.command("echo hello"), ["hello"]);
    // Editing: the wrong letter is taken back, the line fetched again from history and changed in its middle.
    assert_eq!(auvm.command("ecj\x7fho edited"), ["edited"]);
    assert_eq!(auvm.command("\x1b[A\x1b[D\x1b[D-x-"), ["edit-x-ed"]);
    assert_eq!(auvm.command("run /bin/busybox false; echo $?"), ["1"]);
    assert_eq!(
        auvm.command("run /bin/busybo\t echo completed"),
        ["completed"]
    );
    // Ctrl-C ends the program and not the machine.
    auvm.keys("run /bin/busybox sleep 1000\r");
    auvm.wait_until("the program", |screen| screen.line().is_empty());
    auvm.keys("\x03");
    auvm.wait_until("the prompt after Ctrl-C", |screen| {
        screen.line() == tests::session::PROMPT
    });
    assert_eq!(auvm.command("echo $?"), ["130"]);
    // A program reads what is typed.
    let before = auvm.screen().done().len();
    auvm.keys("run /bin/busybox head -n 1\r");
    auvm.wait_until("the program", |screen| {
        screen.done().len() > before && screen.line().is_empty()
    });
    auvm.keys("typed\r");
    auvm.wait_until("its end", |screen| screen.line() == tests::session::PROMPT);
    assert_eq!(auvm.screen().done()[before + 1..], ["typed", "typed"]);
    assert_eq!(
        auvm.command("check; echo $?").last().map(String::as_str),
        Some("0")
    );
    assert_eq!(auvm.power_off().code(), Some(0));
}

/// Under `--exec` nobody types: a program that reads finds the end of its input.
#[test]
fn without_a_terminal_input_is_at_its_end() {
    let text = Auvm::new().exec("run /bin/busybox wc -c").success();
    assert_eq!(text, "0\n");
}

/// Programs that wait for each other, with nobody there to end them, end the machine; that is no panic, and says who waits.
#[test]
fn a_machine_in_which_all_wait_for_ever_says_so() {
    let outcome = Auvm::new().exec("run /bin/busybox sh -c 'kill -STOP $$'");
    assert_eq!(outcome.status, Some(1), "{outcome}");
    assert!(outcome.stdout.contains("deadlock"), "{outcome}");
    assert!(outcome.stdout.contains("awaits SIGCONT"), "{outcome}");
}

#[test]
fn reboot_boots_again() {
    let mut auvm = Auvm::new().session();
    auvm.command("run /bin/busybox true");
    assert_eq!(auvm.command("reboot").len(), 1);
    assert_eq!(auvm.command("echo again"), ["again"]);
    assert_eq!(auvm.power_off().code(), Some(0));
}

/// Programs that take all memory lose, and nobody else does: neither the shell nor its check.
#[test]
fn a_machine_without_memory_goes_on() {
    let outcome = Auvm::new().option("--memory", "32M").exec(
        "run /bin/busybox sh -c 'x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done'; echo status $?; check; echo checked $?; echo alive",
    );
    assert_eq!(outcome.status, Some(0), "{outcome}");
    let said = |what: &str| outcome.stdout.lines().any(|line| line == what);
    assert!(
        said("status 137") && said("checked 0") && said("alive"),
        "{outcome}"
    );
}
