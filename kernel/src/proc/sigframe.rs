//! The frame that a signal handler finds on its stack: Linux's `struct rt_sigframe` for x86-64, as bytes.
//!
//! Pure layout, both ways. [`super::deliver`] decides where it goes and copies it. What comes back from the
//! program is taken only where the program may choose: see [`Context::apply`].

use super::machine::{TrapFrame, UserFlags};
use super::signal::{SIGINFO_LEN, SigInfo, SigSet};
use linux_raw_sys::general as sys;

/// Bytes of the whole frame.
pub const FRAME_LEN: usize = 8 + UCONTEXT_LEN + SIGINFO_LEN;
/// Bytes of `struct ucontext`.
pub const UCONTEXT_LEN: usize = 304;
/// Offset of the `ucontext` in the frame.
pub const UCONTEXT_AT: usize = 8;
/// Offset of the `siginfo_t` in the frame.
pub const SIGINFO_AT: usize = UCONTEXT_AT + UCONTEXT_LEN;
/// Below the stack pointer a program may keep data; the ABI's red zone.
pub const RED_ZONE: u64 = 128;

/// `UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS`: what Linux says on machines with XSAVE.
const UC_FLAGS: u64 = 7;
/// Selectors as Linux shows them. They are never read back.
const LINUX_CS: u64 = 0x33;
const LINUX_SS: u64 = 0x2b;

// Offsets in `struct ucontext`.
const STACK_AT: usize = 16;
const REGS_AT: usize = 40;
const SELECTORS_AT: usize = REGS_AT + 18 * 8;
const ERR_AT: usize = SELECTORS_AT + 8;
const FPSTATE_AT: usize = REGS_AT + 184;
const SIGMASK_AT: usize = REGS_AT + 256;

/// An alternate signal stack (`sigaltstack`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AltStack {
    /// Lowest address.
    pub base: u64,
    /// Bytes; 0 when there is none.
    pub size: u64,
    /// `SS_*` as the program gave them.
    pub flags: u32,
}

impl Default for AltStack {
    fn default() -> AltStack {
        AltStack::NONE
    }
}

impl AltStack {
    /// None.
    pub const NONE: AltStack = AltStack {
        base: 0,
        size: 0,
        flags: sys::SS_DISABLE,
    };

    /// Whether a handler's entry disarms it (`SS_AUTODISARM`).
    #[must_use]
    pub fn disarms_itself(&self) -> bool {
        self.flags & sys::SS_AUTODISARM != 0
    }

    /// Whether it is in use where the stack pointer is `sp`. One that disarms itself never is: while it is used there is none.
    #[must_use]
    pub fn is_in_use(&self, sp: u64) -> bool {
        !self.disarms_itself() && self.contains(sp)
    }

    /// Its flags as `sigaltstack` shows them.
    #[must_use]
    pub fn shown_flags(&self, sp: u64) -> u32 {
        let state = match self.size {
            0 => sys::SS_DISABLE,
            _ if self.is_in_use(sp) => sys::SS_ONSTACK,
            _ => 0,
        };
        state | self.flags & sys::SS_AUTODISARM
    }

    /// The stack that a program asks for.
    ///
    /// # Errors
    /// See [`AltStackError`].
    pub fn asked(self) -> Result<AltStack, AltStackError> {
        match self.flags & !sys::SS_AUTODISARM {
            sys::SS_DISABLE => Ok(AltStack {
                base: 0,
                size: 0,
                ..self
            }),
            0 | sys::SS_ONSTACK if self.size < u64::from(sys::MINSIGSTKSZ) => {
                Err(AltStackError::TooSmall)
            }
            0 | sys::SS_ONSTACK => Ok(self),
            _ => Err(AltStackError::Flags),
        }
    }

    /// Whether a stack pointer lies on it.
    #[must_use]
    pub fn contains(&self, sp: u64) -> bool {
        self.size != 0 && sp > self.base && sp - self.base <= self.size
    }
}

/// Why there can be no such stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AltStackError {
    /// Unknown flags.
    #[error("unknown flags")]
    Flags,
    /// No frame would fit.
    #[error("too small")]
    TooSmall,
}

/// The machine context of the interrupted program, as it travels through the program's memory.
#[derive(Clone, Debug)]
pub struct Context {
    /// The registers, in `sigcontext`'s order: r8..r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, flags.
    pub regs: [u64; 18],
    /// Error code, trap number, old mask, CR2.
    pub trap: [u64; 4],
    /// Where the FPU state lies, 0 for none.
    pub fpstate: u64,
    /// Signals held back.
    pub mask: SigSet,
    /// The alternate stack in force.
    pub stack: AltStack,
}

impl Context {
    /// The context that `frame` holds.
    #[must_use]
    pub fn of(frame: &TrapFrame, cr2: u64, mask: SigSet, stack: AltStack, fpstate: u64) -> Context {
        let (number, error) = frame.trap_number();
        let f = frame;
        Context {
            regs: [
                f.r8,
                f.r9,
                f.r10,
                f.r11,
                f.r12,
                f.r13,
                f.r14,
                f.r15,
                f.rdi,
                f.rsi,
                f.rbp,
                f.rbx,
                f.rdx,
                f.rax,
                f.rcx,
                f.rsp,
                f.rip,
                f.flags(),
            ],
            trap: [error, number, mask.bits(), cr2],
            fpstate,
            mask,
            stack,
        }
    }

    /// Puts the registers into `frame`, taking of the flags only what a program may choose.
    pub fn apply(&self, frame: &mut TrapFrame) {
        let f = frame;
        [
            f.r8,
            f.r9,
            f.r10,
            f.r11,
            f.r12,
            f.r13,
            f.r14,
            f.r15,
            f.rdi,
            f.rsi,
            f.rbp,
            f.rbx,
            f.rdx,
            f.rax,
            f.rcx,
            f.rsp,
            f.rip,
            _,
        ] = self.regs;
        f.set_flags(UserFlags::from_bits_truncate(self.regs[17]));
        f.restore_all_registers();
    }

    /// As `struct ucontext`.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; UCONTEXT_LEN] {
        let mut out = [0; UCONTEXT_LEN];
        put(&mut out, 0, UC_FLAGS);
        put(&mut out, STACK_AT, self.stack.base);
        put(&mut out, STACK_AT + 8, u64::from(self.stack.flags));
        put(&mut out, STACK_AT + 16, self.stack.size);
        for (i, reg) in self.regs.iter().enumerate() {
            put(&mut out, REGS_AT + 8 * i, *reg);
        }
        put(&mut out, SELECTORS_AT, LINUX_CS | LINUX_SS << 48);
        for (i, word) in self.trap.iter().enumerate() {
            put(&mut out, ERR_AT + 8 * i, *word);
        }
        put(&mut out, FPSTATE_AT, self.fpstate);
        put(&mut out, SIGMASK_AT, self.mask.bits());
        out
    }

    /// Out of a `struct ucontext`.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; UCONTEXT_LEN]) -> Context {
        let mut regs = [0; 18];
        for (i, reg) in regs.iter_mut().enumerate() {
            *reg = get(bytes, REGS_AT + 8 * i);
        }
        let mut trap = [0; 4];
        for (i, word) in trap.iter_mut().enumerate() {
            *word = get(bytes, ERR_AT + 8 * i);
        }
        Context {
            regs,
            trap,
            fpstate: get(bytes, FPSTATE_AT),
            mask: SigSet::mask_from_bits(get(bytes, SIGMASK_AT)),
            stack: AltStack {
                base: get(bytes, STACK_AT),
                flags: get(bytes, STACK_AT + 8) as u32,
                size: get(bytes, STACK_AT + 16),
            },
        }
    }
}

/// Where things go on the stack of a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Address of the frame: the handler's stack pointer.
    pub frame: u64,
    /// Address of the FPU state, a multiple of 64.
    pub fpstate: u64,
}

impl Placement {
    /// Below `sp`, with `fp_len` bytes of FPU state; `None` if that wraps around.
    #[must_use]
    pub fn below(sp: u64, fp_len: usize) -> Option<Placement> {
        let fpstate = sp.checked_sub(fp_len as u64)? & !63;
        // As if just called: the stack pointer plus 8 is a multiple of 16.
        let frame = (fpstate.checked_sub(FRAME_LEN as u64)? & !15).checked_sub(8)?;
        Some(Placement { frame, fpstate })
    }
}

/// The whole frame as bytes.
#[must_use]
pub fn frame_bytes(restorer: u64, context: &Context, info: &SigInfo) -> [u8; FRAME_LEN] {
    let mut out = [0; FRAME_LEN];
    out[..8].copy_from_slice(&restorer.to_le_bytes());
    out[UCONTEXT_AT..SIGINFO_AT].copy_from_slice(&context.to_bytes());
    out[SIGINFO_AT..].copy_from_slice(&info.to_bytes());
    out
}

fn put(out: &mut [u8; UCONTEXT_LEN], at: usize, word: u64) {
    out[at..at + 8].copy_from_slice(&word.to_le_bytes());
}

fn get(bytes: &[u8; UCONTEXT_LEN], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// The FPU state in a frame: an XSAVE area with Linux's software words in it and a magic number behind.
pub mod fpu {
    /// Offset of the software-reserved words in the legacy area.
    const SOFTWARE_AT: usize = 464;
    /// End of the legacy area.
    const LEGACY_LEN: usize = 512;
    /// `FP_XSTATE_MAGIC1`, `FP_XSTATE_MAGIC2`.
    const MAGIC1: u32 = 0x4650_5853;
    const MAGIC2: u32 = 0x4650_5845;
    /// End of the XSAVE header; the upper halves of AVX registers follow.
    const HEADER_END: usize = 576;
    /// Feature bits: x87 and SSE; with AVX.
    const LEGACY: u64 = 3;
    const AVX: u64 = 7;

    /// Bytes in the frame of a state of `len` bytes.
    #[must_use]
    pub fn frame_len(len: usize) -> usize {
        if len == 0 { 0 } else { len + 4 }
    }

    /// Hands the pieces of the frame's FPU state to `put` with their offsets.
    ///
    /// # Errors
    /// `put`'s.
    pub fn write<E>(
        state: &[u8],
        mut put: impl FnMut(usize, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if state.len() <= LEGACY_LEN {
            return put(0, state);
        }
        let mut software = [0; LEGACY_LEN - SOFTWARE_AT];
        software[..4].copy_from_slice(&MAGIC1.to_le_bytes());
        software[4..8].copy_from_slice(&(state.len() as u32 + 4).to_le_bytes());
        let features = if state.len() > HEADER_END {
            AVX
        } else {
            LEGACY
        };
        software[8..16].copy_from_slice(&features.to_le_bytes());
        software[16..20].copy_from_slice(&(state.len() as u32).to_le_bytes());
        put(0, &state[..SOFTWARE_AT])?;
        put(SOFTWARE_AT, &software)?;
        put(LEGACY_LEN, &state[LEGACY_LEN..])?;
        put(state.len(), &MAGIC2.to_le_bytes())
    }

    /// Reads what a program made of the state, by `get`, over `state`. Only the legacy part counts unless
    /// the program kept the magic numbers. What comes out is what a program wrote: whoever loads it
    /// must clear what the processor would refuse.
    ///
    /// # Errors
    /// `get`'s.
    pub fn read<E>(
        state: &mut [u8],
        mut get: impl FnMut(usize, &mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let legacy = state.len().min(LEGACY_LEN);
        get(0, &mut state[..legacy])?;
        if state.len() <= LEGACY_LEN {
            return Ok(());
        }
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0u32, |w, b| w << 8 | u32::from(*b));
        let magic1 = word(&state[SOFTWARE_AT..SOFTWARE_AT + 4]);
        let size = word(&state[SOFTWARE_AT + 16..SOFTWARE_AT + 20]) as usize;
        let mut magic2 = [0; 4];
        if magic1 == MAGIC1 && size == state.len() {
            get(state.len(), &mut magic2)?;
        }
        if word(&magic2) == MAGIC2 {
            return get(LEGACY_LEN, &mut state[LEGACY_LEN..]);
        }
        // The extended part starts over: only x87 and SSE are valid, as the header says.
        state[LEGACY_LEN..].fill(0);
        state[LEGACY_LEN] = 3;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proc::signal::Signal;

    /// The host is Linux on x86-64: its own C types say where things are.
    #[test]
    fn lies_where_linux_has_it() {
        assert_eq!(
            core::mem::size_of::<linux_raw_sys::general::siginfo_t>(),
            SIGINFO_LEN
        );
        // struct ucontext without glibc's padding: flags, link, stack, sigcontext, mask.
        assert_eq!(UCONTEXT_LEN, 8 + 8 + 24 + 256 + 8);
        assert_eq!(SIGMASK_AT + 8, UCONTEXT_LEN);
        assert_eq!(FPSTATE_AT, 40 + 184);
    }

    #[test]
    fn survives_the_round_trip() {
        let mut frame = TrapFrame::new(0x40_1000, 0x7fff_0000_1230);
        frame.rax = 1;
        frame.r8 = 2;
        frame.rcx = 3;
        frame.r15 = 4;
        let stack = AltStack {
            base: 0x1000,
            size: 0x2000,
            flags: 2,
        };
        let mask = SigSet::only(Signal::INT);
        let context = Context::of(&frame, 0xdead, mask, stack, 0x7777);
        let back = Context::from_bytes(&context.to_bytes());
        let mut other = TrapFrame::new(0, 0);
        back.apply(&mut other);
        assert_eq!((other.rip, other.rsp), (frame.rip, frame.rsp));
        assert_eq!((other.rax, other.r8, other.rcx, other.r15), (1, 2, 3, 4));
        assert_eq!(
            (back.mask, back.stack, back.fpstate, back.trap[3]),
            (mask, stack, 0x7777, 0xdead)
        );
    }

    #[test]
    fn a_program_cannot_give_itself_rights() {
        let frame = TrapFrame::new(0, 0);
        let mut context = Context::of(&frame, 0, SigSet::EMPTY, AltStack::default(), 0);
        context.regs[17] = u64::MAX;
        context.mask = SigSet::from_bits(u64::MAX);
        let back = Context::from_bytes(&context.to_bytes());
        assert!(!back.mask.contains(Signal::KILL) && !back.mask.contains(Signal::STOP));
        let mut frame = TrapFrame::new(0, 0);
        back.apply(&mut frame);
        assert_eq!(frame.flags() >> 12 & 3, 0, "I/O privilege");
    }

    #[test]
    fn placement_is_aligned_and_never_wraps() {
        for sp in (0x10_0000..0x10_0100u64).chain([0, 1, 500, 4000, u64::MAX]) {
            if let Some(p) = Placement::below(sp, 832) {
                assert_eq!(p.fpstate % 64, 0);
                assert_eq!((p.frame + 8) % 16, 0);
                assert!(p.frame + FRAME_LEN as u64 <= p.fpstate && p.fpstate + 832 <= sp);
            } else {
                assert!(sp < 4096);
            }
        }
    }

    #[test]
    fn alternate_stack_bounds() {
        let s = AltStack {
            base: 0x1000,
            size: 0x1000,
            flags: 0,
        };
        assert!(
            !s.contains(0x1000) && s.contains(0x1001) && s.contains(0x2000) && !s.contains(0x2001)
        );
        assert!(!AltStack::NONE.contains(0));
        assert_eq!(s.shown_flags(0x1800), sys::SS_ONSTACK);
        assert_eq!(s.shown_flags(0), 0);
        assert_eq!(AltStack::NONE.shown_flags(0), sys::SS_DISABLE);
        let auto = AltStack {
            flags: sys::SS_AUTODISARM,
            ..s
        };
        assert!(!auto.is_in_use(0x1800));
        assert_eq!(auto.shown_flags(0x1800), sys::SS_AUTODISARM);
    }

    #[test]
    fn alternate_stacks_asked_for() {
        let stack = |size, flags| AltStack {
            base: 0x1000,
            size,
            flags,
        };
        let (off, on, auto) = (sys::SS_DISABLE, sys::SS_ONSTACK, sys::SS_AUTODISARM);
        assert_eq!(stack(7, off).asked(), Ok(AltStack::NONE));
        assert_eq!(stack(2048, on | auto).asked(), Ok(stack(2048, on | auto)));
        assert_eq!(stack(2047, 0).asked(), Err(AltStackError::TooSmall));
        assert_eq!(stack(4096, on | off).asked(), Err(AltStackError::Flags));
        assert_eq!(stack(4096, 4).asked(), Err(AltStackError::Flags));
    }

    #[test]
    fn fpu_state_survives_and_is_cut_to_the_legacy_part_without_its_magic() {
        let state: std::vec::Vec<u8> = (0..832u32).map(|i| i as u8).collect();
        let mut memory = std::vec![0u8; 836];
        fpu::write::<()>(&state, |at, bytes| {
            memory[at..at + bytes.len()].copy_from_slice(bytes);
            Ok(())
        })
        .unwrap();
        let read = |memory: &[u8]| {
            let mut back = std::vec![0u8; 832];
            fpu::read::<()>(&mut back, |at, to| {
                to.copy_from_slice(&memory[at..at + to.len()]);
                Ok(())
            })
            .unwrap();
            back
        };
        let back = read(&memory);
        assert_eq!(back[..464], state[..464]);
        assert_eq!(back[512..], state[512..]);
        memory[832] = 0;
        let back = read(&memory);
        assert_eq!(back[..464], state[..464]);
        assert_eq!(back[512], 3);
        assert!(back[513..].iter().all(|&b| b == 0));
    }
}
