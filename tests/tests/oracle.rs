//! Every program of `tests/programs` does on auvm what it does on Linux.

use std::path::Path;

use tests::oracle::{Run, assert_kinds, compare, compare_all, programs};

/// Makes a test of each program, and a list of those that have one.
macro_rules! programs {
    ($($name:ident $arguments:expr;)*) => {
        $(#[test]
        fn $name() {
            compare(Run { program: stringify!($name), arguments: &$arguments, environment: &[], files: &[] });
        })*
        const SIMPLE: &[&str] = &[$(stringify!($name)),*];
    };
}

programs! {
    hello [];
    memory [];
    locked [];
    remap [];
    advice [];
    cow [];
    commit ["1M"];
    protect [];
    stack [];
    statuses [];
    pipes [];
    fpu [];
    signals [];
    spin ["1000000"];
    waits [];
    groups [];
    threads [];
    nothing [];
    orphans ["300"];
    timers [];
    limits [];
}

#[test]
fn args() {
    compare(Run {
        program: "args",
        arguments: &[
            "one",
            "two words",
            "",
            "--",
            "*?$HOME",
            "ü",
            &"long ".repeat(100),
        ],
        environment: &["TEST_A=1", "TEST_EMPTY=", "TEST_B=two words = one value"],
        files: &[],
    });
}

#[test]
fn files() {
    let odd = tests::data_file("odd.bin", (1 << 20) + 123);
    compare(Run {
        program: "files",
        arguments: &["odd.bin"],
        environment: &[],
        files: &[&odd],
    });
}

#[test]
fn small_file() {
    let small = tests::data_file("small.bin", 10);
    compare(Run {
        program: "files",
        arguments: &["small.bin"],
        environment: &[],
        files: &[&small],
    });
}

#[test]
fn coldread() {
    let odd = tests::data_file("odd.bin", (1 << 20) + 123);
    compare(Run {
        program: "coldread",
        arguments: &["odd.bin", "7", "500"],
        environment: &[],
        files: &[&odd],
    });
}

#[test]
fn hog() {
    let load = |options: &'static str| format!("--procs 3 --size 1M --rounds 2 --verify {options}");
    let lines = [
        load("--pattern sequential"),
        load("--pattern random"),
        load("--pattern zipf --seed 7"),
        load("--pattern moving"),
        load("--pattern random --shared"),
        "--procs 2 --size 100k --pattern zipf".to_owned(),
        "--pattern none".to_owned(),
        "--size 1Q".to_owned(),
    ];
    compare_lines("hog", &lines);
}

#[test]
fn a_program_that_fails_says_so() {
    compare(Run {
        program: "coldread",
        arguments: &["only"],
        environment: &[],
        files: &[],
    });
    let nowhere: [&Path; 0] = [];
    compare(Run {
        program: "files",
        arguments: &["/no/such/file"],
        environment: &[],
        files: &nowhere,
    });
}

#[test]
fn sleepers() {
    let lines = [
        "--count 30 --rest 1 --ballast 2M".to_owned(),
        "--count 30 --threads --seed 3".to_owned(),
        "--count many".to_owned(),
    ];
    compare_lines("sleepers", &lines);
}

/// Runs a program once with each line of arguments.
fn compare_lines(program: &'static str, lines: &[String]) {
    let words: Vec<Vec<&str>> = lines.iter().map(|line| line.split(' ').collect()).collect();
    let runs: Vec<Run> = words
        .iter()
        .map(|words| Run {
            program,
            arguments: words,
            environment: &[],
            files: &[],
        })
        .collect();
    compare_all(&runs);
}

#[test]
fn every_program_has_a_test() {
    let tested = |name: &str| {
        SIMPLE.contains(&name)
            || [
                "args", "files", "coldread", "cost", "life", "hog", "sleepers", "storm", "terminal",
            ]
            .contains(&name)
    };
    let forgotten: Vec<_> = programs()
        .iter()
        .filter(|program| !tested(&program.name))
        .collect();
    assert!(forgotten.is_empty(), "{forgotten:?}");
    assert_kinds();
}
