//! What a system call and a page fault cost, as a program sees it: time stamps around single instructions.
//!
//! Under instruction counting (`cargo run -- --icount`) a tick of the time-stamp counter is one instruction of the guest, in
//! user mode and in the kernel alike. Anywhere else it is time. Prints one line each: name, count, min, p50, p90, max.

use std::arch::{asm, x86_64::_rdtsc};

const CALLS: usize = 1000;
const PAGES: usize = 1024;
const PAGE: usize = 4096;
const SYS_GETPPID: u64 = 110;

fn main() {
    // What two stamps cost with nothing between them; taken off below.
    let empty = median(&mut samples(CALLS, |_| {}));

    report("getppid", samples(CALLS, |_| getppid()), empty);

    let area = anonymous(PAGES);
    // An idle machine has frames zeroed beforehand; let it be idle for a moment.
    std::thread::sleep(std::time::Duration::from_millis(200));
    report(
        "first-touch-write",
        samples(PAGES, |i| {
            // SAFETY: page `i` lies inside the mapping, which is writable and nobody else's.
            unsafe { area.add(i * PAGE).write_volatile(1) }
        }),
        empty,
    );

    let unwritten = anonymous(PAGES);
    report(
        "first-touch-read",
        samples(PAGES, |i| {
            // SAFETY: page `i` lies inside the mapping, which is readable.
            unsafe { unwritten.add(i * PAGE).read_volatile() };
        }),
        empty,
    );
}

/// Ticks around each of `count` calls of `work`.
fn samples(count: usize, mut work: impl FnMut(usize)) -> Vec<u64> {
    // Room beforehand: the vector's own pages must not fault between the stamps.
    let mut ticks = vec![0; count];
    for (i, tick) in ticks.iter_mut().enumerate() {
        // SAFETY: reading the time-stamp counter has no side effect.
        let start = unsafe { _rdtsc() };
        work(i);
        // SAFETY: as above.
        *tick = unsafe { _rdtsc() } - start;
    }
    ticks
}

fn median(ticks: &mut [u64]) -> u64 {
    ticks.sort_unstable();
    ticks[ticks.len() / 2]
}

fn report(name: &str, mut ticks: Vec<u64>, empty: u64) {
    ticks.sort_unstable();
    let at = |percent: usize| ticks[(ticks.len() - 1) * percent / 100].saturating_sub(empty);
    println!(
        "{name} count {} min {} p50 {} p90 {} max {}",
        ticks.len(),
        at(0),
        at(50),
        at(90),
        at(100)
    );
}

fn getppid() {
    // SAFETY: getppid takes nothing and touches no memory; `syscall` clobbers rcx and r11.
    unsafe {
        asm!("syscall", inlateout("rax") SYS_GETPPID => _, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
}

/// A fresh private mapping of `pages` pages.
fn anonymous(pages: usize) -> *mut u8 {
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing that exists.
    let area = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            pages * PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert!(area != libc::MAP_FAILED, "mmap failed");
    area.cast()
}
