//! Beginnings and ends of processes and threads.

use core::ptr::null;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::mappings::touch;
use crate::PAGE;
use crate::bench::{Bench, Outcome, stamp};
use crate::child::{self, expect_exit};
use crate::sys::{self, Access, Errno, Sharing};
use crate::thread::Room;

const SAMPLES: usize = 500;
const WARM_UP: usize = 16;
/// Pages of 16 MiB, and samples with so many.
const LARGE: usize = (16 << 20) / PAGE;
const LARGE_SAMPLES: usize = 100;
/// Pages of 64 MiB, and samples with so many.
const DYING: usize = (64 << 20) / PAGE;
const DYING_SAMPLES: usize = 16;

pub(super) fn fork_exit_wait_small(bench: &mut Bench) -> Outcome {
    bench.warm_up(WARM_UP, fork_exit_wait)?;
    bench.rounds(SAMPLES, fork_exit_wait)
}

pub(super) fn fork_exit_wait_large(bench: &mut Bench) -> Outcome {
    grow()?;
    bench.warm_up(4, fork_exit_wait)?;
    bench.rounds(LARGE_SAMPLES, fork_exit_wait)
}

pub(super) fn fork_exit_wait_rewritten(bench: &mut Bench) -> Outcome {
    let area = grow()?;
    let round = |bench: &mut Bench| {
        // SAFETY: made above.
        unsafe { touch(area, LARGE) };
        fork_exit_wait(bench)
    };
    bench.warm_up(4, round)?;
    bench.rounds(LARGE_SAMPLES, round)
}

pub(super) fn fork_small(bench: &mut Bench) -> Outcome {
    bench.warm_up(WARM_UP, fork_alone)?;
    bench.rounds(SAMPLES, fork_alone)
}

pub(super) fn fork_large(bench: &mut Bench) -> Outcome {
    grow()?;
    bench.warm_up(4, fork_alone)?;
    bench.rounds(LARGE_SAMPLES, fork_alone)
}

/// Writes 16 MiB, for as long as the process lives.
fn grow() -> Result<*mut u8, Errno> {
    let area = sys::map(LARGE, Access::ReadWrite, Sharing::Private)?;
    // SAFETY: made above.
    unsafe { touch(area, LARGE) };
    Ok(area)
}

#[inline(always)]
fn fork_exit_wait(bench: &mut Bench) -> Outcome {
    bench.sample(|| expect_exit(child::spawn(|| Ok(()))?))
}

#[inline(always)]
fn fork_alone(bench: &mut Bench) -> Outcome {
    let child = bench.sample(|| child::spawn(|| Ok(())))?;
    expect_exit(child)
}

pub(super) fn vfork_exec(bench: &mut Bench) -> Outcome {
    let program = c"/bench/ends";
    let arguments = [program.as_ptr(), null()];
    let round =
        |bench: &mut Bench| bench.sample(|| expect_exit(sys::vfork_exec(program, &arguments)?));
    bench.warm_up(WARM_UP, round)?;
    bench.rounds(SAMPLES, round)
}

extern "C" fn leave(_: *mut ()) -> ! {
    sys::exit_thread()
}

pub(super) fn thread(bench: &mut Bench) -> Outcome {
    let room = Room::new()?;
    let round = |bench: &mut Bench| {
        bench.sample(|| {
            // SAFETY: the thread ends at once, and is joined.
            unsafe { room.start(leave, core::ptr::null_mut()) }?;
            room.join();
            Ok(())
        })
    };
    bench.warm_up(WARM_UP, round)?;
    bench.rounds(2 * SAMPLES, round)
}

pub(super) fn exit_large(bench: &mut Bench) -> Outcome {
    let place = sys::map(1, Access::ReadWrite, Sharing::Shared)?;
    // SAFETY: mapped above, zeroed, never unmapped.
    let leaves: &AtomicU64 = unsafe { &*place.cast() };
    leaves.store(0, Relaxed);
    let round = |bench: &mut Bench| {
        let child = child::spawn(|| {
            let area = sys::map(DYING, Access::ReadWrite, Sharing::Private)?;
            // SAFETY: made above.
            unsafe { touch(area, DYING) };
            leaves.store(stamp(), Relaxed);
            Ok(())
        })?;
        expect_exit(child)?;
        let end = stamp();
        bench.record(end.wrapping_sub(leaves.load(Relaxed)), 1);
        Ok(())
    };
    bench.warm_up(1, round)?;
    bench.rounds(DYING_SAMPLES, round)
}
