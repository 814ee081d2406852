//! The registers of a user thread at a trap, and what a trap can be. Plain data: it is the same on the
//! host, where the code that handles system calls is tested.

use bitflags::bitflags;

/// Vector of a frame that nothing has trapped with yet, or whose owner wants every register restored.
const RESTORE_ALL: u64 = 0x101;

/// STAR wants user code right after user data. The kernel's own selectors are in `percpu`.
pub(super) const USER_DATA: u16 = 0x18 | 3;
pub(super) const USER_CODE: u16 = 0x20 | 3;

bitflags! {
    /// Bits of RFLAGS that a user program may choose.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct UserFlags: u64 {
        /// Carry.
        const CF = 1 << 0;
        /// Parity.
        const PF = 1 << 2;
        /// Auxiliary carry.
        const AF = 1 << 4;
        /// Zero.
        const ZF = 1 << 6;
        /// Sign.
        const SF = 1 << 7;
        /// Single step.
        const TF = 1 << 8;
        /// Direction of string instructions.
        const DF = 1 << 10;
        /// Overflow.
        const OF = 1 << 11;
        /// Resume: skip a breakpoint once.
        const RF = 1 << 16;
        /// Alignment check.
        const AC = 1 << 18;
        /// CPUID may be used (it always may).
        const ID = 1 << 21;
    }
}

/// Interrupt flag: always set in ring 3. Bit 1 always reads as one.
const RFLAGS_FIXED: u64 = 1 << 9 | 1 << 1;

/// The registers of ring 3, in the order in which the trap code pushes them: the CPU itself pushes the
/// last five straight into this structure, because TSS.RSP0 points at its end. 16-aligned, because the CPU
/// rounds RSP0 down.
///
/// Selectors, vector and flags are private: ring 3 is entered with what this type's methods allow and nothing else.
#[repr(C, align(16))]
#[derive(Clone, Debug)]
pub struct TrapFrame {
    /// Callee-saved.
    pub r15: u64,
    /// Callee-saved.
    pub r14: u64,
    /// Callee-saved.
    pub r13: u64,
    /// Callee-saved.
    pub r12: u64,
    /// Callee-saved.
    pub rbp: u64,
    /// Callee-saved.
    pub rbx: u64,
    /// Overwritten by `syscall` with the flags.
    pub r11: u64,
    /// Fourth argument of a system call.
    pub r10: u64,
    /// Sixth argument of a system call.
    pub r9: u64,
    /// Fifth argument of a system call.
    pub r8: u64,
    /// Second argument.
    pub rsi: u64,
    /// First argument.
    pub rdi: u64,
    /// Third argument.
    pub rdx: u64,
    /// Overwritten by `syscall` with the return address.
    pub rcx: u64,
    /// Number of a system call, then its result.
    pub rax: u64,
    pub(super) vector: u64,
    pub(super) error: u64,
    /// Where ring 3 goes on. Any value is safe: an impossible one is a general protection fault.
    pub rip: u64,
    pub(super) cs: u64,
    pub(super) rflags: u64,
    /// The user's stack pointer.
    pub rsp: u64,
    pub(super) ss: u64,
}

impl TrapFrame {
    /// A thread that starts at `rip` with its stack at `rsp` and all other registers zero.
    pub const fn new(rip: u64, rsp: u64) -> TrapFrame {
        TrapFrame {
            r15: 0,
            r14: 0,
            r13: 0,
            r12: 0,
            rbp: 0,
            rbx: 0,
            r11: 0,
            r10: 0,
            r9: 0,
            r8: 0,
            rsi: 0,
            rdi: 0,
            rdx: 0,
            rcx: 0,
            rax: 0,
            vector: RESTORE_ALL,
            error: 0,
            rip,
            cs: USER_CODE as u64,
            rflags: RFLAGS_FIXED,
            rsp,
            ss: USER_DATA as u64,
        }
    }

    /// Number of the system call that the frame was saved by.
    #[inline]
    pub fn syscall_number(&self) -> u64 {
        self.rax
    }

    /// Arguments of the system call that the frame was saved by.
    #[inline]
    pub fn syscall_args(&self) -> [u64; 6] {
        [self.rdi, self.rsi, self.rdx, self.r10, self.r8, self.r9]
    }

    /// The user's flags as they were at the trap.
    pub fn flags(&self) -> u64 {
        self.rflags
    }

    /// Sets the flags that a user may choose; the others keep the kernel's values.
    pub fn set_flags(&mut self, flags: UserFlags) {
        self.rflags = flags.bits() | RFLAGS_FIXED;
    }

    /// Must be called by whoever replaces RCX or R11 while a system call is under way (return from a
    /// signal handler): the short way back to ring 3 overwrites these two.
    pub fn restore_all_registers(&mut self) {
        self.vector = RESTORE_ALL;
    }

    /// Number of the exception that saved this frame and its error code, for signal frames.
    pub fn trap_number(&self) -> (u64, u64) {
        (self.vector, self.error)
    }
}

bitflags! {
    /// The error code of a page fault.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PageFaultCode: u64 {
        /// The page was mapped, with too few rights.
        const PRESENT = 1 << 0;
        /// A write.
        const WRITE = 1 << 1;
        /// From ring 3.
        const USER = 1 << 2;
        /// A reserved bit was set in a page table: a bug of the kernel's.
        const RESERVED = 1 << 3;
        /// An instruction fetch.
        const FETCH = 1 << 4;
    }
}

/// Why ring 3 was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// A system call: see [`TrapFrame::syscall`].
    Syscall,
    /// An access to `va` needs the kernel's help.
    PageFault {
        /// The address that was accessed (CR2).
        va: u64,
        /// How it was accessed.
        code: PageFaultCode,
    },
    /// A device or the timer interrupted; it has been served already.
    Interrupt,
    /// The program did something it must not: a signal, most likely.
    Exception {
        /// One of [`vector`]'s values.
        vector: u8,
        /// The CPU's error code, 0 where there is none.
        code: u64,
    },
}

/// Exceptions that reach a user program as signals.
pub mod vector {
    /// Division by zero or quotient overflow.
    pub const DIVIDE: u8 = 0;
    /// Single step or hardware breakpoint.
    pub const DEBUG: u8 = 1;
    /// `int3`.
    pub const BREAKPOINT: u8 = 3;
    /// `into` (not in 64-bit code).
    pub const OVERFLOW: u8 = 4;
    /// `bound` (not in 64-bit code).
    pub const BOUND: u8 = 5;
    /// An instruction that does not exist.
    pub const INVALID_OPCODE: u8 = 6;
    /// x87 or SSE used while the kernel forbids it.
    pub const NO_FPU: u8 = 7;
    /// The kernel's own stack is gone.
    pub const DOUBLE_FAULT: u8 = 8;
    /// A segment that is not present.
    pub const NOT_PRESENT: u8 = 11;
    /// A stack access through an address that is not canonical.
    pub const STACK: u8 = 12;
    /// Anything else that is forbidden.
    pub const PROTECTION: u8 = 13;
    /// A page fault; given as [`Trap::PageFault`](super::Trap::PageFault), not as an exception.
    pub const PAGE_FAULT: u8 = 14;
    /// x87 arithmetic.
    pub const X87: u8 = 16;
    /// Misaligned access while RFLAGS.AC is set.
    pub const ALIGNMENT: u8 = 17;
    /// Machine check.
    pub const MACHINE_CHECK: u8 = 18;
    /// SSE arithmetic.
    pub const SIMD: u8 = 19;
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::{offset_of, size_of};

    #[test]
    fn the_cpu_pushes_to_the_end_of_the_frame() {
        assert_eq!(size_of::<TrapFrame>(), 22 * 8);
        assert_eq!(size_of::<TrapFrame>() % 16, 0);
        assert_eq!(offset_of!(TrapFrame, ss) + 8, size_of::<TrapFrame>());
    }

    #[test]
    fn ring_3_keeps_its_interrupts_and_no_privilege() {
        let mut frame = TrapFrame::new(0x1000, 0x2000);
        frame.set_flags(UserFlags::from_bits_truncate(u64::MAX));
        assert_ne!(frame.flags() & 1 << 9, 0, "interrupts on");
        assert_eq!(frame.flags() & 3 << 12, 0, "I/O privilege 0");
        assert_eq!(frame.flags() & 1 << 14, 0, "not a nested task");
        frame.set_flags(UserFlags::empty());
        assert_ne!(frame.flags() & 1 << 9, 0);
    }
}
