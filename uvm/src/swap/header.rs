//! The signature of swap space, as `mkswap` writes it: page 0 of the device.
//!
//! Owns nothing. Offsets in bytes; numbers are little-endian. Only version 1 with pages of this machine's size is understood.

use alloc::vec::Vec;

use crate::addr::PAGE_SIZE;

const VERSION: usize = 1024;
const LAST_PAGE: usize = 1028;
const BAD_COUNT: usize = 1032;
const BAD_LIST: usize = 1536;
const MAGIC: &[u8] = b"SWAPSPACE2";
const MAGIC_AT: usize = PAGE_SIZE - MAGIC.len();
/// Bad pages that fit into the list.
const BAD_MOST: usize = (MAGIC_AT - BAD_LIST) / 4;

/// Why a device is no swap space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHeader {
    /// It has no signature.
    #[error("no swap signature (make one with mkswap)")]
    NoSignature,
    /// A version that nobody here knows.
    #[error("swap space of version {0}, expected 1")]
    Version(u32),
    /// It says to be larger than the device.
    #[error("swap space of {pages} pages on a device of {device}")]
    TooLarge {
        /// Pages that it says to have.
        pages: u64,
        /// Pages of the device.
        device: u64,
    },
    /// It has no page to use.
    #[error("empty swap space")]
    Empty,
    /// Its list of bad pages makes no sense.
    #[error("damaged list of bad pages")]
    BadPages,
}

/// What a signature says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Pages, that of the signature included.
    pub(super) pages: u64,
    /// Pages not to be used.
    pub(super) bad: Vec<u32>,
}

fn number(page: &[u8; PAGE_SIZE], at: usize) -> u32 {
    page.get(at..at + 4)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}

impl Header {
    /// Reads the signature in `page`, of a device of `device` pages.
    pub(super) fn parse(page: &[u8; PAGE_SIZE], device: u64) -> Result<Self, BadHeader> {
        if page[MAGIC_AT..] != *MAGIC {
            return Err(BadHeader::NoSignature);
        }
        match number(page, VERSION) {
            1 => {}
            other => return Err(BadHeader::Version(other)),
        }
        let pages = u64::from(number(page, LAST_PAGE)) + 1;
        if pages > device {
            return Err(BadHeader::TooLarge { pages, device });
        }
        if pages < 2 {
            return Err(BadHeader::Empty);
        }
        let count = number(page, BAD_COUNT) as usize;
        if count > BAD_MOST {
            return Err(BadHeader::BadPages);
        }
        let bad: Vec<u32> = (0..count).map(|i| number(page, BAD_LIST + 4 * i)).collect();
        if bad
            .iter()
            .any(|&page| page == 0 || u64::from(page) >= pages)
        {
            return Err(BadHeader::BadPages);
        }
        Ok(Self { pages, bad })
    }

    /// A page with the signature of `pages` pages, that one included, of which none is bad: for tests, and for RAM disks.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn page(pages: u32) -> [u8; PAGE_SIZE] {
        let mut page = [0; PAGE_SIZE];
        page[VERSION..][..4].copy_from_slice(&1_u32.to_le_bytes());
        page[LAST_PAGE..][..4].copy_from_slice(&(pages - 1).to_le_bytes());
        page[MAGIC_AT..].copy_from_slice(MAGIC);
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(f: impl FnOnce(&mut [u8; PAGE_SIZE])) -> Result<Header, BadHeader> {
        let mut page = Header::page(100);
        f(&mut page);
        Header::parse(&page, 120)
    }

    fn put(page: &mut [u8; PAGE_SIZE], at: usize, number: u32) {
        page[at..at + 4].copy_from_slice(&number.to_le_bytes());
    }

    #[test]
    fn a_signature_is_read() {
        assert_eq!(
            with(|_| {}),
            Ok(Header {
                pages: 100,
                bad: Vec::new()
            })
        );
        let bad = with(|page| {
            put(page, BAD_COUNT, 2);
            put(page, BAD_LIST, 7);
            put(page, BAD_LIST + 4, 99);
        });
        assert_eq!(
            bad,
            Ok(Header {
                pages: 100,
                bad: Vec::from([7, 99])
            })
        );
    }

    #[test]
    fn what_is_none_is_refused() {
        assert_eq!(
            with(|page| page[PAGE_SIZE - 1] = b'1'),
            Err(BadHeader::NoSignature)
        );
        assert_eq!(
            with(|page| put(page, VERSION, 2)),
            Err(BadHeader::Version(2))
        );
        let large = BadHeader::TooLarge {
            pages: 121,
            device: 120,
        };
        assert_eq!(with(|page| put(page, LAST_PAGE, 120)), Err(large));
        assert_eq!(with(|page| put(page, LAST_PAGE, 0)), Err(BadHeader::Empty));
        assert_eq!(
            with(|page| put(page, BAD_COUNT, u32::MAX)),
            Err(BadHeader::BadPages)
        );
        for wrong in [0, 100] {
            let bad = with(|page| {
                put(page, BAD_COUNT, 1);
                put(page, BAD_LIST, wrong);
            });
            assert_eq!(bad, Err(BadHeader::BadPages));
        }
    }
}
