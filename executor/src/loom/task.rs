//! Whole tasks: wakers on other threads against polls, completion, and the task's end.

use core::future::poll_fn;
use core::task::Poll;
use std::sync::{Arc, Mutex};
use std::vec::Vec;

use loom::alloc::Track;
use loom::sync::atomic::AtomicBool;
use loom::sync::atomic::Ordering::Relaxed;
use loom::thread;

use super::machine::{Machine, on_cpu, run_ready};
use super::{model, model_bounded};
use crate::Class;

/// Two interrupts wake a task, by value and by reference, while it is polled, suspended, idle, scheduled or done. After the
/// last wake it is polled once more, and the memory goes with the last reference.
#[test]
fn a_task_sees_what_came_before_each_of_its_wakes() {
    model_bounded(2, || {
        let (_, executor) = Machine::new(1);
        let flags = Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
        // Only this thread uses it.
        let threads = Arc::new(Mutex::new(Vec::new()));
        let started = threads.clone();
        let handle = executor.spawn(
            Class::User,
            "task",
            poll_fn(move |cx| {
                let mut started = started.lock().unwrap();
                if started.is_empty() {
                    for index in 0..2 {
                        let (waker, flags) = (cx.waker().clone(), flags.clone());
                        started.push(thread::spawn(move || {
                            flags[index].store(true, Relaxed);
                            if index == 0 {
                                waker.wake();
                            } else {
                                waker.wake_by_ref();
                            }
                        }));
                    }
                }
                if flags.iter().all(|flag| flag.load(Relaxed)) {
                    Poll::Ready(Track::new(()))
                } else {
                    Poll::Pending
                }
            }),
        );
        run_ready(&executor);
        for thread in core::mem::take(&mut *threads.lock().unwrap()) {
            thread.join().unwrap();
        }
        run_ready(&executor);
        assert!(handle.is_finished());
    });
}

/// The last of executor, handle and waker frees the task, with the output, which nobody took.
#[test]
fn a_task_that_is_done_goes_with_its_last_reference() {
    model(|| {
        let (_, executor) = Machine::new(2);
        let handle = executor.spawn(
            Class::User,
            "task",
            poll_fn(|cx| {
                let waker = cx.waker().clone();
                thread::spawn(move || {
                    on_cpu(1);
                    waker.wake_by_ref();
                    drop(waker);
                });
                Poll::Ready(Track::new(()))
            }),
        );
        let dropper = thread::spawn(move || drop(handle));
        run_ready(&executor);
        dropper.join().unwrap();
        assert_eq!(executor.switches(), 1);
    });
}
