//! Counts of the u-area cache, and its slots of addresses.

use std::vec::Vec;

use super::*;
use crate::testing::{Host, HostConfig, KVA};

/// A machine whose u-areas have addresses of their own.
fn mapped() -> Host {
    Host::with(&HostConfig {
        frames: 512,
        kva_pages: 64,
        ..HostConfig::default()
    })
}

/// UVM.md, row 5: what comes from the cache is wired already.
#[test]
fn row_05_a_recycled_uarea_is_a_hit_and_takes_no_frame() {
    let host = Host::new(512);
    let (uarea, source) = host.uvm.uarea_alloc().unwrap();
    assert_eq!(source, Source::Fresh);
    // SAFETY: it is ours.
    unsafe { uarea.base().write_bytes(0xff, UAREA_SIZE) };
    let base = uarea.base();
    host.uvm.uarea_free(uarea);
    let frames = host.uvm.meter().get(Counter::Pgalloc);
    let (uarea, source) = host.uvm.uarea_alloc().unwrap();
    assert_eq!((source, uarea.base()), (Source::Cached, base));
    assert_eq!(host.uvm.meter().get(Counter::Pgalloc), frames);
    host.uvm.uarea_free(uarea);
    let count = |c| host.uvm.meter().get(c);
    assert_eq!(
        (count(Counter::UareaFresh), count(Counter::UareaHits)),
        (1, 1)
    );
}

#[test]
fn drain_releases_the_excess() {
    let host = Host::new(512);
    let before = host.uvm.free_frames();
    let uareas: Vec<_> = (0..40).map(|_| host.uvm.uarea_alloc().unwrap().0).collect();
    uareas.into_iter().for_each(|u| host.uvm.uarea_free(u));
    assert_eq!(host.uvm.uarea_cached(), 40);
    while host.uvm.release_one(UAREA_KEEP) {}
    assert_eq!(host.uvm.uarea_cached(), UAREA_KEEP);
    assert_eq!(host.uvm.meter().get(Counter::UareaDrained), 24);
    while host.uvm.release_one(0) {}
    assert_eq!(host.uvm.free_frames(), before);
}

#[test]
fn no_memory_is_an_error() {
    let host = Host::new(64);
    let _hog: Vec<_> =
        core::iter::from_fn(|| host.uvm.alloc_frame(AllocFor::User, Zero::No)).collect();
    assert_eq!(host.uvm.uarea_alloc().map(|_| ()), Err(OutOfMemory));
}

#[test]
fn slots_keep_a_guard_page_between() {
    let kva = VaRange::of_pages(KVA, 20);
    let slots = (0..6).map(|i| slot_range(kva, i));
    for (i, slot) in slots.clone().enumerate() {
        assert_eq!((slot.start() - kva.start()) as usize / PAGE_SIZE, 3 * i + 1);
        assert!(slot.end() < kva.end());
    }
    // Slots 0 to 5 fit; the next would have no guard page behind it.
    let state = Uareas::new(Some(kva), 512).state;
    let taken: Vec<_> = core::iter::from_fn(|| state.lock().take_slot()).collect();
    assert_eq!(taken, [0, 1, 2, 3, 4, 5]);
    state.lock().free_slot(3);
    assert_eq!(state.lock().take_slot(), Some(3));
}

#[test]
fn mapped_u_areas_map_and_unmap() {
    let host = mapped();
    let uvm = &host.uvm;
    // The first brings the tables.
    let (uarea, _) = uvm.uarea_alloc().unwrap();
    uvm.unmake(uarea);
    let before = uvm.free_frames();
    let (uarea, _) = uvm.uarea_alloc().unwrap();
    let base = VirtAddr::from_ptr(uarea.base().as_ptr());
    for page in 0..UAREA_PAGES as u64 {
        assert!(uvm.kextract(base + page * 4096).is_some());
    }
    assert!(
        uvm.kextract(base - 4096).is_none() && uvm.kextract(base + UAREA_SIZE as u64).is_none()
    );
    host.machine
        .translate(base, crate::prot::Access::Write, false)
        .unwrap();
    uvm.unmake(uarea);
    assert!(
        host.machine
            .translate(base, crate::prot::Access::Write, false)
            .is_err()
    );
    assert_eq!(uvm.free_frames(), before);
}

#[test]
fn drain_awaits_only_to_let_others_run() {
    let driver = executor::testing::Driver::new();
    let config = crate::testing::HostConfig::default();
    let host = Host::with_executor(&config, driver.executor().clone());
    let uareas: Vec<_> = (0..20).map(|_| host.uvm.uarea_alloc().unwrap().0).collect();
    uareas.into_iter().for_each(|u| host.uvm.uarea_free(u));
    let uvm = host.uvm.clone();
    driver.run_until(async move { uvm.uarea_drain(UAREA_KEEP).await });
    assert_eq!(host.uvm.uarea_cached(), UAREA_KEEP);
}

/// u-areas made and put back, so that they are all in the cache.
fn cache(host: &Host, count: usize) {
    let uareas: Vec<_> = (0..count)
        .map(|_| host.uvm.uarea_alloc().unwrap().0)
        .collect();
    uareas.into_iter().for_each(|u| host.uvm.uarea_free(u));
}

#[test]
fn a_setting_says_how_many_are_kept_and_none_turns_the_cache_off() {
    let driver = executor::testing::Driver::new();
    let config = crate::testing::HostConfig::default();
    let host = Host::with_executor(&config, driver.executor().clone());
    let drain = || {
        let uvm = host.uvm.clone();
        driver.run_until(async move { uvm.uarea_drain_excess().await });
        host.uvm.uarea_cached()
    };
    cache(&host, 40);
    assert_eq!(drain(), UAREA_KEEP);
    host.uvm.set_setting(Setting::Uareakeep, 3).unwrap();
    assert_eq!(drain(), 3);
    host.uvm.set_setting(Setting::Uareakeep, 0).unwrap();
    // Nobody has released them yet, and nobody gets one.
    let (uarea, source) = host.uvm.uarea_alloc().unwrap();
    assert_eq!((source, host.uvm.uarea_cached()), (Source::Fresh, 3));
    host.uvm.uarea_free(uarea);
    assert_eq!((host.uvm.uarea_cached(), drain()), (4, 0));
}

/// UVM.md, row 6.
#[test]
fn row_06_the_machine_is_told_of_newly_wired_uareas_alone() {
    let host = Host::new(512);
    let first: Vec<_> = (0..5).map(|_| host.uvm.uarea_alloc().unwrap().0).collect();
    let range =
        |uarea: &Uarea| VaRange::of_pages(VirtAddr::from_ptr(uarea.base().as_ptr()), UAREA_PAGES);
    let made: Vec<_> = first.iter().map(range).collect();
    assert_eq!(host.machine.uareas_wired(), made);
    // From the cache: not told again.
    first.into_iter().for_each(|u| host.uvm.uarea_free(u));
    cache(&host, 5);
    assert_eq!(host.machine.uareas_wired(), made);
    // Released and made once more: told.
    while host.uvm.release_one(2) {}
    cache(&host, 5);
    let told = host.machine.uareas_wired().len() as u64;
    assert_eq!(told, 8);
    assert_eq!(host.uvm.meter().get(Counter::UareaFresh), told);
    // No memory for one: nothing to tell.
    let hog = || host.uvm.alloc_frame(AllocFor::User, Zero::No);
    let _hog: Vec<_> = core::iter::from_fn(hog).collect();
    while host.uvm.uarea_alloc().is_ok() {}
    assert_eq!(host.machine.uareas_wired().len() as u64, told);
}

/// UVM.md, row 21.
#[test]
fn row_21_kernel_wired_memory_has_no_object() {
    let host = mapped();
    let uvm = &host.uvm;
    let (uarea, _) = uvm.uarea_alloc().unwrap();
    let base = VirtAddr::from_ptr(uarea.base().as_ptr());
    let queued = uvm.queue_counts();
    for page in 0..UAREA_PAGES as u64 {
        // The mapping is what leads to the page ...
        let mapping = uvm.kextract(base + page * 4096).expect("mapped");
        assert!(mapping.wired);
        // ... which has no owner, and so nobody by way of whom it could be evicted.
        let kernel = uvm.page(mapping.frame);
        assert_eq!(kernel.owner_kind(), crate::page::OwnerKind::None);
        assert!(kernel.has(crate::PageFlags::KERNEL) && uvm.queue_of(mapping.frame).is_none());
        assert!(!uvm.is_mapped(mapping.frame), "no reverse map");
    }
    assert_eq!(uvm.queue_counts(), queued);
    assert_eq!(uvm.meter().gauge(crate::meter::Gauge::Anonpages), 0);
    assert_eq!(uvm.upper.objects.in_use(), 0, "no kernel object at all");
    uvm.unmake(uarea);
    // Elsewhere it is the direct map that leads there.
    let host = Host::new(512);
    let uvm = &host.uvm;
    let (uarea, _) = uvm.uarea_alloc().unwrap();
    let frame = uvm.phys().frame_of(uarea.base().as_ptr());
    assert!(uvm.page(frame).has(crate::PageFlags::KERNEL));
    for frame in uvm.pages().frames() {
        let kind = uvm.page(frame).owner_kind();
        assert_ne!(kind, crate::page::OwnerKind::Object, "{frame:?}");
    }
    uvm.uarea_free(uarea);
}
