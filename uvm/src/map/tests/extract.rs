//! Extraction: sharing, copying, moving; debuggers.

use alloc::sync::Arc;
use alloc::vec;
use core::time::Duration;

use super::{Hog, PAGE, anonymous, at, entries, range, shape, va};
use crate::addr::{PAGE_SIZE, PageIndex, VaRange, VirtAddr};
use crate::fault::FaultError;
use crate::map::entry::Role;
use crate::map::{Extract, Inherit, Limits, MapRequest, Placement, VmError, VmSpace};
use crate::meter::{Counter, Gauge};
use crate::object::vnode::FileMap;
use crate::prot::Prot;
use crate::sim::disk::{Layout, Mode, SimDisk, SimFile};
use crate::sim::{Program, World};

const ANYWHERE: Placement = Placement::Anywhere(None);

fn here(page: u64) -> Placement {
    Placement::Exclusive(va(page))
}

/// A machine and two programs, the first of which has `pages` pages that hold their number and one.
fn two(pages: u64) -> (World, Program, Program) {
    let world = World::new(512, 0);
    let (a, b) = (world.program(&world.space()), world.program(&world.space()));
    let program = a.clone();
    world.run(async move {
        program.space().map(anonymous(0, pages)).unwrap();
        for page in 0..pages {
            program.store(at(page), page as u8 + 1).await.unwrap();
        }
    });
    (world, a, b)
}

/// Ends a program.
async fn exit(program: Program) {
    program.space().deactivate();
    program.space().teardown().await;
}

#[test]
fn what_is_shared_is_the_same_memory_until_one_is_left() {
    let (world, a, b) = two(8);
    let (a2, b2) = (a.clone(), b.clone());
    world.run(async move {
        let (a, b) = (a2, b2);
        let shared = a
            .space()
            .extract(range(2, 6), b.space(), Extract::Share, here(30))
            .await;
        assert_eq!(shared, Ok(va(30)));
        assert_eq!(b.peek(at(30), 4).await.unwrap(), [3, 4, 5, 6]);
        b.store(at(31), 50).await.unwrap();
        assert_eq!(a.load(at(3)).await, Ok(50));
        a.store(at(4), 51).await.unwrap();
        assert_eq!(b.load(at(32)).await, Ok(51));
        assert_eq!(b.load(at(34)).await, Err(FaultError::NoMapping));
        // Untouched memory as well.
        a.space().map(anonymous(10, 2)).unwrap();
        let part = range(10, 12);
        a.space()
            .extract(part, b.space(), Extract::Share, here(40))
            .await
            .unwrap();
        b.store(at(40), 52).await.unwrap();
        assert_eq!(a.load(at(10)).await, Ok(52));
        let copies = a.space().uvm().meter().get(Counter::FltAmcopy);
        exit(b).await;
        // The last one has it alone: fork puts the copy off again.
        let child = a.space().fork().await.unwrap();
        assert_eq!(a.space().uvm().meter().get(Counter::FltAmcopy), copies);
        child.teardown().await;
    });
    world.check_quiet();
    world.run(async move { exit(a).await });
    drop(b);
    assert_eq!(world.check_quiet().anons, 0);
}

#[test]
fn a_copy_is_a_copy() {
    let (world, a, b) = two(8);
    let (a2, b2) = (a.clone(), b.clone());
    world.run(async move {
        let (a, b) = (a2, b2);
        let how = Extract::Copy;
        assert_eq!(
            a.space()
                .extract(range(2, 6), b.space(), how, here(30))
                .await,
            Ok(va(30))
        );
        assert_eq!(
            a.space().uvm().meter().gauge(Gauge::Anonpages),
            8,
            "nothing is copied yet"
        );
        b.store(at(31), 50).await.unwrap();
        a.store(at(4), 51).await.unwrap();
        assert_eq!(a.peek(at(0), 8).await.unwrap(), [1, 2, 3, 4, 51, 6, 7, 8]);
        assert_eq!(b.peek(at(30), 4).await.unwrap(), [3, 50, 5, 6]);
        // Of shared memory at once.
        a.space()
            .extract(range(2, 6), b.space(), Extract::Share, here(50))
            .await
            .unwrap();
        a.space()
            .extract(range(2, 6), b.space(), how, here(60))
            .await
            .unwrap();
        b.store(at(50), 70).await.unwrap();
        assert_eq!(a.load(at(2)).await, Ok(70));
        assert_eq!(b.load(at(60)).await, Ok(3));
        exit(a).await;
        assert_eq!(b.peek(at(30), 4).await.unwrap(), [3, 50, 5, 6]);
    });
    world.check_quiet();
    drop(a);
    world.run(async move { exit(b).await });
    assert_eq!(world.check_quiet().anons, 0);
}

#[test]
fn what_moves_is_gone_here_and_whole_there() {
    let (world, a, b) = two(8);
    let (a2, b2) = (a.clone(), b.clone());
    world.run(async move {
        let (a, b) = (a2, b2);
        b.space().map(anonymous(30, 8)).unwrap();
        b.touch(at(30), 8, 99).await.unwrap();
        let place = Placement::Fixed(va(31));
        let moved = a
            .space()
            .extract(range(2, 6), b.space(), Extract::Remove, place)
            .await;
        assert_eq!(moved, Ok(va(31)));
        assert_eq!(
            b.peek(at(30), 8).await.unwrap(),
            [99, 3, 4, 5, 6, 99, 99, 99]
        );
        assert_eq!(shape(a.space()), [(0, 2, Prot::RW), (6, 2, Prot::RW)]);
        assert_eq!((a.space().size(), b.space().size()), (4 * PAGE, 8 * PAGE));
        assert_eq!(a.load(at(2)).await, Err(FaultError::NoMapping));
        assert_eq!(a.space().uvm().meter().gauge(Gauge::Anonpages), 4 + 8);
        b.touch(at(31), 4, 7).await.unwrap();
        assert_eq!(
            a.space().uvm().meter().gauge(Gauge::Anonpages),
            4 + 8,
            "in place"
        );
        // Within one space: what mremap does.
        let back = a
            .space()
            .extract(range(6, 8), a.space(), Extract::Remove, here(2))
            .await;
        assert_eq!(back, Ok(va(2)));
        assert_eq!(a.peek(at(0), 4).await.unwrap(), [1, 2, 7, 8]);
        let over = Placement::Fixed(va(1));
        let itself = a
            .space()
            .extract(range(0, 2), a.space(), Extract::Remove, over)
            .await;
        assert_eq!(itself, Err(VmError::Invalid));
        assert_eq!(a.peek(at(0), 4).await.unwrap(), [1, 2, 7, 8]);
    });
    world.check_quiet();
    world.run(async move {
        exit(a).await;
        exit(b).await;
    });
    assert_eq!(world.check_quiet().anons, 0);
}

#[test]
fn a_stack_that_moves_grows_where_it_is_then() {
    let (world, a, b) = two(1);
    world.run(async move {
        a.space().map(anonymous(5000, 2).growing()).unwrap();
        a.store(at(5001), 1).await.unwrap();
        let part = range(5000, 5002);
        a.space()
            .extract(part, b.space(), Extract::Copy, here(1000))
            .await
            .unwrap();
        assert_eq!(
            b.store(at(999), 1).await,
            Err(FaultError::NoMapping),
            "a copy is no stack"
        );
        a.space()
            .extract(part, b.space(), Extract::Remove, here(3000))
            .await
            .unwrap();
        b.space().set_limits(Limits {
            stack: 4 * PAGE,
            ..Limits::UNLIMITED
        });
        b.store(at(2998), 2).await.unwrap();
        assert_eq!(b.store(at(2997), 2).await, Err(FaultError::NoMapping));
        assert_eq!(b.peek(at(2998), 4).await.unwrap(), [2, 0, 0, 1]);
    });
    world.check_quiet();
}

#[test]
fn what_is_wired_stays_so_when_it_moves_and_is_copied_at_once() {
    let (world, a, b) = two(8);
    let (a2, b2) = (a.clone(), b.clone());
    world.run(async move {
        let (a, b) = (a2, b2);
        let uvm = &a.space().uvm().clone();
        a.space().mlock(range(1, 7)).await.unwrap();
        let faultless = async |program: &Program, page, byte| {
            let faults = uvm.meter().get(Counter::Faults);
            program.store(at(page), byte).await.unwrap();
            assert_eq!(uvm.meter().get(Counter::Faults), faults);
        };
        // A copy, which is not wired itself, is none of the source's business; nor who shares it.
        a.space()
            .extract(range(0, 8), b.space(), Extract::Copy, here(30))
            .await
            .unwrap();
        faultless(&a, 2, 50).await;
        a.space()
            .extract(range(2, 4), b.space(), Extract::Share, here(50))
            .await
            .unwrap();
        faultless(&a, 2, 51).await;
        assert_eq!(b.peek(at(30), 8).await.unwrap(), [1, 2, 3, 4, 5, 6, 7, 8]);
        b.store(at(50), 52).await.unwrap();
        assert_eq!(a.load(at(2)).await, Ok(52));
        a.space().poke(va(3), &[53]).await.unwrap();
        faultless(&a, 3, 54).await;
        assert_eq!((a.space().locked(), b.space().locked()), (6 * PAGE, 0));
        uvm.check().unwrap();

        let to_move = range(4, 8);
        b.space().set_limits(Limits {
            locked: 2 * PAGE,
            ..Limits::UNLIMITED
        });
        let how = Extract::Remove;
        let over = a.space().extract(to_move, b.space(), how, here(60)).await;
        assert_eq!(over, Err(VmError::Limit));
        b.space().set_limits(Limits::UNLIMITED);
        a.space()
            .extract(to_move, b.space(), how, here(60))
            .await
            .unwrap();
        assert_eq!(
            (a.space().locked(), b.space().locked()),
            (3 * PAGE, 3 * PAGE)
        );
        assert_eq!(b.space().pmap().stats().wired, 3);
        faultless(&b, 62, 9).await;
        a.space()
            .extract(range(1, 4), a.space(), how, here(70))
            .await
            .unwrap();
        faultless(&a, 71, 9).await;
        assert_eq!(uvm.meter().gauge(Gauge::Wired), 6);
        uvm.check().unwrap();
        exit(a).await;
        exit(b).await;
        assert_eq!(uvm.meter().gauge(Gauge::Wired), 0);
    });
    drop((a, b));
    assert_eq!(world.check_quiet().anons, 0);
}

#[test]
fn a_large_wired_range_is_copied_in_parts() {
    let world = World::new(2048, 0);
    let (a, b) = (world.program(&world.space()), world.program(&world.space()));
    let uvm = world.uvm.clone();
    world.run(async move {
        uvm.meter().set(Gauge::Wiredmax, 1000);
        a.space().map(anonymous(0, 300)).unwrap();
        a.touch(at(0), 300, 7).await.unwrap();
        a.space().mlock(range(0, 300)).await.unwrap();
        let polls = uvm.executor().switches();
        uvm.executor().tick();
        let (part, how) = (range(10, 290), Extract::Copy);
        a.space()
            .extract(part, b.space(), how, here(10))
            .await
            .unwrap();
        assert!(uvm.executor().switches() > polls, "in parts");
        a.touch(at(0), 300, 8).await.unwrap();
        assert_eq!(b.peek(at(10), 280).await.unwrap(), [7; 280]);
        uvm.check().unwrap();
    });
    world.check_quiet();
}

#[test]
fn errors_leave_both_as_they_were() {
    let (world, a, b) = two(4);
    world.run(async move {
        let (source, target) = (a.space(), b.space());
        source.map(anonymous(6, 2)).unwrap();
        target.map(anonymous(30, 2)).unwrap();
        b.touch(at(30), 2, 9).await.unwrap();
        target.set_limits(Limits {
            address_space: 5 * PAGE,
            ..Limits::UNLIMITED
        });
        let before = (shape(source), shape(target));
        let everywhere = VaRange::new(va(0), VirtAddr::new(1 << 46));
        for how in [
            Extract::Share,
            Extract::ShareMaximum,
            Extract::Copy,
            Extract::Remove,
        ] {
            for (part, placement, error) in [
                (range(2, 2), ANYWHERE, VmError::Invalid),
                (range(2, 8), ANYWHERE, VmError::Unmapped),
                (range(20, 21), ANYWHERE, VmError::Unmapped),
                (everywhere, ANYWHERE, VmError::Unmapped),
                (range(0, 2), here(31), VmError::Exists),
                (range(0, 4), here(40), VmError::Limit),
                (
                    range(0, 2),
                    Placement::Fixed(va(0) + 8u64),
                    VmError::Invalid,
                ),
                (
                    range(0, 2),
                    Placement::Fixed(VirtAddr::new(0)),
                    VmError::Invalid,
                ),
            ] {
                let result = source.extract(part, target, how, placement).await;
                assert_eq!(result, Err(error), "{how:?} of {part:?} to {placement:?}");
            }
            assert_eq!((shape(source), shape(target)), before);
        }
        assert_eq!(a.peek(at(0), 4).await.unwrap(), [1, 2, 3, 4]);
        assert_eq!(b.peek(at(30), 2).await.unwrap(), [9, 9]);
    });
    world.check_quiet();
}

#[test]
fn without_memory_both_stay_as_they_were() {
    for how in [Extract::Share, Extract::Copy, Extract::Remove] {
        let (world, a, b) = two(12);
        let (a2, b2) = (a.clone(), b.clone());
        world.run(async move {
            // Three mappings, in the midst of which it may fail, and something to replace.
            a2.space().protect(range(4, 8), Prot::READ).await.unwrap();
            b2.space().map(anonymous(30, 20)).unwrap();
            b2.touch(at(30), 20, 99).await.unwrap();
        });
        let before = (shape(a.space()), shape(b.space()));
        let mut failures = 0;
        for left in 0.. {
            let hog = Hog::new(a.space(), left);
            let (from, to) = (a.space().clone(), b.space().clone());
            let place = Placement::Fixed(va(32));
            let result =
                world.run(async move { from.extract(range(2, 10), &to, how, place).await });
            drop(hog);
            if result == Ok(va(32)) {
                break;
            }
            assert_eq!(result, Err(VmError::OutOfMemory));
            assert_eq!((shape(a.space()), shape(b.space())), before);
            world.check_quiet();
            let (a, b) = (a.clone(), b.clone());
            world.run(async move {
                assert_eq!(
                    a.peek(at(0), 12).await.unwrap(),
                    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
                );
                assert_eq!(b.peek(at(30), 20).await.unwrap(), [99; 20]);
                a.store(at(3), 4).await.unwrap();
            });
            failures += 1;
        }
        // Three entries, or as many as are split; two for the ends of what is replaced.
        assert!((3..=7).contains(&failures), "{how:?}: {failures} failures");
        let bytes = {
            let b = b.clone();
            world.run(async move { b.peek(at(30), 12).await.unwrap() })
        };
        assert_eq!(bytes, [99, 99, 3, 4, 5, 6, 7, 8, 9, 10, 99, 99], "{how:?}");
        world.check_quiet();
        world.run(async move {
            exit(a).await;
            exit(b).await;
        });
        assert_eq!(world.check_quiet().anons, 0);
    }
}

#[test]
fn who_unmaps_a_place_that_is_reserved_wins() {
    let (world, a, b) = two(4);
    let (a2, b2) = (a.clone(), b.clone());
    world.run(async move {
        let (a, b) = (a2, b2);
        a.space().protect(range(2, 4), Prot::READ).await.unwrap();
        let place = b.space().reserve(4 * PAGE, here(30)).unwrap();
        assert_eq!(b.load(at(30)).await, Err(FaultError::Protection));
        let next = b.space().reserve(PAGE, here(34)).unwrap();
        assert_eq!((next, entries(b.space())), (at(34), 2), "never joined");
        // Nothing may be done with it, and asking for nothing harms nothing.
        let more = b.space().protect(range(31, 32), Prot::READ).await;
        assert_eq!(more, Err(VmError::Protection));
        b.space()
            .protect(range(30, 31), Prot::empty())
            .await
            .unwrap();
        b.space().unmap(range(33, 35)).await.unwrap();
        b.space().map(anonymous(33, 1)).unwrap();
        let mut parcel = a
            .space()
            .collect(at(0), at(4), Extract::Copy)
            .await
            .unwrap();
        b.space().arrive(&mut parcel, at(0), place, 4 * PAGE);
        assert_eq!(parcel.len(), 1);
        b.space().bury_slowly(parcel).await;
        assert_eq!(shape(b.space()), [(30, 2, Prot::RW), (33, 1, Prot::RW)]);
        assert!(
            b.space()
                .map
                .read()
                .tree
                .iter()
                .all(|e| e.role == Role::Plain)
        );
        assert_eq!(b.peek(at(30), 2).await.unwrap(), [1, 2]);
    });
    world.check_quiet();
    world.run(async move {
        exit(a).await;
        exit(b).await;
    });
    assert_eq!(world.check_quiet().anons, 0);
}

/// A machine and a file of four pages.
fn with_file() -> (World, Arc<SimFile>, Arc<crate::VnodeObject>) {
    let world = World::new(512, 0);
    let disk = SimDisk::new(&world.uvm, 1 << 20, Mode::After(Duration::from_micros(10)));
    let file = SimFile::new(&disk, Layout::Contiguous(0));
    let map: Arc<dyn FileMap> = file.clone();
    let object = world.file(map, 4 * PAGE);
    (world, file, object)
}

/// Maps the file privately, for reading, at page 0.
fn map_text(space: &VmSpace, object: &crate::VnodeObject) {
    let memory = object.object().clone();
    let request = MapRequest::object(memory, PageIndex(0), 4 * PAGE_SIZE, Prot::READ);
    space.map(request.at(here(0))).unwrap();
}

#[test]
fn row_14_a_debugger_writes_through_extract() {
    let (world, file, object) = with_file();
    let (space, other) = (world.space(), world.space());
    map_text(&space, &object);
    map_text(&other, &object);
    let (parent, stranger) = (world.program(&space), world.program(&other));
    let uvm = world.uvm.clone();
    let parent2 = parent.clone();
    let child = world.run(async move {
        // Two processes that share what is on top of the file.
        parent2
            .space()
            .inherit(range(0, 4), Inherit::Share)
            .await
            .unwrap();
        parent2.space().fork().await.unwrap()
    });
    let third = world.program(&child);
    drop(child);
    world.run(async move {
        let child = third;
        for program in [&parent, &child, &stranger] {
            assert_eq!(program.load(at(1) + 5).await, Ok(file.byte(PAGE + 5)));
        }
        let old = [file.byte(PAGE + 5)];
        let new = [!old[0]];
        let before = uvm.meter().get(Counter::FltPrcopy);
        parent
            .space()
            .poke(VirtAddr::new(at(1) + 5), &new)
            .await
            .unwrap();
        assert_eq!(
            uvm.meter().get(Counter::FltPrcopy) - before,
            1,
            "one page is copied"
        );
        assert_eq!(uvm.meter().gauge(Gauge::Anonpages), 1);
        for program in [&parent, &child] {
            assert_eq!(program.load(at(1) + 5).await, Ok(new[0]));
            assert_eq!(program.load(at(1) + 6).await, Ok(file.byte(PAGE + 6)));
            assert_eq!(
                program.store(at(1) + 5, 0).await,
                Err(FaultError::Protection)
            );
        }
        assert_eq!(stranger.load(at(1) + 5).await, Ok(old[0]));
        let hold = object.page_in(&uvm, PageIndex(1)).await.unwrap();
        let mut byte = [0];
        hold.bytes().read(5, &mut byte);
        assert_eq!(byte, old, "the file's page is as it was");
        drop(hold);
        // The other way round: the page that all share is written in place.
        child
            .space()
            .poke(VirtAddr::new(at(1) + 7), &[77])
            .await
            .unwrap();
        assert_eq!(parent.load(at(1) + 7).await, Ok(77));
        assert_eq!(uvm.meter().gauge(Gauge::Anonpages), 1);
        for program in [parent, child, stranger] {
            exit(program).await;
        }
        assert_eq!(uvm.meter().gauge(Gauge::Anonpages), 0);
    });
    drop((space, other));
    let report = world.check_quiet();
    assert_eq!((report.amaps, report.spaces), (0, 0), "no window is left");
}

#[test]
fn a_debugger_reads_and_writes_what_the_maximum_protection_allows() {
    let (world, a, _) = two(40);
    world.run(async move {
        let space = a.space();
        space.protect(range(1, 3), Prot::empty()).await.unwrap();
        let from = VirtAddr::new(at(1) - 2);
        let mut bytes = [0; 5];
        space.peek(from, &mut bytes).await.unwrap();
        assert_eq!(bytes, [0, 0, 2, 0, 0]);
        assert_eq!(a.load(at(1)).await, Err(FaultError::Protection));
        // More than a window, not at its edges.
        let data = vec![0x5a; 20 * PAGE_SIZE];
        space.poke(from, &data).await.unwrap();
        let mut back = vec![0; 20 * PAGE_SIZE + 4];
        space.peek(from - 2u64, &mut back).await.unwrap();
        assert_eq!(back[..2], [0, 0]);
        assert_eq!(back[2..][..data.len()], data);
        assert_eq!(back[2 + data.len()..], [0, 0]);
        assert_eq!(a.load(at(0) + PAGE - 1).await, Ok(0x5a));
        // A copy that a child still has is not written to.
        let child = space.fork().await.unwrap();
        space.poke(va(5), &[1]).await.unwrap();
        child.read_bytes(va(5), &mut bytes[..1]).await.unwrap();
        assert_eq!(bytes[0], 0x5a);
        assert_eq!(a.load(at(5)).await, Ok(1));
        child.teardown().await;
        // What can never be written, and what is not there.
        let mut request = anonymous(60, 1);
        request.max_prot = Prot::READ;
        request.prot = Prot::READ;
        space.map(request).unwrap();
        assert_eq!(space.poke(va(60), &[1]).await, Err(FaultError::Protection));
        space.peek(va(60), &mut bytes[..1]).await.unwrap();
        for at in [
            va(61),
            VirtAddr::new(at(61) - 1),
            VirtAddr::new(crate::map::USER_MAX - 1),
        ] {
            assert_eq!(space.peek(at, &mut bytes).await, Err(FaultError::NoMapping));
            assert_eq!(space.poke(at, &[0; 2]).await, Err(FaultError::NoMapping));
        }
    });
    world.check_quiet();
}

#[test]
fn what_is_shown_of_a_stack_does_not_grow() {
    let (world, a, b) = two(2);
    world.run(async move {
        a.space().map(anonymous(5000, 2).growing()).unwrap();
        a.touch(at(5000), 2, 9).await.unwrap();
        for (to, how) in [(7000, Extract::Share), (9000, Extract::Copy)] {
            let from = range(5000, 5002);
            let shown = a.space().extract(from, b.space(), how, here(to)).await;
            assert_eq!(shown, Ok(va(to)));
            assert_eq!(b.load(at(to)).await, Ok(9));
            let below = b.store(at(to - 1), 1).await;
            assert_eq!(below, Err(FaultError::NoMapping), "{how:?}");
        }
        exit(a).await;
        exit(b).await;
    });
    world.check_quiet();
}
