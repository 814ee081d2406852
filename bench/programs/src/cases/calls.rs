//! System calls that touch no mapping and wake nobody.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use linux_raw_sys::general::{POLLIN, SIGUSR1, pollfd};

use crate::bench::{Bench, Failure, Outcome};
use crate::sys;

const SAMPLES: usize = 1000;
const WARM_UP: usize = 32;

pub(super) fn null(bench: &mut Bench) -> Outcome {
    let round = |bench: &mut Bench| {
        bench.sample(sys::getppid)?;
        Ok(())
    };
    bench.warm_up(WARM_UP, round)?;
    bench.rounds(SAMPLES, round)
}

/// Signals that the handler has seen.
static HANDLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn handler(_: i32) {
    // The only thread that writes it, and never interrupted by itself: no locked instruction is needed.
    HANDLED.store(HANDLED.load(Relaxed) + 1, Relaxed);
}

pub(super) fn signal(bench: &mut Bench) -> Outcome {
    let own = sys::getpid()?;
    // SAFETY: the handler counts and does nothing else.
    unsafe { sys::handle(SIGUSR1, handler) }?;
    let round = |bench: &mut Bench| {
        let before = HANDLED.load(Relaxed);
        bench.sample(|| sys::kill(own, SIGUSR1))?;
        match HANDLED.load(Relaxed) - before {
            1 => Ok(()),
            _ => Err(Failure::Wrong(
                "the handler did not run once by the call's return",
            )),
        }
    };
    bench.warm_up(WARM_UP, round)?;
    bench.rounds(SAMPLES, round)
}

pub(super) fn poll_ready(bench: &mut Bench) -> Outcome {
    let [reader, writer] = sys::pipe()?;
    sys::write(writer, b"x")?;
    let mut files = [pollfd {
        fd: reader as i32,
        events: POLLIN as i16,
        revents: 0,
    }];
    let mut round = |bench: &mut Bench| match bench.sample(|| sys::poll(&mut files))? {
        1 => Ok(()),
        _ => Err(Failure::Wrong("the pipe was not ready")),
    };
    bench.warm_up(WARM_UP, &mut round)?;
    bench.rounds(SAMPLES, &mut round)?;
    sys::close(reader)?;
    sys::close(writer)?;
    Ok(())
}
