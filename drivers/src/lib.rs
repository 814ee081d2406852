//! Devices: what the kernel drives, each behind a small interface.
//!
//! A driver here owns one device's registers, rings and interrupt, and turns them into futures and
//! completions. It knows neither the virtual memory system nor the kernel: what it needs from the
//! machine comes through two traits, [`Dma`] (memory that a device reads and writes) and
//! [`Interrupts`] (vectors and their routing), and everything that waits does so on the `executor`.
//!
//! | module | device |
//! |---|---|
//! | [`block`] | what a disk is: requests, completions, errors, counters |
//! | [`virtio`] | virtio 1.x over PCI, and its block device |
//! | [`ramdisk`] | a disk in memory that completes by timer |
//! | [`pci`] | functions, BARs, capabilities, MSI-X, MSI and INTx |
//! | [`serial`] | the 16550 on COM1 |
//! | [`ps2`] | the i8042 and its keyboard |
//! | [`vga`] | the 80x25 text screen |
//! | [`apic`] | the interrupt controllers and the local timer |
//! | [`clock`] | rates of counters, the time of day |
//! | [`io`] | access to registers, by port or by memory |
//!
//! # How it synchronises
//!
//! Interrupt handlers acknowledge, push to a bounded queue where the device has bytes to give, wake,
//! and return. They take no lock, allocate nothing and drop nothing. Tasks share a device through
//! short `SpinLock` sections that no handler enters; no lock is held while a completion is called.
//! A device's values are checked before they are used: a broken device gives errors, never a panic
//! or an endless loop.
//!
//! Register logic is tested on the host against model devices; only port access itself needs the
//! machine.

#![no_std]
#![forbid(unstable_features)]

extern crate alloc;
#[cfg(test)]
extern crate std;

use core::ptr::NonNull;

pub mod apic;
pub mod block;
pub mod clock;
pub mod io;
pub mod pci;
pub mod vga;

/// Memory that devices and the kernel share.
pub trait Dma: Send + Sync {
    /// The physical address of kernel memory that `pointer` points to.
    fn virt_to_phys(&self, pointer: *const u8) -> u64;

    /// Where the kernel reaches physical address `phys`, which must be RAM.
    fn phys_to_virt(&self, phys: u64) -> *mut u8;

    /// Takes `pages` pages of 4096 bytes, physically contiguous and zeroed, for good. Gives the physical address
    /// and the kernel's pointer, or `None` when there is no such run of memory. Called while drivers start.
    fn alloc_pages(&self, pages: usize) -> Option<(u64, NonNull<u8>)>;

    /// Maps `len` bytes of device registers at `phys`, uncached, for good. Called while drivers start.
    fn map_mmio(&self, phys: u64, len: usize) -> NonNull<u8>;
}

/// What a device writes to where when it signals an interrupt by message (MSI, MSI-X).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Physical address of the write.
    pub address: u64,
    /// Value of the write.
    pub data: u32,
}

/// An interrupt pin of a PCI function (INTA to INTD).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntxPin {
    /// The function whose pin it is.
    pub address: pci::PciAddress,
    /// 1 for INTA up to 4 for INTD.
    pub pin: u8,
    /// What firmware left in the function's interrupt line register.
    pub line: u8,
}

/// Interrupt vectors and their routing.
///
/// Handlers run with interrupts off on the CPU that got the interrupt, and follow the rules in the crate's docs.
/// The end of interrupt is the implementor's, after the handler.
pub trait Interrupts: Send + Sync {
    /// Takes an unused vector and has it call `handler`, or gives `None` when all are taken.
    fn allocate(&self, handler: &'static (dyn Fn() + Sync)) -> Option<u8>;

    /// The message by which a device raises `vector`.
    fn message(&self, vector: u8) -> Message;

    /// Sends ISA interrupt `irq` (1 keyboard, 4 COM1) to `vector`, edge triggered unless firmware says otherwise,
    /// and unmasks it. False when there is no route.
    fn route_isa(&self, irq: u8, vector: u8) -> bool;

    /// Sends the level-triggered `pin` to `vector` and unmasks it. Several functions may share one input: all
    /// their handlers are then called. False when there is no route.
    fn route_intx(&self, pin: IntxPin, vector: u8) -> bool;
}
