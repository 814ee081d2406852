//! The executor as a whole, on the host.

use crate::testing::Driver;
use crate::{Class, State, yield_now};
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::Relaxed;
use core::time::Duration;
use std::string::ToString;
use std::sync::{Arc, Mutex};
use std::vec;
use std::vec::Vec;

#[test]
fn tasks_of_a_class_take_turns() {
    let driver = Driver::new();
    let log = Arc::new(Mutex::new(Vec::new()));
    for id in 0..3 {
        let log = log.clone();
        driver.executor().spawn(Class::User, "turn", async move {
            for _ in 0..3 {
                log.lock().unwrap().push(id);
                yield_now().await;
            }
        });
    }
    driver.run_ready();
    assert_eq!(*log.lock().unwrap(), [0, 1, 2, 0, 1, 2, 0, 1, 2]);
}

#[test]
fn better_classes_come_first_and_starve_nobody() {
    let driver = Driver::new();
    let counts = Arc::new([const { AtomicUsize::new(0) }; 4]);
    for class in Class::ALL {
        let counts = counts.clone();
        driver.executor().spawn(class, class.as_str(), async move {
            loop {
                counts[class as usize].fetch_add(1, Relaxed);
                yield_now().await;
            }
        });
    }
    for _ in 0..61 * 13 {
        assert!(driver.step());
    }
    let [completion, daemon, user, idle] = [0, 1, 2, 3].map(|class| counts[class].load(Relaxed));
    assert!(
        completion > daemon && daemon > user,
        "{completion} {daemon} {user}"
    );
    assert_eq!((user, idle), (13, 0));
    assert!(daemon >= 50, "{daemon}");
}

#[test]
fn idle_tasks_run_when_nothing_else_can() {
    let driver = Driver::new();
    let ran = Arc::new(AtomicUsize::new(0));
    let counter = ran.clone();
    driver.executor().spawn(Class::Idle, "idle", async move {
        counter.fetch_add(1, Relaxed);
    });
    driver.run_ready();
    assert_eq!(ran.load(Relaxed), 1);
}

#[test]
fn join_gives_the_result_now_or_later() {
    let driver = Driver::seeded(7);
    let executor = driver.executor().clone();
    let inner = driver.executor().spawn(Class::Daemon, "inner", async move {
        executor.sleep(Duration::from_millis(3)).await;
        "done".to_string()
    });
    assert_eq!(driver.run_until(inner), "done");
    let early = driver.executor().spawn(Class::Daemon, "early", async { 5 });
    driver.run_ready();
    assert!(early.is_finished());
    assert_eq!(driver.run_until(early), 5);
}

#[test]
fn a_detached_task_runs_on_and_its_result_is_dropped() {
    let driver = Driver::new();
    let kept = Arc::new(());
    let held = kept.clone();
    drop(
        driver
            .executor()
            .spawn(Class::User, "detached", async move { held }),
    );
    driver.run_ready();
    assert_eq!(Arc::strong_count(&kept), 1);
}

#[test]
fn the_same_seed_gives_the_same_order() {
    let order = |seed| {
        let driver = Driver::seeded(seed);
        let log = Arc::new(Mutex::new(Vec::new()));
        for id in 0..10 {
            let log = log.clone();
            driver.executor().spawn(Class::User, "x", async move {
                for _ in 0..10 {
                    log.lock().unwrap().push(id);
                    yield_now().await;
                }
            });
        }
        driver.run_ready();
        Arc::try_unwrap(log).unwrap().into_inner().unwrap()
    };
    assert_eq!(order(1), order(1));
    assert_ne!(order(1), order(2));
}

#[test]
fn a_stall_is_seen_and_told_from_waiting() {
    let driver = Driver::new();
    let executor = driver.executor().clone();
    assert!(!driver.is_stalled(), "no task, no stall");
    driver.executor().spawn(
        Class::User,
        format_args!("lwp {}", 1),
        core::future::pending::<()>(),
    );
    driver.run_ready();
    assert!(driver.is_stalled());
    let io = executor.in_flight();
    assert!(!driver.is_stalled());
    drop(io);
    let key = executor.outside();
    assert!(!driver.is_stalled());
    drop(key);
    assert!(driver.is_stalled());
    let report = driver.report();
    assert!(
        report.contains("lwp 1 (user) is idle") && report.contains("tests.rs"),
        "{report}"
    );
}

#[test]
fn statistics_count_polls_and_time() {
    let driver = Driver::new();
    let (clock, executor) = (driver.clock().clone(), driver.executor().clone());
    driver.executor().spawn(Class::User, "worker", async move {
        clock.advance(Duration::from_nanos(700));
        executor.user_time(300);
        yield_now().await;
        clock.advance(Duration::from_nanos(100));
        core::future::pending::<()>().await;
    });
    driver.run_ready();
    let mut seen = vec![];
    driver.executor().for_each_task(|task| seen.push(*task));
    let [task] = seen[..] else { panic!("{seen:?}") };
    assert_eq!(
        (task.polls, task.total_ns, task.user_ns, task.longest_ns),
        (2, 500, 300, 400)
    );
    assert_eq!(
        (task.state, task.class, task.id),
        (State::Idle, Class::User, 1)
    );
    assert_eq!(driver.executor().switches(), 2);
}

#[test]
fn a_task_gives_way_only_when_asked() {
    let driver = Driver::new();
    let executor = driver.executor().clone();
    let log = Arc::new(Mutex::new(Vec::new()));
    let (inside, mark) = (executor.clone(), log.clone());
    driver.executor().spawn(Class::User, "first", async move {
        inside.reschedule_if_asked().await;
        mark.lock().unwrap().push("not asked");
        inside.tick();
        assert!(inside.need_resched());
        inside.reschedule_if_asked().await;
        mark.lock().unwrap().push("back");
        // A better class asks by itself.
        inside.spawn(Class::Completion, "urgent", async {});
        assert!(inside.need_resched());
    });
    let mark = log.clone();
    driver.executor().spawn(Class::User, "second", async move {
        mark.lock().unwrap().push("second")
    });
    driver.run_ready();
    assert_eq!(*log.lock().unwrap(), ["not asked", "second", "back"]);
}

#[test]
fn many_tasks_are_all_listed() {
    let driver = Driver::new();
    for _ in 0..100 {
        driver
            .executor()
            .spawn(Class::User, "waits", core::future::pending::<()>());
    }
    driver.run_ready();
    let mut ids = Vec::new();
    driver.executor().for_each_task(|task| ids.push(task.id));
    assert_eq!(ids, (1..=100).collect::<Vec<_>>());
}

#[test]
fn what_is_blocked_on_may_give_way_and_must_be_woken() {
    let driver = Driver::new();
    assert_eq!(
        driver.block_on(async {
            yield_now().await;
            1
        }),
        1
    );
    // A poll that nobody asked for does not hide a lost wake.
    let mut polls = 0;
    let lost = core::future::poll_fn(|_| {
        polls += 1;
        if polls == 1 {
            core::task::Poll::<()>::Pending
        } else {
            core::task::Poll::Ready(())
        }
    });
    driver.executor().spawn(Class::User, "other", async {});
    let stuck = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| driver.block_on(lost)));
    assert!(stuck.is_err());
    assert_eq!(polls, 1);
}

/// A machine whose timer goes off at the worst moment: when it has just been armed, before interrupts are off.
#[derive(Default)]
struct HastyTimer {
    executor: std::sync::OnceLock<std::sync::Weak<crate::Executor>>,
    slept: AtomicUsize,
}

impl crate::Platform for HastyTimer {
    fn now(&self) -> u64 {
        0
    }

    fn arm(&self, deadline: Option<u64>) {
        if deadline.is_some()
            && let Some(executor) = self.executor.get().and_then(std::sync::Weak::upgrade)
        {
            executor.tick();
        }
    }

    fn idle(&self, idle_ok: &dyn Fn() -> bool) {
        self.slept.fetch_add(usize::from(idle_ok()), Relaxed);
    }

    fn cpu(&self) -> usize {
        0
    }

    fn cpus(&self) -> usize {
        1
    }

    fn kick(&self, _: usize) {}

    fn stalled(&self, _: &dyn core::fmt::Display) {}
}

#[test]
fn a_timer_that_goes_off_on_the_way_to_sleep_is_not_slept_through() {
    let machine = Arc::new(HastyTimer::default());
    let executor = crate::Executor::new(machine.clone());
    let _ = machine.executor.set(Arc::downgrade(&executor));
    let mut sleep = core::pin::pin!(executor.sleep(Duration::from_secs(1)));
    let mut cx = core::task::Context::from_waker(core::task::Waker::noop());
    assert!(sleep.as_mut().poll(&mut cx).is_pending());
    executor.idle(executor.first_cpu(), 0);
    assert_eq!(machine.slept.load(Relaxed), 0);
}
