//! `mremap`: shrinking, growing in place, moving, to a given place, and what it refuses.

use std::ptr;

use libc::{
    MAP_FAILED, MAP_PRIVATE, MAP_SHARED, MREMAP_FIXED, MREMAP_MAYMOVE, PROT_READ, PROT_WRITE,
    c_int, c_void,
};
use programs::{Mapping, PAGE, Random, in_child};

const READ_WRITE: c_int = PROT_READ | PROT_WRITE;

fn main() {
    shrinking();
    growing();
    moving();
    to_a_place();
    shared();
    over_fork();
    many_times();
    refusals();
}

fn remap(at: *mut u8, old: usize, new: usize, flags: c_int, to: *mut u8) -> Result<*mut u8, i32> {
    // SAFETY: the programs look at what was moved only through what this returns.
    let got: *mut c_void = unsafe { libc::mremap(at.cast(), old, new, flags, to) };
    if got == MAP_FAILED {
        Err(std::io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or_default())
    } else {
        Ok(got.cast())
    }
}

fn read(at: *mut u8) -> u8 {
    // SAFETY: mapped, as the programs know; a fault would end them with a signal.
    unsafe { at.read_volatile() }
}

fn write(at: *mut u8, value: u8) {
    // SAFETY: as above.
    unsafe { at.write_volatile(value) }
}

fn unmap(at: *mut u8, len: usize) {
    // SAFETY: our own memory.
    assert_eq!(unsafe { libc::munmap(at.cast(), len) }, 0);
}

/// Room for a mapping with free addresses around it, that the program decides about.
fn arena(pages: usize) -> *mut u8 {
    let memory = Mapping::anonymous(pages * PAGE, libc::PROT_NONE, MAP_PRIVATE);
    let base = memory.base();
    drop(memory);
    base
}

fn place(at: *mut u8, pages: usize) {
    // SAFETY: addresses that nothing uses: the arena's.
    let got = unsafe {
        libc::mmap(
            at.cast(),
            pages * PAGE,
            READ_WRITE,
            MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
            -1,
            0,
        )
    };
    assert_eq!(got, at.cast());
    for page in 0..pages {
        write(at.wrapping_add(page * PAGE), page as u8 + 1);
    }
}

fn bytes(at: *mut u8, pages: usize) -> Vec<u8> {
    (0..pages)
        .map(|page| read(at.wrapping_add(page * PAGE)))
        .collect()
}

fn shrinking() {
    let at = arena(64).wrapping_add(8 * PAGE);
    place(at, 8);
    println!(
        "shrink: {}",
        remap(at, 8 * PAGE, 3 * PAGE, 0, ptr::null_mut()) == Ok(at)
    );
    println!("left: {:?}", bytes(at, 3));
    println!(
        "behind: {}",
        in_child(|| read(at.wrapping_add(3 * PAGE)).into())
    );
    println!(
        "the same: {}",
        remap(at, 3 * PAGE, 3 * PAGE, 0, ptr::null_mut()) == Ok(at)
    );
    println!(
        "rounded: {}",
        remap(at, 3 * PAGE - 5, 2 * PAGE - 7, 0, ptr::null_mut()) == Ok(at)
    );
    println!("left: {:?}", bytes(at, 2));
    unmap(at, 2 * PAGE);
}

fn growing() {
    let at = arena(64).wrapping_add(8 * PAGE);
    place(at, 4);
    println!(
        "grow: {}",
        remap(at, 4 * PAGE, 9 * PAGE, 0, ptr::null_mut()) == Ok(at)
    );
    println!("grown: {:?}", bytes(at, 9));
    write(at.wrapping_add(8 * PAGE), 77);
    // Something in the way.
    place(at.wrapping_add(12 * PAGE), 1);
    println!(
        "in the way: {:?}",
        remap(at, 9 * PAGE, 13 * PAGE, 0, ptr::null_mut()).map(|_| ())
    );
    println!("as before: {:?}", bytes(at, 9));
    let moved = remap(at, 9 * PAGE, 13 * PAGE, MREMAP_MAYMOVE, ptr::null_mut());
    let moved = moved.expect("there is room elsewhere");
    println!("moved: {} {:?}", moved != at, bytes(moved, 13));
    println!("old place: {}", in_child(|| read(at).into()));
    unmap(moved, 13 * PAGE);
    unmap(at.wrapping_add(12 * PAGE), PAGE);
}

/// Parts of a mapping can move, and keep what they allow.
fn moving() {
    let at = arena(64).wrapping_add(8 * PAGE);
    place(at, 8);
    let middle = at.wrapping_add(2 * PAGE);
    // SAFETY: our own memory.
    let done = unsafe { libc::mprotect(middle.cast(), 2 * PAGE, PROT_READ) };
    assert_eq!(done, 0);
    let moved = remap(middle, 2 * PAGE, 20 * PAGE, MREMAP_MAYMOVE, ptr::null_mut());
    let moved = moved.expect("there is room elsewhere");
    println!("part: {:?}", bytes(moved, 20));
    println!(
        "still read-only: {}",
        in_child(|| {
            write(moved.wrapping_add(19 * PAGE), 1);
            0
        })
    );
    println!("a hole: {}", in_child(|| read(middle).into()));
    println!(
        "around it: {:?} {:?}",
        bytes(at, 2),
        bytes(at.wrapping_add(4 * PAGE), 4)
    );
    unmap(moved, 20 * PAGE);
    unmap(at, 8 * PAGE);
}

fn to_a_place() {
    let base = arena(128);
    let (at, to) = (base.wrapping_add(8 * PAGE), base.wrapping_add(64 * PAGE));
    place(at, 6);
    place(to, 3);
    let fixed = MREMAP_MAYMOVE | MREMAP_FIXED;
    println!(
        "fixed: {}",
        remap(at, 6 * PAGE, 4 * PAGE, fixed, to) == Ok(to)
    );
    println!("there: {:?}", bytes(to, 4));
    println!(
        "gone: {} {}",
        in_child(|| read(at).into()),
        in_child(|| read(at.wrapping_add(5 * PAGE)).into())
    );
    println!(
        "overlap: {:?}",
        remap(to, 4 * PAGE, 4 * PAGE, fixed, to.wrapping_add(PAGE)).map(|_| ())
    );
    println!(
        "fixed alone: {:?}",
        remap(to, 4 * PAGE, 4 * PAGE, MREMAP_FIXED, at).map(|_| ())
    );
    println!(
        "between pages: {:?}",
        remap(to, 4 * PAGE, 4 * PAGE, fixed, at.wrapping_add(1)).map(|_| ())
    );
    println!("as before: {:?}", bytes(to, 4));
    println!(
        "and back, larger: {}",
        remap(to, 4 * PAGE, 7 * PAGE, fixed, at) == Ok(at)
    );
    println!("there: {:?}", bytes(at, 7));
    unmap(at, 7 * PAGE);
}

/// Shared memory can be mapped a second time by an old length of 0.
fn shared() {
    let memory = Mapping::anonymous(4 * PAGE, READ_WRITE, MAP_SHARED);
    memory.write(PAGE, 5);
    let second = remap(memory.base(), 0, 4 * PAGE, MREMAP_MAYMOVE, ptr::null_mut());
    let second = second.expect("shared memory can be seen twice");
    println!("second sight: {:?}", bytes(second, 4));
    write(second.wrapping_add(2 * PAGE), 6);
    println!("both ways: {}", memory.read(2 * PAGE));
    unmap(second, 4 * PAGE);
    println!("still: {}", memory.read(2 * PAGE));
    let private = Mapping::anonymous(PAGE, READ_WRITE, MAP_PRIVATE);
    println!(
        "private: {:?}",
        remap(private.base(), 0, PAGE, MREMAP_MAYMOVE, ptr::null_mut()).map(|_| ())
    );
}

/// What was moved in a child is where it was in the parent.
fn over_fork() {
    let at = arena(64).wrapping_add(8 * PAGE);
    place(at, 4);
    let child = in_child(|| {
        let moved = remap(at, 4 * PAGE, 40 * PAGE, MREMAP_MAYMOVE, ptr::null_mut())
            .expect("there is room elsewhere");
        write(moved, 50);
        bytes(moved, 4).iter().map(|byte| i32::from(*byte)).sum()
    });
    println!("child: {child}, parent: {:?}", bytes(at, 4));
    unmap(at, 4 * PAGE);
}

/// A vector that grows and shrinks, as `realloc` does it with large blocks.
fn many_times() {
    let mut random = Random::new(3);
    let mut len = 1;
    let mut at = {
        let first = Mapping::anonymous(PAGE, READ_WRITE, MAP_PRIVATE);
        let base = first.base();
        std::mem::forget(first);
        base
    };
    write(at, 1);
    let mut right = 0;
    for _ in 0..200 {
        let new = 1 + random.below(64) as usize;
        at = remap(at, len * PAGE, new * PAGE, MREMAP_MAYMOVE, ptr::null_mut())
            .expect("there is room");
        for page in len..new {
            right += usize::from(read(at.wrapping_add(page * PAGE)) == 0);
            write(at.wrapping_add(page * PAGE), page as u8 + 1);
        }
        right += (0..new.min(len))
            .filter(|page| read(at.wrapping_add(page * PAGE)) == *page as u8 + 1)
            .count();
        len = new;
    }
    println!("many times: {right} pages right");
    unmap(at, len * PAGE);
}

fn refusals() {
    let at = arena(64).wrapping_add(8 * PAGE);
    place(at, 2);
    place(at.wrapping_add(3 * PAGE), 2);
    let refused = |what: &str, result: Result<*mut u8, i32>| {
        println!("{what}: {:?}", result.map(|_| ()));
    };
    let none = ptr::null_mut();
    refused("no new length", remap(at, PAGE, 0, MREMAP_MAYMOVE, none));
    refused(
        "between pages",
        remap(at.wrapping_add(1), PAGE, PAGE, 0, none),
    );
    refused("unknown flags", remap(at, PAGE, PAGE, 64, none));
    refused(
        "nothing there",
        remap(at.wrapping_add(2 * PAGE), PAGE, PAGE, 0, none),
    );
    refused(
        "over a hole",
        remap(at, 5 * PAGE, 6 * PAGE, MREMAP_MAYMOVE, none),
    );
    refused(
        "more than there is",
        remap(at, 2 * PAGE, 1 << 50, MREMAP_MAYMOVE, none),
    );
    println!(
        "as before: {:?} {:?}",
        bytes(at, 2),
        bytes(at.wrapping_add(3 * PAGE), 2)
    );
}
