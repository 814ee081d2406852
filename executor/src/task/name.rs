//! Task names that need no heap.

use core::fmt::{self, Write};

const ROOM: usize = 23;

/// A task's name: a `&'static str`, or up to 23 bytes made at run time.
///
/// ```
/// use executor::Name;
/// assert_eq!(Name::from("pagedaemon").as_str(), "pagedaemon");
/// assert_eq!(Name::from(format_args!("lwp {}.{}", 12, 1)).as_str(), "lwp 12.1");
/// ```
#[derive(Clone, Copy)]
pub struct Name(Repr);

#[derive(Clone, Copy)]
enum Repr {
    Static(&'static str),
    Short { len: u8, bytes: [u8; ROOM] },
}

impl Name {
    /// The name.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Repr::Static(name) => name,
            // Only whole characters were stored, so this never falls back.
            Repr::Short { len, bytes } => {
                core::str::from_utf8(&bytes[..usize::from(*len)]).unwrap_or("?")
            }
        }
    }
}

impl From<&'static str> for Name {
    #[inline]
    fn from(name: &'static str) -> Self {
        Self(Repr::Static(name))
    }
}

impl From<fmt::Arguments<'_>> for Name {
    /// Formats a name; what does not fit is cut off at a character's end.
    fn from(arguments: fmt::Arguments<'_>) -> Self {
        if let Some(name) = arguments.as_str() {
            return Self(Repr::Static(name));
        }
        let mut short = Short {
            len: 0,
            bytes: [0; ROOM],
        };
        // An error means that the name was cut off.
        let _ = short.write_fmt(arguments);
        Self(Repr::Short {
            len: short.len,
            bytes: short.bytes,
        })
    }
}

struct Short {
    len: u8,
    bytes: [u8; ROOM],
}

impl Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            let start = usize::from(self.len);
            let end = start + character.len_utf8();
            let room = self.bytes.get_mut(start..end).ok_or(fmt::Error)?;
            character.encode_utf8(room);
            self.len = end as u8;
        }
        Ok(())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::format;

    #[test]
    fn a_long_name_is_cut_at_a_character() {
        let name = Name::from(format_args!("{}{}", "ab", "ä".repeat(20)));
        assert_eq!(name.as_str(), format!("ab{}", "ä".repeat(10)));
    }
}
