//! Every program of `tests/programs` does on auvm what it does on Linux.

use std::path::Path;

use tests::oracle::{Run, assert_kinds, compare, programs};

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
    protect [];
    stack [];
    statuses [];
    pipes [];
    fpu [];
    signals [];
    spin ["1000000"];
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
fn every_program_has_a_test() {
    let tested = |name: &str| {
        SIMPLE.contains(&name) || ["args", "files", "coldread", "cost"].contains(&name)
    };
    let forgotten: Vec<_> = programs()
        .iter()
        .filter(|program| !tested(&program.name))
        .collect();
    assert!(forgotten.is_empty(), "{forgotten:?}");
    assert_kinds();
}
