//! What a machine's first program says: how long its start took.

use core::fmt::{self, Write};

use crate::record;
use crate::statistics::Summary;

/// The case's name.
pub const NAME: &str = "boot";

/// Writes the record: `ticks` is the time stamp at the program's start. The counter is 0 when the machine starts.
///
/// # Errors
/// The line is too long.
pub fn describe(to: &mut impl Write, ticks: u64) -> fmt::Result {
    match Summary::of(&mut [ticks]) {
        Some(summary) => record::summary(to, NAME, "instructions", &summary, 0, 0),
        None => Ok(()),
    }
}
