//! Sizes and latencies as people write them on a command line.
//!
//! `64M`, `64MB` and `64MiB` are all 64 * 2^20 bytes: this is memory, and nobody who asks for 64MB of it
//! wants 61.04 MiB.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A number of bytes, parsed from `4096`, `512k`, `64M`, `1.5G`, `1MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

impl Bytes {
    /// `n` mebibytes.
    pub const fn mib(n: u64) -> Bytes {
        Bytes(n << 20)
    }
}

/// A time span, parsed from `0`, `500ns`, `100us`, `10ms`, `1.5s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Latency(pub Duration);

/// Why a size or a latency could not be read. Its text is shown to the user as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadQuantity {
    /// Does not begin with a number, or the number is malformed.
    NotANumber,
    /// A number with a unit that is not one of those listed.
    UnknownUnit {
        /// What stood after the number.
        unit: String,
        /// The units that would have been understood.
        known: &'static str,
    },
    /// More than 2^63 of the smallest unit.
    TooLarge,
    /// A fraction that leaves no whole number of bytes or nanoseconds.
    NotWhole,
}

impl fmt::Display for BadQuantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadQuantity::NotANumber => f.write_str("expected a number with a unit"),
            BadQuantity::UnknownUnit { unit, known } if unit.is_empty() => {
                write!(f, "a unit is missing ({known})")
            }
            BadQuantity::UnknownUnit { unit, known } => {
                write!(f, "unknown unit '{unit}' ({known})")
            }
            BadQuantity::TooLarge => f.write_str("too large"),
            BadQuantity::NotWhole => f.write_str("not a whole number of the smallest unit"),
        }
    }
}

impl std::error::Error for BadQuantity {}

impl FromStr for Bytes {
    type Err = BadQuantity;

    fn from_str(text: &str) -> Result<Bytes, BadQuantity> {
        let (number, unit) = split(text);
        let prefix = unit.to_ascii_lowercase();
        let prefix = prefix
            .strip_suffix("ib")
            .or_else(|| prefix.strip_suffix('b'))
            .unwrap_or(&prefix);
        let scale = match prefix {
            "" => 1,
            "k" => 1 << 10,
            "m" => 1 << 20,
            "g" => 1 << 30,
            "t" => 1 << 40,
            _ => {
                return Err(match number {
                    "" => BadQuantity::NotANumber,
                    _ => BadQuantity::UnknownUnit {
                        unit: unit.to_owned(),
                        known: "k, M, G or T",
                    },
                });
            }
        };
        scaled(number, scale).map(Bytes)
    }
}

impl FromStr for Latency {
    type Err = BadQuantity;

    fn from_str(text: &str) -> Result<Latency, BadQuantity> {
        let (number, unit) = split(text);
        let scale = match unit {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            // Nothing is nothing in every unit.
            "" if number == "0" => 1,
            _ => {
                return Err(match number {
                    "" => BadQuantity::NotANumber,
                    _ => BadQuantity::UnknownUnit {
                        unit: unit.to_owned(),
                        known: "ns, us, ms or s",
                    },
                });
            }
        };
        scaled(number, scale).map(|ns| Latency(Duration::from_nanos(ns)))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "T"), (30, "G"), (20, "M"), (10, "k")] {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// Splits before the first character that belongs to no number.
fn split(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    text.split_at(end)
}

/// `number * scale`, in exact arithmetic.
fn scaled(number: &str, scale: u64) -> Result<u64, BadQuantity> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') || number.ends_with('.') {
        return Err(BadQuantity::NotANumber);
    }
    // More digits than any unit here can use would only overflow the power below.
    if fraction.len() > 12 {
        return Err(BadQuantity::NotWhole);
    }
    let parse = |digits: &str| match digits {
        "" => Ok(0),
        _ => digits.parse::<u64>().map_err(|_| BadQuantity::TooLarge),
    };
    let tenths = 10_u128.pow(fraction.len() as u32);
    let total = u128::from(parse(whole)?) * tenths + u128::from(parse(fraction)?);
    let total = total
        .checked_mul(u128::from(scale))
        .ok_or(BadQuantity::TooLarge)?;
    if total % tenths != 0 {
        return Err(BadQuantity::NotWhole);
    }
    match u64::try_from(total / tenths) {
        Ok(value) if value < 1 << 63 => Ok(value),
        _ => Err(BadQuantity::TooLarge),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("4096B", 4096),
            ("512k", 512 << 10),
            ("512KiB", 512 << 10),
            ("64M", 64 << 20),
            ("64mb", 64 << 20),
            ("1MiB", 1 << 20),
            ("1.5G", 3 << 29),
            ("2T", 2 << 40),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
    }

    #[test]
    fn bad_sizes_say_why() {
        for (text, why) in [
            ("", "expected a number with a unit"),
            ("M", "expected a number with a unit"),
            ("lots", "expected a number with a unit"),
            ("1.M", "expected a number with a unit"),
            ("1.2.3M", "expected a number with a unit"),
            ("-1M", "expected a number with a unit"),
            ("64Q", "unknown unit 'Q' (k, M, G or T)"),
            ("0.3k", "not a whole number of the smallest unit"),
            ("99999999T", "too large"),
            ("99999999999999999999999", "too large"),
        ] {
            assert_eq!(
                text.parse::<Bytes>().unwrap_err().to_string(),
                why,
                "{text}"
            );
        }
    }

    #[test]
    fn sizes_print_as_they_are_written() {
        for text in ["0", "100", "512k", "64M", "1G", "1536M"] {
            assert_eq!(text.parse::<Bytes>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn latencies() {
        for (text, ns) in [
            ("0", 0),
            ("500ns", 500),
            ("100us", 100_000),
            ("10ms", 10_000_000),
            ("1.5s", 1_500_000_000),
        ] {
            assert_eq!(
                text.parse(),
                Ok(Latency(Duration::from_nanos(ns))),
                "{text}"
            );
        }
        assert_eq!(
            "10".parse::<Latency>().unwrap_err().to_string(),
            "a unit is missing (ns, us, ms or s)"
        );
        assert_eq!("ms".parse::<Latency>(), Err(BadQuantity::NotANumber));
    }
}
