//! What the machine under a run is: the kernel's own words, its memory, and what a tick is.

use core::arch::asm;
use core::ffi::{CStr, c_char};
use core::fmt::{self, Write};

use crate::bench::{Bench, stamp};
use crate::sys::{self, Errno};

/// Instructions of the loop that is timed to learn what a tick is.
const COUNTED: u64 = 1_000_000;

/// Writes the record.
///
/// # Errors
/// The line is too long.
pub fn describe<W: Write>(to: &mut W) -> fmt::Result {
    match known() {
        Ok((names, [total, free], overhead)) => write!(
            to,
            "{{\"record\":\"machine\",\"kernel\":\"{}\",\"release\":\"{}\",\"version\":\"{}\",\
             \"memory\":{total},\"free\":{free},\"overhead\":{overhead},\"ticks_per_million\":{}}}",
            Text(&names.sysname),
            Text(&names.release),
            Text(&names.version),
            ticks_per_million()
        ),
        Err(Errno(errno)) => write!(
            to,
            "{{\"record\":\"failure\",\"name\":\"machine\",\"why\":\"errno {errno}\"}}"
        ),
    }
}

fn known() -> Result<(linux_raw_sys::system::new_utsname, [u64; 2], u64), Errno> {
    Ok((sys::uname()?, sys::memory()?, Bench::new()?.overhead()))
}

/// Ticks of the time-stamp counter in a million instructions: the least of some runs, for an interrupt takes some too.
fn ticks_per_million() -> u64 {
    let run = || {
        let start = stamp();
        // SAFETY: counts a register down: two instructions a turn.
        unsafe {
            asm!("2:", "dec {turns}", "jnz 2b", turns = inout(reg) COUNTED / 2 => _, options(nomem, nostack));
        }
        stamp() - start
    };
    (0..8).map(|_| run()).min().unwrap_or(0)
}

/// A field of `struct utsname`; what JSON would have to escape is left out.
struct Text<'a>(&'a [c_char]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: characters are bytes.
        let bytes = unsafe { core::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len()) };
        let text = CStr::from_bytes_until_nul(bytes).ok();
        let text = text.and_then(|text| text.to_str().ok()).unwrap_or_default();
        let harmless = |c: &char| !c.is_control() && !['"', '\\'].contains(c);
        text.chars()
            .filter(harmless)
            .try_for_each(|c| f.write_char(c))
    }
}
