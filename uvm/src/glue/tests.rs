//! The life of an address space.

use std::vec::Vec;

use executor::Class;

use crate::addr::{PAGE_SIZE, VirtAddr};
use crate::map::{MapRequest, Placement, Region, USER_MIN};
use crate::prot::Prot;
use crate::sim::World;

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
