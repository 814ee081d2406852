//! Stacks.

use super::{Hog, PAGE, anonymous, at, entries, range, shape};
use crate::fault::FaultError;
use crate::map::Limits;
use crate::map::grow::STACK_GAP;
use crate::meter::{Counter, Gauge};
use crate::prot::Prot;
use crate::sim::{Program, World};

const GAP: u64 = STACK_GAP / PAGE;
/// Where stacks end.
const TOP: u64 = 10_000;

/// A machine and a program with a stack of `pages` pages.
fn stack(pages: u64) -> (World, Program) {
    let world = World::new(512, 0);
    let space = world.space();
    space.map(anonymous(TOP - pages, pages).growing()).unwrap();
    let program = world.program(&space);
    (world, program)
}

#[test]
fn a_stack_grows_to_where_it_is_touched_and_stays_one_entry() {
    let (world, program) = stack(2);
    world.run(async move {
        program.touch(at(TOP - 2), 2, 1).await.unwrap();
        program.store(at(TOP - 3), 2).await.unwrap();
        program.store(at(TOP - 100) + 17, 3).await.unwrap();
        assert_eq!(program.load(at(TOP - 50)).await, Ok(0));
        assert_eq!(shape(program.space()), [(TOP - 100, 100, Prot::RW)]);
        assert_eq!(entries(program.space()), 1);
        assert_eq!(program.load(at(TOP - 100) + 17).await, Ok(3));
        assert_eq!(program.peek(at(TOP - 4), 4).await.unwrap(), [0, 2, 1, 1]);
        // Above it nothing grows.
        assert_eq!(program.load(at(TOP)).await, Err(FaultError::NoMapping));
        program.space().deactivate();
        program.space().teardown().await;
    });
    world.check_quiet();
}

#[test]
fn other_mappings_do_not_grow() {
    let world = World::new(256, 0);
    let space = world.space();
    space.map(anonymous(100, 2)).unwrap();
    let program = world.program(&space);
    world.run(async move {
        assert_eq!(program.store(at(99), 1).await, Err(FaultError::NoMapping));
    });
    assert_eq!(shape(&space), [(100, 2, Prot::RW)]);
}

#[test]
fn a_stack_keeps_to_its_limit_and_the_address_spaces() {
    let (world, program) = stack(2);
    world.run(async move {
        let space = program.space();
        space.set_limits(Limits {
            stack: 8 * PAGE,
            ..Limits::UNLIMITED
        });
        let refused = Err(FaultError::NoMapping);
        assert_eq!(program.store(at(TOP - 9), 1).await, refused);
        program.store(at(TOP - 8), 1).await.unwrap();
        assert_eq!(program.store(at(TOP - 9), 1).await, refused);
        space.set_limits(Limits {
            address_space: 9 * PAGE,
            ..Limits::UNLIMITED
        });
        assert_eq!(program.store(at(TOP - 10), 1).await, refused);
        program.store(at(TOP - 9), 1).await.unwrap();
        assert_eq!(shape(space), [(TOP - 9, 9, Prot::RW)]);
    });
    world.check_quiet();
}

#[test]
fn a_stack_keeps_off_what_lies_below_but_not_off_its_guard() {
    let (world, program) = stack(2);
    world.run(async move {
        let space = program.space();
        let bottom = TOP - 500;
        space.map(anonymous(bottom - 1, 1)).unwrap();
        let refused = Err(FaultError::NoMapping);
        assert_eq!(program.store(at(bottom + GAP - 1), 1).await, refused);
        program.store(at(bottom + GAP), 1).await.unwrap();
        assert_eq!(program.store(at(bottom + GAP - 1), 1).await, refused);
        // A guard page is one that allows nothing.
        space
            .protect(range(bottom - 1, bottom), Prot::empty())
            .await
            .unwrap();
        program.store(at(bottom), 1).await.unwrap();
        assert_eq!(
            program.store(at(bottom - 1), 1).await,
            Err(FaultError::Protection)
        );
        let expected = [(bottom - 1, 1, Prot::empty()), (bottom, 500, Prot::RW)];
        assert_eq!(shape(space), expected);
    });
    world.check_quiet();
}

#[test]
fn the_lowest_part_of_a_divided_stack_grows() {
    let (world, program) = stack(8);
    world.run(async move {
        let space = program.space();
        program.touch(at(TOP - 8), 8, 1).await.unwrap();
        space
            .protect(range(TOP - 6, TOP - 5), Prot::READ)
            .await
            .unwrap();
        assert_eq!(entries(space), 3);
        program.store(at(TOP - 12), 2).await.unwrap();
        assert_eq!(entries(space), 3, "in the amap that the parts show");
        space
            .protect(range(TOP - 6, TOP - 5), Prot::RW)
            .await
            .unwrap();
        assert_eq!(entries(space), 1);
        // What lies between a guard that was unmapped and the rest is a stack still.
        space.unmap(range(TOP - 12, TOP - 4)).await.unwrap();
        program.store(at(TOP - 5), 3).await.unwrap();
        assert_eq!(program.peek(at(TOP - 5), 5).await.unwrap(), [3, 1, 1, 1, 1]);
        program.store(at(TOP - 6), 4).await.unwrap();
        assert_eq!(entries(space), 1);
        space.deactivate();
        space.teardown().await;
    });
    world.check_quiet();
}

#[test]
fn parent_and_child_both_grow_their_own() {
    let (world, parent) = stack(2);
    let p = parent.clone();
    let child = world.run(async move {
        p.touch(at(TOP - 2), 2, 1).await.unwrap();
        p.space().fork().await.unwrap()
    });
    let program = world.program(&child);
    let (p, c) = (parent.clone(), program.clone());
    world.run(async move {
        // The parent in the amap that both still show, the child beside it.
        p.store(at(TOP - 4), 2).await.unwrap();
        c.store(at(TOP - 5), 3).await.unwrap();
        c.store(at(TOP - 1), 4).await.unwrap();
        p.store(at(TOP - 6), 5).await.unwrap();
        assert_eq!(p.peek(at(TOP - 6), 6).await.unwrap(), [5, 0, 2, 0, 1, 1]);
        assert_eq!(c.peek(at(TOP - 6), 6).await.unwrap(), [0, 3, 0, 0, 1, 4]);
        assert_eq!(shape(p.space()), [(TOP - 6, 6, Prot::RW)]);
        assert_eq!(shape(c.space()), [(TOP - 6, 6, Prot::RW)]);
        assert_eq!(entries(p.space()), 1);
    });
    world.check_quiet();
    world.run(async move {
        program.space().deactivate();
        for space in [parent.space(), program.space()] {
            space.teardown().await;
        }
    });
    drop(child);
    assert_eq!(world.check_quiet().anons, 0);
}

#[test]
fn a_child_that_has_its_own_copy_grows_in_one_entry() {
    let (world, parent) = stack(2);
    let child = world.run(async move {
        parent.touch(at(TOP - 2), 2, 1).await.unwrap();
        parent.space().fork().await.unwrap()
    });
    let program = world.program(&child);
    world.run(async move {
        program.store(at(TOP - 1), 2).await.unwrap();
        program.store(at(TOP - 20), 3).await.unwrap();
        assert_eq!(entries(program.space()), 1);
    });
    world.check_quiet();
}

#[test]
fn a_stack_that_has_used_its_slots_up_goes_on() {
    let (world, program) = stack(1);
    world.run(async move {
        program.store(at(TOP - 1), 1).await.unwrap();
        program.store(at(TOP - 4096), 2).await.unwrap();
        assert_eq!(entries(program.space()), 1);
        for page in [4097, 4098, 6000] {
            program.store(at(TOP - page), 3).await.unwrap();
        }
        assert_eq!(entries(program.space()), 2);
        assert_eq!(shape(program.space()), [(TOP - 6000, 6000, Prot::RW)]);
        assert_eq!(program.load(at(TOP - 4096)).await, Ok(2));
        // The limit is that of both.
        program.space().set_limits(Limits {
            stack: 6001 * PAGE,
            ..Limits::UNLIMITED
        });
        assert_eq!(
            program.store(at(TOP - 6002), 1).await,
            Err(FaultError::NoMapping)
        );
        program.store(at(TOP - 6001), 1).await.unwrap();
    });
    world.check_quiet();
}

#[test]
fn a_stack_that_cannot_grow_for_want_of_memory_says_so() {
    let (world, program) = stack(1);
    let space = program.space().clone();
    // Its slots are used up, so that it needs an entry.
    let p = program.clone();
    world.run(async move {
        p.store(at(TOP - 1), 1).await.unwrap();
        p.store(at(TOP - 4096), 1).await.unwrap();
    });
    let before = shape(&space);
    let hog = Hog::new(&space, 0);
    let p = program.clone();
    let result = world.run(async move { p.store(at(TOP - 4097), 1).await });
    assert_eq!(result, Err(FaultError::OutOfMemory));
    assert_eq!(shape(&space), before);
    drop(hog);
    world.run(async move { program.store(at(TOP - 4097), 1).await.unwrap() });
    world.check_quiet();
}

#[test]
fn a_locked_stack_grows_locked_and_keeps_to_that_limit() {
    let (world, program) = stack(2);
    world.run(async move {
        let space = program.space();
        let uvm = space.uvm();
        space.mlock(range(TOP - 2, TOP)).await.unwrap();
        space.mlock(range(TOP - 2, TOP)).await.unwrap();
        space.set_limits(Limits {
            locked: 6 * PAGE,
            ..Limits::UNLIMITED
        });
        program.store(at(TOP - 6), 1).await.unwrap();
        assert_eq!((space.locked(), entries(space)), (6 * PAGE, 1));
        assert_eq!(space.pmap().stats().wired, 6);
        let faults = uvm.meter().get(Counter::Faults);
        program.touch(at(TOP - 6), 6, 2).await.unwrap();
        assert_eq!(uvm.meter().get(Counter::Faults), faults);
        let refused = Err(FaultError::NoMapping);
        assert_eq!(program.store(at(TOP - 7), 1).await, refused);
        // Where it cannot be wired it grows all the same.
        space.set_limits(Limits::UNLIMITED);
        uvm.meter().set(Gauge::Wiredmax, 6);
        program.store(at(TOP - 8), 3).await.unwrap();
        assert_eq!((space.locked(), entries(space)), (6 * PAGE, 2));
        uvm.check().unwrap();
        space.munlock(range(TOP - 8, TOP)).await.unwrap();
        assert_eq!((space.locked(), entries(space)), (0, 1));
        space.deactivate();
        space.teardown().await;
    });
    assert_eq!(world.check_quiet().anons, 0);
}

#[test]
fn what_a_program_has_unlocked_of_its_stack_stays_unlocked() {
    let (world, program) = stack(4);
    world.run(async move {
        let space = program.space();
        space.mlock(range(TOP - 4, TOP)).await.unwrap();
        space.munlock(range(TOP - 4, TOP - 2)).await.unwrap();
        space.dont_need(range(TOP - 4, TOP - 2)).await.unwrap();
        program.store(at(TOP - 4), 1).await.unwrap();
        assert_eq!(space.locked(), 2 * PAGE);
        space.deactivate();
        space.teardown().await;
    });
    world.check_quiet();
}

#[test]
fn a_locked_stack_that_grows_down_to_a_part_of_itself_locks_nothing_of_that() {
    let (world, program) = stack(6);
    world.run(async move {
        let space = program.space();
        space.mlock(range(TOP - 2, TOP)).await.unwrap();
        space.unmap(range(TOP - 4, TOP - 2)).await.unwrap();
        program.store(at(TOP - 4), 1).await.unwrap();
        assert_eq!(space.locked(), 4 * PAGE);
        let faults = space.uvm().meter().get(Counter::Faults);
        program.touch(at(TOP - 4), 4, 2).await.unwrap();
        assert_eq!(space.uvm().meter().get(Counter::Faults), faults);
        space.deactivate();
        space.teardown().await;
    });
    world.check_quiet();
}
