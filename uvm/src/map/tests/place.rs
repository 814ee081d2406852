//! Where mappings go, and what they may not grow over.

use super::{PAGE, anonymous, at, range, shape, va};
use crate::addr::{PageIndex, Pages, VirtAddr};
use crate::map::grow::STACK_GAP;
use crate::map::{Limits, MapRequest, Placement, VmError};
use crate::object::UvmObject;
use crate::prot::Prot;
use crate::sim::World;

fn pages(n: u64) -> MapRequest {
    MapRequest::anonymous((n * PAGE) as usize, Prot::RW)
}

#[test]
fn a_free_place_is_high_and_aligned() {
    let world = World::new(256, 0);
    let space = world.space();
    space.set_top(va(1024));
    assert_eq!(space.map(pages(1)), Ok(va(1023)));
    assert_eq!(space.map(pages(4).aligned(4 * PAGE)), Ok(va(1016)));
    // Room for two pages, aligned for one: nearest below.
    assert_eq!(space.map(pages(1).aligned(PAGE / 2)), Ok(va(1022)));
    assert_eq!(space.map(pages(2)), Ok(va(1020)));
    assert_eq!(space.map(pages(3).aligned(1 << 24)), Ok(va(0)));
    for align in [0, 3 * PAGE, PAGE + 1] {
        assert_eq!(space.map(pages(1).aligned(align)), Err(VmError::Invalid));
    }
    // A hint is rounded down, and only a hint.
    let hint = |page| Placement::Anywhere(Some(va(page)));
    assert_eq!(space.map(pages(1).at(hint(9)).aligned(8 * PAGE)), Ok(va(8)));
    assert_eq!(space.map(pages(1).at(hint(8))), Ok(va(1015)));
    world.check_quiet();
}

#[test]
fn an_aligned_hole_is_found_even_if_it_is_the_only_one() {
    let world = World::new(256, 0);
    let space = world.space();
    // The whole user half, but for one hole of eight pages that is aligned, and larger ones in which no eight are.
    let all = crate::map::USER_MAX - crate::map::USER_MIN;
    let everywhere = MapRequest::anonymous(all as usize, Prot::empty());
    let start = VirtAddr::new(crate::map::USER_MIN);
    space.map(everywhere.at(Placement::Fixed(start))).unwrap();
    let s = space.clone();
    world.run(async move {
        for from in [1, 17, 33, 49] {
            s.unmap(range(from, from + 14)).await.unwrap();
        }
        s.unmap(range(80, 88)).await.unwrap();
    });
    let eight = || pages(8).aligned(16 * PAGE);
    assert_eq!(space.map(eight()), Ok(va(80)));
    assert_eq!(space.map(eight()), Err(VmError::OutOfMemory));
    assert_eq!(space.map(pages(8)), Ok(va(55)));
}

#[test]
fn the_limit_of_the_address_space_counts_what_is_replaced() {
    let world = World::new(256, 0);
    let space = world.space();
    space.set_limits(Limits {
        address_space: 8 * PAGE,
        ..Limits::UNLIMITED
    });
    space.map(anonymous(0, 6)).unwrap();
    assert_eq!(space.map(anonymous(10, 3)), Err(VmError::Limit));
    assert_eq!(
        space.map(anonymous(4, 3).at(Placement::Fixed(va(4)))),
        Ok(va(4))
    );
    assert_eq!(space.size(), 7 * PAGE);
    assert_eq!(
        space.map(anonymous(0, 9).at(Placement::Fixed(va(0)))),
        Err(VmError::Limit)
    );
    assert_eq!(shape(&space), [(0, 7, Prot::RW)]);
    assert_eq!(space.map(anonymous(20, 1)), Ok(va(20)));
    assert_eq!(space.map(anonymous(30, 1)), Err(VmError::Limit));
    world.check_quiet();
}

#[test]
fn the_heap_keeps_to_its_limit() {
    let world = World::new(256, 0);
    let space = world.space();
    space.set_brk_start(va(0));
    space.set_limits(Limits {
        data: 4 * PAGE,
        ..Limits::UNLIMITED
    });
    let s = space.clone();
    world.run(async move {
        assert_eq!(s.brk(va(4)).await, Ok(va(4)));
        assert_eq!(s.brk(VirtAddr::new(at(4) + 1)).await, Ok(va(4)));
        assert_eq!(s.brk(va(1)).await, Ok(va(1)));
        assert_eq!(s.brk(va(3)).await, Ok(va(3)));
    });
    assert_eq!(shape(&space), [(0, 3, Prot::RW)]);
}

#[test]
fn a_free_place_keeps_off_a_stack() {
    let world = World::new(256, 0);
    let space = world.space();
    let gap = STACK_GAP / PAGE;
    space.map(anonymous(2000, 4).growing()).unwrap();
    space.set_top(va(2004));
    assert_eq!(space.map(pages(2)), Ok(va(2000 - gap - 2)));
    // Not by a hint either; but who insists may have it.
    let hint = pages(1).at(Placement::Anywhere(Some(va(1999))));
    assert_eq!(space.map(hint), Ok(va(2000 - gap - 3)));
    assert_eq!(space.map(anonymous(1999, 1)), Ok(va(1999)));
    let object = UvmObject::anonymous(&world.uvm, Pages(1)).unwrap();
    let shared = pages(1).shared().growing();
    let of_object = MapRequest::object(object, PageIndex(0), PAGE as usize, Prot::RW).growing();
    for request in [shared, of_object] {
        assert_eq!(space.map(request), Err(VmError::Invalid));
    }
}
