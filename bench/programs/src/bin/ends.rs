//! Ends at once: what `case vfork-exec-exit-wait` executes.

#![cfg_attr(panic = "abort", no_std, no_main)]

use bench_programs::start::Arguments;

fn run(_: Arguments) -> i32 {
    0
}

bench_programs::program!(run);
