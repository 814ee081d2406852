//! virtio 1.x: devices of the hypervisor, over PCI.
//!
//! [`Transport`] is how a driver reaches its device: status, features, queues, doorbells, the device's own
//! configuration. [`PciTransport`] is the real one (virtio 1.2, section 4.1, "modern" only); tests have a model.
//! `queue` is the split virtqueue, [`VirtioBlk`] the block device.
//!
//! Synchronisation: a transport's registers are written by the task that brings the device up, and afterwards only
//! for doorbells, interrupt status and a final reset, each of which is one register.

pub mod blk;
mod fence;
mod memory;
#[cfg(test)]
mod model;
mod pci;
mod queue;

pub use blk::VirtioBlk;
pub use pci::PciTransport;
pub use queue::QueueAddresses;

use alloc::boxed::Box;
use core::fmt;

use crate::Interrupts;
use crate::pci::PciError;

bitflags::bitflags! {
    /// The device status register.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Status: u8 {
        /// The driver has seen the device.
        const ACKNOWLEDGE = 1;
        /// The driver knows how to drive it.
        const DRIVER = 2;
        /// The driver is set up; the device may work.
        const DRIVER_OK = 4;
        /// Features are agreed.
        const FEATURES_OK = 8;
        /// The device met an error that it cannot recover from.
        const NEEDS_RESET = 64;
        /// The driver has given up.
        const FAILED = 128;
    }
}

/// Feature bits that are not a device type's own.
pub mod feature {
    /// Descriptors may point to tables of descriptors.
    pub const INDIRECT_DESC: u64 = 1 << 28;
    /// Doorbells and interrupts by index.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// The device follows virtio 1.0 or later.
    pub const VERSION_1: u64 = 1 << 32;
}

/// Interrupt status: a queue has something used.
pub const ISR_QUEUE: u8 = 1;
/// Interrupt status: the configuration changed, or the device needs a reset.
pub const ISR_CONFIG: u8 = 2;

/// What a transport calls from its interrupt handlers.
pub trait Handlers: Send + Sync {
    /// A queue has something used.
    fn queue(&self);
    /// The configuration or the status changed.
    fn config(&self);
}

/// How the device signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signalling {
    /// By messages, one for the queue, one for the configuration.
    MsiX,
    /// By the interrupt pin; the handler reads the interrupt status to acknowledge.
    Intx,
}

/// A driver's way to its device. Offsets into the configuration are in bytes.
pub trait Transport: Send + Sync {
    /// The device status.
    fn status(&self) -> Status;
    /// Sets the device status. Empty resets the device.
    fn set_status(&self, status: Status);
    /// The features that the device offers.
    fn device_features(&self) -> u64;
    /// Tells the device which of them the driver takes.
    fn set_driver_features(&self, features: u64);
    /// Changes whenever the configuration does.
    fn config_generation(&self) -> u8;
    /// Reads four bytes of the device's configuration; all zeroes beyond its end.
    fn config32(&self, offset: usize) -> u32;
    /// Descriptors in a queue at most; 0 when there is no such queue.
    fn max_queue_size(&self, queue: u16) -> u16;
    /// Wires the device's interrupts to `handlers`, for good. Comes before [`Transport::enable_queue`].
    fn wire(
        &self,
        interrupts: &dyn Interrupts,
        handlers: &'static dyn Handlers,
    ) -> Result<Signalling, TransportError>;
    /// Gives the device a queue of `size` descriptors.
    fn enable_queue(
        &self,
        queue: u16,
        size: u16,
        addresses: QueueAddresses,
    ) -> Result<Doorbell, TransportError>;
    /// Tells the device that a queue has something for it.
    fn notify(&self, doorbell: Doorbell);
    /// Makes sure that the device no longer reads or writes memory, even if it ignores a reset.
    fn disconnect(&self);
}

/// What a queue's notifications go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doorbell {
    /// The queue.
    pub queue: u16,
    /// Where the transport writes.
    pub offset: usize,
}

/// Why a device cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportError {
    /// One of the structures is missing from the function's capabilities.
    MissingStructure(&'static str),
    /// A structure lies where it cannot.
    Pci(PciError),
    /// There is neither a vector for messages nor a route for the pin.
    NoInterrupt,
    /// The device refuses the vector, or has no doorbell for the queue.
    Queue,
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransportError::MissingStructure(name) => write!(f, "it has no {name} structure"),
            TransportError::Pci(error) => write!(f, "its registers cannot be reached: {error}"),
            TransportError::NoInterrupt => f.write_str("there is no interrupt for it"),
            TransportError::Queue => f.write_str("it refuses its queue"),
        }
    }
}

impl core::error::Error for TransportError {}

impl From<PciError> for TransportError {
    fn from(error: PciError) -> TransportError {
        TransportError::Pci(error)
    }
}

/// Keeps a handler for good, as [`Interrupts::allocate`] wants it.
fn leak(handler: impl Fn() + Sync + 'static) -> &'static (dyn Fn() + Sync) {
    Box::leak(Box::new(handler))
}
