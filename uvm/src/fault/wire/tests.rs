//! Pages that are wired, and what others do to them.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::VnodeObject;
use crate::addr::{Frame, PAGE_SIZE, PageIndex, Pages, VaRange, VirtAddr};
use crate::map::{Advice, Inherit, MapRequest, Placement, VmError, VmSpace};
use crate::meter::{Counter, Gauge};
use crate::object::UvmObject;
use crate::prot::{Access, Prot};
use crate::sim::World;
use crate::sim::disk::{Layout, Mode, SimDisk, SimFile};
use crate::testing::HostConfig;

const AT: u64 = 0x1000_0000;
const PAGE: u64 = PAGE_SIZE as u64;

fn range(pages: usize) -> VaRange {
    VaRange::of_pages(VirtAddr::new(AT), pages)
}

fn here(request: MapRequest) -> MapRequest {
    request.at(Placement::Exclusive(VirtAddr::new(AT)))
}

fn file_on(world: &World, pages: u64) -> (Arc<SimFile>, Arc<VnodeObject>) {
    let delay = Mode::After(Duration::from_micros(10));
    let disk = SimDisk::new(&world.uvm, 64 << 20, delay);
    let file = SimFile::new(&disk, Layout::Contiguous(0));
    let object = world.file(file.clone(), pages * PAGE);
    (file, object)
}

fn of_file(object: &VnodeObject, pages: usize) -> MapRequest {
    let backing = object.object().clone();
    here(MapRequest::object(
        backing,
        PageIndex(0),
        pages * PAGE_SIZE,
        Prot::READ,
    ))
}

/// The frames that a space maps at the first pages of the range, all of them wired.
fn frames(space: &VmSpace, pages: usize) -> Vec<Frame> {
    let of = |page: usize| {
        let va = VirtAddr::new(AT + page as u64 * PAGE);
        let mapping = space.pmap().extract(space.uvm(), va).expect("mapped");
        assert!(mapping.wired);
        assert!(space.uvm().page(mapping.frame).wire_count() > 0);
        mapping.frame
    };
    (0..pages).map(of).collect()
}

/// As a debugger does: writes where the mapping allows only reads.
async fn poke(space: &VmSpace, page: u64, byte: u8) {
    let va = VirtAddr::new(AT + page * PAGE);
    let one = VaRange::of_pages(va, 1);
    space.protect(one, Prot::RW).await.unwrap();
    space.write_bytes(va, &[byte]).await.unwrap();
    space.protect(one, Prot::READ).await.unwrap();
}

#[test]
fn row_13_wiring_faults_at_maximum_protection() {
    let world = World::new(512, 0);
    let (file, library) = file_on(&world, 8);
    let [a, b, c] = core::array::from_fn(|_| {
        let space = world.space();
        space.map(of_file(&library, 8)).unwrap();
        world.program(&space)
    });
    let uvm = world.uvm.clone();
    world.run(async move {
        for program in [&a, &b, &c] {
            assert_eq!(program.load(AT + 2 * PAGE).await, Ok(file.byte(2 * PAGE)));
        }
        a.space().mlock(range(8)).await.unwrap();
        // Anonymous from the start, though nothing but reads is allowed.
        let before = frames(a.space(), 8);
        let anons: u64 = a.space().regions().iter().map(|region| region.anons).sum();
        assert_eq!(anons, 8);
        uvm.check().unwrap();
        poke(b.space(), 2, 201).await;
        assert_eq!(frames(a.space(), 8), before);
        uvm.check().unwrap();
        poke(a.space(), 2, 202).await;
        assert_eq!(frames(a.space(), 8), before, "in place");
        uvm.check().unwrap();
        assert_eq!(a.load(AT + 2 * PAGE).await, Ok(202));
        assert_eq!(b.load(AT + 2 * PAGE).await, Ok(201));
        assert_eq!(c.load(AT + 2 * PAGE).await, Ok(file.byte(2 * PAGE)));
        assert_eq!(a.load(AT + 3 * PAGE).await, Ok(file.byte(3 * PAGE)));
        a.space().munlock(range(4)).await.unwrap();
        assert_eq!(uvm.meter().gauge(Gauge::Wired), 4);
        uvm.check().unwrap();
        a.space().unmap(range(6)).await.unwrap();
        assert_eq!(uvm.meter().gauge(Gauge::Wired), 2);
        uvm.check().unwrap();
        a.space().deactivate();
        a.space().teardown().await;
        assert_eq!(uvm.meter().gauge(Gauge::Wired), 0);
        uvm.check().unwrap();
        assert_eq!(b.load(AT + 2 * PAGE).await, Ok(201));
        assert_eq!(c.load(AT + 2 * PAGE).await, Ok(file.byte(2 * PAGE)));
    });
    world.check_quiet();
}

#[test]
fn a_wired_page_never_goes_and_never_faults() {
    let config = HostConfig {
        frames: 160,
        torture_evict: true,
        ..HostConfig::default()
    };
    let world = World::with(&config, 5);
    let (file, object) = file_on(&world, 200);
    let space = world.space();
    space.map(of_file(&object, 200).shared()).unwrap();
    let program = world.program(&space);
    let uvm = world.uvm.clone();
    world.run(async move {
        program.space().mlock(range(24)).await.unwrap();
        let before = frames(program.space(), 24);
        for page in 24..200 {
            let n = page * PAGE + 5;
            assert_eq!(program.load(AT + n).await, Ok(file.byte(n)));
        }
        assert_eq!(frames(program.space(), 24), before);
        let faults = uvm.meter().get(Counter::Faults);
        for page in 0..24 {
            let n = page * PAGE + 5;
            assert_eq!(program.load(AT + n).await, Ok(file.byte(n)));
        }
        assert_eq!(uvm.meter().get(Counter::Faults), faults);
        assert!(uvm.meter().get(Counter::Pdfreed) > 100);
        program.space().munlock(range(24)).await.unwrap();
        uvm.executor().sleep(Duration::from_millis(10)).await;
        assert!(!object.object().is_resident(PageIndex(3)), "and goes then");
    });
    world.check_quiet();
}

#[test]
fn a_page_is_wired_by_each_that_shows_it() {
    let world = World::new(256, 0);
    let object = UvmObject::anonymous(&world.uvm, Pages(4)).unwrap();
    let spaces: [_; 3] = core::array::from_fn(|_| {
        let space = world.space();
        let backing = object.clone();
        let request = MapRequest::object(backing, PageIndex(0), 4 * PAGE_SIZE, Prot::RW);
        space.map(here(request.shared())).unwrap();
        space
    });
    let uvm = world.uvm.clone();
    world.run(async move {
        for space in &spaces {
            space.mlock(range(4)).await.unwrap();
            space.mlock(range(4)).await.unwrap();
        }
        let frame = frames(&spaces[0], 1)[0];
        assert_eq!(uvm.page(frame).wire_count(), 3);
        assert_eq!(uvm.meter().gauge(Gauge::Wired), 4);
        uvm.check().unwrap();
        for (left, space) in [2, 1, 0].into_iter().zip(&spaces) {
            space.munlock(range(4)).await.unwrap();
            assert_eq!(uvm.page(frame).wire_count(), left);
        }
        assert_eq!(uvm.meter().gauge(Gauge::Wired), 0);
    });
    world.check_quiet();
}

#[test]
fn a_page_that_is_wired_too_often_is_an_error() {
    let world = World::new(256, 0);
    let object = UvmObject::anonymous(&world.uvm, Pages(4)).unwrap();
    let space = world.space();
    let request = MapRequest::object(object.clone(), PageIndex(0), 4 * PAGE_SIZE, Prot::RW);
    space.map(here(request.shared())).unwrap();
    let uvm = world.uvm.clone();
    world.run(async move {
        let hold = UvmObject::page_in(&object, &uvm, PageIndex(2), Advice::Normal).await;
        let frame = hold.unwrap().frame();
        // As many mappings would do it.
        for _ in 0..u16::MAX {
            uvm.wire_page(frame).unwrap();
        }
        assert_eq!(space.mlock(range(4)).await, Err(VmError::OutOfMemory));
        assert_eq!(uvm.page(frame).wire_count(), u16::MAX);
        assert_eq!(uvm.meter().gauge(Gauge::Wired), 1);
        assert_eq!(space.pmap().stats().wired, 0);
        uvm.check().unwrap();
        for _ in 0..u16::MAX {
            uvm.unwire_page(frame);
        }
        space.mlock(range(4)).await.unwrap();
    });
    world.check_quiet();
}

/// Case 2B over a shared amap hides the object's page from who looks through the amap, not from who has the object wired.
#[test]
fn promotion_in_a_shared_amap_leaves_the_objects_wired_mappings() {
    let world = World::new(512, 0);
    let (file, object) = file_on(&world, 4);
    let space = world.space();
    let private = MapRequest {
        prot: Prot::RW,
        inherit: Inherit::Share,
        ..of_file(&object, 4)
    };
    space.map(private).unwrap();
    let (p, x) = (world.program(&space), world.program(&world.space()));
    let (forked, uvm) = (space.clone(), world.uvm.clone());
    let q = world.run(async move { forked.fork().await.unwrap() });
    let q = world.program(&q);
    world.run(async move {
        x.space().map(of_file(&object, 4).shared()).unwrap();
        x.space().mlock(range(4)).await.unwrap();
        let before = frames(x.space(), 4);
        for program in [&p, &q] {
            assert_eq!(program.load(AT).await, Ok(file.byte(0)));
        }
        q.store(AT, 77).await.unwrap();
        assert_eq!(frames(x.space(), 4), before);
        uvm.check().unwrap();
        assert_eq!(p.load(AT).await, Ok(77), "the old translation is gone");
        assert_eq!(x.load(AT).await, Ok(file.byte(0)));
        // The other way about: wired through the shared amap, it is written in place.
        p.space().mlock(range(4)).await.unwrap();
        let before = frames(p.space(), 4);
        q.touch(AT, 4, 78).await.unwrap();
        assert_eq!(p.peek(AT, 4).await.unwrap(), [78; 4]);
        assert_eq!(frames(p.space(), 4), before);
        uvm.check().unwrap();
        // And stays when the other goes.
        q.space().deactivate();
        q.space().teardown().await;
        assert_eq!(frames(p.space(), 4), before);
        uvm.check().unwrap();
    });
    world.check_quiet();
}

/// Whoever looks at an anon for a moment holds a reference to it: that makes no copy of a wired page.
#[test]
fn a_look_at_a_wired_page_is_no_share_in_it() {
    let world = World::new(256, 0);
    let space = world.space();
    space
        .map(here(MapRequest::anonymous(PAGE_SIZE, Prot::RW)))
        .unwrap();
    let uvm = world.uvm.clone();
    world.run(async move {
        space.mlock(range(1)).await.unwrap();
        let frame = frames(&space, 1)[0];
        space.pmap().protect(&uvm, range(1), Prot::READ);
        let looking = uvm.page(frame).owner_ref::<crate::anon::Anon>();
        let fault = space.try_fault(VirtAddr::new(AT), Access::Write);
        drop(looking);
        assert_eq!(fault, Some(Ok(())));
        assert_eq!(frames(&space, 1), [frame]);
    });
    world.check_quiet();
}
