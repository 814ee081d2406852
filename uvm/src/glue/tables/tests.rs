//! Spaces without page tables.

use alloc::sync::Arc;

use super::*;
use crate::PAGE_SIZE;
use crate::map::{MapRequest, Placement};
use crate::meter::{Counter, Gauge};
use crate::page::freelist::Zero;
use crate::pmap::{PmapStats, TablesStay};
use crate::prot::Prot;
use crate::sim::World;
use crate::sim::disk::{Mode, SimDisk};
use crate::testing::{HostConfig, on_cpu};

const AT: u64 = 0x1000_0000;
const PAGES: usize = 40;

fn world(frames: usize) -> (World, Arc<VmSpace>) {
    let config = HostConfig {
        frames,
        cpus: 2,
        ..HostConfig::default()
    };
    let world = World::with(&config, 1);
    let space = world.space();
    let request = MapRequest::anonymous(PAGES * PAGE_SIZE, Prot::RW);
    let at = Placement::Fixed(VirtAddr::new(AT));
    space.map(request.at(at)).unwrap();
    let program = world.program(&space);
    world.run(async move { program.touch(AT, PAGES, 7).await.unwrap() });
    (world, space)
}

fn put_away(world: &World, space: &Arc<VmSpace>) -> Result<(), TablesStay> {
    let space = space.clone();
    world.run(async move { space.put_tables_away().await })
}

fn peek(world: &World, space: &Arc<VmSpace>) -> alloc::vec::Vec<u8> {
    let program = world.program(space);
    world.run(async move { program.peek(AT, PAGES).await.unwrap() })
}

fn end(world: &World, space: Arc<VmSpace>) {
    world.run(async move {
        space.deactivate();
        space.teardown().await;
    });
    assert_eq!(world.uvm.meter().gauge(Gauge::PmapTables), 0);
    assert_eq!(world.uvm.pmap_pool.in_use(), 0);
    world.check_quiet();
}

/// UVM.md, row 27.
#[test]
fn row_27_all_tables_go_and_come_again() {
    let (world, space) = world(512);
    for _ in 0..3 {
        let (free, stats) = (world.uvm.free_frames(), space.pmap().stats());
        assert_eq!((stats.resident, stats.tables), (PAGES, 4));
        assert_eq!(put_away(&world, &space), Ok(()));
        assert_eq!(space.pmap().stats(), PmapStats::default());
        assert_eq!(space.pmap().root(), None);
        assert_eq!(world.uvm.free_frames(), free + 4);
        assert_eq!(world.uvm.meter().gauge(Gauge::PmapTables), 0);
        assert!(!space.is_active());
        world.check_quiet();
        // Once more does nothing.
        assert_eq!(put_away(&world, &space), Ok(()));
        space.make_tables(AllocFor::User).unwrap();
        assert_eq!(space.pmap().stats().tables, 1);
        assert_eq!(peek(&world, &space), [7; PAGES]);
        world.check_quiet();
    }
    assert_eq!(world.uvm.meter().get(Counter::PmapsAway), 3);
    end(&world, space);
}

/// Who runs in it although nobody has made its tables finds them made.
#[test]
fn activation_makes_them() {
    let (world, space) = world(512);
    assert_eq!(put_away(&world, &space), Ok(()));
    space.activate();
    assert!(space.is_active());
    assert_eq!(peek(&world, &space), [7; PAGES]);
    // Where there is no memory for them, it is nowhere, and has them when there is some.
    assert_eq!(put_away(&world, &space), Ok(()));
    let uvm = &world.uvm;
    let hog: alloc::vec::Vec<_> =
        core::iter::from_fn(|| uvm.alloc_frame(AllocFor::User, Zero::No)).collect();
    space.activate();
    assert!(!space.is_active());
    assert_eq!(space.make_tables(AllocFor::User), Err(OutOfMemory));
    hog.into_iter().for_each(|frame| uvm.free_frame(frame));
    assert_eq!(peek(&world, &space), [7; PAGES]);
    end(&world, space);
}

#[test]
fn who_is_killed_has_them_from_the_reserve() {
    let (world, space) = world(512);
    assert_eq!(put_away(&world, &space), Ok(()));
    let uvm = &world.uvm;
    let hog: alloc::vec::Vec<_> =
        core::iter::from_fn(|| uvm.alloc_frame(AllocFor::User, Zero::No)).collect();
    assert_eq!(space.make_tables(AllocFor::Kernel), Ok(()));
    hog.into_iter().for_each(|frame| uvm.free_frame(frame));
    end(&world, space);
}

#[test]
fn they_stay_where_a_cpu_has_them_or_something_is_wired() {
    let (world, space) = world(512);
    on_cpu(1);
    assert_eq!(peek(&world, &space), [7; PAGES]);
    on_cpu(0);
    assert_eq!(put_away(&world, &space), Err(TablesStay::Loaded));
    world.check_quiet();
    on_cpu(1);
    space.deactivate();
    on_cpu(0);
    assert_eq!(put_away(&world, &space), Ok(()));
    assert_eq!(peek(&world, &space), [7; PAGES]);
    let one = VaRange::of_pages(VirtAddr::new(AT), 1);
    let wired = space.clone();
    world.run(async move { wired.mlock(one).await }).unwrap();
    assert_eq!(put_away(&world, &space), Err(TablesStay::Wired));
    assert!(space.pmap().extract(&world.uvm, one.start()).is_some());
    world.check_quiet();
    end(&world, space);
}

/// Whatever is done to a space without tables is as on one in which nothing is mapped.
#[test]
fn the_space_can_be_used_meanwhile() {
    let (world, space) = world(512);
    let uvm = &world.uvm;
    let first = VirtAddr::new(AT);
    let away = || {
        assert_eq!(put_away(&world, &space), Ok(()));
        assert!(!space.pmap().has_tables());
    };
    away();
    assert_eq!(space.pmap().extract(uvm, first), None);
    assert_eq!(space.resident_pages(), 0);
    space.pmap().collect(uvm);
    space.pmap().unwire(uvm, first);
    space
        .pmap()
        .protect(uvm, VaRange::of_pages(first, 4), Prot::READ);
    let unmapped = VaRange::of_pages(VirtAddr::new(AT + 39 * PAGE_SIZE as u64), 1);
    let unmapping = space.clone();
    world
        .run(async move { unmapping.unmap(unmapped).await })
        .unwrap();
    assert!(!space.pmap().has_tables());
    // A debugger's access makes them.
    let read = space.clone();
    let byte = world.run(async move {
        let mut byte = [0];
        read.read_bytes(first, &mut byte).await.unwrap();
        byte[0]
    });
    assert_eq!(byte, 7);
    away();
    let forked = space.clone();
    let child = world.run(async move { forked.fork().await }).unwrap();
    world.check_quiet();
    let program = world.program(&child);
    let bytes = world.run(async move { program.peek(AT, PAGES - 1).await.unwrap() });
    assert_eq!(bytes, [7; PAGES - 1]);
    let last = child.clone();
    world.run(async move {
        last.deactivate();
        last.teardown().await;
    });
    drop(child);
    end(&world, space);
}

/// The pagedaemon takes the pages in time.
#[test]
fn its_pages_go_to_swap() {
    let (world, space) = world(256);
    let disk = SimDisk::swap(&world.uvm, 200, Mode::AtOnce);
    world.swapon(&disk, "swap", 0);
    assert_eq!(put_away(&world, &space), Ok(()));
    let hog = world.space();
    let request = MapRequest::anonymous(200 * PAGE_SIZE, Prot::RW);
    let at = Placement::Fixed(VirtAddr::new(AT));
    hog.map(request.at(at)).unwrap();
    let program = world.program(&hog);
    world.run(async move { program.touch(AT, 200, 9).await.unwrap() });
    assert!(world.uvm.meter().gauge(Gauge::Swpgonly) > 0);
    assert!(!space.pmap().has_tables());
    world.check();
    let last = hog.clone();
    world.run(async move {
        last.deactivate();
        last.teardown().await;
    });
    drop(hog);
    assert_eq!(peek(&world, &space), [7; PAGES]);
    world.driver.run_until_stalled();
    end(&world, space);
}
