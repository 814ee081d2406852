//! The PC. What the rest of the kernel sees of it:
//!
//! | for | here |
//! |---|---|
//! | the boot sequence | [`boot`], [`cpu`], [`paging`] |
//! | an LWP | [`LwpMachineState`] (`attach`, `run_user`), [`TrapFrame`], [`Trap`] |
//! | system calls | [`copyin`], [`copyout`], [`copyin_str`], [`zero_user`], words for futexes |
//! | drivers | interrupt vectors, [`paging::map_mmio`] |
//! | the end | [`exit`], [`reboot`] |
//!
//! The address space is drawn in [`paging`], the way into ring 3 and back in [`trap`]. All that is not plain data needs
//! the machine and is absent on the host.

mod frame;
pub use frame::{PageFaultCode, Trap, TrapFrame, UserFlags, vector};

#[cfg(target_os = "none")]
pub mod acpi;
#[cfg(target_os = "none")]
pub mod boot;
#[cfg(target_os = "none")]
mod context;
#[cfg(target_os = "none")]
mod copy;
#[cfg(target_os = "none")]
pub mod cpu;
#[cfg(target_os = "none")]
pub mod devices;
#[cfg(target_os = "none")]
mod fpu;
#[cfg(target_os = "none")]
pub mod heap;
#[cfg(target_os = "none")]
mod idt;
#[cfg(target_os = "none")]
mod interrupts;
#[cfg(target_os = "none")]
pub mod paging;
#[cfg(target_os = "none")]
mod percpu;
#[cfg(target_os = "none")]
pub mod platform;
#[cfg(target_os = "none")]
mod port;
#[cfg(target_os = "none")]
pub mod time;
#[cfg(target_os = "none")]
mod trap;

#[cfg(target_os = "none")]
pub use context::{LwpMachineState, take_fpu_from};
#[cfg(target_os = "none")]
pub use copy::{
    Fault, USER_END, compare_exchange_user_u32, copyin, copyin_raw, copyin_str, copyout,
    copyout_raw, load_user_u32, zero_user,
};
#[cfg(target_os = "none")]
pub use fpu::FpuState;
#[cfg(target_os = "none")]
pub use percpu::PerCpu;
#[cfg(target_os = "none")]
pub use port::{ExitCode, debugcon_write, exit, reboot, serial_write};
