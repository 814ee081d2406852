//! The life of an address space.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use executor::Class;

use crate::addr::{PAGE_SIZE, VaRange, VirtAddr};
use crate::glue::{Attached, SpaceRef};
use crate::map::{Inherit, MapRequest, Placement, Region, USER_MIN, VmError, VmSpace};
use crate::meter::{Counter, Gauge};
use crate::page::freelist::{AllocFor, Zero};
use crate::prot::{Access, Prot};
use crate::sim::World;
use crate::sim::disk::{Mode, SimDisk};

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

/// Forks a space with page 0 and page `second` mapped; maps page 1 after the child has got page 0. Where the child's mappings and the
/// parent's begin then.
fn fork_and_map(second: u64) -> [Vec<u64>; 2] {
    let world = World::new(256, 1);
    let space = world.space();
    let page = |n: u64| VirtAddr::new(USER_MIN + n * PAGE_SIZE as u64);
    let map = |n| {
        let request = MapRequest::anonymous(PAGE_SIZE, Prot::RW).at(Placement::Exclusive(page(n)));
        space.map(request).expect("room");
    };
    map(0);
    map(second);
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
    let starts = |space: &VmSpace| {
        let start = |region: &Region| (region.range.start() - page(0)) / PAGE_SIZE as u64;
        space.regions().iter().map(start).collect()
    };
    let starts = [starts(&child), starts(&space)];
    drop((child, space));
    world.check_quiet();
    starts
}

#[test]
fn a_mapping_made_in_the_midst_of_a_fork_may_let_grow_what_the_child_has() {
    let [child, parent] = fork_and_map(9);
    assert_eq!((child, parent.len()), (Vec::from([0, 1, 9]), 3));
}

#[test]
fn a_mapping_made_in_the_midst_of_a_fork_may_join_what_the_child_has_and_what_it_has_not() {
    let [child, parent] = fork_and_map(2);
    assert_eq!(child, [0, 1]);
    assert_eq!(parent, [0, 1]);
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
    let world = World::new(170, 0);
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

#[test]
fn a_fork_of_what_can_never_be_there_twice_says_so_at_once() {
    let world = World::new(200, 0);
    let disk = SimDisk::swap(&world.uvm, 60, Mode::AtOnce);
    world.swapon(&disk, "swap", 0);
    let space = world.space();
    let request = MapRequest::anonymous(200 * PAGE_SIZE, Prot::RW).at(Placement::Fixed(at(0)));
    space.map(request).unwrap();
    let parent = world.program(&space);
    let room = world.uvm.pages().managed() + 59;
    let most = room / 2;
    let forked = parent.clone();
    world.run(async move {
        forked.touch(AT, most, 1).await.unwrap();
        let child = forked.space().fork().await.unwrap();
        child.teardown().await;
        forked
            .touch(AT + (most * PAGE_SIZE) as u64, 1, 1)
            .await
            .unwrap();
        let fork = forked.space().fork().await;
        assert!(matches!(fork, Err(VmError::TooLarge)));
    });
    world.driver.run_until_stalled();
    assert_eq!(world.check_quiet().anons, most + 1);
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

/// A machine whose first space holds `byte` at [`USER_MIN`], and the holder of that space.
fn held(byte: u8) -> (World, Arc<SpaceRef>) {
    let world = World::new(256, 0);
    let space = world.space();
    let at = Placement::Fixed(VirtAddr::new(USER_MIN));
    space
        .map(MapRequest::anonymous(4 * PAGE_SIZE, Prot::RW).at(at))
        .unwrap();
    let program = world.program(&space);
    world.run(async move { program.store(USER_MIN, byte).await.unwrap() });
    (world, Arc::new(SpaceRef::new(space)))
}

#[test]
fn row_24_share_works_on_a_running_holder() {
    let (world, process) = held(7);
    // A kernel task that runs, in a space of its own.
    let own = world.space();
    let at = Placement::Fixed(VirtAddr::new(USER_MIN));
    own.map(MapRequest::anonymous(2 * PAGE_SIZE, Prot::RW).at(at))
        .unwrap();
    let task = Arc::new(SpaceRef::new(own));
    let (uvm, machine) = (world.uvm.clone(), world.machine.clone());
    let (holder, with) = (task.clone(), process.clone());
    let program = world.program(&task.space().unwrap());
    let work = async move {
        let count = |counter| uvm.meter().get(counter);
        program.touch(USER_MIN, 2, 9).await.unwrap();
        let load = || machine.load(VirtAddr::new(USER_MIN));
        assert_eq!(load(), Ok(9));
        drop(program);
        let old = Arc::downgrade(&holder.space().unwrap());

        holder.share(&with).await;
        // In the very same poll.
        assert_eq!(load(), Ok(7), "the new one is active");
        assert_eq!(count(Counter::SpaceFrees), 1, "the old one was freed");
        assert!(old.upgrade().is_none());
        assert_eq!(uvm.meter().gauge(Gauge::Anonpages), 1);
        // And after any wait, though others run in between in theirs.
        uvm.executor().sleep(Duration::from_millis(1)).await;
        assert_eq!(load(), Ok(7));
        // Once more changes nothing.
        holder.share(&with).await;
        assert_eq!(load(), Ok(7));

        holder.leave().await;
        assert!(load().is_err(), "it has left the process's space");
        assert_eq!(count(Counter::SpaceFrees), 1, "which lives on");
        holder.leave().await;
    };
    let task = world
        .executor
        .spawn(Class::User, "task", Attached::new(task, work));
    // Somebody else, in another space, while the task sleeps.
    let other = world.program(&world.space());
    let uvm = world.uvm.clone();
    world.run(async move {
        uvm.executor().sleep(Duration::from_micros(500)).await;
        assert!(other.load(USER_MIN).await.is_err());
    });
    world.run(task);
    let space = process.space().unwrap();
    assert_eq!(space.resident_pages(), 1);
    drop(space);
    let report = world.check_quiet();
    assert_eq!((report.spaces, report.anons), (1, 1));
    world.run(async move { process.leave().await });
    assert_eq!(world.uvm.meter().get(Counter::SpaceFrees), 2);
    let report = world.check_quiet();
    assert_eq!((report.spaces, report.anons), (0, 0));
}

#[test]
fn who_unshares_goes_on_alone_with_what_was_there() {
    let (world, process) = held(7);
    let uvm = world.uvm.clone();
    let second = Arc::new(SpaceRef::empty());
    let (a, b) = (process.clone(), second.clone());
    world.run(async move {
        b.unshare().await.unwrap();
        assert!(b.space().is_none());
        // Alone it stays where it is.
        let before = a.space().unwrap();
        a.unshare().await.unwrap();
        assert!(Arc::ptr_eq(&before, &a.space().unwrap()));
        b.share(&a).await;
        assert!(Arc::ptr_eq(&before, &b.space().unwrap()));
        b.unshare().await.unwrap();
        assert!(!Arc::ptr_eq(&before, &b.space().unwrap()));
        assert_eq!(uvm.meter().get(Counter::SpaceFrees), 0);
    });
    let (first, second2) = (process.space().unwrap(), second.space().unwrap());
    let (p, c) = (world.program(&first), world.program(&second2));
    drop((first, second2));
    world.run(async move {
        c.store(USER_MIN, 8).await.unwrap();
        assert_eq!(p.load(USER_MIN).await, Ok(7));
        assert_eq!(c.load(USER_MIN).await, Ok(8));
        c.space().deactivate();
    });
    // Dropped without leaving, it is freed as well, and counted once.
    drop(second);
    assert_eq!(world.uvm.meter().get(Counter::SpaceFrees), 1);
    assert_eq!(world.check_quiet().spaces, 1);
    drop(process);
    assert_eq!(world.uvm.meter().get(Counter::SpaceFrees), 2);
    assert_eq!(world.check_quiet().anons, 0);
}

#[test]
fn who_cannot_unshare_for_want_of_memory_goes_on_sharing() {
    let (world, process) = held(7);
    let second = Arc::new(SpaceRef::empty());
    let (a, b) = (process.clone(), second.clone());
    world.run(async move { b.share(&a).await });
    let mut frames = Vec::new();
    while let Some(frame) = world.uvm.alloc_frame(AllocFor::User, Zero::No) {
        frames.push(frame);
    }
    let b = second.clone();
    let result = world.run(async move { b.unshare().await });
    assert_eq!(result, Err(VmError::OutOfMemory));
    let (first, second2) = (process.space().unwrap(), second.space().unwrap());
    assert!(Arc::ptr_eq(&first, &second2));
    for frame in frames {
        world.uvm.free_frame(frame);
    }
    world.run(async move {
        second.leave().await;
        assert_eq!(second.space().map(drop), None);
        process.leave().await;
    });
    assert_eq!(world.uvm.meter().get(Counter::SpaceFrees), 1);
    drop((first, second2));
    assert_eq!(world.check_quiet().spaces, 0);
}

#[test]
fn a_fork_goes_on_where_it_was_whatever_is_mapped_over_that_place() {
    let world = World::new(512, 0);
    let space = world.space();
    let request = |from, pages, prot| {
        MapRequest::anonymous(pages * PAGE_SIZE, prot).at(Placement::Fixed(at(from)))
    };
    space.map(request(0, 4, Prot::RW)).unwrap();
    space.map(request(4, 4, Prot::READ)).unwrap();
    let (s, uvm) = (space.clone(), world.uvm.clone());
    let fork = async move {
        uvm.executor().tick();
        s.fork().await.unwrap()
    };
    let fork = world.executor.spawn(executor::Class::User, "fork", fork);
    // Until the child has the first mapping.
    while world.uvm.upper.entries.in_use() < 3 {
        assert!(world.driver.step());
    }
    space.map(request(2, 4, Prot::ALL)).unwrap();
    let child = world.run(fork);
    let regions = child.regions();
    let shape: Vec<_> = regions.iter().map(|r| (r.range.pages(), r.prot)).collect();
    assert_eq!(shape, [(4, Prot::RW), (2, Prot::ALL), (2, Prot::READ)]);
    world.check_quiet();
}

#[test]
fn what_a_teardown_collects_is_flushed() {
    for left in 0..6 {
        let world = World::new(256, 0);
        let space = world.space();
        let request = MapRequest::anonymous(PAGE_SIZE, Prot::RW).at(Placement::Fixed(at(0)));
        space.map(request).unwrap();
        let uvm = &world.uvm;
        let mut taken: Vec<_> =
            core::iter::from_fn(|| uvm.alloc_frame(AllocFor::User, Zero::No)).collect();
        taken.drain(..left).for_each(|frame| uvm.free_frame(frame));
        // Where memory ends between two levels of page tables, an empty one stays.
        let _ = space.try_fault(at(0), Access::Write);
        let s = space.clone();
        world.run(async move {
            s.teardown().await;
            assert_eq!(s.uvm().deferred_flushes(), 0, "{left} frames");
        });
        taken.into_iter().for_each(|frame| uvm.free_frame(frame));
        drop(space);
        world.check_quiet();
    }
}
