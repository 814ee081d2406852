//! The stall rule with several CPUs: a stall is reported when all sleep for ever, and only then.

use core::future::{pending, poll_fn};
use core::task::Poll;
use std::sync::Arc;

use loom::sync::atomic::Ordering::{Acquire, Release};
use loom::sync::atomic::{AtomicBool, AtomicUsize};
use loom::thread;

use super::machine::{Machine, on_cpu, run, run_ready};
use super::{model, model_bounded};
use crate::Class;
use crate::sync::AtomicWaker;

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
                machine.nudge(0);
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
            machine.nudge(0);
            machine.nudge(1);
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

/// One CPU, which has slept, takes the last timer out and has not yet woken its sleeper, which lives on the other CPU.
#[test]
fn a_timer_on_its_way_is_no_stall() {
    model(|| {
        let (machine, executor) = Machine::new(2);
        let over = Arc::new(AtomicBool::new(false));
        let sleep = executor.sleep_until(10);
        let sleeper = executor.spawn(Class::User, "sleeper", sleep);
        run_ready(&executor);
        let other = thread::spawn({
            let (executor, over) = (executor.clone(), over.clone());
            move || {
                on_cpu(1);
                run(&executor, || over.load(Acquire));
            }
        });
        machine.set_clock(10);
        machine.nudge(1);
        run(&executor, || sleeper.is_finished());
        over.store(true, Release);
        machine.nudge(1);
        other.join().unwrap();
    });
}

/// A task on the other CPU does one I/O after another. For a moment between two, none is under way; but then that CPU is awake.
#[test]
fn between_two_ios_is_no_stall() {
    model_bounded(2, || {
        let (machine, executor) = Machine::new(2);
        let over = Arc::new(AtomicBool::new(false));
        let device = Arc::new((AtomicUsize::new(0), AtomicWaker::new()));
        let other = thread::spawn({
            let (machine, executor) = (machine.clone(), executor.clone());
            let (over, device) = (over.clone(), device.clone());
            move || {
                on_cpu(1);
                let (inside, mut io) = (executor.clone(), None);
                let handle = executor.spawn(
                    Class::User,
                    "task",
                    poll_fn(move |cx| {
                        device.1.register(cx.waker());
                        let completed = device.0.load(Acquire);
                        drop(io.take());
                        if completed == 2 {
                            return Poll::Ready(());
                        }
                        io = Some(inside.in_flight());
                        Poll::Pending
                    }),
                );
                run(&executor, || handle.is_finished());
                over.store(true, Release);
                machine.nudge(0);
            }
        });
        let completions = thread::spawn({
            let machine = machine.clone();
            move || {
                on_cpu(1);
                for completed in 1..=2 {
                    device.0.store(completed, Release);
                    device.1.wake();
                    machine.interrupt(1);
                }
            }
        });
        run(&executor, || over.load(Acquire));
        other.join().unwrap();
        completions.join().unwrap();
    });
}
