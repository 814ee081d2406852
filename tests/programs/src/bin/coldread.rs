//! `coldread FILE SEED COUNT` maps a file and touches COUNT of its pages at random, as SEED has it.
//!
//! Pages that nobody has read before come from the disk, one at a time: the next is not known before the
//! last has been looked at.

use std::error::Error;
use std::fs::File;

use libc::{MAP_PRIVATE, PROT_READ};
use programs::{Checksum, Mapping, PAGE, Random};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, seed, count] = &arguments[..] else {
        return Err("usage: coldread FILE SEED COUNT".into());
    };
    let (seed, count): (u64, u64) = (seed.parse()?, count.parse()?);
    let file = File::open(path)?;
    let len = file.metadata()?.len() as usize;
    let mapped = Mapping::file(&file, len, PROT_READ, MAP_PRIVATE);
    // SAFETY: the whole mapping; says that neighbours are not worth reading.
    unsafe { libc::madvise(mapped.base().cast(), len, libc::MADV_RANDOM) };
    let mut random = Random::new(seed);
    let mut sum = Checksum::default();
    for _ in 0..count {
        let page = random.below((len / PAGE) as u64) as usize;
        sum = sum
            .with(mapped.read(page * PAGE))
            .with(mapped.read(page * PAGE + PAGE - 1));
    }
    println!("seed {seed}: {:016x}", sum.0);
    Ok(())
}
