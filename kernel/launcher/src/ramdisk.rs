//! RAM disks as written after `--ramdisk`: `SIZE[:LATENCY[:DEPTH]][,swap|,fs]`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::swap::{BadSwapArea, SwapArea};
use crate::units::{BadQuantity, Bytes, Latency};

/// Requests that a RAM disk holds at once; a depth beyond it would never be used.
pub const MAX_DEPTH: u32 = 256;

/// What a RAM disk carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    /// Nothing: zeroes.
    Raw,
    /// An ext2 file system, mounted at `/ramN` for the N-th RAM disk, counted from 0.
    FileSystem,
    /// A swap area that fills the disk.
    Swap,
}

/// One `--ramdisk`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RamDisk {
    /// Its size, a multiple of 4 KiB.
    pub size: Bytes,
    /// Time from the moment a request is served until it completes.
    pub latency: Duration,
    /// Requests served at the same time.
    pub depth: u32,
    /// What is on it.
    pub carries: Carries,
}

/// Why a RAM disk could not be read from the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadRamDisk {
    /// The size is not one.
    Size(BadQuantity),
    /// The size is zero or not a multiple of 4 KiB.
    SizeNotPages,
    /// There can be no swap area of that size.
    SwapArea(BadSwapArea),
    /// The latency is not one.
    Latency(BadQuantity),
    /// The depth is not within `1..=MAX_DEPTH`.
    Depth,
    /// Something else than `swap` or `fs` after the comma.
    Carries(String),
    /// More than three parts between colons.
    TooManyParts,
}

impl fmt::Display for BadRamDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadRamDisk::Size(why) => write!(f, "size: {why}"),
            BadRamDisk::SizeNotPages => f.write_str("size: must be a multiple of 4k and not zero"),
            BadRamDisk::SwapArea(why) => write!(f, "size: {why}"),
            BadRamDisk::Latency(why) => write!(f, "latency: {why}"),
            BadRamDisk::Depth => write!(f, "depth: must be from 1 to {MAX_DEPTH}"),
            BadRamDisk::Carries(word) => {
                write!(f, "expected 'swap' or 'fs' after the comma, not '{word}'")
            }
            BadRamDisk::TooManyParts => f.write_str("expected SIZE[:LATENCY[:DEPTH]][,swap|,fs]"),
        }
    }
}

impl std::error::Error for BadRamDisk {}

impl FromStr for RamDisk {
    type Err = BadRamDisk;

    fn from_str(text: &str) -> Result<RamDisk, BadRamDisk> {
        let (numbers, carries) = match text.split_once(',') {
            None => (text, Carries::Raw),
            Some((numbers, "fs")) => (numbers, Carries::FileSystem),
            Some((numbers, "swap")) => (numbers, Carries::Swap),
            Some((_, word)) => return Err(BadRamDisk::Carries(word.to_owned())),
        };
        let mut parts = numbers.split(':');
        let size: Bytes = parts
            .next()
            .unwrap_or_default()
            .parse()
            .map_err(BadRamDisk::Size)?;
        if size.0 == 0 || !size.0.is_multiple_of(4096) {
            return Err(BadRamDisk::SizeNotPages);
        }
        if carries == Carries::Swap {
            SwapArea::new(size).map_err(BadRamDisk::SwapArea)?;
        }
        let latency = match parts.next() {
            None => Duration::ZERO,
            Some(text) => text.parse::<Latency>().map_err(BadRamDisk::Latency)?.0,
        };
        let depth = match parts.next() {
            None => MAX_DEPTH,
            Some(text) => text
                .parse()
                .ok()
                .filter(|depth| (1..=MAX_DEPTH).contains(depth))
                .ok_or(BadRamDisk::Depth)?,
        };
        match parts.next() {
            None => Ok(RamDisk {
                size,
                latency,
                depth,
                carries,
            }),
            Some(_) => Err(BadRamDisk::TooManyParts),
        }
    }
}

impl RamDisk {
    /// A disk with nothing but a swap area, as fast as a RAM disk can be.
    pub fn with_swap(area: SwapArea) -> RamDisk {
        RamDisk {
            size: area.size(),
            latency: Duration::ZERO,
            depth: MAX_DEPTH,
            carries: Carries::Swap,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts() {
        assert_eq!(
            "64M:10ms:16,fs".parse(),
            Ok(RamDisk {
                size: Bytes::mib(64),
                latency: Duration::from_millis(10),
                depth: 16,
                carries: Carries::FileSystem,
            })
        );
    }

    #[test]
    fn parts_left_out() {
        let disk: RamDisk = "1G".parse().unwrap();
        assert_eq!(
            (disk.latency, disk.depth, disk.carries),
            (Duration::ZERO, MAX_DEPTH, Carries::Raw)
        );
        let disk: RamDisk = "1G:100us,swap".parse().unwrap();
        assert_eq!(
            (disk.latency, disk.carries),
            (Duration::from_micros(100), Carries::Swap)
        );
        let disk: RamDisk = "1G,swap".parse().unwrap();
        assert_eq!(RamDisk::with_swap("1G".parse().unwrap()), disk);
    }

    #[test]
    fn bad_ones_say_which_part() {
        for (text, why) in [
            ("", "size: expected a number with a unit"),
            ("0", "size: must be a multiple of 4k and not zero"),
            ("1000", "size: must be a multiple of 4k and not zero"),
            ("36k,swap", "size: a swap area has at least 40k"),
            ("64M:10", "latency: a unit is missing (ns, us, ms or s)"),
            ("64M:10ms:0", "depth: must be from 1 to 256"),
            ("64M:10ms:many", "depth: must be from 1 to 256"),
            ("64M:10ms:1:1", "expected SIZE[:LATENCY[:DEPTH]][,swap|,fs]"),
            (
                "64M,ext4",
                "expected 'swap' or 'fs' after the comma, not 'ext4'",
            ),
        ] {
            assert_eq!(
                text.parse::<RamDisk>().unwrap_err().to_string(),
                why,
                "{text}"
            );
        }
    }
}
