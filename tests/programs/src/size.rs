//! Sizes as people write them: `4096`, `512k`, `32M`, `1GiB`, all in powers of two.

use std::fmt;

/// Why a size could not be read. Its text is for the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadSize {
    /// Not digits and then one of the units.
    Malformed,
    /// More bytes than there are addresses.
    TooLarge,
}

impl fmt::Display for BadSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadSize::Malformed => "expected a size like 4096, 512k, 32M or 1G",
            BadSize::TooLarge => "too large",
        })
    }
}

impl std::error::Error for BadSize {}

/// Reads a size in bytes. Units are k, M, G and T in either case, and may end in `B` or `iB`.
///
/// # Errors
/// It is no size, or one beyond `isize`, which no mapping can have.
pub fn parse(text: &str) -> Result<usize, BadSize> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.to_ascii_lowercase();
    let prefix = unit
        .strip_suffix("ib")
        .or_else(|| unit.strip_suffix('b'))
        .unwrap_or(&unit);
    let scale: usize = match prefix {
        // "4096ib" is nothing that anybody writes.
        "" if unit != "ib" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return Err(BadSize::Malformed),
    };
    if number.is_empty() {
        return Err(BadSize::Malformed);
    }
    // Digits alone: what is wrong with them can only be their number.
    let number: usize = number.parse().map_err(|_| BadSize::TooLarge)?;
    number
        .checked_mul(scale)
        .filter(|bytes| isize::try_from(*bytes).is_ok())
        .ok_or(BadSize::TooLarge)
}
