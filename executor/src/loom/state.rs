//! The state word: wake against poll, against completion, against the other references.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicBool;
use loom::sync::atomic::Ordering::Relaxed;
use loom::thread;

use super::{model, model_bounded};
use crate::task::{StateWord, Suspended, Woken};

/// Polls until the word is idle. Says whether the last poll saw the flag.
fn poll(word: &StateWord, flag: &AtomicBool) -> bool {
    loop {
        word.start();
        let seen = flag.load(Relaxed);
        if word.suspend() == Suspended::Idle {
            return seen;
        }
    }
}

/// Even of a wake that finds the task scheduled, and leaves it so.
#[test]
fn what_came_before_a_wake_is_seen_by_a_poll_after_it() {
    model_bounded(3, || {
        let shared = Arc::new((StateWord::new(), AtomicBool::new(false)));
        let waker = thread::spawn({
            let shared = shared.clone();
            move || {
                shared.1.store(true, Relaxed);
                shared.0.wake()
            }
        });
        let mut seen = poll(&shared.0, &shared.1);
        if waker.join().unwrap() == Woken::MustQueue {
            seen = poll(&shared.0, &shared.1);
        }
        assert!(seen, "the last poll came before the wake");
    });
}

#[test]
fn two_wakes_and_the_end_of_a_poll_queue_once() {
    model_bounded(3, || {
        let word = Arc::new(StateWord::new());
        word.start();
        let wakers = [(); 2].map(|()| {
            let word = word.clone();
            thread::spawn(move || word.wake())
        });
        let mut queued = usize::from(word.suspend() == Suspended::MustQueue);
        for waker in wakers {
            queued += usize::from(waker.join().unwrap() == Woken::MustQueue);
        }
        assert_eq!(queued, 1);
    });
}

#[test]
fn nobody_queues_a_task_that_is_done() {
    model_bounded(3, || {
        let word = Arc::new(StateWord::new());
        word.start();
        let wakers = [(); 2].map(|()| {
            let word = word.clone();
            thread::spawn(move || word.wake())
        });
        word.finish();
        for waker in wakers {
            assert_eq!(waker.join().unwrap(), Woken::Nothing);
        }
        assert!(word.is_done());
    });
}

/// Whoever drops the last reference has the task for itself: it comes after all that the others did.
#[test]
fn one_reference_is_the_last_and_comes_after_the_others() {
    model(|| {
        let shared = loom::sync::Arc::new((StateWord::new(), UnsafeCell::new(0)));
        shared.0.acquire_reference();
        let release = |shared: &(StateWord, UnsafeCell<u32>)| {
            shared.1.with(|_| ());
            let last = shared.0.release_reference();
            if last {
                // Freeing it counts as a write.
                shared.1.with_mut(|_| ());
            }
            last
        };
        let others = [(); 2].map(|()| {
            let shared = shared.clone();
            thread::spawn(move || release(&shared))
        });
        let mut last = usize::from(release(&shared));
        for other in others {
            last += usize::from(other.join().unwrap());
        }
        assert_eq!(last, 1);
    });
}
