use std::panic::{AssertUnwindSafe, catch_unwind};
use std::string::String;

use super::*;

/// What `f` panics with.
fn panic_of(f: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("a panic");
    payload.downcast_ref::<String>().expect("a text").clone()
}

fn amap() -> SpinLock<u32, AMAP> {
    SpinLock::new(0)
}

fn object() -> SpinLock<u32, OBJECT> {
    SpinLock::new(0)
}

#[test]
fn in_order_and_released_in_any_order() {
    let (a, o) = (amap(), object());
    let (first, second) = (a.lock(), o.lock());
    drop(first);
    // The object's is still held: an anon's may come, an amap's may not.
    drop(SpinLock::<u32, ANON>::new(0).lock());
    assert_eq!(
        panic_of(|| drop(a.lock())),
        "order of locks: amap wanted while object is held"
    );
    drop(second);
    drop(a.lock());
    assert_none_held("a test");
}

#[test]
fn never_two_of_one_level_but_for_a_new_one() {
    let (a, b, o) = (amap(), amap(), object());
    let held = a.lock();
    assert_eq!(
        panic_of(|| drop(b.lock())),
        "order of locks: amap wanted while amap is held"
    );
    let new = b.lock_unshared();
    drop(held);
    // The new one counts for itself.
    assert!(panic_of(|| drop(a.lock())).starts_with("order of locks"));
    drop(new);
    let later = o.lock();
    assert_eq!(
        panic_of(|| drop(b.lock_unshared())),
        "order of locks: amap wanted while object is held"
    );
    drop(later);
}

#[test]
fn readers_count() {
    let map: SpinRwLock<u32, MAP> = SpinRwLock::new(0);
    let reader = map.read();
    assert_eq!(
        panic_of(|| drop(map.read())),
        "order of locks: map wanted while map is held"
    );
    drop(reader);
    let writer = map.write();
    assert!(panic_of(|| drop(map.read())).starts_with("order of locks"));
    drop(writer);
}

#[test]
fn trying_may_go_against_the_order_and_counts() {
    let (a, o) = (amap(), object());
    let held = o.lock();
    let tried = a.try_lock().expect("it is free");
    assert!(a.try_lock().is_none());
    drop(held);
    assert_eq!(
        panic_of(|| drop(amap().lock())),
        "order of locks: amap wanted while amap is held"
    );
    drop(o.lock());
    drop(tried);
    assert_none_held("a test");
}

#[test]
fn nothing_is_held_where_something_awaits() {
    let o = object();
    let held = o.lock();
    assert_none_from(ANON, "something");
    assert_eq!(
        panic_of(|| assert_none_held("waiting")),
        "waiting with object locked"
    );
    assert_eq!(
        panic_of(|| assert_none_from(OBJECT, "flushing")),
        "flushing with object locked"
    );
    drop(held);
    assert_none_held("waiting");
}

#[test]
fn a_panic_lets_go() {
    let a = amap();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _held = a.lock();
        panic!("with a lock");
    }));
    assert!(panicked.is_err());
    assert_none_held("a test");
}
