//! A frame buffer beyond RAM: mapped, shared, inherited, and left alone by everything that works on pages.

use super::*;
use crate::addr::{PageIndex, VaRange, VirtAddr};
use crate::fault::FaultError;
use crate::map::{Advice, Inherit, MapRequest, Placement, Sync};
use crate::meter::Counter;
use crate::prot::{Access, Prot};
use crate::sim::World;

const AT: u64 = 0x1000_0000;
const PAGE: u64 = PAGE_SIZE as u64;
/// Far beyond the RAM of any test.
const FRAME_BUFFER: u64 = 0xfd00_0000;

fn range(pages: usize) -> VaRange {
    VaRange::of_pages(VirtAddr::new(AT), pages)
}

fn request(object: &Ref<UvmObject>, pages: usize) -> MapRequest {
    MapRequest::object(object.clone(), PageIndex(1), pages * PAGE_SIZE, Prot::RW)
        .shared()
        .at(Placement::Exclusive(VirtAddr::new(AT)))
}

#[test]
fn only_whole_pages_that_are_nobodys_memory() {
    let world = World::new(256, 0);
    let make = |start, pages| {
        UvmObject::device(&world.uvm, PhysAddr::new(start), Pages(pages)).map(|o| o.pages())
    };
    assert_eq!(make(FRAME_BUFFER, 5), Ok(5));
    assert_eq!(make(FRAME_BUFFER, 0), Err(VmError::Invalid));
    assert_eq!(make(FRAME_BUFFER + 1, 1), Err(VmError::Invalid));
    let frames = world.uvm.pages().frames();
    let (first, last) = frames.fold((u32::MAX, 0), |(first, last), frame| {
        (first.min(frame.number()), last.max(frame.number()))
    });
    let at = |number: u32| u64::from(number) * PAGE;
    for inside in [first, last, last + 1] {
        // The last one: where the pages themselves are.
        assert_eq!(make(at(inside), 1), Err(VmError::Invalid), "frame {inside}");
    }
    assert_eq!(make(0, first as usize + 1), Err(VmError::Invalid));
    assert_eq!(make(at(u32::MAX), 1), Err(VmError::Invalid));
}

#[test]
fn a_fault_enters_the_translation_and_nothing_else() {
    let world = World::new(256, 0);
    let uvm = &world.uvm;
    let device = UvmObject::device(uvm, PhysAddr::new(FRAME_BUFFER), Pages(12)).unwrap();
    let space = world.space();
    space.map(request(&device, 12)).unwrap();
    let frame = |index: u64| Frame::containing(PhysAddr::new(FRAME_BUFFER + index * PAGE));
    let fault = |page: u64| space.try_fault(VirtAddr::new(AT + page * PAGE), Access::Write);
    assert_eq!(fault(9), Some(Ok(())));
    let allocated = uvm.meter().get(Counter::Pgalloc);
    for page in 0..11 {
        let va = VirtAddr::new(AT + page * PAGE);
        let there = space.pmap().extract(uvm, va).map(|mapping| mapping.frame);
        // Three behind, and as far ahead as the device goes.
        assert_eq!(there, (6..11).contains(&page).then(|| frame(page + 1)));
    }
    assert_eq!(fault(0), Some(Ok(())));
    assert_eq!(fault(11), Some(Err(FaultError::BeyondEnd)));
    assert_eq!(uvm.meter().get(Counter::Pgalloc), allocated);
    assert_eq!((device.resident(), world.check().object), (0, 0));
    assert!(world.check().mappings > 5);
}

#[test]
fn all_that_a_program_may_ask_for_works_or_is_refused() {
    let world = World::new(256, 0);
    let device = UvmObject::device(&world.uvm, PhysAddr::new(FRAME_BUFFER), Pages(4)).unwrap();
    let (space, uvm) = (world.space(), world.uvm.clone());
    let mut private = request(&device, 3);
    private.sharing = crate::Sharing::Private;
    assert_eq!(space.map(private), Err(VmError::Invalid));
    world.run(async move {
        space.map(request(&device, 3)).unwrap();
        let va = VirtAddr::new(AT);
        space.fault(va, Access::Write).await.unwrap();
        // Nobody reads it, or lends it, behind the device's back.
        assert_eq!(space.read_bytes(va, &mut [0]).await, Err(FaultError::Io));
        assert_eq!(space.write_bytes(va, &[0]).await, Err(FaultError::Io));
        assert_eq!(space.loan(range(1)).await.map(drop), Err(FaultError::Io));
        // What the mapping forbids comes first, whether the page has been touched or not.
        space.protect(range(1), Prot::READ).await.unwrap();
        for _ in 0..2 {
            let refused = space.write_bytes(va, &[0]).await;
            assert_eq!(refused, Err(FaultError::Protection));
            space.fault(va, Access::Read).await.unwrap();
        }
        space.protect(range(1), Prot::RW).await.unwrap();
        let whole = UvmObject::page_in(&device, &uvm, PageIndex(0), Advice::Normal).await;
        assert!(whole.is_err());
        // A child shares it, and does not copy it.
        space.inherit(range(3), Inherit::Copy).await.unwrap();
        let child = space.fork().await.unwrap();
        child.fault(va, Access::Write).await.unwrap();
        let there = |space: &crate::VmSpace| space.pmap().extract(&uvm, va).map(|m| m.frame);
        assert!(there(&child).is_some() && there(&child) == there(&space));
        uvm.check().unwrap();
        space.protect(range(3), Prot::READ).await.unwrap();
        assert!(
            !space
                .pmap()
                .extract(&uvm, va)
                .unwrap()
                .prot
                .allows(Access::Write)
        );
        space
            .sync(range(3), Sync::WRITE | Sync::INVALIDATE)
            .await
            .unwrap();
        space.will_need(range(3)).await.unwrap();
        space.dont_need(range(3)).await.unwrap();
        assert_eq!(there(&space), None);
        assert_eq!(space.free(range(3)).await, Err(VmError::Invalid));
        space.fault(va, Access::Read).await.unwrap();
        space.unmap(range(1)).await.unwrap();
        uvm.check().unwrap();
        space.teardown().await;
        child.teardown().await;
    });
    world.check_quiet();
}

#[test]
fn a_device_is_wired_and_unwired_without_pages() {
    let world = World::new(256, 0);
    let device = UvmObject::device(&world.uvm, PhysAddr::new(FRAME_BUFFER), Pages(12)).unwrap();
    let space = world.space();
    space.map(request(&device, 8)).unwrap();
    let s = space.clone();
    world.run(async move {
        s.fault(VirtAddr::new(AT), Access::Read).await.unwrap();
        s.mlock(range(8)).await.unwrap();
        s.fault(VirtAddr::new(AT), Access::Write).await.unwrap();
        let mut there = [0; 8];
        s.mincore(range(8), &mut there).unwrap();
        assert_eq!(there, [1; 8]);
        assert_eq!(s.locked(), 8 * PAGE);
        s.uvm().check().unwrap();
        s.munlock(range(5)).await.unwrap();
        s.uvm().check().unwrap();
        assert_eq!(s.locked(), 3 * PAGE);
        s.teardown().await;
    });
    world.check_quiet();
}

#[test]
fn a_wired_device_shows_what_its_mapping_allows() {
    let world = World::new(256, 0);
    let device = UvmObject::device(&world.uvm, PhysAddr::new(FRAME_BUFFER), Pages(12)).unwrap();
    let space = world.space();
    space.map(request(&device, 4)).unwrap();
    let (s, uvm) = (space.clone(), world.uvm.clone());
    world.run(async move {
        let shown = |page| {
            let va = VirtAddr::new(AT + page * PAGE);
            s.pmap().extract(&uvm, va).map(|mapping| mapping.prot)
        };
        s.protect(range(1), Prot::empty()).await.unwrap();
        let second = VaRange::of_pages(VirtAddr::new(AT + PAGE), 1);
        s.protect(second, Prot::READ).await.unwrap();
        s.mlock(range(4)).await.unwrap();
        assert_eq!(shown(0), None);
        assert_eq!(shown(1), Some(Prot::READ));
        assert_eq!(shown(2), Some(Prot::RW));
        // Allowed more, they show it at once, as other wired pages do.
        s.protect(range(2), Prot::RW).await.unwrap();
        assert_eq!((shown(0), shown(1)), (Some(Prot::RW), Some(Prot::RW)));
        s.munlock(range(4)).await.unwrap();
        s.teardown().await;
    });
    drop((space, device));
    world.check_quiet();
}
