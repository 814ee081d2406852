//! What happens to pages between an object and its pager: clusters that fail, holes that are written, and where pages in transfer
//! are mapped.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use core::time::Duration;

use executor::Class;

use super::*;
use crate::addr::{PAGE_SIZE, VaRange, VirtAddr};
use crate::fault::FaultError;
use crate::map::{MapRequest, Placement};
use crate::object::vnode::FileMap;
use crate::prot::{Access, Prot};
use crate::sim::disk::{Layout, Mode, SimDisk, SimFile};
use crate::sim::holes::SparseFile;
use crate::sim::{Program, World};

const PAGE: u64 = PAGE_SIZE as u64;
const AT: u64 = 0x1000_0000;

/// A machine, a disk, and a file of `pages` pages on it from its first byte on.
fn with_file(
    mode: Mode,
    pages: u64,
) -> (World, Arc<SimDisk>, Arc<SimFile>, Arc<crate::VnodeObject>) {
    let world = World::new(1024, 0);
    let disk = SimDisk::new(&world.uvm, 64 << 20, mode);
    let file = SimFile::new(&disk, Layout::Contiguous(0));
    let map: Arc<dyn FileMap> = file.clone();
    let object = world.file(map, pages * PAGE);
    (world, disk, file, object)
}

/// A program that has `object` mapped, all of it.
fn program(world: &World, object: &Ref<UvmObject>, prot: Prot) -> Program {
    let space = world.space();
    let len = object.pages() as usize * PAGE_SIZE;
    let mut request = MapRequest::object(object.clone(), PageIndex(0), len, prot).shared();
    request.placement = Placement::Exclusive(VirtAddr::new(AT));
    space.map(request).unwrap();
    world.program(&space)
}

/// Starts a load of page `page`'s first byte.
fn load(
    world: &World,
    program: &Program,
    page: u64,
) -> executor::JoinHandle<Result<u8, FaultError>> {
    let program = program.clone();
    let load = async move { program.load(AT + page * PAGE).await };
    world.executor.spawn(Class::User, "program", load)
}

#[test]
fn one_bad_block_is_an_error_of_its_own_page_alone() {
    let after = Mode::After(Duration::from_micros(10));
    for mode in [after, Mode::AtOnce] {
        let (world, disk, file, object) = with_file(mode, 64);
        disk.spoil(9 * PAGE + 100, 9 * PAGE + 200);
        let program = program(&world, object.object(), Prot::READ);
        let uvm = world.uvm.clone();
        world.run(async move {
            for page in 0..64 {
                let expected = match page {
                    9 => Err(FaultError::Io),
                    _ => Ok(file.byte(page * PAGE)),
                };
                assert_eq!(
                    program.load(AT + page * PAGE).await,
                    expected,
                    "page {page}"
                );
            }
            // One failed cluster, not one for each page of it; and read(2) is served alike.
            assert!(disk.reads() < 24, "{} reads", disk.reads());
            object.object().evict_unused(&uvm, PageIndex(0), 64);
            assert!(object.page_in(&uvm, PageIndex(8)).await.is_ok());
            let failed = object.page_in(&uvm, PageIndex(9)).await.map(drop);
            assert_eq!(failed, Err(IoError::Device.into()));
            disk.mend();
            assert_eq!(program.load(AT + 9 * PAGE).await, Ok(file.byte(9 * PAGE)));
        });
        world.check_quiet();
    }
}

#[test]
fn each_waiter_of_a_failed_cluster_learns_of_its_own_page() {
    let (world, disk, file, object) = with_file(Mode::Told, 64);
    disk.spoil(9 * PAGE, 9 * PAGE + 1);
    let programs: [_; 2] = core::array::from_fn(|_| program(&world, object.object(), Prot::READ));
    // The first decides where the cluster begins.
    let first = load(&world, &programs[0], 3);
    world.driver.run_until_stalled();
    let waiters = [3, 9, 15].map(|page| {
        let waiters = programs
            .each_ref()
            .map(|program| load(&world, program, page));
        (page, waiters)
    });
    world.driver.run_until_stalled();
    assert_eq!(
        (disk.reads(), disk.pending()),
        (1, 1),
        "one cluster for all"
    );
    disk.complete(1);
    world.driver.run_until_stalled();
    // One more read for each page that is wanted, whoever and however many want it.
    assert_eq!((disk.reads(), disk.pending()), (4, 3));
    assert_eq!(object.object().resident(), 3);
    world.check();
    disk.complete(3);
    assert_eq!(world.run(first), Ok(file.byte(3 * PAGE)));
    for (page, waiters) in waiters {
        for waiter in waiters {
            let expected = match page {
                9 => Err(FaultError::Io),
                _ => Ok(file.byte(page * PAGE)),
            };
            assert_eq!(world.run(waiter), expected, "page {page}");
        }
    }
    assert_eq!((disk.reads(), object.object().resident()), (4, 2));
    world.check_quiet();
}

#[test]
fn clusters_that_fail_in_turn_do_not_send_each_other_round_for_ever() {
    let (world, disk, _file, object) = with_file(Mode::Told, 64);
    disk.spoil(0, 64 * PAGE);
    let program = program(&world, object.object(), Prot::READ);
    // Only one failed cluster is remembered; each waiter reads its own page alone all the same.
    let waiters = [0, 16, 32, 48].map(|page| load(&world, &program, page));
    for reads in [4, 8] {
        world.driver.run_until_stalled();
        assert_eq!((disk.reads(), disk.pending()), (reads, 4));
        disk.complete(4);
    }
    for waiter in waiters {
        assert_eq!(world.run(waiter), Err(FaultError::Io));
    }
    world.check_quiet();
}

#[test]
fn a_fault_that_waited_shows_what_is_mapped_by_then() {
    let (world, disk, file, object) = with_file(Mode::Told, 64);
    let (first, second) = (program(&world, object.object(), Prot::READ), world.space());
    let waiter = load(&world, &first, 2);
    world.driver.run_until_stalled();
    let version = first.space().vm_map().version();
    // In the same place, another page of the same file, which is under way as well.
    let len = 4 * PAGE_SIZE;
    let request = MapRequest::object(object.object().clone(), PageIndex(5), len, Prot::READ);
    let request = request.at(Placement::Fixed(VirtAddr::new(AT)));
    first.space().map(request).unwrap();
    assert_ne!(first.space().vm_map().version(), version);
    assert_eq!(disk.pending(), 1);
    disk.complete(1);
    assert_eq!(world.run(waiter), Ok(file.byte(7 * PAGE)));
    assert_eq!(disk.reads(), 1);
    drop(second);
    world.check_quiet();
}

/// A file of holes, and two programs that may write to it.
fn with_holes(
    mode: Mode,
) -> (
    World,
    Arc<SparseFile>,
    Arc<crate::VnodeObject>,
    [Program; 2],
) {
    let world = World::new(512, 0);
    let disk = SimDisk::new(&world.uvm, 1 << 20, mode);
    let file = SparseFile::new(&disk, 0);
    let object = world.file(file.clone(), 8 * PAGE);
    let programs = core::array::from_fn(|_| program(&world, object.object(), Prot::RW));
    (world, file, object, programs)
}

#[test]
fn a_write_to_a_hole_awaits_its_block_and_a_read_does_not() {
    let (world, file, object, [a, b]) = with_holes(Mode::AtOnce);
    let reader = b.clone();
    world.run(async move {
        assert_eq!(reader.peek(AT, 8).await.unwrap(), [0; 8]);
    });
    assert_eq!(file.asked(), 0);
    let writers = [&a, &b].map(|program| {
        let program = program.clone();
        let store = async move { program.store(AT + 2 * PAGE + 5, 7).await };
        world.executor.spawn(Class::User, "writer", store)
    });
    world.driver.run_until_stalled();
    assert_eq!(file.asked(), 2);
    // While the block is being made the page can be read, and cannot be evicted.
    let (reader, uvm) = (b.clone(), world.uvm.clone());
    let memory = object.object().clone();
    world.run(async move {
        assert_eq!(reader.load(AT + 2 * PAGE + 5).await, Ok(0));
        for program in [&a, &b] {
            program
                .space()
                .dont_need(VaRange::of_pages(VirtAddr::new(AT), 8))
                .await
                .unwrap();
        }
        assert_eq!(memory.evict_unused(&uvm, PageIndex(0), 8), 7);
        uvm.check().unwrap();
        drop((a, b));
    });
    file.answer(Ok(()));
    for writer in writers {
        assert_eq!(world.run(writer), Ok(()));
    }
    assert!(file.is_placed(2) && !file.is_placed(1));
    let (uvm, memory) = (world.uvm.clone(), object.object().clone());
    world.run(async move {
        // Dirty from the start: what the disk has in the new block is not the page.
        assert_eq!(memory.evict_unused(&uvm, PageIndex(0), 8), 0);
        let hold = UvmObject::page_in(&memory, &uvm, PageIndex(2), Advice::Normal)
            .await
            .unwrap();
        let mut bytes = [9; 2];
        hold.bytes().read(4, &mut bytes);
        assert_eq!(bytes, [0, 7]);
    });
    assert_eq!(file.asked(), 2);
    world.check_quiet();
}

#[test]
fn a_hole_that_gets_its_block_is_not_clean_before_anything_is_written() {
    let (world, file, object, [a, b]) = with_holes(Mode::AtOnce);
    file.answer(Ok(()));
    let uvm = world.uvm.clone();
    world.run(async move {
        // The fault, without the store that it is for.
        let va = VirtAddr::new(AT);
        a.space().fault(va, Access::Write).await.unwrap();
        a.space().unmap(VaRange::of_pages(va, 8)).await.unwrap();
        let memory = object.object();
        let frame = *memory.lock().frames.get(0).unwrap();
        assert!(
            !uvm.page(frame)
                .flags()
                .intersects(PageFlags::CLEAN | PageFlags::RDONLY)
        );
        assert_eq!(memory.evict_unused(&uvm, PageIndex(0), 1), 0);
        assert_eq!(b.load(AT).await, Ok(0));
        // The second write asks for nothing.
        b.store(AT, 1).await.unwrap();
        assert_eq!(file.asked(), 1);
    });
    world.check_quiet();
}

#[test]
fn a_hole_that_gets_no_block_is_an_error_of_the_write_and_stays_one() {
    let (world, file, object, [a, b]) = with_holes(Mode::AtOnce);
    file.answer(Err(IoError::Device));
    let again = file.clone();
    world.run(async move {
        assert_eq!(a.store(AT, 1).await, Err(FaultError::Io));
        assert_eq!((a.load(AT).await, b.load(AT).await), (Ok(0), Ok(0)));
        let mapped = a.space().pmap().extract(a.space().uvm(), VirtAddr::new(AT));
        assert!(!mapped.unwrap().prot.allows(Access::Write));
        again.answer(Ok(()));
        a.store(AT, 1).await.unwrap();
        assert_eq!(b.load(AT).await, Ok(1));
    });
    assert_eq!((file.asked(), object.object().resident()), (2, 1));
    world.check_quiet();
}

#[test]
fn a_writer_that_waits_for_a_block_may_find_its_mapping_gone() {
    let (world, file, _object, [a, _b]) = with_holes(Mode::AtOnce);
    let (writer, unmapper) = (a.clone(), a);
    let store = async move { writer.store(AT, 1).await };
    let store = world.executor.spawn(Class::User, "writer", store);
    world.driver.run_until_stalled();
    let all = VaRange::of_pages(VirtAddr::new(AT), 8);
    world.run(async move { unmapper.space().unmap(all).await.unwrap() });
    file.answer(Err(IoError::Device));
    assert_eq!(world.run(store), Err(FaultError::NoMapping));
    world.check_quiet();
}

#[test]
fn a_lent_hole_gets_its_block_first_and_is_copied_then() {
    let (world, file, _object, [a, b]) = with_holes(Mode::AtOnce);
    file.answer(Ok(()));
    let asked = file.clone();
    world.run(async move {
        let loan = a
            .space()
            .loan(VaRange::of_pages(VirtAddr::new(AT), 1))
            .await
            .unwrap();
        a.store(AT, 1).await.unwrap();
        assert_eq!(asked.asked(), 1);
        let mut byte = [9];
        loan.read(0, &mut byte);
        assert_eq!((byte, b.load(AT).await), ([0], Ok(1)));
        b.store(AT, 2).await.unwrap();
        assert_eq!((asked.asked(), a.load(AT).await), (1, Ok(2)));
    });
    world.check_quiet();
}

#[test]
fn a_page_with_one_missing_block_is_a_hole() {
    let world = World::new(256, 0);
    let disk = SimDisk::new(&world.uvm, 1 << 20, Mode::AtOnce);
    let object = world.file(SimFile::new(&disk, Layout::Blocks(0)), 4 * PAGE);
    let uvm = world.uvm.clone();
    world.run(async move {
        let hold = object.page_in(&uvm, PageIndex(0)).await.unwrap();
        assert!(uvm.page(hold.frame()).has(PageFlags::RDONLY));
    });
}

/// Leaf entries of the kernel's half, and entries of its root table.
fn kernel_mappings(uvm: &Uvm, kva: VaRange) -> (usize, usize) {
    let pages = (0..kva.pages() as u64).map(|page| kva.start() + page * PAGE);
    let leaves = pages.filter(|&va| uvm.kextract(va).is_some()).count();
    // SAFETY: the kernel's root table, which lives as long as the machine.
    let root = unsafe { uvm.phys().table(uvm.kernel_root) };
    let used = |slot: &&core::sync::atomic::AtomicU64| slot.load(Ordering::Relaxed) != 0;
    (leaves, root.0[256..].iter().filter(used).count())
}

/// UVM.md, row 19.
#[test]
fn row_19_pages_in_transfer_need_no_window() {
    let (world, disk, file, object) = with_file(Mode::Told, 256);
    let uvm = &world.uvm;
    // All the kernel addresses that uvm has, and it has none unless it is given some: for u-areas.
    let kva = VaRange::of_pages(VirtAddr::new(0xffff_c000_0000_0000), 1024);
    assert_eq!(kernel_mappings(uvm, kva), (0, 0));
    uvm.prepare_kernel_range(kva).unwrap();
    assert_eq!(kernel_mappings(uvm, kva), (0, 1));
    let tables = uvm.meter().get(Counter::PmapTableAllocs);
    let reader = object.clone();
    let machine = uvm.clone();
    let read = world.executor.spawn(Class::User, "reader", async move {
        let mut holds = alloc::vec::Vec::new();
        for page in 0..256 {
            holds.push(reader.page_in(&machine, PageIndex(page)).await.unwrap());
        }
        holds
    });
    // With requests in the device's hands, while they are completed, and when the pages are held.
    while !read.is_finished() {
        world.driver.run_until_stalled();
        assert_eq!(kernel_mappings(uvm, kva), (0, 1));
        disk.complete(1);
    }
    assert!(disk.most_pending() > 1 && uvm.meter().gauge(Gauge::PagingInMax) > 16);
    let holds = world.run(read);
    assert_eq!(kernel_mappings(uvm, kva), (0, 1));
    assert_eq!(uvm.meter().get(Counter::PmapTableAllocs), tables);
    for (page, hold) in holds.iter().enumerate() {
        // By the direct map alone.
        assert_eq!(hold.bytes().as_ptr(), uvm.phys().ptr(hold.frame()));
        let mut byte = [0];
        hold.bytes().read(1, &mut byte);
        assert_eq!(byte[0], file.byte(page as u64 * PAGE + 1));
    }
}
