//! u-areas that go out and come in, on disks that are good, bad, slow and full.

use alloc::sync::Arc;
use core::time::Duration;
use std::vec::Vec;

use executor::Class;

use super::*;
use crate::addr::{PAGE_SIZE, VirtAddr};
use crate::meter::{Counter, Gauge};
use crate::page::freelist::{AllocFor, Zero};
use crate::sim::World;
use crate::sim::disk::{Mode, SimDisk};
use crate::swap::SwapError;
use crate::testing::{HostConfig, on_cpu};
use crate::uarea::{Source, UAREA_SIZE, Uareas};

/// A machine of two CPUs and `frames` frames whose u-areas have addresses, and a swap disk of `pages` pages.
fn world(frames: usize, pages: u32, mode: Mode) -> (World, Arc<SimDisk>) {
    let world = World::with(
        &HostConfig {
            frames,
            cpus: 2,
            kva_pages: 3 * 512 + 1,
            ..HostConfig::default()
        },
        1,
    );
    let disk = SimDisk::swap(&world.uvm, pages, Mode::AtOnce);
    world.swapon(&disk, "swap", 0);
    disk.set_mode(mode);
    // The first brings the tables of the kernel's addresses.
    let (uarea, _) = world.uvm.uarea_alloc().unwrap();
    world.uvm.uarea_free(uarea);
    (world, disk)
}

fn residence(world: &World) -> Arc<Residence> {
    let (uarea, _) = world.uvm.uarea_alloc().unwrap();
    Residence::new(&world.uvm, uarea, 0, &HeapRoom::at_boot()).unwrap()
}

fn gauge(world: &World, gauge: Gauge) -> u64 {
    world.uvm.meter().gauge(gauge)
}

fn count(world: &World, counter: Counter) -> u64 {
    world.uvm.meter().get(counter)
}

fn va(residence: &Residence, at: usize) -> VirtAddr {
    VirtAddr::from_ptr(residence.base().as_ptr()) + at as u64
}

/// Stores other bytes in all of a u-area, as its owner does.
fn fill(world: &World, residence: &Residence, seed: u8) {
    for at in 0..UAREA_SIZE {
        let byte = (at as u8).wrapping_mul(31) ^ (at >> 8) as u8 ^ seed;
        let stored = world.machine.store_kernel(va(residence, at), byte);
        assert_eq!(stored, Ok(()));
    }
}

/// Finds what [`fill`] has stored.
fn verify(world: &World, residence: &Residence, seed: u8) {
    for at in 0..UAREA_SIZE {
        let byte = (at as u8).wrapping_mul(31) ^ (at >> 8) as u8 ^ seed;
        let loaded = world.machine.load_kernel(va(residence, at));
        assert_eq!(loaded, Ok(byte), "byte {at}");
    }
}

fn put_out(world: &World, residence: &Arc<Residence>) -> Result<(), StaysIn> {
    let residence = residence.clone();
    world.run(async move { residence.put_out().await })
}

fn bring_in(world: &World, residence: &Arc<Residence>, who: AllocFor) -> Result<(), ComesNot> {
    let residence = residence.clone();
    world.run(async move { residence.bring_in(who).await })
}

/// A put-out that the disk has been told of, and has not ended.
fn begin(world: &World, disk: &SimDisk, residence: &Arc<Residence>) {
    residence.rest();
    assert_eq!(residence.send_out(), Ok(()));
    world.driver.run_until_stalled();
    assert_eq!(disk.pending(), 1);
    assert_eq!(gauge(world, Gauge::Swpginuse), 2);
    world.check();
}

/// Nothing is left of any of them.
fn end(world: &World, residences: impl IntoIterator<Item = Arc<Residence>>) {
    drop(residences.into_iter().collect::<Vec<_>>());
    world.driver.run_until_stalled();
    for which in [
        Gauge::Swpginuse,
        Gauge::Swpgonly,
        Gauge::UareasOut,
        Gauge::Paging,
        Gauge::PagingIn,
    ] {
        assert_eq!(gauge(world, which), 0, "{}", which.name());
    }
    assert_eq!(world.uvm.upper.listed_uareas.in_use(), 0);
    while world.uvm.release_one(0) {}
    let uvm = &world.uvm;
    let none = Uareas::new(uvm.uareas.kva, uvm.pages().managed());
    let (used, free) = (uvm.uareas.state.lock(), none.state.into_inner());
    assert_eq!(used.slots, free.slots, "slots of addresses");
    drop(used);
    world.check_quiet();
}

/// UVM.md, row 27.
#[test]
fn row_27_a_u_area_goes_out_and_comes_back_byte_for_byte() {
    for mode in [
        Mode::AtOnce,
        Mode::After(Duration::from_micros(300)),
        Mode::Chance {
            seed: 3,
            failing: 0,
        },
    ] {
        let (world, _disk) = world(512, 100, mode);
        let residence = residence(&world);
        fill(&world, &residence, 7);
        // Both CPUs know where it is.
        on_cpu(1);
        verify(&world, &residence, 7);
        on_cpu(0);
        for round in 0..3 {
            residence.rest();
            let free = world.uvm.free_frames();
            assert_eq!(put_out(&world, &residence), Ok(()));
            assert_eq!(world.uvm.free_frames(), free + UAREA_PAGES);
            assert!(!residence.is_in());
            assert_eq!(residence.claim(), Err(NotIn));
            assert_eq!(gauge(&world, Gauge::UareasOut), 1);
            assert_eq!(gauge(&world, Gauge::Swpgonly), 2);
            assert_eq!(gauge(&world, Gauge::Swpginuse), 2);
            world.check_quiet();
            for cpu in [1, 0] {
                on_cpu(cpu);
                for page in 0..UAREA_PAGES {
                    let at = va(&residence, page * PAGE_SIZE);
                    assert!(world.machine.load_kernel(at).is_err(), "CPU {cpu}");
                }
            }
            assert_eq!(bring_in(&world, &residence, AllocFor::User), Ok(()));
            verify(&world, &residence, 7 + round);
            fill(&world, &residence, 8 + round);
            world.check_quiet();
        }
        assert_eq!(count(&world, Counter::UareaPuts), 3);
        assert_eq!(count(&world, Counter::UareaBrings), 3);
        end(&world, [residence]);
    }
}

/// UVM.md, row 27: more LWPs than would fit into memory.
#[test]
fn row_27_more_sleep_than_fit() {
    let (world, _disk) = world(256, 2_000, Mode::After(Duration::from_micros(50)));
    let residences: Vec<_> = (0..220)
        .map(|i| {
            let residence = residence(&world);
            fill(&world, &residence, i as u8);
            residence.rest();
            assert_eq!(put_out(&world, &residence), Ok(()));
            residence
        })
        .collect();
    assert_eq!(gauge(&world, Gauge::UareasOut), 220);
    world.check_quiet();
    for (i, residence) in residences.iter().enumerate() {
        assert_eq!(bring_in(&world, residence, AllocFor::User), Ok(()));
        verify(&world, residence, i as u8);
        residence.rest();
        assert_eq!(put_out(&world, residence), Ok(()));
    }
    end(&world, residences);
}

/// UVM.md, row 5: what went out has nothing wired to save the next one work, what is in memory has.
#[test]
fn row_05_only_what_is_in_memory_is_recycled() {
    let (world, _disk) = world(512, 100, Mode::AtOnce);
    let uvm = &world.uvm;
    while uvm.release_one(0) {}
    let first = residence(&world);
    first.rest();
    assert_eq!(put_out(&world, &first), Ok(()));
    first.free();
    assert_eq!(uvm.uarea_cached(), 0);
    let (uarea, source) = uvm.uarea_alloc().unwrap();
    assert_eq!(source, Source::Fresh);
    let second = Residence::new(uvm, uarea, 0, &HeapRoom::at_boot()).unwrap();
    second.rest();
    assert_eq!(put_out(&world, &second), Ok(()));
    assert_eq!(bring_in(&world, &second, AllocFor::User), Ok(()));
    second.free();
    assert_eq!(uvm.uarea_cached(), 1);
    let (uarea, source) = uvm.uarea_alloc().unwrap();
    assert_eq!((source, uarea.base()), (Source::Cached, second.base()));
    uvm.uarea_free(uarea);
    end(&world, [first, second]);
}

/// UVM.md, row 6: a fresh allocation is what is new; what comes back is not.
#[test]
fn row_06_what_comes_back_is_not_fresh() {
    let (world, _disk) = world(512, 100, Mode::AtOnce);
    let fresh = count(&world, Counter::UareaFresh);
    let residence = residence(&world);
    for _ in 0..3 {
        residence.rest();
        assert_eq!(put_out(&world, &residence), Ok(()));
        assert_eq!(bring_in(&world, &residence, AllocFor::User), Ok(()));
    }
    assert_eq!(count(&world, Counter::UareaFresh), fresh);
    end(&world, [residence]);
}

/// UVM.md, rows 10 and 17.
#[test]
fn row_10_who_wakes_while_it_is_written_goes_on_at_once() {
    let (world, disk) = world(512, 100, Mode::Told);
    let residence = residence(&world);
    fill(&world, &residence, 1);
    begin(&world, &disk, &residence);
    assert_eq!(residence.claim(), Ok(()));
    // It is in use while it is written.
    fill(&world, &residence, 2);
    // No slot is another's under the write.
    assert_eq!(gauge(&world, Gauge::Swpginuse), 2);
    assert_eq!(residence.send_out(), Err(StaysIn::InUse));
    world.check();
    disk.complete(1);
    world.driver.run_until_stalled();
    assert_eq!(gauge(&world, Gauge::Swpginuse), 0);
    verify(&world, &residence, 2);
    assert!(residence.is_in() && !residence.is_idle());
    assert_eq!(count(&world, Counter::UareaStays), 1);
    end(&world, [residence]);
}

/// What was written before it was claimed is old.
#[test]
fn row_10_a_second_sleep_during_one_write_does_not_go_out_with_it() {
    let (world, disk) = world(512, 100, Mode::Told);
    let residence = residence(&world);
    fill(&world, &residence, 1);
    begin(&world, &disk, &residence);
    assert_eq!(residence.claim(), Ok(()));
    fill(&world, &residence, 2);
    residence.rest();
    disk.complete(1);
    world.driver.run_until_stalled();
    assert!(residence.is_idle());
    disk.set_mode(Mode::AtOnce);
    assert_eq!(put_out(&world, &residence), Ok(()));
    assert_eq!(bring_in(&world, &residence, AllocFor::User), Ok(()));
    verify(&world, &residence, 2);
    end(&world, [residence]);
}

/// UVM.md, row 10.
#[test]
fn row_10_what_is_in_use_does_not_go() {
    let (world, disk) = world(512, 100, Mode::AtOnce);
    let residence = residence(&world);
    assert_eq!(put_out(&world, &residence), Err(StaysIn::InUse));
    residence.rest();
    assert_eq!(residence.claim(), Ok(()));
    assert_eq!(put_out(&world, &residence), Err(StaysIn::InUse));
    assert_eq!(disk.writes(), 0);
    // Called back before a worker has begun: nothing is written at all.
    residence.rest();
    assert_eq!(residence.send_out(), Ok(()));
    assert_eq!(residence.claim(), Ok(()));
    world.driver.run_until_stalled();
    assert_eq!(disk.writes(), 0);
    end(&world, [residence]);
}

#[test]
fn what_cannot_be_written_stays() {
    let (world, disk) = world(512, 100, Mode::AtOnce);
    let residence = residence(&world);
    fill(&world, &residence, 9);
    residence.rest();
    let pages = gauge(&world, Gauge::Swpages);
    let all = 100 * PAGE_SIZE as u64;
    disk.spoil(PAGE_SIZE as u64, all);
    assert_eq!(put_out(&world, &residence), Err(StaysIn::Called));
    assert!(residence.is_idle());
    assert_eq!(count(&world, Counter::Pdbadslot), 2);
    assert_eq!(gauge(&world, Gauge::Swpages), pages - 2);
    verify(&world, &residence, 9);
    world.check_quiet();
    // One of two: only that one is bad.
    disk.mend();
    disk.spoil(19 * PAGE_SIZE as u64, 20 * PAGE_SIZE as u64);
    let outcome = put_out(&world, &residence);
    assert_eq!(count(&world, Counter::Pdbadslot), 3, "{outcome:?}");
    assert_eq!(outcome, Err(StaysIn::Called));
    assert_eq!(put_out(&world, &residence), Ok(()));
    assert_eq!(bring_in(&world, &residence, AllocFor::User), Ok(()));
    verify(&world, &residence, 9);
    end(&world, [residence]);
}

#[test]
fn what_cannot_be_read_is_an_error() {
    let (world, disk) = world(512, 100, Mode::AtOnce);
    let residence = residence(&world);
    fill(&world, &residence, 4);
    residence.rest();
    assert_eq!(put_out(&world, &residence), Ok(()));
    let free = world.uvm.free_frames();
    (1..100).for_each(|page| disk.spoil_reads(page));
    let unread = Err(ComesNot::Io(IoError::Device));
    assert_eq!(bring_in(&world, &residence, AllocFor::User), unread);
    assert_eq!(residence.claim(), Err(NotIn));
    assert_eq!(world.uvm.free_frames(), free);
    world.check_quiet();
    // Another time it may be readable; or its owner gives up, and the slot is used no more.
    disk.mend();
    assert_eq!(bring_in(&world, &residence, AllocFor::User), Ok(()));
    verify(&world, &residence, 4);
    assert_eq!(count(&world, Counter::Pdbadslot), 1);
    residence.rest();
    assert_eq!(put_out(&world, &residence), Ok(()));
    (1..100).for_each(|page| disk.spoil_reads(page));
    assert_eq!(bring_in(&world, &residence, AllocFor::User), unread);
    residence.free();
    assert_eq!(
        bring_in(&world, &residence, AllocFor::User),
        Err(ComesNot::Freed)
    );
    assert_eq!(disk.misuse(), None);
    end(&world, [residence]);
}

#[test]
fn who_is_being_killed_comes_in_by_the_reserve() {
    let (world, _disk) = world(512, 100, Mode::AtOnce);
    let uvm = &world.uvm;
    let residence = residence(&world);
    residence.rest();
    assert_eq!(put_out(&world, &residence), Ok(()));
    let hog: Vec<_> = core::iter::from_fn(|| uvm.alloc_frame(AllocFor::User, Zero::No)).collect();
    let none = Err(ComesNot::OutOfMemory);
    assert_eq!(bring_in(&world, &residence, AllocFor::User), none);
    assert!(!residence.is_in());
    assert_eq!(bring_in(&world, &residence, AllocFor::Kernel), Ok(()));
    hog.into_iter().for_each(|frame| uvm.free_frame(frame));
    end(&world, [residence]);
}

#[test]
fn swap_that_is_full_or_in_pieces() {
    let (world, _disk) = world(512, 6, Mode::AtOnce);
    let uvm = &world.uvm;
    let residence = residence(&world);
    fill(&world, &residence, 3);
    residence.rest();
    // Slots 1 to 5, of which every second is free: no two side by side.
    let mut taken: Vec<_> = core::iter::from_fn(|| {
        let (slot, len) = uvm.swap().take_any(uvm)?;
        assert_eq!(len, 1);
        Some(slot)
    })
    .collect();
    assert_eq!(put_out(&world, &residence), Err(StaysIn::NoSwap));
    taken.sort_unstable();
    uvm.swap().free(uvm, taken.remove(0));
    assert_eq!(put_out(&world, &residence), Err(StaysIn::NoSwap));
    assert_eq!(gauge(&world, Gauge::Swpginuse), 4);
    uvm.swap().free(uvm, taken.remove(1));
    assert_eq!(put_out(&world, &residence), Ok(()));
    assert_eq!(bring_in(&world, &residence, AllocFor::User), Ok(()));
    verify(&world, &residence, 3);
    taken
        .into_iter()
        .for_each(|slot| uvm.swap().free(uvm, slot));
    end(&world, [residence]);
}

/// Whatever state it is in when its owner ends.
#[test]
fn nothing_is_left_of_what_is_freed() {
    let (world, disk) = world(512, 100, Mode::Told);
    let held = residence(&world);
    let idle = residence(&world);
    idle.rest();
    let leaving = residence(&world);
    begin(&world, &disk, &leaving);
    leaving.free();
    assert_eq!(leaving.claim(), Err(NotIn));
    // Not before the write has ended.
    assert_eq!(gauge(&world, Gauge::Swpginuse), 2);
    world.check();
    disk.complete(1);
    world.driver.run_until_stalled();
    assert_eq!(gauge(&world, Gauge::Swpginuse), 0);
    let coming = residence(&world);
    begin(&world, &disk, &coming);
    disk.complete(1);
    world.driver.run_until_stalled();
    assert!(!coming.is_in());
    let reader = {
        let coming = coming.clone();
        world.executor.spawn(Class::User, "reader", async move {
            coming.come(AllocFor::User).await
        })
    };
    world.driver.run_until_stalled();
    assert_eq!(disk.pending(), 1);
    coming.free();
    world.check();
    disk.complete(1);
    assert_eq!(world.run(reader), Ok(()));
    assert_eq!(gauge(&world, Gauge::Swpginuse), 0);
    end(&world, [held, idle, leaving, coming]);
}

#[test]
fn two_who_bring_it_in_read_it_once() {
    let (world, disk) = world(512, 100, Mode::AtOnce);
    let residence = residence(&world);
    fill(&world, &residence, 5);
    residence.rest();
    assert_eq!(put_out(&world, &residence), Ok(()));
    disk.set_mode(Mode::Told);
    let reads = disk.reads();
    let brings: Vec<_> = (0..2)
        .map(|_| {
            let residence = residence.clone();
            world.executor.spawn(Class::User, "owner", async move {
                residence.bring_in(AllocFor::User).await
            })
        })
        .collect();
    world.driver.run_until_stalled();
    assert_eq!(disk.reads() - reads, 1);
    disk.complete(1);
    for bring in brings {
        assert_eq!(world.run(bring), Ok(()));
    }
    verify(&world, &residence, 5);
    end(&world, [residence]);
}

fn swapoff(world: &World) -> Result<(), SwapError> {
    let uvm = world.uvm.clone();
    world.run(async move { uvm.swapoff("swap").await })
}

#[test]
fn swapoff_brings_in_what_is_out() {
    let (world, disk) = world(512, 100, Mode::After(Duration::from_micros(50)));
    let all: Vec<_> = (0..10).map(|_| residence(&world)).collect();
    for (i, residence) in all.iter().enumerate() {
        fill(&world, residence, i as u8);
        residence.rest();
        if i < 8 {
            assert_eq!(put_out(&world, residence), Ok(()));
        }
    }
    // One of them is on its way.
    assert_eq!(all[8].send_out(), Ok(()));
    assert_eq!(swapoff(&world), Ok(()));
    disk.close();
    assert_eq!(put_out(&world, &all[9]), Err(StaysIn::NoSwap));
    for (i, residence) in all.iter().enumerate() {
        assert!(residence.is_idle());
        assert_eq!(residence.claim(), Ok(()));
        verify(&world, residence, i as u8);
    }
    assert_eq!(disk.misuse(), None);
    end(&world, all);
}

#[test]
fn swapoff_that_finds_no_memory_leaves_all_as_it_was() {
    let (world, _disk) = world(512, 100, Mode::AtOnce);
    let uvm = &world.uvm;
    let residence = residence(&world);
    fill(&world, &residence, 6);
    residence.rest();
    assert_eq!(put_out(&world, &residence), Ok(()));
    let hog: Vec<_> = core::iter::from_fn(|| uvm.alloc_frame(AllocFor::User, Zero::No)).collect();
    assert_eq!(swapoff(&world), Err(SwapError::OutOfMemory));
    assert!(!residence.is_in());
    assert_eq!(gauge(&world, Gauge::UareasOut), 1);
    hog.into_iter().for_each(|frame| uvm.free_frame(frame));
    assert_eq!(bring_in(&world, &residence, AllocFor::User), Ok(()));
    verify(&world, &residence, 6);
    end(&world, [residence]);
}

#[test]
fn swapoff_of_what_cannot_be_read() {
    let (world, disk) = world(512, 100, Mode::AtOnce);
    let residence = residence(&world);
    residence.rest();
    assert_eq!(put_out(&world, &residence), Ok(()));
    (1..100).for_each(|page| disk.spoil_reads(page));
    let unread = Err(SwapError::Io(IoError::Device));
    assert_eq!(swapoff(&world), unread);
    assert!(!residence.is_in());
    end(&world, [residence]);
}

#[test]
fn what_lies_in_the_direct_map_stays() {
    let world = World::new(512, 1);
    let disk = SimDisk::swap(&world.uvm, 100, Mode::AtOnce);
    world.swapon(&disk, "swap", 0);
    let residence = residence(&world);
    residence.rest();
    assert_eq!(put_out(&world, &residence), Err(StaysIn::Unmapped));
    assert_eq!(residence.claim(), Ok(()));
    drop(residence);
    while world.uvm.release_one(0) {}
    world.check_quiet();
}

/// As many as can be are on their way; the next has to wait, and needs nothing for it.
#[test]
fn no_more_than_there_is_room_for_are_on_their_way() {
    let (world, disk) = world(1024, 400, Mode::Told);
    let all: Vec<_> = (0..40).map(|_| residence(&world)).collect();
    let sent = all.iter().filter(|residence| {
        residence.rest();
        let sent = residence.send_out();
        assert!(matches!(sent, Ok(()) | Err(StaysIn::Busy)));
        sent.is_ok()
    });
    let sent = sent.count();
    assert!((16..40).contains(&sent), "{sent}");
    world.driver.run_until_stalled();
    world.check();
    while disk.complete(usize::MAX) > 0 {
        world.driver.run_until_stalled();
    }
    assert_eq!(gauge(&world, Gauge::UareasOut), sent as u64);
    disk.set_mode(Mode::AtOnce);
    end(&world, all);
}
