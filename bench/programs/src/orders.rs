//! What the host tells Linux's first process to do: a line each, a verb and what it is about.
//!
//! | order | |
//! |---|---|
//! | `boot` | say how long the start took |
//! | `mount TYPE PLACE` | a file system that is on no device |
//! | `load MODULE [PARAMETERS]` | link a file into the kernel |
//! | `set FILE VALUE` | write a word to a file of the kernel's |
//! | `swap DISK PAGES` | make a swap area and use it |
//! | `leave PAGES` | take memory, for good, until no more than this is free |
//! | `run CASE...` | measure |

pub mod memory;

use core::ffi::{CStr, c_char};
use core::ptr::null;

use crate::bench::{Failure, Outcome};
use crate::sys::{self, administration};
use crate::{boot, record};

/// Bytes of the longest order, with a zero at its end.
pub const ROOM: usize = 4096;
/// Cases in one order.
const CASES: usize = 126;

/// Does what a line says. `began` is the time stamp at the program's start.
///
/// # Errors
/// The kernel refused something, or it is no order.
pub fn carry_out(line: &[u8], began: u64) -> Outcome {
    const NONE: Failure = Failure::Wrong("an order that cannot be understood");
    let mut text = [0; ROOM];
    text.get_mut(..line.len())
        .ok_or(NONE)?
        .copy_from_slice(line);
    let mut rest = &mut text[..=line.len().min(ROOM - 1)];
    let verb = next(&mut rest).ok_or(NONE)?;
    match verb.to_bytes() {
        b"boot" => record::print(|to| boot::describe(to, began)),
        b"mount" => {
            let (kind, place) = (next(&mut rest).ok_or(NONE)?, next(&mut rest).ok_or(NONE)?);
            administration::mount(kind, place)?;
        }
        b"load" => {
            let file = sys::open(next(&mut rest).ok_or(NONE)?)?;
            // All of them are one string.
            let parameters = CStr::from_bytes_until_nul(rest).unwrap_or(c"");
            administration::load_module(file, parameters)?;
            sys::close(file)?;
        }
        b"set" => {
            let file = administration::open_to_write(next(&mut rest).ok_or(NONE)?, 0)?;
            sys::write(file, next(&mut rest).ok_or(NONE)?.to_bytes())?;
            sys::close(file)?;
        }
        b"swap" => {
            let disk = next(&mut rest).ok_or(NONE)?;
            memory::swap(disk, number(&mut rest).ok_or(NONE)?)?;
        }
        b"leave" => memory::leave(number(&mut rest).ok_or(NONE)?)?,
        b"run" => run(rest)?,
        _ => return Err(NONE),
    }
    Ok(())
}

/// Takes the next word off a line that ends in a zero.
fn next<'a>(rest: &mut &'a mut [u8]) -> Option<&'a CStr> {
    let end = rest.iter().position(|byte| matches!(byte, b' ' | 0))?;
    let (word, more) = core::mem::take(rest).split_at_mut(end + 1);
    word[end] = 0;
    *rest = more;
    CStr::from_bytes_with_nul(word)
        .ok()
        .filter(|word| !word.is_empty())
}

fn number(rest: &mut &mut [u8]) -> Option<usize> {
    next(rest)?.to_str().ok()?.parse().ok()
}

/// Runs `case` with these names, and waits for its end.
fn run(mut names: &mut [u8]) -> Outcome {
    let program = c"/bench/case";
    let mut words: [*const c_char; CASES + 2] = [null(); CASES + 2];
    words[0] = program.as_ptr();
    for word in &mut words[1..=CASES] {
        match next(&mut names) {
            Some(name) => *word = name.as_ptr(),
            None => break,
        }
    }
    match sys::fork()? {
        None => {
            let why = Failure::Refused(sys::execve(program, &words));
            record::print(|to| record::failure(to, "init", why));
            sys::exit_group(1)
        }
        // A case that failed says so itself.
        Some(child) => sys::wait(child).map(drop).map_err(Failure::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_taken_one_by_one() {
        let mut line = *b"load /a b=1 c=2\0";
        let mut rest = &mut line[..];
        assert_eq!(next(&mut rest), Some(c"load"));
        assert_eq!(next(&mut rest), Some(c"/a"));
        assert_eq!(CStr::from_bytes_until_nul(rest), Ok(c"b=1 c=2"));
        let mut line = *b"boot\0";
        let mut rest = &mut line[..];
        assert_eq!(next(&mut rest), Some(c"boot"));
        assert_eq!(next(&mut rest), None);
    }

    #[test]
    fn what_is_no_order_is_refused() {
        for line in [&b""[..], b"dance", b"leave", b"leave many", b"set /a"] {
            assert!(carry_out(line, 0).is_err());
        }
    }
}
