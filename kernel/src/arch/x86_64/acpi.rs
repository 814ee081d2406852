//! What the firmware's tables say about interrupt controllers and PCI. Read once at boot, through the `acpi`
//! crate; no AML is run.

use core::ops::RangeInclusive;
use core::ptr::NonNull;

use ::acpi::madt::{Madt, MadtEntry};
use ::acpi::mcfg::Mcfg;
use ::acpi::{AcpiError, AcpiHandler, AcpiTables, PhysicalMapping};
use arrayvec::ArrayVec;
use drivers::apic::Trigger;

use super::paging;

const MAX_IO_APICS: usize = 8;
const MAX_OVERRIDES: usize = 16;
const MAX_CPUS: usize = 64;
const PCAT_COMPATIBLE: u32 = 1;
const LOCAL_APIC_USABLE: u32 = 1;

/// An I/O APIC that the tables name.
#[derive(Clone, Copy, Debug)]
pub struct IoApicInfo {
    /// Physical address of its registers.
    pub address: u64,
    /// The global interrupt that is its first input.
    pub first: u32,
}

/// An ISA interrupt that is not wired to the global interrupt of the same number, or not ISA's way.
#[derive(Clone, Copy, Debug)]
pub struct IsaOverride {
    /// The ISA interrupt.
    pub irq: u8,
    /// Where it arrives.
    pub interrupt: u32,
    /// When it counts as raised.
    pub trigger: Trigger,
}

/// A memory window onto PCI configuration space.
#[derive(Clone, Debug)]
pub struct PciWindow {
    /// Segment group.
    pub segment: u16,
    /// Buses in it.
    pub buses: RangeInclusive<u8>,
    /// Physical address of the first bus's.
    pub address: u64,
}

/// What was found.
#[derive(Debug)]
pub struct Firmware {
    /// Physical address of the local APIC's registers.
    pub local_apic: u64,
    /// APIC numbers of the CPUs that may be used.
    pub cpus: ArrayVec<u8, MAX_CPUS>,
    /// The I/O APICs.
    pub io_apics: ArrayVec<IoApicInfo, MAX_IO_APICS>,
    /// Deviations from ISA's wiring.
    pub overrides: ArrayVec<IsaOverride, MAX_OVERRIDES>,
    /// Whether there are 8259s to be silenced.
    pub has_8259: bool,
    /// PCI configuration space; `None` without PCI Express.
    pub pci: Option<PciWindow>,
}

impl Firmware {
    /// Reads the tables that hang off the root pointer at physical address `rsdp`.
    ///
    /// # Safety
    /// `rsdp` comes from the loader; the kernel's own page tables are in use.
    pub unsafe fn read(rsdp: u64) -> Result<Firmware, AcpiError> {
        // SAFETY: as the caller vouches.
        let tables = unsafe { AcpiTables::from_rsdp(DirectMap, rsdp as usize) }?;
        let madt = tables.find_table::<Madt>()?;
        let madt = madt.get();
        let mut found = Firmware {
            local_apic: u64::from(madt.local_apic_address),
            cpus: ArrayVec::new(),
            io_apics: ArrayVec::new(),
            overrides: ArrayVec::new(),
            has_8259: madt.flags & PCAT_COMPATIBLE != 0,
            pci: None,
        };
        for entry in madt.entries() {
            found.note(&entry);
        }
        if let Ok(mcfg) = tables.find_table::<Mcfg>() {
            found.pci = mcfg.entries().first().map(|entry| PciWindow {
                segment: entry.pci_segment_group,
                buses: entry.bus_number_start..=entry.bus_number_end,
                address: entry.base_address,
            });
        }
        Ok(found)
    }

    /// More entries than there is room for are ignored: that hardware stays unused.
    fn note(&mut self, entry: &MadtEntry<'_>) {
        match entry {
            MadtEntry::LocalApic(cpu) if cpu.flags & LOCAL_APIC_USABLE != 0 => {
                let _ = self.cpus.try_push(cpu.apic_id);
            }
            MadtEntry::IoApic(apic) => {
                let _ = self.io_apics.try_push(IoApicInfo {
                    address: u64::from(apic.io_apic_address),
                    first: apic.global_system_interrupt_base,
                });
            }
            MadtEntry::InterruptSourceOverride(isa) => {
                let _ = self.overrides.try_push(IsaOverride {
                    irq: isa.irq,
                    interrupt: isa.global_system_interrupt,
                    trigger: Trigger {
                        active_low: isa.flags & 0b11 == 0b11,
                        level: isa.flags >> 2 & 0b11 == 0b11,
                    },
                });
            }
            MadtEntry::LocalApicAddressOverride(apic) => self.local_apic = apic.local_apic_address,
            _ => {}
        }
    }
}

/// Firmware's tables lie in or beside RAM: mostly the direct map covers them.
#[derive(Clone, Copy)]
struct DirectMap;

impl AcpiHandler for DirectMap {
    unsafe fn map_physical_region<T>(
        &self,
        address: usize,
        size: usize,
    ) -> PhysicalMapping<DirectMap, T> {
        let start: NonNull<u8> = paging::map_firmware(address as u64, size);
        // SAFETY: mapped for good, at least as long as asked.
        unsafe { PhysicalMapping::new(address, start.cast(), size, size, DirectMap) }
    }

    fn unmap_physical_region<T>(_: &PhysicalMapping<DirectMap, T>) {}
}
