//! Configuration space through memory (PCI Express ECAM): 4 KiB a function, 1 MiB a bus.
//!
//! Buses are mapped when they are first looked at: firmware offers 256 of them, of which a machine has a few.
//!
//! Synchronisation: the table of mapped buses is atomic; two CPUs that meet the same new bus both map it, and
//! one mapping is used.

use alloc::boxed::Box;
use core::ops::RangeInclusive;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, Ordering};
use pci_types::{ConfigRegionAccess, PciAddress};

use crate::Dma;
use crate::io::Mmio;

const BUS_SIZE: usize = 1 << 20;

/// One segment's configuration space, as ACPI's MCFG table describes it.
pub struct Ecam {
    dma: &'static dyn Dma,
    base: u64,
    segment: u16,
    buses: RangeInclusive<u8>,
    mapped: Box<[AtomicPtr<u8>; 256]>,
}

impl Ecam {
    /// `base` is MCFG's base address: the physical address that bus 0 of the segment has or would have.
    pub fn new(dma: &'static dyn Dma, base: u64, segment: u16, buses: RangeInclusive<u8>) -> Ecam {
        let mapped = Box::new([const { AtomicPtr::new(null_mut()) }; 256]);
        Ecam {
            dma,
            base,
            segment,
            buses,
            mapped,
        }
    }

    /// The buses of the segment.
    pub fn buses(&self) -> RangeInclusive<u8> {
        self.buses.clone()
    }

    /// The segment's number.
    pub fn segment(&self) -> u16 {
        self.segment
    }

    /// The window of a bus, or `None` when it is not in the segment.
    fn bus(&self, address: PciAddress) -> Option<Mmio> {
        if address.segment() != self.segment || !self.buses.contains(&address.bus()) {
            return None;
        }
        let slot = &self.mapped[usize::from(address.bus())];
        let base = NonNull::new(slot.load(Ordering::Acquire)).unwrap_or_else(|| {
            let phys = self.base + u64::from(address.bus()) * BUS_SIZE as u64;
            let base = self.dma.map_mmio(phys, BUS_SIZE);
            slot.store(base.as_ptr(), Ordering::Release);
            base
        });
        // SAFETY: `map_mmio` mapped that many bytes, for good; only this type reaches them.
        Some(unsafe { Mmio::new(base, BUS_SIZE) })
    }

    fn offset(address: PciAddress, offset: u16) -> usize {
        let function = usize::from(address.device()) << 3 | usize::from(address.function());
        function << 12 | usize::from(offset & 0xffc)
    }
}

impl ConfigRegionAccess for Ecam {
    unsafe fn read(&self, address: PciAddress, offset: u16) -> u32 {
        self.bus(address)
            .map_or(u32::MAX, |bus| bus.read(Ecam::offset(address, offset)))
    }

    unsafe fn write(&self, address: PciAddress, offset: u16, value: u32) {
        if let Some(bus) = self.bus(address) {
            bus.write(Ecam::offset(address, offset), value);
        }
    }
}
