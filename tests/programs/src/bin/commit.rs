//! `commit SIZE` writes to SIZE of private memory, forks, and tells whether the child could be made: a process that is too big to be there
//! twice cannot, and goes on without. SIZE is as in `hog`.

use std::error::Error;

use libc::{MAP_PRIVATE, PROT_READ, PROT_WRITE};
use programs::{Mapping, PAGE, size, try_spawn, wait};

fn main() -> Result<(), Box<dyn Error>> {
    let argument = std::env::args().nth(1).ok_or("usage: commit SIZE")?;
    let bytes = size::parse(&argument)?.next_multiple_of(PAGE);
    let memory = Mapping::anonymous(bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    let stamp = |page: usize| page as u8 ^ 0x5a;
    let pages = bytes / PAGE;
    (0..pages).for_each(|page| memory.write(page * PAGE, stamp(page)));
    let holds = || (0..pages).all(|page| memory.read(page * PAGE) == stamp(page));
    match try_spawn(|| i32::from(!holds())) {
        Ok(child) => println!("fork: the child: {}", wait(child)),
        Err(error) => println!("fork: {error}"),
    }
    println!("its memory holds what was written: {}", holds());
    Ok(())
}
