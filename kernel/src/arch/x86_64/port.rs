//! The few ports that the kernel itself uses: the log channel, the way out, and the serial line as far
//! as a dying kernel needs it.

use x86_64::instructions::port::Port;
use x86_64::instructions::{hlt, interrupts};

/// QEMU's debug console.
const DEBUGCON: u16 = 0xe9;
/// QEMU's `isa-debug-exit`: QEMU ends with status `value << 1 | 1`.
const DEBUG_EXIT: u16 = 0xf4;
/// PM1a control of q35: sleep state and sleep enable.
const ACPI_PM1A: u16 = 0x604;
const RESET_CONTROL: u16 = 0xcf9;
const COM1: u16 = 0x3f8;
const LINE_STATUS: u16 = COM1 + 5;
const TRANSMITTER_EMPTY: u8 = 1 << 5;

/// What the kernel tells the launcher by its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// All went well.
    Success = 0x10,
    /// The last command failed.
    CommandFailed = 0x11,
    /// The kernel panicked.
    Panic = 0x12,
    /// It wants to be booted again.
    Reboot = 0x13,
}

/// Writes to the log channel.
pub fn debugcon_write(bytes: &[u8]) {
    // SAFETY: writing to this port has no effect on memory, and `rep outsb` reads only the slice.
    unsafe {
        core::arch::asm!(
            "rep outsb",
            in("dx") DEBUGCON,
            inout("rcx") bytes.len() => _,
            inout("rsi") bytes.as_ptr() => _,
            options(nostack, readonly, preserves_flags),
        );
    }
}

/// Writes to the console by polling, whoever else may be using it: for a kernel that is about to die.
pub fn serial_write(bytes: &[u8]) {
    let mut data = Port::<u8>::new(COM1);
    let mut status = Port::<u8>::new(LINE_STATUS);
    for &byte in bytes {
        // Bounded: a missing or stuck line must not keep the kernel from dying.
        for _ in 0..100_000 {
            // SAFETY: reading the line status only clears its error bits.
            if unsafe { status.read() } & TRANSMITTER_EMPTY != 0 {
                break;
            }
        }
        // SAFETY: sending a byte does not touch memory.
        unsafe { data.write(byte) };
    }
}

/// Ends the machine and tells the launcher how it went.
pub fn exit(code: ExitCode) -> ! {
    // SAFETY: without the device the write has no effect.
    unsafe { Port::<u8>::new(DEBUG_EXIT).write(code as u8) };
    // SAFETY: asks QEMU's chipset for power-off; nothing is running that could be harmed.
    unsafe { Port::<u16>::new(ACPI_PM1A).write(1 << 13) };
    halt()
}

/// Restarts the machine: through the launcher, or where there is none by a reset.
pub fn reboot() -> ! {
    // SAFETY: without the device the write has no effect.
    unsafe { Port::<u8>::new(DEBUG_EXIT).write(ExitCode::Reboot as u8) };
    // SAFETY: a full reset of the platform; nothing of this kernel survives it.
    unsafe { Port::<u8>::new(RESET_CONTROL).write(0x06) };
    halt()
}

fn halt() -> ! {
    loop {
        interrupts::disable();
        hlt();
    }
}
