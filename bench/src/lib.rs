//! Benchmarks that run as tasks inside the kernel: the cases, their statistics and their reports.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod env;
pub mod fault;
pub mod life;
pub mod parts;
pub mod report;
pub mod running;
pub mod samples;
pub mod swap;
