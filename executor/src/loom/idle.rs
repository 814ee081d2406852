//! Going to sleep against a wake: by an interrupt of the same CPU, and from another one.

use core::future::poll_fn;
use core::task::Poll;
use std::sync::Arc;

use loom::sync::atomic::AtomicBool;
use loom::sync::atomic::Ordering::Relaxed;
use loom::thread;

use super::machine::{Machine, on_cpu, run};
use super::model;
use crate::Class;
use crate::sync::AtomicWaker;

/// A task on CPU 0 waits for a completion, which `handler` runs on a thread of its own.
fn completion(handler: fn(&Machine, &dyn Fn())) {
    model(move || {
        let (machine, executor) = Machine::new(2);
        let ring = Arc::new((AtomicBool::new(false), AtomicWaker::new()));
        let device = ring.clone();
        let handle = executor.spawn(
            Class::User,
            "task",
            poll_fn(move |cx| {
                ring.1.register(cx.waker());
                if ring.0.load(Relaxed) {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            }),
        );
        let _in_flight = executor.in_flight();
        thread::spawn(move || {
            handler(&machine, &|| {
                device.0.store(true, Relaxed);
                device.1.wake();
            });
        });
        run(&executor, || handle.is_finished());
    });
}

#[test]
fn a_wake_from_another_cpu_ends_sleep() {
    completion(|_, wake| {
        on_cpu(1);
        wake();
    });
}

/// The interrupt itself ends the halt; what it woke must be seen then.
#[test]
fn a_wake_by_an_interrupt_of_this_cpu_ends_sleep() {
    completion(|machine, wake| {
        wake();
        machine.interrupt(0);
    });
}
