//! mremap: each way to succeed, each error.

use super::{Hog, PAGE, anonymous, at, entries, range, shape, va};
use crate::addr::{PAGE_SIZE, PageIndex, Pages, PhysAddr, VirtAddr};
use crate::fault::FaultError;
use crate::map::{Limits, MapRequest, Mremap, Placement, USER_MAX, VmError, VmSpace};
use crate::meter::{Counter, Gauge};
use crate::object::UvmObject;
use crate::prot::Prot;
use crate::sim::{Program, World};

/// A machine and a program with `pages` pages of private memory, each filled with its number and one.
fn filled(pages: u64) -> (World, Program) {
    let world = World::new(512, 0);
    let space = world.space();
    let program = world.program(&space);
    let p = program.clone();
    world.run(async move {
        p.space().map(anonymous(0, pages)).unwrap();
        for page in 0..pages {
            p.store(at(page), page as u8 + 1).await.unwrap();
        }
    });
    (world, program)
}

async fn mremap(
    space: &VmSpace,
    old: u64,
    from: u64,
    to: u64,
    how: Mremap,
) -> Result<u64, VmError> {
    let at = space.mremap(va(old), from * PAGE, to * PAGE, how).await?;
    Ok(at.as_u64().wrapping_sub(va(0).as_u64()) / PAGE)
}

#[test]
fn a_mapping_shrinks_and_grows_where_it_is() {
    let (world, program) = filled(8);
    world.run(async move {
        let space = program.space();
        assert_eq!(mremap(space, 0, 8, 5, Mremap::InPlace).await, Ok(0));
        assert_eq!(shape(space), [(0, 5, Prot::RW)]);
        assert_eq!(program.load(at(5)).await, Err(FaultError::NoMapping));
        assert_eq!(mremap(space, 0, 5, 9, Mremap::InPlace).await, Ok(0));
        assert_eq!(
            program.peek(at(0), 9).await.unwrap(),
            [1, 2, 3, 4, 5, 0, 0, 0, 0]
        );
        assert_eq!(entries(space), 1);
        // Half a page is a page; what stays the same stays; only the end of a mapping can grow.
        assert_eq!(
            space
                .mremap(va(0), 9 * PAGE, 8 * PAGE + 1, Mremap::InPlace)
                .await,
            Ok(va(0))
        );
        assert_eq!(
            mremap(space, 0, 4, 5, Mremap::InPlace).await,
            Err(VmError::OutOfMemory)
        );
        assert_eq!(mremap(space, 3, 6, 10, Mremap::InPlace).await, Ok(3));
        assert_eq!(shape(space), [(0, 13, Prot::RW)]);
        assert_eq!(entries(space), 1);
    });
    world.check_quiet();
}

#[test]
fn a_mapping_that_cannot_grow_moves_if_it_may() {
    let (world, program) = filled(4);
    world.run(async move {
        let space = program.space();
        space.map(anonymous(5, 1).shared()).unwrap();
        assert_eq!(
            mremap(space, 0, 4, 6, Mremap::InPlace).await,
            Err(VmError::OutOfMemory)
        );
        assert_eq!(mremap(space, 0, 4, 5, Mremap::MayMove).await, Ok(0));
        let to = space
            .mremap(va(0), 5 * PAGE, 7 * PAGE, Mremap::MayMove)
            .await
            .unwrap();
        assert_eq!(
            program.peek(to.as_u64(), 7).await.unwrap(),
            [1, 2, 3, 4, 0, 0, 0]
        );
        let anons = space.uvm().meter().gauge(Gauge::Anonpages);
        for page in 0..5 {
            assert_eq!(program.load(at(page)).await, Err(FaultError::NoMapping));
        }
        program.touch(to.as_u64(), 4, 9).await.unwrap();
        assert_eq!(
            space.uvm().meter().gauge(Gauge::Anonpages),
            anons,
            "no page was copied"
        );
        assert_eq!((space.size(), entries(space)), (8 * PAGE, 2));
        // From the middle of a mapping a part moves out and leaves both ends.
        let part = to + 2 * PAGE;
        let moved = space
            .mremap(part, 2 * PAGE, 3 * PAGE, Mremap::MayMove)
            .await
            .unwrap();
        assert_eq!(program.peek(moved.as_u64(), 3).await.unwrap(), [9, 9, 0]);
        assert_eq!(
            program.load(part.as_u64()).await,
            Err(FaultError::NoMapping)
        );
        assert_eq!(program.peek(to.as_u64(), 2).await.unwrap(), [9, 9]);
        assert_eq!(program.load((part + 2 * PAGE).as_u64()).await, Ok(0));
        space.deactivate();
        space.teardown().await;
    });
    assert_eq!(world.check_quiet().anons, 0);
}

#[test]
fn a_fixed_place_is_replaced() {
    for (from, to) in [(4, 4), (4, 6), (4, 2)] {
        let (world, program) = filled(4);
        world.run(async move {
            let space = program.space();
            space.map(anonymous(10, 8)).unwrap();
            program.touch(at(10), 8, 99).await.unwrap();
            let fixed = Mremap::Fixed(va(11));
            assert_eq!(mremap(space, 0, from, to, fixed).await, Ok(11));
            assert_eq!(shape(space), [(10, 8, Prot::RW)]);
            let mut expected = [99; 8];
            for page in 0..to as usize {
                expected[page + 1] = if page < 4 { page as u8 + 1 } else { 0 };
            }
            assert_eq!(program.peek(at(10), 8).await.unwrap(), expected);
            space.deactivate();
            space.teardown().await;
        });
        assert_eq!(world.check_quiet().anons, 0);
    }
}

#[test]
fn errors_are_linuxes() {
    let (world, program) = filled(4);
    world.run(async move {
        let space = program.space();
        space.map(anonymous(6, 2)).unwrap();
        space.protect(range(2, 3), Prot::READ).await.unwrap();
        let before = shape(space);
        let fixed = |page| Mremap::Fixed(va(page));
        // EINVAL.
        for (old, from, to, how) in [
            (va(0) + 1u64, PAGE, PAGE, Mremap::MayMove),
            (va(0), PAGE, 0, Mremap::MayMove),
            (va(0), u64::MAX, PAGE, Mremap::MayMove),
            (va(0), PAGE, u64::MAX, Mremap::MayMove),
            (va(0), PAGE, PAGE, Mremap::Fixed(va(20) + 8u64)),
            (va(0), PAGE, PAGE, Mremap::Fixed(VirtAddr::new(0))),
            (va(0), PAGE, PAGE, Mremap::Fixed(VirtAddr::new(USER_MAX))),
            (va(0), PAGE, 1 << 62, fixed(20)),
            (va(0), 4 * PAGE, 4 * PAGE, fixed(3)),
            (va(3), PAGE, 4 * PAGE, fixed(0)),
            (va(0), 2 * PAGE, PAGE, fixed(1)),
            (va(0), 0, PAGE, Mremap::MayMove),
        ] {
            let result = space.mremap(old, from, to, how).await;
            assert_eq!(
                result,
                Err(VmError::Invalid),
                "{old:?} {from:#x} {to:#x} {how:?}"
            );
        }
        // EFAULT: nothing there, a hole, another mapping.
        for (old, from, to, how) in [
            (4, 1, 1, Mremap::MayMove),
            (4, 1, 2, Mremap::MayMove),
            (4, 0, 1, Mremap::MayMove),
            (3, 3, 8, Mremap::MayMove),
            (6, 3, 3, fixed(20)),
            (0, 3, 4, Mremap::MayMove),
            (2, 2, 2, fixed(20)),
        ] {
            let result = mremap(space, old, from, to, how).await;
            assert_eq!(result, Err(VmError::Unmapped), "{old} {from} {to} {how:?}");
        }
        let last = space.mremap(va(0), USER_MAX, PAGE, Mremap::MayMove).await;
        assert_eq!(last, Err(VmError::Unmapped));
        // ENOMEM: no room.
        for (to, how) in [(1 << 40, Mremap::MayMove), (3, Mremap::InPlace)] {
            let result = mremap(space, 0, 2, to, how).await;
            assert_eq!(result, Err(VmError::OutOfMemory));
        }
        assert_eq!(shape(space), before);
        assert_eq!(program.peek(at(0), 4).await.unwrap(), [1, 2, 3, 4]);
        // A hole in what a shrinking mapping loses does not matter.
        assert_eq!(mremap(space, 3, 5, 1, Mremap::InPlace).await, Ok(3));
        assert_eq!(space.size(), 4 * PAGE);
    });
    world.check_quiet();
}

#[test]
fn growth_keeps_to_the_limits() {
    let (world, program) = filled(4);
    world.run(async move {
        let space = program.space();
        space.map(anonymous(5, 1)).unwrap();
        space.set_limits(Limits {
            address_space: 6 * PAGE,
            ..Limits::UNLIMITED
        });
        let no = Err(VmError::OutOfMemory);
        assert_eq!(mremap(space, 0, 4, 7, Mremap::MayMove).await, no);
        assert_eq!(mremap(space, 5, 1, 3, Mremap::InPlace).await, no);
        // What a fixed place replaces makes room, and so does what moves.
        assert_eq!(mremap(space, 0, 4, 6, Mremap::Fixed(va(5))).await, Ok(5));
        assert_eq!(shape(space), [(5, 6, Prot::RW)]);
        space.set_limits(Limits {
            locked: 7 * PAGE,
            ..Limits::UNLIMITED
        });
        space.mlock(range(5, 11)).await.unwrap();
        assert_eq!(
            mremap(space, 5, 6, 8, Mremap::MayMove).await,
            Err(VmError::Limit)
        );
        assert_eq!(
            mremap(space, 5, 6, 8, Mremap::Fixed(va(20))).await,
            Err(VmError::Limit)
        );
        assert_eq!(mremap(space, 5, 6, 6, Mremap::Fixed(va(20))).await, Ok(20));
        assert_eq!(space.regions()[0].wired, 1);
        assert_eq!(mremap(space, 20, 6, 6, Mremap::Fixed(va(5))).await, Ok(5));
        assert_eq!(mremap(space, 5, 6, 7, Mremap::InPlace).await, Ok(5));
        // The new page is wired, too, and all of them are one mapping.
        assert_eq!(space.locked(), 7 * PAGE);
        assert_eq!(shape(space), [(5, 7, Prot::RW)]);
        space.uvm().check().unwrap();
        space.munlock(range(5, 12)).await.unwrap();
    });
    world.check_quiet();
}

#[test]
fn shared_memory_is_mapped_twice_by_a_length_of_zero() {
    let world = World::new(512, 0);
    let space = world.space();
    let program = world.program(&space);
    let object = UvmObject::anonymous(&world.uvm, Pages(8)).unwrap();
    let of_object = MapRequest::object(object.clone(), PageIndex(2), 4 * PAGE_SIZE, Prot::RW);
    space
        .map(of_object.shared().at(Placement::Fixed(va(0))))
        .unwrap();
    space.map(anonymous(10, 4).shared()).unwrap();
    world.run(async move {
        let space = program.space();
        assert_eq!(
            mremap(space, 0, 0, 1, Mremap::InPlace).await,
            Err(VmError::OutOfMemory)
        );
        for old in [0, 10] {
            program.store(at(old + 1), 7).await.unwrap();
            let second = space
                .mremap(va(old + 1), 0, 5 * PAGE, Mremap::MayMove)
                .await;
            let second = second.unwrap().as_u64();
            assert_eq!(program.load(second).await, Ok(7));
            program.store(second + PAGE, 8).await.unwrap();
            assert_eq!(program.load(at(old + 2)).await, Ok(8));
            program.store(at(old + 3), 9).await.unwrap();
            assert_eq!(program.load(second + 2 * PAGE).await, Ok(9));
            // Beyond the mapping: the object goes on, the other memory is new.
            program.store(second + 4 * PAGE, 6).await.unwrap();
        }
        assert_eq!(object.resident(), 4);
        assert_eq!(mremap(space, 10, 0, 2, Mremap::Fixed(va(0))).await, Ok(0));
        assert_eq!(program.load(at(1)).await, Ok(7));
        space.deactivate();
        space.teardown().await;
    });
    assert_eq!(world.check_quiet().anons, 0);
}

#[test]
fn a_growing_object_mapping_shows_the_next_pages_but_none_past_the_last_index() {
    let world = World::new(512, 0);
    let space = world.space();
    let program = world.program(&space);
    let object = UvmObject::anonymous(&world.uvm, Pages(8)).unwrap();
    let last = PageIndex(u64::MAX - 2);
    for (page, offset) in [(0, PageIndex(2)), (10, last)] {
        let request = MapRequest::object(object.clone(), offset, 2 * PAGE_SIZE, Prot::RW).shared();
        space.map(request.at(Placement::Fixed(va(page)))).unwrap();
    }
    world.run(async move {
        let space = program.space();
        assert_eq!(mremap(space, 0, 2, 4, Mremap::InPlace).await, Ok(0));
        program.store(at(3), 1).await.unwrap();
        assert!(object.is_resident(PageIndex(5)));
        assert_eq!(
            mremap(space, 10, 2, 4, Mremap::MayMove).await,
            Err(VmError::Invalid)
        );
        assert_eq!(
            mremap(space, 10, 0, 4, Mremap::MayMove).await,
            Err(VmError::Invalid)
        );
        assert_eq!(mremap(space, 0, 4, 9, Mremap::Fixed(va(20))).await, Ok(20));
        assert_eq!(program.load(at(28)).await, Err(FaultError::BeyondEnd));
    });
    world.check_quiet();
}

#[test]
fn without_memory_a_mapping_stays_as_it_was() {
    let (world, program) = filled(8);
    let space = program.space().clone();
    let p = program.clone();
    world.run(async move { p.space().map(anonymous(20, 8)).map(drop).unwrap() });
    let before = shape(&space);
    let mut failures = 0;
    for left in 0.. {
        let hog = Hog::new(&space, left);
        let s = space.clone();
        // It needs two entries for the ends of what moves, two for those of what is replaced, and one to grow into.
        let moved = world.run(async move { mremap(&s, 2, 4, 5, Mremap::Fixed(va(21))).await });
        drop(hog);
        if moved == Ok(21) {
            break;
        }
        assert_eq!(moved, Err(VmError::OutOfMemory));
        assert_eq!(shape(&space), before);
        assert_eq!(entries(&space), 2, "nothing stays clipped");
        let p = program.clone();
        let bytes = world.run(async move { p.peek(at(0), 8).await.unwrap() });
        assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 7, 8]);
        world.check_quiet();
        failures += 1;
    }
    assert_eq!(failures, 5);
    let bytes = world.run(async move { program.peek(at(21), 5).await.unwrap() });
    assert_eq!(bytes, [3, 4, 5, 6, 0]);
    world.check_quiet();
}

#[test]
fn locked_memory_stays_locked_and_grows_so() {
    let (world, program) = filled(4);
    world.run(async move {
        let space = program.space();
        let uvm = space.uvm();
        let wired = |pages| {
            assert_eq!(space.locked(), pages * PAGE);
            assert_eq!(uvm.meter().gauge(Gauge::Wired), pages);
            assert_eq!(space.pmap().stats().wired as u64, pages);
            uvm.check().unwrap();
        };
        // Twice, to see that both are kept.
        for _ in 0..2 {
            space.mlock(range(0, 4)).await.unwrap();
        }
        space.map(anonymous(6, 1)).unwrap();
        assert_eq!(mremap(space, 0, 4, 6, Mremap::InPlace).await, Ok(0));
        wired(6);
        assert_eq!(space.regions()[0].wired, 2);
        assert_eq!(entries(space), 2);
        let fixed = Mremap::Fixed(va(20));
        assert_eq!(mremap(space, 0, 6, 8, fixed).await, Ok(20));
        wired(8);
        let faults = uvm.meter().get(Counter::Faults);
        assert_eq!(
            program.peek(at(20), 8).await.unwrap(),
            [1, 2, 3, 4, 0, 0, 0, 0]
        );
        program.touch(at(20), 8, 9).await.unwrap();
        assert_eq!(
            uvm.meter().get(Counter::Faults),
            faults,
            "none of it faults"
        );
        // A part moves, a part of what is wired is replaced, and the rest shrinks.
        assert_eq!(mremap(space, 22, 2, 2, Mremap::Fixed(va(26))).await, Ok(26));
        wired(6);
        assert_eq!(mremap(space, 24, 4, 1, Mremap::InPlace).await, Ok(24));
        wired(3);
        // Too much for the system is there, unlocked.
        uvm.meter().set(Gauge::Wiredmax, 4);
        assert_eq!(mremap(space, 24, 1, 9, Mremap::MayMove).await, Ok(24));
        wired(3);
        assert_eq!(program.load(at(32)).await, Ok(0));
        space.deactivate();
        space.teardown().await;
        wired(0);
    });
    world.check_quiet();
}

#[test]
fn a_devices_memory_moves_but_does_not_grow() {
    let world = World::new(256, 0);
    let space = world.space();
    let device = UvmObject::device(&world.uvm, PhysAddr::new(0xfd00_0000), Pages(8)).unwrap();
    let request = MapRequest::object(device, PageIndex(0), 4 * PAGE_SIZE, Prot::RW).shared();
    space.map(request.at(Placement::Fixed(va(0)))).unwrap();
    world.run(async move {
        let not = Err(VmError::Unmapped);
        for from in [0, 4] {
            assert_eq!(mremap(&space, 0, from, 5, Mremap::MayMove).await, not);
        }
        assert_eq!(mremap(&space, 0, 4, 3, Mremap::Fixed(va(20))).await, Ok(20));
        assert_eq!(shape(&space), [(20, 3, Prot::RW)]);
        space.teardown().await;
    });
    world.check_quiet();
}

#[test]
fn a_locked_mapping_that_moves_and_grows_stays_one() {
    let (world, program) = filled(2);
    world.run(async move {
        let space = program.space();
        space.unmap(range(0, 2)).await.unwrap();
        let object = UvmObject::anonymous(space.uvm(), Pages(16)).unwrap();
        let private = MapRequest::object(object, PageIndex(0), 4 * PAGE_SIZE, Prot::RW);
        for request in [anonymous(0, 4), private.at(Placement::Exclusive(va(0)))] {
            space.map(request).unwrap();
            space.mlock(range(0, 4)).await.unwrap();
            let moved = mremap(space, 0, 4, 7, Mremap::Fixed(va(20))).await;
            assert_eq!(moved, Ok(20));
            assert_eq!(space.locked(), 7 * PAGE);
            assert_eq!(entries(space), 1);
            space.unmap(range(20, 27)).await.unwrap();
        }
    });
}
