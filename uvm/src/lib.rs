//! placeholder
#![no_std]
pub const PAGE_SIZE: usize = 4096;
