//! Memory held in place: `mlock`, `munlock`, `mlockall`, what fork makes of it, and what `mincore` tells of residency.

use libc::{MAP_PRIVATE, MAP_SHARED, PROT_NONE, PROT_READ, PROT_WRITE, c_int};
use programs::{Mapping, PAGE, in_child, outcome};

const READ_WRITE: c_int = PROT_READ | PROT_WRITE;

fn main() {
    residency();
    locking();
    file_pages();
    over_fork();
    everything();
    refusals();
}

/// `mincore` of part of a mapping, a digit a page.
fn core(memory: &Mapping, from: usize, pages: usize) -> String {
    let mut map = vec![9_u8; pages];
    // SAFETY: the vector has a byte for each page.
    let done = unsafe {
        libc::mincore(
            memory.base().wrapping_add(from).cast(),
            pages * PAGE,
            map.as_mut_ptr(),
        )
    };
    if done != 0 {
        return outcome(done);
    }
    map.iter()
        .map(|page| char::from(b'0' + (page & 1)))
        .collect()
}

fn lock(memory: &Mapping, from: usize, len: usize) -> String {
    // SAFETY: changes no contents.
    outcome(unsafe { libc::mlock(memory.base().wrapping_add(from).cast(), len) })
}

fn unlock(memory: &Mapping, from: usize, len: usize) -> String {
    // SAFETY: changes no contents.
    outcome(unsafe { libc::munlock(memory.base().wrapping_add(from).cast(), len) })
}

/// Pages are there once they are touched.
fn residency() {
    let memory = Mapping::anonymous(8 * PAGE, READ_WRITE, MAP_PRIVATE);
    println!("untouched: {}", core(&memory, 0, 8));
    for page in [1, 2, 6] {
        memory.write(page * PAGE + 5, 1);
    }
    println!("touched: {}", core(&memory, 0, 8));
    println!("a part: {}", core(&memory, 2 * PAGE, 3));
}

/// Locking brings pages in; unlocking leaves them; both round to pages; neither counts.
fn locking() {
    let memory = Mapping::anonymous(8 * PAGE, READ_WRITE, MAP_PRIVATE);
    memory.write(3 * PAGE, 7);
    println!("lock: {}", lock(&memory, PAGE + 9, 2 * PAGE));
    println!("locked: {}", core(&memory, 0, 8));
    println!("contents: {} {}", memory.read(PAGE), memory.read(3 * PAGE));
    println!("again: {}", lock(&memory, 0, 4 * PAGE));
    println!("unlock: {}", unlock(&memory, 0, 8 * PAGE));
    println!("left: {}", core(&memory, 0, 8));
    println!("unlock once more: {}", unlock(&memory, 0, PAGE));
    memory.write(2 * PAGE, 8);
    println!("written: {}", memory.read(2 * PAGE));
    // Not readable, locked, and readable again.
    memory.protect(0, PAGE, PROT_READ);
    println!("read-only: {}", lock(&memory, 0, PAGE));
    println!("no bytes: {}", lock(&memory, 0, 0));
}

/// A private mapping of a file: reads what the file has, before and after.
fn file_pages() {
    let file = programs::own_file();
    let memory = Mapping::file(&file, 4 * PAGE, READ_WRITE, MAP_PRIVATE);
    println!("file: {}", lock(&memory, 0, 4 * PAGE));
    println!("its head: {:?}", [1, 2, 3].map(|at| memory.read(at)));
    println!("in core: {}", core(&memory, 0, 4));
    memory.write(0, 1);
    let other = Mapping::file(&file, PAGE, PROT_READ, MAP_PRIVATE);
    println!("another mapping: {}", other.read(0));
    println!("unlock: {}", unlock(&memory, 0, 4 * PAGE));
    println!("mine: {}", memory.read(0));
}

/// A child has its own copy at once, unlocked; shared memory stays shared.
fn over_fork() {
    let private = Mapping::anonymous(4 * PAGE, READ_WRITE, MAP_PRIVATE);
    let shared = Mapping::anonymous(4 * PAGE, READ_WRITE, MAP_SHARED);
    (0..4).for_each(|page| private.write(page * PAGE, 10 + page as u8));
    println!(
        "lock both: {} {}",
        lock(&private, 0, 4 * PAGE),
        lock(&shared, 0, 4 * PAGE)
    );
    let child = in_child(|| {
        private.write(PAGE, 99);
        shared.write(PAGE, 98);
        let seen: u8 = private.read(0) + private.read(2 * PAGE);
        // Unlocked in the child, so it can be given back.
        // SAFETY: our own mapping.
        let given = unsafe { libc::madvise(private.base().cast(), PAGE, libc::MADV_DONTNEED) };
        i32::from(seen) + given
    });
    println!("child: {child}");
    println!("parent: {} {}", private.read(PAGE), shared.read(PAGE));
    // SAFETY: our own mapping.
    let given = unsafe { libc::madvise(private.base().cast(), PAGE, libc::MADV_DONTNEED) };
    println!("locked memory is not given back: {}", outcome(given));
}

/// All of it, now and to come, in a child of its own.
fn everything() {
    let child = in_child(|| {
        let before = Mapping::anonymous(4 * PAGE, READ_WRITE, MAP_PRIVATE);
        let guard = Mapping::anonymous(PAGE, PROT_NONE, MAP_PRIVATE);
        // SAFETY: changes no contents.
        let done = unsafe { libc::mlockall(libc::MCL_CURRENT) };
        println!("current: {}", outcome(done));
        println!("before: {}", core(&before, 0, 4));
        println!("guard: {}", core(&guard, 0, 1));
        let between = Mapping::anonymous(4 * PAGE, READ_WRITE, MAP_PRIVATE);
        println!("between: {}", core(&between, 0, 4));
        // SAFETY: changes no contents.
        let done = unsafe { libc::mlockall(libc::MCL_FUTURE) };
        println!("future: {}", outcome(done));
        let after = Mapping::anonymous(4 * PAGE, READ_WRITE, MAP_PRIVATE);
        println!("after: {} {}", core(&between, 0, 4), core(&after, 0, 4));
        // SAFETY: as above.
        println!("unlock all: {}", outcome(unsafe { libc::munlockall() }));
        let free = Mapping::anonymous(4 * PAGE, READ_WRITE, MAP_PRIVATE);
        println!("then: {} {}", core(&after, 0, 4), core(&free, 0, 4));
        0
    });
    println!("child: {child}");
}

/// What makes no sense is refused.
fn refusals() {
    let memory = Mapping::anonymous(8 * PAGE, READ_WRITE, MAP_PRIVATE);
    let hole = memory.base().wrapping_add(3 * PAGE);
    // SAFETY: part of our own mapping.
    assert_eq!(unsafe { libc::munmap(hole.cast(), PAGE) }, 0);
    println!("over a hole: {}", lock(&memory, 0, 8 * PAGE));
    println!("unlock over a hole: {}", unlock(&memory, 0, 8 * PAGE));
    println!("mincore of a hole: {}", core(&memory, 2 * PAGE, 3));
    let mut map = [0_u8; 1];
    // SAFETY: refused, or writes one byte of the array.
    let unaligned =
        unsafe { libc::mincore(memory.base().wrapping_add(1).cast(), PAGE, map.as_mut_ptr()) };
    println!("mincore between pages: {}", outcome(unaligned));
    // SAFETY: refused.
    let nowhere = unsafe {
        libc::mincore(
            memory.base().cast(),
            PAGE,
            std::ptr::without_provenance_mut(8),
        )
    };
    println!("mincore into nowhere: {}", outcome(nowhere));
    // SAFETY: refused.
    println!("no flags: {}", outcome(unsafe { libc::mlockall(0) }));
    // SAFETY: refused.
    println!("unknown flags: {}", outcome(unsafe { libc::mlockall(64) }));
    println!("past the end: {}", lock(&memory, 0, usize::MAX - 3 * PAGE));
}
