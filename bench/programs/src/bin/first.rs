//! The first program on auvm: says when it began. On Linux `init` does.

#![cfg_attr(panic = "abort", no_std, no_main)]

use bench_programs::bench::stamp;
use bench_programs::start::Arguments;
use bench_programs::{boot, record};

fn run(_: Arguments) -> i32 {
    let began = stamp();
    record::print(|to| boot::describe(to, began));
    0
}

bench_programs::program!(run);
