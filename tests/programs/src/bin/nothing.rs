//! Ends at once, without Rust's runtime: what `life` executes.

#![no_main]

use std::ffi::c_int;

/// What C's start-up calls.
// SAFETY: no other function of this program has the name.
#[unsafe(no_mangle)]
extern "C" fn main() -> c_int {
    0
}
