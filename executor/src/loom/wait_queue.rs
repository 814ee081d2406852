//! [`WaitQueue`] and [`KeyedWaitQueue`]: looking and waiting against changing and waking, and waits that are dropped.

use core::pin::pin;
use std::sync::Arc;

use loom::sync::atomic::Ordering::Relaxed;
use loom::sync::atomic::{AtomicBool, AtomicUsize};
use loom::thread;

use super::{block_on, model, poll_once};
use crate::sync::{KeyedWaitQueue, WaitQueue};

fn take(tokens: &AtomicUsize) -> Option<()> {
    tokens
        .fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1))
        .ok()
        .map(drop)
}

#[test]
fn each_token_reaches_a_waiter() {
    model(|| {
        let shared = Arc::new((WaitQueue::new("tokens"), AtomicUsize::new(0)));
        let waiters = [(); 2].map(|()| {
            let shared = shared.clone();
            thread::spawn(move || block_on(shared.0.wait_until(|| take(&shared.1))))
        });
        for _ in 0..2 {
            shared.1.fetch_add(1, Relaxed);
            shared.0.wake_one();
        }
        for waiter in waiters {
            waiter.join().unwrap();
        }
        assert!(shared.0.is_empty());
    });
}

/// A wait is given up just as the one token comes: the wake goes to the other.
#[test]
fn a_wake_meant_for_a_dropped_wait_goes_on() {
    model(|| {
        let shared = Arc::new((WaitQueue::new("tokens"), AtomicUsize::new(0)));
        let quitter = thread::spawn({
            let shared = shared.clone();
            move || {
                let mut wait = pin!(shared.0.wait_until(|| None::<()>));
                assert!(poll_once(wait.as_mut()).is_pending());
            }
        });
        let giver = thread::spawn({
            let shared = shared.clone();
            move || {
                shared.1.fetch_add(1, Relaxed);
                shared.0.wake_one();
            }
        });
        block_on(shared.0.wait_until(|| take(&shared.1)));
        quitter.join().unwrap();
        giver.join().unwrap();
        assert!(shared.0.is_empty());
    });
}

/// Two keys of one bucket: each waiter is woken for its own.
#[test]
fn keys_that_share_a_bucket_do_not_lose_wakes() {
    const KEYS: [u64; 2] = [1, 56];
    model(|| {
        let shared = Arc::new((
            KeyedWaitQueue::new("pages"),
            [AtomicBool::new(false), AtomicBool::new(false)],
        ));
        let waiters = [0, 1].map(|index| {
            let shared = shared.clone();
            thread::spawn(move || {
                let ready = || shared.1[index].load(Relaxed).then_some(());
                block_on(shared.0.wait(KEYS[index], ready));
            })
        });
        for (key, flag) in KEYS.into_iter().zip(&shared.1) {
            flag.store(true, Relaxed);
            shared.0.wake_all(key);
        }
        for waiter in waiters {
            waiter.join().unwrap();
        }
    });
}
