//! Which signal an exception or a page fault that cannot be served becomes: what Linux sends.

use super::machine::{LwpMachineState, vector};
use super::process::Process;
use super::signal::{Detail, SigInfo, Signal};
use core::pin::Pin;
use linux_raw_sys::general as sys;
use uvm::fault::FaultError;

/// The signal for a fault at `va`; `None` if the process must be killed (no memory, or already dying).
/// `error` is `None` for an address that is not the user's.
pub(super) fn of_fault(process: &Process, va: u64, error: Option<FaultError>) -> Option<SigInfo> {
    let (signal, code) = match error {
        None | Some(FaultError::NoMapping) => (Signal::SEGV, sys::SEGV_MAPERR),
        Some(FaultError::Protection) => (Signal::SEGV, sys::SEGV_ACCERR),
        Some(FaultError::Io | FaultError::BeyondEnd) => (Signal::BUS, sys::BUS_ADRERR),
        Some(FaultError::OutOfMemory) => {
            log::error!(
                "out of memory: killed process {} ({})",
                process.pid(),
                process.name()
            );
            return None;
        }
        Some(FaultError::Killed) => return None,
    };
    Some(SigInfo {
        signal,
        code: code as i32,
        detail: Detail::Fault { address: va },
    })
}

/// The signal for a processor exception.
pub(super) fn of_exception(number: u8, mut machine: Pin<&mut LwpMachineState>) -> SigInfo {
    let rip = machine.as_mut().frame().rip;
    let at = |signal, code: u32| SigInfo {
        signal,
        code: code as i32,
        detail: Detail::Fault { address: rip },
    };
    match number {
        vector::DIVIDE => at(Signal::FPE, sys::FPE_INTDIV),
        vector::DEBUG => at(Signal::TRAP, sys::TRAP_TRACE),
        vector::BREAKPOINT => SigInfo::from_kernel(Signal::TRAP),
        vector::INVALID_OPCODE => at(Signal::ILL, sys::ILL_ILLOPN),
        vector::NOT_PRESENT | vector::STACK => SigInfo::from_kernel(Signal::BUS),
        vector::ALIGNMENT => SigInfo {
            signal: Signal::BUS,
            code: sys::BUS_ADRALN as i32,
            detail: Detail::Fault { address: 0 },
        },
        vector::X87 => at(Signal::FPE, x87_code(machine.fpu_state().as_ref())),
        vector::SIMD => at(Signal::FPE, simd_code(machine.fpu_state().as_ref())),
        _ => SigInfo::from_kernel(Signal::SEGV),
    }
}

/// `FPE_*` of the first unmasked exception of x87: control word at 0, status word at 2.
fn x87_code(state: &[u8]) -> u32 {
    let word = |at: usize| {
        state
            .get(at..at + 2)
            .map_or(0, |b| u32::from(b[0]) | u32::from(b[1]) << 8)
    };
    flags_code(word(2) & !word(0))
}

/// `FPE_*` of the first unmasked exception of SSE: MXCSR at 24, masks 7 bits above the flags.
fn simd_code(state: &[u8]) -> u32 {
    let mxcsr = state
        .get(24..26)
        .map_or(0, |b| u32::from(b[0]) | u32::from(b[1]) << 8);
    flags_code(mxcsr & !(mxcsr >> 7))
}

/// The order is Linux's (`fpu__exception_code`).
fn flags_code(flags: u32) -> u32 {
    if flags & 0x01 != 0 {
        sys::FPE_FLTINV
    } else if flags & 0x04 != 0 {
        sys::FPE_FLTDIV
    } else if flags & 0x08 != 0 {
        sys::FPE_FLTOVF
    } else if flags & 0x12 != 0 {
        sys::FPE_FLTUND
    } else if flags & 0x20 != 0 {
        sys::FPE_FLTRES
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exception(number: u8) -> SigInfo {
        let mut machine = core::pin::pin!(LwpMachineState::new(0x1234, 0));
        of_exception(number, machine.as_mut())
    }

    #[test]
    fn exceptions_are_linux_signals() {
        let divide = exception(vector::DIVIDE);
        assert_eq!((divide.signal, divide.code), (Signal::FPE, 1));
        assert_eq!(divide.detail, Detail::Fault { address: 0x1234 });
        assert_eq!(exception(vector::INVALID_OPCODE).signal, Signal::ILL);
        assert_eq!(
            exception(vector::BREAKPOINT),
            SigInfo::from_kernel(Signal::TRAP)
        );
        assert_eq!(
            exception(vector::PROTECTION),
            SigInfo::from_kernel(Signal::SEGV)
        );
        assert_eq!(exception(vector::STACK).signal, Signal::BUS);
    }

    #[test]
    fn arithmetic_codes() {
        let mut state = [0u8; 64];
        state[24..26].copy_from_slice(&(0x1f80u16 & !0x200 | 0x04).to_le_bytes());
        assert_eq!(simd_code(&state), sys::FPE_FLTDIV);
        state[0] = 0x7e;
        state[2] = 0x01;
        assert_eq!(x87_code(&state), sys::FPE_FLTINV);
        assert_eq!(x87_code(&[]), 0);
    }
}
