//! Addresses and numbers as types of their own.
//!
//! A frame number, a virtual page number and an offset in an object are all "a page number", and
//! mixing them up compiles when they are integers. Here they do not mix. Addresses themselves are
//! [`VirtAddr`] and [`PhysAddr`] of the `x86_64` crate. Nothing here has state.

use core::fmt;
use core::ops::{Add, Sub};

pub use x86_64::{PhysAddr, VirtAddr};

/// Bytes in a page.
pub const PAGE_SIZE: usize = 4096;
/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
/// First address that programs cannot use. As on Linux the last page of the lower half is left out:
/// an instruction at its end would run on into non-canonical addresses, and a range could not name
/// its own end.
pub const USER_END: u64 = 0x0000_7fff_ffff_f000;

/// Rounds `bytes` up to whole pages and returns their number.
#[must_use]
pub const fn pages_of(bytes: usize) -> usize {
    bytes.div_ceil(PAGE_SIZE)
}

/// Rounds an address or length down to a multiple of the page size.
#[must_use]
pub const fn trunc_page(value: u64) -> u64 {
    value & !(PAGE_SIZE as u64 - 1)
}

/// Rounds an address or length up to a multiple of the page size; `None` when that overflows.
#[must_use]
pub const fn round_page(value: u64) -> Option<u64> {
    match value.checked_add(PAGE_SIZE as u64 - 1) {
        Some(v) => Some(trunc_page(v)),
        None => None,
    }
}

/// The number of a physical page: its address divided by the page size.
///
/// Holding one proves nothing about the frame: it may be free, in use, or not memory at all.
/// Frame 0 is never managed; [`crate::page`] uses it as the end of a list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Frame(u32);

impl Frame {
    /// The frame with this number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The frame that `addr` lies in.
    ///
    /// # Panics
    /// At or above 16 TiB, which no table entry here can name.
    #[must_use]
    pub fn containing(addr: PhysAddr) -> Self {
        Self(u32::try_from(addr.as_u64() >> PAGE_SHIFT).expect("physical address below 16 TiB"))
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The physical address of its first byte.
    #[must_use]
    pub fn addr(self) -> PhysAddr {
        PhysAddr::new_truncate(u64::from(self.0) << PAGE_SHIFT)
    }

    /// The frame `n` further on.
    #[must_use]
    pub const fn offset(self, n: u32) -> Self {
        Self(self.0 + n)
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({:#x})", self.0)
    }
}

/// The number of a virtual page of the user half: its address divided by the page size.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Vpn(u64);

impl Vpn {
    /// The page with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The page that `addr` lies in.
    #[must_use]
    pub const fn containing(addr: VirtAddr) -> Self {
        Self(addr.as_u64() >> PAGE_SHIFT)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The address of its first byte.
    #[must_use]
    pub const fn addr(self) -> VirtAddr {
        VirtAddr::new_truncate(self.0 << PAGE_SHIFT)
    }

    /// The page `n` further on.
    #[must_use]
    pub const fn offset(self, n: u64) -> Self {
        Self(self.0 + n)
    }
}

impl fmt::Debug for Vpn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vpn({:#x})", self.0)
    }
}

/// An offset in an object, amap or anonymous mapping, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct PageIndex(pub u64);

impl PageIndex {
    /// The page that holds byte `offset`.
    #[must_use]
    pub const fn containing(offset: u64) -> Self {
        Self(offset >> PAGE_SHIFT)
    }

    /// Offset of its first byte.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0 << PAGE_SHIFT
    }
}

impl Add<u64> for PageIndex {
    type Output = Self;
    fn add(self, pages: u64) -> Self {
        Self(self.0 + pages)
    }
}

impl Sub for PageIndex {
    type Output = u64;
    fn sub(self, other: Self) -> u64 {
        self.0 - other.0
    }
}

/// A number of pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Pages(pub usize);

impl Pages {
    /// As many pages as `bytes` need.
    #[must_use]
    pub const fn holding(bytes: usize) -> Self {
        Self(pages_of(bytes))
    }

    /// Their size in bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.0 * PAGE_SIZE
    }
}

/// Whole virtual pages from `start` up to, not including, `end`. Both are page-aligned and `start
/// <= end`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VaRange {
    start: VirtAddr,
    end: VirtAddr,
}

impl VaRange {
    /// The range between two page-aligned addresses.
    ///
    /// # Panics
    /// If an end is not page-aligned or they are out of order.
    #[must_use]
    pub fn new(start: VirtAddr, end: VirtAddr) -> Self {
        assert!(
            start.as_u64().is_multiple_of(PAGE_SIZE as u64)
                && end.as_u64().is_multiple_of(PAGE_SIZE as u64)
                && start <= end,
            "bad range {start:?}..{end:?}"
        );
        Self { start, end }
    }

    /// The `pages` pages from `start` on.
    #[must_use]
    pub fn of_pages(start: VirtAddr, pages: usize) -> Self {
        Self::new(start, start + (pages as u64 * PAGE_SIZE as u64))
    }

    /// First address.
    #[must_use]
    pub const fn start(&self) -> VirtAddr {
        self.start
    }

    /// First address past the range.
    #[must_use]
    pub const fn end(&self) -> VirtAddr {
        self.end
    }

    /// Length in pages.
    #[must_use]
    pub fn pages(&self) -> usize {
        ((self.end.as_u64() - self.start.as_u64()) >> PAGE_SHIFT) as usize
    }

    /// Whether it holds no page.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether `addr` lies in it.
    #[must_use]
    pub fn contains(&self, addr: VirtAddr) -> bool {
        self.start <= addr && addr < self.end
    }
}

impl fmt::Debug for VaRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start, self.end)
    }
}

/// Physical memory from `start` up to, not including, `end` (bytes; need not be page-aligned).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhysRange {
    /// First byte.
    pub start: PhysAddr,
    /// First byte past the range.
    pub end: PhysAddr,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding() {
        assert_eq!(pages_of(0), 0);
        assert_eq!(pages_of(4097), 2);
        assert_eq!(round_page(1), Some(4096));
        assert_eq!(round_page(u64::MAX), None);
        assert_eq!(trunc_page(8191), 4096);
    }

    #[test]
    fn frames_and_pages_convert() {
        let frame = Frame::containing(PhysAddr::new(0x1234_5678));
        assert_eq!(frame.number(), 0x12345);
        assert_eq!(frame.addr().as_u64(), 0x1234_5000);
        let vpn = Vpn::containing(VirtAddr::new(0x7fff_ffff_f123));
        assert_eq!(vpn.addr().as_u64(), 0x7fff_ffff_f000);
        assert_eq!(PageIndex::containing(4095), PageIndex(0));
    }

    #[test]
    #[should_panic(expected = "bad range")]
    fn unaligned_range_is_refused() {
        let _ = VaRange::new(VirtAddr::new(1), VirtAddr::new(4096));
    }
}
