//! When memory is short: who runs, and who waits.

use crate::addr::{PAGE_SIZE, PageIndex, VirtAddr};
use crate::map::{MapRequest, Placement};
use crate::meter::Counter;
use crate::prot::Prot;
use crate::sim::World;
use crate::sim::disk::{Layout, Mode, SimDisk, SimFile};

const AT: u64 = 0x1000_0000;

#[test]
fn a_reader_that_takes_the_last_frame_within_one_poll_goes_on_once_there_is_another() {
    let world = World::new(256, 0);
    // Its answers come at once: the reader first waits when nothing is left, and nobody else has anything to do.
    let disk = SimDisk::new(&world.uvm, 64 << 20, Mode::AtOnce);
    let file = SimFile::new(&disk, Layout::Contiguous(0));
    let object = world.file(file.clone(), 1000 * PAGE_SIZE as u64);
    let uvm = world.uvm.clone();
    world.run(async move {
        for page in 0..1000 {
            let hold = object.page_in(&uvm, PageIndex(page)).await.unwrap();
            let mut byte = [0];
            hold.bytes().read(7, &mut byte);
            assert_eq!(byte[0], file.byte(page * PAGE_SIZE as u64 + 7));
        }
    });
    assert!(world.uvm.meter().get(Counter::Pgallocfail) > 0);
    world.check_quiet();
}

#[test]
fn memory_full_of_what_cannot_go_leaves_it_asleep() {
    let world = World::new(256, 0);
    let space = world.space();
    let request = MapRequest::anonymous(1000 * PAGE_SIZE, Prot::RW);
    space
        .map(request.at(Placement::Exclusive(VirtAddr::new(AT))))
        .unwrap();
    let (program, uvm) = (world.program(&space), world.uvm.clone());
    let touched = world.run(async move {
        let mut touched = 0;
        // Short, but nobody waits for a frame.
        while !uvm.memory_is_short() {
            program
                .store(AT + touched * PAGE_SIZE as u64, 1)
                .await
                .unwrap();
            touched += 1;
        }
        touched
    });
    world.driver.run_until_stalled();
    let passes = world.uvm.meter().get(Counter::Pdrevs);
    assert!((1..10).contains(&passes), "{passes} passes");
    // Others are not kept from running, and the next to take a frame makes it look again.
    let program = world.program(&space);
    world.run(async move {
        program
            .store(AT + touched * PAGE_SIZE as u64, 1)
            .await
            .unwrap();
    });
    world.driver.run_until_stalled();
    assert!(world.uvm.meter().get(Counter::Pdrevs) > passes);
    world.check_quiet();
}
