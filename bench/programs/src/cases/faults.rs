//! Faults on anonymous memory.

use crate::bench::{Bench, Outcome};
use crate::sys::{self, Access, Sharing};
use crate::{PAGE, child};

/// Pages that a round touches.
const PAGES: usize = 1024;
/// A pause in which an idle machine gets ready for what may come.
const PAUSE_MS: u64 = 200;

pub(super) fn first_touch_after_idle(bench: &mut Bench) -> Outcome {
    let round = |bench: &mut Bench| {
        sys::sleep(PAUSE_MS)?;
        touch_new(bench, write)
    };
    bench.warm_up(1, round)?;
    bench.rounds(2, round)
}

pub(super) fn first_touch_steady(bench: &mut Bench) -> Outcome {
    let [_, free] = sys::memory()?;
    let rounds = free as usize / PAGE / PAGES + 1;
    bench.warm_up(rounds, |bench| touch_new(bench, write))?;
    bench.rounds(2, |bench| touch_new(bench, write))
}

pub(super) fn read_unwritten(bench: &mut Bench) -> Outcome {
    bench.warm_up(1, |bench| touch_new(bench, read))?;
    bench.rounds(2, |bench| touch_new(bench, read))
}

/// How a page is touched.
type Touch = unsafe fn(*mut u8);

/// # Safety
/// The byte is ours and may be written.
#[inline(always)]
unsafe fn write(byte: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe { byte.write_volatile(1) }
}

/// # Safety
/// The byte may be read.
#[inline(always)]
unsafe fn read(byte: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe { byte.read_volatile() };
}

/// Each page of a new mapping is a sample.
#[inline(always)]
fn touch_new(bench: &mut Bench, touch: Touch) -> Outcome {
    let area = sys::map(PAGES, Access::ReadWrite, Sharing::Private)?;
    bench.count_faults()?;
    for page in 0..PAGES {
        // SAFETY: inside the mapping, which is ours and writable.
        bench.sample(|| unsafe { touch(area.add(page * PAGE)) });
    }
    bench.counted_faults()?;
    // SAFETY: nothing refers to it.
    unsafe { sys::unmap(area, PAGES) }?;
    Ok(())
}

/// Which state the child that shares the pages is in when they are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharer {
    Alive,
    Gone,
}

pub(super) fn copy_on_write(bench: &mut Bench) -> Outcome {
    bench.warm_up(1, |bench| write_shared(bench, Sharer::Alive))?;
    bench.rounds(2, |bench| write_shared(bench, Sharer::Alive))
}

pub(super) fn sole_owner(bench: &mut Bench) -> Outcome {
    bench.warm_up(1, |bench| write_shared(bench, Sharer::Gone))?;
    bench.rounds(2, |bench| write_shared(bench, Sharer::Gone))
}

/// Each of the written pages that a child got in a fork is a sample when it is written again.
fn write_shared(bench: &mut Bench, sharer: Sharer) -> Outcome {
    let area = sys::map(PAGES, Access::ReadWrite, Sharing::Private)?;
    for page in 0..PAGES {
        // SAFETY: inside the mapping, which is ours and writable.
        unsafe { write(area.add(page * PAGE)) };
    }
    let [reader, writer] = sys::pipe()?;
    let child = child::spawn(|| {
        sys::close(writer)?;
        // Ends when the parent closes the other end.
        sys::read(reader, &mut [0])?;
        Ok(())
    })?;
    sys::close(reader)?;
    match sharer {
        // It has come to rest before the samples.
        Sharer::Alive => drop(sys::sleep(1)?),
        Sharer::Gone => {
            sys::close(writer)?;
            child::expect_exit(child)?;
        }
    }
    bench.count_faults()?;
    for page in 0..PAGES {
        // SAFETY: as above.
        bench.sample(|| unsafe { write(area.add(page * PAGE)) });
    }
    bench.counted_faults()?;
    if sharer == Sharer::Alive {
        sys::close(writer)?;
        child::expect_exit(child)?;
    }
    // SAFETY: nothing refers to it.
    unsafe { sys::unmap(area, PAGES) }?;
    Ok(())
}

pub(super) fn ten_entries(bench: &mut Bench) -> Outcome {
    touch_in_turn(bench, 10, 100)
}

pub(super) fn ten_thousand_entries(bench: &mut Bench) -> Outcome {
    touch_in_turn(bench, 10_000, 1)
}

/// Makes so many mappings that lie apart, each with its first page written and `fresh` more. 1,000 of those are samples: the next is
/// always in another mapping, far away.
fn touch_in_turn(bench: &mut Bench, entries: usize, fresh: usize) -> Outcome {
    /// Prime to both numbers of mappings.
    const STRIDE: usize = 7919;
    const SAMPLES: usize = 1000;
    let mapped = 1 + fresh;
    // A page that is not mapped keeps neighbours from becoming one.
    let apart = mapped + 1;
    let area = sys::map(entries * apart, Access::None, Sharing::Private)?;
    // SAFETY: nothing refers to it.
    unsafe { sys::unmap(area, entries * apart) }?;
    let entry = |index: usize| area.wrapping_add(index * apart * PAGE);
    for index in 0..entries {
        // SAFETY: nothing is there since the line above, and nothing else was mapped since.
        unsafe {
            sys::map_at(entry(index), mapped, Access::ReadWrite)?;
            write(entry(index));
        }
    }
    bench.count_faults()?;
    for sample in 0..SAMPLES {
        let (index, page) = (sample * STRIDE % entries, 1 + sample / entries);
        // SAFETY: inside a mapping made above, which is writable.
        bench.sample(|| unsafe { write(entry(index).add(page * PAGE)) });
    }
    bench.counted_faults()
}
