//! A file whose pages are all in memory.

use core::ffi::CStr;

use crate::bench::{Bench, Failure, Outcome};
use crate::sys::{self, Access};
use crate::{FILE_PAGES, PAGE};

const SAMPLES: usize = 1000;
const WARM_UP: usize = 32;
const PATH: &CStr = c"/bench/file";
/// Pages that Linux maps around a fault; one in so many is touched, so that each touch is a fault.
const AROUND: usize = 16;

/// Opens the file and reads all of it.
fn cached() -> Result<usize, Failure> {
    let file = sys::open(PATH)?;
    let mut page = [0; PAGE];
    for at in 0..FILE_PAGES {
        if sys::read_at(file, &mut page, at * PAGE)? != PAGE {
            return Err(Failure::Wrong("/bench/file is too short"));
        }
    }
    Ok(file)
}

/// Touches every `step`-th page of a new mapping, each a sample.
fn touch_mapped(
    bench: &mut Bench,
    file: usize,
    access: Access,
    step: usize,
    touch: impl Fn(*mut u8),
) -> Outcome {
    let area = sys::map_file(file, FILE_PAGES, access)?;
    bench.count_faults()?;
    for page in (0..FILE_PAGES).step_by(step) {
        let byte = area.wrapping_add(page * PAGE);
        bench.sample(|| touch(byte));
    }
    bench.counted_faults()?;
    // SAFETY: nothing refers to it.
    unsafe { sys::unmap(area, FILE_PAGES) }?;
    Ok(())
}

pub(super) fn read_fault(bench: &mut Bench) -> Outcome {
    let file = cached()?;
    let round = |bench: &mut Bench| {
        let touch = |byte: *mut u8| {
            // SAFETY: only called with bytes of the mapping.
            unsafe { byte.read_volatile() };
        };
        touch_mapped(bench, file, Access::Read, AROUND, touch)
    };
    bench.warm_up(2, round)?;
    bench.rounds(16, round)
}

pub(super) fn private_write(bench: &mut Bench) -> Outcome {
    let file = cached()?;
    let round = |bench: &mut Bench| {
        // SAFETY: only called with bytes of the mapping, which is private and writable.
        let touch = |byte: *mut u8| unsafe { byte.write_volatile(1) };
        touch_mapped(bench, file, Access::ReadWrite, 1, touch)
    };
    bench.warm_up(1, round)?;
    bench.rounds(2, round)
}

pub(super) fn read_sequence(bench: &mut Bench) -> Outcome {
    let file = cached()?;
    let round = |bench: &mut Bench| {
        let area = sys::map_file(file, FILE_PAGES, Access::Read)?;
        bench.count_faults()?;
        bench.sample_per_page(FILE_PAGES, || {
            for page in 0..FILE_PAGES {
                // SAFETY: inside the mapping.
                unsafe { area.add(page * PAGE).read_volatile() };
            }
        });
        bench.counted_faults()?;
        // SAFETY: nothing refers to it.
        unsafe { sys::unmap(area, FILE_PAGES) }?;
        Ok(())
    };
    bench.warm_up(2, round)?;
    bench.rounds(100, round)
}

pub(super) fn read_cached(bench: &mut Bench) -> Outcome {
    let file = cached()?;
    let mut page = [0; PAGE];
    let mut round = |bench: &mut Bench| match bench.sample(|| sys::read_at(file, &mut page, 0))? {
        PAGE => Ok(()),
        _ => Err(Failure::Wrong("a read was short")),
    };
    bench.warm_up(WARM_UP, &mut round)?;
    bench.rounds(SAMPLES, &mut round)
}

pub(super) fn open_close(bench: &mut Bench) -> Outcome {
    let round = |bench: &mut Bench| {
        bench.sample(|| sys::close(sys::open(PATH)?))?;
        Ok(())
    };
    bench.warm_up(WARM_UP, round)?;
    bench.rounds(SAMPLES, round)
}
