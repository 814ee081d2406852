//! The async [`Mutex`].

use std::sync::Arc;

use loom::thread;

use super::{block_on, model};
use crate::sync::Mutex;

/// The value is in one of the shim's cells, so loom sees two holders at once, or one who does not see what the other wrote.
#[test]
fn one_holder_at_a_time_and_it_sees_the_last_ones_work() {
    model(|| {
        let lock = Arc::new(Mutex::new("lock", 0));
        let others = [(); 2].map(|()| {
            let lock = lock.clone();
            thread::spawn(move || *block_on(lock.lock()) += 1)
        });
        if let Some(mut value) = lock.try_lock() {
            *value += 1;
        }
        *block_on(lock.lock()) += 1;
        for other in others {
            other.join().unwrap();
        }
        assert!((3..=4).contains(&*block_on(lock.lock())));
    });
}
