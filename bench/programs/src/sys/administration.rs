//! What Linux's first process needs to make the machine ready, and to end it.

use core::ffi::CStr;

use linux_raw_sys::general as linux;

use super::{Answer, call};

/// Mounts a file system that is on no device.
///
/// # Errors
/// The kernel's.
pub fn mount(kind: &CStr, place: &CStr) -> Answer {
    let name = kind.as_ptr() as usize;
    // SAFETY: the strings end in zeroes.
    unsafe {
        call(
            linux::__NR_mount,
            [name, place.as_ptr() as usize, name, 0, 0, 0],
        )
    }
}

/// Opens a file, or a disk, for writing. [`DIRECT`] may be among the `flags`.
///
/// # Errors
/// The kernel's.
pub fn open_to_write(path: &CStr, flags: u32) -> Answer {
    let flags = (linux::O_WRONLY | flags) as usize;
    // SAFETY: the string ends in a zero.
    unsafe {
        call(
            linux::__NR_open,
            [path.as_ptr() as usize, flags, 0, 0, 0, 0],
        )
    }
}

/// To the device at once, from memory and places that are whole pages.
pub const DIRECT: u32 = linux::O_DIRECT;

/// Links the open file of a module into the kernel.
///
/// # Errors
/// The kernel's.
pub fn load_module(file: usize, parameters: &CStr) -> Answer {
    let parameters = parameters.as_ptr() as usize;
    // SAFETY: the string ends in a zero.
    unsafe { call(linux::__NR_finit_module, [file, parameters, 0, 0, 0, 0]) }
}

/// Has the kernel use a swap area.
///
/// # Errors
/// The kernel's.
pub fn swap_on(path: &CStr) -> Answer {
    // SAFETY: the string ends in a zero.
    unsafe { call(linux::__NR_swapon, [path.as_ptr() as usize, 0, 0, 0, 0, 0]) }
}

/// Turns the machine off.
///
/// # Errors
/// The kernel's.
pub fn power_off() -> Answer {
    /// `LINUX_REBOOT_MAGIC1`, `LINUX_REBOOT_MAGIC2`, `LINUX_REBOOT_CMD_POWER_OFF`.
    const WORDS: [usize; 3] = [0xfee1_dead, 672_274_793, 0x4321_fedc];
    let [a, b, c] = WORDS;
    // SAFETY: nothing is left to be harmed.
    unsafe { call(linux::__NR_reboot, [a, b, c, 0, 0, 0]) }
}
