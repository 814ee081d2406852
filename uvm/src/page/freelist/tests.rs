//! Reserves, magazines, contiguous frames, zeroing ahead.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::vec::Vec;

use executor::Class;
use executor::testing::Driver;

use super::*;
use crate::testing::{GARBAGE, Host, HostConfig, on_cpu};

fn take_all(host: &Host, who: AllocFor) -> Vec<Frame> {
    core::iter::from_fn(|| host.uvm.alloc_frame(who, Zero::No)).collect()
}

#[test]
fn a_fresh_page_is_busy_clean_and_fake() {
    let host = Host::new(256);
    let frame = host.uvm.alloc_frame(AllocFor::User, Zero::No).unwrap();
    assert_eq!(host.uvm.page(frame).flags(), FRESH);
    host.uvm.free_frame(frame);
    assert!(host.uvm.page(frame).has(PageFlags::FREE));
}

#[test]
fn each_class_stops_at_its_reserve() {
    // Whatever the magazines of other CPUs hold must be found, too.
    for cpus in [1, 4] {
        for frames in [20, 64, 100, 300, 1000] {
            let host = Host::with(&HostConfig {
                frames,
                cpus,
                ..HostConfig::default()
            });
            let managed = host.uvm.pages().managed();
            for cpu in 0..cpus {
                on_cpu(cpu);
                if let Some(frame) = host.uvm.alloc_frame(AllocFor::User, Zero::No) {
                    host.uvm.free_frame(frame);
                }
            }
            let user = take_all(&host, AllocFor::User);
            assert_eq!(user.len(), managed - RESERVE_KERNEL - RESERVE_PAGEDAEMON);
            assert!(!host.uvm.can_allocate(AllocFor::User, 1));
            let kernel = take_all(&host, AllocFor::Kernel);
            assert_eq!(kernel.len(), RESERVE_KERNEL);
            let pagedaemon = take_all(&host, AllocFor::Pagedaemon);
            assert_eq!(pagedaemon.len(), RESERVE_PAGEDAEMON);
            assert_eq!(host.uvm.free_frames(), 0);
            let all: BTreeSet<_> = user
                .iter()
                .chain(&kernel)
                .chain(&pagedaemon)
                .copied()
                .collect();
            assert_eq!(all.len(), managed, "a frame given out twice");
            all.iter().for_each(|&f| host.uvm.free_frame(f));
            assert_eq!(host.uvm.free_frames(), managed);
        }
    }
}

#[test]
fn the_last_frames_come_back_one_by_one() {
    let host = Host::new(100);
    let mut user = take_all(&host, AllocFor::User);
    for _ in 0..5 {
        host.uvm.free_frame(user.pop().unwrap());
        let again = host
            .uvm
            .alloc_frame(AllocFor::User, Zero::No)
            .expect("the frame just freed");
        assert_eq!(host.uvm.alloc_frame(AllocFor::User, Zero::No), None);
        user.push(again);
    }
}

#[test]
fn few_allocations_take_the_global_lock() {
    let host = Host::new(1000);
    for _ in 0..1000 {
        let a = host.uvm.alloc_frame(AllocFor::User, Zero::No).unwrap();
        let b = host.uvm.alloc_frame(AllocFor::User, Zero::No).unwrap();
        host.uvm.free_frame(a);
        host.uvm.free_frame(b);
    }
    assert!(host.uvm.meter().get(Counter::FreelistLocks) < 5);
    let frames: Vec<_> = (0..800)
        .map(|_| host.uvm.alloc_frame(AllocFor::User, Zero::No).unwrap())
        .collect();
    assert!(host.uvm.meter().get(Counter::FreelistLocks) < 5 + 800 / 16 + 1);
    frames.iter().for_each(|&f| host.uvm.free_frame(f));
}

#[test]
fn forgotten_zeroes_are_written_again() {
    let host = Host::new(256);
    while host.uvm.zero_one() {}
    // Some zeroed ones in the magazine.
    let frame = host.uvm.alloc_frame(AllocFor::User, Zero::Yes).unwrap();
    host.uvm.free_frame(frame);
    let before = host.uvm.free_counts();
    assert!(before.zeroed > 100);
    assert_eq!(host.uvm.forget_zeroed(100), 100);
    assert_eq!(host.uvm.forget_zeroed(usize::MAX), before.zeroed - 100);
    let after = host.uvm.free_counts();
    assert_eq!((after.zeroed, after.total()), (0, before.total()));
    let frame = host.uvm.alloc_frame(AllocFor::User, Zero::Yes).unwrap();
    assert_eq!(host.uvm.meter().get(Counter::Pgzeromiss), 1);
    host.uvm.free_frame(frame);
    assert!(host.uvm.zero_one(), "they can be zeroed once more");
}

#[test]
fn zeroed_means_zeroed() {
    let host = Host::new(256);
    let mut byte = [1; 2];
    let frame = host.uvm.alloc_frame(AllocFor::User, Zero::No).unwrap();
    host.uvm.bytes(frame).read(0, &mut byte);
    assert_eq!(byte, [GARBAGE; 2], "RAM is not zero by luck");
    host.uvm.free_frame(frame);
    // Late, then ahead of need.
    let frame = host.uvm.alloc_frame(AllocFor::User, Zero::Yes).unwrap();
    host.uvm.bytes(frame).read(4094, &mut byte);
    assert_eq!(byte, [0; 2]);
    assert_eq!(host.uvm.meter().get(Counter::Pgzeromiss), 1);
    let mut zeroed = 0;
    while host.uvm.zero_one() {
        zeroed += 1;
    }
    assert_eq!(host.uvm.free_counts().zeroed, zeroed);
    assert!(zeroed > 100);
    for _ in 0..50 {
        let frame = host.uvm.alloc_frame(AllocFor::User, Zero::Yes).unwrap();
        assert!(host.uvm.page(frame).has(PageFlags::ZERO));
        host.uvm.bytes(frame).read(100, &mut byte);
        assert_eq!(byte, [0; 2]);
        host.uvm.bytes(frame).write(100, &[9]);
        host.uvm.free_frame(frame);
    }
    assert_eq!(host.uvm.meter().get(Counter::Pgzeromiss), 1);
    // What was freed is dirty again.
    let frame = host.uvm.alloc_frame(AllocFor::User, Zero::No).unwrap();
    assert!(!host.uvm.page(frame).has(PageFlags::ZERO));
}

#[test]
fn contiguous_frames_are_contiguous_and_ours() {
    let host = Host::with(&HostConfig {
        frames: 400,
        hole: 10,
        ..HostConfig::default()
    });
    let before = host.uvm.free_frames();
    let first = host.uvm.alloc_contiguous(150).unwrap();
    assert_eq!(host.uvm.free_frames(), before - 150);
    for i in 0..150 {
        assert_eq!(host.uvm.page(first.offset(i)).flags(), PageFlags::KERNEL);
    }
    assert_eq!(
        host.uvm.alloc_contiguous(200),
        None,
        "no range is that long"
    );
    // SAFETY: allocated so above, and not used.
    unsafe { host.uvm.free_contiguous(first, 150) };
    assert_eq!(host.uvm.free_frames(), before);
}

#[test]
#[should_panic(expected = "freed in state")]
fn a_frame_is_freed_once() {
    let host = Host::new(256);
    let frame = host.uvm.alloc_frame(AllocFor::User, Zero::No).unwrap();
    host.uvm.free_frame(frame);
    host.uvm.free_frame(frame);
}

#[test]
#[should_panic(expected = "holds no data")]
fn kernel_frames_are_not_data() {
    let host = Host::new(256);
    let frame = host.uvm.alloc_contiguous(1).unwrap();
    host.uvm.bytes(frame).zero();
}

#[test]
fn every_free_frame_is_listed_once() {
    let host = Host::new(256);
    let held = host.uvm.alloc_frame(AllocFor::User, Zero::No).unwrap();
    let mut seen = BTreeSet::new();
    host.uvm.for_each_free(|f| {
        assert!(seen.insert(f) && host.uvm.page(f).has(PageFlags::FREE));
        core::ops::ControlFlow::Continue(())
    });
    assert_eq!(seen.len(), host.uvm.pages().managed() - 1);
    assert!(!seen.contains(&held));
}

#[test]
fn cpus_allocate_and_free_at_once() {
    let host = Host::with(&HostConfig {
        frames: 200,
        cpus: 4,
        ..HostConfig::default()
    });
    let managed = host.uvm.pages().managed();
    std::thread::scope(|scope| {
        for cpu in 0..4 {
            let uvm = &host.uvm;
            scope.spawn(move || {
                on_cpu(cpu);
                let mut held = Vec::new();
                for i in 0..30_000_usize {
                    // In turn more than there is and nothing.
                    if i / 100 % 2 == 0 {
                        held.extend(uvm.alloc_frame(AllocFor::User, Zero::No));
                    } else if let Some(frame) = held.pop() {
                        uvm.free_frame(frame);
                    }
                }
                held.into_iter().for_each(|f| uvm.free_frame(f));
            });
        }
    });
    assert_eq!(host.uvm.free_frames(), managed);
}

/// A machine of so many frames under a driver.
fn driven(frames: usize) -> (Driver, Host) {
    let driver = Driver::new();
    let config = HostConfig {
        frames,
        ..HostConfig::default()
    };
    let host = Host::with_executor(&config, driver.executor().clone());
    (driver, host)
}

#[test]
fn waiters_are_served_in_order_of_arrival() {
    let (driver, host) = driven(100);
    let mut hogged = take_all(&host, AllocFor::User);
    let served = Arc::new(Mutex::new(Vec::new()));
    let tasks: Vec<_> = (0..4)
        .map(|i| {
            let (uvm, served) = (host.uvm.clone(), served.clone());
            driver.executor().spawn(Class::User, "waiter", async move {
                loop {
                    if let Some(frame) = uvm.alloc_frame(AllocFor::User, Zero::No) {
                        served.lock().unwrap().push(i);
                        return frame;
                    }
                    uvm.wait_for_free(1).await;
                }
            })
        })
        .collect();
    driver.run_ready();
    assert!(host.uvm.has_free_waiters() && served.lock().unwrap().is_empty());
    host.uvm.free_frame(hogged.pop().unwrap());
    driver.run_ready();
    assert_eq!(*served.lock().unwrap(), [0]);
    // Several at once: nobody is left waiting while there are frames.
    hogged.drain(..3).for_each(|f| host.uvm.free_frame(f));
    driver.run_ready();
    assert_eq!(*served.lock().unwrap(), [0, 1, 2, 3]);
    assert!(!host.uvm.has_free_waiters());
    for task in tasks {
        hogged.push(driver.run_until(task));
    }
    hogged.into_iter().for_each(|f| host.uvm.free_frame(f));
}

#[test]
fn the_pagedaemon_hears_of_shortage_and_of_waiters() {
    let (driver, host) = driven(300);
    let uvm = host.uvm.clone();
    let target = uvm.meter().gauge(Gauge::Freetarg) as usize;
    let woken = Arc::new(AtomicUsize::new(0));
    let seen = woken.clone();
    driver
        .executor()
        .spawn(Class::Daemon, "pagedaemon", async move {
            loop {
                let short = || uvm.free_frames() < target || uvm.has_free_waiters();
                uvm.wait_pressure(short).await;
                seen.fetch_add(1, Relaxed);
                // It frees nothing: one look a turn is enough here.
                executor::yield_now().await;
                if seen.load(Relaxed) > 3 {
                    return;
                }
            }
        });
    driver.run_ready();
    assert_eq!(woken.load(Relaxed), 0);
    let hogged = take_all(&host, AllocFor::User);
    driver.run_ready();
    assert!(woken.load(Relaxed) > 0);
    hogged.into_iter().for_each(|f| host.uvm.free_frame(f));
}

#[test]
fn the_zeroing_task_works_when_idle_and_sleeps_when_done() {
    let (driver, host) = driven(256);
    let uvm = host.uvm.clone();
    driver.executor().spawn(
        Class::Idle,
        "zero",
        async move { uvm.zero_idle_task().await },
    );
    driver.run_ready();
    let counts = host.uvm.free_counts();
    assert_eq!(counts.dirty, KEEP_DIRTY);
    // Used and freed again, they are zeroed again.
    let frames: Vec<_> = (0..100)
        .map(|_| host.uvm.alloc_frame(AllocFor::User, Zero::Yes).unwrap())
        .collect();
    assert_eq!(host.uvm.meter().get(Counter::Pgzeromiss), 0);
    frames.into_iter().for_each(|f| host.uvm.free_frame(f));
    driver.run_ready();
    assert!(host.uvm.free_counts().dirty <= KEEP_DIRTY + MAGAZINE);
}

/// With no zeroed frame anywhere, who wants zeroes is served from the magazine all the same.
#[test]
fn wanting_zeroes_where_there_are_none_takes_a_batch_at_a_time() {
    let host = Host::new(1000);
    let before = host.uvm.meter().get(Counter::FreelistLocks);
    for _ in 0..4 * BATCH {
        let frame = host.uvm.alloc_frame(AllocFor::User, Zero::Yes).unwrap();
        assert!(host.uvm.page(frame).has(PageFlags::ZERO));
    }
    let locks = host.uvm.meter().get(Counter::FreelistLocks) - before;
    assert!(locks <= 5, "{locks} locks for {} frames", 4 * BATCH);
    // A zeroed frame that turns up is taken again.
    assert!(host.uvm.zero_one());
    let zeroed = host.uvm.free_counts().zeroed;
    host.uvm.alloc_frame(AllocFor::User, Zero::Yes).unwrap();
    assert_eq!(host.uvm.free_counts().zeroed, zeroed - 1);
}
