//! `spin ROUNDS` computes for as long as ROUNDS take and prints what came out. `spin ROUNDS --time` also
//! prints how many nanoseconds went by meanwhile.
//!
//! It makes no system call and touches no new page while it computes, so time that is missing was taken by
//! others.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let rounds: u64 = arguments
        .next()
        .ok_or("usage: spin ROUNDS [--time]")?
        .parse()?;
    let timed = arguments.next().as_deref() == Some("--time");
    let start = Instant::now();
    let mut value = 1_u64;
    for round in 0..rounds {
        value = black_box(
            value
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(round),
        );
    }
    let elapsed = start.elapsed();
    println!("{value:016x}");
    if timed {
        println!("{} ns", elapsed.as_nanos());
    }
    Ok(())
}
