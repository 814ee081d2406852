//! Access to user memory. Each function *attempts* the access; where the CPU faults, the trap code finds the
//! instruction in a table (`.ex_table`, pairs of 32-bit distances: instruction, landing) and resumes at the
//! landing, and the function answers with the address. Nothing here waits, allocates or takes a lock, so all of it
//! may be used under a spin lock; the caller faults the page in (`VmSpace::fault`) and goes on.
//!
//! Copies go by eight bytes (`rep movsq`) and the last seven by one: each step of a string instruction costs
//! as much as an instruction. SMAP is opened for the length of the access only.

use core::arch::global_asm;
use core::mem::size_of;

use super::cpu::SMAP;

/// First address that is not the user's. The last page below the hole in the address space stays out, as on
/// Linux: `syscall` as its last instruction would leave a return address that is not canonical.
pub const USER_END: u64 = 0x7fff_ffff_f000;

/// An access to user memory that did not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The first address that could not be accessed.
    pub va: u64,
    /// Bytes that were copied before, from the start.
    pub done: usize,
}

global_asm!(
    r#"
    .macro OPEN_USER
        test byte ptr [rip + {SMAP}], 1
        jz 90f
        stac
    90:
    .endm
    .macro CLOSE_USER
        test byte ptr [rip + {SMAP}], 1
        jz 91f
        clac
    91:
    .endm
    .macro ON_FAULT at, landing
        .pushsection .ex_table, "a"
        .long \at - .
        .long \landing - .
        .popsection
    .endm

    .text
    // extern "C" fn user_copy(to, from, len) -> (bytes left, faulting address)
    .balign 16
    .global user_copy
    user_copy:
        OPEN_USER
        mov rcx, rdx
        and edx, 7
        shr rcx, 3
    2:  rep movsq
        mov ecx, edx
    3:  rep movsb
    4:  CLOSE_USER
        mov rdx, rax
        mov rax, rcx
        ret
    5:  lea rcx, [rdx + rcx * 8]
        jmp 4b
    ON_FAULT 2b, 5b
    ON_FAULT 3b, 4b

    // extern "C" fn user_zero(to, len) -> (bytes left, faulting address)
    .balign 16
    .global user_zero
    user_zero:
        OPEN_USER
        xor eax, eax
        mov rcx, rsi
        mov edx, esi
        and edx, 7
        shr rcx, 3
    2:  rep stosq
        mov ecx, edx
    3:  rep stosb
    4:  CLOSE_USER
        mov rdx, rax
        mov rax, rcx
        ret
    5:  lea rcx, [rdx + rcx * 8]
        jmp 4b
    ON_FAULT 2b, 5b
    ON_FAULT 3b, 4b

    // extern "C" fn user_string(to, from, len) -> (bytes left, faulting address + 1 or 0)
    // Ends after the zero byte, which is copied too.
    .balign 16
    .global user_string
    user_string:
        OPEN_USER
        mov rcx, rdx
        xor edx, edx
        test rcx, rcx
        jz 4f
    2:  mov al, [rsi]
        mov [rdi], al
        inc rsi
        inc rdi
        dec rcx
        test al, al
        jz 4f
        test rcx, rcx
        jnz 2b
        jmp 4f
    3:  lea rdx, [rax + 1]              // never 0, even for a fault at address 0
    4:  CLOSE_USER
        mov rax, rcx
        ret
    ON_FAULT 2b, 3b

    // extern "C" fn user_load_u32(from) -> (value, faulting address + 1 or 0)
    .balign 16
    .global user_load_u32
    user_load_u32:
        OPEN_USER
        xor edx, edx
    2:  mov eax, [rdi]
        jmp 4f
    3:  lea rdx, [rax + 1]
    4:  CLOSE_USER
        ret
    ON_FAULT 2b, 3b

    // extern "C" fn user_swap_u32(at, old, new) -> (previous value, faulting address + 1 or 0)
    .balign 16
    .global user_swap_u32
    user_swap_u32:
        OPEN_USER
        mov ecx, edx
        mov eax, esi
        xor edx, edx
    2:  lock cmpxchg [rdi], ecx
        jmp 4f
    3:  lea rdx, [rax + 1]
    4:  CLOSE_USER
        ret
    ON_FAULT 2b, 3b
    "#,
    SMAP = sym SMAP,
);

#[repr(C)]
struct Outcome {
    value: u64,
    address: u64,
}

unsafe extern "C" {
    fn user_copy(to: *mut u8, from: *const u8, len: usize) -> Outcome;
    fn user_zero(to: *mut u8, len: usize) -> Outcome;
    fn user_string(to: *mut u8, from: *const u8, len: usize) -> Outcome;
    fn user_load_u32(from: *const u32) -> Outcome;
    fn user_swap_u32(at: *mut u32, old: u32, new: u32) -> Outcome;

    static __ex_table_start: [Landing; 0];
    static __ex_table_end: [Landing; 0];
}

#[repr(C)]
struct Landing {
    at: i32,
    to: i32,
}

/// Where to go on after a fault of the kernel's at `rip`, if that is an access to user memory.
pub(super) fn landing(rip: u64) -> Option<u64> {
    let start = &raw const __ex_table_start as *const Landing;
    let end = &raw const __ex_table_end as *const Landing;
    // SAFETY: the linker script puts the table, made of whole entries, between these two symbols.
    let table = unsafe { core::slice::from_raw_parts(start, end.offset_from(start) as usize) };
    table.iter().find_map(|entry| {
        let target = |distance: &i32| {
            (&raw const *distance as u64).wrapping_add_signed(i64::from(*distance))
        };
        (target(&entry.at) == rip).then(|| target(&entry.to))
    })
}

/// `Err` if not all of `[va, va + len)` is the user's.
#[inline]
fn check(va: u64, len: usize) -> Result<(), Fault> {
    if va < USER_END && len as u64 <= USER_END - va {
        Ok(())
    } else {
        Err(Fault {
            va: if va < USER_END { USER_END } else { va },
            done: 0,
        })
    }
}

/// Copies `len` bytes of user memory at `from`.
///
/// # Safety
/// `to` must be valid for writes of `len` bytes.
#[inline]
pub unsafe fn copyin_raw(to: *mut u8, from: u64, len: usize) -> Result<(), Fault> {
    check(from, len)?;
    // SAFETY: the caller vouches for `to`; `from` is the user's, and a fault there is caught.
    let outcome = unsafe { user_copy(to, from as *const u8, len) };
    finish(outcome, len)
}

/// Copies user memory at `from` into `to`.
#[inline]
pub fn copyin(to: &mut [u8], from: u64) -> Result<(), Fault> {
    // SAFETY: a slice is valid for writes of its length.
    unsafe { copyin_raw(to.as_mut_ptr(), from, to.len()) }
}

/// Copies `len` bytes to user memory at `to`.
///
/// # Safety
/// `from` must be valid for reads of `len` bytes.
#[inline]
pub unsafe fn copyout_raw(to: u64, from: *const u8, len: usize) -> Result<(), Fault> {
    check(to, len)?;
    // SAFETY: the caller vouches for `from`; `to` is the user's, and a fault there is caught.
    let outcome = unsafe { user_copy(to as *mut u8, from, len) };
    finish(outcome, len)
}

/// Copies `from` to user memory at `to`.
#[inline]
pub fn copyout(to: u64, from: &[u8]) -> Result<(), Fault> {
    // SAFETY: a slice is valid for reads of its length.
    unsafe { copyout_raw(to, from.as_ptr(), from.len()) }
}

/// Clears `len` bytes of user memory at `to`.
pub fn zero_user(to: u64, len: usize) -> Result<(), Fault> {
    check(to, len)?;
    // SAFETY: the range is the user's, and a fault there is caught.
    let outcome = unsafe { user_zero(to as *mut u8, len) };
    finish(outcome, len)
}

/// Copies a string that ends with a zero byte from user memory at `from`. Gives its length without the zero
/// byte, or `None` if `to` was filled before the end came.
pub fn copyin_str(to: &mut [u8], from: u64) -> Result<Option<usize>, Fault> {
    check(from, 1)?;
    // Not past the user's end: what lies there is not ours to read, and would be a fault.
    let len = to.len().min((USER_END - from) as usize);
    // SAFETY: at most `len` bytes are written to the slice; `from` is the user's, and a fault is caught.
    let outcome = unsafe { user_string(to.as_mut_ptr(), from as *const u8, len) };
    let done = len - outcome.value as usize;
    if outcome.address != 0 {
        return Err(Fault {
            va: from + done as u64,
            done,
        });
    }
    match to[..done].last() {
        Some(0) => Ok(Some(done - 1)),
        _ if len < to.len() => Err(Fault { va: USER_END, done }),
        _ => Ok(None),
    }
}

/// Reads a word of user memory in one access. `va` must be aligned to 4.
pub fn load_user_u32(va: u64) -> Result<u32, Fault> {
    check(va, size_of::<u32>())?;
    // SAFETY: the address is the user's, and a fault there is caught.
    let outcome = unsafe { user_load_u32(va as *const u32) };
    word(outcome, va)
}

/// Replaces a word of user memory by `new` if it is `old`, atomically, and gives what it was before. `va`
/// must be aligned to 4.
pub fn compare_exchange_user_u32(va: u64, old: u32, new: u32) -> Result<u32, Fault> {
    check(va, size_of::<u32>())?;
    // SAFETY: the address is the user's, and a fault there is caught.
    let outcome = unsafe { user_swap_u32(va as *mut u32, old, new) };
    word(outcome, va)
}

#[inline]
fn finish(outcome: Outcome, len: usize) -> Result<(), Fault> {
    match outcome.value {
        0 => Ok(()),
        left => Err(Fault {
            va: outcome.address,
            done: len - left as usize,
        }),
    }
}

fn word(outcome: Outcome, va: u64) -> Result<u32, Fault> {
    match outcome.address {
        0 => Ok(outcome.value as u32),
        _ => Err(Fault { va, done: 0 }),
    }
}
