//! A map entry: one range of addresses with one backing and one set of attributes.
//!
//! Owns a reference to its object and to its amap (for its range of slots). It is changed only under its map's write lock.

use core::ops::Range;

use super::grow::STACK_GAP;
use super::tree::Span;
use crate::addr::{Frame, PAGE_SHIFT, PAGE_SIZE, PageIndex, VaRange, VirtAddr};
use crate::amap::Amap;
use crate::object::{Behind, UvmObject};
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

/// A page-aligned address of the user half, in five bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageAligned([u8; 5]);

impl PageAligned {
    pub(crate) fn new(address: u64) -> Self {
        let page = address >> PAGE_SHIFT;
        debug_assert!(page >> 40 == 0 && address == page << PAGE_SHIFT);
        let [a, b, c, d, e, ..] = page.to_le_bytes();
        Self([a, b, c, d, e])
    }

    pub(crate) fn address(self) -> u64 {
        let [a, b, c, d, e] = self.0;
        u64::from_le_bytes([a, b, c, d, e, 0, 0, 0]) << PAGE_SHIFT
    }
}

/// What is special about an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Nothing.
    Plain,
    /// It grows down when something below it is touched; its size is measured up to `top`.
    Stack {
        /// Where it ended when it was made.
        top: PageAligned,
    },
    /// It keeps a place free for what is on its way from another map, and never becomes part of another.
    Reserved,
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
    pub(crate) role: Role,
}

/// [`MapEntry::wired_to`] of an entry that is wired, whatever becomes of its ends.
pub(crate) const WIRED_ALL: u64 = u64::MAX;

impl MapEntry {
    /// What a node holds that is only memory for an entry to come.
    pub(crate) fn blank() -> Self {
        Self {
            start: 0,
            end: PAGE_SIZE as u64,
            object: None,
            offset: PageIndex(0),
            amap: None,
            slot: 0,
            prot: Prot::empty(),
            max_prot: Prot::empty(),
            inherit: Inherit::None,
            advice: Advice::Normal,
            copy_on_write: true,
            needs_copy: true,
            wired: 0,
            wired_to: 0,
            role: Role::Plain,
        }
    }

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

    /// What a child gets of it.
    pub(crate) fn inheritance(&self) -> Inherit {
        match self.inherit {
            Inherit::Copy => self.copied(),
            inherit => inherit,
        }
    }

    /// What a copy of it is. A device's memory cannot be copied: it is shared.
    pub(crate) fn copied(&self) -> Inherit {
        match self.is_device() {
            true => Inherit::Share,
            false => Inherit::Copy,
        }
    }

    /// Whether it shows a device's memory.
    pub(crate) fn is_device(&self) -> bool {
        self.object.as_ref().is_some_and(|o| o.is_device())
    }

    /// The frame of a device that it shows at `va`; `None` past the device's end too.
    pub(crate) fn device_frame(&self, va: u64) -> Option<Frame> {
        let (object, index) = (self.object.as_ref()?, self.index_of(va).0);
        match object.behind() {
            Behind::Device(first) if index < object.pages() => Some(first.offset(index as u32)),
            _ => None,
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

    /// Its attributes and range, showing nothing.
    pub(crate) fn bare(&self) -> Self {
        Self {
            object: None,
            amap: None,
            ..*self
        }
    }

    /// What `len` bytes behind it would be if it went on: untouched and not wired.
    pub(crate) fn continuation(&self, len: u64) -> Self {
        Self {
            start: self.end,
            end: self.end + len,
            object: self.object.clone(),
            offset: self.offset + self.pages(),
            needs_copy: self.copy_on_write || self.object.is_none(),
            wired: 0,
            wired_to: 0,
            ..self.bare()
        }
    }

    /// The slots of its amap that it shows.
    pub(crate) fn slots(&self) -> Range<u64> {
        self.slot..self.slot + self.pages()
    }

    /// Whether who copies its memory must do so at once: "needs copy" on a shared amap would take it from the partners, and wired pages
    /// must not fault.
    pub(crate) fn copies_at_once(&self) -> bool {
        let shared = self.amap.as_ref().is_some_and(|amap| amap.is_shared());
        self.wired > 0 || shared && !self.needs_copy
    }

    /// Whether it has no amap yet and gets one with the first write.
    pub(crate) fn is_untouched(&self) -> bool {
        self.amap.is_none() && self.needs_copy
    }

    /// Whether `next` continues this entry in everything but its amap.
    pub(crate) fn continues_in(&self, next: &Self) -> bool {
        self.end == next.start
            && self.prot == next.prot
            && self.max_prot == next.max_prot
            && self.inherit == next.inherit
            && self.advice == next.advice
            && self.copy_on_write == next.copy_on_write
            && self.wired == next.wired
            && self.wired_to == next.wired_to
            && self.role == next.role
            && self.role != Role::Reserved
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
    fn margin(&self) -> u64 {
        match self.role {
            Role::Stack { .. } => STACK_GAP,
            Role::Plain | Role::Reserved => 0,
        }
    }
}
