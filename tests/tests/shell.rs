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

/// Memory beyond RAM, on a RAM disk, in counted time.
fn paging_machine() -> Auvm {
    Auvm::new()
        .flag("--icount")
        .option("--memory", "64M")
        .option("--ramdisk", "512M:100us:256,swap")
}

/// Answers take at most 100 ms at the 99th percentile while programs page four times the memory.
#[test]
fn the_shell_answers_while_memory_is_overloaded() {
    const LOAD: &str = "run /bin/hog --procs 8 --size 32M --rounds 20 --verify";
    let text = paging_machine()
        .exec(&format!(
            "{LOAD} & time -n 100 echo answer; time -n 100 vmstat; time -n 20 run /bin/busybox true; jobs; wait; check"
        ))
        .success();
    let runs: Vec<&str> = text
        .lines()
        .filter(|line| line.contains(" runs: "))
        .collect();
    println!("{}", runs.join("\n"));
    assert_eq!(runs.len(), 3, "{text}");
    // What was measured was measured under load.
    assert!(text.contains(&format!("[1] running: {LOAD}\n")), "{text}");
    for line in &runs[..2] {
        let p99 = line
            .split_once("p99 ")
            .and_then(|(_, rest)| rest.split(',').next());
        let p99: u64 = p99.and_then(|us| us.parse().ok()).expect("a number");
        assert!((1..100_000).contains(&p99), "{text}");
    }
    assert_eq!(text.matches("answer\n").count(), 100, "{text}");
    assert!(
        text.contains(", verified\n") && text.contains("all is well"),
        "{text}"
    );
}

/// A small program is not held up for long by large ones that dirty memory faster than a slow disk takes it.
#[test]
fn writers_are_held_back_for_those_who_take_little() {
    let text = Auvm::new()
        .flag("--icount")
        .option("--memory", "64M")
        .option("--ramdisk", "512M:2ms:2,swap")
        .exec(
            "run /bin/hog --procs 8 --size 12M --rounds 3 --verify & time -n 40 run /bin/busybox true; jobs; \
             sysctl vm.turnwaits; wait; check",
        )
        .success();
    assert!(text.contains("[1] running: "), "{text}");
    assert!(
        !text.contains("turnwaits = 0\n") && text.contains("turnwaits"),
        "{text}"
    );
    let p99 = text
        .split_once("p99 ")
        .and_then(|(_, rest)| rest.split(',').next());
    let p99: u64 = p99.and_then(|us| us.parse().ok()).expect("a number");
    println!("p99 {p99} us");
    assert!((1..200_000).contains(&p99), "{text}");
    assert!(
        text.contains(", verified\n") && text.contains("all is well"),
        "{text}"
    );
}

#[test]
fn vmstat_and_top_show_who_pages() {
    let text = paging_machine()
        .exec(
            "run /bin/hog --procs 2 --size 64M --rounds 8 --pattern random & run /bin/busybox sleep 0.2; top 1; vmstat 1 2; \
             sysctl vm.heaplarge; jobs; wait",
        )
        .success();
    assert!(text.contains("[1] running: "), "{text}");
    let row = |contains: &str, ends: &str| -> Vec<String> {
        let line = text
            .lines()
            .find(|line| line.contains(contains) && line.ends_with(ends));
        let line = line.unwrap_or_else(|| panic!("no {contains} .. {ends} in\n{text}"));
        line.split_whitespace().map(String::from).collect()
    };
    let names = row(" PID ", " COMMAND");
    let hog = row("% ", " hog");
    let of = |name: &str| -> u64 {
        let at = names.iter().position(|n| n == name).expect("a column");
        hog[at].parse().expect("a number")
    };
    // Two with 64 MiB each in as much memory: half of each is on swap.
    assert!((4_000..64_000).contains(&of("RES")), "{text}");
    assert!((4_000..70_000).contains(&of("SWAP")), "{text}");
    assert!(of("SHARED") <= of("RES"), "{text}");
    assert!(of("FLT") > 100 && of("WAITED") > 10, "{text}");
    assert!(of("FAULTS") >= of("FLT"), "{text}");
    let names = row(" wait ", " polls");
    // The second line is the last second's.
    let second = text
        .lines()
        .skip_while(|line| !line.ends_with(" polls"))
        .nth(2);
    let second: Vec<u64> = second
        .expect("two lines")
        .split_whitespace()
        .map(|word| word.parse().expect("a number"))
        .collect();
    assert_eq!(names.len(), second.len(), "{text}");
    for name in ["flt", "pi", "po", "si", "so", "re", "fr", "sr"] {
        let at = names.iter().position(|n| n == name).expect("a column");
        assert!(second[at] > 0, "{name}\n{text}");
    }
    assert!(text.contains("vm.heaplarge = 0\n"), "{text}");
}

#[test]
fn sysctl_shows_describes_and_sets() {
    let outcome = Auvm::new().exec(
        "sysctl vm.anonmin; sysctl vm.anonmin=20; sysctl vm.anonmin; sysctl -d vm.filemax vm.free; echo status $?; sysctl vm.anonmin=81; \
         echo status $?; sysctl vm.free=1; sysctl vm.filemin=few; sysctl vm.nothing=1; sysctl vm.nothing; sysctl -x; echo status $?",
    );
    let expected = "\
vm.anonmin = 10
vm.anonmin: 10 -> 20
vm.anonmin = 20
vm.filemax: percent of pageable memory above which pages of files are evicted first, when memory is short (can be set)
vm.free: pages free
status 0
sysctl: vm.anonmin: 81 must be from 0 to 80
status 1
sysctl: vm.free cannot be set; `sysctl -d` tells what can
sysctl: vm.filemin: `few` is not a number
sysctl: there is no `vm.nothing`; `sysctl` shows all
sysctl: there is no `vm.nothing`; `sysctl` shows all
sysctl: there is no option -x; usage: sysctl [-d] [NAME | NAME=VALUE]...
status 2
";
    assert_eq!(outcome.success(), expected);
}

#[test]
fn stress_says_what_it_lacks_and_what_went_wrong() {
    let auvm = Auvm::new().option("--memory", "64M");
    for (command, status, says) in [
        ("stress", 1, "of --swap, or use a smaller --memory-factor"),
        (
            "stress --mix file --file /nothing",
            1,
            "stress: /nothing: no such file",
        ),
        ("stress --mix hog", 2, "there is no part `hog`"),
        (
            "stress --seconds 0",
            2,
            "--seconds takes 1 to 1000000, not `0`",
        ),
        ("time -n 0 echo", 2, "-n takes 1 to 500, not `0`"),
    ] {
        let text = auvm.exec(&format!("{command}; echo $?")).success();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{command}: {text}");
        assert!(lines[0].contains(says), "{command}: {text}");
        assert_eq!(lines[1], status.to_string(), "{command}: {text}");
    }
    // A program that is killed has failed, and so has the run. The first one started, behind `sleep`, is number 3.
    let text = paging_machine()
        .exec(
            "stress --seconds 1 --mix zipf & run /bin/busybox sleep 0.1; kill -9 3; wait; echo $?; check",
        )
        .success();
    assert!(
        text.contains("--pattern zipf --rounds 2: ended by SIGKILL\n"),
        "{text}"
    );
    assert!(
        text.contains("\nstress: 0 programs verified, 1 failed in "),
        "{text}"
    );
    assert!(text.contains("\n1\nall is well"), "{text}");
}

#[test]
fn ctrl_c_ends_stress_and_all_its_programs() {
    let mut auvm = Auvm::new()
        .option("--memory", "64M")
        .option("--swap", "512M")
        .session();
    auvm.keys("stress --minutes 60 --mix zipf,shared,fork\r");
    auvm.wait_until("a live line", |screen| screen.line().contains(" failed 0"));
    auvm.keys("\x03");
    auvm.wait_until("the prompt after Ctrl-C", |screen| {
        screen.line() == tests::session::PROMPT
    });
    let summary = auvm.screen().done().last().cloned().unwrap_or_default();
    assert!(summary.starts_with("stress: interrupted: "), "{summary}");
    assert_eq!(auvm.command("echo $?"), ["130"]);
    // They were told to end; that takes its time, and nobody is left then.
    while auvm.command("ps").iter().any(|line| line.ends_with(" hog")) {}
    assert_eq!(
        auvm.command("sysctl vm.anonpages vm.swpginuse"),
        ["vm.anonpages = 0", "vm.swpginuse = 0"]
    );
    assert_eq!(
        auvm.command("check; echo $?").last().map(String::as_str),
        Some("0")
    );
    assert_eq!(auvm.power_off().code(), Some(0));
}
