//! Pages: what the system knows about each frame of RAM.
//!
//! # What this owns
//! One [`Page`] for each managed frame, in arrays that live in the managed memory itself
//! ([`PageArray`]), the lists of free frames ([`freelist`]) and the paging queues ([`queues`]).
//! It does not own page *contents* (see [`crate::phys`]) nor decide what is evicted.
//!
//! # How it synchronises
//! All fields of a `Page` are atomics, so that everything here is safe Rust; where a lock protects
//! a field the accesses are `Relaxed`, which on x86 are plain moves. Which lock that is:
//!
//! | field | lock |
//! |---|---|
//! | `flags` | the lock of the owner (object or anon); a page without owner belongs to whoever allocated it. Changes are atomic read-modify-writes, so that a bit is never lost |
//! | `owner`, `index` | owner's lock, *and* the page's identity lock to change or clear what is set ([`Page::owner_ref`]) |
//! | `wire`, `loan` | the owner's lock |
//! | `attrs` (modified, referenced) | none: atomic bits. Loaned: the owner's lock |
//! | `queue`, `next`, `prev` | on a paging queue: the queue lock. On a free list: the list's lock. Frames of the kernel's: their user |
//! | `pv`, `more` | the identity lock (a bit in `pv`), see [`crate::pmap::pv`] |
//!
//! # What holding a `&Page` does not prove
//! Nothing about the frame. `Page`s live as long as the machine: the frame may be free, owned by
//! someone else by now, or busy. Look only after taking the lock of the owner that you expect, and
//! check that it still is the owner.

mod array;
pub mod freelist;
pub(crate) mod fresh;
pub mod queues;

pub use array::{MAX_RANGES, PageArray};

use core::ptr::NonNull;
use core::sync::atomic::{
    AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

use bitflags::bitflags;

use crate::addr::PageIndex;
use crate::pmap::pv::PvEntry;

bitflags! {
    /// State of a page (UVM's PG_ flags).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PageFlags: u16 {
        /// One owner works on it; others wait ([`PageArray::busy_wait`]).
        const BUSY = 1 << 0;
        /// Somebody waits for BUSY to go.
        const WANTED = 1 << 1;
        /// The contents are not valid yet.
        const FAKE = 1 << 2;
        /// Backed by a hole: a write must fault to allocate.
        const RDONLY = 1 << 3;
        /// Free it when it is unbusied.
        const RELEASED = 1 << 4;
        /// The same, for the pagedaemon; can be cancelled.
        const PAGEOUT = 1 << 5;
        /// Equal to its backing store, if the pmap's modified bit is clear as well.
        const CLEAN = 1 << 6;
        /// Known to be all zeroes (fresh from the free list).
        const ZERO = 1 << 7;
        /// Anonymous memory.
        const ANON = 1 << 8;
        /// Belongs to an anonymous object.
        const AOBJ = 1 << 9;
        /// On a free list. Nobody else may touch page or frame.
        const FREE = 1 << 10;
        /// Holds objects of the kernel: page table, slab, heap, u-area. Never data.
        const KERNEL = 1 << 11;
        /// Not usable: a page array lives here.
        const RESERVED = 1 << 12;
        /// Free, but not on a global list: in some CPU's magazine, or on the way.
        const CACHED = 1 << 13;
        /// Text or other executable mapping of a file (for the pagedaemon's balance).
        const EXEC = 1 << 14;
        /// Met by `check` on a list, while it runs.
        const SEEN = 1 << 15;
    }
}

bitflags! {
    /// What the hardware noticed (collected from page table entries), and whether the page is on loan.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PageAttrs: u8 {
        /// Written to.
        const MODIFIED = 1 << 0;
        /// Read or written.
        const REFERENCED = 1 << 1;
        /// Some hold of it is a loan ([`crate::loan`]). Says nothing once no hold is left ([`Page::is_lent`]).
        const LOANED = 1 << 2;
        /// Read from its store and not yet seen in use by a scan: the first use that one finds is the one it was read for.
        const ONCE = 1 << 3;
    }
}

/// What kind of thing owns a page. The numbers are the tag in the owner word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum OwnerKind {
    /// Nothing: free, or on the way from one owner to another.
    None = 0,
    /// An anon.
    Anon = 1,
    /// A memory object.
    Object = 2,
    /// It is a page table of a pmap.
    Pmap = 3,
    /// It is a slab of a pool or of the heap.
    Slab = 4,
}

/// Something that can own pages.
///
/// # Safety
/// `KIND` is used by no other type. The address of an owner is a multiple of 8. A `Self` that is
/// set as a page's owner ([`Page::set_owner`]) stays valid memory until [`Page::clear_owner`] has
/// been called on all its pages.
pub unsafe trait PageOwner: Sized {
    /// The kind, one per type.
    const KIND: OwnerKind;
    /// What keeps a `Self` alive: a counted reference.
    type Handle;
    /// Makes a counted reference, unless the last one is gone already.
    ///
    /// # Safety
    /// `owner` points to a `Self` whose memory stays valid during the call; it may be dying.
    unsafe fn try_handle(owner: NonNull<Self>) -> Option<Self::Handle>;
}

/// In the loan count: the owner is gone, and the last loan frees the frame.
const ORPHAN: u16 = 1 << 15;

/// No frame: frame 0 is never managed.
pub(crate) const NIL: u32 = 0;

/// One frame's state. See the module's docs for who may change what.
///
/// Fields are private so that every change goes through a function that names its lock.
#[repr(C)]
pub struct Page {
    owner: AtomicU64,
    index: AtomicU64,
    pub(crate) pv: AtomicU64,
    pub(crate) more: AtomicPtr<PvEntry>,
    pub(crate) next: AtomicU32,
    pub(crate) prev: AtomicU32,
    flags: AtomicU16,
    pub(crate) queue: AtomicU8,
    attrs: AtomicU8,
    wire: AtomicU16,
    loan: AtomicU16,
}

const _: () = assert!(size_of::<Page>() <= 48);

impl Page {
    const fn new(flags: PageFlags) -> Self {
        Self {
            owner: AtomicU64::new(0),
            index: AtomicU64::new(0),
            pv: AtomicU64::new(0),
            more: AtomicPtr::new(core::ptr::null_mut()),
            next: AtomicU32::new(NIL),
            prev: AtomicU32::new(NIL),
            flags: AtomicU16::new(flags.bits()),
            queue: AtomicU8::new(0),
            attrs: AtomicU8::new(0),
            wire: AtomicU16::new(0),
            loan: AtomicU16::new(0),
        }
    }

    /// The flags as of now.
    #[inline]
    #[must_use]
    pub fn flags(&self) -> PageFlags {
        PageFlags::from_bits_retain(self.flags.load(Relaxed))
    }

    /// Whether all of `flags` are set.
    #[inline]
    #[must_use]
    pub fn has(&self, flags: PageFlags) -> bool {
        self.flags().contains(flags)
    }

    /// Sets flags; returns those of before. Caller holds the owner's lock.
    #[inline]
    pub fn set(&self, flags: PageFlags) -> PageFlags {
        PageFlags::from_bits_retain(self.flags.fetch_or(flags.bits(), Relaxed))
    }

    /// Clears flags; returns those of before. Caller holds the owner's lock. For BUSY see
    /// [`crate::Uvm::unbusy`].
    #[inline]
    pub fn clear(&self, flags: PageFlags) -> PageFlags {
        PageFlags::from_bits_retain(self.flags.fetch_and(!flags.bits(), Relaxed))
    }

    /// Replaces all flags of a page of which nobody else knows.
    #[inline]
    pub fn reset_flags(&self, flags: PageFlags) {
        self.flags.store(flags.bits(), Relaxed);
    }

    /// Replaces all flags; returns those of before.
    #[inline]
    pub(crate) fn swap_flags(&self, flags: PageFlags) -> PageFlags {
        PageFlags::from_bits_retain(self.flags.swap(flags.bits(), Relaxed))
    }

    /// Whether someone has it busy.
    #[inline]
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.has(PageFlags::BUSY)
    }

    /// Makes an unbusy page busy. Caller holds the owner's lock.
    #[inline]
    pub fn set_busy(&self) {
        let old = self.set(PageFlags::BUSY);
        debug_assert!(!old.contains(PageFlags::BUSY), "page is busy already");
    }

    /// Makes it busy unless it is. Caller holds the owner's lock.
    #[inline]
    #[must_use]
    pub fn try_busy(&self) -> bool {
        !self.set(PageFlags::BUSY).contains(PageFlags::BUSY)
    }

    /// Makes `owner` the owner of a page that has none. Caller holds the owner's lock, or is its
    /// only user yet.
    ///
    /// # Safety
    /// `owner` fulfils [`PageOwner`]'s promise: it clears itself from the page before it dies.
    #[inline]
    pub unsafe fn set_owner<T: PageOwner>(&self, owner: NonNull<T>, index: PageIndex) {
        debug_assert!(self.owner.load(Relaxed) == 0, "page has an owner");
        self.index.store(index.0, Relaxed);
        self.owner
            .store(owner.as_ptr() as u64 | T::KIND as u64, Release);
    }

    /// Makes `owner` the owner in place of the present one, whose lock is held as well.
    ///
    /// # Safety
    /// As for [`Self::set_owner`].
    pub unsafe fn change_owner<T: PageOwner>(&self, owner: NonNull<T>, index: PageIndex) {
        self.clear_owner();
        // SAFETY: the caller's promise.
        unsafe { self.set_owner(owner, index) };
    }

    /// Takes the owner off. Caller holds its lock. Waits out whoever is in [`Self::owner_ref`].
    #[inline]
    pub fn clear_owner(&self) {
        let guard = self.lock_identity();
        self.owner.store(0, Relaxed);
        drop(guard);
    }

    /// What owns it as of now, without looking at the owner.
    #[inline]
    #[must_use]
    pub fn owner_kind(&self) -> OwnerKind {
        match self.owner.load(Relaxed) & 7 {
            0 => OwnerKind::None,
            1 => OwnerKind::Anon,
            2 => OwnerKind::Object,
            3 => OwnerKind::Pmap,
            _ => OwnerKind::Slab,
        }
    }

    /// Its offset in its owner.
    #[inline]
    #[must_use]
    pub fn index(&self) -> PageIndex {
        PageIndex(self.index.load(Relaxed))
    }

    /// Whether `owner` owns it, at offset `index`.
    #[must_use]
    pub fn is_owned_by<T: PageOwner>(&self, owner: NonNull<T>, index: PageIndex) -> bool {
        self.owner.load(Acquire) == owner.as_ptr() as u64 | T::KIND as u64 && self.index() == index
    }

    /// A counted reference to the owner, if it is a `T` and not dying: how the pagedaemon gets from
    /// a frame to what to lock. The page may have left the owner by the time that it is locked;
    /// check again.
    #[must_use]
    pub fn owner_ref<T: PageOwner>(&self) -> Option<T::Handle> {
        self.lock_identity().owner_ref::<T>()
    }

    /// The owner word as a pointer, if the owner is of kind `T::KIND`.
    #[inline]
    pub(crate) fn owner_ptr<T: PageOwner>(&self) -> Option<NonNull<T>> {
        let word = self.owner.load(Acquire);
        if word & 7 == T::KIND as u64 {
            NonNull::new((word & !7) as *mut T)
        } else {
            None
        }
    }

    /// How many wirings hold it in memory.
    #[inline]
    #[must_use]
    pub fn wire_count(&self) -> u16 {
        self.wire.load(Relaxed)
    }

    /// How many loans there are of it.
    #[inline]
    #[must_use]
    pub fn loan_count(&self) -> u16 {
        self.loan.load(Relaxed) & !ORPHAN
    }

    /// Whether a loan forbids to write to it in place. Clears a LOANED that no hold is left of. Caller holds the owner's lock, or
    /// has a loan of the page.
    #[inline]
    #[must_use]
    pub fn is_lent(&self) -> bool {
        self.attrs().contains(PageAttrs::LOANED) && self.is_still_lent()
    }

    #[cold]
    #[inline(never)]
    fn is_still_lent(&self) -> bool {
        // Acquire: what the borrower read was read before anything is written.
        let lent = self.loan.load(Acquire) & !ORPHAN != 0;
        if !lent {
            self.clear_attrs(PageAttrs::LOANED);
        }
        lent
    }

    /// Turns the caller's loan of a page that has lost its owner into the right to be the next one: the loan is given up. `false`:
    /// it has an owner, or is about to lose it.
    #[must_use]
    pub(crate) fn adopt(&self) -> bool {
        let adopted = |n: u16| (n & ORPHAN != 0).then(|| (n & !ORPHAN) - 1);
        self.loan.fetch_update(AcqRel, Acquire, adopted).is_ok()
    }

    /// One loan more. Caller holds the owner's lock, or has a loan already.
    pub(crate) fn loan(&self) {
        self.loan.fetch_add(1, Relaxed);
    }

    /// One loan less, whoever owns the page by now. Whether the frame must be freed: it is an
    /// orphan, and this was the last loan.
    #[must_use]
    pub(crate) fn unloan(&self) -> bool {
        let last = self.loan.fetch_sub(1, AcqRel) == ORPHAN + 1;
        if last {
            self.loan.store(0, Relaxed);
        }
        last
    }

    /// Notes that the page has lost its owner for good. Whether the frame must be freed now; else
    /// the last [`Self::unloan`] says so.
    #[must_use]
    #[inline]
    pub(crate) fn orphan(&self) -> bool {
        // Nobody has a loan, and nobody gets one: the owner is locked.
        if self.loan.load(Acquire) == 0 {
            return true;
        }
        let free = self.loan.fetch_or(ORPHAN, AcqRel) == 0;
        if free {
            self.loan.store(0, Relaxed);
        }
        free
    }

    /// Modified and referenced as collected so far; page table entries may know more
    /// ([`crate::Uvm::is_modified`]).
    #[inline]
    #[must_use]
    pub fn attrs(&self) -> PageAttrs {
        PageAttrs::from_bits_retain(self.attrs.load(Relaxed))
    }

    #[inline]
    pub(crate) fn set_wire_count(&self, n: u16) {
        self.wire.store(n, Relaxed);
    }

    /// Takes a freed page's state down to nothing: the flags become `free`; those of before are
    /// returned.
    #[inline]
    pub(crate) fn retire(&self, free: PageFlags) -> PageFlags {
        debug_assert!(self.owner.load(Relaxed) == 0, "freed page has an owner");
        debug_assert!(!self.is_mapped(), "freed page is mapped");
        debug_assert!(
            self.wire_count() == 0 && self.loan_count() == 0,
            "freed page is wired or on loan"
        );
        self.attrs.store(0, Relaxed);
        self.swap_flags(free)
    }

    #[inline]
    pub(crate) fn note_attrs(&self, attrs: PageAttrs) {
        // Loading first keeps the cache line shared when there is no news.
        if !self.attrs().contains(attrs) {
            self.attrs.fetch_or(attrs.bits(), Relaxed);
        }
    }

    #[inline]
    pub(crate) fn clear_attrs(&self, attrs: PageAttrs) -> bool {
        self.attrs().intersects(attrs)
            && self.attrs.fetch_and(!attrs.bits(), Relaxed) & attrs.bits() != 0
    }
}

#[cfg(test)]
mod tests;
