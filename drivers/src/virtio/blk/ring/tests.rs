//! The ring against a device that takes, holds back and gives back in any order.

use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::SeqCst;
use std::collections::BTreeMap;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::block::{Done, Segment};
use crate::testing::TestMemory;
use crate::virtio::model::{Chain, DeviceRing};

/// A driver and a device, either of which sleeps until the other asks for it.
struct Pair {
    memory: &'static TestMemory,
    ring: Ring<u64>,
    device: DeviceRing,
    device_awake: bool,
    driver_awake: bool,
    /// By tag: what the device is to answer, once it has.
    outstanding: BTreeMap<u64, Option<u8>>,
    held: Vec<Chain>,
    next: u64,
    finished: u64,
    doorbells: u64,
    interrupts: u64,
}

/// One segment, whose place is the tag's own.
fn read(tag: u64) -> Request {
    let segment = Segment {
        phys: (1 << 40) + (tag << 20),
        len: 4096,
    };
    Request {
        op: Op::Read,
        sector: tag,
        segments: [segment].into_iter().collect(),
        sectors: 1,
        done: Done {
            call: |_, _| {},
            token: 0,
        },
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Start {
        op: Op,
        segments: usize,
    },
    /// The device, if awake, takes up to so many requests.
    Fetch(usize),
    /// The device gives back one of those it holds.
    GiveBack {
        which: usize,
        status: u8,
    },
    /// The driver's task, if awake, takes back up to so many.
    Take(usize),
}

impl Pair {
    fn new(size: u16, indirect: bool, event_index: bool) -> Pair {
        let memory = TestMemory::new(128);
        let chain = if indirect { MAX_CHAIN } else { 6 };
        let layout = Layout {
            size,
            chain,
            indirect,
            event_index,
        };
        let mut ring = Ring::new(memory, layout).unwrap();
        let mut device = DeviceRing::new(memory, size, ring.addresses(), event_index);
        assert!(device.sleep() && !ring.arm());
        Pair {
            memory,
            ring,
            device,
            device_awake: false,
            driver_awake: false,
            outstanding: BTreeMap::new(),
            held: Vec::new(),
            next: 0,
            finished: 0,
            doorbells: 0,
            interrupts: 0,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Start { op, segments } => self.start(op, segments),
            Step::Fetch(count) => self.fetch(count),
            Step::GiveBack { which, status } if !self.held.is_empty() => {
                self.give_back(which % self.held.len(), status);
            }
            Step::GiveBack { .. } => {}
            Step::Take(count) => self.take(count),
        }
    }

    fn start(&mut self, op: Op, segments: usize) {
        if !self.ring.has_room() {
            assert_eq!(self.outstanding.len(), self.ring.depth());
            return;
        }
        let tag = self.next;
        self.next += 1;
        // The tag travels in the sector, by which the device's side knows it.
        let transfer = matches!(op, Op::Read | Op::Write);
        let segment = |n| Segment {
            phys: (1 << 40) + (tag << 20) + (n << 12),
            len: 4096,
        };
        let request = Request {
            op,
            sector: tag,
            segments: (0..segments as u64)
                .filter(|_| transfer)
                .map(segment)
                .collect(),
            sectors: 1,
            done: Done {
                call: |_, _| {},
                token: 0,
            },
        };
        self.outstanding.insert(tag, None);
        if self.ring.start(&request, tag) {
            self.doorbells += 1;
            self.device_awake = true;
            self.device.wake();
        }
    }

    fn fetch(&mut self, count: usize) {
        for _ in 0..count {
            if !self.device_awake {
                return;
            }
            match self.device.fetch() {
                Some(chain) => self.held.push(chain),
                None => self.device_awake = !self.device.sleep(),
            }
        }
    }

    fn give_back(&mut self, which: usize, status: u8) {
        let chain = self.held.swap_remove(which);
        let first = chain.buffers[0];
        let kind = u32::from_le_bytes(self.memory.read(first.phys));
        let ranged = matches!(kind, request_type::DISCARD | request_type::WRITE_ZEROES);
        let sector = if ranged {
            chain.buffers[1].phys
        } else {
            first.phys + 8
        };
        if kind != request_type::FLUSH {
            let tag = u64::from_le_bytes(self.memory.read(sector));
            let answer = self
                .outstanding
                .get_mut(&tag)
                .expect("a request that is under way");
            assert_eq!(answer.replace(status), None);
        }
        let place = chain.buffers.last().unwrap().phys;
        assert_eq!(self.memory.read(place), [status::UNANSWERED]);
        self.memory.write(place, [status]);
        if self.device.give_back(chain.head, 1) {
            self.interrupts += 1;
            self.driver_awake = true;
        }
    }

    fn take(&mut self, count: usize) {
        if !self.driver_awake {
            return;
        }
        self.ring.disarm();
        for _ in 0..count {
            match self.ring.take().unwrap() {
                Some(Taken { tag, result }) => {
                    let answer = self.outstanding.remove(&tag).expect("each comes back once");
                    let expected = |status| match status {
                        status::OK => Ok(()),
                        status::UNSUPP => Err(DiskError::Unsupported),
                        _ => Err(DiskError::Io),
                    };
                    if let Some(status) = answer {
                        assert_eq!(result, expected(status));
                    }
                    self.finished += 1;
                }
                None => {
                    self.driver_awake = self.ring.arm();
                    if !self.driver_awake {
                        return;
                    }
                }
            }
        }
    }

    /// Lets both sides run, each only when the other woke it, until nothing is under way.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            self.fetch(1000);
            while !self.held.is_empty() {
                self.give_back(0, status::OK);
            }
            self.take(1000);
            if self.outstanding.is_empty() {
                break;
            }
        }
        assert!(
            self.outstanding.is_empty(),
            "somebody sleeps through work that is there"
        );
        assert_eq!(self.finished, self.next);
        assert!(self.ring.has_room());
    }
}

fn step() -> impl Strategy<Value = Step> {
    let op = prop_oneof![
        4 => Just(Op::Read),
        4 => Just(Op::Write),
        1 => Just(Op::Flush),
        1 => Just(Op::Discard),
        1 => Just(Op::WriteZeroes),
    ];
    let answer = prop_oneof![8 => Just(status::OK), 1 => Just(status::IOERR), 1 => Just(status::UNSUPP), 1 => Just(77)];
    prop_oneof![
        3 => (op, 1..5usize).prop_map(|(op, segments)| Step::Start { op, segments }),
        2 => (1..6usize).prop_map(Step::Fetch),
        3 => (0..64usize, answer).prop_map(|(which, status)| Step::GiveBack { which, status }),
        2 => (1..6usize).prop_map(Step::Take),
    ]
}

proptest! {
    #[test]
    fn every_request_comes_back_once_with_its_own_answer(
        steps in prop::collection::vec(step(), 0..400),
        size in prop_oneof![Just(8u16), Just(16), Just(64)],
        indirect: bool,
        event_index: bool,
    ) {
        let mut pair = Pair::new(size, indirect, event_index);
        for step in steps {
            pair.step(step);
        }
        pair.settle();
    }
}

/// 300,000 requests: the 16-bit indices go round four times, at every phase of the ring.
#[test]
fn indices_wrap_many_times() {
    for event_index in [true, false] {
        let mut pair = Pair::new(8, true, event_index);
        let mut random = 1u64;
        while pair.next < 300_000 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let count = (random >> 40) as usize % 7 + 1;
            pair.step(match random >> 60 {
                0..=5 => Step::Start {
                    op: Op::Write,
                    segments: 1,
                },
                6..=8 => Step::Fetch(count),
                9..=12 => Step::GiveBack {
                    which: count,
                    status: status::OK,
                },
                _ => Step::Take(count),
            });
        }
        pair.settle();
    }
}

#[test]
fn a_full_ring_holds_256_requests_of_32_segments() {
    let mut pair = Pair::new(256, true, true);
    for _ in 0..256 {
        pair.start(Op::Read, 32);
    }
    assert!(!pair.ring.has_room());
    assert_eq!(
        pair.doorbells, 1,
        "a device that is awake wants no further doorbell"
    );
    pair.fetch(300);
    assert_eq!(pair.held.len(), 256);
    assert!(pair.held.iter().all(|chain| chain.buffers.len() == 34));
    pair.settle();
    assert_eq!(
        pair.interrupts, 1,
        "a driver that is awake wants no further interrupt"
    );
}

#[test]
fn without_indirect_descriptors_the_table_is_shared_out() {
    let mut pair = Pair::new(16, false, true);
    assert_eq!(pair.ring.depth(), 2);
    pair.start(Op::Write, 4);
    pair.start(Op::Read, 4);
    assert!(!pair.ring.has_room());
    pair.settle();
}

#[test]
fn an_id_that_was_never_lent_is_malformed() {
    for id in [1, 7, 8, 0xffff, u32::MAX] {
        let mut pair = Pair::new(8, true, true);
        pair.start(Op::Read, 1);
        let head = u32::from(pair.device.fetch().unwrap().head);
        let id = if id == head { id + 1 } else { id };
        pair.device.write_used(id, 1);
        assert_eq!(pair.ring.take().err(), Some(Malformed::Id(id)));
    }
}

#[test]
fn an_id_that_names_the_middle_of_a_chain_is_malformed() {
    let mut pair = Pair::new(16, false, true);
    pair.start(Op::Read, 1);
    let head = u32::from(pair.device.fetch().unwrap().head);
    pair.device.write_used(head + 1, 1);
    assert_eq!(pair.ring.take().err(), Some(Malformed::Id(head + 1)));
}

#[test]
fn an_id_that_comes_back_twice_is_malformed() {
    let mut pair = Pair::new(8, true, true);
    pair.start(Op::Read, 1);
    pair.start(Op::Read, 1);
    let head = u32::from(pair.device.fetch().unwrap().head);
    pair.device.write_used(head, 1);
    pair.device.write_used(head, 1);
    assert_eq!(pair.ring.take().unwrap().map(|taken| taken.tag), Some(0));
    assert_eq!(pair.ring.take().err(), Some(Malformed::Id(head)));
    assert_eq!(pair.ring.abandon(), Some(1));
    assert_eq!(pair.ring.abandon(), None);
}

#[test]
fn an_index_ahead_of_what_was_lent_is_malformed() {
    let mut pair = Pair::new(8, true, true);
    assert!(pair.ring.take().unwrap().is_none());
    pair.device.jump(1);
    let jumped = Malformed::Index {
        used: 1,
        in_flight: 0,
    };
    assert_eq!(pair.ring.take().err(), Some(jumped));
    pair.start(Op::Read, 1);
    pair.device.jump(40_000);
    let jumped = Malformed::Index {
        used: 40_001,
        in_flight: 1,
    };
    assert_eq!(pair.ring.take().err(), Some(jumped));
}

/// Driver and device on two threads, each of which sleeps until the other's signal. A barrier too few on the driver's
/// side, and one of them sleeps through what the other left.
#[test]
fn nobody_sleeps_through_work_on_two_processors() {
    const REQUESTS: u64 = 100_000;
    for event_index in [true, false] {
        let Pair {
            memory,
            mut ring,
            mut device,
            ..
        } = Pair::new(16, true, event_index);
        let doorbell = AtomicBool::new(false);
        let interrupt = AtomicBool::new(false);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(SeqCst) {
                    if !doorbell.swap(false, SeqCst) {
                        std::thread::yield_now();
                        continue;
                    }
                    device.wake();
                    loop {
                        while let Some(chain) = device.fetch() {
                            memory.write(chain.buffers.last().unwrap().phys, [status::OK]);
                            if device.give_back(chain.head, 1) {
                                interrupt.store(true, SeqCst);
                            }
                        }
                        if device.sleep() {
                            break;
                        }
                    }
                }
            });
            let (mut started, mut finished, mut idle) = (0, 0, 0);
            while finished < REQUESTS && idle < 10_000_000 {
                while started < REQUESTS && ring.has_room() {
                    if ring.start(&read(started), started) {
                        doorbell.store(true, SeqCst);
                    }
                    started += 1;
                }
                if !interrupt.swap(false, SeqCst) {
                    idle += 1;
                    std::thread::yield_now();
                    continue;
                }
                idle = 0;
                loop {
                    ring.disarm();
                    while ring.take().unwrap().is_some() {
                        finished += 1;
                    }
                    if !ring.arm() {
                        break;
                    }
                }
            }
            over.store(true, SeqCst);
            assert_eq!(
                finished, REQUESTS,
                "somebody sleeps through work that is there"
            );
        });
    }
}
