//! Lines for whoever reads our output: one JSON object each, written with a single call.

use core::fmt::{self, Write};

use crate::bench::{Bench, Failure};
use crate::statistics::Summary;
use crate::sys;

/// Bytes of the longest line.
const ROOM: usize = 1024;

/// A line in the making.
#[derive(Debug)]
pub struct Line {
    bytes: [u8; ROOM],
    length: usize,
}

impl Default for Line {
    fn default() -> Line {
        Line {
            bytes: [0; ROOM],
            length: 0,
        }
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        let room = self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

impl Line {
    /// What is written so far.
    pub fn text(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

/// Prints what `write` writes, and a newline.
pub fn print(write: impl FnOnce(&mut Line) -> fmt::Result) {
    let mut line = Line::default();
    match write(&mut line).and_then(|()| line.write_char('\n')) {
        Ok(()) => sys::print(line.text()),
        Err(fmt::Error) => sys::print("{\"error\":\"a line was too long\"}\n"),
    }
}

/// A case's summary. A mean has two decimals.
///
/// # Errors
/// The line is too long.
pub fn case(to: &mut impl Write, name: &str, unit: &str, bench: &mut Bench) -> fmt::Result {
    let (overhead, faults) = (bench.overhead(), bench.faults());
    let Some(summary) = Summary::of(bench.samples()) else {
        return failure(to, name, Failure::Wrong("no sample"));
    };
    self::summary(to, name, unit, &summary, overhead, faults)
}

/// The record of a case whose samples are summed up already.
///
/// # Errors
/// The line is too long.
pub fn summary(
    to: &mut impl Write,
    name: &str,
    unit: &str,
    summary: &Summary,
    overhead: u64,
    faults: u64,
) -> fmt::Result {
    let Summary {
        count,
        min,
        p50,
        p90,
        p99,
        max,
        ..
    } = *summary;
    let mean = summary.mean_in_hundredths();
    write!(
        to,
        "{{\"record\":\"case\",\"name\":\"{name}\",\"unit\":\"{unit}\",\"count\":{count},\"min\":{min},\"p50\":{p50},\
         \"p90\":{p90},\"p99\":{p99},\"max\":{max},\"mean\":{}.{:02},\"overhead\":{overhead},\"faults\":{faults}}}",
        mean / 100,
        mean % 100
    )
}

/// Why a case came to nothing.
///
/// # Errors
/// The line is too long.
pub fn failure(to: &mut impl Write, name: &str, why: Failure) -> fmt::Result {
    write!(
        to,
        "{{\"record\":\"failure\",\"name\":\"{name}\",\"why\":\""
    )?;
    match why {
        Failure::Refused(errno) => write!(to, "the kernel refused a call: errno {}", errno.0)?,
        Failure::Child(status) => write!(to, "a child ended with wait status {status:#x}")?,
        Failure::Wrong(what) => to.write_str(what)?,
    }
    to.write_str("\"}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_one_object() {
        let summary = Summary {
            count: 2,
            min: 1,
            p50: 1,
            p90: 1,
            p99: 1,
            max: 2,
            sum: 3,
        };
        let mut text = String::new();
        super::summary(&mut text, "a", "instructions", &summary, 3, 2).unwrap();
        assert_eq!(
            text,
            "{\"record\":\"case\",\"name\":\"a\",\"unit\":\"instructions\",\"count\":2,\"min\":1,\"p50\":1,\"p90\":1,\
             \"p99\":1,\"max\":2,\"mean\":1.50,\"overhead\":3,\"faults\":2}"
        );
    }

    #[test]
    fn failures_say_why() {
        let mut text = String::new();
        failure(&mut text, "a", Failure::Refused(sys::Errno(12))).unwrap();
        assert!(text.contains("errno 12"), "{text}");
    }

    #[test]
    fn a_line_has_an_end() {
        let mut line = Line::default();
        assert!(line.write_str("x").is_ok());
        assert!(line.write_str(&"x".repeat(ROOM)).is_err());
        assert_eq!(line.text(), "x");
    }
}
