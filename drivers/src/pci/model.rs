//! A configuration space for tests: functions as registers and masks of what a write changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use pci_types::{ConfigRegionAccess, PciAddress};

use super::ConfigSpace;

/// One function's configuration space.
#[derive(Clone)]
pub(crate) struct ModelFunction {
    registers: [u32; 64],
    writable: [u32; 64],
    last_capability: Option<u8>,
}

impl ModelFunction {
    pub(crate) fn endpoint(vendor: u16, device: u16) -> ModelFunction {
        let mut registers = [0; 64];
        let mut writable = [0; 64];
        registers[0] = u32::from(device) << 16 | u32::from(vendor);
        registers[2] = 0x0100_0000;
        writable[1] = 0x0000_ffff;
        ModelFunction {
            registers,
            writable,
            last_capability: None,
        }
    }

    pub(crate) fn bridge(secondary: u8) -> ModelFunction {
        let mut function = ModelFunction::endpoint(0x1b36, 0x000c);
        function.registers[3] = 0x0001_0000;
        function.registers[6] = u32::from(secondary) << 8;
        function
    }

    pub(crate) fn multifunction(mut self) -> ModelFunction {
        self.registers[3] |= 0x0080_0000;
        self
    }

    /// A BAR whose lower half is `low`, `wide` when it takes two slots.
    pub(crate) fn bar(mut self, slot: usize, low: u32, high: u32, size: u64) -> ModelFunction {
        let mask = !(size - 1);
        let kind = if low & 1 == 1 { 0b11 } else { 0b1111 };
        self.registers[4 + slot] = low;
        self.writable[4 + slot] = mask as u32 & !kind;
        if low & 0b111 == 0b100 {
            self.registers[5 + slot] = high;
            self.writable[5 + slot] = (mask >> 32) as u32;
        }
        self
    }

    pub(crate) fn pin(mut self, pin: u8) -> ModelFunction {
        self.registers[15] = u32::from(pin) << 8 | 11;
        self
    }

    /// Appends a capability: the first word's upper half and the words behind it, each with what is writable.
    pub(crate) fn capability(mut self, id: u8, at: u8, words: &[(u32, u32)]) -> ModelFunction {
        let index = usize::from(at) / 4;
        for (n, &(value, writable)) in words.iter().enumerate() {
            self.registers[index + n] = value;
            self.writable[index + n] = writable;
        }
        self.registers[index] = self.registers[index] & 0xffff_0000 | u32::from(id);
        self.link(self.last_capability, at);
        self.last_capability = Some(at);
        self
    }

    /// Makes the capability at `from` (or the head of the list) point to `to`.
    pub(crate) fn link(&mut self, from: Option<u8>, to: u8) {
        self.registers[1] |= 1 << 20;
        match from {
            None => self.registers[13] = u32::from(to),
            Some(from) => {
                let register = &mut self.registers[usize::from(from) / 4];
                *register = *register & 0xffff_00ff | u32::from(to) << 8;
            }
        }
    }
}

/// Functions by address.
#[derive(Default)]
pub(crate) struct ModelConfig(Mutex<BTreeMap<PciAddress, ModelFunction>>);

impl ModelConfig {
    pub(crate) fn new(
        functions: impl IntoIterator<Item = ((u8, u8, u8), ModelFunction)>,
    ) -> (Arc<ModelConfig>, ConfigSpace) {
        let address = |(bus, device, function)| PciAddress::new(0, bus, device, function);
        let map = functions
            .into_iter()
            .map(|(at, function)| (address(at), function))
            .collect();
        let model = Arc::new(ModelConfig(Mutex::new(map)));
        (model.clone(), model)
    }

    pub(crate) fn register(&self, address: PciAddress, offset: u8) -> u32 {
        self.0.lock().unwrap()[&address].registers[usize::from(offset) / 4]
    }
}

impl ConfigRegionAccess for ModelConfig {
    unsafe fn read(&self, address: PciAddress, offset: u16) -> u32 {
        assert!(offset < 256 && offset.is_multiple_of(4));
        let functions = self.0.lock().unwrap();
        functions
            .get(&address)
            .map_or(u32::MAX, |f| f.registers[usize::from(offset) / 4])
    }

    unsafe fn write(&self, address: PciAddress, offset: u16, value: u32) {
        assert!(offset < 256 && offset.is_multiple_of(4));
        let mut functions = self.0.lock().unwrap();
        let function = functions
            .get_mut(&address)
            .expect("a write to a function that is not there");
        let index = usize::from(offset) / 4;
        let mask = function.writable[index];
        let register = &mut function.registers[index];
        *register = *register & !mask | value & mask;
    }
}
