//! What is written, in which pieces, and what is only asked.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use std::sync::Mutex;

use super::*;
use crate::addr::{PAGE_SIZE, VirtAddr};
use crate::io::IoError;
use crate::map::{Advice, MapRequest, Placement, Sharing};
use crate::object::{PageHold, Pager, aobj};
use crate::prot::Prot;
use crate::sim::{Program, World};

const PAGE: u64 = PAGE_SIZE as u64;
const AT: u64 = 0x1000_0000;

/// Keeps what it is told to write, of each page the first byte.
#[derive(Default)]
struct Store {
    puts: Mutex<Vec<(u64, Vec<u8>)>>,
    fails: Mutex<Option<u64>>,
}

impl Store {
    fn take(&self) -> Vec<(u64, Vec<u8>)> {
        core::mem::take(&mut self.puts.lock().unwrap())
    }
}

#[async_trait::async_trait]
impl Pager for Store {
    async fn get(
        &self,
        uvm: &Arc<Uvm>,
        object: &Ref<UvmObject>,
        wanted: PageIndex,
        _advice: Advice,
    ) -> Result<Option<PageHold>, PagerError> {
        let mut pages = object.lock();
        if pages.frames.get(wanted.0).is_none() {
            let frame = aobj::zero_page(object, &mut pages, uvm, wanted)?;
            uvm.page(frame).set(PageFlags::CLEAN);
        }
        Ok(None)
    }

    fn is_writable(&self) -> bool {
        true
    }

    async fn put(
        &self,
        uvm: &Arc<Uvm>,
        object: &Ref<UvmObject>,
        first: PageIndex,
        count: u64,
    ) -> Result<(), PagerError> {
        let mut bytes = Vec::new();
        let pages = object.lock();
        for index in first.0..first.0 + count {
            if *self.fails.lock().unwrap() == Some(index) {
                return Err(IoError::Device.into());
            }
            let frame = *pages.frames.get(index).expect("resident");
            uvm.page(frame).set(PageFlags::CLEAN);
            uvm.clear_modified(frame);
            let mut byte = [0];
            uvm.bytes(frame).read(0, &mut byte);
            bytes.extend(byte);
        }
        self.puts.lock().unwrap().push((first.0, bytes));
        Ok(())
    }
}

fn with_store(pages: usize) -> (World, Program, Arc<Store>) {
    let world = World::new(1024, 0);
    let store = Arc::new(Store::default());
    let behind = Behind::Pager(store.clone());
    let object = UvmObject::make(&world.uvm, behind, pages as u64 * PAGE).unwrap();
    let space = world.space();
    let request = MapRequest::object(object, PageIndex(0), pages * PAGE_SIZE, Prot::RW).shared();
    space.map(at(request, AT)).unwrap();
    let program = world.program(&space);
    (world, program, store)
}

fn at(request: MapRequest, at: u64) -> MapRequest {
    request.at(Placement::Exclusive(VirtAddr::new(at)))
}

fn range(first: u64, pages: usize) -> VaRange {
    VaRange::of_pages(VirtAddr::new(AT + first * PAGE), pages)
}

#[test]
fn dirty_pages_are_written_once_in_runs_of_at_most_a_cluster() {
    let (world, program, store) = with_store(600);
    world.run(async move {
        let space = program.space();
        program.peek(AT, 100).await.unwrap();
        space.sync(range(0, 600), Sync::WRITE).await.unwrap();
        assert_eq!(store.take(), [], "clean");
        for page in (3..5).chain(40..60).chain([259, 260, 599]) {
            program.store(AT + page * PAGE, page as u8).await.unwrap();
        }
        space.sync(range(4, 596), Sync::empty()).await.unwrap();
        assert_eq!(store.take(), [], "not asked to write");
        space.sync(range(4, 596), Sync::WRITE).await.unwrap();
        let runs = |puts: Vec<(u64, Vec<u8>)>| -> Vec<(u64, usize)> {
            puts.iter().for_each(|(first, bytes)| {
                assert!(bytes.iter().zip(*first..).all(|(&b, page)| b == page as u8));
            });
            puts.iter()
                .map(|(first, bytes)| (*first, bytes.len()))
                .collect()
        };
        assert_eq!(
            runs(store.take()),
            [(4, 1), (40, 16), (56, 4), (259, 1), (260, 1), (599, 1)]
        );
        space.sync(range(0, 600), Sync::WRITE).await.unwrap();
        assert_eq!(
            runs(store.take()),
            [(3, 1)],
            "what was outside; the rest is clean"
        );
        // Writable all along, and written again when it is dirty again.
        program.store(AT + 599 * PAGE, 7).await.unwrap();
        space.sync(range(599, 1), Sync::WRITE).await.unwrap();
        assert_eq!(store.take(), [(599, alloc::vec![7])]);
    });
    world.check_quiet();
}

#[test]
fn a_failed_write_is_an_error_and_the_page_stays_dirty() {
    let (world, program, store) = with_store(8);
    world.run(async move {
        program.store(AT + 2 * PAGE, 1).await.unwrap();
        program.store(AT + 5 * PAGE, 2).await.unwrap();
        *store.fails.lock().unwrap() = Some(5);
        let space = program.space();
        assert_eq!(space.sync(range(0, 8), Sync::WRITE).await, Err(VmError::Io));
        *store.fails.lock().unwrap() = None;
        space.sync(range(0, 8), Sync::WRITE).await.unwrap();
        assert_eq!(store.take(), [(2, alloc::vec![1]), (5, alloc::vec![2])]);
    });
    world.check_quiet();
}

#[test]
fn coverage_wiring_and_mappings_that_have_nothing_to_write() {
    let (world, program, store) = with_store(4);
    let space = program.space().clone();
    let mut private = MapRequest::anonymous(PAGE_SIZE, Prot::RW);
    space.map(at(private.clone(), AT + 5 * PAGE)).unwrap();
    private.sharing = Sharing::Shared;
    space.map(at(private, AT + 6 * PAGE)).unwrap();
    world.run(async move {
        program.touch(AT, 4, 1).await.unwrap();
        program.touch(AT + 5 * PAGE, 2, 1).await.unwrap();
        assert_eq!(space.sync(range(5, 2), Sync::WRITE).await, Ok(()));
        // A hole is reported when all the rest is done.
        assert_eq!(
            space.sync(range(3, 3), Sync::WRITE).await,
            Err(VmError::Unmapped)
        );
        assert_eq!(store.take(), [(3, alloc::vec![1])]);
        assert_eq!(
            space.sync(range(6, 2), Sync::empty()).await,
            Err(VmError::Unmapped)
        );
        let wired = |wired| {
            let mut map = space.map.write();
            let end = AT + 2 * PAGE;
            map.change(space.uvm(), AT + PAGE, end, |entry| entry.wired = wired)
                .unwrap();
        };
        wired(1);
        let invalidate = Sync::WRITE | Sync::INVALIDATE;
        assert_eq!(
            space.sync(range(0, 4), invalidate).await,
            Err(VmError::Busy)
        );
        assert_eq!(space.sync(range(0, 4), Sync::WRITE).await, Ok(()));
        wired(0);
        assert_eq!(space.sync(range(0, 4), invalidate).await, Ok(()));
    });
    world.check();
}
