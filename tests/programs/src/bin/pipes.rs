//! Pipes between processes: order, back pressure, end of file, and a reader that has gone.

use std::io::{Read, Write, pipe};

use programs::{Checksum, Random, spawn, wait};

fn main() -> std::io::Result<()> {
    ping_pong()?;
    much_through_little()?;
    many_writers()?;
    nobody_reads()?;
    Ok(())
}

/// A byte goes to a child and comes back, many times.
fn ping_pong() -> std::io::Result<()> {
    let (mut child_in, mut to_child) = pipe()?;
    let (mut from_child, mut child_out) = pipe()?;
    let child = spawn(|| {
        let mut byte = [0];
        for _ in 0..1000 {
            child_in.read_exact(&mut byte).expect("a byte comes");
            child_out
                .write_all(&[byte[0].wrapping_mul(3)])
                .expect("a byte goes");
        }
        0
    });
    let mut sum = Checksum::default();
    for n in 0..1000_u32 {
        to_child.write_all(&[n as u8])?;
        let mut byte = [0];
        from_child.read_exact(&mut byte)?;
        sum = sum.with(byte[0]);
    }
    println!("ping-pong: {:016x}, {}", sum.0, wait(child));
    Ok(())
}

/// Four MiB in odd pieces, more than any pipe holds; then the end.
fn much_through_little() -> std::io::Result<()> {
    let (mut from, mut to) = pipe()?;
    let child = spawn(|| {
        let data: Vec<u8> = (0..4 << 20).map(|n: u32| (n ^ n >> 8) as u8).collect();
        let mut random = Random::new(4);
        let mut rest = &data[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((random.below(20_000) as usize + 1).min(rest.len()));
            to.write_all(piece).expect("the reader takes it");
            rest = after;
        }
        0
    });
    drop(to);
    let mut data = Vec::new();
    from.read_to_end(&mut data)?;
    println!(
        "much: {} bytes, {:016x}, {}",
        data.len(),
        Checksum::default().extend(&data).0,
        wait(child)
    );
    Ok(())
}

/// Small writes of several writers do not tear each other apart.
fn many_writers() -> std::io::Result<()> {
    let (mut from, mut to) = pipe()?;
    let children: Vec<_> = (b'a'..=b'd')
        .map(|letter| {
            spawn(|| {
                (0..200).for_each(|_| to.write_all(&[letter; 100]).expect("the reader takes it"));
                0
            })
        })
        .collect();
    drop(to);
    let mut all = Vec::new();
    from.read_to_end(&mut all)?;
    let whole = all
        .chunks(100)
        .all(|chunk| chunk.iter().all(|byte| *byte == chunk[0]));
    let each =
        [b'a', b'b', b'c', b'd'].map(|letter| all.iter().filter(|byte| **byte == letter).count());
    println!("writers: whole {whole}, {each:?}");
    children
        .into_iter()
        .for_each(|child| println!("  {}", wait(child)));
    Ok(())
}

/// Writing to a pipe that nobody reads is an error, or a signal where it is not ignored.
fn nobody_reads() -> std::io::Result<()> {
    let (from, mut to) = pipe()?;
    drop(from);
    // Rust ignores SIGPIPE.
    println!(
        "nobody reads: {:?}",
        to.write(b"x").err().and_then(|error| error.raw_os_error())
    );
    let child = spawn(|| {
        // SAFETY: the default action has no preconditions.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        i32::from(to.write(b"x").is_ok())
    });
    println!("with the signal: {}", wait(child));
    Ok(())
}
