//! The life of an address space.

use crate::addr::VirtAddr;
use crate::map::{MapRequest, Placement};
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
