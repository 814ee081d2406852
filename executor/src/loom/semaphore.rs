//! [`Semaphore`]: permits handed over, and waits that are dropped.

use core::pin::pin;
use std::sync::Arc;

use loom::thread;

use super::{block_on, model, poll_once};
use crate::sync::Semaphore;

/// One wants both permits, two want one: all are served.
#[test]
fn everyone_gets_its_permits_and_they_come_back() {
    model(|| {
        let semaphore = Arc::new(Semaphore::new("permits", 2));
        let others = [1, 2].map(|count| {
            let semaphore = semaphore.clone();
            thread::spawn(move || drop(block_on(semaphore.acquire(count))))
        });
        drop(block_on(semaphore.acquire(1)));
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(semaphore.available(), 2);
    });
}

/// Permits released at once serve everyone for whom they suffice, even if none ever comes back.
#[test]
fn one_release_serves_several() {
    model(|| {
        let semaphore = Arc::new(Semaphore::new("permits", 0));
        let others = [(); 2].map(|()| {
            let semaphore = semaphore.clone();
            thread::spawn(move || core::mem::forget(block_on(semaphore.acquire(1))))
        });
        semaphore.release(2);
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(semaphore.available(), 0);
    });
}

/// A wait in front, for more than there is, is given up while a permit is released: the permit reaches who stands behind.
#[test]
fn permits_of_a_dropped_wait_go_to_the_next() {
    model(|| {
        let semaphore = Arc::new(Semaphore::new("permits", 0));
        let (waits, waiting) = loom::sync::mpsc::channel();
        let quitter = thread::spawn({
            let semaphore = semaphore.clone();
            move || {
                let mut first = pin!(semaphore.acquire(1));
                assert!(poll_once(first.as_mut()).is_pending());
                waits.send(()).unwrap();
            }
        });
        waiting.recv().unwrap();
        let releaser = thread::spawn({
            let semaphore = semaphore.clone();
            move || semaphore.release(1)
        });
        drop(block_on(semaphore.acquire(1)));
        quitter.join().unwrap();
        releaser.join().unwrap();
        assert_eq!(semaphore.available(), 1);
    });
}

/// Trying takes what is there or nothing, and never goes past a waiter.
#[test]
fn trying_does_not_disturb_who_waits() {
    model(|| {
        let semaphore = Arc::new(Semaphore::new("permits", 1));
        let trier = thread::spawn({
            let semaphore = semaphore.clone();
            move || drop(semaphore.try_acquire(1))
        });
        let quitter = thread::spawn({
            let semaphore = semaphore.clone();
            move || {
                let mut wait = pin!(semaphore.acquire(1));
                let _ = poll_once(wait.as_mut());
            }
        });
        drop(block_on(semaphore.acquire(1)));
        trier.join().unwrap();
        quitter.join().unwrap();
        assert_eq!(semaphore.available(), 1);
    });
}
