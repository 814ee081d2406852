//! Page table entries, and walks from the root to a leaf table.
//!
//! Owns no state. Entries are changed by atomic operations wherever the hardware may set the
//! accessed and dirty bits at the same time, so that no such bit is ever lost. Table frames' pages
//! use `prev` for the number of entries in use and `next` to link tables that wait to be freed.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{EnterFlags, Mapping};
use crate::Uvm;
use crate::addr::{Frame, PAGE_SHIFT, Vpn};
use crate::page::PageAttrs;
use crate::phys::{PhysMem, Table};
use crate::prot::Prot;

/// Entries of a table.
pub(super) const ENTRIES: u64 = 512;
/// Levels below the root: the root is level 3, leaf tables are level 0.
pub(super) const ROOT_LEVEL: u32 = 3;

const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
/// Software: the mapping is wired.
const WIRED: u64 = 1 << 9;
const NO_EXEC: u64 = 1 << 63;
const ADDR: u64 = 0x000f_ffff_ffff_f000;

/// A page table entry's value. 0 is "nothing".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pte(pub(crate) u64);

impl Pte {
    /// A user mapping.
    #[inline]
    pub(super) fn user(frame: Frame, prot: Prot, flags: EnterFlags) -> Self {
        let mut bits = Self::bits(frame, prot) | USER;
        if flags.intersects(EnterFlags::READ.union(EnterFlags::WRITE)) {
            bits |= ACCESSED;
        }
        if flags.contains(EnterFlags::WRITE) {
            bits |= DIRTY;
        }
        if flags.contains(EnterFlags::WIRED) {
            bits |= WIRED;
        }
        Self(bits)
    }

    /// A kernel mapping. Accessed and dirty from the start: nobody asks, and it saves the
    /// hardware's writes.
    pub(super) fn kernel(frame: Frame, prot: Prot) -> Self {
        Self(Self::bits(frame, prot) | ACCESSED | DIRTY | WIRED)
    }

    fn bits(frame: Frame, prot: Prot) -> u64 {
        let mut bits = u64::from(frame.number()) << PAGE_SHIFT | PRESENT;
        if prot.contains(Prot::WRITE) {
            bits |= WRITE;
        }
        if !prot.contains(Prot::EXEC) {
            bits |= NO_EXEC;
        }
        bits
    }

    /// An entry that points to a lower table. Rights are decided at the leaf.
    fn table(frame: Frame, user: bool) -> Self {
        let user = if user { USER } else { 0 };
        Self(u64::from(frame.number()) << PAGE_SHIFT | PRESENT | WRITE | ACCESSED | user)
    }

    pub(crate) fn is_present(self) -> bool {
        self.0 & PRESENT != 0
    }

    pub(crate) fn is_large(self) -> bool {
        self.0 & LARGE != 0
    }

    pub(crate) fn frame(self) -> Frame {
        Frame::new(((self.0 & ADDR) >> PAGE_SHIFT) as u32)
    }

    pub(crate) fn is_wired(self) -> bool {
        self.0 & WIRED != 0
    }

    pub(super) fn is_writable(self) -> bool {
        self.0 & WRITE != 0
    }

    /// The same, and it may be written.
    pub(super) fn writable(self) -> Self {
        Self(self.0 | WRITE)
    }

    /// What the hardware noted.
    pub(crate) fn attrs(self) -> PageAttrs {
        let mut attrs = PageAttrs::empty();
        attrs.set(PageAttrs::REFERENCED, self.0 & ACCESSED != 0);
        attrs.set(PageAttrs::MODIFIED, self.0 & DIRTY != 0);
        attrs
    }

    pub(super) fn with_attrs_of(self, other: Self) -> Self {
        Self(self.0 | other.0 & (ACCESSED | DIRTY))
    }

    pub(super) fn without_attrs(self, attrs: PageAttrs) -> Self {
        let mut bits = self.0;
        if attrs.contains(PageAttrs::REFERENCED) {
            bits &= !ACCESSED;
        }
        if attrs.contains(PageAttrs::MODIFIED) {
            bits &= !DIRTY;
        }
        Self(bits)
    }

    pub(super) fn unwired(self) -> Self {
        Self(self.0 & !WIRED)
    }

    /// The same with no more than `prot` allowed.
    pub(super) fn restricted(self, prot: Prot) -> Self {
        let mut bits = self.0;
        if !prot.contains(Prot::WRITE) {
            bits &= !WRITE;
        }
        if !prot.contains(Prot::EXEC) {
            bits |= NO_EXEC;
        }
        Self(bits)
    }

    /// Whether a cached copy of `self` would allow what `new` does not.
    pub(super) fn is_tightened_by(self, new: Self) -> bool {
        self.0 & WRITE > new.0 & WRITE || self.0 & NO_EXEC < new.0 & NO_EXEC
    }

    /// Puts it in place of a translation of the same frame that is not wired and allows nothing beyond it; whether there was one. What the
    /// hardware noted there stays.
    #[inline]
    pub(super) fn widens(self, slot: &AtomicU64) -> bool {
        let frame = self.frame();
        let wider = |old: Pte| {
            let ours = old.0 != 0 && old.frame() == frame && !old.is_wired();
            (ours && !old.is_tightened_by(self)).then(|| self.with_attrs_of(old))
        };
        change(slot, wider).is_some()
    }

    pub(crate) fn prot(self) -> Prot {
        let mut prot = Prot::READ;
        prot.set(Prot::WRITE, self.0 & WRITE != 0);
        prot.set(Prot::EXEC, self.0 & NO_EXEC == 0);
        prot
    }

    pub(super) fn mapping(self) -> Mapping {
        Mapping {
            frame: self.frame(),
            prot: self.prot(),
            wired: self.is_wired(),
            referenced: self.attrs().contains(PageAttrs::REFERENCED),
            modified: self.attrs().contains(PageAttrs::MODIFIED),
        }
    }
}

/// What the simulated hardware does with an entry (see `testing`).
#[cfg(any(test, feature = "testing"))]
impl Pte {
    pub(crate) const ACCESSED: u64 = ACCESSED;
    pub(crate) const DIRTY: u64 = DIRTY;

    pub(crate) fn is_user(self) -> bool {
        self.0 & USER != 0
    }
}

/// Changes an entry by compare-and-swap until it sticks; `None` from `change` leaves it. Returns
/// the old value if it was changed.
pub(super) fn change(slot: &AtomicU64, mut change: impl FnMut(Pte) -> Option<Pte>) -> Option<Pte> {
    slot.fetch_update(Relaxed, Relaxed, |old| change(Pte(old)).map(|new| new.0))
        .ok()
        .map(Pte)
}

/// Position in the table of `level` on the way to a page.
#[inline]
pub(super) fn index(vpn: Vpn, level: u32) -> usize {
    (vpn.number() >> (9 * level) & (ENTRIES - 1)) as usize
}

/// Pages that one entry of a table of `level` spans.
pub(super) fn span(level: u32) -> u64 {
    1 << (9 * level)
}

/// Where a walk without allocation ended.
pub(super) enum Walk<'a> {
    /// The leaf table and its frame.
    Leaf(&'a Table, Frame),
    /// A large page in the way (kernel half only).
    Large,
    /// Nothing is mapped from here to the page returned, exclusive.
    Hole(Vpn),
}

/// Walks from `root` to the leaf table for `vpn`.
///
/// # Safety
/// `root` is a root table, and no table on the way is freed during `'a`: the caller holds the
/// pmap's lock, or the identity lock of a page that is listed as mapped here.
pub(super) unsafe fn walk<'a>(phys: &PhysMem, root: Frame, vpn: Vpn) -> Walk<'a> {
    let mut frame = root;
    for level in (1..=ROOT_LEVEL).rev() {
        // SAFETY: the caller's promise.
        let table = unsafe { phys.table(frame) };
        let entry = Pte(table.0[index(vpn, level)].load(Relaxed));
        if !entry.is_present() {
            let next = (vpn.number() / span(level) + 1) * span(level);
            return Walk::Hole(Vpn::new(next));
        }
        if entry.is_large() {
            return Walk::Large;
        }
        frame = entry.frame();
    }
    // SAFETY: as above.
    Walk::Leaf(unsafe { phys.table(frame) }, frame)
}

/// The same, making the tables that are missing.  `make` returns a zeroed frame for a table.
/// Returns `None` if it could not.
///
/// # Safety
/// As for [`walk`], and the caller holds the pmap's lock.
pub(super) unsafe fn walk_making<'a>(
    uvm: &Uvm,
    root: Frame,
    vpn: Vpn,
    user: bool,
    mut make: impl FnMut() -> Option<Frame>,
) -> Option<(&'a Table, Frame)> {
    let phys = uvm.phys();
    let mut frame = root;
    for level in (1..=ROOT_LEVEL).rev() {
        // SAFETY: the caller's promise.
        let table = unsafe { phys.table(frame) };
        let slot = &table.0[index(vpn, level)];
        let entry = Pte(slot.load(Relaxed));
        assert!(!entry.is_large(), "a large page at {:?}", vpn.addr());
        frame = if entry.is_present() {
            entry.frame()
        } else {
            let lower = make()?;
            slot.store(Pte::table(lower, user).0, Relaxed);
            // Tables from before uvm's time are not managed and never freed.
            if let Some(page) = uvm.pages().get(frame) {
                page.prev.fetch_add(1, Relaxed);
            }
            lower
        };
    }
    // SAFETY: as above.
    Some((unsafe { phys.table(frame) }, frame))
}
