//! Entry and exit: the only code that runs between ring 3 and the kernel's Rust.
//!
//! ```text
//!  LwpMachineState::run_user (Rust)                 ring 3
//!    enter_user: save callee-saved registers,
//!      KERNEL_RSP = rsp, TSS.RSP0 = end of frame
//!      sysretq  (frame was saved by `syscall`) ───► runs
//!      iretq    (any other frame)              ───►
//!                                                   syscall      exception, interrupt
//!    syscall_entry: pushes what the CPU would have  ◄─┘            │
//!    trap_entry: CPU has pushed ss..rip to RSP0,                 ◄─┘
//!      both push the general registers: the frame is complete
//!      rsp = KERNEL_RSP, restore callee-saved registers, ret
//!  run_user goes on, interrupts still off: serves an interrupt, reads CR2, then turns them on
//!
//!  the kernel itself is interrupted:
//!    trap_entry: pushes a frame on the stack in use, kernel_trap(&mut frame), iretq
//!  NMI, double fault, machine check (own stacks, from anywhere):
//!    trap_paranoid: finds the per-CPU data through the GDT's address, whatever GS holds
//! ```
//!
//! An interrupt may come after the caller of `run_user` has looked whether it should yield and before ring 3 is
//! reached. `kernel_trap` leaves a mark, and `enter_user`, with interrupts off, returns at once when it finds it: else
//! a program could run on for as long as nothing else interrupts it.
//!
//! GS holds the per-CPU data whenever Rust runs; `swapgs` happens exactly once per crossing, with interrupts
//! off. The direction flag and the user's access rights (RFLAGS.AC) are cleared on every entry.

use core::arch::global_asm;
use core::mem::{offset_of, size_of};

use x86_64::registers::control::Cr2;

use super::frame::{TrapFrame, USER_CODE, USER_DATA, vector};
use super::percpu::{GDT, INTERRUPTED, KERNEL_RSP, PerCpu, RSP0, USER_RSP};
use super::{copy, interrupts};

/// Vector that marks a frame as saved by `syscall`; the hardware's own vectors end at 255.
pub(super) const SYSCALL_VECTOR: u64 = 0x100;
/// Vector of a frame that `enter_user` refused to run, because an interrupt came on the way. Its low byte is no
/// exception's.
pub(super) const WAS_INTERRUPTED: u64 = 0x1ff;

global_asm!(
    r#"
    .macro PUSH_REGISTERS
        push rax
        push rcx
        push rdx
        push rdi
        push rsi
        push r8
        push r9
        push r10
        push r11
        push rbx
        push rbp
        push r12
        push r13
        push r14
        push r15
    .endm
    .macro POP_REGISTERS
        pop r15
        pop r14
        pop r13
        pop r12
        pop rbp
        pop rbx
        pop r11
        pop r10
        pop r9
        pop r8
        pop rsi
        pop rdi
        pop rdx
        pop rcx
        pop rax
    .endm

    .text
    .balign 16
    .global trap_stubs
    trap_stubs:
    .set number, 0
    .rept 256
        .balign 16
        // The CPU pushes an error code for these only.
        .if (number == 8) || ((number >= 10) && (number <= 14)) || (number == 17) || (number == 21) || (number == 29) || (number == 30)
        .else
            push 0
        .endif
        .byte 0x68                      // push number
        .long number
        .if (number == 2) || (number == 8) || (number == 18)
            jmp trap_paranoid
        .else
            jmp trap_entry
        .endif
        .set number, number + 1
    .endr

    .balign 16
    trap_entry:
        test byte ptr [rsp + 24], 3     // the interrupted code's privilege
        jz 2f
        swapgs
        PUSH_REGISTERS
        mov rsp, gs:[{KERNEL_RSP}]
        push 2                          // direction, AC, NT off; interrupts stay off
        popfq
        jmp leave_user
    2:  PUSH_REGISTERS
        push 2
        popfq
        mov rdi, rsp
        call {kernel_trap}
        POP_REGISTERS
        add rsp, 16                     // vector, error code
        iretq

    .balign 16
    trap_paranoid:
        PUSH_REGISTERS
        push 2
        popfq
        mov ecx, 0xc0000101             // GS base
        rdmsr
        mov ebx, eax
        shl rdx, 32
        or rbx, rdx
        sub rsp, 16
        sgdt [rsp + 6]
        mov rax, [rsp + 8]
        add rsp, 16
        sub rax, {GDT}
        mov rdx, rax
        shr rdx, 32
        wrmsr
        mov rdi, rsp
        call {kernel_trap}
        mov ecx, 0xc0000101
        mov eax, ebx
        mov rdx, rbx
        shr rdx, 32
        wrmsr
        POP_REGISTERS
        add rsp, 16
        iretq

    .balign 16
    .global syscall_entry
    syscall_entry:
        swapgs
        mov gs:[{USER_RSP}], rsp
        mov rsp, gs:[{RSP0}]
        push {USER_DATA}
        push qword ptr gs:[{USER_RSP}]
        push r11
        push {USER_CODE}
        push rcx
        push 0
        push {SYSCALL_VECTOR}
        PUSH_REGISTERS
        mov rsp, gs:[{KERNEL_RSP}]
    leave_user:
        pop r15
        pop r14
        pop r13
        pop r12
        pop rbp
        pop rbx
        ret

    // extern "C" fn enter_user(frame: *mut TrapFrame)
    .balign 16
    .global enter_user
    enter_user:
        push rbx
        push rbp
        push r12
        push r13
        push r14
        push r15
        cli
        cmp byte ptr gs:[{INTERRUPTED}], 0
        jne 5f
        mov gs:[{KERNEL_RSP}], rsp
        lea rax, [rdi + {FRAME_SIZE}]
        mov gs:[{RSP0}], rax
        mov rcx, [rdi + {RIP}]
        // sysretq and iretq fault *in ring 0* when they are given an address that is not canonical.
        mov rax, rcx
        shr rax, 47
        jnz 4f
        cmp dword ptr [rdi + {VECTOR}], {SYSCALL_VECTOR}
        jne 3f
        mov r15, [rdi + {R15}]
        mov r14, [rdi + {R14}]
        mov r13, [rdi + {R13}]
        mov r12, [rdi + {R12}]
        mov rbp, [rdi + {RBP}]
        mov rbx, [rdi + {RBX}]
        mov r11, [rdi + {RFLAGS}]
        mov r10, [rdi + {R10}]
        mov r9, [rdi + {R9}]
        mov r8, [rdi + {R8}]
        mov rsi, [rdi + {RSI}]
        mov rdx, [rdi + {RDX}]
        mov rax, [rdi + {RAX}]
        mov rsp, [rdi + {RSP}]
        mov rdi, [rdi + {RDI}]
        swapgs
        sysretq
    3:  mov rsp, rdi
        POP_REGISTERS
        add rsp, 16
        swapgs
        iretq
    4:  mov qword ptr [rdi + {VECTOR}], {PROTECTION}
        mov qword ptr [rdi + {ERROR}], 0
        jmp leave_user
    5:  mov byte ptr gs:[{INTERRUPTED}], 0
        mov qword ptr [rdi + {VECTOR}], {WAS_INTERRUPTED}
        jmp leave_user
    "#,
    KERNEL_RSP = const KERNEL_RSP,
    USER_RSP = const USER_RSP,
    RSP0 = const RSP0,
    INTERRUPTED = const INTERRUPTED,
    WAS_INTERRUPTED = const WAS_INTERRUPTED,
    GDT = const GDT,
    USER_DATA = const USER_DATA,
    USER_CODE = const USER_CODE,
    SYSCALL_VECTOR = const SYSCALL_VECTOR,
    PROTECTION = const vector::PROTECTION,
    FRAME_SIZE = const size_of::<TrapFrame>(),
    R15 = const offset_of!(TrapFrame, r15),
    R14 = const offset_of!(TrapFrame, r14),
    R13 = const offset_of!(TrapFrame, r13),
    R12 = const offset_of!(TrapFrame, r12),
    RBP = const offset_of!(TrapFrame, rbp),
    RBX = const offset_of!(TrapFrame, rbx),
    R10 = const offset_of!(TrapFrame, r10),
    R9 = const offset_of!(TrapFrame, r9),
    R8 = const offset_of!(TrapFrame, r8),
    RSI = const offset_of!(TrapFrame, rsi),
    RDI = const offset_of!(TrapFrame, rdi),
    RDX = const offset_of!(TrapFrame, rdx),
    RAX = const offset_of!(TrapFrame, rax),
    VECTOR = const offset_of!(TrapFrame, vector),
    ERROR = const offset_of!(TrapFrame, error),
    RIP = const offset_of!(TrapFrame, rip),
    RFLAGS = const offset_of!(TrapFrame, rflags),
    RSP = const offset_of!(TrapFrame, rsp),
    kernel_trap = sym kernel_trap,
);

unsafe extern "C" {
    /// Goes to ring 3 with these registers and returns at the next trap, which has saved the registers
    /// there. Interrupts are off on return.
    ///
    /// # Safety
    /// GS must hold this CPU's per-CPU data, and the page tables in use must map the kernel.
    pub(super) fn enter_user(frame: *mut TrapFrame);

    /// Where `syscall` goes. Not to be called.
    pub(super) fn syscall_entry();
}

/// A trap that was taken while the kernel ran. Interrupts are off.
extern "C" fn kernel_trap(frame: &mut TrapFrame) {
    if frame.vector >= u64::from(interrupts::FIRST_VECTOR) {
        interrupts::dispatch(frame.vector as u8);
        PerCpu::current().interrupted.set(true);
        return;
    }
    let address = Cr2::read_raw();
    if frame.vector as u8 == vector::PAGE_FAULT
        && address < copy::USER_END
        && let Some(landing) = copy::landing(frame.rip)
    {
        // The copy routines expect the faulting address there.
        frame.rax = address;
        frame.rip = landing;
        return;
    }
    crate::panic::on_trap(frame, address)
}

impl TrapFrame {
    /// Whether the kernel itself was interrupted.
    pub fn from_kernel(&self) -> bool {
        self.cs & 3 == 0
    }
}
