//! Names for the addresses of a kernel panic.
//!
//! The kernel writes its panic to the log, the backtrace as lines `#N 0xADDRESS`. Names and source lines
//! are looked up here, in the kernel's own ELF file.

use std::fmt::Write;
use std::path::Path;

/// What the kernel's last words begin with.
const MARK: &str = "kernel panic: ";

/// The part of the log that tells of the last panic, with every address of its backtrace named; `None` when
/// there was none. A kernel file that cannot be read leaves the addresses bare.
pub fn explain(log: &str, kernel: &Path) -> Option<String> {
    let words = &log[log.rfind(MARK)?..];
    let symbols = addr2line::Loader::new(kernel).ok();
    // A trap's frames begin with the very instruction; all others are return addresses, just behind a call.
    let trapped = words.contains("\nrip 0x");
    let mut text = String::new();
    for line in words.lines() {
        text.push_str(line.trim_end());
        if let (Some((number, address)), Some(symbols)) = (frame(line), &symbols) {
            let exact = trapped && number == 0;
            name(
                symbols,
                address.saturating_sub(u64::from(!exact)),
                &mut text,
            );
        }
        text.push('\n');
    }
    Some(text)
}

/// Reads `  #3 0xffffffff80123456` as (3, address).
fn frame(line: &str) -> Option<(usize, u64)> {
    let (number, rest) = line.split_once('#')?.1.split_once(' ')?;
    let address = rest.trim_start().strip_prefix("0x")?;
    let end = address
        .find(|c: char| !c.is_ascii_hexdigit())
        .unwrap_or(address.len());
    Some((
        number.parse().ok()?,
        u64::from_str_radix(&address[..end], 16).ok()?,
    ))
}

/// Appends function and source line; inlined functions get lines of their own.
fn name(symbols: &addr2line::Loader, address: u64, text: &mut String) {
    let mut known = false;
    if let Ok(mut frames) = symbols.find_frames(address) {
        while let Ok(Some(frame)) = frames.next() {
            let separator = if known { "\n      in" } else { "" };
            let function = frame
                .function
                .as_ref()
                .and_then(|function| function.demangle().ok().map(|name| name.into_owned()));
            let function = function.unwrap_or_else(|| "?".to_owned());
            let place = frame
                .location
                .as_ref()
                .and_then(|at| Some(format!(" at {}:{}", at.file?, at.line?)));
            write!(text, "{separator} {function}{}", place.unwrap_or_default())
                .expect("writing to a string succeeds");
            known = true;
        }
    }
    if !known && let Some(symbol) = symbols.find_symbol(address) {
        write!(text, " {}", addr2line::demangle_auto(symbol.into(), None))
            .expect("writing to a string succeeds");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_recognised() {
        assert_eq!(
            frame("  #0 0xffffffff80123456"),
            Some((0, 0xffff_ffff_8012_3456))
        );
        assert_eq!(frame("[   0.1] #12 0x10 in"), Some((12, 0x10)));
        assert_eq!(frame("issue #2 is open"), None);
    }

    #[test]
    fn a_panic_is_cut_out_and_named() {
        let exe = std::env::current_exe().unwrap();
        let log = "boot\nlate\n\nkernel panic: panicked at kernel/src/x.rs:1:2:\nboom\n  #0 0x1\n";
        let text = explain(log, &exe).unwrap();
        assert!(
            text.starts_with("kernel panic: panicked at kernel/src/x.rs:1:2:\nboom\n  #0 0x1"),
            "{text}"
        );
        assert_eq!(explain("boot\nall well\n", &exe), None);
    }
}
