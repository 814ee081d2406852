//! Timers, whose heap all CPUs share: sleeping and giving up against expiring.

use core::pin::pin;
use core::task::{Context, Waker};
use std::sync::Arc;

use loom::sync::atomic::Ordering::Relaxed;
use loom::thread;

use super::machine::Machine;
use super::{Signal, model};

/// Whatever comes first, entering or the time: the sleeper's CPU finds the deadline due afterwards, or the other one woke it.
#[test]
fn a_sleeper_is_woken_by_whichever_cpu_looks_at_the_clock() {
    model(|| {
        let (machine, executor) = Machine::new(2);
        let other = thread::spawn({
            let (machine, executor) = (machine.clone(), executor.clone());
            move || {
                machine.set_clock(10);
                executor.expire(10);
            }
        });
        let signal = Arc::new(Signal::default());
        let waker = Waker::from(signal.clone());
        let mut sleep = pin!(executor.sleep_until(10));
        while sleep
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
        {
            // As the loop of a CPU does after a poll.
            if executor.now() >= executor.next_deadline.load(Relaxed) {
                executor.expire(executor.now());
            }
            signal.0.wait();
        }
        other.join().unwrap();
        assert_eq!(executor.next_deadline.load(Relaxed), u64::MAX);
    });
}

/// A sleep that is dropped while another CPU takes it out leaves the heap whole, and takes nobody else with it.
#[test]
fn a_dropped_sleep_and_one_that_expires_do_not_disturb_each_other() {
    model(|| {
        let (_, executor) = Machine::new(2);
        let dropped = thread::spawn({
            let executor = executor.clone();
            move || {
                let mut sleep = pin!(executor.sleep_until(5));
                let _ = sleep.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            }
        });
        let expirer = thread::spawn({
            let executor = executor.clone();
            move || executor.expire(7)
        });
        let signal = Arc::new(Signal::default());
        let waker = Waker::from(signal.clone());
        let mut sleep = pin!(executor.sleep_until(10));
        assert!(
            sleep
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
        dropped.join().unwrap();
        expirer.join().unwrap();
        assert_eq!(executor.next_deadline.load(Relaxed), 10);
        executor.expire(10);
        signal.0.wait();
        assert_eq!(executor.next_deadline.load(Relaxed), u64::MAX);
    });
}
