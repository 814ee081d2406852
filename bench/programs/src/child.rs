//! Children of a case.

use crate::bench::{Failure, Outcome};
use crate::sys;

/// A child that does `work` and exits, with 0 if that went well.
///
/// # Errors
/// It could not be made.
pub fn spawn(work: impl FnOnce() -> Outcome) -> Result<usize, Failure> {
    match sys::fork()? {
        Some(child) => Ok(child),
        None => sys::exit_group(i32::from(work().is_err())),
    }
}

/// Collects a child, which must have exited with 0.
///
/// # Errors
/// It did not.
#[inline(always)]
pub fn expect_exit(child: usize) -> Outcome {
    match sys::wait(child)? {
        0 => Ok(()),
        status => Err(Failure::Child(status)),
    }
}
