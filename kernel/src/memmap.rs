//! Which physical memory there is and which of it is free: arithmetic on ranges, used at boot until uvm takes
//! what is left.

use core::fmt;

use arrayvec::ArrayVec;

const PAGE: u64 = 4096;

/// Physical addresses from `start` up to `end`, in bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Range {
    start: u64,
    end: u64,
}

impl Range {
    /// `size` bytes at `start`.
    pub const fn new(start: u64, size: u64) -> Range {
        Range {
            start,
            end: start + size,
        }
    }

    /// First byte.
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// First byte behind it.
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// Bytes.
    pub const fn size(&self) -> u64 {
        self.end - self.start
    }
}

impl fmt::Debug for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start, self.end)
    }
}

/// RAM and the free part of it. Free ranges are whole pages, sorted, and do not touch the first MiB, which is left to
/// the BIOS's tables and to the code that starts further CPUs.
pub struct MemoryMap {
    ram: ArrayVec<Range, { MemoryMap::CAPACITY }>,
    free: ArrayVec<Range, { MemoryMap::CAPACITY }>,
}

impl MemoryMap {
    /// Most ranges that are kept; more are ignored (that memory stays unused).
    pub const CAPACITY: usize = 64;
    const LOW_END: u64 = 1 << 20;

    /// Takes start and size in bytes of each range of RAM, in any order.
    pub fn new(ram: impl Iterator<Item = (u64, u64)>) -> MemoryMap {
        let mut map = MemoryMap {
            ram: ArrayVec::new(),
            free: ArrayVec::new(),
        };
        for (start, size) in ram {
            let first = start.max(Self::LOW_END).next_multiple_of(PAGE);
            let end = (start + size) & !(PAGE - 1);
            if first < end && !map.ram.is_full() {
                map.ram.push(Range { start: first, end });
            }
        }
        map.ram.sort_unstable_by_key(Range::start);
        map.free = map.ram.clone();
        map
    }

    /// All RAM above the first MiB, sorted.
    pub fn ram(&self) -> &[Range] {
        &self.ram
    }

    /// What nobody has taken or reserved, sorted.
    pub fn free(&self) -> &[Range] {
        &self.free
    }

    /// Takes every page that `range` touches out of the free memory.
    pub fn reserve(&mut self, range: Range) {
        if range.size() == 0 {
            return;
        }
        let start = range.start & !(PAGE - 1);
        let end = range.end.next_multiple_of(PAGE);
        let before = core::mem::take(&mut self.free);
        for free in before {
            for part in [
                Range {
                    start: free.start,
                    end: free.end.min(start),
                },
                Range {
                    start: free.start.max(end),
                    end: free.end,
                },
            ] {
                if part.start < part.end && !self.free.is_full() {
                    self.free.push(part);
                }
            }
        }
    }

    /// Takes `size` bytes, aligned to `align` (a power of two, at least a page) and ending below `limit`, from the lowest
    /// free memory that has them. Gives the physical address.
    pub fn take(&mut self, size: u64, align: u64, limit: u64) -> Option<u64> {
        let size = size.next_multiple_of(PAGE);
        let start = self.free.iter().find_map(|free| {
            let start = free.start.next_multiple_of(align);
            (start + size <= free.end.min(limit)).then_some(start)
        })?;
        self.reserve(Range::new(start, size));
        Some(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> MemoryMap {
        MemoryMap::new(
            [
                (0x10_0000, 0x70_0000),
                (0, 0x9_fc00),
                (0x1_0000_0000, 0x1000),
            ]
            .into_iter(),
        )
    }

    #[test]
    fn whole_pages_above_the_first_mib() {
        let map = MemoryMap::new([(0, 0x9_fc00), (0x10_0800, 0x2000)].into_iter());
        assert_eq!(
            map.ram(),
            [Range {
                start: 0x10_1000,
                end: 0x10_2000
            }]
        );
    }

    #[test]
    fn reserving_cuts_holes() {
        let mut map = map();
        map.reserve(Range::new(0x20_0001, 1));
        map.reserve(Range::new(0x10_0000, 0x1000));
        map.reserve(Range::new(0, 0));
        assert_eq!(
            map.free(),
            [
                Range {
                    start: 0x10_1000,
                    end: 0x20_0000
                },
                Range {
                    start: 0x20_1000,
                    end: 0x80_0000
                },
                Range {
                    start: 0x1_0000_0000,
                    end: 0x1_0000_1000
                },
            ]
        );
        map.reserve(Range::new(0, !0xfff));
        assert!(map.free().is_empty());
        assert_eq!(map.ram().len(), 2);
    }

    #[test]
    fn taking_respects_alignment_and_limit() {
        let mut map = map();
        assert_eq!(map.take(1, PAGE, u64::MAX), Some(0x10_0000));
        assert_eq!(map.take(0x20_0000, 0x20_0000, u64::MAX), Some(0x20_0000));
        assert_eq!(map.take(0x10_0000, PAGE, 0x20_0000), None);
        assert_eq!(map.take(0x1000, 1 << 30, u64::MAX), Some(0x1_0000_0000));
        assert_eq!(map.take(0x1000, 1 << 30, u64::MAX), None);
    }
}
