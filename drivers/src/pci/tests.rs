//! Enumeration, BARs, capabilities and message interrupts against a model configuration space.

use std::vec::Vec;

use super::model::{ModelConfig, ModelFunction};
use super::*;
use crate::Message;
use crate::testing::TestMemory;

fn endpoint() -> ModelFunction {
    ModelFunction::endpoint(0x1af4, 0x1042)
}

fn only(function: ModelFunction) -> (Arc<ModelConfig>, Function) {
    let (model, config) = ModelConfig::new([((0, 1, 0), function)]);
    (model, enumerate(&config, 0, 0..=255).remove(0))
}

fn places(functions: &[Function]) -> Vec<(u8, u8, u8)> {
    let place = |f: &Function| (f.address.bus(), f.address.device(), f.address.function());
    functions.iter().map(place).collect()
}

#[test]
fn functions_and_buses_behind_bridges_are_found_once() {
    let (_, config) = ModelConfig::new([
        ((0, 0, 0), endpoint()),
        ((0, 1, 0), ModelFunction::bridge(1).multifunction()),
        ((0, 1, 3), ModelFunction::bridge(4)),
        ((0, 2, 1), endpoint()), // hidden: there is no function 0
        ((0, 31, 0), endpoint()),
        ((0, 31, 1), endpoint()), // hidden: function 0 is alone
        ((1, 0, 0), endpoint()),
        ((1, 5, 0), ModelFunction::bridge(1)), // points back at its own bus
        ((4, 0, 0), ModelFunction::bridge(0)), // has no bus yet
        ((9, 0, 0), endpoint()),               // on a bus that nothing leads to
    ]);
    let found = enumerate(&config, 0, 0..=255);
    let mut places = places(&found);
    places.sort_unstable();
    let expected = [
        (0, 0, 0),
        (0, 1, 0),
        (0, 1, 3),
        (0, 31, 0),
        (1, 0, 0),
        (1, 5, 0),
        (4, 0, 0),
    ];
    assert_eq!(places, expected);
    assert_eq!(
        (found[0].vendor, found[0].device, found[0].class),
        (0x1af4, 0x1042, 1)
    );
}

#[test]
fn buses_outside_the_range_are_not_looked_at() {
    let (_, config) = ModelConfig::new([
        ((0, 1, 0), ModelFunction::bridge(7)),
        ((7, 0, 0), endpoint()),
    ]);
    assert_eq!(places(&enumerate(&config, 0, 0..=3)), [(0, 1, 0)]);
}

#[test]
fn bars_are_sized_and_left_as_they_were() {
    let (model, function) = only(
        endpoint()
            .bar(0, 0xc001, 0, 0x40)
            .bar(1, 0xfebd_1000, 0, 0x1000)
            .bar(2, 0x0000_000c, 0x8, 0x2_0000_0000)
            .bar(4, 0xfe00_0002, 0, 0x1000),
    );
    function.enable();
    assert_eq!(
        function.bar(0),
        Some(Bar::Io {
            port: 0xc000,
            size: 0x40
        })
    );
    let memory = |address, size, prefetchable| {
        Some(Bar::Memory {
            address,
            size,
            prefetchable,
        })
    };
    assert_eq!(function.bar(1), memory(0xfebd_1000, 0x1000, false));
    assert_eq!(function.bar(2), memory(0x8_0000_0000, 0x2_0000_0000, true));
    assert_eq!(function.bar(3), None, "the upper half of BAR 2");
    assert_eq!(function.bar(4), None, "a reserved kind");
    assert_eq!(function.bar(5), None, "not implemented");
    assert_eq!(function.bar(6), None);
    assert_eq!(model.register(function.address, 0x10), 0xc001);
    assert_eq!(model.register(function.address, 0x18), 0x0000_000c);
    assert_eq!(model.register(function.address, 0x1c), 0x8);
    assert_eq!(model.register(function.address, 0x04) & 0xffff, 0b110);
}

#[test]
fn a_64_bit_bar_in_the_last_slot_is_none() {
    let (_, function) = only(endpoint().bar(5, 0xe000_0000, 0, 0x1000));
    assert!(function.bar(5).is_some());
    let mut bad = endpoint()
        .bar(4, 0xe000_0000, 0, 0x1000)
        .bar(5, 0, 0, 0x1000);
    bad = bad.bar(5, 0xe000_0002 | 0b110, 0, 0x1000);
    let (_, function) = only(bad);
    assert_eq!(function.bar(5), None);
}

#[test]
fn a_capability_list_that_runs_in_a_circle_ends() {
    let mut function =
        endpoint()
            .capability(0x09, 0x40, &[(0, 0)])
            .capability(0x11, 0x50, &[(0, 0)]);
    function.link(Some(0x50), 0x40);
    let (_, function) = only(function);
    let list = function.capabilities();
    assert_eq!(list.len(), MAX_CAPABILITIES);
    assert_eq!(
        list[1],
        Capability {
            id: 0x11,
            offset: 0x50
        }
    );
}

#[test]
fn a_capability_pointer_into_the_header_ends_the_list() {
    let mut function = endpoint().capability(0x09, 0x40, &[(0, 0)]);
    function.link(Some(0x40), 0x10);
    assert_eq!(only(function).1.capabilities().len(), 1);
    assert!(only(endpoint()).1.capabilities().is_empty());
}

fn with_msix(table: u32, entries: u32) -> ModelFunction {
    endpoint().bar(1, 0xfebd_1000, 0, 0x1000).capability(
        Capability::MSIX,
        0x98,
        &[((entries - 1) << 16, 0xc000_0000), (table, 0), (0x801, 0)],
    )
}

#[test]
fn msix_sends_the_messages_that_were_set() {
    let memory = TestMemory::new(1);
    memory.add_window(0xfebd_1000, 0x1000);
    let (model, function) = only(with_msix(0x101, 3));
    function.enable();
    let msix = function.msix(memory).unwrap().unwrap();
    assert_eq!(msix.entries(), 3);
    msix.enable();
    assert!(msix.set(
        1,
        Message {
            address: 0x1_fee0_0000,
            data: 0x51
        }
    ));
    assert!(!msix.set(
        3,
        Message {
            address: 0xfee0_0000,
            data: 0x52
        }
    ));
    let entry = |n: u64| memory.read::<16>(0xfebd_1100 + 16 * n);
    assert_eq!(
        entry(1),
        [0, 0, 0xe0, 0xfe, 1, 0, 0, 0, 0x51, 0, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(
        (entry(0)[12], entry(2)[12]),
        (1, 1),
        "the others stay masked"
    );
    assert_eq!(
        model.register(function.address, 0x98) >> 30,
        0b10,
        "on, and not masked"
    );
    assert_eq!(
        model.register(function.address, 0x04) & 0xffff,
        0x406,
        "without the pin"
    );
}

#[test]
fn an_msix_table_beyond_its_bar_is_refused() {
    let memory = TestMemory::new(1);
    let msix = |function| only(function).1.msix(memory).map(|_| ()).unwrap_err();
    assert_eq!(msix(with_msix(0xff1, 2)), PciError::BeyondBar { slot: 1 });
    assert_eq!(msix(with_msix(0x002, 2)), PciError::NoSuchBar { slot: 2 });
    assert_eq!(msix(with_msix(0x007, 2)), PciError::NoSuchBar { slot: 7 });
    let unplaced = with_msix(0x003, 2).bar(3, 0, 0, 0x1000);
    assert_eq!(msix(unplaced), PciError::UnassignedBar { slot: 3 });
    assert!(only(endpoint()).1.msix(memory).unwrap().is_none());
}

#[test]
fn msi_writes_its_message_in_both_forms() {
    let any = u32::MAX;
    for (control, data_at) in [(0x0080_0000, 0x5c), (0, 0x58)] {
        let words = [(control, 0x0071_0000), (0, any), (0, any), (0, any)];
        let (model, function) = only(endpoint().capability(Capability::MSI, 0x50, &words));
        function.msi().unwrap().enable(Message {
            address: 0xfee0_1000,
            data: 0x4041,
        });
        assert_eq!(model.register(function.address, 0x54), 0xfee0_1000);
        assert_eq!(model.register(function.address, data_at), 0x4041);
        assert_eq!(model.register(function.address, 0x50) >> 16 & 1, 1);
    }
    let (_, function) = only(endpoint().capability(Capability::MSI, 0xf0, &[(0x0080_0000, 0)]));
    assert!(function.msi().is_none(), "one that does not fit");
}

#[test]
fn the_pin_is_told_with_firmwares_line() {
    let (_, function) = only(endpoint().pin(2));
    let pin = function.intx_pin().unwrap();
    assert_eq!((pin.pin, pin.line, pin.address), (2, 11, function.address));
    assert!(only(endpoint().pin(9)).1.intx_pin().is_none());
    assert!(only(endpoint()).1.intx_pin().is_none());
}

#[test]
fn ecam_maps_a_bus_and_answers_all_ones_outside() {
    let memory = TestMemory::new(1);
    memory.add_window(0xb010_0000, 1 << 20);
    memory.write(
        0xb010_0000 + (3 << 15) + (1 << 12),
        0x1042_1af4_u32.to_le_bytes(),
    );
    let ecam = Ecam::new(memory, 0xb000_0000, 0, 1..=1);
    let read = |bus, device, function| {
        // SAFETY: the model has no side effects.
        unsafe { ecam.read(PciAddress::new(0, bus, device, function), 0) }
    };
    assert_eq!(read(1, 3, 1), 0x1042_1af4);
    assert_eq!(read(1, 3, 0), 0);
    assert_eq!(read(2, 3, 1), u32::MAX);
}
