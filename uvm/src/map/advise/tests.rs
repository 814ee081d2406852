//! What is given up, what is kept for others, and what is read ahead of any fault.

use alloc::sync::Arc;
use core::time::Duration;

use super::*;
use crate::addr::{PAGE_SIZE, Pages};
use crate::map::{MapRequest, Placement};
use crate::meter::Gauge;
use crate::prot::{Access, Prot};
use crate::sim::World;
use crate::sim::disk::{Layout, Mode, SimDisk, SimFile};

const PAGE: u64 = PAGE_SIZE as u64;
const AT: u64 = 0x1000_0000;
const OTHER: u64 = 0x2000_0000;

fn range(at: u64, pages: usize) -> VaRange {
    VaRange::of_pages(VirtAddr::new(at), pages)
}

fn private(space: &VmSpace, at: u64, pages: usize) {
    let request = MapRequest::anonymous(pages * PAGE_SIZE, Prot::RW);
    let request = request.at(Placement::Exclusive(VirtAddr::new(at)));
    space.map(request).unwrap();
}

fn wire(space: &VmSpace, at: u64) {
    let mut map = space.map.write();
    map.change(space.uvm(), at, at + PAGE, |entry| entry.wired = 1)
        .unwrap();
}

#[test]
fn private_memory_is_zeroes_again_and_its_frames_are_free() {
    let world = World::new(1024, 0);
    let space = world.space();
    let (program, uvm) = (world.program(&space), world.uvm.clone());
    world.run(async move {
        // More than one budget, with both operations.
        private(&space, AT, 700);
        for free in [false, true] {
            program.touch(AT, 700, 1).await.unwrap();
            let before = uvm.free_frames();
            let part = range(AT + 10 * PAGE, 680);
            if free {
                space.free(part).await.unwrap();
            } else {
                space.dont_need(part).await.unwrap();
            }
            assert!(uvm.free_frames() >= before + 680);
            assert_eq!(space.resident_pages(), 20);
            uvm.check().unwrap();
            assert_eq!(program.load(AT + 9 * PAGE).await, Ok(1));
            assert_eq!(program.load(AT + 10 * PAGE).await, Ok(0));
            assert_eq!(program.load(AT + 689 * PAGE).await, Ok(0));
            assert_eq!(program.load(AT + 690 * PAGE).await, Ok(1));
        }
        // Nearly nothing in very much.
        private(&space, OTHER, 1 << 22);
        program.store(OTHER, 1).await.unwrap();
        program.store(OTHER + (3 << 32), 1).await.unwrap();
        space.dont_need(range(OTHER, 1 << 22)).await.unwrap();
        assert_eq!(program.load(OTHER + (3 << 32)).await, Ok(0));
    });
    world.check_quiet();
}

#[test]
fn others_keep_what_they_share_by_copy_on_write() {
    let world = World::new(512, 0);
    let space = world.space();
    let parent = world.program(&space);
    let forker = parent.clone();
    let child = world.run(async move {
        private(forker.space(), AT, 4);
        forker.touch(AT, 4, 1).await.unwrap();
        forker.space().fork().await.unwrap()
    });
    let child = world.program(&child);
    let uvm = world.uvm.clone();
    world.run(async move {
        child.space().dont_need(range(AT, 2)).await.unwrap();
        assert_eq!(child.peek(AT, 4).await.unwrap(), [0, 0, 1, 1]);
        assert_eq!(parent.peek(AT, 4).await.unwrap(), [1; 4]);
        parent.space().free(range(AT + PAGE, 2)).await.unwrap();
        assert_eq!(parent.peek(AT, 4).await.unwrap(), [1, 0, 0, 1]);
        assert_eq!(child.peek(AT, 4).await.unwrap(), [0, 0, 1, 1]);
        uvm.check().unwrap();
    });
    world.check_quiet();
}

#[test]
fn who_sees_each_others_writes_sees_the_zeroes_too() {
    let world = World::new(512, 0);
    let space = world.space();
    let parent = world.program(&space);
    let forker = parent.clone();
    let partner = world.run(async move {
        private(forker.space(), AT, 2);
        let share = crate::Inherit::Share;
        forker.space().inherit(range(AT, 2), share).await.unwrap();
        forker.touch(AT, 2, 1).await.unwrap();
        forker.space().fork().await.unwrap()
    });
    let partner = world.program(&partner);
    let uvm = world.uvm.clone();
    world.run(async move {
        partner.touch(AT, 2, 2).await.unwrap();
        // A third look at one of the anons, so that it outlives its slot.
        private(parent.space(), OTHER, 1);
        let to = VirtAddr::new(OTHER);
        parent
            .space()
            .loan_to(range(AT, 1), parent.space(), to)
            .await
            .unwrap();
        assert_eq!(partner.load(AT).await, Ok(2));
        parent.space().dont_need(range(AT, 2)).await.unwrap();
        uvm.check().unwrap();
        assert_eq!(partner.peek(AT, 2).await.unwrap(), [0, 0]);
        assert_eq!(parent.load(OTHER).await, Ok(2));
    });
    world.check_quiet();
}

#[test]
fn shared_memory_stays_and_a_private_file_mapping_shows_the_file() {
    let world = World::new(512, 0);
    let after = Mode::After(Duration::from_micros(10));
    let disk = SimDisk::new(&world.uvm, 1 << 20, after);
    let file = SimFile::new(&disk, Layout::Contiguous(0));
    let files = world.file(file.clone(), 4 * PAGE);
    let object = UvmObject::anonymous(&world.uvm, Pages(4)).unwrap();
    let (space, uvm) = (world.space(), world.uvm.clone());
    let program = world.program(&space);
    world.run(async move {
        let at = |at| Placement::Exclusive(VirtAddr::new(at));
        let len = 4 * PAGE_SIZE;
        let request = MapRequest::object(object.clone(), PageIndex(0), len, Prot::RW);
        space.map(request.shared().at(at(AT))).unwrap();
        let request = MapRequest::object(files.object().clone(), PageIndex(0), len, Prot::RW);
        space.map(request.at(at(OTHER))).unwrap();
        let anonymous = MapRequest::anonymous(len, Prot::RW).shared();
        space.map(anonymous.at(at(OTHER + 4 * PAGE))).unwrap();
        for va in [AT, OTHER, OTHER + 4 * PAGE] {
            program.touch(va, 4, 200).await.unwrap();
            space.dont_need(range(va, 4)).await.unwrap();
            assert_eq!(space.resident_pages(), 0);
            assert_eq!(uvm.check().unwrap().mappings, 0);
        }
        assert_eq!(program.peek(AT, 4).await.unwrap(), [200; 4]);
        assert_eq!(program.load(OTHER).await, Ok(file.byte(0)));
        assert_eq!(program.peek(OTHER + 4 * PAGE, 4).await.unwrap(), [200; 4]);
        for va in [AT, OTHER, OTHER + 4 * PAGE] {
            assert_eq!(space.free(range(va, 1)).await, Err(VmError::Invalid));
        }
    });
    world.check_quiet();
}

#[test]
fn holes_are_reported_after_the_rest_and_what_is_wired_refuses() {
    let world = World::new(512, 0);
    let space = world.space();
    let program = world.program(&space);
    world.run(async move {
        private(&space, AT, 2);
        private(&space, AT + 4 * PAGE, 2);
        let all = range(AT - PAGE, 8);
        program.touch(AT, 2, 1).await.unwrap();
        program.touch(AT + 4 * PAGE, 2, 1).await.unwrap();
        assert_eq!(space.dont_need(all).await, Err(VmError::Unmapped));
        assert_eq!(space.resident_pages(), 0);
        assert_eq!(space.will_need(all).await, Err(VmError::Unmapped));
        assert_eq!(space.dont_need(range(AT, 3)).await, Err(VmError::Unmapped));
        assert_eq!(space.dont_need(range(AT, 0)).await, Ok(()));
        program.touch(AT, 2, 1).await.unwrap();
        wire(&space, AT + PAGE);
        assert_eq!(space.dont_need(range(AT, 2)).await, Err(VmError::Invalid));
        assert_eq!(space.free(range(AT + PAGE, 1)).await, Err(VmError::Invalid));
        assert_eq!(program.peek(AT, 2).await.unwrap(), [0, 1]);
    });
    world.check();
}

#[test]
fn will_need_starts_reads_and_returns() {
    let world = World::new(1024, 0);
    let disk = SimDisk::new(&world.uvm, 1 << 20, Mode::Told);
    let file = SimFile::new(&disk, Layout::Contiguous(0));
    let files = world.file(file.clone(), 64 * PAGE);
    let space = world.space();
    let request = MapRequest::object(
        files.object().clone(),
        PageIndex(0),
        80 * PAGE_SIZE,
        Prot::RW,
    );
    let at = Placement::Exclusive(VirtAddr::new(AT));
    space.map(request.at(at)).unwrap();
    let asker = space.clone();
    // The disk has answered nothing when this returns.
    world.run(async move { asker.will_need(range(AT + 2 * PAGE, 10)).await.unwrap() });
    assert_eq!((disk.reads(), disk.pending()), (1, 1));
    let resident = |index| files.object().is_resident(PageIndex(index));
    assert!(!resident(1) && (2..12).all(resident));
    assert_eq!(space.resident_pages(), 0);
    // A fault finds the read under way; asking again finds nothing to do.
    let program = world.program(&space);
    let load = async move { program.load(AT + 2 * PAGE).await };
    let load = world.executor.spawn(executor::Class::User, "program", load);
    let asker = space.clone();
    world.run(async move { asker.will_need(range(AT + 2 * PAGE, 10)).await.unwrap() });
    assert_eq!(disk.reads(), 1);
    disk.complete(1);
    assert_eq!(world.run(load), Ok(file.byte(2 * PAGE)));
    // All of it, and past the file's end; what is hidden by a page of the program's own is not read.
    assert_eq!(
        space.try_fault(VirtAddr::new(AT + 2 * PAGE), Access::Write),
        Some(Ok(()))
    );
    let uvm = world.uvm.clone();
    files.object().evict_unused(&uvm, PageIndex(0), 3);
    let asker = space.clone();
    world.run(async move { asker.will_need(range(AT, 80)).await.unwrap() });
    assert!((0..64).filter(|&i| i != 2).all(resident));
    while disk.complete(1) > 0 {}
    world.check_quiet();
}

#[test]
fn will_need_stops_where_memory_or_slots_would_get_short() {
    let after = Mode::After(Duration::from_micros(10));
    for (frames, mode) in [(256, Mode::Told), (256, after), (16 << 10, Mode::Told)] {
        let world = World::new(frames, 0);
        let pages = 10_000;
        let disk = SimDisk::new(&world.uvm, 1 << 30, mode);
        let file: Arc<SimFile> = SimFile::new(&disk, Layout::Contiguous(0));
        let files = world.file(file, pages * PAGE);
        let space = world.space();
        let request = MapRequest::object(
            files.object().clone(),
            PageIndex(0),
            pages as usize * PAGE_SIZE,
            Prot::READ,
        );
        let at = Placement::Exclusive(VirtAddr::new(AT));
        space.map(request.at(at)).unwrap();
        let asker = space.clone();
        world.run(async move { asker.will_need(range(AT, pages as usize)).await.unwrap() });
        let uvm = &world.uvm;
        assert!(
            uvm.io().free() >= IO_SLOTS / 2 - 9,
            "{} free slots",
            uvm.io().free()
        );
        assert!(uvm.free_frames() as u64 + 150 > uvm.meter().gauge(Gauge::Freetarg));
        assert!(files.object().resident() > frames.min(2000) / 2);
        while disk.complete(1) > 0 {}
        world.run(async {});
    }
}

#[test]
fn will_need_reads_nothing_for_what_lies_behind_its_range() {
    let world = World::new(512, 0);
    let chance = Mode::Chance {
        seed: 1,
        failing: 0,
    };
    let disk = SimDisk::new(&world.uvm, 1 << 20, chance);
    let file = world.file(SimFile::new(&disk, Layout::Contiguous(0)), 64 * PAGE);
    let space = world.space();
    let request = MapRequest::object(
        file.object().clone(),
        PageIndex(0),
        64 * PAGE_SIZE,
        Prot::READ,
    );
    let request = request.at(Placement::Exclusive(VirtAddr::new(AT)));
    space.map(request).unwrap();
    let program = world.program(&space);
    world.run(async move {
        space.advise(range(AT, 64), Advice::Random).await.unwrap();
        program.peek(AT, 4).await.unwrap();
        assert_eq!(disk.reads(), 4);
        space.will_need(range(AT, 4)).await.unwrap();
        assert_eq!(disk.reads(), 4);
        space.will_need(range(AT, 5)).await.unwrap();
        assert!(disk.reads() > 4);
    });
}
