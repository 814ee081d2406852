//! The machine as drivers see it: memory that devices may read and write, and interrupts.
//!
//! Memory for devices is taken from what boot has not given to uvm yet, so drivers start before uvm does. The lock around it
//! and the one around the I/O APICs are taken at boot only.

use core::ptr::{self, NonNull};

use arrayvec::ArrayVec;
use conquer_once::spin::OnceCell;
use drivers::apic::{self, IoApic, LocalApic, Trigger};
use drivers::io::{Mmio, Ports};
use drivers::{Dma, Interrupts, IntxPin, Message};
use executor::sync::SpinLock;

use super::acpi::{Firmware, IsaOverride};
use super::{interrupts, paging};
use crate::memmap::MemoryMap;

const PAGE: u64 = 4096;
/// A write there raises the vector that is written, on the CPU in bits 12 to 19 of the address.
const MESSAGE_ADDRESS: u64 = 0xfee0_0000;
/// q35 wires the pins of PCI slots on bus 0 to these global interrupts in turn.
const Q35_FIRST_INTX: u32 = 20;
/// Slots from here on are wired by registers of the chipset's own.
const Q35_FIRST_OWN_SLOT: u8 = 25;

/// The machine. There is one: [`hardware`].
pub struct Hardware {
    /// What is free until uvm takes it.
    memory: SpinLock<Option<MemoryMap>>,
    io_apics: SpinLock<ArrayVec<IoApic, 8>>,
    overrides: ArrayVec<IsaOverride, 16>,
    /// Global interrupts in use, each with the first vector that it was routed to.
    routes: SpinLock<ArrayVec<(u32, u8), 32>>,
    boot_cpu: u8,
}

static HARDWARE: OnceCell<Hardware> = OnceCell::uninit();

/// The machine. Panics before [`init`].
pub fn hardware() -> &'static Hardware {
    HARDWARE
        .get()
        .expect("the interrupt controllers have not been set up")
}

/// Sets up the interrupt controllers: the old ones silent, every line of the I/O APICs masked, the local APIC on. Keeps
/// `memory` for drivers.
///
/// # Safety
/// To be called once, at boot, with interrupts off; `firmware` tells the truth.
pub unsafe fn init(firmware: &Firmware, memory: MemoryMap) -> &'static Hardware {
    if firmware.has_8259 {
        // SAFETY: the 8259s' ports; no one else in this kernel uses them.
        let (first, second) = unsafe { (Ports::new(0x20), Ports::new(0xa0)) };
        apic::silence_8259(&first, &second, interrupts::LINE_BASE);
    }
    let window = |address, size| {
        let base = paging::map_mmio(address, size);
        // SAFETY: mapped for good just now, for this driver alone.
        unsafe { Mmio::new(base, size) }
    };
    let local = LocalApic::new(window(firmware.local_apic, apic::LAPIC_SIZE));
    local.enable(interrupts::SPURIOUS);
    let boot_cpu = local.id();
    interrupts::set_local_apic(local);
    let io_apics = firmware
        .io_apics
        .iter()
        .map(|info| IoApic::new(window(info.address, apic::IOAPIC_SIZE), info.first))
        .collect();
    log::info!(
        "interrupts: {} CPU(s), {} I/O APIC(s), boot CPU {boot_cpu}",
        firmware.cpus.len(),
        firmware.io_apics.len(),
    );
    HARDWARE.get_or_init(|| Hardware {
        memory: SpinLock::new(Some(memory)),
        io_apics: SpinLock::new(io_apics),
        overrides: firmware.overrides.clone(),
        routes: SpinLock::new(ArrayVec::new()),
        boot_cpu,
    })
}

impl Hardware {
    /// Takes `size` bytes of free memory, aligned to a page, for good: at boot only. Gives the physical address.
    pub fn take_memory(&self, size: u64) -> Option<u64> {
        self.memory.lock().as_mut()?.take(size, PAGE, u64::MAX)
    }

    /// All memory that is still free, for uvm. There is none for devices afterwards. Panics when called twice.
    pub fn release_memory(&self) -> MemoryMap {
        self.memory
            .lock()
            .take()
            .expect("memory was released before")
    }

    /// An interrupt that is routed already keeps its vector, whose handlers are joined by that of `vector`.
    fn route(&self, interrupt: u32, vector: u8, trigger: Trigger) -> bool {
        let mut routes = self.routes.lock();
        if let Some(&(_, first)) = routes.iter().find(|route| route.0 == interrupt) {
            interrupts::join(first, vector);
            return true;
        }
        if routes.try_push((interrupt, vector)).is_err() {
            return false;
        }
        let mut io_apics = self.io_apics.lock();
        io_apics
            .iter_mut()
            .any(|apic| apic.route(interrupt, vector, self.boot_cpu, trigger))
    }
}

impl Dma for Hardware {
    fn virt_to_phys(&self, pointer: *const u8) -> u64 {
        paging::virt_to_phys(pointer)
    }

    fn phys_to_virt(&self, phys: u64) -> *mut u8 {
        paging::phys_to_virt(phys)
    }

    fn alloc_pages(&self, pages: usize) -> Option<(u64, NonNull<u8>)> {
        let size = pages as u64 * PAGE;
        let phys = self.take_memory(size)?;
        let start = NonNull::new(paging::phys_to_virt(phys))?;
        // SAFETY: memory that nobody else has, in the direct map.
        unsafe { ptr::write_bytes(start.as_ptr(), 0, size as usize) };
        Some((phys, start))
    }

    fn map_mmio(&self, phys: u64, len: usize) -> NonNull<u8> {
        paging::map_mmio(phys, len)
    }
}

impl Interrupts for Hardware {
    fn allocate(&self, handler: &'static (dyn Fn() + Sync)) -> Option<u8> {
        interrupts::allocate(handler)
    }

    fn message(&self, vector: u8) -> Message {
        Message {
            address: MESSAGE_ADDRESS | u64::from(self.boot_cpu) << 12,
            data: u32::from(vector),
        }
    }

    fn route_isa(&self, irq: u8, vector: u8) -> bool {
        let wiring = self.overrides.iter().find(|isa| isa.irq == irq);
        let (interrupt, trigger) = wiring.map_or((u32::from(irq), Trigger::ISA), |isa| {
            (isa.interrupt, isa.trigger)
        });
        self.route(interrupt, vector, trigger)
    }

    /// Knows q35's wiring of bus 0, which the firmware tells only through AML. Functions elsewhere have to use messages.
    fn route_intx(&self, pin: IntxPin, vector: u8) -> bool {
        let (address, pin) = (pin.address, pin.pin);
        if address.bus() != 0 || address.device() >= Q35_FIRST_OWN_SLOT || !(1..=4).contains(&pin) {
            return false;
        }
        let interrupt = Q35_FIRST_INTX + u32::from(address.device() + pin - 1) % 4;
        self.route(interrupt, vector, Trigger::PCI)
    }
}
