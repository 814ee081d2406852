//! The machine that tests run drivers on: memory with physical addresses, and interrupts that fire when told.

use core::ptr::NonNull;
use std::alloc::{Layout, alloc_zeroed};
use std::boxed::Box;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread_local;
use std::vec::Vec;

use executor::testing::Driver;

use crate::block::{DiskError, Done, Op, Request, Segment};
use crate::{Dma, Interrupts, IntxPin, Message};

const PAGE: usize = 4096;

/// RAM from physical address [`TestMemory::BASE`] on, and windows of device memory elsewhere. Lives for good.
pub(crate) struct TestMemory {
    base: NonNull<u8>,
    len: usize,
    taken: Mutex<usize>,
    windows: Mutex<Vec<Window>>,
}

struct Window {
    phys: u64,
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory lives for good; who may access which part of it is the tests' affair, as it is the drivers'.
unsafe impl Send for TestMemory {}
// SAFETY: as above.
unsafe impl Sync for TestMemory {}

impl TestMemory {
    pub(crate) const BASE: u64 = 0x4000_0000;

    pub(crate) fn new(pages: usize) -> &'static TestMemory {
        Box::leak(Box::new(TestMemory {
            base: zeroed(pages * PAGE),
            len: pages * PAGE,
            taken: Mutex::new(0),
            windows: Mutex::default(),
        }))
    }

    /// Adds device memory, zeroed.
    pub(crate) fn add_window(&self, phys: u64, len: usize) {
        let base = zeroed(len);
        self.windows
            .lock()
            .unwrap()
            .push(Window { phys, base, len });
    }

    /// Where `len` bytes at `phys` are; panics when they are not all RAM or all one window.
    pub(crate) fn at(&self, phys: u64, len: usize) -> NonNull<u8> {
        let within = |start: u64, size: usize| {
            phys.checked_sub(start)
                .filter(|o| o + len as u64 <= size as u64)
        };
        if let Some(offset) = within(TestMemory::BASE, self.len) {
            // SAFETY: the offset is inside the allocation.
            return unsafe { self.base.add(offset as usize) };
        }
        let windows = self.windows.lock().unwrap();
        let found = windows
            .iter()
            .find_map(|w| within(w.phys, w.len).map(|o| (w.base, o)));
        let (base, offset) =
            found.unwrap_or_else(|| panic!("{len} bytes at {phys:#x} are nowhere"));
        // SAFETY: the offset is inside the window.
        unsafe { base.add(offset as usize) }
    }

    pub(crate) fn read<const N: usize>(&self, phys: u64) -> [u8; N] {
        // SAFETY: `at` checked the range; tests are single-threaded where they look at memory.
        unsafe { self.at(phys, N).cast::<[u8; N]>().as_ptr().read_unaligned() }
    }

    pub(crate) fn write<const N: usize>(&self, phys: u64, bytes: [u8; N]) {
        // SAFETY: as in `read`.
        unsafe {
            self.at(phys, N)
                .cast::<[u8; N]>()
                .as_ptr()
                .write_unaligned(bytes)
        }
    }

    pub(crate) fn bytes(&self, phys: u64, len: usize) -> Vec<u8> {
        let from = self.at(phys, len);
        // SAFETY: as in `read`.
        unsafe { core::slice::from_raw_parts(from.as_ptr(), len) }.to_vec()
    }

    pub(crate) fn fill(&self, phys: u64, bytes: &[u8]) {
        let to = self.at(phys, bytes.len());
        // SAFETY: as in `read`.
        unsafe { to.as_ptr().copy_from(bytes.as_ptr(), bytes.len()) };
    }
}

impl Dma for TestMemory {
    fn virt_to_phys(&self, pointer: *const u8) -> u64 {
        TestMemory::BASE + (pointer as usize - self.base.as_ptr() as usize) as u64
    }

    fn phys_to_virt(&self, phys: u64) -> *mut u8 {
        self.at(phys, 1).as_ptr()
    }

    fn alloc_pages(&self, pages: usize) -> Option<(u64, NonNull<u8>)> {
        let mut taken = self.taken.lock().unwrap();
        let offset = *taken;
        if offset + pages * PAGE > self.len {
            return None;
        }
        *taken += pages * PAGE;
        let phys = TestMemory::BASE + offset as u64;
        Some((phys, self.at(phys, pages * PAGE)))
    }

    fn map_mmio(&self, phys: u64, len: usize) -> NonNull<u8> {
        self.at(phys, len)
    }
}

fn zeroed(len: usize) -> NonNull<u8> {
    let layout = Layout::from_size_align(len, PAGE).unwrap();
    // SAFETY: the layout is not empty in any test.
    NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap()
}

type Handler = &'static (dyn Fn() + Sync);

/// Interrupts that fire when a test says so.
#[derive(Default)]
pub(crate) struct TestInterrupts {
    handlers: Mutex<Vec<Handler>>,
    isa: Mutex<BTreeMap<u8, u8>>,
    /// Vectors left to give, where a test wants them to run out.
    limit: Option<usize>,
}

impl TestInterrupts {
    const FIRST: u8 = 0x40;

    /// Interrupts of which only so many vectors can be had.
    pub(crate) fn limited(vectors: usize) -> TestInterrupts {
        TestInterrupts {
            limit: Some(vectors),
            ..TestInterrupts::default()
        }
    }

    pub(crate) fn fire(&self, vector: u8) {
        let handler = self.handlers.lock().unwrap()[usize::from(vector - TestInterrupts::FIRST)];
        handler();
    }

    pub(crate) fn fire_isa(&self, irq: u8) {
        let vector = self.isa.lock().unwrap()[&irq];
        self.fire(vector);
    }
}

impl Interrupts for TestInterrupts {
    fn allocate(&self, handler: Handler) -> Option<u8> {
        let mut handlers = self.handlers.lock().unwrap();
        if self.limit.is_some_and(|limit| handlers.len() >= limit) {
            return None;
        }
        handlers.push(handler);
        Some(TestInterrupts::FIRST + handlers.len() as u8 - 1)
    }

    fn message(&self, vector: u8) -> Message {
        Message {
            address: 0xfee0_0000,
            data: u32::from(vector),
        }
    }

    fn route_isa(&self, irq: u8, vector: u8) -> bool {
        self.isa.lock().unwrap().insert(irq, vector);
        true
    }

    fn route_intx(&self, _: IntxPin, _: u8) -> bool {
        true
    }
}

/// Lets everything run until nothing is left to do now.
pub(crate) fn settle(sim: &Driver) {
    run_for(sim, 1);
}

/// Lets everything run while the virtual clock advances by `ns`.
pub(crate) fn run_for(sim: &Driver, ns: u64) {
    let executor = sim.executor();
    sim.run_until(executor.sleep_until(executor.now() + ns));
}

/// What a disk answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) token: usize,
    pub(crate) result: Result<(), DiskError>,
}

thread_local! {
    static ANSWERS: RefCell<Vec<Answer>> = const { RefCell::new(Vec::new()) };
}

/// A request that remembers its answer for [`answers`].
pub(crate) fn request(op: Op, sector: u64, segments: &[(u64, u32)], token: usize) -> Request {
    let segments = segments
        .iter()
        .map(|&(phys, len)| Segment { phys, len })
        .collect();
    let call = |token, result| ANSWERS.with_borrow_mut(|all| all.push(Answer { token, result }));
    Request {
        op,
        sector,
        segments,
        sectors: 0,
        done: Done { call, token },
    }
}

/// The answers on this thread since the last call, in order.
pub(crate) fn answers() -> Vec<Answer> {
    ANSWERS.take()
}

/// The tokens of the answers since the last call, each of which must be success.
pub(crate) fn successes() -> Vec<usize> {
    let check = |answer: Answer| {
        assert_eq!(answer.result, Ok(()), "request {}", answer.token);
        answer.token
    };
    answers().into_iter().map(check).collect()
}
