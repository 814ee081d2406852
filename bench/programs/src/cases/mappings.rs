//! Making, changing and undoing mappings of anonymous memory.

use crate::PAGE;
use crate::bench::{Bench, Outcome};
use crate::sys::{self, Access, Errno, Sharing};

const SAMPLES: usize = 1000;
const WARM_UP: usize = 32;
/// Pages of the cases that say so in their names.
const SOME: usize = 64;
/// Pages of 32 MiB.
const MANY: usize = (32 << 20) / PAGE;

/// Writes a byte of every page.
///
/// # Safety
/// The pages are mapped, writable, and ours.
#[inline(always)]
pub(super) unsafe fn touch(area: *mut u8, pages: usize) {
    for page in 0..pages {
        // SAFETY: the caller's promise.
        unsafe { area.add(page * PAGE).write_volatile(1) };
    }
}

pub(super) fn map_unmap(bench: &mut Bench) -> Outcome {
    let round = |bench: &mut Bench| {
        bench.sample(|| {
            let area = sys::map(1, Access::ReadWrite, Sharing::Private)?;
            // SAFETY: made above.
            unsafe { sys::unmap(area, 1) }
        })?;
        Ok(())
    };
    bench.warm_up(WARM_UP, round)?;
    bench.rounds(SAMPLES, round)
}

pub(super) fn map_touch_unmap(bench: &mut Bench) -> Outcome {
    let round = |bench: &mut Bench| {
        bench.sample(|| {
            let area = sys::map(SOME, Access::ReadWrite, Sharing::Private)?;
            // SAFETY: made above.
            unsafe {
                touch(area, SOME);
                sys::unmap(area, SOME)
            }
        })?;
        Ok(())
    };
    bench.warm_up(WARM_UP, round)?;
    bench.count_faults()?;
    bench.rounds(SAMPLES, round)?;
    bench.counted_faults()
}

pub(super) fn dont_need(bench: &mut Bench) -> Outcome {
    let area = sys::map(SOME, Access::ReadWrite, Sharing::Private)?;
    let round = |bench: &mut Bench| {
        // SAFETY: made above, and its content matters to nobody.
        unsafe {
            touch(area, SOME);
            bench.sample(|| sys::forget(area, SOME))?;
        }
        Ok(())
    };
    bench.warm_up(WARM_UP, round)?;
    bench.rounds(SAMPLES, round)
}

pub(super) fn lock_unlock(bench: &mut Bench) -> Outcome {
    let area = sys::map(SOME, Access::ReadWrite, Sharing::Private)?;
    // SAFETY: made above.
    unsafe { touch(area, SOME) };
    let round = |bench: &mut Bench| {
        bench.sample(|| {
            sys::lock(area, SOME)?;
            sys::unlock(area, SOME)
        })?;
        Ok(())
    };
    bench.warm_up(WARM_UP, round)?;
    bench.rounds(SAMPLES, round)
}

pub(super) fn protect_and_back(bench: &mut Bench) -> Outcome {
    let area = sys::map(SOME, Access::ReadWrite, Sharing::Private)?;
    let round = |bench: &mut Bench| {
        // SAFETY: made above; nobody writes while it is read-only. Writing again undoes what the last round left in page tables.
        unsafe {
            touch(area, SOME);
            bench.sample(|| {
                sys::protect(area, SOME, Access::Read)?;
                sys::protect(area, SOME, Access::ReadWrite)
            })?;
        }
        Ok(())
    };
    bench.warm_up(WARM_UP, round)?;
    bench.rounds(SAMPLES, round)
}

pub(super) fn protect_and_write(bench: &mut Bench) -> Outcome {
    let area = sys::map(SOME, Access::ReadWrite, Sharing::Private)?;
    // SAFETY: made above.
    unsafe { touch(area, SOME) };
    let round = |bench: &mut Bench| {
        bench.sample(|| {
            // SAFETY: made above; nobody writes while it is read-only.
            unsafe {
                sys::protect(area, SOME, Access::Read)?;
                sys::protect(area, SOME, Access::ReadWrite)?;
                touch(area, SOME);
            }
            Ok::<(), Errno>(())
        })?;
        Ok(())
    };
    bench.warm_up(WARM_UP, round)?;
    bench.count_faults()?;
    bench.rounds(SAMPLES, round)?;
    bench.counted_faults()
}

pub(super) fn unmap_large(bench: &mut Bench) -> Outcome {
    let round = |bench: &mut Bench| {
        let area = sys::map(MANY, Access::ReadWrite, Sharing::Private)?;
        // SAFETY: made above.
        unsafe {
            touch(area, MANY);
            bench.sample_per_page(MANY, || sys::unmap(area, MANY))?;
        }
        Ok(())
    };
    bench.warm_up(1, round)?;
    bench.rounds(16, round)
}
