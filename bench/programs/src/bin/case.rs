//! `case NAME`: measures one case and prints its record. `case NAME NAME...`: each in a process of its own that executes this program
//! anew, so that none finds what another left. `case machine`: what the machine is.
//!
//! Exits with 1 if a case failed, whose record then says why, and with 2 if there is no such case.

#![cfg_attr(panic = "abort", no_std, no_main)]

use core::ffi::c_char;
use core::ptr::null;

use bench_programs::bench::{Bench, Failure};
use bench_programs::start::Arguments;
use bench_programs::{cases, machine, record, sys};

/// Bytes of the longest name, with the zero at its end.
const ROOM: usize = 64;

fn run(arguments: Arguments) -> i32 {
    let mut names = arguments.iter();
    match (names.next(), names.next()) {
        (Some(only), None) => measure(only),
        _ => arguments.iter().map(apart).fold(0, i32::max),
    }
}

/// Here and now.
fn measure(name: &'static str) -> i32 {
    if name == "machine" {
        record::print(machine::describe);
        return 0;
    }
    let Some((case, run)) = cases::find(name).and_then(|case| Some((case, case.run?))) else {
        record::print(|to| record::failure(to, name, Failure::Wrong("there is no such case")));
        return 2;
    };
    let measured = Bench::new().map_err(Failure::Refused);
    let measured = measured.and_then(|mut bench| run(&mut bench).map(|()| bench));
    match measured {
        Ok(mut bench) => {
            record::print(|to| record::case(to, case.name, case.unit.name(), &mut bench));
            0
        }
        Err(why) => {
            record::print(|to| record::failure(to, case.name, why));
            1
        }
    }
}

/// In a process that executes this program with the one name.
fn apart(name: &'static str) -> i32 {
    match sys::fork() {
        Ok(None) => {
            let mut word = [0; ROOM];
            let length = name.len().min(ROOM - 1);
            word[..length].copy_from_slice(&name.as_bytes()[..length]);
            let program = c"/bench/case";
            let words: [*const c_char; 3] = [program.as_ptr(), word.as_ptr().cast(), null()];
            let errno = sys::execve(program, &words);
            record::print(|to| record::failure(to, name, Failure::Refused(errno)));
            sys::exit_group(1)
        }
        Ok(Some(child)) => match sys::wait(child) {
            Ok(0) => 0,
            // It has said why.
            Ok(status @ (0x100 | 0x200)) => status >> 8,
            Ok(status) => {
                record::print(|to| record::failure(to, name, Failure::Child(status)));
                1
            }
            Err(_) => 1,
        },
        Err(errno) => {
            record::print(|to| record::failure(to, name, Failure::Refused(errno)));
            1
        }
    }
}

bench_programs::program!(run);
