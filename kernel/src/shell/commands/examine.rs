//! `examine`: a process's memory, byte by byte.
//!
//! The command's own task becomes a holder of the process's address space (`uvmspace_share`), reads as a debugger does, and lets go of it again: pages
//! that are on disk or on swap come in, and a process that ends meanwhile leaves its memory to the reader, who frees it then.

use super::{Command, FAILED, Status, run, usage};
use crate::proc::Pid;
use crate::shell::Context;
use alloc::{string::String, vec::Vec};
use core::fmt;
use uvm::addr::VirtAddr;
use uvm::glue::SpaceRef;

pub(super) const COMMANDS: &[Command] = &[Command {
    name: "examine",
    usage: "PID ADDRESS [BYTES]",
    summary: "show the memory of a process",
    details: "ADDRESS and BYTES (64) may be hexadecimal: 0x401000. Sixteen bytes a line, as numbers and as text. The pages are read as the process \
              would read them: what is on disk or on swap comes in. `pmap PID` lists what there is.",
    run: run!(examine),
}];

/// Bytes in a line.
const LINE: usize = 16;
/// Bytes that are shown at most: the console has no end of patience, people have.
const MOST: u64 = 1 << 20;

async fn examine(shell: Context, args: Vec<String>) -> Status {
    let (pid, address, bytes) = match parse(&args) {
        Ok(what) => what,
        Err(why) => return usage(&shell, "examine", format_args!("{why}")),
    };
    let own = SpaceRef::empty();
    if let Some(process) = shell.system().processes.find(pid) {
        process.share_space(&own).await;
    }
    let Some(space) = own.space() else {
        shell.say(format_args!(
            "examine: process {pid} does not exist or has no address space; `ps` lists processes"
        ));
        return FAILED;
    };
    let mut status = 0;
    let mut at = address;
    let end = address.saturating_add(bytes);
    while at < end {
        let mut line = [0; LINE];
        let line = &mut line[..usize::try_from(end - at).map_or(LINE, |left| left.min(LINE))];
        let read = match VirtAddr::try_new(at) {
            Ok(va) => space.read_bytes(va, line).await.is_ok(),
            Err(_) => false,
        };
        if !read {
            shell.say(format_args!(
                "examine: process {pid} cannot read {at:#x}; `pmap {pid}` shows what it can"
            ));
            status = FAILED;
            break;
        }
        shell.say(format_args!("{at:016x}  {}", Bytes(line)));
        at += LINE as u64;
        shell.system().executor.reschedule_if_asked().await;
    }
    drop(space);
    own.leave().await;
    status
}

fn parse(args: &[String]) -> Result<(Pid, u64, u64), &'static str> {
    let (pid, address, bytes) = match args {
        [pid, address] => (pid, address, None),
        [pid, address, bytes] => (pid, address, Some(bytes)),
        _ => return Err("takes a process number, an address and perhaps a count of bytes"),
    };
    let pid = pid.parse().map_err(|_| "PID is not a process number")?;
    let address = number(address).ok_or("ADDRESS is not a number")?;
    let bytes = match bytes {
        Some(word) => number(word).ok_or("BYTES is not a number")?,
        None => 64,
    };
    match bytes {
        1..=MOST => Ok((Pid(pid), address, bytes)),
        _ => Err("BYTES is from 1 to 1048576"),
    }
}

/// Decimal, or hexadecimal behind `0x`.
fn number(word: &str) -> Option<u64> {
    match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

/// A line's bytes, as numbers and as text.
struct Bytes<'a>(&'a [u8]);

impl fmt::Display for Bytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for i in 0..LINE {
            match self.0.get(i) {
                Some(byte) => write!(f, "{byte:02x} ")?,
                None => f.write_str("   ")?,
            }
        }
        f.write_str(" ")?;
        let shown = |&byte: &u8| match byte {
            b' '..=b'~' => char::from(byte),
            _ => '.',
        };
        self.0
            .iter()
            .map(shown)
            .try_for_each(|letter| write!(f, "{letter}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::string::ToString;

    #[test]
    fn a_line_has_numbers_and_text() {
        assert_eq!(
            format!("{}", Bytes(b"\x7fELF 0123456789a")),
            "7f 45 4c 46 20 30 31 32 33 34 35 36 37 38 39 61  .ELF 0123456789a"
        );
        assert_eq!(
            format!("{}", Bytes(b"a\xff")),
            format!("61 ff {}a.", " ".repeat(14 * 3 + 1))
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let parse = |line: &str| {
            let words: Vec<String> = line.split(' ').map(ToString::to_string).collect();
            parse(&words)
        };
        assert_eq!(parse("2 0x10"), Ok((Pid(2), 16, 64)));
        assert_eq!(parse("2 10 0x20"), Ok((Pid(2), 10, 32)));
        for line in [
            "2",
            "x 1",
            "2 y",
            "2 1 z",
            "2 1 0",
            "2 1 1048577",
            "2 1 1 1",
            "-1 1",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
