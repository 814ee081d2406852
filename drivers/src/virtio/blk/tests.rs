//! The driver against a model block device.

use std::string::ToString;
use std::vec;
use std::vec::Vec;

use super::super::feature;
use super::super::model::ModelBlk;
use super::*;
use crate::testing::{Answer, TestInterrupts, TestMemory, answers, request, settle, successes};
use executor::testing::Driver;

const SECTORS: u64 = 2048;

struct Machine {
    memory: &'static TestMemory,
    model: ModelBlk,
    sim: Driver,
    disk: Arc<VirtioBlk>,
    /// Physical address of memory for data.
    data: u64,
}

fn model() -> (&'static TestMemory, ModelBlk) {
    let memory = TestMemory::new(512);
    (memory, ModelBlk::new(memory, SECTORS))
}

fn machine_with(change: impl FnOnce(&ModelBlk)) -> Machine {
    let (memory, model) = model();
    change(&model);
    let sim = Driver::new();
    let interrupts = TestInterrupts::default();
    let transport = Box::new(model.clone());
    let disk = VirtioBlk::new("virtio0", transport, memory, &interrupts, sim.executor()).unwrap();
    let (data, _) = memory.alloc_pages(256).unwrap();
    Machine {
        memory,
        model,
        sim,
        disk,
        data,
    }
}

fn machine() -> Machine {
    machine_with(|_| {})
}

fn error(change: impl FnOnce(&ModelBlk)) -> (ProbeError, ModelBlk) {
    let (memory, model) = model();
    change(&model);
    let transport = Box::new(model.clone());
    let interrupts = TestInterrupts::default();
    let error = VirtioBlk::new(
        "virtio0",
        transport,
        memory,
        &interrupts,
        Driver::new().executor(),
    )
    .err();
    (error.expect("an error"), model)
}

impl Machine {
    fn start(&self, request: Request) {
        self.disk.start(request).expect("room");
    }

    fn settle(&self) {
        settle(&self.sim);
    }

    /// Starts one request and gives its answer.
    fn answer(&self, request: Request) -> Result<(), DiskError> {
        self.start(request);
        self.settle();
        let [Answer { result, .. }] = answers()[..] else {
            panic!("one answer")
        };
        result
    }

    fn read(&self, sector: u64, token: usize) -> Request {
        let place = self.data + token as u64 % 2048 * 512;
        request(Op::Read, sector, &[(place, 512)], token)
    }
}

#[test]
fn data_goes_out_in_segments_and_comes_back() {
    let machine = machine();
    let (memory, data) = (machine.memory, machine.data);
    let text: Vec<u8> = (0..3072u32).map(|n| (n % 251) as u8).collect();
    memory.fill(data, &text);
    let segments = [(data, 1000), (data + 1000, 1560), (data + 2560, 512)];
    machine.start(request(Op::Write, 7, &segments, 1));
    machine.settle();
    assert_eq!(successes(), [1]);
    assert_eq!(machine.model.state().disk[7 * 512..13 * 512], text);

    machine.start(request(
        Op::Read,
        8,
        &[(data + 8192, 512), (data + 4096, 1536)],
        2,
    ));
    machine.settle();
    assert_eq!(successes(), [2]);
    assert_eq!(memory.bytes(data + 8192, 512), text[512..1024]);
    assert_eq!(memory.bytes(data + 4096, 1536), text[1024..2560]);

    let stats = machine.disk.stats();
    assert_eq!(
        (stats.reads, stats.writes, stats.in_flight, stats.errors),
        (1, 1, 0, 0)
    );
    assert_eq!((stats.sectors_read, stats.sectors_written), (4, 6));
    assert_eq!((stats.doorbells, stats.interrupts), (2, 2));
}

#[test]
fn the_features_are_the_devices() {
    let machine = machine();
    let features = machine.disk.features();
    assert_eq!(machine.disk.sectors(), SECTORS);
    assert_eq!(machine.disk.depth(), 256);
    assert!(features.write_cache && !machine.disk.read_only());
    assert_eq!(
        (features.max_segments, features.max_segment_bytes),
        (32, 1 << 20)
    );
    assert_eq!(
        (
            features.max_discard_sectors,
            features.max_write_zeroes_sectors
        ),
        (1024, 2048)
    );
    assert!(machine.model.state().status.contains(Status::DRIVER_OK));
    let line = machine.disk.to_string();
    assert_eq!(
        line,
        "virtio0: 2048 sectors, 256 in flight, MsiX, flush, discard, write-zeroes"
    );
}

#[test]
fn all_256_requests_are_in_flight_and_the_next_is_handed_back() {
    let machine = machine();
    machine.model.state().holds = true;
    for n in 0..256 {
        machine.start(machine.read(n, n as usize));
    }
    assert_eq!(
        machine
            .disk
            .start(machine.read(3, 999))
            .unwrap_err()
            .done
            .token,
        999
    );
    machine.settle();
    assert_eq!(answers(), []);
    assert_eq!(machine.disk.stats().in_flight, 256);
    assert_eq!(machine.model.state().held().len(), 256);

    // In another order, a few at a time, each with its own answer.
    machine.model.release(|chain| chain.head % 3 == 1);
    machine.settle();
    let first = successes();
    assert!(first.len() > 80);
    machine.start(machine.read(0, 300));
    machine.model.release(|_| true);
    machine.settle();
    let mut all: Vec<usize> = [first, successes()].concat();
    all.sort_unstable();
    let expected: Vec<usize> = (0..256).chain([300]).collect();
    assert_eq!(all, expected);
    assert_eq!(machine.disk.stats().max_in_flight, 256);
}

#[test]
fn flush_discard_and_zeroing_reach_the_device() {
    let machine = machine();
    machine.model.state().disk.fill(0xaa);
    let ranged = |op, sector, sectors| Request {
        sectors,
        ..request(op, sector, &[], 0)
    };
    assert_eq!(machine.answer(request(Op::Flush, 99, &[], 0)), Ok(()));
    assert_eq!(machine.answer(ranged(Op::Discard, 4, 2)), Ok(()));
    assert_eq!(machine.answer(ranged(Op::WriteZeroes, 10, 1)), Ok(()));
    let state = machine.model.state();
    assert_eq!(
        state.log,
        [
            request_type::FLUSH,
            request_type::DISCARD,
            request_type::WRITE_ZEROES
        ]
    );
    let sector = |n: usize| state.disk[n * 512];
    let zeroed: Vec<usize> = (0..20).filter(|&n| sector(n) == 0).collect();
    assert_eq!(zeroed, [4, 5, 10]);
}

#[test]
fn what_the_device_says_becomes_an_error() {
    let machine = machine();
    for (answer, expected) in [
        (status::IOERR, DiskError::Io),
        (status::UNSUPP, DiskError::Unsupported),
        (status::UNANSWERED, DiskError::Io),
        (42, DiskError::Io),
    ] {
        machine.model.state().answer = Some(answer);
        assert_eq!(machine.answer(machine.read(0, 0)), Err(expected));
    }
    assert_eq!(machine.disk.stats().errors, 4);
}

#[test]
fn unsound_requests_complete_with_their_error_and_never_reach_the_device() {
    let machine = machine();
    let data = machine.data;
    let read =
        |sector, segments: &[(u64, u32)]| machine.answer(request(Op::Read, sector, segments, 0));
    assert_eq!(read(SECTORS, &[(data, 512)]), Err(DiskError::OutOfRange));
    assert_eq!(
        read(SECTORS - 1, &[(data, 1024)]),
        Err(DiskError::OutOfRange)
    );
    assert_eq!(read(u64::MAX, &[(data, 512)]), Err(DiskError::OutOfRange));
    assert_eq!(read(0, &[]), Err(DiskError::Malformed));
    assert_eq!(read(0, &[(data, 511)]), Err(DiskError::Malformed));
    assert_eq!(
        read(0, &[(data, 512), (data, 0)]),
        Err(DiskError::Malformed)
    );
    assert_eq!(
        read(0, &[(data, (1 << 20) + 512)]),
        Err(DiskError::Malformed)
    );
    let ranged = |op, sector, sectors| {
        machine.answer(Request {
            sectors,
            ..request(op, sector, &[], 0)
        })
    };
    assert_eq!(ranged(Op::Discard, 0, 0), Err(DiskError::Malformed));
    assert_eq!(ranged(Op::Discard, 0, 1025), Err(DiskError::Malformed));
    assert_eq!(
        ranged(Op::WriteZeroes, SECTORS, 1),
        Err(DiskError::OutOfRange)
    );
    assert_eq!(machine.model.state().doorbells, 0);
}

#[test]
fn features_that_are_not_offered_are_done_without() {
    let machine = machine_with(|model| {
        model.state().offered = feature::VERSION_1 | blk_feature::RO;
    });
    let features = machine.disk.features();
    assert_eq!(
        (
            features.read_only,
            features.write_cache,
            features.max_segments
        ),
        (true, false, 1)
    );
    assert_eq!(machine.disk.depth(), 16, "descriptors of the queue itself");
    let write = request(Op::Write, 0, &[(machine.data, 512)], 0);
    assert_eq!(machine.answer(write), Err(DiskError::ReadOnly));
    let zero = Request {
        sectors: 1,
        ..request(Op::WriteZeroes, 0, &[], 0)
    };
    assert_eq!(machine.answer(zero), Err(DiskError::ReadOnly));
    assert_eq!(
        machine.answer(request(Op::Flush, 0, &[], 0)),
        Ok(()),
        "nothing to flush"
    );
    assert_eq!(machine.answer(machine.read(0, 0)), Ok(()));
    assert_eq!(machine.model.state().log, [request_type::IN]);

    let machine = machine_with(|model| model.state().offered &= !blk_feature::DISCARD);
    let discard = Request {
        sectors: 1,
        ..request(Op::Discard, 0, &[], 0)
    };
    assert_eq!(machine.answer(discard), Err(DiskError::Unsupported));
}

#[test]
fn odd_queue_sizes_are_rounded_down() {
    assert_eq!(
        machine_with(|model| model.state().max_queue = 1000)
            .disk
            .depth(),
        256
    );
    assert_eq!(
        machine_with(|model| model.state().max_queue = 100)
            .disk
            .depth(),
        64
    );
    assert_eq!(
        machine_with(|model| model.state().max_queue = 1)
            .disk
            .depth(),
        1
    );
}

#[test]
fn a_device_that_cannot_be_used_is_left_marked_and_off_the_bus() {
    type Change = fn(&ModelBlk);
    let cases: [(Change, ProbeError); 7] = [
        (|m| m.state().ignores_reset = true, ProbeError::Reset),
        (
            |m| m.state().offered &= !feature::VERSION_1,
            ProbeError::Legacy,
        ),
        (|m| m.state().refuses_features = true, ProbeError::Features),
        (|m| m.state().max_queue = 0, ProbeError::NoQueue),
        (
            |m| m.state().config[config::SIZE_MAX..][..4].fill(0),
            ProbeError::Configuration,
        ),
        (
            |m| m.state().config[config::BLK_SIZE] = 1,
            ProbeError::Configuration,
        ),
        (
            |m| {
                m.state().offered &= !feature::INDIRECT_DESC;
                m.state().max_queue = 2;
            },
            ProbeError::NoQueue,
        ),
    ];
    for (change, expected) in cases {
        let (error, model) = error(change);
        assert_eq!(error, expected);
        assert_eq!(model.state().status, Status::FAILED);
        assert!(model.state().disconnected);
    }
}

/// Holds three requests, lets the device go wrong, and expects all three to fail, and whatever follows.
fn fails_for_good(go_wrong: impl FnOnce(&ModelBlk)) {
    let machine = machine();
    machine.model.state().holds = true;
    for n in 0..3 {
        machine.start(machine.read(n, n as usize));
    }
    go_wrong(&machine.model);
    machine.settle();
    let failed: Vec<Answer> = answers();
    let mut tokens: Vec<usize> = failed.iter().map(|answer| answer.token).collect();
    tokens.sort_unstable();
    assert_eq!(tokens, [0, 1, 2]);
    assert!(
        failed
            .iter()
            .any(|answer| answer.result == Err(DiskError::Failed))
    );
    assert!(machine.model.state().status.is_empty() && machine.model.state().disconnected);
    let doorbells = machine.model.state().doorbells;
    assert_eq!(machine.answer(machine.read(5, 5)), Err(DiskError::Failed));
    assert_eq!(machine.model.state().doorbells, doorbells);
    assert_eq!(machine.disk.stats().in_flight, 0);
}

#[test]
fn a_device_that_needs_a_reset_fails_everything() {
    fails_for_good(|model| model.change(|state| state.status |= Status::NEEDS_RESET));
}

#[test]
fn an_unknown_id_fails_everything() {
    fails_for_good(|model| model.misbehave(|ring| ring.write_used(0xdead_beef, 1)));
}

#[test]
fn a_repeated_id_fails_everything() {
    fails_for_good(|model| {
        model.misbehave(|ring| {
            let head = u32::from(ring.held()[0].head);
            ring.write_used(head, 1);
            ring.write_used(head, 1)
        });
    });
}

#[test]
fn an_index_that_runs_ahead_fails_everything() {
    fails_for_good(|model| model.misbehave(|ring| ring.jump(1000)));
}

#[test]
fn a_spurious_interrupt_is_harmless() {
    let machine = machine();
    machine.model.misbehave(|_| {});
    machine.settle();
    assert_eq!(machine.answer(machine.read(0, 0)), Ok(()));
}

#[test]
fn a_disk_that_grows_is_seen_to() {
    let machine = machine();
    assert_eq!(
        machine.answer(machine.read(SECTORS, 0)),
        Err(DiskError::OutOfRange)
    );
    machine.model.change(|state| {
        state.config[config::CAPACITY..][..4].copy_from_slice(&(SECTORS as u32 + 8).to_le_bytes());
        state.disk = vec![7; (SECTORS as usize + 8) * 512];
    });
    machine.settle();
    assert_eq!(machine.disk.sectors(), SECTORS + 8);
    assert_eq!(machine.answer(machine.read(SECTORS, 0)), Ok(()));
}

/// Work without end, in the device's time and out of order, in both notification modes.
#[test]
fn ten_thousand_requests_all_come_back() {
    for event_index in [true, false] {
        let machine = machine_with(|model| {
            if !event_index {
                model.state().offered &= !feature::EVENT_IDX;
            }
            model.state().holds = true;
        });
        let (mut started, mut finished) = (0, 0);
        while finished < 10_000 {
            let room = 256 - (started - finished);
            for n in 0..room.min(37) {
                machine.start(machine.read(n as u64, started));
                started += 1;
            }
            let parity = started as u16 % 2;
            machine.model.release(|chain| chain.head % 2 == parity);
            machine.settle();
            finished += successes().len();
        }
        let DiskStats {
            reads, in_flight, ..
        } = machine.disk.stats();
        assert_eq!(
            (reads, in_flight),
            (finished as u64, (started - finished) as u64)
        );
    }
}
