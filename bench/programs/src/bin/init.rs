//! Linux's first process: carries out the orders in `/bench/orders`, and turns the machine off.

#![cfg_attr(panic = "abort", no_std, no_main)]

use bench_programs::bench::{Failure, Outcome, stamp};
use bench_programs::orders::{self, ROOM};
use bench_programs::start::Arguments;
use bench_programs::sys::administration;
use bench_programs::{record, sys};

/// Until the kernel's own tasks, which go on after boot, have come to rest.
const SETTLING_MS: u64 = 2000;

fn run(_: Arguments) -> i32 {
    let began = stamp();
    let _ = sys::sleep(SETTLING_MS);
    if let Err(why) = carry_out(began) {
        record::print(|to| record::failure(to, "init", why));
    }
    let _ = administration::power_off();
    1
}

fn carry_out(began: u64) -> Outcome {
    let mut text = [0; ROOM];
    let file = sys::open(c"/bench/orders")?;
    let mut length = 0;
    while let read @ 1.. = sys::read_at(file, &mut text[length..], length)? {
        length += read;
    }
    sys::close(file)?;
    if length == ROOM {
        return Err(Failure::Wrong("too many orders"));
    }
    let mut lines = text[..length].split(|byte| *byte == b'\n');
    lines
        .by_ref()
        .filter(|line| !line.is_empty())
        .try_for_each(|line| orders::carry_out(line, began))
}

bench_programs::program!(run);
