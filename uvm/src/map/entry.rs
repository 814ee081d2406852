//! A map entry: one range of addresses with one backing and one set of attributes.
//!
//! Owns a reference to its object and to its amap (for its range of slots). It is changed only under its map's write lock.

use super::tree::Span;
use crate::addr::{PAGE_SHIFT, PageIndex, VaRange, VirtAddr};
use crate::amap::Amap;
use crate::object::UvmObject;
use crate::pool::Ref;
use crate::prot::Prot;

/// What a child gets of a range at fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Inherit {
    /// The same memory.
    Share,
    /// A copy, made when either side writes.
    #[default]
    Copy,
    /// Nothing.
    None,
    /// Zeroes.
    Zero,
}

/// How a range will be used: decides how many neighbours a fault maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Advice {
    /// Nothing known.
    #[default]
    Normal,
    /// No order: no neighbours, no read-ahead.
    Random,
    /// In order.
    Sequential,
}

impl Advice {
    /// Pages to look at behind and ahead of a faulting one.
    #[must_use]
    pub const fn window(self) -> (u64, u64) {
        match self {
            Self::Normal => (3, 4),
            Self::Random => (0, 0),
            Self::Sequential => (8, 7),
        }
    }
}

/// One range of a map.
pub struct MapEntry {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// What lies below the amap; `None` means zeroes.
    pub(crate) object: Option<Ref<UvmObject>>,
    /// Page of `object` that `start` shows.
    pub(crate) offset: PageIndex,
    /// Anonymous pages on top.
    pub(crate) amap: Option<Ref<Amap>>,
    /// Slot of `amap` that `start` shows.
    pub(crate) slot: u64,
    pub(crate) prot: Prot,
    pub(crate) max_prot: Prot,
    pub(crate) inherit: Inherit,
    pub(crate) advice: Advice,
    /// Private: a write goes to an anonymous page. Otherwise to the object, or to the amap that all share.
    pub(crate) copy_on_write: bool,
    /// The amap, if there is one, is not this entry's own yet: copy it before the first write.
    pub(crate) needs_copy: bool,
    /// How many times it is wired.
    pub(crate) wired: u16,
    /// Its pages below this address are wired: [`WIRED_ALL`] if `wired` is not 0, else 0; or some address, at least the start when it
    /// is set, while wiring is under way (see [`crate::map::wire`]).
    pub(crate) wired_to: u64,
}

/// [`MapEntry::wired_to`] of an entry that is wired, whatever becomes of its ends.
pub(crate) const WIRED_ALL: u64 = u64::MAX;

impl MapEntry {
    /// Its addresses.
    #[must_use]
    pub fn range(&self) -> VaRange {
        VaRange::new(
            VirtAddr::new_truncate(self.start),
            VirtAddr::new_truncate(self.end),
        )
    }

    /// Its length in pages.
    #[must_use]
    pub fn pages(&self) -> u64 {
        (self.end - self.start) >> PAGE_SHIFT
    }

    /// What a child gets of it. A device's memory cannot be copied: a child shares it.
    pub(crate) fn inheritance(&self) -> Inherit {
        match self.inherit {
            Inherit::Copy if self.object.as_ref().is_some_and(|o| o.is_device()) => Inherit::Share,
            inherit => inherit,
        }
    }

    /// Slot of the amap for an address in the entry.
    #[inline]
    pub(crate) fn slot_of(&self, va: u64) -> u64 {
        self.slot + ((va - self.start) >> PAGE_SHIFT)
    }

    /// Page of the object for an address in the entry.
    #[inline]
    pub(crate) fn index_of(&self, va: u64) -> PageIndex {
        self.offset + ((va - self.start) >> PAGE_SHIFT)
    }

    /// Whether `next` continues this entry in everything but its amap.
    pub(crate) fn continues_in(&self, next: &Self) -> bool {
        self.end == next.start
            && self.prot == next.prot
            && self.max_prot == next.max_prot
            && self.inherit == next.inherit
            && self.advice == next.advice
            && self.copy_on_write == next.copy_on_write
            && self.needs_copy == next.needs_copy
            && self.wired == next.wired
            && self.wired_to == next.wired_to
            && !self.is_marked()
            && match (&self.object, &next.object) {
                (None, None) => true,
                (Some(a), Some(b)) => {
                    Ref::ptr_eq(a, b) && self.offset + self.pages() == next.offset
                }
                _ => false,
            }
    }
}

impl Span for MapEntry {
    fn start(&self) -> u64 {
        self.start
    }
    fn end(&self) -> u64 {
        self.end
    }
}
