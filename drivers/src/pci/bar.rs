//! Base address registers: where a function's registers are, and how many.

use pci_types::{CommandRegister, HeaderType, PciHeader};

use super::Function;

/// A decoded base address register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bar {
    /// Registers in memory.
    Memory {
        /// Physical address; 0 when firmware has not placed it.
        address: u64,
        /// Bytes, a power of two.
        size: u64,
        /// Reads have no side effects.
        prefetchable: bool,
    },
    /// Registers in the port space.
    Io {
        /// The first port.
        port: u32,
        /// Ports.
        size: u32,
    },
}

impl Function {
    /// BAR `slot` (0 to 5). `None` when it is not implemented, of a reserved kind, or the upper half of a 64-bit one.
    ///
    /// Sizing writes the register and turns the function's decoding off meanwhile: for a driver that has not
    /// started the device yet.
    pub fn bar(&self, slot: u8) -> Option<Bar> {
        let slots = match PciHeader::new(self.address).header_type(&*self.config) {
            HeaderType::Endpoint => 6,
            HeaderType::PciPciBridge => 2,
            _ => 0,
        };
        let mut at = 0;
        while at < slots {
            let low = self.read32(offset(at));
            let wide = low & 0b111 == 0b100;
            if at == slot {
                return if wide && at + 1 >= slots {
                    None
                } else {
                    self.size_bar(at, low)
                };
            }
            at += if wide { 2 } else { 1 };
        }
        None
    }

    fn size_bar(&self, slot: u8, low: u32) -> Option<Bar> {
        let command = self.read32(0x04) & 0xffff;
        let decoding = (CommandRegister::IO_ENABLE | CommandRegister::MEMORY_ENABLE).bits();
        self.write32(0x04, command & !u32::from(decoding));
        let bar = if low & 1 == 1 {
            let mask = self.probe(offset(slot), low) & !0b11;
            // Sixteen bits suffice: the upper half may be hardwired to zero.
            (mask != 0).then(|| Bar::Io {
                port: low & !0b11,
                size: 1 << mask.trailing_zeros(),
            })
        } else {
            let prefetchable = low & 0b1000 != 0;
            match low >> 1 & 0b11 {
                0b00 => {
                    let mask = self.probe(offset(slot), low) & !0b1111;
                    (mask != 0).then(|| Bar::Memory {
                        address: u64::from(low & !0b1111),
                        size: 1 << mask.trailing_zeros(),
                        prefetchable,
                    })
                }
                0b10 => {
                    let high = self.read32(offset(slot + 1));
                    let low_mask = self.probe(offset(slot), low) & !0b1111;
                    let high_mask = self.probe(offset(slot + 1), high);
                    let mask = u64::from(high_mask) << 32 | u64::from(low_mask);
                    (mask != 0).then(|| Bar::Memory {
                        address: u64::from(high) << 32 | u64::from(low & !0b1111),
                        size: 1 << mask.trailing_zeros(),
                        prefetchable,
                    })
                }
                _ => None,
            }
        };
        self.write32(0x04, command);
        bar
    }

    /// Which bits of a BAR can be set; leaves it as it was.
    fn probe(&self, offset: u8, value: u32) -> u32 {
        self.write32(offset, u32::MAX);
        let mask = self.read32(offset);
        self.write32(offset, value);
        mask
    }
}

fn offset(slot: u8) -> u8 {
    0x10 + 4 * slot
}
