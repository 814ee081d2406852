//! Swap areas in Linux's format, version 1, with pages of 4 KiB: what mkswap makes, and what swapon looks for.
//!
//! A swap area is a header in its first page, and slots for pages behind it. The header (`union swap_header`
//! in Linux's `include/linux/swap.h`), little-endian as the machine is:
//!
//! | bytes | |
//! |---|---|
//! | 0 to 1023 | room for a boot loader: zero here |
//! | 1024 | version: 1 |
//! | 1028 | number of the area's last page |
//! | 1032 | number of bad pages: 0, and their list at 1536 is empty |
//! | 1036 to 1051 | UUID |
//! | 1052 to 1067 | label, padded with zeroes |
//! | 4086 to 4095 | `SWAPSPACE2` |

use std::fmt;
use std::str::FromStr;

use crate::units::{BadQuantity, Bytes};

/// Bytes of a page, and so of the header.
pub const PAGE: u64 = 4096;

/// Pages that mkswap wants at least, the header's among them.
const MIN_PAGES: u64 = 10;

/// Pages of the largest area: 512 GiB.
const MAX_PAGES: u64 = 1 << 27;

/// The same for every area: images are the same bytes whenever they hold the same.
const UUID: [u8; 16] = [
    0xa0, 0xb1, 0xc2, 0xd3, 0xe4, 0xf5, 0x46, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 0x12, 0x34, 0x56, 0x79,
];
const LABEL: &[u8] = b"auvm";
const MAGIC: &[u8] = b"SWAPSPACE2";

/// A swap area, described by its size. Parsed as [`Bytes`] are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SwapArea {
    /// With the header's; from [`MIN_PAGES`] to [`MAX_PAGES`].
    pages: u32,
}

/// Why there can be no such swap area. Its text is shown to the user as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadSwapArea {
    /// The size is not one.
    Size(BadQuantity),
    /// Fewer than 10 pages.
    TooSmall,
    /// More than 2^27 pages.
    TooLarge,
}

impl fmt::Display for BadSwapArea {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pages = |pages: u64| Bytes(pages * PAGE);
        match self {
            BadSwapArea::Size(why) => why.fmt(f),
            BadSwapArea::TooSmall => {
                write!(f, "a swap area has at least {}", pages(MIN_PAGES))
            }
            BadSwapArea::TooLarge => write!(f, "a swap area has at most {}", pages(MAX_PAGES)),
        }
    }
}

impl std::error::Error for BadSwapArea {}

impl FromStr for SwapArea {
    type Err = BadSwapArea;

    fn from_str(text: &str) -> Result<SwapArea, BadSwapArea> {
        SwapArea::new(text.parse().map_err(BadSwapArea::Size)?)
    }
}

impl SwapArea {
    /// The area that fills `size` bytes; what is left beyond whole pages is not used.
    ///
    /// # Errors
    /// [`BadSwapArea::TooSmall`] below 40 KiB, [`BadSwapArea::TooLarge`] above 512 GiB.
    pub fn new(size: Bytes) -> Result<SwapArea, BadSwapArea> {
        match size.0 / PAGE {
            ..MIN_PAGES => Err(BadSwapArea::TooSmall),
            pages @ ..=MAX_PAGES => Ok(SwapArea {
                pages: pages as u32,
            }),
            _ => Err(BadSwapArea::TooLarge),
        }
    }

    /// Its size, a multiple of 4 KiB.
    pub fn size(self) -> Bytes {
        Bytes(u64::from(self.pages) * PAGE)
    }

    /// Its first page. The others may hold anything.
    pub fn header(self) -> [u8; PAGE as usize] {
        let mut page = [0; PAGE as usize];
        let mut set = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
        set(1024, &1_u32.to_le_bytes());
        set(1028, &(self.pages - 1).to_le_bytes());
        set(1032, &0_u32.to_le_bytes());
        set(1036, &UUID);
        set(1052, LABEL);
        set(PAGE as usize - MAGIC.len(), MAGIC);
        page
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::process::Command;

    use super::*;
    use crate::packages::find_program;

    fn area(text: &str) -> SwapArea {
        text.parse().unwrap()
    }

    #[test]
    fn the_header_byte_by_byte() {
        let page = area("256M").header();
        assert!(page[..1024].iter().all(|byte| *byte == 0), "boot area");
        assert_eq!(page[1024..1028], [1, 0, 0, 0], "version");
        assert_eq!(page[1028..1032], [0xff, 0xff, 0, 0], "last page");
        assert_eq!(page[1032..1036], [0; 4], "bad pages");
        assert_eq!(page[1036..1052], UUID);
        assert_eq!(&page[1052..1068], b"auvm\0\0\0\0\0\0\0\0\0\0\0\0");
        assert!(page[1068..4086].iter().all(|byte| *byte == 0));
        assert_eq!(&page[4086..], b"SWAPSPACE2");
    }

    #[test]
    fn whole_pages_within_bounds() {
        assert_eq!(area("40k").size(), Bytes(40 << 10));
        assert_eq!(area("45055").size(), Bytes(40 << 10));
        assert_eq!(area("512G").size(), Bytes(512 << 30));
        assert_eq!(
            area("512G").header()[1028..1032],
            [0xff, 0xff, 0xff, 0x07],
            "last page"
        );
        for (text, why) in [
            ("40959", "a swap area has at least 40k"),
            ("0", "a swap area has at least 40k"),
            ("536870916k", "a swap area has at most 512G"),
            ("4000000T", "a swap area has at most 512G"),
            ("much", "expected a number with a unit"),
        ] {
            assert_eq!(
                text.parse::<SwapArea>().unwrap_err().to_string(),
                why,
                "{text}"
            );
        }
    }

    #[test]
    fn mkswap_writes_the_same() {
        let Some(mkswap) = find_program("mkswap") else {
            eprintln!("skipped: there is no mkswap on this machine");
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        for text in ["40k", "1M", "3G"] {
            let path = dir.path().join(text);
            let file = File::create(&path).unwrap();
            file.set_len(area(text).size().0).unwrap();
            let made = Command::new(&mkswap)
                .args(["--pagesize", "4096", "--label", "auvm", "--uuid"])
                .arg("a0b1c2d3-e4f5-4678-9abc-def012345679")
                .arg(&path)
                .output()
                .unwrap();
            assert!(
                made.status.success(),
                "{}",
                String::from_utf8_lossy(&made.stderr)
            );
            let mut theirs = [0; PAGE as usize];
            File::open(&path).unwrap().read_exact(&mut theirs).unwrap();
            assert!(theirs == area(text).header(), "{text}");
        }
    }
}
