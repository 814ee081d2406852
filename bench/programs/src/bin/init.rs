//! Linux's first process: runs `case` with the names in `/bench/run`, one a line, and turns the machine off.

#![cfg_attr(panic = "abort", no_std, no_main)]

use core::ffi::c_char;
use core::ptr::null;

use bench_programs::start::Arguments;
use bench_programs::{record, sys};

/// Bytes of the file with the names.
const ROOM: usize = 4096;
/// Names in it.
const NAMES: usize = 126;
/// Until the kernel's own tasks, which go on after boot, have come to rest.
const SETTLING_MS: u64 = 2000;

fn run(_: Arguments) -> i32 {
    let _ = sys::sleep(SETTLING_MS);
    if let Err(errno) = measure() {
        let why = bench_programs::bench::Failure::Refused(errno);
        record::print(|to| record::failure(to, "init", why));
    }
    let _ = sys::power::off();
    1
}

fn measure() -> Result<(), sys::Errno> {
    let mut text = [0; ROOM];
    let file = sys::open(c"/bench/run")?;
    let mut length = 0;
    while let read @ 1.. = sys::read_at(file, &mut text[length..ROOM - 1], length)? {
        length += read;
    }
    sys::close(file)?;
    let program = c"/bench/case";
    let mut words: [*const c_char; NAMES + 2] = [null(); NAMES + 2];
    words[0] = program.as_ptr();
    // The kernel wants strings that end in zeroes.
    text.iter_mut()
        .filter(|byte| **byte == b'\n')
        .for_each(|byte| *byte = 0);
    let names = text[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    for (word, name) in words[1..=NAMES].iter_mut().zip(names) {
        *word = name.as_ptr().cast();
    }
    match sys::fork()? {
        None => {
            let errno = sys::execve(program, &words);
            let why = bench_programs::bench::Failure::Refused(errno);
            record::print(|to| record::failure(to, "init", why));
            sys::exit_group(1)
        }
        Some(child) => sys::wait(child).map(drop),
    }
}

bench_programs::program!(run);
