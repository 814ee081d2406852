//! Processes and threads, and what they have used.

use core::arch::asm;
use core::ffi::CStr;

use linux_raw_sys::general as linux;

use super::{Answer, Errno, call};

/// Ends the process.
pub fn exit_group(status: i32) -> ! {
    loop {
        // SAFETY: nothing comes after it.
        let _ = unsafe { call(linux::__NR_exit_group, [status as usize, 0, 0, 0, 0, 0]) };
    }
}

/// The null system call of this bench.
#[inline(always)]
pub fn getppid() -> Answer {
    // SAFETY: touches no memory.
    unsafe { call(linux::__NR_getppid, [0; 6]) }
}

/// This process.
pub fn getpid() -> Answer {
    // SAFETY: touches no memory.
    unsafe { call(linux::__NR_getpid, [0; 6]) }
}

/// A child that is a copy: `Some` is its number, in the parent.
///
/// # Errors
/// The kernel's.
#[inline(always)]
pub fn fork() -> Result<Option<usize>, Errno> {
    // SAFETY: the child has memory of its own; these programs have one thread when they fork.
    match unsafe { call(linux::__NR_fork, [0; 6]) }? {
        0 => Ok(None),
        child => Ok(Some(child)),
    }
}

/// A child that becomes `program`, without arguments and environment, or exits with 127. Returns when it is done with our memory.
///
/// # Errors
/// The kernel's, about the child and not about the program.
#[inline(always)]
pub fn vfork_exec(program: &CStr, arguments: &[*const core::ffi::c_char; 2]) -> Answer {
    let answer: isize;
    let none: *const *const core::ffi::c_char = &arguments[1];
    // SAFETY: the child's whole life is in these lines, in registers alone: it writes no memory of its parent's. The
    // vector ends in null, as its second word does, which is the empty environment too.
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
            execve = const linux::__NR_execve,
            exit_group = const linux::__NR_exit_group,
            inlateout("rax") linux::__NR_vfork as isize => answer,
            in("rdi") program.as_ptr(), in("rsi") arguments.as_ptr(), in("rdx") none,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    match answer {
        ..0 => Err(Errno(answer.unsigned_abs() as u32)),
        _ => Ok(answer as usize),
    }
}

/// Becomes another program, with these words and no environment. Returns only when that failed.
pub fn execve(program: &CStr, words: &[*const core::ffi::c_char]) -> Errno {
    let none = [core::ptr::null::<core::ffi::c_char>()];
    debug_assert!(words.last().is_some_and(|last| last.is_null()));
    // SAFETY: the strings end in zeroes and the vectors in null.
    let answer = unsafe {
        call(
            linux::__NR_execve,
            [
                program.as_ptr() as usize,
                words.as_ptr() as usize,
                none.as_ptr() as usize,
                0,
                0,
                0,
            ],
        )
    };
    answer.err().unwrap_or(Errno(0))
}

/// Waits for a child's end and answers its wait status.
///
/// # Errors
/// The kernel's.
#[inline(always)]
pub fn wait(child: usize) -> Result<i32, Errno> {
    let mut status = 0_i32;
    let to = &raw mut status as usize;
    // SAFETY: the kernel writes the status there.
    unsafe { call(linux::__NR_wait4, [child, to, 0, 0, 0, 0]) }?;
    Ok(status)
}

/// The wait status of a child that has ended, whichever, and is collected by this; does not wait.
///
/// # Errors
/// The kernel's.
pub fn ended_child() -> Result<Option<i32>, Errno> {
    let mut status = 0_i32;
    let (any, to) = (usize::MAX, &raw mut status as usize);
    // SAFETY: the kernel writes the status there.
    match unsafe {
        call(
            linux::__NR_wait4,
            [any, to, linux::WNOHANG as usize, 0, 0, 0],
        )
    }? {
        0 => Ok(None),
        _ => Ok(Some(status)),
    }
}

/// Faults of this process so far that needed no device.
///
/// # Errors
/// The kernel's.
pub fn minor_faults() -> Result<u64, Errno> {
    used(
        linux::RUSAGE_SELF as i32,
        core::mem::offset_of!(linux::rusage, ru_minflt),
    )
}

/// Faults that waited for a device, of all children that were collected so far.
///
/// # Errors
/// The kernel's.
pub fn childrens_major_faults() -> Result<u64, Errno> {
    used(
        linux::RUSAGE_CHILDREN,
        core::mem::offset_of!(linux::rusage, ru_majflt),
    )
}

/// The word at `offset` in what `who` has used.
#[inline(always)]
fn used(who: i32, offset: usize) -> Result<u64, Errno> {
    let mut words = [0_u64; size_of::<linux::rusage>() / 8];
    let to = words.as_mut_ptr() as usize;
    // SAFETY: the kernel writes a `struct rusage` there.
    unsafe { call(linux::__NR_getrusage, [who as usize, to, 0, 0, 0, 0]) }?;
    Ok(words[offset / 8])
}

/// Runs `begin` as a thread on the stack whose end is `stack`; when it ends, `tid` becomes 0 and who waits for it (shared futex) wakes.
///
/// # Safety
/// `stack` is 16-byte aligned, has room below it, and is nobody else's until the thread has ended; so is `tid`; `begin` never returns.
///
/// # Errors
/// The kernel's.
#[inline(always)]
pub unsafe fn thread(
    begin: extern "C" fn(*mut ()) -> !,
    argument: *mut (),
    stack: *mut u8,
    tid: *mut u32,
) -> Answer {
    let flags = (linux::CLONE_VM
        | linux::CLONE_FS
        | linux::CLONE_FILES
        | linux::CLONE_SIGHAND
        | linux::CLONE_THREAD
        | linux::CLONE_SYSVSEM
        | linux::CLONE_PARENT_SETTID
        | linux::CLONE_CHILD_CLEARTID) as usize;
    let answer: isize;
    // SAFETY: the thread has a stack of its own, and leaves these lines for `begin`, which does not come back.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r9",
            "call r8",
            "ud2",
            "2:",
            inlateout("rax") linux::__NR_clone as isize => answer,
            in("rdi") flags, in("rsi") stack, in("rdx") tid, in("r10") tid,
            in("r8") begin, in("r9") argument,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    match answer {
        ..0 => Err(Errno(answer.unsigned_abs() as u32)),
        _ => Ok(answer as usize),
    }
}

/// Ends the thread that calls it.
#[inline(always)]
pub fn exit_thread() -> ! {
    loop {
        // SAFETY: nothing comes after it.
        let _ = unsafe { call(linux::__NR_exit, [0; 6]) };
    }
}
