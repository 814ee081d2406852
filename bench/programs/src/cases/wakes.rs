//! One task wakes another, and is woken by it.

use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

use crate::bench::{Bench, Failure, Outcome};
use crate::child::{self, expect_exit};
use crate::sys::{self, Sharing};
use crate::thread::Room;

const SAMPLES: usize = 1000;
const WARM_UP: usize = 32;

pub(super) fn pipe_round_trip(bench: &mut Bench) -> Outcome {
    let [to_child, our_end] = sys::pipe()?;
    let [our_start, to_parent] = sys::pipe()?;
    let child = child::spawn(|| {
        sys::close(our_end)?;
        let mut byte = [0];
        while let 1 = sys::read(to_child, &mut byte)? {
            sys::write(to_parent, &byte)?;
        }
        Ok(())
    })?;
    let round = |bench: &mut Bench| {
        let mut byte = [1];
        let came = bench.sample(|| {
            sys::write(our_end, &byte)?;
            sys::read(our_start, &mut byte)
        })?;
        match came {
            1 => Ok(()),
            _ => Err(Failure::Wrong("the byte did not come back")),
        }
    };
    bench.warm_up(WARM_UP, round)?;
    bench.rounds(SAMPLES, round)?;
    sys::close(our_end)?;
    expect_exit(child)
}

/// What the two threads play with: each word belongs to whose turn it is to wait.
#[derive(Debug, Default)]
struct Table {
    there: AtomicU32,
    back: AtomicU32,
    last: AtomicU32,
}

/// Sets a word and wakes who waits for it.
#[inline(always)]
fn wake(word: &AtomicU32) {
    word.store(1, SeqCst);
    let _ = sys::futex_wake(word.as_ptr(), Sharing::Private);
}

/// Waits until the word is set, and clears it.
#[inline(always)]
fn await_word(word: &AtomicU32) {
    while word.load(SeqCst) == 0 {
        // That it was set meanwhile is no error.
        let _ = sys::futex_wait(word.as_ptr(), 0, Sharing::Private);
    }
    word.store(0, SeqCst);
}

extern "C" fn answer(table: *mut ()) -> ! {
    // SAFETY: the table outlives the thread, which is joined.
    let table = unsafe { &*table.cast::<Table>() };
    loop {
        await_word(&table.there);
        if table.last.load(SeqCst) == 1 {
            sys::exit_thread()
        }
        wake(&table.back);
    }
}

pub(super) fn futex_round_trip(bench: &mut Bench) -> Outcome {
    let table = Table::default();
    let room = Room::new()?;
    // SAFETY: joined below, on every way out: the rounds cannot fail.
    unsafe { room.start(answer, (&raw const table).cast_mut().cast()) }?;
    let round = |bench: &mut Bench| {
        bench.sample(|| {
            wake(&table.there);
            await_word(&table.back);
        });
        Ok(())
    };
    bench.warm_up(WARM_UP, round)?;
    bench.rounds(SAMPLES, round)?;
    table.last.store(1, SeqCst);
    wake(&table.there);
    room.join();
    Ok(())
}
