//! The ready queue: pushes from other CPUs against each other and against the CPU that takes.

use core::future::poll_fn;
use core::task::{Poll, Waker};
use std::sync::{Arc, Mutex};
use std::vec::Vec;

use loom::thread;

use super::machine::{Machine, on_cpu, run_ready};
use super::model;
use crate::{Class, Executor};

/// Spawns a task that waits for one wake and then logs `id`. The locks here are `std`'s: only the owning CPU takes them.
fn sleeper(executor: &Arc<Executor>, log: &Arc<Mutex<Vec<u32>>>, id: u32) -> Waker {
    let (log, waker) = (log.clone(), Arc::new(Mutex::new(None)));
    let slot = waker.clone();
    let mut polls = 0;
    drop(executor.spawn(
        Class::User,
        "sleeper",
        poll_fn(move |cx| {
            polls += 1;
            if polls == 1 {
                *slot.lock().unwrap() = Some(cx.waker().clone());
                return Poll::Pending;
            }
            log.lock().unwrap().push(id);
            Poll::Ready(())
        }),
    ));
    run_ready(executor);
    waker.lock().unwrap().take().expect("it was polled")
}

/// None is lost, none is doubled, and those of one thread keep their order.
#[test]
fn tasks_run_once_and_in_the_order_of_their_wakes() {
    model(|| {
        let (_, executor) = Machine::new(2);
        let log = Arc::default();
        let [one, two, three] = [1, 2, 3].map(|id| sleeper(&executor, &log, id));
        let others = [
            thread::spawn(move || {
                on_cpu(1);
                one.wake();
                two.wake();
            }),
            thread::spawn(move || {
                on_cpu(1);
                three.wake();
            }),
        ];
        run_ready(&executor);
        for other in others {
            other.join().unwrap();
        }
        run_ready(&executor);
        let log = log.lock().unwrap();
        let of_one_thread: Vec<_> = log.iter().filter(|&&id| id != 3).collect();
        assert_eq!(of_one_thread, [&1, &2]);
        assert_eq!(log.len(), 3);
    });
}
