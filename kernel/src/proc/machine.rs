//! What processes need from the machine, under one name on the kernel's target and on the host.
//!
//! On the machine it is [`crate::arch`]'s; on the host a double whose ring 3 is a function of the test's and
//! whose user memory is what the test says. Nothing here adds behaviour.

#[cfg(target_os = "none")]
mod imp {
    pub use crate::arch::time::{now, ticks, ticks_to_ns};
    pub use crate::arch::{
        Fault, FpuState, LwpMachineState, PageFaultCode, Trap, TrapFrame, USER_END, UserFlags,
        compare_exchange_user_u32, copyin, copyout, copyout_raw, load_user_u32, take_fpu_from,
        vector, zero_user,
    };

    /// Feature bits of the processor as AT_HWCAP has them: CPUID leaf 1, EDX.
    #[must_use]
    pub fn hwcap() -> u64 {
        raw_cpuid::native_cpuid::cpuid_count(1, 0).edx.into()
    }
}

#[cfg(not(target_os = "none"))]
#[path = "machine/host.rs"]
mod imp;

pub use imp::*;
