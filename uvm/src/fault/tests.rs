//! Each case of the fault routine, alone and racing.

use alloc::sync::Arc;
use alloc::vec;
use core::time::Duration;

use super::FaultError;
use crate::IoError;
use crate::addr::{PAGE_SIZE, PageIndex, Pages, VaRange, VirtAddr};
use crate::map::{Advice, Inherit, MapRequest, Placement};
use crate::meter::{Counter, Gauge};
use crate::object::UvmObject;
use crate::object::vnode::FileMap;
use crate::page::freelist::{AllocFor, Zero};
use crate::prot::{Access, Prot};
use crate::sim::World;
use crate::sim::disk::{Layout, Mode, SimDisk, SimFile};
use executor::Class;

const AT: u64 = 0x1000_0000;
const PAGE: u64 = PAGE_SIZE as u64;

fn here(request: MapRequest) -> MapRequest {
    request.at(Placement::Exclusive(VirtAddr::new(AT)))
}

fn anonymous(pages: usize) -> MapRequest {
    here(MapRequest::anonymous(pages * PAGE_SIZE, Prot::RW))
}

fn range(pages: usize) -> VaRange {
    VaRange::of_pages(VirtAddr::new(AT), pages)
}

/// A machine, a disk that completes as told by `mode`, and a file of `size` bytes on it.
fn with_file(
    mode: Mode,
    layout: Layout,
    size: u64,
) -> (World, Arc<SimDisk>, Arc<SimFile>, Arc<crate::VnodeObject>) {
    let world = World::new(1024, 0);
    let disk = SimDisk::new(&world.uvm, 64 << 20, mode);
    let file = SimFile::new(&disk, layout);
    let map: Arc<dyn FileMap> = file.clone();
    let object = world.file(map, size);
    (world, disk, file, object)
}

/// Whose only other owner has ended, it is neither copied nor entered anew, and nobody looks at its neighbours.
#[test]
fn case_1a_a_page_that_is_ones_own_again_is_written_in_place() {
    let world = World::new(256, 0);
    let space = world.space();
    space.map(anonymous(8)).unwrap();
    let program = world.program(&space);
    let uvm = world.uvm.clone();
    world.run(async move {
        let space = program.space();
        program.touch(AT, 8, 1).await.unwrap();
        space.fork().await.unwrap().teardown().await;
        let frame = |page: u64| {
            let va = VirtAddr::new(AT + page * PAGE);
            let mapping = space.pmap().extract(&uvm, va).unwrap();
            (mapping.frame, mapping.prot)
        };
        let count = |counter| uvm.meter().get(counter);
        for page in [3, 0, 7] {
            let (before, prot) = frame(page);
            assert_eq!(prot, Prot::READ);
            let counts = [Counter::Faults, Counter::FltAnon].map(count);
            let others = [Counter::FltAcow, Counter::FltNamap].map(count);
            program.store(AT + page * PAGE, 2).await.unwrap();
            assert_eq!(frame(page), (before, Prot::RW));
            assert!(uvm.is_modified(before));
            let more = [Counter::Faults, Counter::FltAnon].map(count);
            assert_eq!(more, counts.map(|n| n + 1));
            assert_eq!([Counter::FltAcow, Counter::FltNamap].map(count), others);
        }
        let seen = program.peek(AT, 8).await.unwrap();
        assert_eq!(seen, [2, 1, 1, 2, 1, 1, 1, 2]);
    });
    drop(space);
    world.check();
}

#[test]
fn case_0_nothing_there_or_not_allowed() {
    let world = World::new(256, 0);
    let space = world.space();
    let program = world.program(&space);
    world.run(async move {
        assert_eq!(program.load(AT).await, Err(FaultError::NoMapping));
        program
            .space()
            .map(here(MapRequest::anonymous(PAGE_SIZE, Prot::READ)))
            .unwrap();
        assert_eq!(program.store(AT, 1).await, Err(FaultError::Protection));
        assert_eq!(program.load(AT).await, Ok(0));
        assert_eq!(program.load(AT + PAGE).await, Err(FaultError::NoMapping));
        program.space().deactivate();
        program.space().teardown().await;
    });
    drop(space);
    assert_eq!(world.check_quiet().anons, 0);
}

#[test]
fn case_2b_zero_fill_needs_one_poll_and_one_frame() {
    let world = World::new(256, 0);
    let space = world.space();
    space.map(anonymous(64)).unwrap();
    let uvm = &world.uvm;
    // Map, amap, tables: what the first touch makes once.
    assert_eq!(
        space.try_fault(VirtAddr::new(AT), Access::Write),
        Some(Ok(()))
    );
    let before = (
        uvm.meter().get(Counter::FltPrzero),
        uvm.meter().get(Counter::Pgalloc),
    );
    for page in 1..16 {
        let va = VirtAddr::new(AT + page * PAGE);
        assert_eq!(space.try_fault(va, Access::Write), Some(Ok(())));
    }
    assert_eq!(uvm.meter().get(Counter::FltPrzero) - before.0, 15);
    // The anons' pool may have grown by a slab.
    assert!(uvm.meter().get(Counter::Pgalloc) - before.1 <= 16);
    assert_eq!(uvm.meter().get(Counter::FltNowait), 16);
    assert_eq!(space.resident_pages(), 16);
    world.check_quiet();
}

#[test]
fn case_1a_maps_what_is_there_and_its_neighbours() {
    let world = World::new(512, 0);
    let space = world.space();
    let program = world.program(&space);
    world.run(async move {
        program.space().map(anonymous(32)).unwrap();
        program.touch(AT, 32, 7).await.unwrap();
        // Forget the translations, keep the pages.
        let pmap = program.space().pmap();
        pmap.remove(program.space().uvm(), range(32));
        pmap.update(program.space().uvm());
        assert_eq!(program.load(AT + 10 * PAGE).await, Ok(7));
        assert_eq!(
            program.space().resident_pages(),
            8,
            "the page, 3 behind, 4 ahead"
        );
        program
            .space()
            .advise(range(32), Advice::Random)
            .await
            .unwrap();
        assert_eq!(program.load(AT + 20 * PAGE).await, Ok(7));
        assert_eq!(program.space().resident_pages(), 9);
    });
    world.check_quiet();
}

#[test]
fn case_1b_copies_what_a_fork_shares() {
    let world = World::new(512, 0);
    let space = world.space();
    let (parent, uvm) = (world.program(&space), world.uvm.clone());
    let child = world.run({
        let world = (world.machine.clone(), parent.clone());
        async move {
            let (_, parent) = world;
            parent.space().map(anonymous(8)).unwrap();
            parent.touch(AT, 8, 1).await.unwrap();
            parent.space().fork().await.unwrap()
        }
    });
    let program = world.program(&child);
    world.run(async move {
        program.store(AT, 2).await.unwrap();
        assert_eq!(parent.load(AT).await, Ok(1));
        parent.store(AT + PAGE, 3).await.unwrap();
        assert_eq!(program.load(AT + PAGE).await, Ok(1));
        assert_eq!(program.peek(AT, 3).await.unwrap(), vec![2, 1, 1]);
        assert_eq!(parent.peek(AT, 3).await.unwrap(), vec![1, 3, 1]);
        assert_eq!(uvm.meter().get(Counter::FltAcow), 2);
        // The sole owner left writes in place.
        program.space().deactivate();
        program.space().teardown().await;
        parent.touch(AT, 8, 9).await.unwrap();
        assert_eq!(uvm.meter().get(Counter::FltAcow), 2);
        assert_eq!(uvm.meter().gauge(Gauge::Anonpages), 8);
    });
    drop(child);
    world.check_quiet();
}

#[test]
fn shared_memory_is_one_and_private_memory_is_not() {
    let world = World::new(512, 0);
    let space = world.space();
    let parent = world.program(&space);
    let object = UvmObject::anonymous(&world.uvm, Pages(4)).unwrap();
    let shared = here(MapRequest::object(
        object.clone(),
        PageIndex(0),
        4 * PAGE_SIZE,
        Prot::RW,
    ))
    .shared();
    space.map(shared).unwrap();
    let amapped = AT + 16 * PAGE;
    let request = MapRequest::anonymous(4 * PAGE_SIZE, Prot::RW).shared();
    space
        .map(request.at(Placement::Exclusive(VirtAddr::new(amapped))))
        .unwrap();
    let forked = space.clone();
    let child = world.run(async move { forked.fork().await.unwrap() });
    let program = world.program(&child);
    let gone = child.clone();
    world.run(async move {
        for at in [AT, amapped] {
            program.store(at, 5).await.unwrap();
            assert_eq!(parent.load(at).await, Ok(5));
            parent.store(at + PAGE, 6).await.unwrap();
            assert_eq!(program.load(at + PAGE).await, Ok(6));
        }
        // A copy of what is shared is a copy, at once: the sharers write on in place.
        parent
            .space()
            .inherit(VaRange::of_pages(VirtAddr::new(amapped), 4), Inherit::Copy)
            .await
            .unwrap();
        let copy = parent.space().fork().await.unwrap();
        parent.store(amapped, 8).await.unwrap();
        assert_eq!(program.load(amapped).await, Ok(8));
        let mut byte = [0];
        copy.read_bytes(VirtAddr::new(amapped), &mut byte)
            .await
            .unwrap();
        assert_eq!(byte, [5]);
        copy.teardown().await;
        program.space().deactivate();
        program.space().teardown().await;
    });
    drop((child, gone));
    assert_eq!(object.resident(), 2);
    world.check_quiet();
}

#[test]
fn case_2a_reads_a_cluster_and_maps_neighbours() {
    let after = Mode::After(Duration::from_micros(100));
    let (world, disk, file, object) = with_file(after, Layout::Contiguous(8192), 100 * PAGE - 100);
    let space = world.space();
    let program = world.program(&space);
    let request = MapRequest::object(
        object.object().clone(),
        PageIndex(0),
        101 * PAGE_SIZE,
        Prot::READ,
    );
    space.map(here(request)).unwrap();
    let d = disk.clone();
    world.run(async move {
        for n in [5, 20 * PAGE + 1, 6, PAGE] {
            assert_eq!(program.load(AT + n).await, Ok(file.byte(n)));
        }
        assert_eq!(d.reads(), 2, "two clusters");
        assert_eq!(d.bytes(), 32 * PAGE);
        // Behind the last byte of the file: zeroes, then nothing.
        assert_eq!(
            program.load(AT + 100 * PAGE - 101).await,
            Ok(file.byte(100 * PAGE - 101))
        );
        assert_eq!(program.load(AT + 100 * PAGE - 100).await, Ok(0));
        assert_eq!(
            program.load(AT + 100 * PAGE).await,
            Err(FaultError::BeyondEnd)
        );
        assert_eq!(program.store(AT, 1).await, Err(FaultError::Protection));
    });
    assert_eq!(world.uvm.meter().gauge(Gauge::PagingIn), 0);
    world.check_quiet();
    drop((space, object));
    world.run(async {});
    let report = world.check_quiet();
    assert_eq!(report.object, 0, "pages go with their object");
}

#[test]
fn case_2b_promotes_a_private_write() {
    let after = Mode::After(Duration::from_micros(100));
    let (world, _disk, file, object) = with_file(after, Layout::Contiguous(0), 10 * PAGE);
    let space = world.space();
    let program = world.program(&space);
    let request = MapRequest::object(
        object.object().clone(),
        PageIndex(0),
        10 * PAGE_SIZE,
        Prot::RW,
    );
    space.map(here(request)).unwrap();
    let uvm = world.uvm.clone();
    world.run(async move {
        program.store(AT + 1, 200).await.unwrap();
        assert_eq!(program.load(AT + 1).await, Ok(200));
        assert_eq!(
            program.load(AT + 2).await,
            Ok(file.byte(2)),
            "the rest of the page was copied"
        );
        assert_eq!(program.load(AT + PAGE).await, Ok(file.byte(PAGE)));
        program.store(AT + PAGE, 201).await.unwrap();
        assert_eq!(
            program.load(AT + PAGE).await,
            Ok(201),
            "the read-only translation is gone"
        );
        assert_eq!(uvm.meter().get(Counter::FltPrcopy), 2);
        let hold = object.page_in(&uvm, PageIndex(0)).await.unwrap();
        let mut byte = [0];
        hold.bytes().read(1, &mut byte);
        assert_eq!(byte[0], file.byte(1), "the file itself has not changed");
    });
    world.check_quiet();
}

#[test]
fn shared_writable_file_mappings_are_refused_while_nobody_writes_back() {
    let (world, _disk, _file, object) = with_file(Mode::Told, Layout::Contiguous(0), PAGE);
    let space = world.space();
    let request =
        MapRequest::object(object.object().clone(), PageIndex(0), PAGE_SIZE, Prot::RW).shared();
    assert_eq!(space.map(here(request)), Err(crate::VmError::Protection));
}

#[test]
fn holes_and_small_blocks() {
    for layout in [Layout::Holes(4096), Layout::Blocks(4096)] {
        let after = Mode::After(Duration::from_micros(10));
        let (world, _disk, file, object) = with_file(after, layout, 7 * PAGE);
        let uvm = world.uvm.clone();
        world.run(async move {
            let mut bytes = vec![];
            let n = object
                .read(&uvm, 3, 7 * PAGE_SIZE, |hold, range| {
                    let mut part = vec![0; range.len()];
                    hold.bytes().read(range.start, &mut part);
                    bytes.extend(part);
                    range.len()
                })
                .await
                .unwrap();
            assert_eq!(n, 7 * PAGE_SIZE - 3);
            assert!(
                bytes
                    .iter()
                    .enumerate()
                    .all(|(i, &b)| b == file.byte(i as u64 + 3)),
                "{layout:?}"
            );
        });
        world.check_quiet();
    }
}

#[test]
fn two_faults_make_one_read() {
    let (world, disk, file, object) = with_file(Mode::Told, Layout::Contiguous(0), 64 * PAGE);
    let request = MapRequest::object(
        object.object().clone(),
        PageIndex(0),
        64 * PAGE_SIZE,
        Prot::READ,
    );
    let spaces: [_; 3] = core::array::from_fn(|_| world.space());
    let waiters = spaces.each_ref().map(|space| {
        space.map(here(request.clone())).unwrap();
        let program = world.program(space);
        world.executor.spawn(
            Class::User,
            "program",
            async move { program.load(AT + 9).await },
        )
    });
    world.driver.run_until_stalled();
    assert_eq!((disk.reads(), disk.pending()), (1, 1));
    assert_eq!(world.uvm.meter().gauge(Gauge::PagingIn), 16);
    world.check();
    disk.complete(1);
    for waiter in waiters {
        assert_eq!(world.run(waiter), Ok(file.byte(9)));
    }
    assert_eq!(disk.reads(), 1);
    assert_eq!(world.uvm.meter().gauge(Gauge::PagingInMax), 16);
    world.check_quiet();
}

#[test]
fn an_error_reaches_every_waiter_and_leaves_nothing() {
    let (world, disk, file, object) = with_file(Mode::Told, Layout::Contiguous(0), 64 * PAGE);
    let free = world.uvm.free_frames();
    disk.spoil(0, PAGE);
    let request = MapRequest::object(
        object.object().clone(),
        PageIndex(0),
        64 * PAGE_SIZE,
        Prot::READ,
    );
    let spaces: [_; 3] = core::array::from_fn(|_| world.space());
    let start = || {
        spaces.each_ref().map(|space| {
            let program = world.program(space);
            world.executor.spawn(
                Class::User,
                "program",
                async move { program.load(AT + 9).await },
            )
        })
    };
    for space in &spaces {
        space.map(here(request.clone())).unwrap();
    }
    let waiters = start();
    // The cluster, then the page alone; once for all of them.
    for reads in [1, 2] {
        world.driver.run_until_stalled();
        assert_eq!((disk.reads(), disk.pending()), (reads, 1));
        disk.complete(1);
    }
    for waiter in waiters {
        assert_eq!(world.run(waiter), Err(FaultError::Io));
    }
    assert_eq!(disk.reads(), 2);
    assert_eq!(object.object().resident(), 0);
    assert_eq!(world.check_quiet().object, 0);
    assert!(
        free - world.uvm.free_frames() < 16 + 8,
        "the cluster's frames are free again"
    );
    // A mended disk can be read: the failure is not remembered.
    disk.mend();
    let waiters = start();
    world.driver.run_until_stalled();
    disk.complete(1);
    for waiter in waiters {
        assert_eq!(world.run(waiter), Ok(file.byte(9)));
    }
    world.check_quiet();
}

#[test]
fn an_error_that_comes_at_once_is_no_reason_to_try_for_ever() {
    let (world, disk, file, object) = with_file(Mode::AtOnce, Layout::Contiguous(0), 64 * PAGE);
    disk.spoil(16 * PAGE, 64 * PAGE);
    let request = MapRequest::object(
        object.object().clone(),
        PageIndex(0),
        64 * PAGE_SIZE,
        Prot::READ,
    );
    let space = world.space();
    space.map(here(request)).unwrap();
    let program = world.program(&space);
    let uvm = world.uvm.clone();
    let failing = disk.clone();
    world.run(async move {
        let disk = failing;
        assert_eq!(program.load(AT).await, Ok(file.byte(0)));
        let before = disk.reads();
        // In order, so that what follows is read ahead as well, which fails too.
        assert_eq!(program.load(AT + 16 * PAGE).await, Err(FaultError::Io));
        let failed = object.page_in(&uvm, PageIndex(40)).await;
        assert_eq!(failed.err(), Some(IoError::Device.into()));
        // For each of the two a cluster and the page alone, and what was read ahead.
        assert!(disk.reads() - before <= 5);
        disk.mend();
        assert_eq!(program.load(AT + 16 * PAGE).await, Ok(file.byte(16 * PAGE)));
        assert!(object.page_in(&uvm, PageIndex(40)).await.is_ok());
    });
    world.check_quiet();
}

#[test]
fn the_reader_may_unmap_and_go_while_the_read_is_under_way() {
    let (world, disk, _file, object) = with_file(Mode::Told, Layout::Contiguous(0), 64 * PAGE);
    let space = world.space();
    let request = MapRequest::object(
        object.object().clone(),
        PageIndex(0),
        64 * PAGE_SIZE,
        Prot::READ,
    );
    space.map(here(request)).unwrap();
    let program = world.program(&space);
    let waiter = world.executor.spawn(
        Class::User,
        "program",
        async move { program.load(AT).await },
    );
    world.driver.run_until_stalled();
    let gone = space.clone();
    world.run(async move { gone.unmap(range(64)).await.unwrap() });
    drop(object);
    assert_eq!(disk.complete(1), 1);
    assert_eq!(world.run(waiter), Err(FaultError::NoMapping));
    assert_eq!(world.check_quiet().object, 0);
}

#[test]
fn a_failed_read_is_no_error_of_what_is_mapped_there_since() {
    for remapped in [false, true] {
        let (world, disk, _file, object) = with_file(Mode::Told, Layout::Contiguous(0), 64 * PAGE);
        disk.spoil(0, 64 * PAGE);
        let space = world.space();
        let request = MapRequest::object(
            object.object().clone(),
            PageIndex(0),
            64 * PAGE_SIZE,
            Prot::READ,
        );
        space.map(here(request)).unwrap();
        // One that waits for its own read, one for another's.
        let waiters: [_; 2] = core::array::from_fn(|_| {
            let program = world.program(&space);
            let load = async move { program.load(AT).await };
            world.executor.spawn(Class::User, "program", load)
        });
        world.driver.run_until_stalled();
        assert_eq!(disk.pending(), 1);
        let expected = if remapped {
            let other = MapRequest::anonymous(64 * PAGE_SIZE, Prot::READ);
            let fixed = other.at(Placement::Fixed(VirtAddr::new(AT)));
            space.map(fixed).unwrap();
            Ok(0)
        } else {
            let space = space.clone();
            world.run(async move { space.unmap(range(64)).await.unwrap() });
            Err(FaultError::NoMapping)
        };
        disk.complete(1);
        for waiter in waiters {
            assert_eq!(world.run(waiter), expected);
        }
        assert_eq!(disk.reads(), 1, "nobody reads again");
        world.check_quiet();
    }
}

#[test]
fn a_childs_copy_of_an_object_follows_it_until_the_first_store() {
    let world = World::new(256, 0);
    let object = UvmObject::anonymous(&world.uvm, Pages(4)).unwrap();
    let request = MapRequest::object(object, PageIndex(0), 4 * PAGE_SIZE, Prot::RW).shared();
    let space = world.space();
    space.map(here(request)).unwrap();
    let parent = world.program(&space);
    let forker = space.clone();
    let forked = world.run(async move {
        forker.inherit(range(4), Inherit::Copy).await.unwrap();
        forker.fork().await.unwrap()
    });
    let child = world.program(&forked);
    world.run(async move {
        // As with MAP_PRIVATE: not a snapshot ...
        parent.store(AT, 1).await.unwrap();
        assert_eq!(child.load(AT).await, Ok(1));
        parent.store(AT + 1, 2).await.unwrap();
        assert_eq!(child.load(AT + 1).await, Ok(2));
        // ... until it is written.
        child.store(AT + 2, 3).await.unwrap();
        parent.store(AT, 4).await.unwrap();
        assert_eq!(child.load(AT).await, Ok(1));
        assert_eq!(child.load(AT + 1).await, Ok(2));
        assert_eq!(parent.load(AT + 2).await, Ok(0));
        for program in [parent, child] {
            program.space().deactivate();
            program.space().teardown().await;
        }
    });
    drop((space, forked));
    world.check_quiet();
}

#[test]
fn memory_runs_out_with_an_error_and_comes_back() {
    let world = World::new(128, 0);
    let space = world.space();
    let program = world.program(&space);
    let free = world.uvm.free_frames();
    let uvm = world.uvm.clone();
    world.run(async move {
        program.space().map(anonymous(1000)).unwrap();
        let mut touched = 0;
        let error = loop {
            match program.store(AT + touched * PAGE, 1).await {
                Ok(()) => touched += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error, FaultError::OutOfMemory);
        assert!(touched > 80, "{touched} pages");
        assert!(matches!(
            program.space().fork().await,
            Err(crate::VmError::OutOfMemory)
        ));
        assert_eq!(program.peek(AT, 3).await.unwrap(), vec![1, 1, 1]);
        uvm.check().unwrap();
        program.space().deactivate();
        program.space().teardown().await;
    });
    drop(space);
    world.check_quiet();
    world.uvm.reclaim_pools();
    assert!(world.uvm.free_frames() + 8 > free);
}

#[test]
fn a_file_larger_than_memory_can_be_read() {
    for torture_evict in [false, true] {
        let config = crate::testing::HostConfig {
            frames: 256,
            torture_evict,
            ..Default::default()
        };
        let world = World::with(&config, 3);
        let disk = SimDisk::new(
            &world.uvm,
            64 << 20,
            Mode::After(Duration::from_micros(100)),
        );
        let file = SimFile::new(&disk, Layout::Contiguous(0));
        let pages = if torture_evict { 100 } else { 1000 };
        let object = world.file(file.clone(), pages * PAGE);
        let space = world.space();
        let request = MapRequest::object(
            object.object().clone(),
            PageIndex(0),
            pages as usize * PAGE_SIZE,
            Prot::READ,
        );
        space.map(here(request)).unwrap();
        let program = world.program(&space);
        world.run(async move {
            for page in 0..pages {
                let n = page * PAGE + page % 4096;
                assert_eq!(program.load(AT + n).await, Ok(file.byte(n)));
            }
        });
        assert!(world.uvm.meter().get(Counter::Pdfreed) > pages / 2);
        world.check_quiet();
    }
}

#[test]
fn a_reader_in_order_is_read_ahead_for() {
    let after = Mode::After(Duration::from_micros(100));
    let (world, disk, file, object) = with_file(after, Layout::Contiguous(0), 256 * PAGE);
    let uvm = world.uvm.clone();
    world.run(async move {
        for page in 0..256 {
            let hold = object.page_in(&uvm, PageIndex(page)).await.unwrap();
            let mut byte = [0];
            hold.bytes().read(0, &mut byte);
            assert_eq!(byte[0], file.byte(page * PAGE));
        }
    });
    assert!(
        disk.most_pending() > 4,
        "{} reads at once",
        disk.most_pending()
    );
    assert_eq!(disk.bytes(), 256 * PAGE, "nothing is read twice");
    world.check_quiet();
}

#[test]
fn device_time_is_what_the_disk_took_and_pieces_are_one_request() {
    const DELAY: Duration = Duration::from_micros(10);
    for (layout, pieces) in [(Layout::Contiguous(0), 1), (Layout::Blocks(0), 3)] {
        let (world, _disk, _file, object) =
            with_file(Mode::After(DELAY), layout, 16 * PAGE_SIZE as u64);
        let uvm = world.uvm.clone();
        assert_eq!(uvm.io().device_time(), crate::io::DeviceTime::default());
        world.run(async move {
            drop(object.page_in(&uvm, PageIndex(0)).await.unwrap());
            let time = uvm.io().device_time();
            assert_eq!(time.requests, 1);
            assert_eq!(time.ns, pieces * DELAY.as_nanos() as u64);
        });
        assert_eq!(world.uvm.uvmexp().devices.requests, 1);
    }
}

#[test]
fn no_read_is_begun_without_a_frame() {
    let (world, disk, _file, object) = with_file(Mode::Told, Layout::Contiguous(0), 8 * PAGE);
    let space = world.space();
    let request = MapRequest::object(object.object().clone(), PageIndex(0), PAGE_SIZE, Prot::READ);
    space.map(here(request)).unwrap();
    let uvm = world.uvm.clone();
    let frames: alloc::vec::Vec<_> =
        core::iter::from_fn(|| uvm.alloc_frame(AllocFor::User, Zero::No)).collect();
    let program = world.program(&space);
    let outcome = world.run(async move { program.load(AT).await });
    assert_eq!(outcome, Err(FaultError::OutOfMemory));
    // Not even the pager's future was made, which needs memory itself.
    assert_eq!(uvm.meter().get(Counter::FltGet), 0);
    assert_eq!(disk.reads(), 0);
    frames.into_iter().for_each(|frame| uvm.free_frame(frame));
}
