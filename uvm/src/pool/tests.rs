//! Pools and counted references.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::vec::Vec;

use super::*;
use crate::page::freelist::Zero;
use crate::testing::{Host, HostConfig, on_cpu};

struct Noted<'a>(u64, &'a AtomicUsize);

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        self.1.fetch_add(1, Relaxed);
    }
}

struct Thing {
    count: RefCount,
    finalized: &'static AtomicUsize,
}

// SAFETY: `count` is a field that only `Ref` changes.
unsafe impl Counted for Thing {
    fn count(&self) -> &RefCount {
        &self.count
    }
    fn finalize(&mut self, uvm: &Uvm) {
        assert!(uvm.free_frames() > 0);
        self.finalized.fetch_add(1, Relaxed);
    }
}

#[test]
fn objects_are_dropped_and_pages_given_back() {
    let host = Host::new(256);
    let before = host.uvm.free_frames();
    let dropped = AtomicUsize::new(0);
    let pool = Pool::<Noted<'_>>::new("noted", 1);
    let boxes: Vec<_> = (0..1000)
        .map(|i| pool.alloc(&host.uvm, Noted(i, &dropped)).unwrap())
        .collect();
    assert!(boxes.iter().enumerate().all(|(i, b)| (**b).0 == i as u64));
    assert_eq!(pool.in_use(), 1000);
    let pages = pool.pages();
    assert!(pages <= 1000 * 16 / 4032 + 1);
    drop(boxes);
    assert_eq!((dropped.load(Relaxed), pool.in_use()), (1000, 0));
    assert!(pool.pages() <= 2, "empty slabs go back at once");
    assert!(pool.reclaim(&host.uvm) > 0);
    assert_eq!((pool.pages(), host.uvm.free_frames()), (0, before));
}

#[test]
fn exhaustion_is_an_error_and_drops_the_value() {
    let host = Host::new(64);
    let dropped = AtomicUsize::new(0);
    let pool = Pool::<Noted<'_>>::new("noted", 1);
    let _hog: Vec<_> =
        core::iter::from_fn(|| host.uvm.alloc_frame(AllocFor::User, Zero::No)).collect();
    let failed = pool.alloc(&host.uvm, Noted(1, &dropped));
    assert_eq!(failed.map(|_| ()).unwrap_err(), OutOfMemory);
    assert_eq!(dropped.load(Relaxed), 1);
    // The kernel still gets some.
    drop(
        pool.alloc_for(&host.uvm, AllocFor::Kernel, Noted(1, &dropped))
            .unwrap(),
    );
}

#[test]
fn the_last_reference_finalizes() {
    static FINALIZED: AtomicUsize = AtomicUsize::new(0);
    let host = Host::new(256);
    let pool = Pool::new("things", 1);
    let first = Ref::new(
        &pool,
        &host.uvm,
        Thing {
            count: RefCount::new(),
            finalized: &FINALIZED,
        },
    )
    .unwrap();
    let second = first.clone();
    assert_eq!(Ref::count(&first), 2);
    let raw = Ref::into_raw(first);
    // SAFETY: it is alive.
    let third = unsafe { Ref::try_from_ptr(raw) }.unwrap();
    drop(second);
    drop(third);
    assert_eq!(FINALIZED.load(Relaxed), 0);
    // SAFETY: from `into_raw` above.
    drop(unsafe { Ref::from_raw(raw) });
    assert_eq!((FINALIZED.load(Relaxed), pool.in_use()), (1, 0));
}

#[test]
#[should_panic(expected = "dropped with objects in use")]
fn a_pool_outlives_its_objects() {
    let host = Host::new(256);
    let pool = Pool::new("numbers", 1);
    core::mem::forget(pool.alloc(&host.uvm, 1_u64));
    drop(pool);
}

#[test]
fn cpus_share_a_pool() {
    let host = Host::with(&HostConfig {
        cpus: 3,
        ..HostConfig::default()
    });
    let pool = Pool::<[u64; 9]>::new("arrays", 3);
    std::thread::scope(|scope| {
        for cpu in 0..3 {
            let (pool, uvm) = (&pool, &host.uvm);
            scope.spawn(move || {
                on_cpu(cpu);
                let mut held = Vec::new();
                for i in 0..20_000_u64 {
                    if i / 64 % 2 == 0 {
                        held.push((i, pool.alloc(uvm, [i; 9]).unwrap()));
                    } else if let Some((i, object)) = held.pop() {
                        assert_eq!(*object, [i; 9]);
                    }
                }
            });
        }
    });
    assert_eq!(pool.in_use(), 0);
    pool.reclaim(&host.uvm);
    assert_eq!(pool.pages(), 0);
}
