//! The async [`RwLock`].

use std::sync::Arc;

use loom::thread;

use super::{block_on, model};
use crate::sync::RwLock;

/// Readers never see half of what a writer does: the value is in one of the shim's cells, and its halves are always equal.
#[test]
fn a_writer_excludes_readers_and_writers() {
    model(|| {
        let lock = Arc::new(RwLock::new("lock", (0, 0)));
        let writer = |lock: &RwLock<(u32, u32)>| {
            let mut value = block_on(lock.write());
            value.0 += 1;
            value.1 += 1;
        };
        let other_writer = thread::spawn({
            let lock = lock.clone();
            move || writer(&lock)
        });
        let reader = thread::spawn({
            let lock = lock.clone();
            move || {
                let value = block_on(lock.read());
                assert_eq!(value.0, value.1);
            }
        });
        writer(&lock);
        other_writer.join().unwrap();
        reader.join().unwrap();
        assert_eq!(*block_on(lock.read()), (2, 2));
    });
}

/// Readers share: each waits for the other while it holds the lock.
#[test]
fn readers_share() {
    model(|| {
        let lock = Arc::new(RwLock::new("lock", ()));
        let met = Arc::new([
            crate::sync::Event::new("met"),
            crate::sync::Event::new("met"),
        ]);
        let other = thread::spawn({
            let (lock, met) = (lock.clone(), met.clone());
            move || {
                let _guard = block_on(lock.read());
                met[1].set();
                block_on(met[0].wait());
            }
        });
        let guard = block_on(lock.read());
        met[0].set();
        block_on(met[1].wait());
        drop(guard);
        other.join().unwrap();
        drop(block_on(lock.write()));
    });
}
