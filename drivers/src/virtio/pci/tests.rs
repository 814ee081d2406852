//! The transport against a function whose structures are plain memory.

use std::boxed::Box;
use std::sync::Arc;
use std::vec::Vec;

use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::pci::PciError;
use crate::pci::enumerate;
use crate::pci::model::{ModelConfig, ModelFunction};
use crate::testing::{TestInterrupts, TestMemory};

const BAR: u64 = 0xfe00_4000;
const COMMON: u64 = BAR;
const ISR: u64 = BAR + 0x1000;
const DEVICE: u64 = BAR + 0x2000;
const NOTIFY: u64 = BAR + 0x3000;

/// A structure as its capability describes it: kind, BAR, offset, length.
type Structure = (u8, u8, u32, u32);

const STRUCTURES: [Structure; 4] = [
    (1, 4, 0, 0x38),
    (3, 4, 0x1000, 1),
    (4, 4, 0x2000, 0x40),
    (2, 4, 0x3000, 0x400),
];

struct Machine {
    memory: &'static TestMemory,
    config: Arc<ModelConfig>,
    function: Function,
}

/// A function laid out as QEMU lays out its modern devices.
fn machine(structures: &[Structure], msix: bool) -> Machine {
    let memory = TestMemory::new(1);
    memory.add_window(BAR, 0x4000);
    memory.add_window(0xfebd_1000, 0x1000);
    let mut model = ModelFunction::endpoint(0x1af4, 0x1042)
        .pin(1)
        .bar(1, 0xfebd_1000, 0, 0x1000)
        .bar(4, 0xfe00_400c, 0, 0x4000);
    if msix {
        model = model.capability(0x11, 0x98, &[(1 << 16, 0xc000_0000), (1, 0), (0x801, 0)]);
    }
    for (n, &(kind, bar, offset, len)) in structures.iter().enumerate() {
        let at = 0x40 + 20 * n as u8;
        let words = [
            (20 << 16 | u32::from(kind) << 24, 0),
            (u32::from(bar), 0),
            (offset, 0),
            (len, 0),
            (4, 0), // the notification structure's multiplier
        ];
        model = model.capability(0x09, at, &words);
    }
    let (config, space) = ModelConfig::new([((0, 1, 0), model)]);
    Machine {
        memory,
        config,
        function: enumerate(&space, 0, 0..=0).remove(0),
    }
}

impl Machine {
    fn transport(&self) -> Result<PciTransport, TransportError> {
        PciTransport::new(&self.function, self.memory)
    }

    fn command(&self) -> u32 {
        self.config.register(self.function.address, 0x04) & 0xffff
    }

    fn without(kind: u8) -> Result<PciTransport, TransportError> {
        let rest: Vec<_> = STRUCTURES.into_iter().filter(|s| s.0 != kind).collect();
        machine(&rest, true).transport()
    }
}

#[derive(Default)]
struct Counts {
    queue: AtomicUsize,
    config: AtomicUsize,
}

impl Handlers for Counts {
    fn queue(&self) {
        self.queue.fetch_add(1, Relaxed);
    }

    fn config(&self) {
        self.config.fetch_add(1, Relaxed);
    }
}

fn counts() -> &'static Counts {
    Box::leak(Box::default())
}

const ADDRESSES: QueueAddresses = QueueAddresses {
    descriptors: 0x1_2345_6000,
    available: 0x1_2345_7000,
    used: 0x1_2345_8000,
};

#[test]
fn a_queue_is_given_to_the_device_with_its_message() {
    let machine = machine(&STRUCTURES, true);
    let memory = machine.memory;
    memory.write(COMMON + 18, 1u16.to_le_bytes());
    memory.write(COMMON + 24, 256u16.to_le_bytes());
    memory.write(COMMON + 30, 3u16.to_le_bytes());
    let transport = machine.transport().unwrap();
    assert_eq!(machine.command(), 0b110, "answers, and masters the bus");
    assert_eq!(
        (transport.max_queue_size(0), transport.max_queue_size(1)),
        (256, 0)
    );

    let (interrupts, counts) = (TestInterrupts::default(), counts());
    assert_eq!(transport.wire(&interrupts, counts), Ok(Signalling::MsiX));
    let entry = |n: u64| u32::from_le_bytes(memory.read(0xfebd_1000 + 16 * n + 8)) as u8;
    interrupts.fire(entry(1));
    interrupts.fire(entry(1));
    interrupts.fire(entry(0));
    assert_eq!(
        (counts.queue.load(Relaxed), counts.config.load(Relaxed)),
        (2, 1)
    );

    let doorbell = transport.enable_queue(0, 128, ADDRESSES).unwrap();
    assert_eq!(u16::from_le_bytes(memory.read(COMMON + 24)), 128);
    assert_eq!(
        u16::from_le_bytes(memory.read(COMMON + 26)),
        1,
        "the queue's message"
    );
    assert_eq!(u16::from_le_bytes(memory.read(COMMON + 28)), 1, "enabled");
    assert_eq!(
        u64::from_le_bytes(memory.read(COMMON + 32)),
        ADDRESSES.descriptors
    );
    assert_eq!(
        u64::from_le_bytes(memory.read(COMMON + 40)),
        ADDRESSES.available
    );
    assert_eq!(u64::from_le_bytes(memory.read(COMMON + 48)), ADDRESSES.used);

    memory.write(NOTIFY + 12, [0xee; 2]);
    transport.notify(doorbell);
    assert_eq!(
        memory.read(NOTIFY + 12),
        [0, 0],
        "queue 0, at its offset times the multiplier"
    );

    transport.disconnect();
    assert_eq!(machine.command() & 0b100, 0);
}

#[test]
fn without_messages_the_pin_serves_and_its_status_is_asked() {
    let machine = machine(&STRUCTURES, false);
    let transport = machine.transport().unwrap();
    machine.memory.write(COMMON + 16, [0xff; 2]);
    let (interrupts, counts) = (TestInterrupts::default(), counts());
    assert_eq!(transport.wire(&interrupts, counts), Ok(Signalling::Intx));
    assert_eq!(machine.command() & 0x400, 0, "the pin is not forbidden");
    let both = || (counts.queue.load(Relaxed), counts.config.load(Relaxed));
    interrupts.fire(0x40);
    assert_eq!(both(), (0, 0), "another device's interrupt");
    machine.memory.write(ISR, [ISR_QUEUE]);
    interrupts.fire(0x40);
    assert_eq!(both(), (1, 0));
    machine.memory.write(ISR, [ISR_QUEUE | ISR_CONFIG]);
    interrupts.fire(0x40);
    assert_eq!(both(), (2, 1));
    machine.memory.write(COMMON + 30, [0, 0]);
    transport.enable_queue(0, 256, ADDRESSES).unwrap();
    assert_eq!(
        machine.memory.read(COMMON + 26),
        [0xff, 0xff],
        "no message for the queue"
    );
}

#[test]
fn without_any_vector_there_is_no_interrupt() {
    for msix in [true, false] {
        let transport = machine(&STRUCTURES, msix).transport().unwrap();
        let wired = transport.wire(&TestInterrupts::limited(0), counts());
        assert_eq!(wired, Err(TransportError::NoInterrupt));
    }
}

#[test]
fn missing_and_misplaced_structures_are_refused() {
    let missing = TransportError::MissingStructure;
    assert_eq!(
        Machine::without(1).unwrap_err(),
        missing("common configuration")
    );
    assert_eq!(Machine::without(2).unwrap_err(), missing("notification"));
    assert_eq!(
        Machine::without(3).unwrap_err(),
        missing("interrupt status")
    );
    let with = |n: usize, structure: Structure| {
        let mut structures = STRUCTURES;
        structures[n] = structure;
        machine(&structures, true)
            .transport()
            .map(|_| ())
            .unwrap_err()
    };
    assert_eq!(
        with(0, (1, 4, 0, 0x20)),
        missing("common configuration"),
        "too short"
    );
    assert_eq!(
        with(0, (1, 4, 0x3fff, 0x38)),
        PciError::BeyondBar { slot: 4 }.into()
    );
    assert_eq!(
        with(0, (1, 4, u32::MAX, u32::MAX)),
        PciError::BeyondBar { slot: 4 }.into()
    );
    assert_eq!(
        with(0, (1, 3, 0, 0x38)),
        PciError::NoSuchBar { slot: 3 }.into()
    );
    assert_eq!(
        with(0, (1, 200, 0, 0x38)),
        PciError::NoSuchBar { slot: 200 }.into()
    );
}

#[test]
fn configuration_beyond_its_end_reads_as_zero() {
    let machine = machine(&STRUCTURES, true);
    machine.memory.write(DEVICE + 0x3c, [1, 2, 3, 4]);
    let transport = machine.transport().unwrap();
    assert_eq!(transport.config32(0x3c), 0x0403_0201);
    assert_eq!(transport.config32(0x40), 0);
    assert_eq!(Machine::without(4).unwrap().config32(0), 0);
}

#[test]
fn a_doorbell_outside_its_structure_is_refused() {
    let machine = machine(&STRUCTURES, true);
    machine.memory.write(COMMON + 30, 0x100u16.to_le_bytes());
    let transport = machine.transport().unwrap();
    let refused = transport.enable_queue(0, 256, ADDRESSES);
    assert_eq!(refused, Err(TransportError::Queue));
}
