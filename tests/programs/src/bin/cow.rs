//! Copy-on-write over generations of fork, and memory that is shared on purpose.

use libc::{MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE};
use programs::{Mapping, PAGE, in_child, spawn, wait};

const PAGES: usize = 64;

fn main() {
    private_stays_private();
    generations();
    sole_owner();
    shared_is_shared();
    many_children();
}

/// Neither side sees what the other writes after the fork, whoever writes first.
fn private_stays_private() {
    let memory = filled();
    let before = memory.checksum();
    let child = in_child(|| {
        let same = memory.checksum() == before;
        (0..PAGES)
            .step_by(2)
            .for_each(|page| memory.write(page * PAGE, 0xee));
        if same && memory.checksum() != before {
            0
        } else {
            1
        }
    });
    println!(
        "child {child}, parent unchanged: {}",
        memory.checksum() == before
    );
    let ready = Mapping::anonymous(PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
    let child = spawn(|| {
        while ready.read(0) == 0 {
            std::thread::yield_now();
        }
        i32::from(memory.checksum() != before)
    });
    (0..PAGES).for_each(|page| memory.write(page * PAGE, 0xdd));
    ready.write(0, 1);
    println!(
        "parent wrote first, child saw the old memory: {}",
        wait(child)
    );
}

/// Each generation changes one page; each still sees its ancestors' changes and not its descendants'.
fn generations() {
    fn go_on(memory: &Mapping, depth: usize) -> i32 {
        memory.write(depth * PAGE, depth as u8);
        let failures = if depth == 8 {
            0
        } else {
            let child = in_child(|| go_on(memory, depth + 1));
            println!("generation {}: {child}", depth + 1);
            libc::WEXITSTATUS(child.0)
        };
        let own = (1..=depth).all(|page| memory.read(page * PAGE) == page as u8);
        let below = (depth + 1..PAGES).all(|page| memory.read(page * PAGE) == page as u8 ^ 0x5a);
        failures + i32::from(!(own && below))
    }
    let memory = filled();
    println!("generation 1: {}", in_child(|| go_on(&memory, 1)));
    println!(
        "the first still has its own: {}",
        (0..PAGES).all(|page| memory.read(page * PAGE) == page as u8 ^ 0x5a)
    );
}

/// When the child has gone, the parent writes to pages that are its alone again.
fn sole_owner() {
    let memory = filled();
    let child = in_child(|| i32::from(memory.read(PAGE)));
    (0..PAGES).for_each(|page| memory.write(page * PAGE + 1, 1));
    println!("{child}, afterwards {:016x}", memory.checksum());
}

/// `MAP_SHARED` memory is one for all, touched before the fork or after it.
fn shared_is_shared() {
    let memory = Mapping::anonymous(PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
    memory.write(0, 1);
    let child = in_child(|| {
        (0..PAGES).for_each(|page| memory.write(page * PAGE, memory.read(page * PAGE) + 2));
        let grandchild = in_child(|| {
            memory.write(PAGE + 1, 9);
            0
        });
        libc::WEXITSTATUS(grandchild.0)
    });
    println!(
        "{child}: first {}, second {}, grandchild's {}",
        memory.read(0),
        memory.read(PAGE),
        memory.read(PAGE + 1)
    );
}

/// A crowd of children over the same memory, each writing all of it.
fn many_children() {
    let memory = filled();
    let before = memory.checksum();
    let children: Vec<_> = (0..16_u8)
        .map(|n| {
            spawn(|| {
                (0..PAGES).for_each(|page| memory.write(page * PAGE + 5, n));
                i32::from(!(0..PAGES).all(|page| memory.read(page * PAGE + 5) == n))
            })
        })
        .collect();
    let bad = children
        .into_iter()
        .map(wait)
        .filter(|ended| ended.0 != 0)
        .count();
    println!(
        "bad children: {bad}, parent unchanged: {}",
        memory.checksum() == before
    );
}

fn filled() -> Mapping {
    let memory = Mapping::anonymous(PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    (0..PAGES).for_each(|page| memory.write(page * PAGE, page as u8 ^ 0x5a));
    memory
}
