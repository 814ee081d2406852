//! Linux's system calls, raw: numbers in, a number or an error out.
//!
//! All are `inline(always)`: a sample is to hold the call and as little else as can be.

pub mod administration;
mod files;
mod memory;
mod process;
mod wakes;

use core::arch::asm;

use linux_raw_sys::general as linux;
use linux_raw_sys::system;

pub use files::*;
pub use memory::*;
pub use process::*;
pub use wakes::*;

/// What a system call that failed answered, as a positive number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub u32);

/// What a system call answers.
pub type Answer = Result<usize, Errno>;

/// Any system call.
///
/// # Safety
/// The call does nothing to memory that Rust does not know of: what it is told to write is ours to write.
#[inline(always)]
pub unsafe fn call(number: u32, arguments: [usize; 6]) -> Answer {
    let [a, b, c, d, e, f] = arguments;
    let answer: isize;
    // SAFETY: the caller's promise; the kernel changes rax, rcx, r11 and the memory it was told to.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => answer,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    match answer {
        -4095..0 => Err(Errno(answer.unsigned_abs() as u32)),
        _ => Ok(answer as usize),
    }
}

/// Names and version of the kernel.
///
/// # Errors
/// The kernel's.
pub fn uname() -> Result<system::new_utsname, Errno> {
    let mut names = system::new_utsname {
        sysname: [0; 65],
        nodename: [0; 65],
        release: [0; 65],
        version: [0; 65],
        machine: [0; 65],
        domainname: [0; 65],
    };
    // SAFETY: the kernel writes the structure.
    unsafe { call(linux::__NR_uname, [&raw mut names as usize, 0, 0, 0, 0, 0]) }?;
    Ok(names)
}
