//! A parent of many children is killed: those of them that have ended and were not waited for, and those that end later, are somebody
//! else's to collect.
//!
//!     orphans COUNT

use std::io::{Read, Write, pipe};

use programs::{spawn, wait};

fn main() -> std::io::Result<()> {
    let count = std::env::args().nth(1).and_then(|word| word.parse().ok());
    let count: usize = count.unwrap_or(10);
    // That nobody can write into a pipe any more says that all have come so far.
    let (mut gate, open) = pipe()?;
    let (mut done, living) = pipe()?;
    let (mut ready, mut all_there) = pipe()?;
    let mut open = Some(open);
    let parent = spawn(|| {
        // Of the first process alone.
        open.take();
        for n in 0..count {
            spawn(|| {
                if n % 2 == 1 {
                    let _end = gate.read(&mut [0]);
                }
                0
            });
        }
        all_there.write_all(&[1]).expect("the first process reads");
        loop {
            // SAFETY: no preconditions.
            unsafe { libc::pause() };
        }
    });
    drop((living, all_there));
    ready.read_exact(&mut [0])?;
    // SAFETY: a child of ours.
    assert_eq!(unsafe { libc::kill(parent, libc::SIGKILL) }, 0);
    println!("parent: {}", wait(parent));
    open.take();
    // All orphans have closed their end.
    done.read_exact(&mut [0]).expect_err("nobody writes");
    println!("orphans: {count}");
    Ok(())
}
