//! The RAM disk on a virtual clock.

use std::vec::Vec;

use super::*;
use crate::block::DiskError;
use crate::testing::{Answer, TestMemory, answers, request, run_for, settle, successes};
use executor::testing::Driver;

const LEN: u64 = 64 * 1024;

struct Machine {
    memory: &'static TestMemory,
    sim: Driver,
    disk: Arc<RamDisk>,
    /// Physical address of the disk's memory.
    base: u64,
    /// Physical address of memory for data.
    data: u64,
}

fn machine(latency_ns: u64, depth: usize) -> Machine {
    machine_with(RamDiskConfig {
        latency_ns,
        depth,
        read_only: false,
    })
}

fn machine_with(config: RamDiskConfig) -> Machine {
    let memory = TestMemory::new(64);
    let sim = Driver::new();
    let (base, _) = memory.alloc_pages(16).unwrap();
    let (data, _) = memory.alloc_pages(16).unwrap();
    // SAFETY: the pages are the disk's alone; requests lend the tests' own.
    let disk = unsafe { RamDisk::new("ram0", base, LEN + 100, config, memory, sim.executor()) };
    settle(&sim);
    Machine {
        memory,
        sim,
        disk: disk.unwrap(),
        base,
        data,
    }
}

impl Machine {
    fn start(&self, request: Request) {
        self.disk.start(request).expect("room");
    }

    fn read(&self, token: usize) {
        self.start(request(
            Op::Read,
            token as u64 % 128,
            &[(self.data, 512)],
            token,
        ));
    }

    fn run_for(&self, ns: u64) {
        run_for(&self.sim, ns);
    }

    fn answer(&self, request: Request) -> Result<(), DiskError> {
        self.start(request);
        self.run_for(1_000_000_000);
        let [Answer { result, .. }] = answers()[..] else {
            panic!("one answer")
        };
        result
    }
}

#[test]
fn data_moves_when_the_request_completes() {
    let machine = machine(1000, 4);
    let (memory, data, base) = (machine.memory, machine.data, machine.base);
    let text: Vec<u8> = (0..1024u32).map(|n| (n % 253) as u8).collect();
    memory.fill(data, &text);
    machine.start(request(Op::Write, 3, &[(data, 24), (data + 24, 1000)], 0));
    machine.run_for(999);
    assert_eq!(
        (memory.bytes(base + 3 * 512, 1024)[1], answers()),
        (0, Vec::new())
    );
    machine.run_for(1);
    assert_eq!(successes(), [0]);
    assert_eq!(memory.bytes(base + 3 * 512, 1024), text);

    machine.start(request(Op::Read, 4, &[(data + 4096, 512)], 1));
    machine.run_for(1000);
    assert_eq!(successes(), [1]);
    assert_eq!(memory.bytes(data + 4096, 512), text[512..]);
    let stats = machine.disk.stats();
    assert_eq!(
        (stats.sectors_read, stats.sectors_written, stats.in_flight),
        (1, 2, 0)
    );
}

#[test]
fn as_many_as_the_depth_are_served_at_once_and_the_rest_in_order() {
    let machine = machine(100, 4);
    (0..10).for_each(|token| machine.read(token));
    assert_eq!(machine.disk.stats().in_flight, 10);
    machine.run_for(99);
    assert_eq!(successes(), []);
    machine.run_for(1);
    assert_eq!(successes(), [0, 1, 2, 3]);
    machine.run_for(50);
    machine.read(10);
    machine.run_for(50);
    assert_eq!(successes(), [4, 5, 6, 7]);
    machine.run_for(100);
    assert_eq!(successes(), [8, 9, 10]);
}

#[test]
fn requests_in_service_complete_each_at_its_own_time() {
    let machine = machine(100, 16);
    machine.read(0);
    machine.run_for(30);
    machine.read(1);
    machine.run_for(70);
    assert_eq!(successes(), [0]);
    machine.run_for(29);
    assert_eq!(successes(), []);
    machine.run_for(1);
    assert_eq!(successes(), [1]);
}

#[test]
fn request_257_is_handed_back() {
    let machine = machine(100, 16);
    (0..256).for_each(|token| machine.read(token));
    let refused = machine
        .disk
        .start(request(Op::Flush, 0, &[], 256))
        .unwrap_err();
    machine.run_for(100);
    assert_eq!(successes().len(), 16);
    machine.start(refused);
    machine.run_for(16 * 100);
    let rest: Vec<usize> = (16..=256).collect();
    assert_eq!(successes(), rest);
}

#[test]
fn no_latency_still_completes_from_the_task() {
    let machine = machine(0, 1);
    (0..100).for_each(|token| machine.read(token));
    assert_eq!(answers(), []);
    settle(&machine.sim);
    let all: Vec<usize> = (0..100).collect();
    assert_eq!(successes(), all);
}

#[test]
fn discarded_and_zeroed_sectors_read_as_zeroes() {
    let machine = machine(10, 4);
    machine.memory.fill(machine.base, &[0xaa; 4096]);
    let ranged = |op, sector, sectors| {
        machine.answer(Request {
            sectors,
            ..request(op, sector, &[], 0)
        })
    };
    assert_eq!(ranged(Op::Discard, 1, 2), Ok(()));
    assert_eq!(ranged(Op::WriteZeroes, 5, 1), Ok(()));
    assert_eq!(machine.answer(request(Op::Flush, 0, &[], 0)), Ok(()));
    let first = |n: u64| machine.memory.bytes(machine.base + n * 512, 1)[0];
    let zeroed: Vec<u64> = (0..8).filter(|&n| first(n) == 0).collect();
    assert_eq!(zeroed, [1, 2, 5]);
}

#[test]
fn the_end_of_the_disk_is_the_end() {
    let machine = machine(10, 4);
    assert_eq!(
        machine.disk.sectors(),
        128,
        "a rest that fills no sector is left out"
    );
    let read = |sector, len| machine.answer(request(Op::Read, sector, &[(machine.data, len)], 0));
    assert_eq!(read(127, 512), Ok(()));
    assert_eq!(read(127, 1024), Err(DiskError::OutOfRange));
    assert_eq!(read(u64::MAX, 512), Err(DiskError::OutOfRange));
    assert_eq!(read(0, 100), Err(DiskError::Malformed));
    let zero = Request {
        sectors: u32::MAX,
        ..request(Op::WriteZeroes, 1, &[], 0)
    };
    assert_eq!(machine.answer(zero), Err(DiskError::OutOfRange));
}

#[test]
fn a_read_only_disk_refuses_to_change() {
    let machine = machine_with(RamDiskConfig {
        latency_ns: 10,
        depth: 0,
        read_only: true,
    });
    assert_eq!(machine.disk.config().depth, 1);
    let write = request(Op::Write, 0, &[(machine.data, 512)], 0);
    assert_eq!(machine.answer(write), Err(DiskError::ReadOnly));
    let line = std::string::ToString::to_string(&*machine.disk);
    assert_eq!(line, "ram0: 128 sectors, 10ns each, 1 at once, read-only");
}
