//! Interrupts by message: MSI-X (a table in a BAR) and MSI (in configuration space).
//!
//! Enabling either forbids the function its interrupt pin. Everything starts masked or disabled; a driver sets its
//! messages, then enables.

use super::{Capability, Function, Intx, PciError};
use crate::io::Mmio;
use crate::{Dma, Message};

const MSIX_ENTRY: usize = 16;
const MSIX_ENABLE: u32 = 1 << 31;
const MSIX_FUNCTION_MASK: u32 = 1 << 30;
const MSI_ENABLE: u32 = 1 << 16;
const MSI_64_BIT: u32 = 1 << 23;
const MSI_MULTIPLE: u32 = 0b111 << 20;

/// A function's MSI-X table.
#[derive(Debug)]
pub struct Msix {
    function: Function,
    capability: u8,
    table: Mmio,
    entries: u16,
}

/// A function's MSI capability, with one message.
#[derive(Debug)]
pub struct Msi {
    function: Function,
    capability: u8,
}

impl Function {
    /// Maps the function's MSI-X table and masks all of it. `None` when the function has no MSI-X.
    ///
    /// # Errors
    /// When the table does not lie in one of the function's BARs.
    pub fn msix(&self, dma: &dyn Dma) -> Result<Option<Msix>, PciError> {
        let Some(Capability { offset, .. }) = self.capability(Capability::MSIX) else {
            return Ok(None);
        };
        let entries = (self.read32(offset) >> 16 & 0x7ff) as u16 + 1;
        let place = self.read32(offset.saturating_add(4));
        let table = self.map_bar(
            dma,
            (place & 0b111) as u8,
            u64::from(place & !0b111),
            u64::from(entries) * MSIX_ENTRY as u64,
        )?;
        Ok(Some(Msix {
            function: self.clone(),
            capability: offset,
            table,
            entries,
        }))
    }

    /// The function's MSI capability.
    pub fn msi(&self) -> Option<Msi> {
        let Capability { offset, .. } = self.capability(Capability::MSI)?;
        // The longest form takes 24 bytes; one that does not fit into configuration space is not one.
        (offset <= 0xe8).then(|| Msi {
            function: self.clone(),
            capability: offset,
        })
    }
}

impl Msix {
    /// Entries in the table.
    pub fn entries(&self) -> u16 {
        self.entries
    }

    /// Sets the message of an entry and unmasks it. False when there is no such entry. The function must answer
    /// memory accesses ([`Function::enable`]).
    pub fn set(&self, entry: u16, message: Message) -> bool {
        if entry >= self.entries {
            return false;
        }
        let at = usize::from(entry) * MSIX_ENTRY;
        self.table.write::<u32>(at + 12, 1);
        self.table.write::<u32>(at, message.address as u32);
        self.table
            .write::<u32>(at + 4, (message.address >> 32) as u32);
        self.table.write::<u32>(at + 8, message.data);
        self.table.write::<u32>(at + 12, 0);
        true
    }

    /// Masks every entry, then lets the function use the table, and forbids it its pin. Entries that are
    /// [`Msix::set`] afterwards fire.
    pub fn enable(&self) {
        let control = self.function.read32(self.capability) & !MSIX_FUNCTION_MASK;
        self.function
            .write32(self.capability, control | MSIX_ENABLE | MSIX_FUNCTION_MASK);
        for entry in 0..usize::from(self.entries) {
            self.table.write::<u32>(entry * MSIX_ENTRY + 12, 1);
        }
        self.function
            .write32(self.capability, control | MSIX_ENABLE);
        self.function.set_intx(Intx::Disabled);
    }
}

impl Msi {
    /// Sets the function's one message, lets it be sent, and forbids the pin.
    pub fn enable(&self, message: Message) {
        let at = self.capability;
        let control = self.function.read32(at) & !(MSI_ENABLE | MSI_MULTIPLE);
        self.function.write32(at, control);
        self.function.write32(at + 4, message.address as u32);
        if control & MSI_64_BIT != 0 {
            self.function
                .write32(at + 8, (message.address >> 32) as u32);
            self.function.write32(at + 12, message.data);
        } else {
            self.function.write32(at + 8, message.data);
        }
        self.function.write32(at, control | MSI_ENABLE);
        self.function.set_intx(Intx::Disabled);
    }
}
