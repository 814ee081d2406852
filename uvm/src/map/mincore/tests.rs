//! What is said to be in memory.

use core::time::Duration;

use crate::addr::{PAGE_SIZE, PageIndex, VaRange, VirtAddr};
use crate::map::{Advice, MapRequest, Placement, VmError};
use crate::prot::Prot;
use crate::sim::World;
use crate::sim::disk::{Layout, Mode, SimDisk, SimFile};

const AT: u64 = 0x1000_0000;
const PAGE: u64 = PAGE_SIZE as u64;

#[test]
fn a_page_is_there_if_a_load_would_find_it() {
    let world = World::new(512, 0);
    let disk = SimDisk::new(&world.uvm, 1 << 20, Mode::After(Duration::from_micros(10)));
    let file = world.file(SimFile::new(&disk, Layout::Contiguous(0)), 40 * PAGE);
    let space = world.space();
    let at = |page: u64| VirtAddr::new(AT + page * PAGE);
    let range = move |from, n| VaRange::of_pages(at(from), n);
    let object = file.object().clone();
    let mut request = MapRequest::object(object, PageIndex(0), 40 * PAGE_SIZE, Prot::RW)
        .at(Placement::Exclusive(at(0)));
    request.advice = Advice::Random;
    space.map(request).unwrap();
    space
        .map(MapRequest::anonymous(4 * PAGE_SIZE, Prot::RW).at(Placement::Exclusive(at(40))))
        .unwrap();
    let program = world.program(&space);
    let s = space.clone();
    world.run(async move {
        let mut there = [9; 44];
        s.mincore(range(0, 44), &mut there).unwrap();
        assert_eq!(there, [0; 44]);
        // One page is read from the file, one written; of the anonymous ones the second is touched.
        program.load(AT + 3 * PAGE).await.unwrap();
        program.store(AT + 5 * PAGE, 1).await.unwrap();
        program.load(AT + 41 * PAGE).await.unwrap();
        let object = file.object();
        object.evict_unused(s.uvm(), PageIndex(5), 1);
        s.mincore(range(0, 44), &mut there).unwrap();
        for (page, &found) in there.iter().enumerate() {
            let expected = match page {
                5 | 41 => true,
                0..=39 => object.is_resident(PageIndex(page as u64)),
                _ => false,
            };
            assert_eq!(found, u8::from(expected), "page {page}");
        }
        assert!(there[3] == 1);
        let mut few = [9; 3];
        assert_eq!(s.mincore(range(0, 4), &mut few), Err(VmError::Invalid));
        assert_eq!(s.mincore(range(42, 3), &mut few), Err(VmError::Unmapped));
        assert_eq!(few, [9; 3]);
        s.mincore(range(40, 3), &mut few).unwrap();
        assert_eq!(few, [0, 1, 0]);
    });
    world.check_quiet();
}

#[test]
fn a_page_that_is_being_read_is_not_there_yet() {
    let world = World::new(256, 0);
    let disk = SimDisk::new(&world.uvm, 1 << 20, Mode::Told);
    let file = world.file(SimFile::new(&disk, Layout::Contiguous(0)), PAGE);
    let space = world.space();
    let request = MapRequest::object(file.object().clone(), PageIndex(0), PAGE_SIZE, Prot::READ);
    space
        .map(request.at(Placement::Exclusive(VirtAddr::new(AT))))
        .unwrap();
    let program = world.program(&space);
    let load = async move { program.load(AT).await };
    let load = world.executor.spawn(executor::Class::User, "load", load);
    world.driver.run_until_stalled();
    let there = || {
        let mut there = [9];
        let page = VaRange::of_pages(VirtAddr::new(AT), 1);
        space.mincore(page, &mut there).unwrap();
        there
    };
    assert_eq!(there(), [0]);
    disk.complete(1);
    world.run(load).unwrap();
    assert_eq!(there(), [1]);
}
