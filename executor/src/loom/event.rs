//! [`Event`]: waiting against setting.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::{block_on, model};
use crate::sync::Event;

/// Both waiters go on, and see what was written before.
#[test]
fn everyone_goes_on_and_sees_what_came_before() {
    model(|| {
        let shared = Arc::new((Event::new("event"), UnsafeCell::new(0)));
        let waiters = [(); 2].map(|()| {
            let shared = shared.clone();
            thread::spawn(move || {
                block_on(shared.0.wait());
                // SAFETY: nobody writes after the event; loom checks it.
                shared.1.with(|value| assert_eq!(unsafe { *value }, 1));
            })
        });
        // SAFETY: nobody reads before the event; loom checks it.
        shared.1.with_mut(|value| unsafe { *value = 1 });
        shared.0.set();
        for waiter in waiters {
            waiter.join().unwrap();
        }
    });
}
