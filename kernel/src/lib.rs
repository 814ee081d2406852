//! The kernel: what ties executor, uvm and drivers together into a running system.
//!
//! Everything that is not machine-specific (files, processes, system calls, the shell) builds and runs
//! its tests on the host. Only what needs the machine itself sits behind `cfg(target_os = "none")`.
#![no_std]

extern crate alloc;
#[cfg(not(target_os = "none"))]
extern crate std;

// On the host there are only the types of a trap: what the page of the whole describes is not there to link to.
#[cfg_attr(not(target_os = "none"), allow(rustdoc::broken_intra_doc_links))]
pub mod arch;
#[cfg(target_os = "none")]
pub mod boot;
pub mod boxed;
pub mod cmdline;
pub mod console;
pub mod disk;
pub mod fs;
pub mod log;
pub mod memmap;
#[cfg(target_os = "none")]
pub mod panic;
pub mod proc;
pub mod shell;
pub mod syscall;
pub mod system;
