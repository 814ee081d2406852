//! The join handle against the end of its task.

use std::sync::Arc;

use loom::alloc::Track;
use loom::sync::atomic::AtomicBool;
use loom::sync::atomic::Ordering::{Acquire, Release};
use loom::thread;

use super::machine::{Machine, on_cpu, run};
use super::{block_on, model};
use crate::{Class, yield_now};

#[test]
fn who_joins_gets_the_result() {
    model(|| {
        let (_, executor) = Machine::new(2);
        let handle = executor.spawn(Class::User, "task", async {
            yield_now().await;
            Track::new(42)
        });
        let joiner = thread::spawn(move || {
            on_cpu(1);
            assert_eq!(block_on(handle).into_inner(), 42);
        });
        let mut turns = 0;
        run(&executor, || {
            turns += 1;
            turns == 3
        });
        joiner.join().unwrap();
    });
}

/// Between two tasks on two CPUs, so that the join's wake goes the whole way: state, queue, kick.
#[test]
fn a_task_joins_a_task_of_another_cpu() {
    model(|| {
        let (machine, executor) = Machine::new(2);
        let over = Arc::new(AtomicBool::new(false));
        let inner = executor.spawn(Class::User, "inner", async { Track::new(42) });
        let _in_flight = executor.in_flight();
        let other = thread::spawn({
            let (executor, over) = (executor.clone(), over.clone());
            move || {
                on_cpu(1);
                let outer = executor.spawn(Class::User, "outer", async {
                    assert_eq!(inner.await.into_inner(), 42);
                });
                run(&executor, || outer.is_finished());
                over.store(true, Release);
                machine.nudge(0);
            }
        });
        run(&executor, || over.load(Acquire));
        other.join().unwrap();
    });
}
