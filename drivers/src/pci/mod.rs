//! PCI Express: finding functions, their registers and their interrupts.
//!
//! [`enumerate`] walks the buses from the root, through the secondary buses that firmware gave to bridges, and
//! yields a [`Function`] for each. Firmware has placed the BARs; nothing here moves them. Register layouts are
//! `pci_types`'s; the walks over BARs and capabilities are ours, because they must end and must not panic whatever
//! the device answers.
//!
//! Synchronisation: none. Configuration is done by the one task that brings up the devices; afterwards a driver
//! touches only its own function.

mod bar;
mod ecam;
#[cfg(test)]
pub(crate) mod model;
mod msi;
#[cfg(test)]
mod tests;

pub use bar::Bar;
pub use ecam::Ecam;
pub use msi::{Msi, Msix};
pub use pci_types::PciAddress;

use alloc::sync::Arc;
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::fmt;
use core::ops::RangeInclusive;
use pci_types::{CommandRegister, ConfigRegionAccess, HeaderType, PciHeader, PciPciBridgeHeader};

use crate::io::Mmio;
use crate::{Dma, IntxPin};

/// Capabilities that fit in the 192 bytes behind the header: what bounds a walk along their list.
const MAX_CAPABILITIES: usize = 48;

/// Configuration space as this module reaches it.
pub type ConfigSpace = Arc<dyn ConfigRegionAccess + Send + Sync>;

/// What is wrong with a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PciError {
    /// A structure is said to lie in a BAR that does not exist or is not memory.
    NoSuchBar {
        /// The BAR.
        slot: u8,
    },
    /// Firmware gave the BAR no address.
    UnassignedBar {
        /// The BAR.
        slot: u8,
    },
    /// A structure reaches beyond the end of its BAR.
    BeyondBar {
        /// The BAR.
        slot: u8,
    },
}

impl fmt::Display for PciError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PciError::NoSuchBar { slot } => write!(f, "BAR {slot} is not a memory BAR"),
            PciError::UnassignedBar { slot } => write!(f, "BAR {slot} has no address"),
            PciError::BeyondBar { slot } => write!(f, "a structure reaches beyond BAR {slot}"),
        }
    }
}

impl core::error::Error for PciError {}

/// One function of a device.
#[derive(Clone)]
pub struct Function {
    config: ConfigSpace,
    /// Segment, bus, device, function.
    pub address: PciAddress,
    /// Who made it.
    pub vendor: u16,
    /// Which of the vendor's devices it is.
    pub device: u16,
    /// Base class.
    pub class: u8,
    /// Subclass.
    pub subclass: u8,
    /// Programming interface.
    pub interface: u8,
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// As `lspci -n` prints it: address, class, vendor and device.
impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Function {
            address,
            class,
            subclass,
            vendor,
            device,
            ..
        } = self;
        write!(
            f,
            "{address} {class:02x}{subclass:02x}: {vendor:04x}:{device:04x}"
        )
    }
}

/// Where a capability lies in the configuration space, and which it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// The capability's number, such as 0x09 for vendor-specific.
    pub id: u8,
    /// Offset of its first byte.
    pub offset: u8,
}

impl Capability {
    /// Message-signalled interrupts.
    pub const MSI: u8 = 0x05;
    /// Defined by the vendor; virtio's structures.
    pub const VENDOR: u8 = 0x09;
    /// Message-signalled interrupts from a table.
    pub const MSIX: u8 = 0x11;
}

/// Every function on the buses reached from the first of `buses`, in the order of the walk. Bridges are followed to
/// buses within the range; each bus is visited once, whatever the bridges say.
pub fn enumerate(config: &ConfigSpace, segment: u16, buses: RangeInclusive<u8>) -> Vec<Function> {
    let mut found = Vec::new();
    let mut seen = [false; 256];
    let mut pending = Vec::from([*buses.start()]);
    while let Some(bus) = pending.pop() {
        if core::mem::replace(&mut seen[usize::from(bus)], true) {
            continue;
        }
        for device in 0..32 {
            for number in 0..8 {
                let address = PciAddress::new(segment, bus, device, number);
                let Some(function) = Function::at(config, address) else {
                    if number == 0 {
                        break;
                    }
                    continue;
                };
                let header = PciHeader::new(address);
                let single = number == 0 && !header.has_multiple_functions(&**config);
                if header.header_type(&**config) == HeaderType::PciPciBridge
                    && let Some(bridge) = PciPciBridgeHeader::from_header(header, &**config)
                {
                    let secondary = bridge.secondary_bus_number(&**config);
                    if buses.contains(&secondary) && secondary != 0 {
                        pending.push(secondary);
                    }
                }
                found.push(function);
                if single {
                    break;
                }
            }
        }
    }
    found
}

impl Function {
    fn at(config: &ConfigSpace, address: PciAddress) -> Option<Function> {
        let header = PciHeader::new(address);
        let (vendor, device) = header.id(&**config);
        if vendor == 0xffff {
            return None;
        }
        let (_, class, subclass, interface) = header.revision_and_class(&**config);
        Some(Function {
            config: config.clone(),
            address,
            vendor,
            device,
            class,
            subclass,
            interface,
        })
    }

    /// Reads four bytes of configuration space. `offset` is rounded down to a multiple of four.
    pub fn read32(&self, offset: u8) -> u32 {
        // SAFETY: the function exists and the offset is inside its 256 bytes; reading configuration space has no
        // side effects outside the device.
        unsafe { self.config.read(self.address, u16::from(offset & !3)) }
    }

    /// Reads one byte of configuration space.
    pub fn read8(&self, offset: u8) -> u8 {
        self.read32(offset).to_le_bytes()[usize::from(offset & 3)]
    }

    fn write32(&self, offset: u8, value: u32) {
        // SAFETY: as in `read32`. What is written is this module's business: BAR sizes, the command register, and
        // the interrupt capabilities.
        unsafe {
            self.config
                .write(self.address, u16::from(offset & !3), value)
        }
    }

    /// The capabilities in the order of the device's list; at most as many as there is room for.
    pub fn capabilities(&self) -> ArrayVec<Capability, MAX_CAPABILITIES> {
        let mut list = ArrayVec::new();
        if !PciHeader::new(self.address)
            .status(&*self.config)
            .has_capability_list()
        {
            return list;
        }
        let mut offset = self.read8(0x34) & !3;
        while offset >= 0x40 && !list.is_full() {
            let head = self.read32(offset);
            list.push(Capability {
                id: head as u8,
                offset,
            });
            offset = (head >> 8) as u8 & !3;
        }
        list
    }

    /// The first capability of that kind.
    pub fn capability(&self, id: u8) -> Option<Capability> {
        self.capabilities()
            .into_iter()
            .find(|capability| capability.id == id)
    }

    /// Lets the function answer memory accesses and, as bus master, make its own.
    pub fn enable(&self) {
        self.command(|command| {
            command | CommandRegister::MEMORY_ENABLE | CommandRegister::BUS_MASTER_ENABLE
        });
    }

    /// Stops the function's own memory accesses. After this the device can no longer touch memory, whatever state
    /// it is in.
    pub fn disable_bus_master(&self) {
        self.command(|command| command - CommandRegister::BUS_MASTER_ENABLE);
    }

    /// Lets the function assert its interrupt pin, or forbids it.
    pub fn set_intx(&self, intx: Intx) {
        self.command(|command| match intx {
            Intx::Enabled => command - CommandRegister::INTERRUPT_DISABLE,
            Intx::Disabled => command | CommandRegister::INTERRUPT_DISABLE,
        });
    }

    /// The function's interrupt pin, if it has one.
    pub fn intx_pin(&self) -> Option<IntxPin> {
        let pin = self.read8(0x3d);
        (1..=4).contains(&pin).then(|| IntxPin {
            address: self.address,
            pin,
            line: self.read8(0x3c),
        })
    }

    /// Maps `len` bytes at `offset` of memory BAR `slot`.
    ///
    /// # Errors
    /// When the BAR is not there, has no address, or is too small.
    pub fn map_bar(
        &self,
        dma: &dyn Dma,
        slot: u8,
        offset: u64,
        len: u64,
    ) -> Result<Mmio, PciError> {
        const PAGE: u64 = 4096;
        let Some(Bar::Memory { address, size, .. }) = self.bar(slot) else {
            return Err(PciError::NoSuchBar { slot });
        };
        if address == 0 {
            return Err(PciError::UnassignedBar { slot });
        }
        if len == 0 || offset.checked_add(len).is_none_or(|end| end > size) {
            return Err(PciError::BeyondBar { slot });
        }
        let Some(phys) = address
            .checked_add(offset)
            .filter(|phys| phys.checked_add(len + PAGE).is_some())
        else {
            return Err(PciError::BeyondBar { slot });
        };
        let into_page = phys % PAGE;
        let mapped = (into_page + len).next_multiple_of(PAGE);
        let base = dma.map_mmio(phys - into_page, mapped as usize);
        // SAFETY: `map_mmio` mapped `mapped` bytes from the page's start on, for good; `into_page` plus `len` lie
        // within them, so the pointer is inside and not null. Only the function's driver asks for its BARs.
        Ok(unsafe { Mmio::new(base.add(into_page as usize), len as usize) })
    }

    fn command(&self, change: impl FnOnce(CommandRegister) -> CommandRegister) {
        // The status half of the word clears what is written as one: write zeroes there.
        let command = change(CommandRegister::from_bits_retain(self.read32(0x04) as u16));
        self.write32(0x04, u32::from(command.bits()));
    }
}

/// Whether a function may assert its interrupt pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intx {
    /// It may.
    Enabled,
    /// It may not; a driver uses messages, or nothing.
    Disabled,
}
