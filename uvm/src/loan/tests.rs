//! Loans to the kernel and to processes: who sees what after either side writes, lets go, or dies.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use executor::Class;

mod kernel;
mod process;
mod random;

use super::*;
use crate::addr::{PageIndex, Pages};
use crate::map::{MapRequest, Placement};
use crate::meter::Gauge;
use crate::object::UvmObject;
use crate::object::vnode::FileMap;
use crate::page::OwnerKind;
use crate::page::freelist::{AllocFor, Zero};
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
        map_private(&space, SHARED, MAX_LOAN + 1);
        let loan = space.loan(range(SHARED, MAX_LOAN + 1)).await;
        assert_eq!(loan.map(|loan| loan.pages()), Ok(MAX_LOAN));
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
