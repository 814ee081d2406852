//! `madvise` and `msync`: memory given back, hints, what a child does not get, and what is refused.

use libc::{MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE, c_int};
use programs::{Mapping, PAGE, in_child, outcome};

const READ_WRITE: c_int = PROT_READ | PROT_WRITE;

fn main() {
    given_back();
    of_files();
    shared_memory();
    hints();
    at_fork();
    synchronised();
    refusals();
}

fn advise(memory: &Mapping, from: usize, len: usize, advice: c_int) -> String {
    // SAFETY: our own mapping, all accesses to which are volatile.
    outcome(unsafe { libc::madvise(memory.base().wrapping_add(from).cast(), len, advice) })
}

fn heads(memory: &Mapping) -> Vec<u8> {
    (0..memory.len() / PAGE)
        .map(|page| memory.read(page * PAGE))
        .collect()
}

/// Pages given back are zeroes; the child's copy is its own.
fn given_back() {
    let memory = Mapping::anonymous(8 * PAGE, READ_WRITE, MAP_PRIVATE);
    (0..8).for_each(|page| memory.write(page * PAGE, page as u8 + 1));
    let child = in_child(|| {
        let done = advise(&memory, PAGE, 2 * PAGE, libc::MADV_DONTNEED);
        println!("in the child: {done} {:?}", heads(&memory));
        0
    });
    println!("{child}; in the parent: {:?}", heads(&memory));
    println!(
        "given back: {}",
        advise(&memory, 4 * PAGE, 2 * PAGE + 1, libc::MADV_DONTNEED)
    );
    println!("then: {:?}", heads(&memory));
    memory.write(5 * PAGE, 9);
    println!("written again: {:?}", heads(&memory));
    println!("free: {}", advise(&memory, 0, PAGE, libc::MADV_FREE));
    let kept = memory.read(0);
    println!("old or zero: {}", kept == 0 || kept == 1);
    memory.write(0, 3);
    println!("and then as written: {}", memory.read(0));
}

/// A private mapping of a file shows the file again.
fn of_files() {
    let file = programs::own_file();
    let memory = Mapping::file(&file, 4 * PAGE, READ_WRITE, MAP_PRIVATE);
    memory.write(1, 0);
    println!("written: {:?}", [0, 1, 2, 3].map(|at| memory.read(at)));
    println!(
        "given back: {}",
        advise(&memory, 0, 4 * PAGE, libc::MADV_DONTNEED)
    );
    println!("then: {:?}", [0, 1, 2, 3].map(|at| memory.read(at)));
    println!(
        "will be needed: {}",
        advise(&memory, 0, 4 * PAGE, libc::MADV_WILLNEED)
    );
    println!("free: {}", advise(&memory, 0, 4 * PAGE, libc::MADV_FREE));
}

/// Shared memory only loses its translations.
fn shared_memory() {
    let memory = Mapping::anonymous(4 * PAGE, READ_WRITE, MAP_SHARED);
    (0..4).for_each(|page| memory.write(page * PAGE, page as u8 + 1));
    println!(
        "shared: {}",
        advise(&memory, 0, 4 * PAGE, libc::MADV_DONTNEED)
    );
    println!("then: {:?}", heads(&memory));
}

fn hints() {
    let memory = Mapping::anonymous(4 * PAGE, READ_WRITE, MAP_PRIVATE);
    memory.write(PAGE, 1);
    for advice in [
        libc::MADV_NORMAL,
        libc::MADV_RANDOM,
        libc::MADV_SEQUENTIAL,
        libc::MADV_WILLNEED,
    ] {
        println!("hint {advice}: {}", advise(&memory, 0, 4 * PAGE, advice));
    }
    println!("{:?}", heads(&memory));
    println!("no bytes: {}", advise(&memory, 0, 0, libc::MADV_DONTNEED));
}

/// What a child gets: nothing, zeroes, or a copy again.
fn at_fork() {
    let memory = Mapping::anonymous(6 * PAGE, READ_WRITE, MAP_PRIVATE);
    (0..6).for_each(|page| memory.write(page * PAGE, page as u8 + 1));
    println!(
        "not at fork: {}",
        advise(&memory, 0, 2 * PAGE, libc::MADV_DONTFORK)
    );
    println!(
        "wiped at fork: {}",
        advise(&memory, 2 * PAGE, 2 * PAGE, libc::MADV_WIPEONFORK)
    );
    println!("first: {}", in_child(|| memory.read(0).into()));
    println!("second: {}", in_child(|| memory.read(2 * PAGE).into()));
    println!("third: {}", in_child(|| memory.read(4 * PAGE).into()));
    println!(
        "after all: {}",
        advise(&memory, 0, 2 * PAGE, libc::MADV_DOFORK)
    );
    println!(
        "kept: {}",
        advise(&memory, 2 * PAGE, 2 * PAGE, libc::MADV_KEEPONFORK)
    );
    println!("first: {}", in_child(|| memory.read(0).into()));
    println!("second: {}", in_child(|| memory.read(2 * PAGE).into()));
    println!("parent: {:?}", heads(&memory));
    let shared = Mapping::anonymous(PAGE, READ_WRITE, MAP_SHARED);
    println!(
        "shared, wiped: {}",
        advise(&shared, 0, PAGE, libc::MADV_WIPEONFORK)
    );
}

fn synchronised() {
    let memory = Mapping::anonymous(4 * PAGE, READ_WRITE, MAP_SHARED);
    memory.write(PAGE, 1);
    let sync = |from: usize, len: usize, flags: c_int| {
        // SAFETY: changes no contents.
        outcome(unsafe { libc::msync(memory.base().wrapping_add(from).cast(), len, flags) })
    };
    println!("sync: {}", sync(0, 4 * PAGE, libc::MS_SYNC));
    println!("async: {}", sync(0, 4 * PAGE, libc::MS_ASYNC));
    println!(
        "invalidate: {}",
        sync(0, 4 * PAGE, libc::MS_SYNC | libc::MS_INVALIDATE)
    );
    println!("both: {}", sync(0, PAGE, libc::MS_SYNC | libc::MS_ASYNC));
    println!("unknown: {}", sync(0, PAGE, 64));
    println!("between pages: {}", sync(1, PAGE, libc::MS_SYNC));
    println!("no bytes: {}", sync(0, 0, libc::MS_SYNC));
    // SAFETY: changes no contents.
    let done = unsafe { libc::mlock(memory.base().cast(), PAGE) };
    println!("lock: {}", outcome(done));
    println!(
        "locked: {}",
        sync(0, PAGE, libc::MS_SYNC | libc::MS_INVALIDATE)
    );
    println!("locked, without: {}", sync(0, PAGE, libc::MS_SYNC));
    println!("kept: {:?}", heads(&memory));
    // SAFETY: part of our own mapping, not touched any more.
    let gone = unsafe { libc::munmap(memory.base().wrapping_add(2 * PAGE).cast(), PAGE) };
    println!(
        "hole: {} {}",
        outcome(gone),
        sync(0, 4 * PAGE, libc::MS_SYNC)
    );
}

fn refusals() {
    let memory = Mapping::anonymous(4 * PAGE, READ_WRITE, MAP_PRIVATE);
    (0..4).for_each(|page| memory.write(page * PAGE, page as u8 + 1));
    println!(
        "between pages: {}",
        advise(&memory, 1, PAGE, libc::MADV_DONTNEED)
    );
    println!("unknown: {}", advise(&memory, 0, PAGE, 77));
    println!(
        "too long: {}",
        advise(&memory, 0, usize::MAX, libc::MADV_DONTNEED)
    );
    // SAFETY: part of our own mapping.
    let gone = unsafe { libc::munmap(memory.base().wrapping_add(PAGE).cast(), PAGE) };
    println!(
        "hole: {} {}",
        outcome(gone),
        advise(&memory, 0, 4 * PAGE, libc::MADV_DONTNEED)
    );
    println!(
        "the rest was given back: {:?}",
        [0, 2, 3].map(|page| memory.read(page * PAGE))
    );
    println!(
        "hints over a hole: {}",
        advise(&memory, 0, 4 * PAGE, libc::MADV_SEQUENTIAL)
    );
}
