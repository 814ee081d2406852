use super::*;
use crate::testing::Driver;
use crate::{Class, yield_now};
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};
use std::sync::Arc;
use std::vec::Vec;

type Log = Arc<std::sync::Mutex<Vec<u32>>>;

#[test]
fn mutex_is_exclusive_and_fair_under_any_schedule() {
    for seed in 0..50 {
        let driver = Driver::seeded(seed);
        let lock = Arc::new(Mutex::new("lock", 0_u32));
        let inside = Arc::new(AtomicBool::new(false));
        for _ in 0..10 {
            let (lock, inside) = (lock.clone(), inside.clone());
            driver.executor().spawn(Class::User, "locker", async move {
                for _ in 0..5 {
                    let mut value = lock.lock().await;
                    assert!(!inside.swap(true, Relaxed));
                    yield_now().await;
                    *value += 1;
                    inside.store(false, Relaxed);
                }
            });
        }
        driver.run_until_stalled();
        assert_eq!(lock.try_lock().map(|value| *value), Some(50));
    }
}

#[test]
fn permits_go_first_in_first_out() {
    let driver = Driver::new();
    let semaphore = Arc::new(Semaphore::new("permits", 0));
    let log = Log::default();
    for (id, count) in [(1, 3), (2, 1), (3, 1)] {
        let (semaphore, log) = (semaphore.clone(), log.clone());
        driver.executor().spawn(Class::User, "asker", async move {
            core::mem::forget(semaphore.acquire(count).await);
            log.lock().unwrap().push(id);
        });
    }
    driver.run_ready();
    semaphore.release(2);
    driver.run_ready();
    assert!(
        log.lock().unwrap().is_empty(),
        "a later, smaller wish overtook"
    );
    assert!(
        semaphore.try_acquire(1).is_none(),
        "barged past the waiters"
    );
    semaphore.release(3);
    driver.run_ready();
    assert_eq!(*log.lock().unwrap(), [1, 2, 3]);
    assert_eq!(semaphore.available(), 0);
}

#[test]
fn permits_on_their_way_to_a_dropped_wait_go_to_the_next() {
    let driver = Driver::new();
    let semaphore = Arc::new(Semaphore::new("permits", 0));
    let got = Arc::new(AtomicU32::new(0));
    let mut dropped = std::boxed::Box::pin(semaphore.acquire(1));
    let mut cx = core::task::Context::from_waker(core::task::Waker::noop());
    assert!(dropped.as_mut().poll(&mut cx).is_pending());
    let (other, counter) = (semaphore.clone(), got.clone());
    driver.executor().spawn(Class::User, "next", async move {
        let _permit = other.acquire(1).await;
        counter.fetch_add(1, Relaxed);
    });
    driver.run_ready();
    semaphore.release(1);
    driver.run_ready();
    assert_eq!(got.load(Relaxed), 0, "the first in line has it");
    drop(dropped);
    driver.run_ready();
    assert_eq!(got.load(Relaxed), 1);
    assert_eq!(semaphore.available(), 1);
}

#[test]
fn readers_share_and_a_waiting_writer_holds_back_later_readers() {
    let driver = Driver::new();
    let lock = Arc::new(RwLock::new("rwlock", 0));
    let log = Log::default();
    let executor = driver.executor().clone();
    let gate = Arc::new(Event::new("gate"));
    for id in [1, 2] {
        let (lock, log, gate) = (lock.clone(), log.clone(), gate.clone());
        executor.spawn(Class::User, "reader", async move {
            let _guard = lock.read().await;
            log.lock().unwrap().push(id);
            gate.wait().await;
        });
    }
    let (writer, writer_log) = (lock.clone(), log.clone());
    executor.spawn(Class::User, "writer", async move {
        *writer.write().await += 1;
        writer_log.lock().unwrap().push(3);
    });
    let (late, late_log) = (lock.clone(), log.clone());
    executor.spawn(Class::User, "late reader", async move {
        assert_eq!(*late.read().await, 1);
        late_log.lock().unwrap().push(4);
    });
    driver.run_ready();
    assert_eq!(*log.lock().unwrap(), [1, 2]);
    gate.set();
    driver.run_ready();
    assert_eq!(*log.lock().unwrap(), [1, 2, 3, 4]);
}

#[test]
fn a_queue_wakes_one_or_all_and_a_dropped_wake_is_passed_on() {
    let driver = Driver::new();
    let queue = Arc::new(WaitQueue::new("queue"));
    let tokens = Arc::new(AtomicUsize::new(0));
    let taken = Arc::new(AtomicUsize::new(0));
    for _ in 0..5 {
        let (queue, tokens, taken) = (queue.clone(), tokens.clone(), taken.clone());
        driver.executor().spawn(Class::User, "taker", async move {
            let take = || {
                tokens
                    .fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1))
                    .ok()
            };
            queue.wait_until(take).await;
            taken.fetch_add(1, Relaxed);
        });
    }
    driver.run_ready();
    tokens.store(1, Relaxed);
    queue.wake_one();
    driver.run_ready();
    assert_eq!(taken.load(Relaxed), 1);
    tokens.store(3, Relaxed);
    queue.wake_all();
    driver.run_ready();
    assert_eq!(taken.load(Relaxed), 4);
    assert!(!queue.is_empty(), "the last one waits again");

    // A wake given to a wait that is dropped goes on.
    let never = Arc::new(WaitQueue::new("never"));
    let flag = Arc::new(AtomicBool::new(false));
    let mut first = std::boxed::Box::pin(never.wait_until(|| None::<()>));
    let mut cx = core::task::Context::from_waker(core::task::Waker::noop());
    assert!(first.as_mut().poll(&mut cx).is_pending());
    let (second, seen) = (never.clone(), flag.clone());
    let handle = driver.executor().spawn(Class::User, "second", async move {
        second.wait_until(|| seen.load(Relaxed).then_some(())).await;
    });
    driver.run_ready();
    flag.store(true, Relaxed);
    never.wake_one();
    drop(first);
    driver.run_ready();
    assert!(handle.is_finished());
}

/// Found by loom: the first in line finds what it waits for by itself, just when a wake for something else comes to it.
#[test]
fn a_wake_for_a_wait_that_needs_none_goes_to_the_next() {
    let queue = WaitQueue::new("queue");
    let mut cx = core::task::Context::from_waker(core::task::Waker::noop());
    let given = AtomicBool::new(false);
    let driver = Driver::new();
    let woken = Arc::new(Event::new("woken"));
    let waker = {
        struct Tell(Arc<Event>);
        impl std::task::Wake for Tell {
            fn wake(self: Arc<Self>) {
                self.0.set();
            }
        }
        core::task::Waker::from(Arc::new(Tell(woken.clone())))
    };
    let mut second = core::pin::pin!(queue.wait_until(|| given.load(Relaxed).then_some(())));
    let mut looks = 0;
    let mut first = std::boxed::Box::pin(queue.wait_until(|| {
        looks += 1;
        if looks == 1 {
            return None;
        }
        // It stands in the queue now. The other comes behind it, and somebody gives a second thing and wakes.
        let mut cx = core::task::Context::from_waker(&waker);
        assert!(second.as_mut().poll(&mut cx).is_pending());
        given.store(true, Relaxed);
        queue.wake_one();
        Some(())
    }));
    assert!(first.as_mut().poll(&mut cx).is_ready());
    drop(first);
    assert!(woken.is_set(), "the wake was swallowed");
    driver.block_on(second);
}

#[test]
fn keyed_waits_wake_by_key() {
    let driver = Driver::new();
    let queue = Arc::new(KeyedWaitQueue::new("page"));
    let ready = Arc::new(AtomicUsize::new(usize::MAX));
    let mut handles = Vec::new();
    for key in 0..300 {
        let (queue, ready) = (queue.clone(), ready.clone());
        handles.push(driver.executor().spawn(Class::User, "waiter", async move {
            queue
                .wait(key, || (ready.load(Relaxed) == key as usize).then_some(()))
                .await;
        }));
    }
    driver.run_ready();
    ready.store(17, Relaxed);
    queue.wake_all(16);
    driver.run_ready();
    assert!(handles.iter().all(|handle| !handle.is_finished()));
    queue.wake_all(17);
    driver.run_ready();
    let finished: Vec<usize> = (0..300).filter(|&key| handles[key].is_finished()).collect();
    assert_eq!(finished, [17]);
}

#[test]
fn an_event_lets_everyone_on() {
    let driver = Driver::seeded(1);
    let event = Arc::new(Event::new("event"));
    let handles: Vec<_> = (0..20)
        .map(|_| {
            let event = event.clone();
            driver
                .executor()
                .spawn(Class::User, "waiter", async move { event.wait().await })
        })
        .collect();
    driver.run_ready();
    assert!(
        driver.report().contains("awaits event"),
        "{}",
        driver.report()
    );
    event.set();
    driver.run_ready();
    assert!(handles.iter().all(|handle| handle.is_finished()));
}
