//! What is particular to a machine. There is one: [`x86_64`].

pub mod x86_64;
pub use x86_64::*;
