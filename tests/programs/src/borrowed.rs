//! vfork: a child that runs in its parent's memory, on its parent's stack, until it ends or executes another program.
//!
//! A function that returns twice is not to be had in Rust. So the child's whole life is in the same piece of assembly as the call that makes
//! it, in registers alone.

use std::arch::asm;
use std::ffi::{CStr, c_char, c_int};

/// A child that writes `value` to `mark`, in its parent's memory, and exits with it. Returns its number, or -1 with `errno` set.
pub fn vfork_and_exit(mark: &mut c_int, value: u8) -> c_int {
    let result: i64;
    // SAFETY: the child stores a word into what is borrowed to us, and ends. It uses no stack, and changes no register of the parent's,
    // which waits meanwhile.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov dword ptr [rsi], edi",
            "mov eax, {exit_group}",
            "syscall",
            "2:",
            exit_group = const libc::SYS_exit_group,
            inlateout("rax") libc::SYS_vfork => result,
            in("rdi") u64::from(value),
            in("rsi") mark,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    answer(result)
}

/// A child that becomes `program`, or exits with 127. Returns its number, or -1 with `errno` set.
///
/// # Panics
/// If arguments or environment do not end in null.
pub fn vfork_and_exec(
    program: &CStr,
    arguments: &[*const c_char],
    environment: &[*const c_char],
) -> c_int {
    for strings in [arguments, environment] {
        assert!(strings.last().is_some_and(|last| last.is_null()));
    }
    let result: i64;
    // SAFETY: as above; the kernel reads strings and vectors, which end as they should.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov eax, {execve}",
            "syscall",
            "mov edi, 127",
            "mov eax, {exit_group}",
            "syscall",
            "2:",
            execve = const libc::SYS_execve,
            exit_group = const libc::SYS_exit_group,
            inlateout("rax") libc::SYS_vfork => result,
            in("rdi") program.as_ptr(),
            in("rsi") arguments.as_ptr(),
            in("rdx") environment.as_ptr(),
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    answer(result)
}

/// As C's wrappers do it.
fn answer(result: i64) -> c_int {
    match c_int::try_from(result) {
        Ok(error) if error < 0 => {
            // SAFETY: this thread's own.
            unsafe { *libc::__errno_location() = -error };
            -1
        }
        Ok(child) => child,
        Err(_) => -1,
    }
}
