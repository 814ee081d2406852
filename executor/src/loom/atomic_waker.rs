//! [`AtomicWaker`]: registering against waking, and waking against waking.

use core::future::poll_fn;
use core::task::{Poll, Waker};
use std::sync::Arc;

use loom::sync::atomic::AtomicBool;
use loom::sync::atomic::Ordering::Relaxed;
use loom::thread;

use super::{Signal, block_on, model_bounded};
use crate::sync::AtomicWaker;

#[test]
fn no_wake_of_two_is_lost() {
    model_bounded(3, || {
        let shared = Arc::new((
            AtomicWaker::new(),
            [AtomicBool::new(false), AtomicBool::new(false)],
        ));
        for index in 0..2 {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.1[index].store(true, Relaxed);
                shared.0.wake();
            });
        }
        block_on(poll_fn(|cx| {
            shared.0.register(cx.waker());
            if shared.1.iter().all(|flag| flag.load(Relaxed)) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }));
    });
}

/// The wait has moved from one task to another: the later one is woken, whatever becomes of the earlier.
#[test]
fn the_waker_registered_last_is_woken() {
    model_bounded(3, || {
        let shared = Arc::new((AtomicWaker::new(), AtomicBool::new(false)));
        let setter = shared.clone();
        shared.0.register(&Waker::from(Arc::new(Signal::default())));
        thread::spawn(move || {
            setter.1.store(true, Relaxed);
            setter.0.wake();
        });
        let signal = Arc::new(Signal::default());
        let waker = Waker::from(signal.clone());
        loop {
            shared.0.register(&waker);
            if shared.1.load(Relaxed) {
                break;
            }
            signal.0.wait();
        }
    });
}
