//! What a compiler expects of the C library, in a program that has none.

use core::arch::asm;
use core::panic::PanicInfo;

use crate::sys;

#[panic_handler]
fn panicked(_: &PanicInfo) -> ! {
    sys::print("{\"error\":\"the program panicked\"}\n");
    sys::exit_group(101)
}

/// `core` was compiled with unwinding, and names its helper; nothing here unwinds.
// SAFETY: nobody else defines the name.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// As C has it.
///
/// # Safety
/// Both areas are valid for `count` bytes and do not overlap.
// SAFETY: nobody else defines the name.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: the caller's promise; the direction flag is clear between instructions of Rust.
    unsafe {
        asm!("rep movsb", inout("rcx") count => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags));
    }
    to
}

/// As C has it.
///
/// # Safety
/// Both areas are valid for `count` bytes.
// SAFETY: nobody else defines the name.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= count {
        // SAFETY: the caller's promise, and no byte is written before it is read.
        return unsafe { memcpy(to, from, count) };
    }
    // SAFETY: the caller's promise; from the end down, and the direction flag is put back.
    unsafe {
        asm!("std", "rep movsb", "cld", inout("rcx") count => _,
            inout("rdi") to.wrapping_add(count).wrapping_sub(1) => _,
            inout("rsi") from.wrapping_add(count).wrapping_sub(1) => _,
            options(nostack));
    }
    to
}

/// As C has it.
///
/// # Safety
/// The area is valid for `count` bytes.
// SAFETY: nobody else defines the name.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, count: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("rep stosb", inout("rcx") count => _, inout("rdi") to => _, in("al") value as u8,
            options(nostack, preserves_flags));
    }
    to
}

/// As C has it.
///
/// # Safety
/// Both areas are valid for `count` bytes.
// SAFETY: nobody else defines the name.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    for at in 0..count {
        // SAFETY: the caller's promise. Volatile, or the loop would become a call of this very function.
        let (l, r) = unsafe { (left.add(at).read_volatile(), right.add(at).read_volatile()) };
        if l != r {
            return i32::from(l) - i32::from(r);
        }
    }
    0
}

/// As C has it.
///
/// # Safety
/// Both areas are valid for `count` bytes.
// SAFETY: nobody else defines the name.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { memcmp(left, right, count) }
}

/// As C has it.
///
/// # Safety
/// The string ends in a zero.
// SAFETY: nobody else defines the name.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: the caller's promise. Volatile, as above.
    while unsafe { text.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}
