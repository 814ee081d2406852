//! The launcher's own manners: errors in one line, exit statuses, and nothing left behind.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::{Auvm, Outcome};

/// One line on standard error, nothing else, status 2.
fn assert_refused(outcome: &Outcome, line: &str) {
    assert_eq!(outcome.stderr, format!("auvm: {line}\n"), "{outcome}");
    assert_eq!(
        (outcome.status, outcome.stdout.as_str()),
        (Some(2), ""),
        "{outcome}"
    );
}

#[test]
fn what_cannot_work_yet_says_so() {
    for (name, value, line) in [
        (
            "--cpus",
            "2",
            "--cpus 2 is not supported yet: the kernel runs on one processor",
        ),
        (
            "--share",
            ".",
            "--share . is not supported yet: there is no 9p file system",
        ),
    ] {
        assert_refused(&Auvm::new().option(name, value).launch(), line);
    }
}

#[test]
fn wrong_values_say_what_is_wrong() {
    for (name, value, line) in [
        (
            "--memory",
            "many",
            "invalid value 'many' for '--memory <SIZE>': expected a number with a unit",
        ),
        (
            "--memory",
            "1M",
            "--memory 1M is too little: auvm needs at least 16M",
        ),
        (
            "--add",
            "/nosuch",
            "invalid value '/nosuch' for '--add <HOSTPATH[:GUESTPATH]>': there is no file /nosuch",
        ),
        (
            "--swap",
            "39k",
            "invalid value '39k' for '--swap <SIZE>': a swap area has at least 40k",
        ),
        (
            "--fail",
            "virtio1:read",
            "invalid value 'virtio1:read' for '--fail <virtioN:read|write:FIRST[-LAST]>': expected DISK:read|write:FIRST[-LAST]",
        ),
        (
            "--fail",
            "virtio1:read:5",
            "--fail: there is no disk virtio1, the last is virtio0",
        ),
        ("--wings", "2", "unexpected argument '--wings' found"),
    ] {
        assert_refused(&Auvm::new().option(name, value).launch(), line);
    }
}

#[test]
fn a_dry_run_shows_the_command_and_boots_nothing() {
    let outcome = Auvm::new()
        .flag("--dry-run")
        .option("--exec", "run /bin/busybox true")
        .launch();
    let text = outcome.success();
    let last = text.lines().last().unwrap_or_default();
    assert!(last.starts_with("qemu-system-x86_64 "), "{text}");
    assert!(last.contains("exec=run%20/bin/busybox%20true"), "{text}");
}

#[test]
fn swap_disks_reach_the_kernel() {
    let outcome = Auvm::new()
        .option("--swap", "64M")
        .option("--swap", "43k")
        .option("--ramdisk", "1M:100us,swap")
        .option("--append", "swap=virtio1 swap=virtio9 swap=ram0")
        .exec("check");
    for line in [
        "swap disk virtio1, 65536 KiB",
        "swap disk virtio2, 40 KiB",
        "swap disk ram0, 1024 KiB",
        "the disk virtio1 is in use already",
        "there is no disk virtio9",
        "bad word on the command line: ram0",
    ] {
        assert_eq!(outcome.log.matches(line).count(), 1, "{line}: {outcome}");
    }
    outcome.success();
}

#[test]
fn swap_is_in_memory_when_a_run_must_repeat() {
    let outcome = Auvm::new()
        .flag("--icount")
        .option("--swap", "64M")
        .option("--ramdisk", "1M:100us,swap")
        .exec("check");
    for line in ["swap disk ram0, 1024 KiB", "swap disk ram1, 65536 KiB"] {
        assert_eq!(outcome.log.matches(line).count(), 1, "{line}: {outcome}");
    }
    outcome.success();
}

#[test]
fn help_names_every_option() {
    let text = Auvm::new().flag("--help").launch().success();
    for option in [
        "--memory",
        "--cpus",
        "--swap",
        "--exec",
        "--timeout",
        "--display",
        "--add",
        "--share",
        "--append",
        "--icount",
        "--ramdisk",
        "--accel",
        "--gdb",
        "--log",
        "--disk",
        "--debug",
        "--dry-run",
    ] {
        assert!(text.contains(option), "{option} is missing in\n{text}");
    }
}

#[test]
fn a_machine_that_hangs_is_killed() {
    let start = Instant::now();
    let sleeper = Auvm::new()
        .option("--timeout", "5")
        .option("--exec", "run /bin/busybox sleep 1000")
        .launch();
    assert_eq!(sleeper.status, Some(124), "{sleeper}");
    assert_eq!(
        sleeper.stderr, "auvm: killed after 5 seconds (--timeout)\n",
        "{sleeper}"
    );
    assert!(start.elapsed() < Duration::from_secs(500));
}

#[test]
fn no_qemu_outlives_its_launcher() {
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let session = Auvm::new().session();
        let launcher = session.pid();
        let children = format!("/proc/{launcher}/task/{launcher}/children");
        let qemu: i32 = std::fs::read_to_string(children)
            .unwrap()
            .trim()
            .parse()
            .expect("QEMU is its only child");
        match signal {
            // Nobody can restore a terminal then.
            Signal::SIGKILL => drop(session),
            _ => assert_eq!(session.signal(signal).code(), Some(128 + signal as i32)),
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while is_running(qemu) {
            assert!(
                Instant::now() < deadline,
                "QEMU is still there after {signal}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Whether a process is there and not merely waiting to be collected.
fn is_running(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
