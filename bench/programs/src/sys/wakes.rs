//! Sleeping and waking: time, signals, futexes.

use linux_raw_sys::general as linux;

use super::{Answer, Sharing, call};

/// Sleeps.
///
/// # Errors
/// The kernel's.
pub fn sleep(milliseconds: u64) -> Answer {
    let time = [milliseconds / 1000, milliseconds % 1000 * 1_000_000];
    // SAFETY: the kernel reads the two words of a `timespec`.
    unsafe {
        call(
            linux::__NR_nanosleep,
            [&raw const time as usize, 0, 0, 0, 0, 0],
        )
    }
}

/// Sends a signal.
///
/// # Errors
/// The kernel's.
#[inline(always)]
pub fn kill(process: usize, signal: u32) -> Answer {
    // SAFETY: memory changes only through a handler, if there is one.
    unsafe { call(linux::__NR_kill, [process, signal as usize, 0, 0, 0, 0]) }
}

/// Has `handler` called at a signal.
///
/// # Safety
/// The handler does nothing that may not happen between any two instructions.
///
/// # Errors
/// The kernel's.
pub unsafe fn handle(signal: u32, handler: extern "C" fn(i32)) -> Answer {
    let action = [
        handler as *const () as usize,
        linux::SA_RESTORER as usize,
        restore as *const () as usize,
        0,
    ];
    let of_set = size_of::<linux::kernel_sigset_t>();
    // SAFETY: the kernel reads a `struct kernel_sigaction`; the caller answers for the handler.
    unsafe {
        call(
            linux::__NR_rt_sigaction,
            [signal as usize, &raw const action as usize, 0, of_set, 0, 0],
        )
    }
}

/// Where a handler returns to.
#[unsafe(naked)]
extern "C" fn restore() {
    core::arch::naked_asm!("mov eax, {number}", "syscall", number = const linux::__NR_rt_sigreturn)
}

/// Sleeps while `word` is `value`.
///
/// # Errors
/// `EAGAIN`: it is not.
#[inline(always)]
pub fn futex_wait(word: *const u32, value: u32, sharing: Sharing) -> Answer {
    let operation = linux::FUTEX_WAIT | private(sharing);
    // SAFETY: the kernel reads the word.
    unsafe {
        call(
            linux::__NR_futex,
            [word as usize, operation as usize, value as usize, 0, 0, 0],
        )
    }
}

/// As [`futex_wait`], but no longer than `milliseconds`.
///
/// # Errors
/// `EAGAIN`: it is not; `ETIMEDOUT`: that long it was.
pub fn futex_wait_for(word: *const u32, value: u32, sharing: Sharing, milliseconds: u64) -> Answer {
    let operation = (linux::FUTEX_WAIT | private(sharing)) as usize;
    let time = [milliseconds / 1000, milliseconds % 1000 * 1_000_000];
    let time = &raw const time as usize;
    // SAFETY: the kernel reads the word, and the two words of a `timespec`.
    unsafe {
        call(
            linux::__NR_futex,
            [word as usize, operation, value as usize, time, 0, 0],
        )
    }
}

/// Wakes one who sleeps on `word`.
///
/// # Errors
/// The kernel's.
#[inline(always)]
pub fn futex_wake(word: *const u32, sharing: Sharing) -> Answer {
    wake(word, sharing, 1)
}

/// Wakes all who sleep on `word`.
///
/// # Errors
/// The kernel's.
pub fn futex_wake_all(word: *const u32, sharing: Sharing) -> Answer {
    wake(word, sharing, i32::MAX as usize)
}

#[inline(always)]
fn wake(word: *const u32, sharing: Sharing, most: usize) -> Answer {
    let operation = linux::FUTEX_WAKE | private(sharing);
    // SAFETY: touches no memory.
    unsafe {
        call(
            linux::__NR_futex,
            [word as usize, operation as usize, most, 0, 0, 0],
        )
    }
}

fn private(sharing: Sharing) -> u32 {
    match sharing {
        Sharing::Private => linux::FUTEX_PRIVATE_FLAG,
        Sharing::Shared => 0,
    }
}
