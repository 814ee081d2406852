//! Anonymous memory: patterns over many pages, holes punched into mappings, fixed placement, the break,
//! and memory given back with `madvise`.

use std::ptr;

use libc::{MAP_ANONYMOUS, MAP_FAILED, MAP_FIXED, MAP_PRIVATE, PROT_NONE, PROT_READ, PROT_WRITE};
use programs::{Mapping, PAGE, Random};

const READ_WRITE: i32 = PROT_READ | PROT_WRITE;

fn main() {
    patterns();
    holes();
    fixed();
    protections();
    program_break();
    given_back();
    many_mappings();
    refusals();
}

/// 4 MiB, touched in a random order, read back in another.
fn patterns() {
    let pages = 1024;
    let memory = Mapping::anonymous(pages * PAGE, READ_WRITE, MAP_PRIVATE);
    println!(
        "fresh memory is zero: {}",
        (0..memory.len())
            .step_by(509)
            .all(|at| memory.read(at) == 0)
    );
    let value = |page: usize| (page * 7 + 1) as u8;
    let mut random = Random::new(1);
    for _ in 0..pages * 2 {
        let page = random.below(pages as u64) as usize;
        memory.write(page * PAGE + page, value(page));
    }
    let touched = (0..pages)
        .filter(|page| memory.read(page * PAGE + page) == value(*page))
        .count();
    let others = (0..pages).all(|page| memory.read(page * PAGE + (page + 1) % PAGE) == 0);
    println!("touched {touched} of {pages} pages, the rest is zero: {others}");
    println!("checksum {:016x}", memory.checksum());
}

/// The middle of a mapping goes away, and a new one takes its place.
fn holes() {
    let memory = Mapping::anonymous(16 * PAGE, READ_WRITE, MAP_PRIVATE);
    (0..16).for_each(|page| memory.write(page * PAGE, page as u8 + 1));
    let hole = memory.base().wrapping_add(4 * PAGE);
    // SAFETY: part of our own mapping.
    assert_eq!(unsafe { libc::munmap(hole.cast(), 8 * PAGE) }, 0);
    println!(
        "around the hole: {:?}",
        [0, 3, 12, 15].map(|page| memory.read(page * PAGE))
    );
    let gone = programs::in_child(|| memory.read(5 * PAGE).into());
    println!("in the hole: {gone}");
    // SAFETY: the hole is ours to fill.
    let filled = unsafe {
        libc::mmap(
            hole.cast(),
            8 * PAGE,
            READ_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
            -1,
            0,
        )
    };
    println!("filled at its place: {}", filled == hole.cast());
    println!(
        "and zero: {}",
        (4..12).all(|page| memory.read(page * PAGE) == 0)
    );
}

/// `MAP_FIXED` replaces what is there.
fn fixed() {
    let memory = Mapping::anonymous(8 * PAGE, READ_WRITE, MAP_PRIVATE);
    (0..8).for_each(|page| memory.write(page * PAGE, 9));
    let over = memory.base().wrapping_add(2 * PAGE).cast();
    // SAFETY: replaces part of our own mapping.
    let placed = unsafe {
        libc::mmap(
            over,
            2 * PAGE,
            READ_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
            -1,
            0,
        )
    };
    assert_eq!(placed, over);
    println!(
        "replaced: {:?}",
        [0, 1, 2, 3, 4, 5, 6, 7].map(|page| memory.read(page * PAGE))
    );
}

/// Protection taken away and given back keeps the content.
fn protections() {
    let memory = Mapping::anonymous(4 * PAGE, READ_WRITE, MAP_PRIVATE);
    (0..4).for_each(|page| memory.write(page * PAGE, page as u8 + 1));
    memory.protect(PAGE, 2 * PAGE, PROT_NONE);
    let hidden = programs::in_child(|| memory.read(PAGE).into());
    memory.protect(PAGE, PAGE, PROT_READ);
    let shown = programs::in_child(|| memory.read(PAGE).into());
    let refused = programs::in_child(|| {
        memory.write(PAGE, 1);
        0
    });
    memory.protect(0, 4 * PAGE, READ_WRITE);
    memory.write(PAGE, 5);
    println!(
        "hidden {hidden}, shown {shown}, refused {refused}, {:?}",
        [0, 1, 2, 3].map(|page| memory.read(page * PAGE))
    );
}

/// The break grows, is zero, shrinks, and is zero again.
fn program_break() {
    // SAFETY: nothing else in this program moves the break between these calls: no allocation happens.
    unsafe {
        let start = libc::sbrk(64 * PAGE as isize).cast::<u8>();
        assert_ne!(start.cast(), MAP_FAILED);
        let end = start.add(64 * PAGE);
        let fresh = (0..64 * PAGE)
            .step_by(257)
            .all(|at| start.add(at).read_volatile() == 0);
        end.sub(1).write_volatile(7);
        libc::sbrk(-32 * PAGE as isize);
        libc::sbrk(32 * PAGE as isize);
        let again = end.sub(1).read_volatile();
        libc::sbrk(-64 * PAGE as isize);
        println!(
            "the break: fresh memory is zero: {fresh}, and again after shrinking: {}",
            again == 0
        );
    }
}

/// `MADV_DONTNEED` gives anonymous pages back; they come again as zeroes.
fn given_back() {
    let memory = Mapping::anonymous(8 * PAGE, READ_WRITE, MAP_PRIVATE);
    (0..8).for_each(|page| memory.write(page * PAGE, 3));
    // SAFETY: part of our own mapping.
    let done = unsafe {
        libc::madvise(
            memory.base().wrapping_add(2 * PAGE).cast(),
            4 * PAGE,
            libc::MADV_DONTNEED,
        )
    };
    println!(
        "madvise {done}: {:?}",
        [0, 1, 2, 3, 4, 5, 6, 7].map(|page| memory.read(page * PAGE))
    );
}

/// A few hundred mappings at once, taken away in another order.
fn many_mappings() {
    let mut all: Vec<_> = (1..300_usize)
        .map(|n| Mapping::anonymous((n % 5 + 1) * PAGE, READ_WRITE, MAP_PRIVATE))
        .collect();
    for (n, memory) in all.iter().enumerate() {
        memory.write(memory.len() - 1, n as u8);
    }
    let mut random = Random::new(2);
    let mut sum = 0_u64;
    while !all.is_empty() {
        let memory = all.swap_remove(random.below(all.len() as u64) as usize);
        sum = sum
            .wrapping_mul(31)
            .wrapping_add(memory.read(memory.len() - 1).into());
    }
    println!("many mappings: {sum:016x}");
}

/// Requests that make no sense are refused with the right error.
fn refusals() {
    let refused = |what: &str, len: usize, flags: i32, at: usize| {
        // SAFETY: none of these requests can be granted, so nothing changes.
        let got = unsafe {
            libc::mmap(
                ptr::without_provenance_mut(at),
                len,
                READ_WRITE,
                flags,
                -1,
                0,
            )
        };
        assert_eq!(got, MAP_FAILED, "{what}");
        println!(
            "{what}: error {}",
            std::io::Error::last_os_error()
                .raw_os_error()
                .unwrap_or_default()
        );
    };
    refused("no bytes", 0, MAP_PRIVATE | MAP_ANONYMOUS, 0);
    refused("no file", PAGE, MAP_PRIVATE, 0);
    refused("neither shared nor private", PAGE, MAP_ANONYMOUS, 0);
    refused(
        "between pages",
        PAGE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
        0x10001,
    );
    refused(
        "more than there are addresses",
        usize::MAX & !(PAGE - 1),
        MAP_PRIVATE | MAP_ANONYMOUS,
        0,
    );
}
