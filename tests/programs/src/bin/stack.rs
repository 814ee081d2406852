//! The stack grows by itself, keeps what is on it, and has an end.

use std::hint::black_box;

use programs::in_child;

fn main() {
    println!("64 KiB deep: {}", dive(64, 0));
    println!("4 MiB deep: {}", dive(4096, 0));
    // The limit is the caller's; here it is one for all.
    println!("in a child: {}", in_child(|| (dive(2048, 0) % 251) as i32));
    println!(
        "without end: {}",
        in_child(|| (dive(u64::MAX, 0) % 251) as i32)
    );
    println!("the parent lives");
}

/// One KiB a level; the answer depends on every level's frame having been kept.
#[inline(never)]
fn dive(levels: u64, seed: u64) -> u64 {
    let mut frame = [0_u64; 112];
    frame[(levels % 112) as usize] = levels ^ seed;
    let frame = black_box(&mut frame);
    let below = if levels == 0 {
        1
    } else {
        dive(levels - 1, seed.wrapping_mul(31).wrapping_add(levels))
    };
    below
        .wrapping_mul(3)
        .wrapping_add(frame[(levels % 112) as usize])
}
