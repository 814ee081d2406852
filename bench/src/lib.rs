//! Statistics and reports for benchmark tasks that run inside the kernel.
#![no_std]
extern crate alloc;
pub mod report;
pub mod samples;
