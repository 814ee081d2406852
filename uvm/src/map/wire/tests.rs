//! Wiring from the outside: what is wired, how it is undone, and what may happen in the midst of it.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use executor::Class;

use super::MlockAll;
use crate::VnodeObject;
use crate::addr::{PAGE_SIZE, PageIndex, VaRange, VirtAddr};
use crate::fault::FaultError;
use crate::map::{Limits, MapRequest, Placement, VmError, VmSpace};
use crate::meter::{Counter, Gauge};
use crate::prot::Prot;
use crate::sim::World;
use crate::sim::disk::{Layout, Mode, SimDisk, SimFile};

const AT: u64 = 0x1000_0000;
const PAGE: u64 = PAGE_SIZE as u64;

fn at(page: u64) -> VirtAddr {
    VirtAddr::new(AT + page * PAGE)
}

fn pages(from: u64, n: usize) -> VaRange {
    VaRange::of_pages(at(from), n)
}

fn anonymous(from: u64, n: usize) -> MapRequest {
    MapRequest::anonymous(n * PAGE_SIZE, Prot::RW).at(Placement::Exclusive(at(from)))
}

fn fixed(from: u64, n: usize) -> MapRequest {
    MapRequest::anonymous(n * PAGE_SIZE, Prot::RW).at(Placement::Fixed(at(from)))
}

fn with_file(mode: Mode) -> (World, Arc<SimDisk>, Arc<SimFile>, Arc<VnodeObject>) {
    let world = World::new(1024, 0);
    let disk = SimDisk::new(&world.uvm, 64 << 20, mode);
    let file = SimFile::new(&disk, Layout::Contiguous(0));
    let object = world.file(file.clone(), 64 * PAGE);
    (world, disk, file, object)
}

fn private(object: &VnodeObject, n: usize) -> MapRequest {
    let backing = object.object().clone();
    MapRequest::object(backing, PageIndex(0), n * PAGE_SIZE, Prot::READ)
        .at(Placement::Exclusive(at(0)))
}

/// Lengths in pages and wirings of the space's mappings.
fn wirings(space: &VmSpace) -> Vec<(usize, u16)> {
    let regions = space.regions();
    regions
        .iter()
        .map(|region| (region.range.pages(), region.wired))
        .collect()
}

fn wired(world: &World) -> u64 {
    world.uvm.meter().gauge(Gauge::Wired)
}

/// As at the beginning: nothing is wired, marked, or under way.
fn nothing_is_wired(world: &World, space: &VmSpace) {
    assert_eq!((wired(world), space.locked()), (0, 0));
    assert_eq!(space.pmap().stats().wired, 0);
    assert!(space.map.read().tree.iter().all(|e| e.wired_to == 0));
    world.check_quiet();
}

#[test]
fn wirings_nest_until_the_first_munlock() {
    let world = World::new(256, 0);
    let space = world.space();
    space.map(anonymous(0, 8)).unwrap();
    let s = space.clone();
    world.run(async move {
        s.mlock(pages(0, 6)).await.unwrap();
        s.mlock(pages(2, 2)).await.unwrap();
    });
    assert_eq!(wirings(&space), [(2, 1), (2, 2), (2, 1), (2, 0)]);
    assert_eq!((wired(&world), space.locked()), (6, 6 * PAGE));
    assert_eq!(space.pmap().stats().wired, 6);
    world.check_quiet();
    let s = space.clone();
    world.run(async move { s.munlock(pages(1, 2)).await.unwrap() });
    assert_eq!(
        wirings(&space),
        [(1, 1), (2, 0), (1, 2), (2, 1), (2, 0)],
        "what is alike again is one again"
    );
    assert_eq!((wired(&world), space.locked()), (4, 4 * PAGE));
    world.check_quiet();
    let s = space.clone();
    world.run(async move { s.munlock(pages(0, 8)).await.unwrap() });
    assert_eq!(wirings(&space), [(8, 0)], "as in the beginning");
    nothing_is_wired(&world, &space);
}

#[test]
fn holes_and_limits_are_found_before_anything_is_done() {
    let world = World::new(256, 0);
    let space = world.space();
    space.map(anonymous(0, 4)).unwrap();
    space.map(anonymous(5, 4)).unwrap();
    let s = space.clone();
    world.run(async move {
        assert_eq!(s.mlock(pages(0, 6)).await, Err(VmError::Unmapped));
        assert_eq!(s.munlock(pages(0, 6)).await, Err(VmError::Unmapped));
        assert_eq!(s.mlockall(MlockAll::empty()).await, Err(VmError::Invalid));
        s.set_limits(Limits {
            locked: 3 * PAGE,
            ..Limits::UNLIMITED
        });
        s.mlock(pages(0, 2)).await.unwrap();
        assert_eq!(s.mlock(pages(2, 2)).await, Err(VmError::Limit));
        assert_eq!(s.mlockall(MlockAll::CURRENT).await, Err(VmError::Limit));
        // What is wired already counts once.
        s.mlock(pages(0, 3)).await.unwrap();
        assert_eq!(s.locked(), 3 * PAGE);
        s.set_limits(Limits::UNLIMITED);
        s.uvm().meter().set(Gauge::Wiredmax, 5);
        assert_eq!(s.mlock(pages(5, 3)).await, Err(VmError::OutOfMemory));
        s.mlock(pages(5, 2)).await.unwrap();
        s.munlock(pages(0, 4)).await.unwrap();
        s.munlock(pages(5, 2)).await.unwrap();
    });
    nothing_is_wired(&world, &space);
}

#[test]
fn an_unreadable_page_undoes_what_was_wired_before_it() {
    let delay = Mode::After(Duration::from_micros(10));
    let (world, disk, file, object) = with_file(delay);
    disk.spoil(40 * PAGE, 41 * PAGE);
    let space = world.space();
    space.map(private(&object, 64)).unwrap();
    let s = space.clone();
    world.run(async move {
        s.mlock(pages(10, 2)).await.unwrap();
        s.mlock(pages(11, 1)).await.unwrap();
        let error = VmError::Fault(FaultError::Io);
        assert_eq!(s.mlock(pages(0, 64)).await, Err(error));
    });
    assert_eq!(wirings(&space), [(10, 0), (1, 1), (1, 2), (52, 0)]);
    assert_eq!((wired(&world), space.pmap().stats().wired), (2, 2));
    world.check_quiet();
    // What cannot be there cannot be wired either.
    let (s, program) = (space.clone(), world.program(&space));
    world.run(async move {
        disk.mend();
        s.mlock(pages(0, 64)).await.unwrap();
        assert_eq!(s.locked(), 64 * PAGE);
        assert_eq!(program.load(AT + 40 * PAGE).await, Ok(file.byte(40 * PAGE)));
        s.munlock(pages(0, 64)).await.unwrap();
        let beyond = fixed(64, 1);
        s.map(MapRequest {
            backing: private(&object, 65).backing,
            len: 65 * PAGE_SIZE,
            ..beyond
        })
        .unwrap();
        let error = VmError::Fault(FaultError::BeyondEnd);
        assert_eq!(s.mlock(pages(64, 65)).await, Err(error));
    });
    nothing_is_wired(&world, &space);
}

#[test]
fn lack_of_frames_undoes_it() {
    let world = World::new(128, 0);
    let space = world.space();
    space.map(anonymous(0, 1000)).unwrap();
    let s = space.clone();
    world.run(async move {
        s.uvm().meter().set(Gauge::Wiredmax, 10_000);
        s.mlock(pages(3, 2)).await.unwrap();
        assert_eq!(s.mlock(pages(0, 1000)).await, Err(VmError::OutOfMemory));
        assert_eq!(s.locked(), 2 * PAGE);
        s.munlock(pages(0, 1000)).await.unwrap();
    });
    nothing_is_wired(&world, &space);
}

#[test]
fn what_allows_nothing_is_wired_out_of_sight() {
    let world = World::new(256, 0);
    let space = world.space();
    space.map(anonymous(0, 4)).unwrap();
    let (s, program) = (space.clone(), world.program(&space));
    let w = world.uvm.clone();
    world.run(async move {
        program.store(AT, 7).await.unwrap();
        s.protect(pages(0, 4), Prot::empty()).await.unwrap();
        s.mlock(pages(0, 4)).await.unwrap();
        assert_eq!((s.locked(), s.resident_pages()), (4 * PAGE, 0));
        assert_eq!(program.load(AT).await, Err(FaultError::Protection));
        w.check().unwrap();
        // It comes to light without a fault, whatever is allowed then.
        for prot in [Prot::READ, Prot::RW, Prot::READ] {
            s.protect(pages(0, 4), prot).await.unwrap();
            assert_eq!(s.pmap().stats().wired, 4);
            w.check().unwrap();
        }
        s.protect(pages(0, 4), Prot::RW).await.unwrap();
        let faults = w.meter().get(Counter::Faults);
        program.touch(AT + PAGE, 3, 5).await.unwrap();
        assert_eq!(program.peek(AT, 4).await.unwrap(), [7, 5, 5, 5]);
        assert_eq!(w.meter().get(Counter::Faults), faults);
        s.munlockall().await;
    });
    nothing_is_wired(&world, &space);
}

#[test]
fn the_future_is_wired_as_it_comes() {
    let world = World::new(512, 0);
    let space = world.space();
    space.set_brk_start(at(1000));
    space.map(anonymous(0, 2)).unwrap();
    space
        .map(MapRequest {
            prot: Prot::empty(),
            ..anonymous(10, 2)
        })
        .unwrap();
    let s = space.clone();
    let uvm = world.uvm.clone();
    world.run(async move {
        s.mlockall(MlockAll::CURRENT).await.unwrap();
        assert_eq!(s.locked(), 2 * PAGE, "not what allows nothing");
        s.mmap(anonymous(20, 2)).await.unwrap();
        assert_eq!(s.locked(), 2 * PAGE);
        s.mlockall(MlockAll::FUTURE).await.unwrap();
        assert_eq!(s.locked(), 2 * PAGE);
        s.mmap(anonymous(30, 3)).await.unwrap();
        assert_eq!(s.locked(), 5 * PAGE);
        assert_eq!(s.brk(at(1004)).await, Ok(at(1004)));
        assert_eq!(s.brk(at(1001)).await, Ok(at(1001)));
        assert_eq!(s.locked(), 6 * PAGE);
        s.protect(pages(10, 2), Prot::READ).await.unwrap();
        assert_eq!(s.locked(), 8 * PAGE);
        let hidden = MapRequest {
            prot: Prot::empty(),
            ..anonymous(40, 4)
        };
        s.mmap(hidden).await.unwrap();
        assert_eq!(s.locked(), 8 * PAGE);
        uvm.check().unwrap();
        // What cannot be wired is not mapped, allowed or grown.
        s.set_limits(Limits {
            locked: 9 * PAGE,
            ..Limits::UNLIMITED
        });
        assert_eq!(s.mmap(anonymous(50, 2)).await, Err(VmError::Limit));
        assert_eq!(
            s.protect(pages(40, 4), Prot::READ).await,
            Err(VmError::Limit)
        );
        assert_eq!(s.brk(at(1003)).await, Ok(at(1001)));
        s.set_limits(Limits::UNLIMITED);
        uvm.meter().set(Gauge::Wiredmax, 9);
        assert_eq!(s.mmap(anonymous(50, 2)).await, Err(VmError::OutOfMemory));
        assert_eq!(s.map(anonymous(50, 2)), Ok(at(50)), "nothing is there");
        assert_eq!(s.regions().iter().filter(|r| r.prot.is_empty()).count(), 1);
        assert_eq!(s.locked(), 8 * PAGE);
        uvm.check().unwrap();
        s.munlockall().await;
        s.mmap(anonymous(60, 2)).await.unwrap();
        // Neither the future nor the present passes on to a child.
        s.mlockall(MlockAll::FUTURE).await.unwrap();
        let child = s.fork().await.unwrap();
        child.mmap(anonymous(70, 2)).await.unwrap();
        assert_eq!(child.locked(), 0);
        child.teardown().await;
        // A failed wish for both leaves both as they were.
        assert!(s.mlockall(MlockAll::CURRENT).await.is_err());
        s.mmap(anonymous(70, 1)).await.unwrap();
        assert_eq!(s.locked(), PAGE);
        s.munlockall().await;
    });
    nothing_is_wired(&world, &space);
}

#[test]
fn what_is_replaced_while_it_is_wired_is_unwired() {
    const DELAY: Duration = Duration::from_micros(10);
    // Behind, across and ahead of the page that is waited for; all of it; across both ends.
    for (from, len) in [
        (2, 4),
        (28, 8),
        (50, 4),
        (0, 64),
        (60, 8),
        (31, 1),
        (32, 1),
        (33, 1),
    ] {
        let (world, disk, file, object) = with_file(Mode::Told);
        let space = world.space();
        space.map(private(&object, 64)).unwrap();
        space.map(anonymous(64, 4)).unwrap();
        let s = space.clone();
        let mlock =
            world.executor.spawn(
                Class::User,
                "mlock",
                async move { s.mlock(pages(0, 64)).await },
            );
        // Two clusters of 16 pages are read and wired; then it waits for the third, at page 32.
        for _ in 0..2 {
            world.driver.run_until_stalled();
            disk.complete(1);
        }
        world.driver.run_until_stalled();
        assert_eq!(wired(&world), 32);
        world.check();
        space.map(fixed(from, len)).unwrap();
        let end = (from + len as u64).min(32);
        assert_eq!(wired(&world), 32 - end.saturating_sub(from.min(32)));
        world.check();
        while disk.complete(1) > 0 {
            world.driver.run_until_stalled();
            world.driver.run_for(DELAY);
        }
        assert_eq!(world.run(mlock), Ok(()));
        let replaced = (from + len as u64).min(64) - from;
        assert_eq!(wired(&world), 64 - replaced, "{from}, {len}");
        assert_eq!(space.locked(), (64 - replaced) * PAGE);
        world.check_quiet();
        let (s, program) = (space.clone(), world.program(&space));
        world.run(async move {
            for page in (0..64).filter(|page| !(from..from + len as u64).contains(page)) {
                assert_eq!(
                    program.load(AT + page * PAGE).await,
                    Ok(file.byte(page * PAGE))
                );
            }
            assert_eq!(program.load(AT + from * PAGE).await, Ok(0));
            s.munlock(pages(0, 68)).await.unwrap();
        });
        nothing_is_wired(&world, &space);
    }
}

#[test]
fn what_is_replaced_while_it_is_unwired_is_unwired_once() {
    for (from, len) in [(10, 300), (100, 10), (150, 10), (0, 400), (390, 20)] {
        let world = World::new(1024, 0);
        world.uvm.meter().set(Gauge::Wiredmax, 1000);
        let space = world.space();
        space.map(anonymous(0, 400)).unwrap();
        let s = space.clone();
        let uvm = world.uvm.clone();
        let munlock = world.executor.spawn(Class::User, "munlock", async move {
            s.mlock(pages(0, 400)).await.unwrap();
            uvm.executor().tick();
            s.munlock(pages(0, 400)).await
        });
        while !(1..400).contains(&wired(&world)) || space.locked() > 0 {
            assert!(world.driver.step());
        }
        world.check();
        space.map(fixed(from, len)).unwrap();
        world.check();
        assert_eq!(world.run(munlock), Ok(()));
        nothing_is_wired(&world, &space);
    }
}

#[test]
fn growth_next_to_a_range_that_is_being_wired_is_not_wired() {
    let (world, disk, _file, object) = with_file(Mode::Told);
    let space = world.space();
    space.map(private(&object, 16)).unwrap();
    space.map(anonymous(16, 4)).unwrap();
    let s = space.clone();
    let mlock = world.executor.spawn(
        Class::User,
        "mlock",
        async move { s.mlock(pages(0, 20)).await },
    );
    world.driver.run_until_stalled();
    // Alike, and right behind.
    space.map(anonymous(20, 4)).unwrap();
    disk.complete(1);
    assert_eq!(world.run(mlock), Ok(()));
    assert_eq!(wirings(&space), [(16, 1), (4, 1), (4, 0)]);
    assert_eq!(wired(&world), 20);
    world.check_quiet();
}

#[test]
fn removal_and_exit_unwire() {
    for how in 0..3 {
        let delay = Mode::After(Duration::from_micros(10));
        let (world, _disk, _file, object) = with_file(delay);
        let space = world.space();
        let backing = object.object().clone();
        let request = MapRequest::object(backing, PageIndex(0), 64 * PAGE_SIZE, Prot::READ);
        let shared = request.shared().at(Placement::Exclusive(at(400)));
        space.map(shared).unwrap();
        space.map(anonymous(0, 200)).unwrap();
        let s = space.clone();
        world.run(async move { s.mlockall(MlockAll::CURRENT).await.unwrap() });
        assert_eq!(wired(&world), 264);
        world.check_quiet();
        match how {
            0 => {
                let s = space.clone();
                world.run(async move { s.unmap(pages(50, 400)).await.unwrap() });
                assert_eq!((wired(&world), space.locked()), (64, 64 * PAGE));
                world.check_quiet();
                let s = space.clone();
                world.run(async move { s.munlockall().await });
                nothing_is_wired(&world, &space);
            }
            1 => {
                let s = space.clone();
                world.run(async move { s.teardown().await });
                nothing_is_wired(&world, &space);
            }
            _ => {
                // Nobody took leave.
                drop(space);
                assert_eq!(wired(&world), 0);
                assert_eq!(world.check_quiet().anon, 0);
            }
        }
    }
}
