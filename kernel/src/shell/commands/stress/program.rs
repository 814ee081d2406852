//! One program of `stress`: run to its end, its output read and summed up.
//!
//! Who drops the run kills the program and all that it has started: they are one process group.

use crate::fs::FsError;
use crate::fs::file::{OpenFile, OpenFlags};
use crate::fs::io::Uninterruptible;
use crate::proc::signal::{SigInfo, Signal};
use crate::proc::{ExitStatus, Pid, Processes};
use crate::shell::Context;
use crate::shell::commands::processes;
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
    let wrong = |what: &str| format!("{name}: {what}");
    let uvm = &shell.system().uvm;
    let ends = |room| OpenFile::pipe(OpenFlags::empty(), &room);
    let (reader, writer) = uvm
        .heap_room()
        .map(ends)
        .map_err(|_| wrong("no memory for a pipe"))?;
    let child = processes::start(shell, words, Some(writer), None)
        .await
        .map_err(|error| wrong(&format!("{error}")))?;
    let group = Group {
        processes: &shell.system().processes,
        leader: child.pid(),
    };
    let mut said = Said::nothing();
    let read: Result<(), FsError> = async {
        let mut buffer = [0; 256];
        loop {
            let n = reader.read(&Uninterruptible, &mut &mut buffer[..]).await?;
            if n == 0 {
                return Ok(());
            }
            said.add(&buffer[..n]);
        }
    }
    .await;
    if read.is_ok() {
        let status = child.wait().await;
        core::mem::forget(group);
        return match status {
            ExitStatus::Exited(0) => Ok(said),
            ExitStatus::Exited(code) => Err(wrong(&format!("exit {code}: {}", said.end()))),
            ExitStatus::Killed(signal) => Err(wrong(&format!("ended by {signal}"))),
        };
    }
    Err(wrong("its output cannot be read"))
}

/// A process group that is killed when this is dropped.
struct Group<'a> {
    processes: &'a Processes,
    leader: Pid,
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        let kill = SigInfo::from_kernel(Signal::KILL);
        self.processes.kill_group(self.leader, kill);
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
