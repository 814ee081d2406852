use crate::testing::Driver;
use crate::{Class, Elapsed};
use core::time::Duration;
use std::sync::{Arc, Mutex};
use std::vec;
use std::vec::Vec;

const MS: Duration = Duration::from_millis(1);

#[test]
fn sleepers_wake_in_the_order_of_their_deadlines() {
    let driver = Driver::new();
    let log = Arc::new(Mutex::new(Vec::new()));
    for ms in [30, 10, 20, 10] {
        let (executor, log) = (driver.executor().clone(), log.clone());
        driver.executor().spawn(Class::User, "sleeper", async move {
            executor.sleep(ms * MS).await;
            log.lock().unwrap().push((ms, executor.now()));
        });
    }
    driver.run_until_stalled();
    let seen = log.lock().unwrap().clone();
    assert_eq!(
        seen,
        vec![
            (10, 10_000_000),
            (10, 10_000_000),
            (20, 20_000_000),
            (30, 30_000_000)
        ]
    );
}

#[test]
fn a_thousand_sleepers_all_wake() {
    let driver = Driver::seeded(3);
    let mut handles = Vec::new();
    for i in 0..1000_u64 {
        let executor = driver.executor().clone();
        handles.push(driver.executor().spawn(Class::User, "sleeper", async move {
            executor.sleep(Duration::from_nanos(i * 7919 % 1000)).await;
        }));
    }
    driver.run_until_stalled();
    assert!(handles.iter().all(|handle| handle.is_finished()));
}

#[test]
fn a_dropped_sleep_leaves_nothing_behind() {
    let driver = Driver::new();
    let executor = driver.executor().clone();
    let result = driver.run_until(async move {
        let slow = executor.sleep(100 * MS);
        let result = executor.timeout(5 * MS, slow).await;
        (result, executor.now())
    });
    assert_eq!(result, (Err(Elapsed), 5_000_000));
    driver.run_until_stalled();
    assert_eq!(
        driver.clock().now(),
        5_000_000,
        "the dropped deadline is still armed"
    );
}
