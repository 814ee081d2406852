//! x
#![no_std]
extern crate alloc;
pub mod report;
pub mod samples;
