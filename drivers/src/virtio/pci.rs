//! The modern PCI transport (virtio 1.2, section 4.1).
//!
//! Four structures (common, notify, interrupt status, device) lie in the function's BARs, where vendor capabilities
//! say. Interrupts are MSI-X messages, entry 0 for the configuration and entry 1 for the queue; the pin is the fallback.

use super::{
    Doorbell, Handlers, ISR_CONFIG, ISR_QUEUE, QueueAddresses, Signalling, Status, Transport,
    TransportError, leak,
};
use crate::io::Mmio;
use crate::pci::{Capability, Function, Intx, Msix};
use crate::{Dma, Interrupts};

const CAP_COMMON: u8 = 1;
const CAP_NOTIFY: u8 = 2;
const CAP_ISR: u8 = 3;
const CAP_DEVICE: u8 = 4;

/// No MSI-X entry.
const NO_VECTOR: u16 = 0xffff;
const CONFIG_ENTRY: u16 = 0;
const QUEUE_ENTRY: u16 = 1;

/// Offsets in the common structure.
mod common {
    pub const DEVICE_FEATURE_SELECT: usize = 0;
    pub const DEVICE_FEATURE: usize = 4;
    pub const DRIVER_FEATURE_SELECT: usize = 8;
    pub const DRIVER_FEATURE: usize = 12;
    pub const CONFIG_MSIX_VECTOR: usize = 16;
    pub const NUM_QUEUES: usize = 18;
    pub const DEVICE_STATUS: usize = 20;
    pub const CONFIG_GENERATION: usize = 21;
    pub const QUEUE_SELECT: usize = 22;
    pub const QUEUE_SIZE: usize = 24;
    pub const QUEUE_MSIX_VECTOR: usize = 26;
    pub const QUEUE_ENABLE: usize = 28;
    pub const QUEUE_NOTIFY_OFF: usize = 30;
    pub const QUEUE_DESC: usize = 32;
    pub const QUEUE_DRIVER: usize = 40;
    pub const QUEUE_DEVICE: usize = 48;
    pub const SIZE: usize = 56;
}

/// A virtio device on the PCI bus.
#[derive(Debug)]
pub struct PciTransport {
    function: Function,
    common: Mmio,
    notify: Mmio,
    notify_multiplier: u32,
    isr: Mmio,
    device: Option<Mmio>,
    msix: Option<Msix>,
}

impl PciTransport {
    /// Maps the device's structures and lets it answer and master the bus. `function` must be a virtio device and
    /// nobody else's.
    ///
    /// # Errors
    /// When a structure is missing or lies outside its BAR.
    pub fn new(function: &Function, dma: &dyn Dma) -> Result<PciTransport, TransportError> {
        let structure = |kind: u8, name: &'static str, at_least: usize| {
            let capability = find(function, kind).ok_or(TransportError::MissingStructure(name))?;
            let window = map(function, dma, capability)?;
            if window.len() < at_least {
                Err(TransportError::MissingStructure(name))
            } else {
                Ok(window)
            }
        };
        let common = structure(CAP_COMMON, "common configuration", common::SIZE)?;
        let notify = structure(CAP_NOTIFY, "notification", 2)?;
        let isr = structure(CAP_ISR, "interrupt status", 1)?;
        let device = match find(function, CAP_DEVICE) {
            Some(capability) => Some(map(function, dma, capability)?),
            None => None,
        };
        let notify_multiplier = find(function, CAP_NOTIFY)
            .map_or(0, |cap| function.read32(cap.offset.saturating_add(16)));
        let msix = function.msix(dma)?;
        function.enable();
        Ok(PciTransport {
            function: function.clone(),
            common,
            notify,
            notify_multiplier,
            isr,
            device,
            msix,
        })
    }

    /// Messages for the configuration and the queue; false when the device or the machine has none to give.
    fn wire_msix(&self, interrupts: &dyn Interrupts, handlers: &'static dyn Handlers) -> bool {
        let Some(msix) = self
            .msix
            .as_ref()
            .filter(|msix| msix.entries() > QUEUE_ENTRY)
        else {
            return false;
        };
        let Some(queue) = interrupts.allocate(leak(move || handlers.queue())) else {
            return false;
        };
        let Some(config) = interrupts.allocate(leak(move || handlers.config())) else {
            return false;
        };
        msix.enable();
        msix.set(QUEUE_ENTRY, interrupts.message(queue))
            && msix.set(CONFIG_ENTRY, interrupts.message(config))
    }

    fn wire_intx(&self, interrupts: &dyn Interrupts, handlers: &'static dyn Handlers) -> bool {
        let isr = self.isr;
        let acknowledge = leak(move || {
            // Reading acknowledges. The pin may be shared: all zeroes means that another device asserts it.
            let status: u8 = isr.read(0);
            if status & ISR_CONFIG != 0 {
                handlers.config();
            }
            if status & ISR_QUEUE != 0 {
                handlers.queue();
            }
        });
        let Some(pin) = self.function.intx_pin() else {
            return false;
        };
        let Some(vector) = interrupts.allocate(acknowledge) else {
            return false;
        };
        self.function.set_intx(Intx::Enabled);
        interrupts.route_intx(pin, vector)
    }

    fn write64(&self, offset: usize, value: u64) {
        self.common.write(offset, value as u32);
        self.common.write(offset + 4, (value >> 32) as u32);
    }

    fn uses_msix(&self) -> bool {
        self.common.read::<u16>(common::CONFIG_MSIX_VECTOR) == CONFIG_ENTRY
    }
}

impl Transport for PciTransport {
    fn status(&self) -> Status {
        Status::from_bits_retain(self.common.read(common::DEVICE_STATUS))
    }

    fn set_status(&self, status: Status) {
        self.common.write(common::DEVICE_STATUS, status.bits());
    }

    fn device_features(&self) -> u64 {
        let half = |select: u32| {
            self.common.write(common::DEVICE_FEATURE_SELECT, select);
            u64::from(self.common.read::<u32>(common::DEVICE_FEATURE))
        };
        half(0) | half(1) << 32
    }

    fn set_driver_features(&self, features: u64) {
        for select in 0..2u32 {
            self.common.write(common::DRIVER_FEATURE_SELECT, select);
            self.common
                .write(common::DRIVER_FEATURE, (features >> (32 * select)) as u32);
        }
    }

    fn config_generation(&self) -> u8 {
        self.common.read(common::CONFIG_GENERATION)
    }

    fn config32(&self, offset: usize) -> u32 {
        self.device
            .filter(|window| offset + 4 <= window.len())
            .map_or(0, |window| window.read(offset))
    }

    fn config8(&self, offset: usize) -> u8 {
        self.device
            .filter(|window| offset < window.len())
            .map_or(0, |window| window.read(offset))
    }

    fn max_queue_size(&self, queue: u16) -> u16 {
        if queue >= self.common.read::<u16>(common::NUM_QUEUES) {
            return 0;
        }
        self.common.write(common::QUEUE_SELECT, queue);
        self.common.read(common::QUEUE_SIZE)
    }

    fn wire(
        &self,
        interrupts: &dyn Interrupts,
        handlers: &'static dyn Handlers,
    ) -> Result<Signalling, TransportError> {
        if self.wire_msix(interrupts, handlers) {
            self.common.write(common::CONFIG_MSIX_VECTOR, CONFIG_ENTRY);
            // The device answers with "no vector" when it could not take it.
            return if self.uses_msix() {
                Ok(Signalling::MsiX)
            } else {
                Err(TransportError::NoInterrupt)
            };
        }
        if self.wire_intx(interrupts, handlers) {
            Ok(Signalling::Intx)
        } else {
            Err(TransportError::NoInterrupt)
        }
    }

    fn enable_queue(
        &self,
        queue: u16,
        size: u16,
        addresses: QueueAddresses,
    ) -> Result<Doorbell, TransportError> {
        self.common.write(common::QUEUE_SELECT, queue);
        self.common.write(common::QUEUE_SIZE, size);
        let entry = if self.uses_msix() {
            QUEUE_ENTRY
        } else {
            NO_VECTOR
        };
        self.common.write(common::QUEUE_MSIX_VECTOR, entry);
        if self.common.read::<u16>(common::QUEUE_MSIX_VECTOR) != entry {
            return Err(TransportError::Queue);
        }
        let number = u64::from(self.common.read::<u16>(common::QUEUE_NOTIFY_OFF));
        let offset = number * u64::from(self.notify_multiplier);
        if !offset.is_multiple_of(2) || offset + 2 > self.notify.len() as u64 {
            return Err(TransportError::Queue);
        }
        self.write64(common::QUEUE_DESC, addresses.descriptors);
        self.write64(common::QUEUE_DRIVER, addresses.available);
        self.write64(common::QUEUE_DEVICE, addresses.used);
        self.common.write::<u16>(common::QUEUE_ENABLE, 1);
        Ok(Doorbell {
            queue,
            offset: offset as usize,
        })
    }

    fn notify(&self, doorbell: Doorbell) {
        self.notify.write(doorbell.offset, doorbell.queue);
    }

    fn disconnect(&self) {
        self.function.disable_bus_master();
    }
}

/// The first vendor capability of that kind, read whole: which BAR, where in it, how long.
fn find(function: &Function, kind: u8) -> Option<Capability> {
    function
        .capabilities()
        .into_iter()
        .find(|cap| cap.id == Capability::VENDOR && function.read8(cap.offset | 3) == kind)
}

fn map(function: &Function, dma: &dyn Dma, capability: Capability) -> Result<Mmio, TransportError> {
    let bar = function.read8(capability.offset.saturating_add(4));
    let offset = function.read32(capability.offset.saturating_add(8));
    let len = function.read32(capability.offset.saturating_add(12));
    Ok(function.map_bar(dma, bar, u64::from(offset), u64::from(len))?)
}
