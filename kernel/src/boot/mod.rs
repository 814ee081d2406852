//! The steps of the boot that connect rooms of the house with each other. [`main`](../main) calls them in order; each
//! reports what it found on the log, and leaves out what cannot be used rather than giving up, as long as there is a
//! console to say so on.

pub mod console;
pub mod disks;
pub mod files;
pub mod memory;
pub mod shell;
pub mod swap;
