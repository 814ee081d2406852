//! Linux's system calls, raw: numbers in, a number or an error out.
//!
//! All are `inline(always)`: a sample is to hold the call and as little else as can be.

pub mod administration;

use core::arch::asm;
use core::ffi::CStr;

use linux_raw_sys::general as linux;
use linux_raw_sys::system;

use crate::PAGE;

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

/// Whose changes a mapping's are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Ours alone.
    Private,
    /// Shared with children (anonymous memory) or the file.
    Shared,
}

/// What a mapping may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    None,
    /// Reading.
    Read,
    /// Reading and writing.
    ReadWrite,
}

impl Access {
    fn bits(self) -> usize {
        (match self {
            Access::None => linux::PROT_NONE,
            Access::Read => linux::PROT_READ,
            Access::ReadWrite => linux::PROT_READ | linux::PROT_WRITE,
        }) as usize
    }
}

/// Anonymous memory of so many pages, where the kernel likes.
///
/// # Errors
/// The kernel's.
#[inline(always)]
pub fn map(pages: usize, access: Access, sharing: Sharing) -> Result<*mut u8, Errno> {
    let sharing = match sharing {
        Sharing::Private => linux::MAP_PRIVATE,
        Sharing::Shared => linux::MAP_SHARED,
    };
    let flags = (sharing | linux::MAP_ANONYMOUS) as usize;
    let arguments = [0, pages * PAGE, access.bits(), flags, usize::MAX, 0];
    // SAFETY: new memory at a place of the kernel's choice is nobody else's.
    unsafe { call(linux::__NR_mmap, arguments) }.map(|place| place as *mut u8)
}

/// Private anonymous memory at `place`, in place of what is there.
///
/// # Safety
/// What is there is the caller's to lose.
///
/// # Errors
/// The kernel's.
pub unsafe fn map_at(place: *mut u8, pages: usize, access: Access) -> Answer {
    let flags = (linux::MAP_PRIVATE | linux::MAP_ANONYMOUS | linux::MAP_FIXED) as usize;
    let arguments = [
        place as usize,
        pages * PAGE,
        access.bits(),
        flags,
        usize::MAX,
        0,
    ];
    // SAFETY: the caller's promise.
    unsafe { call(linux::__NR_mmap, arguments) }
}

/// The first `pages` pages of a file, private.
///
/// # Errors
/// The kernel's.
#[inline(always)]
pub fn map_file(file: usize, pages: usize, access: Access) -> Result<*mut u8, Errno> {
    let flags = linux::MAP_PRIVATE as usize;
    let arguments = [0, pages * PAGE, access.bits(), flags, file, 0];
    // SAFETY: as in `map`.
    unsafe { call(linux::__NR_mmap, arguments) }.map(|place| place as *mut u8)
}

/// Gives memory back.
///
/// # Safety
/// Nobody uses it any more.
///
/// # Errors
/// The kernel's.
#[inline(always)]
pub unsafe fn unmap(place: *mut u8, pages: usize) -> Answer {
    // SAFETY: the caller's promise.
    unsafe {
        call(
            linux::__NR_munmap,
            [place as usize, pages * PAGE, 0, 0, 0, 0],
        )
    }
}

/// Changes what memory may be used for.
///
/// # Safety
/// Nobody uses it meanwhile for what it forbids.
///
/// # Errors
/// The kernel's.
#[inline(always)]
pub unsafe fn protect(place: *mut u8, pages: usize, access: Access) -> Answer {
    let arguments = [place as usize, pages * PAGE, access.bits(), 0, 0, 0];
    // SAFETY: the caller's promise.
    unsafe { call(linux::__NR_mprotect, arguments) }
}

/// Forgets the content of private anonymous memory: it reads as zeroes.
///
/// # Safety
/// The memory is the caller's.
///
/// # Errors
/// The kernel's.
#[inline(always)]
pub unsafe fn forget(place: *mut u8, pages: usize) -> Answer {
    let advice = linux::MADV_DONTNEED as usize;
    // SAFETY: the caller's promise.
    unsafe {
        call(
            linux::__NR_madvise,
            [place as usize, pages * PAGE, advice, 0, 0, 0],
        )
    }
}

/// Keeps memory in memory.
///
/// # Errors
/// The kernel's.
#[inline(always)]
pub fn lock(place: *mut u8, pages: usize) -> Answer {
    // SAFETY: content and mapping stay.
    unsafe {
        call(
            linux::__NR_mlock,
            [place as usize, pages * PAGE, 0, 0, 0, 0],
        )
    }
}

/// Undoes [`lock`].
///
/// # Errors
/// The kernel's.
#[inline(always)]
pub fn unlock(place: *mut u8, pages: usize) -> Answer {
    // SAFETY: content and mapping stay.
    unsafe {
        call(
            linux::__NR_munlock,
            [place as usize, pages * PAGE, 0, 0, 0, 0],
        )
    }
}

/// Opens a file for reading.
///
/// # Errors
/// The kernel's.
#[inline(always)]
pub fn open(path: &CStr) -> Answer {
    // SAFETY: the string ends in a zero.
    unsafe {
        call(
            linux::__NR_open,
            [path.as_ptr() as usize, linux::O_RDONLY as usize, 0, 0, 0, 0],
        )
    }
}

/// Closes a file.
///
/// # Errors
/// The kernel's.
#[inline(always)]
pub fn close(file: usize) -> Answer {
    // SAFETY: touches no memory.
    unsafe { call(linux::__NR_close, [file, 0, 0, 0, 0, 0]) }
}

/// Reads at `offset` bytes of a file.
///
/// # Errors
/// The kernel's.
#[inline(always)]
pub fn read_at(file: usize, into: &mut [u8], offset: usize) -> Answer {
    let arguments = [file, into.as_mut_ptr() as usize, into.len(), offset, 0, 0];
    // SAFETY: the kernel writes into the slice.
    unsafe { call(linux::__NR_pread64, arguments) }
}

/// Reads from a pipe.
///
/// # Errors
/// The kernel's.
#[inline(always)]
pub fn read(file: usize, into: &mut [u8]) -> Answer {
    let arguments = [file, into.as_mut_ptr() as usize, into.len(), 0, 0, 0];
    // SAFETY: the kernel writes into the slice.
    unsafe { call(linux::__NR_read, arguments) }
}

/// Writes.
///
/// # Errors
/// The kernel's.
#[inline(always)]
pub fn write(file: usize, bytes: &[u8]) -> Answer {
    let arguments = [file, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0];
    // SAFETY: the kernel reads the slice.
    unsafe { call(linux::__NR_write, arguments) }
}

/// Writes all of `text` to standard output. Nobody could be told that it failed.
pub fn print(text: &str) {
    let mut rest = text.as_bytes();
    while let Ok(written @ 1..) = write(1, rest) {
        rest = &rest[written.min(rest.len())..];
        if rest.is_empty() {
            break;
        }
    }
}

/// A pipe's two ends: what is read, what is written.
///
/// # Errors
/// The kernel's.
pub fn pipe() -> Result<[usize; 2], Errno> {
    let mut ends = [0_i32; 2];
    // SAFETY: the kernel writes two words there.
    unsafe { call(linux::__NR_pipe, [&raw mut ends as usize, 0, 0, 0, 0, 0]) }?;
    Ok(ends.map(|end| end as usize))
}

/// Asks which of `files` are ready to be read, and does not wait.
///
/// # Errors
/// The kernel's.
#[inline(always)]
pub fn poll(files: &mut [linux::pollfd]) -> Answer {
    // SAFETY: the kernel writes into the slice.
    unsafe {
        call(
            linux::__NR_poll,
            [files.as_mut_ptr() as usize, files.len(), 0, 0, 0, 0],
        )
    }
}

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

/// Memory in all, and free, in bytes.
///
/// # Errors
/// The kernel's.
pub fn memory() -> Result<[u64; 2], Errno> {
    // Longer than the structure, whose end has no fixed size.
    let mut words = [0_u64; 16];
    let to = words.as_mut_ptr() as usize;
    // SAFETY: the kernel writes a `struct sysinfo` there.
    unsafe { call(linux::__NR_sysinfo, [to, 0, 0, 0, 0, 0]) }?;
    let total = words[core::mem::offset_of!(system::sysinfo, totalram) / 8];
    let free = words[core::mem::offset_of!(system::sysinfo, freeram) / 8];
    Ok([total, free])
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
