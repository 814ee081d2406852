//! The interrupt descriptor table: 256 gates, one stub of 16 bytes each (see [`trap`](super::trap)).

use core::cell::UnsafeCell;

use super::frame::vector;
use super::percpu::{IST_DOUBLE_FAULT, IST_MACHINE_CHECK, IST_NMI, KERNEL_CODE};

const PRESENT: u64 = 1 << 47;
/// A gate that turns interrupts off.
const INTERRUPT_GATE: u64 = 0xe << 40;
const RING_3: u64 = 3 << 45;
const NMI: usize = 2;

/// Distance between the stubs of two vectors, in bytes.
pub(super) const STUB_SIZE: usize = 16;

#[repr(C, align(16))]
struct Table(UnsafeCell<[[u64; 2]; 256]>);

// SAFETY: written once by `init`, before interrupts are on and before there is a second CPU; read by CPUs only.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new([[0; 2]; 256]));

unsafe extern "C" {
    static trap_stubs: u8;
}

/// Fills in the table and loads it.
///
/// # Safety
/// To be called once, with interrupts off and this kernel's GDT loaded.
pub(super) unsafe fn init() {
    // SAFETY: the one call, as the caller vouches.
    let table = unsafe { &mut *TABLE.0.get() };
    for (number, gate) in table.iter_mut().enumerate() {
        let handler = &raw const trap_stubs as u64 + (number * STUB_SIZE) as u64;
        let ist = match number {
            NMI => IST_NMI,
            n if n == vector::DOUBLE_FAULT as usize => IST_DOUBLE_FAULT,
            n if n == vector::MACHINE_CHECK as usize => IST_MACHINE_CHECK,
            _ => 0,
        };
        // `int3` is all that ring 3 may ask for by name.
        let ring = match number {
            n if n == vector::BREAKPOINT as usize => RING_3,
            _ => 0,
        };
        gate[0] = handler & 0xffff
            | u64::from(KERNEL_CODE) << 16
            | u64::from(ist) << 32
            | INTERRUPT_GATE
            | ring
            | PRESENT
            | (handler >> 16 & 0xffff) << 48;
        gate[1] = handler >> 32;
    }
    // SAFETY: the table is complete and static.
    unsafe { load() };
}

/// Loads the table on this CPU.
///
/// # Safety
/// [`init`] has filled it in.
unsafe fn load() {
    let pointer = x86_64::structures::DescriptorTablePointer {
        limit: size_of::<[[u64; 2]; 256]>() as u16 - 1,
        base: x86_64::VirtAddr::from_ptr(TABLE.0.get()),
    };
    // SAFETY: the caller vouches for the table.
    unsafe { x86_64::instructions::tables::lidt(&pointer) };
}
