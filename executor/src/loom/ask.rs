//! Asking the running task to give way.

use core::future::poll_fn;
use core::task::Poll;
use std::sync::{Arc, Mutex};

use loom::thread;

use super::machine::{Machine, on_cpu, run};
use super::model;
use crate::Class;

/// A better task is woken from another CPU while this one ends a poll, chooses and begins the next. When the user task is polled again, the
/// better one has run, or the user task is told to give way.
#[test]
fn a_better_task_runs_first_or_asks() {
    model(|| {
        let (_, executor) = Machine::new(2);
        let better_ran = Arc::new(Mutex::new(0));
        let waker = Arc::new(Mutex::new(None));
        let (ran, slot) = (better_ran.clone(), waker.clone());
        let better = executor.spawn(
            Class::Completion,
            "better",
            poll_fn(move |cx| {
                *ran.lock().unwrap() += 1;
                if *ran.lock().unwrap() == 1 {
                    *slot.lock().unwrap() = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                Poll::Ready(())
            }),
        );
        let cpu = executor.cpu();
        executor.turn(cpu, 0);
        let inside = executor.clone();
        let waker = waker.lock().unwrap().take().unwrap();
        let mut other = Some(thread::spawn(move || {
            on_cpu(1);
            waker.wake();
        }));
        let mut polls = 0;
        let user = executor.spawn(
            Class::User,
            "user",
            poll_fn(move |cx| {
                polls += 1;
                if polls == 1 {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                // In ring 3: meanwhile the other CPU finishes what it does.
                if let Some(other) = other.take() {
                    other.join().unwrap();
                }
                let ran = *better_ran.lock().unwrap() == 2;
                assert!(
                    ran || inside.need_resched(),
                    "the better task must wait for the end of the slice"
                );
                Poll::Ready(())
            }),
        );
        run(&executor, || user.is_finished() && better.is_finished());
    });
}
