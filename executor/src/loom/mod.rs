//! Loom models: every interleaving, within a bound, of the crate's parts that several CPUs share.
//!
//! Built only with `--cfg loom`; `tests/loom.rs` runs them in a nested cargo. A wake that is lost shows as a deadlock, a task or a
//! reference that is lost as a leak, a missing ordering as a data race in one of the shim's cells or as an assertion on what was read.
//!
//! Data that a condition looks at is relaxed here wherever the caller of a primitive may have it so: the primitive itself must order it.

mod ask;
mod atomic_waker;
mod dump;
mod event;
mod idle;
mod join;
mod machine;
mod mutex;
mod ready;
mod rwlock;
mod semaphore;
mod stall;
mod state;
mod stats;
mod task;
mod timer;
mod wait_queue;

use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use std::sync::Arc;
use std::task::Wake;

use loom::sync::Notify;

/// How often a thread is interrupted where it need not be, in one interleaving. Practically all known bugs need no more than two
/// (Musuvathi and Qadeer 2007). `LOOM_MAX_PREEMPTIONS` overrides it.
const PREEMPTIONS: usize = 3;

/// Runs `body` once per interleaving.
fn model(body: impl Fn() + Send + Sync + 'static) {
    model_bounded(PREEMPTIONS, body);
}

/// The same with a bound of its own, for models that are smaller than most, or larger.
fn model_bounded(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    builder.max_branches = builder.max_branches.max(20_000);
    builder.check(body);
}

/// A thread's wish to be woken.
#[derive(Default)]
struct Signal(Notify);

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.0.notify();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.notify();
    }
}

/// Polls a future on this thread until it is done. If the wake that it needs is lost, loom reports a deadlock.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let signal = Arc::new(Signal::default());
    let waker = Waker::from(signal.clone());
    for polls in 0.. {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        signal.0.wait();
        if polls > 2 {
            // A future may wake itself while it waits for another thread to take a step: that must not be the only interleaving.
            loom::thread::yield_now();
        }
    }
    unreachable!("it polls for ever")
}

/// Polls a future once, for nobody.
fn poll_once<F: Future>(future: core::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}
