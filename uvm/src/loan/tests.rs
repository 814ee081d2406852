//! Loans to the kernel and to processes: who sees what after either side writes, lets go, or dies.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use executor::Class;

use super::*;
use crate::addr::Pages;
use crate::map::{MapRequest, Placement};
use crate::meter::Gauge;
use crate::object::UvmObject;
use crate::object::vnode::FileMap;
use crate::page::OwnerKind;
use crate::sim::disk::{Layout, Mode, SimDisk, SimFile};
use crate::sim::random::Random;
use crate::sim::{Program, World};
use crate::testing::HostConfig;

const PAGE: u64 = PAGE_SIZE as u64;
/// Private memory.
const AT: u64 = 0x1000_0000;
/// What is borrowed.
const THERE: u64 = 0x2000_0000;
/// An object.
const SHARED: u64 = 0x3000_0000;
/// A file.
const FILE: u64 = 0x4000_0000;

fn range(at: u64, pages: usize) -> VaRange {
    VaRange::of_pages(VirtAddr::new(at), pages)
}

fn at(request: MapRequest, at: u64) -> MapRequest {
    request.at(Placement::Exclusive(VirtAddr::new(at)))
}

fn map_private(space: &VmSpace, va: u64, pages: usize) {
    let request = MapRequest::anonymous(pages * PAGE_SIZE, Prot::RW);
    space.map(at(request, va)).unwrap();
}

fn map_shared(space: &VmSpace, object: &Ref<UvmObject>, pages: usize) {
    let request =
        MapRequest::object(object.clone(), PageIndex(0), pages * PAGE_SIZE, Prot::RW).shared();
    space.map(at(request, SHARED)).unwrap();
}

fn file(
    world: &World,
    mode: Mode,
    pages: u64,
) -> (Arc<SimDisk>, Arc<SimFile>, Arc<crate::VnodeObject>) {
    let disk = SimDisk::new(&world.uvm, 64 << 20, mode);
    let file = SimFile::new(&disk, Layout::Contiguous(8192));
    let map: Arc<dyn FileMap> = file.clone();
    let object = world.file(map, pages * PAGE);
    (disk, file, object)
}

fn map_file(space: &VmSpace, object: &Ref<UvmObject>, pages: usize) {
    let request = MapRequest::object(object.clone(), PageIndex(0), pages * PAGE_SIZE, Prot::RW);
    space.map(at(request, FILE)).unwrap();
}

fn first_byte(loan: &KernelLoan, page: usize) -> u8 {
    let mut byte = [0];
    loan.read(page * PAGE_SIZE, &mut byte);
    byte[0]
}

fn breaks(uvm: &Uvm) -> u64 {
    uvm.meter().get(Counter::LoanBreaks)
}

/// What is mapped at `va`.
fn mapped(program: &Program, va: u64) -> crate::Mapping {
    let space = program.space();
    let mapping = space.pmap().extract(space.uvm(), VirtAddr::new(va));
    mapping.expect("mapped")
}

async fn end(program: &Program) {
    program.space().deactivate();
    program.space().teardown().await;
}

#[test]
fn a_kernel_loan_of_anonymous_memory_keeps_its_bytes() {
    let world = World::new(256, 0);
    let space = world.space();
    let (program, uvm) = (world.program(&space), world.uvm.clone());
    world.run(async move {
        let space = program.space();
        map_private(space, AT, 3);
        program.touch(AT, 3, 1).await.unwrap();
        let loan = space.loan(range(AT, 3)).await.unwrap();
        assert_eq!(loan.pages(), 3);
        let lent: Vec<Frame> = loan.frames().collect();
        assert_eq!(program.load(AT).await, Ok(1));
        assert_eq!(breaks(&uvm), 0, "reading copies nothing");
        for page in 0..3 {
            let mapping = mapped(&program, AT + page * PAGE);
            assert_eq!(mapping.frame, lent[page as usize]);
            assert!(!mapping.prot.contains(Prot::WRITE));
        }
        // The owner, and the owner from outside.
        program.store(AT, 2).await.unwrap();
        let second = VirtAddr::new(AT + PAGE);
        space.write_bytes(second, &[3]).await.unwrap();
        assert_eq!(program.peek(AT, 3).await.unwrap(), [2, 3, 1]);
        assert_eq!([0, 1, 2].map(|page| first_byte(&loan, page)), [1; 3]);
        assert_eq!(breaks(&uvm), 2);
        let report = uvm.check().unwrap();
        assert_eq!((report.in_transit, report.anon), (2, 3), "{report}");
        let free = uvm.free_frames();
        // One more loan of what is lent; a new one of what is not any more.
        let again = space.loan(range(AT, 3)).await.unwrap();
        assert_eq!([0, 1, 2].map(|page| first_byte(&again, page)), [2, 3, 1]);
        drop(loan);
        assert_eq!(uvm.free_frames(), free + 2, "freed by the last loan");
        program.store(AT + 2 * PAGE, 4).await.unwrap();
        assert_eq!(first_byte(&again, 2), 1);
        drop(again);
        assert_eq!(uvm.free_frames(), free + 2);
        // What has been given back is written in place.
        program.touch(AT, 3, 5).await.unwrap();
        assert_eq!(breaks(&uvm), 3);
        assert_eq!(uvm.meter().gauge(Gauge::Anonpages), 3);
    });
    world.check_quiet();
}

#[test]
fn a_kernel_loan_of_an_objects_page_outlives_writes_of_all_who_share_it() {
    let world = World::new(256, 0);
    let object = UvmObject::anonymous(&world.uvm, Pages(2)).unwrap();
    let spaces: [_; 2] = core::array::from_fn(|_| world.space());
    let [a, b] = spaces.each_ref().map(|space| {
        map_shared(space, &object, 2);
        world.program(space)
    });
    let uvm = world.uvm.clone();
    world.run(async move {
        a.touch(SHARED, 2, 1).await.unwrap();
        b.touch(SHARED, 2, 2).await.unwrap();
        let loan = a.space().loan(range(SHARED, 2)).await.unwrap();
        let old = loan.frames().next().unwrap();
        // Not the one who lent it.
        b.store(SHARED, 3).await.unwrap();
        assert_eq!(a.load(SHARED).await, Ok(3));
        a.store(SHARED + 1, 4).await.unwrap();
        assert_eq!(b.load(SHARED + 1).await, Ok(4));
        assert_eq!([0, 1].map(|page| first_byte(&loan, page)), [2, 2]);
        assert_eq!(breaks(&uvm), 1);
        assert_eq!(object.resident(), 2);
        assert_eq!(uvm.page(old).owner_kind(), OwnerKind::None);
        uvm.check().unwrap();
        end(&a).await;
        end(&b).await;
        drop(object);
        assert_eq!(
            [0, 1].map(|page| first_byte(&loan, page)),
            [2, 2],
            "nobody has it any more"
        );
        let free = uvm.free_frames();
        drop(loan);
        assert_eq!(uvm.free_frames(), free + 2);
    });
    drop(spaces);
    world.check_quiet();
}

#[test]
fn a_loan_of_a_file_awaits_the_read_and_a_private_write_leaves_it_alone() {
    let world = World::new(256, 0);
    let (disk, file, object) = file(&world, Mode::Told, 4);
    let space = world.space();
    map_file(&space, object.object(), 4);
    let lender = space.clone();
    let loan = world.executor.spawn(Class::User, "lender", async move {
        lender.loan(range(FILE, 2)).await
    });
    world.driver.run_until_stalled();
    assert_eq!(disk.pending(), 1);
    disk.complete(1);
    let loan = world.run(loan).unwrap();
    let (program, uvm) = (world.program(&space), world.uvm.clone());
    world.run(async move {
        program.store(FILE, 200).await.unwrap();
        assert_eq!(program.load(FILE).await, Ok(200));
        assert_eq!(first_byte(&loan, 0), file.byte(0));
        assert_eq!(breaks(&uvm), 0, "promoted, which is a copy already");
        assert_eq!(
            object.object().evict_unused(&uvm, PageIndex(0), 4),
            2,
            "the other two are not lent"
        );
        drop(loan);
    });
    world.check_quiet();
}

#[test]
fn the_pagedaemon_does_not_take_what_is_lent() {
    let config = HostConfig {
        frames: 256,
        torture_evict: true,
        ..HostConfig::default()
    };
    let world = World::with(&config, 1);
    let after = Mode::After(Duration::from_micros(50));
    let (_disk, file, object) = file(&world, after, 400);
    let (space, other) = (world.space(), world.space());
    map_file(&space, object.object(), 400);
    map_private(&other, THERE, 4);
    let (program, borrower, uvm) = (
        world.program(&space),
        world.program(&other),
        world.uvm.clone(),
    );
    world.run(async move {
        let loan = space.loan(range(FILE + 2 * PAGE, 2)).await.unwrap();
        space
            .loan_to(range(FILE + 10 * PAGE, 4), &other, VirtAddr::new(THERE))
            .await
            .unwrap();
        for page in 0..400 {
            let byte = program.load(FILE + page * PAGE + 7).await;
            assert_eq!(byte, Ok(file.byte(page * PAGE + 7)));
        }
        assert!(uvm.meter().get(Counter::Pdfreed) > 300);
        for (i, frame) in loan.frames().enumerate() {
            assert!(object.object().is_resident(PageIndex(2 + i as u64)));
            assert_eq!(uvm.page(frame).index(), PageIndex(2 + i as u64));
            assert_eq!(first_byte(&loan, i), file.byte((2 + i as u64) * PAGE));
        }
        for page in 0..4 {
            assert!(object.object().is_resident(PageIndex(10 + page)));
            let byte = borrower.load(THERE + page * PAGE).await;
            assert_eq!(byte, Ok(file.byte((10 + page) * PAGE)));
        }
        uvm.check().unwrap();
    });
}

#[test]
fn a_wired_page_is_copied_and_stays_writable() {
    let world = World::new(256, 0);
    let space = world.space();
    let object = UvmObject::anonymous(&world.uvm, Pages(1)).unwrap();
    map_private(&space, AT, 1);
    map_private(&space, THERE, 2);
    map_shared(&space, &object, 1);
    let (program, uvm) = (world.program(&space), world.uvm.clone());
    world.run(async move {
        let mut frames = [AT, SHARED].map(|va| (va, Frame::new(0)));
        for (va, frame) in &mut frames {
            program.store(*va, 1).await.unwrap();
            *frame = mapped(&program, *va).frame;
            uvm.with_owner_locked(*frame, || uvm.wire_page(*frame))
                .unwrap();
        }
        for (i, (va, frame)) in frames.into_iter().enumerate() {
            let loan = program.space().loan(range(va, 1)).await.unwrap();
            assert!(loan.frames().all(|lent| lent != frame));
            let to = THERE + i as u64 * PAGE;
            let lender = program.space();
            lender
                .loan_to(range(va, 1), lender, VirtAddr::new(to))
                .await
                .unwrap();
            assert_eq!(mapped(&program, va).prot, Prot::RW);
            assert_eq!(program.load(to).await, Ok(1));
            program.store(va, 2).await.unwrap();
            assert_eq!(mapped(&program, va).frame, frame);
            assert_eq!((first_byte(&loan, 0), program.load(to).await), (1, Ok(1)));
            assert!(!uvm.page(frame).is_lent());
            uvm.check().unwrap();
        }
        assert_eq!(breaks(&uvm), 0);
        for (_, frame) in frames {
            uvm.with_owner_locked(frame, || uvm.unwire_page(frame))
                .unwrap();
        }
    });
    world.check_quiet();
}

/// What the borrower or the lender of one page does after the loan.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    LenderWrites,
    BorrowerWrites,
    LenderUnmaps,
    BorrowerUnmaps,
    LenderExits,
    BorrowerExits,
    /// With all that refers to it.
    ObjectGoes,
}

#[test]
fn a_process_loan_survives_whatever_either_side_does_in_any_order() {
    use Act::*;
    let acts = [
        LenderWrites,
        BorrowerWrites,
        LenderUnmaps,
        BorrowerUnmaps,
        LenderExits,
        BorrowerExits,
        ObjectGoes,
    ];
    for of in [AT, SHARED] {
        for first in acts {
            for second in acts {
                let done = [first, second];
                lend_one(of, done);
            }
        }
    }
}

fn lend_one(of: u64, acts: [Act; 2]) {
    let world = World::new(256, 0);
    let object = UvmObject::anonymous(&world.uvm, Pages(1)).unwrap();
    let (lender, borrower) = (world.program(&world.space()), world.program(&world.space()));
    map_private(lender.space(), AT, 1);
    map_shared(lender.space(), &object, 1);
    map_private(borrower.space(), THERE, 1);
    let uvm = world.uvm.clone();
    world.run(async move {
        lender.store(of, 1).await.unwrap();
        borrower.store(THERE, 9).await.unwrap();
        let to = VirtAddr::new(THERE);
        lender
            .space()
            .loan_to(range(of, 1), borrower.space(), to)
            .await
            .unwrap();
        assert_eq!(borrower.load(THERE).await, Ok(1));
        assert_eq!(
            mapped(&lender, of).frame,
            mapped(&borrower, THERE).frame,
            "no copy"
        );
        uvm.check().unwrap();
        let mut object = Some(object);
        let (mut lent, mut borrowed) = (Some(1), Some(1));
        for act in acts {
            match act {
                Act::LenderWrites if lent.is_some() => {
                    lender.store(of, 2).await.unwrap();
                    lent = Some(2);
                }
                Act::BorrowerWrites if borrowed.is_some() => {
                    borrower.store(THERE, 3).await.unwrap();
                    borrowed = Some(3);
                }
                Act::LenderUnmaps => {
                    lender.space().unmap(range(of, 1)).await.unwrap();
                    lent = None;
                }
                Act::BorrowerUnmaps => {
                    borrower.space().unmap(range(THERE, 1)).await.unwrap();
                    borrowed = None;
                }
                Act::LenderExits => {
                    end(&lender).await;
                    lent = None;
                }
                Act::BorrowerExits => {
                    end(&borrower).await;
                    borrowed = None;
                }
                Act::ObjectGoes => {
                    lender.space().unmap(range(SHARED, 1)).await.unwrap();
                    object = None;
                    lent = lent.filter(|_| of != SHARED);
                }
                _ => {}
            }
            let checked = uvm.check();
            assert!(checked.is_ok(), "{of:#x} {acts:?}: {checked:?}");
            for (program, va, byte) in [(&lender, of, lent), (&borrower, THERE, borrowed)] {
                if let Some(byte) = byte {
                    assert_eq!(program.load(va).await, Ok(byte), "{of:#x} {acts:?}");
                }
            }
            let report = uvm.check().expect("after looking");
            assert_eq!(
                (report.in_transit, report.borrowed),
                (0, 0),
                "{of:#x} {acts:?}"
            );
        }
        end(&lender).await;
        end(&borrower).await;
        drop(object);
    });
    assert_eq!(world.check_quiet().anon, 0, "{of:#x} {acts:?}");
    assert_eq!(world.uvm.meter().gauge(Gauge::Anonpages), 0);
}

#[test]
fn a_borrower_left_alone_owns_the_page_and_copies_nothing() {
    let world = World::new(256, 0);
    let object = UvmObject::anonymous(&world.uvm, Pages(1)).unwrap();
    let lender = world.program(&world.space());
    let borrowers: [_; 2] = core::array::from_fn(|_| world.program(&world.space()));
    map_shared(lender.space(), &object, 1);
    borrowers
        .iter()
        .for_each(|b| map_private(b.space(), THERE, 1));
    let uvm = world.uvm.clone();
    world.run(async move {
        lender.store(SHARED, 1).await.unwrap();
        let frame = mapped(&lender, SHARED).frame;
        for borrower in &borrowers {
            let to = VirtAddr::new(THERE);
            lender
                .space()
                .loan_to(range(SHARED, 1), borrower.space(), to)
                .await
                .unwrap();
        }
        end(&lender).await;
        drop(object);
        let report = uvm.check().unwrap();
        assert_eq!((report.borrowed, report.in_transit), (1, 0), "{report}");
        // The first to use it owns it; for the other it is still a loan.
        let [a, b] = &borrowers;
        assert_eq!(a.load(THERE).await, Ok(1));
        assert_eq!(uvm.page(frame).owner_kind(), OwnerKind::Anon);
        assert_eq!(b.load(THERE).await, Ok(1));
        uvm.check().unwrap();
        a.store(THERE, 2).await.unwrap();
        assert_eq!((breaks(&uvm), b.load(THERE).await), (1, Ok(1)));
        b.store(THERE, 3).await.unwrap();
        assert_eq!(
            (breaks(&uvm), a.load(THERE).await),
            (1, Ok(2)),
            "alone at last"
        );
        assert_eq!(mapped(b, THERE).frame, frame);
        assert_eq!(uvm.meter().gauge(Gauge::Anonpages), 2);
        for program in &borrowers {
            end(program).await;
        }
    });
    assert_eq!(world.check_quiet().anon, 0);
}

#[test]
fn a_child_of_a_borrower_borrows_along() {
    let world = World::new(256, 0);
    let object = UvmObject::anonymous(&world.uvm, Pages(3)).unwrap();
    let (lender, parent) = (world.program(&world.space()), world.program(&world.space()));
    map_shared(lender.space(), &object, 3);
    map_private(parent.space(), THERE, 3);
    let (l, p) = (lender.clone(), parent.clone());
    let child = world.run(async move {
        l.touch(SHARED, 3, 1).await.unwrap();
        let to = VirtAddr::new(THERE);
        l.space()
            .loan_to(range(SHARED, 3), p.space(), to)
            .await
            .unwrap();
        p.space().fork().await.unwrap()
    });
    let child = world.program(&child);
    let uvm = world.uvm.clone();
    world.run(async move {
        child.store(THERE, 2).await.unwrap();
        parent.store(THERE + PAGE, 3).await.unwrap();
        lender.store(SHARED + 2 * PAGE, 4).await.unwrap();
        uvm.check().unwrap();
        assert_eq!(lender.peek(SHARED, 3).await.unwrap(), [1, 1, 4]);
        assert_eq!(parent.peek(THERE, 3).await.unwrap(), [1, 3, 1]);
        assert_eq!(child.peek(THERE, 3).await.unwrap(), [2, 1, 1]);
        end(&parent).await;
        uvm.check().unwrap();
        child.touch(THERE, 3, 5).await.unwrap();
        assert_eq!(lender.peek(SHARED, 3).await.unwrap(), [1, 1, 4]);
        end(&child).await;
        // Nothing is lent any more: written in place.
        let before = breaks(&uvm);
        lender.touch(SHARED, 3, 6).await.unwrap();
        assert_eq!(breaks(&uvm), before);
        end(&lender).await;
    });
    assert_eq!(object.resident(), 3);
    world.check_quiet();
}

#[test]
fn sharers_of_an_amap_see_what_is_borrowed_and_what_is_written_to_it() {
    let world = World::new(256, 0);
    let object = UvmObject::anonymous(&world.uvm, Pages(1)).unwrap();
    let (lender, borrower) = (world.program(&world.space()), world.program(&world.space()));
    map_shared(lender.space(), &object, 1);
    map_private(borrower.space(), THERE, 1);
    let forker = borrower.clone();
    let partner = world.run(async move {
        let share = crate::Inherit::Share;
        forker
            .space()
            .inherit(range(THERE, 1), share)
            .await
            .unwrap();
        forker.store(THERE, 9).await.unwrap();
        forker.space().fork().await.unwrap()
    });
    let partner = world.program(&partner);
    let uvm = world.uvm.clone();
    world.run(async move {
        assert_eq!(partner.load(THERE).await, Ok(9));
        lender.store(SHARED, 1).await.unwrap();
        let to = VirtAddr::new(THERE);
        lender
            .space()
            .loan_to(range(SHARED, 1), borrower.space(), to)
            .await
            .unwrap();
        assert_eq!(
            (partner.load(THERE).await, borrower.load(THERE).await),
            (Ok(1), Ok(1))
        );
        partner.store(THERE, 2).await.unwrap();
        assert_eq!(
            (borrower.load(THERE).await, lender.load(SHARED).await),
            (Ok(2), Ok(1))
        );
        assert_eq!(breaks(&uvm), 1);
    });
    world.check_quiet();
}

#[test]
fn what_cannot_be_lent_or_borrowed_says_so() {
    let world = World::new(256, 0);
    let (space, other) = (world.space(), world.space());
    map_private(&space, AT, 2);
    map_private(&other, THERE, 1);
    let object = UvmObject::anonymous(&world.uvm, Pages(1)).unwrap();
    map_shared(&other, &object, 1);
    let read_only = MapRequest::anonymous(PAGE_SIZE, Prot::READ);
    other.map(at(read_only, AT)).unwrap();
    let none = MapRequest::anonymous(PAGE_SIZE, Prot::empty());
    space.map(at(none, AT + 2 * PAGE)).unwrap();
    world.run(async move {
        let lend = async |at, pages| space.loan(range(at, pages)).await.map(drop);
        assert_eq!(lend(AT + PAGE, 2).await, Err(FaultError::Protection));
        assert_eq!(lend(AT + 3 * PAGE, 1).await, Err(FaultError::NoMapping));
        assert_eq!(lend(AT, 0).await, Ok(()));
        let lend = async |to| space.loan_to(range(AT, 1), &other, VirtAddr::new(to)).await;
        let to = |error| Err(LoanError::To(error));
        assert_eq!(lend(THERE).await, Ok(()));
        assert_eq!(lend(SHARED).await, to(VmError::Invalid));
        assert_eq!(lend(AT).await, to(VmError::Protection));
        assert_eq!(lend(THERE + PAGE).await, to(VmError::Unmapped));
        assert_eq!(lend(THERE + 1).await, to(VmError::Invalid));
        assert_eq!(lend(USER_MAX).await, to(VmError::Invalid));
        let from = space
            .loan_to(range(AT + 3 * PAGE, 1), &other, VirtAddr::new(THERE))
            .await;
        assert_eq!(from, Err(LoanError::From(FaultError::NoMapping)));
    });
    world.check_quiet();
}

#[test]
fn a_loan_that_cannot_be_broken_for_lack_of_memory_stays_whole() {
    let world = World::new(128, 0);
    let object = UvmObject::anonymous(&world.uvm, Pages(1)).unwrap();
    let program = world.program(&world.space());
    map_private(program.space(), AT, 1);
    map_shared(program.space(), &object, 1);
    let uvm = world.uvm.clone();
    world.run(async move {
        let mut loans = Vec::new();
        for va in [AT, SHARED] {
            program.store(va, 1).await.unwrap();
            loans.push(program.space().loan(range(va, 1)).await.unwrap());
        }
        let hog: Vec<Frame> =
            core::iter::from_fn(|| uvm.alloc_frame(AllocFor::User, Zero::No)).collect();
        for va in [AT, SHARED] {
            assert_eq!(program.store(va, 2).await, Err(FaultError::OutOfMemory));
            assert_eq!(program.load(va).await, Ok(1));
        }
        hog.into_iter().for_each(|frame| uvm.free_frame(frame));
        for (va, loan) in [AT, SHARED].into_iter().zip(&loans) {
            program.store(va, 2).await.unwrap();
            assert_eq!(first_byte(loan, 0), 1);
        }
        drop(loans);
    });
    world.check_quiet();
}

/// Pages of each kind in [`anything_goes`].
const MANY: u64 = 6;

/// One process of it: private bytes, and which pages of the file it has written.
struct Process {
    program: Program,
    private: [u8; MANY as usize],
    copied: [Option<u8>; MANY as usize],
}

#[test]
fn anything_goes() {
    for seed in 0..24 {
        let torture_evict = seed % 3 == 0;
        let config = HostConfig {
            frames: 512,
            torture_evict,
            ..HostConfig::default()
        };
        let world = World::with(&config, seed);
        let (_disk, file, files) = file(&world, Mode::After(Duration::from_micros(20)), MANY);
        let object = UvmObject::anonymous(&world.uvm, Pages(MANY as usize)).unwrap();
        let new = {
            let (uvm, machine) = (world.uvm.clone(), world.program(&world.space()));
            let (object, files) = (object.clone(), files.clone());
            move || {
                let space = VmSpace::new(&uvm).unwrap();
                map_private(&space, AT, MANY as usize);
                map_shared(&space, &object, MANY as usize);
                map_file(&space, files.object(), MANY as usize);
                Process {
                    program: machine.in_space(&space),
                    private: [0; MANY as usize],
                    copied: [None; MANY as usize],
                }
            }
        };
        let uvm = world.uvm.clone();
        world.run(async move {
            let mut random = Random::new(seed);
            let mut shared = [0; MANY as usize];
            let mut processes: Vec<Process> = (0..3).map(|_| new()).collect();
            let mut loans: Vec<(KernelLoan, u8)> = Vec::new();
            for step in 0..600 {
                let who = random.below(3) as usize;
                let (page, kind) = (random.below(MANY), random.below(3) as usize);
                let i = page as usize;
                let va = [AT, SHARED, FILE][kind] + page * PAGE;
                let process = &mut processes[who];
                let byte = match kind {
                    0 => process.private[i],
                    1 => shared[i],
                    _ => process.copied[i].unwrap_or(file.byte(page * PAGE)),
                };
                match random.below(20) {
                    0..6 => {
                        let new = random.draw() as u8;
                        process.program.store(va, new).await.unwrap();
                        match kind {
                            0 => process.private[i] = new,
                            1 => shared[i] = new,
                            _ => process.copied[i] = Some(new),
                        }
                    }
                    6..11 => assert_eq!(
                        process.program.load(va).await,
                        Ok(byte),
                        "seed {seed} step {step}"
                    ),
                    11..14 => {
                        let loan = process.program.space().loan(range(va, 1)).await.unwrap();
                        loans.push((loan, byte));
                    }
                    14..16 if !loans.is_empty() => {
                        let (loan, byte) =
                            loans.swap_remove(random.below(loans.len() as u64) as usize);
                        assert_eq!(first_byte(&loan, 0), byte, "seed {seed} step {step}");
                    }
                    16..19 => {
                        let (to, slot) = (random.below(3) as usize, random.below(MANY));
                        let at = VirtAddr::new(AT + slot * PAGE);
                        let (from, to_space) = (
                            processes[who].program.space(),
                            processes[to].program.space(),
                        );
                        from.loan_to(range(va, 1), to_space, at).await.unwrap();
                        processes[to].private[slot as usize] = byte;
                    }
                    _ => {
                        end(&process.program).await;
                        *process = new();
                    }
                }
                if step % 20 == 0 {
                    let checked = uvm.check();
                    assert!(
                        checked.is_ok(),
                        "seed {seed} step {step}: {}",
                        checked.unwrap_err()
                    );
                }
            }
            assert!(breaks(&uvm) > 20, "{}", breaks(&uvm));
            for (loan, byte) in loans {
                assert_eq!(first_byte(&loan, 0), byte);
            }
            for process in &processes {
                end(&process.program).await;
            }
        });
        drop((object, files));
        world.run(async {});
        let report = world.check_quiet();
        assert_eq!(
            (report.anon, report.object),
            (0, 0),
            "seed {seed}: {report}"
        );
    }
}
