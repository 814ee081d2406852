//! One program of `stress`: run to its end, its output summed up.

use crate::proc::ExitStatus;
use crate::shell::Context;
use crate::shell::commands::piped;
use alloc::{format, string::String, vec::Vec};

/// What a program has printed: a sum of all of it, to compare, and its last lines, for complaints.
#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    /// Of all bytes; the same bytes in the same order, the same sum.
    sum: u64,
    bytes: u64,
    tail: Vec<u8>,
}

impl Said {
    /// Bytes kept of the end.
    const TAIL: usize = 200;

    const fn nothing() -> Self {
        Self {
            sum: 0xcbf2_9ce4_8422_2325,
            bytes: 0,
            tail: Vec::new(),
        }
    }

    /// Fowler-Noll-Vo.
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.sum = (self.sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.bytes += bytes.len() as u64;
        self.tail.extend_from_slice(bytes);
        let excess = self.tail.len().saturating_sub(Self::TAIL);
        self.tail.drain(..excess);
    }

    /// The end of it, on one line.
    pub fn end(&self) -> String {
        String::from_utf8_lossy(&self.tail)
            .trim()
            .replace('\n', "; ")
    }

    /// How it differs from what was said `before`.
    pub fn instead_of(&self, before: &Self) -> String {
        format!(
            "printed {} bytes, ending in \"{}\", where there were {} bytes the first time, ending in \"{}\"",
            self.bytes,
            self.end(),
            before.bytes,
            before.end()
        )
    }
}

/// Runs a program until it has ended and closed its output.
///
/// # Errors
/// What was wrong: it did not start, or did not end well.
pub async fn run(shell: &Context, words: Vec<String>) -> Result<Said, String> {
    let name = words.join(" ");
    let mut said = Said::nothing();
    let status = piped::run(shell, words, |bytes| said.add(bytes)).await;
    match status {
        Ok(ExitStatus::Exited(0)) => Ok(said),
        Ok(ExitStatus::Exited(code)) => Err(format!("{name}: exit {code}: {}", said.end())),
        Ok(ExitStatus::Killed(signal)) => Err(format!("{name}: ended by {signal}")),
        Err(why) => Err(format!("{name}: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_sums_up_alike_however_it_comes() {
        let (mut whole, mut pieces) = (Said::nothing(), Said::nothing());
        whole.add(b"one two");
        pieces.add(b"one");
        pieces.add(b" two");
        assert_eq!(whole, pieces);
        pieces.add(b"\n");
        assert_ne!(whole, pieces);
    }

    #[test]
    fn the_tail_is_the_end() {
        let mut said = Said::nothing();
        said.add(&[b'x'; 500]);
        said.add(b"\nhog: bad\nprocesses: 3\n");
        let text = said.end();
        assert!(text.ends_with("x; hog: bad; processes: 3"), "{text}");
        assert!(text.len() <= Said::TAIL + 2, "{}", text.len());
        let mut before = Said::nothing();
        before.add(b"7 lines\n");
        let how = said.instead_of(&before);
        assert!(how.starts_with("printed 523 bytes, ending in \"x"), "{how}");
        assert!(
            how.ends_with("there were 8 bytes the first time, ending in \"7 lines\""),
            "{how}"
        );
    }
}
