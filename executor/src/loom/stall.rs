//! The stall rule with several CPUs: a stall is reported when all sleep for ever, and only then.

use core::future::{pending, poll_fn};
use core::task::Poll;
use std::sync::Arc;

use loom::sync::atomic::AtomicBool;
use loom::sync::atomic::Ordering::{Acquire, Release};
use loom::thread;

use super::machine::{Machine, on_cpu, run, run_ready};
use super::model;
use crate::Class;

loom::lazy_static! {
    static ref REPORTED: AtomicBool = AtomicBool::new(false);
}

/// While one CPU runs a user task, then begins and ends an I/O, the other must not take the silence for a stall.
#[test]
fn a_cpu_that_sleeps_does_not_overlook_one_that_runs() {
    model(|| {
        let (machine, executor) = Machine::new(2);
        let over = Arc::new(AtomicBool::new(false));
        let other = thread::spawn({
            let (machine, executor, over) = (machine.clone(), executor.clone(), over.clone());
            move || {
                on_cpu(1);
                let inside = executor.clone();
                let mut io = None;
                let handle = executor.spawn(
                    Class::User,
                    "task",
                    poll_fn(move |cx| {
                        if io.take().is_some() {
                            return Poll::Ready(());
                        }
                        // An I/O whose completion comes at once, on this CPU.
                        io = Some(inside.in_flight());
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    }),
                );
                run(&executor, || handle.is_finished());
                over.store(true, Release);
                machine.interrupt(0);
            }
        });
        run(&executor, || over.load(Acquire));
        other.join().unwrap();
    });
}

/// Two CPUs fall asleep at once with a user task that nothing can wake: at least one of them says so.
#[test]
fn the_last_cpu_to_sleep_reports_a_stall() {
    model(|| {
        let (_, executor) = Machine::with_stall(2, |machine| {
            REPORTED.store(true, Release);
            machine.interrupt(0);
            machine.interrupt(1);
        });
        let other = thread::spawn({
            let executor = executor.clone();
            move || {
                on_cpu(1);
                run(&executor, || REPORTED.load(Acquire));
            }
        });
        drop(executor.spawn(Class::User, "stuck", pending::<()>()));
        run(&executor, || REPORTED.load(Acquire));
        other.join().unwrap();
        executor.shutdown();
    });
}

/// One CPU takes the last timer out and has not yet woken its sleeper, which lives on the other CPU.
#[test]
fn a_timer_on_its_way_is_no_stall() {
    model(|| {
        let (machine, executor) = Machine::new(2);
        let over = Arc::new(AtomicBool::new(false));
        let sleep = executor.sleep_until(10);
        let sleeper = executor.spawn(Class::User, "sleeper", sleep);
        run_ready(&executor);
        machine.set_clock(10);
        let other = thread::spawn({
            let (executor, over) = (executor.clone(), over.clone());
            move || {
                on_cpu(1);
                let mut turns = 0;
                run(&executor, || {
                    turns += 1;
                    turns == 2 || over.load(Acquire)
                });
            }
        });
        run(&executor, || sleeper.is_finished());
        over.store(true, Release);
        machine.interrupt(1);
        other.join().unwrap();
    });
}
