//! The life of an address space.

use std::vec::Vec;

use executor::Class;

use crate::addr::{PAGE_SIZE, VaRange, VirtAddr};
use crate::map::{Inherit, MapRequest, Placement, Region, USER_MIN, VmError};
use crate::meter::{Counter, Gauge};
use crate::prot::Prot;
use crate::sim::World;

const AT: u64 = 0x1000_0000;

fn at(page: u64) -> VirtAddr {
    VirtAddr::new(AT + page * PAGE_SIZE as u64)
}

#[test]
fn a_space_may_be_the_last_that_knows_its_machine() {
    let world = World::new(256, 0);
    let space = world.space();
    let at = Placement::Fixed(VirtAddr::new(0x1000_0000));
    let request = MapRequest::anonymous(1 << 20, Prot::RW).at(at);
    space.map(request).unwrap();
    let program = world.program(&space);
    world.run(async move {
        program.touch(0x1000_0000, 20, 1).await.unwrap();
        program.space().deactivate();
    });
    drop(world);
    drop(space);
}

#[test]
fn a_mapping_made_in_the_midst_of_a_fork_may_let_grow_what_the_child_has() {
    let world = World::new(256, 1);
    let space = world.space();
    let page = |n: u64| VirtAddr::new(USER_MIN + n * PAGE_SIZE as u64);
    let map = |n| {
        let request = MapRequest::anonymous(PAGE_SIZE, Prot::RW).at(Placement::Exclusive(page(n)));
        space.map(request).expect("room");
    };
    map(0);
    map(9);
    world.driver.ask_by_chance(100);
    let fork = space.clone();
    let fork = world
        .executor
        .spawn(Class::User, "fork", async move { fork.fork().await });
    // One entry each poll. The pagedaemon takes a poll too.
    while !space.vm_map().busy.is_taken() {
        assert!(world.driver.step());
    }
    map(1);
    let child = world.run(fork).expect("memory");
    let start = |region: &Region| region.range.start();
    let regions: Vec<_> = child.regions().iter().map(start).collect();
    assert_eq!(regions, [page(0), page(1), page(9)]);
    assert_eq!(space.regions().len(), 3);
    drop((child, space));
    world.check_quiet();
}

/// A child of a wired parent: copied at once, in as many steps as it takes.
#[test]
fn a_fork_copies_wired_memory_and_the_parent_never_faults() {
    const PAGES: usize = 300;
    let world = World::new(2048, 0);
    let uvm = world.uvm.clone();
    let space = world.space();
    let request = MapRequest::anonymous(PAGES * PAGE_SIZE, Prot::RW).at(Placement::Fixed(at(0)));
    space.map(request).unwrap();
    let (parent, s) = (world.program(&space), space.clone());
    let child = world.run(async move {
        parent.touch(AT, PAGES, 1).await.unwrap();
        s.mlock(VaRange::of_pages(at(0), PAGES)).await.unwrap();
        let polls = uvm.executor().switches();
        uvm.executor().tick();
        let child = s.fork().await.unwrap();
        assert!(uvm.executor().switches() > polls, "in steps");
        assert_eq!(
            (s.locked(), child.locked()),
            ((PAGES * PAGE_SIZE) as u64, 0)
        );
        let faults = uvm.meter().get(Counter::Faults);
        parent.touch(AT, PAGES, 2).await.unwrap();
        assert_eq!(uvm.meter().get(Counter::Faults), faults);
        assert_eq!(uvm.meter().gauge(Gauge::Wired), PAGES as u64);
        child
    });
    world.check_quiet();
    let (parent, program) = (world.program(&space), world.program(&child));
    let gone = child.clone();
    world.run(async move {
        assert_eq!(program.peek(AT, PAGES).await.unwrap(), [1; PAGES]);
        program.touch(AT, PAGES, 3).await.unwrap();
        assert_eq!(parent.peek(AT, PAGES).await.unwrap(), [2; PAGES]);
        gone.deactivate();
        gone.teardown().await;
    });
    drop(child);
    world.check_quiet();
}

#[test]
fn a_fork_that_cannot_copy_wired_memory_leaves_the_parent_as_it_was() {
    let world = World::new(160, 0);
    let space = world.space();
    let request = MapRequest::anonymous(80 * PAGE_SIZE, Prot::RW).at(Placement::Fixed(at(0)));
    space.map(request).unwrap();
    let (parent, uvm) = (world.program(&space), world.uvm.clone());
    world.run(async move {
        uvm.meter().set(Gauge::Wiredmax, 100);
        parent.touch(AT, 80, 1).await.unwrap();
        parent
            .space()
            .mlock(VaRange::of_pages(at(0), 80))
            .await
            .unwrap();
        let fork = parent.space().fork().await;
        assert!(matches!(fork, Err(VmError::OutOfMemory)));
        let faults = uvm.meter().get(Counter::Faults);
        parent.touch(AT, 80, 2).await.unwrap();
        assert_eq!(uvm.meter().get(Counter::Faults), faults);
    });
    assert_eq!(world.check_quiet().anons, 80);
}

/// Who shares an amap with somebody that has it wired can be forked, too: his child gets copies.
#[test]
fn a_partner_of_wired_memory_forks() {
    let world = World::new(512, 0);
    let uvm = world.uvm.clone();
    let space = world.space();
    let range = VaRange::of_pages(at(0), 8);
    let request = MapRequest::anonymous(8 * PAGE_SIZE, Prot::RW).at(Placement::Fixed(at(0)));
    space.map(request.shared()).unwrap();
    let (a, s) = (world.program(&space), space.clone());
    let partner = world.run(async move {
        let partner = s.fork().await.unwrap();
        a.touch(AT, 4, 1).await.unwrap();
        partner
    });
    let (a, b) = (world.program(&space), world.program(&partner));
    let child = world.run(async move {
        b.space().inherit(range, Inherit::Copy).await.unwrap();
        // Shared with a child, so that it must be copied to be wired.
        let first = b.space().fork().await.unwrap();
        a.space().mlock(VaRange::of_pages(at(0), 6)).await.unwrap();
        uvm.check().unwrap();
        let child = b.space().fork().await.unwrap();
        uvm.check().unwrap();
        let faults = uvm.meter().get(Counter::Faults);
        a.touch(AT, 6, 2).await.unwrap();
        assert_eq!(uvm.meter().get(Counter::Faults), faults);
        assert_eq!(b.peek(AT, 7).await.unwrap(), [2, 2, 2, 2, 2, 2, 0]);
        let mut byte = [9];
        first.read_bytes(at(3), &mut byte).await.unwrap();
        assert_eq!(byte, [1]);
        b.store(AT + PAGE_SIZE as u64, 3).await.unwrap();
        assert_eq!(a.load(AT + PAGE_SIZE as u64).await, Ok(3));
        uvm.check().unwrap();
        for space in [b.space(), &first] {
            space.deactivate();
            space.teardown().await;
        }
        assert_eq!(uvm.meter().gauge(Gauge::Wired), 6);
        child
    });
    drop(partner);
    let program = world.program(&child);
    world.run(async move {
        assert_eq!(program.peek(AT, 6).await.unwrap(), [1, 1, 1, 1, 0, 0]);
        program.touch(AT, 6, 4).await.unwrap();
        program.space().deactivate();
    });
    world.check_quiet();
}

/// A part of wired memory is replaced while a fork is in the midst of copying it.
#[test]
fn a_fork_begins_a_mapping_anew_that_changes_under_it() {
    let world = World::new(2048, 0);
    world.uvm.meter().set(Gauge::Wiredmax, 1000);
    let space = world.space();
    let request = |pages| MapRequest::anonymous(pages * PAGE_SIZE, Prot::RW);
    space.map(request(300).at(Placement::Fixed(at(0)))).unwrap();
    let (program, uvm) = (world.program(&space), world.uvm.clone());
    let fork = world
        .executor
        .spawn(executor::Class::User, "fork", async move {
            program.touch(AT, 300, 1).await.unwrap();
            program
                .space()
                .mlock(VaRange::of_pages(at(0), 300))
                .await
                .unwrap();
            uvm.executor().tick();
            program.space().fork().await.unwrap()
        });
    while world.uvm.meter().gauge(Gauge::Anonpages) <= 300 {
        assert!(world.driver.step());
    }
    assert!(world.uvm.meter().gauge(Gauge::Anonpages) < 600);
    world.check();
    space.map(request(10).at(Placement::Fixed(at(5)))).unwrap();
    let child = world.run(fork);
    world.check_quiet();
    let program = world.program(&child);
    let bytes = world.run(async move {
        let bytes = program.peek(AT, 300).await.unwrap();
        program.space().deactivate();
        bytes
    });
    for (page, byte) in bytes.into_iter().enumerate() {
        assert_eq!(byte, u8::from(!(5..15).contains(&page)), "page {page}");
    }
    assert_eq!(world.uvm.meter().gauge(Gauge::Wired), 290);
    world.check_quiet();
}
