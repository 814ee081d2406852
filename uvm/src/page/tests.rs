//! Busy pages, owners, and the arrays.

use core::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::vec::Vec;

use executor::Class;
use executor::testing::Driver;

use super::*;
use crate::addr::Frame;
use crate::page::freelist::{AllocFor, Zero};
use crate::testing::{Host, HostConfig};

#[test]
fn all_who_wait_for_a_busy_page_are_woken() {
    let driver = Driver::new();
    let host = Host::with_executor(&HostConfig::default(), driver.executor().clone());
    let frame = host.uvm.alloc_frame(AllocFor::User, Zero::No).unwrap();
    let other = host.uvm.alloc_frame(AllocFor::User, Zero::No).unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    for (i, frame) in [frame, frame, other, frame].into_iter().enumerate() {
        let (uvm, order) = (host.uvm.clone(), order.clone());
        driver.executor().spawn(Class::User, "waiter", async move {
            uvm.pages().busy_wait(frame).await;
            order.lock().unwrap().push(i);
        });
    }
    driver.run_ready();
    assert!(order.lock().unwrap().is_empty());
    assert!(host.uvm.page(frame).has(PageFlags::WANTED));
    host.uvm.unbusy(frame);
    assert!(
        !host
            .uvm
            .page(frame)
            .flags()
            .intersects(PageFlags::BUSY | PageFlags::WANTED)
    );
    driver.run_ready();
    assert_eq!(*order.lock().unwrap(), [0, 1, 3]);
    // Freed while it is waited for: that ends the wait as well.
    host.uvm.free_frame(other);
    driver.run_ready();
    assert_eq!(*order.lock().unwrap(), [0, 1, 3, 2]);
    // No wait at all.
    let uvm = host.uvm.clone();
    driver.run_until(async move { uvm.pages().busy_wait(frame).await });
}

#[test]
fn busy_has_one_owner() {
    let host = Host::new(64);
    let frame = host.uvm.alloc_frame(AllocFor::User, Zero::No).unwrap();
    let page = host.uvm.page(frame);
    assert!(!page.try_busy());
    host.uvm.unbusy_with(frame, PageFlags::ANON);
    assert_eq!(page.flags(), PageFlags::ANON);
    assert!(page.try_busy());
    host.uvm.unbusy(frame);
    page.set_busy();
}

#[repr(align(8))]
struct Thing(AtomicUsize);

// SAFETY: no other type of these tests has the kind; the things outlive the pages' ownership.
unsafe impl PageOwner for Thing {
    const KIND: OwnerKind = OwnerKind::Object;
    type Handle = usize;
    unsafe fn try_handle(owner: NonNull<Self>) -> Option<usize> {
        // SAFETY: valid during the call.
        let count = unsafe { owner.as_ref() }.0.load(Relaxed);
        (count != 0).then_some(count)
    }
}

#[repr(align(8))]
struct Another;

// SAFETY: as for `Thing`.
unsafe impl PageOwner for Another {
    const KIND: OwnerKind = OwnerKind::Anon;
    type Handle = ();
    unsafe fn try_handle(_: NonNull<Self>) -> Option<()> {
        Some(())
    }
}

#[test]
fn owners_are_told_apart_and_may_be_dying() {
    let host = Host::new(64);
    let frame = host.uvm.alloc_frame(AllocFor::User, Zero::No).unwrap();
    let page = host.uvm.page(frame);
    assert_eq!(page.owner_kind(), OwnerKind::None);
    let thing = Thing(AtomicUsize::new(3));
    let address = NonNull::from(&thing);
    // SAFETY: cleared below, before `thing` goes.
    unsafe { page.set_owner(address, PageIndex(7)) };
    assert!(page.is_owned_by(address, PageIndex(7)) && !page.is_owned_by(address, PageIndex(8)));
    assert_eq!(
        (page.owner_kind(), page.index()),
        (OwnerKind::Object, PageIndex(7))
    );
    assert_eq!(page.owner_ref::<Thing>(), Some(3));
    assert_eq!(page.owner_ref::<Another>(), None);
    thing.0.store(0, Relaxed);
    assert_eq!(page.owner_ref::<Thing>(), None, "dying");
    // SAFETY: as above.
    unsafe { page.change_owner(NonNull::from(&Another), PageIndex(0)) };
    assert_eq!(
        (page.owner_ref::<Thing>(), page.owner_ref::<Another>()),
        (None, Some(()))
    );
    page.clear_owner();
    host.uvm.free_frame(frame);
}

#[test]
fn holes_and_devices_have_no_page() {
    let host = Host::with(&HostConfig {
        frames: 200,
        hole: 50,
        ..HostConfig::default()
    });
    let pages = host.uvm.pages();
    let frames: Vec<_> = pages.frames().collect();
    assert_eq!(frames.len(), pages.managed());
    assert!(frames.len() > 190 && frames.len() < 200);
    assert!(frames.iter().all(|&f| pages.get(f).is_some()));
    let managed = |n: u32| frames.contains(&Frame::new(n));
    assert!((0..300).all(|n| pages.get(Frame::new(n)).is_some() == managed(n)));
    assert!(pages.get(Frame::new(u32::MAX)).is_none());
}
