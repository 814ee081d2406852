//! Reverse mappings: from a page to the page table entries that map it.
//!
//! # What this owns
//! `Page::pv` and `Page::more`. Most pages are mapped once, and that mapping stands in `pv` itself:
//!
//! ```text
//! bit 63     62       61 .. 35        34 .. 0
//!     LOCK   MORE     root frame      virtual page number        0 = not mapped
//! ```
//!
//! The root table's frame names the pmap (its page's owner). Further mappings are [`PvEntry`]s from
//! a pool, in a list that `more` heads; MORE says that there are any. `pv` is 0 exactly if there is
//! no mapping at all.
//!
//! # How it synchronises
//! LOCK is the page's *identity lock*, a spin bit that also guards the page's owner word. It comes
//! after the pmap's lock: enter and remove take both. The first mapping of a page goes in, and the
//! only one comes out, by one compare-and-swap without taking it.
//!
//! Who goes the other way, from a page to its mappings ([`Uvm::page_protect`] and the modified and
//! referenced bits), holds only the identity lock, and may change page table entries under it. This
//! is safe because a mapping is listed here *before* its entry is written and taken off *after* its
//! entry is cleared: while it is listed, and the lock is held, the tables on the way to it cannot
//! go. An entry that is listed but not there is being entered or removed by another CPU this very
//! moment, and the walker lets go and tries again.

use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::Uvm;
use crate::addr::{Frame, Vpn};
use crate::lock::{Held, IDENTITY};
use crate::page::{Page, PageOwner};
use crate::pool::{OutOfMemory, PoolBox};

const LOCK: u64 = 1 << 63;
const MORE: u64 = 1 << 62;
const ROOT_SHIFT: u32 = 35;
const VPN_MASK: u64 = (1 << ROOT_SHIFT) - 1;
const MAPPING_MASK: u64 = MORE - 1;
/// Root tables must lie below this frame (512 GiB of RAM).
pub(crate) const ROOT_LIMIT: u32 = 1 << 27;

/// A reverse mapping beyond a page's first.
pub struct PvEntry {
    mapping: u64,
    next: Option<NonNull<PvEntry>>,
}

// SAFETY: entries are reached only under the identity lock of the page whose list they are in.
unsafe impl Send for PvEntry {}
// SAFETY: as above.
unsafe impl Sync for PvEntry {}

fn pack(root: Frame, vpn: Vpn) -> u64 {
    debug_assert!(root.number() < ROOT_LIMIT && vpn.number() <= VPN_MASK);
    u64::from(root.number()) << ROOT_SHIFT | vpn.number()
}

fn unpack(mapping: u64) -> (Frame, Vpn) {
    let mapping = mapping & MAPPING_MASK;
    (
        Frame::new((mapping >> ROOT_SHIFT) as u32),
        Vpn::new(mapping & VPN_MASK),
    )
}

/// Holds a page's identity lock.
pub(crate) struct Identity<'a> {
    page: &'a Page,
    /// What `pv` shall be when the lock is released: LOCK not in it.
    word: u64,
    // Last: it counts as held until it is not.
    _held: Held<IDENTITY>,
}

impl Drop for Identity<'_> {
    fn drop(&mut self) {
        self.page.pv.store(self.word, Release);
    }
}

impl Page {
    /// Takes the identity lock, spinning.
    #[inline]
    pub(crate) fn lock_identity(&self) -> Identity<'_> {
        let held = Held::in_order();
        loop {
            let word = self.pv.fetch_or(LOCK, Acquire);
            if word & LOCK == 0 {
                return Identity {
                    page: self,
                    word,
                    _held: held,
                };
            }
            while self.pv.load(Relaxed) & LOCK != 0 {
                core::hint::spin_loop();
            }
        }
    }

    /// Whether any address space maps it, as of now.
    #[must_use]
    pub fn is_mapped(&self) -> bool {
        self.pv.load(Relaxed) & !LOCK != 0
    }

    /// Lists a mapping of a page that has none; `false` if it has some. The caller holds the pmap's
    /// lock.
    #[inline]
    pub(crate) fn pv_insert_first(&self, root: Frame, vpn: Vpn) -> bool {
        let mapping = pack(root, vpn);
        self.pv
            .compare_exchange(0, mapping, Release, Relaxed)
            .is_ok()
    }

    /// Lists a mapping. It must not be listed yet. The caller holds the pmap's lock.
    pub(crate) fn pv_insert(&self, uvm: &Uvm, root: Frame, vpn: Vpn) -> Result<(), OutOfMemory> {
        if self.pv_insert_first(root, vpn) {
            return Ok(());
        }
        self.pv_insert_more(uvm, pack(root, vpn))
    }

    #[cold]
    fn pv_insert_more(&self, uvm: &Uvm, mapping: u64) -> Result<(), OutOfMemory> {
        // Allocated before the lock is taken: a slab may have to be made.
        let mut entry = uvm.pv_pool.alloc(
            uvm,
            PvEntry {
                mapping,
                next: None,
            },
        )?;
        let mut identity = self.lock_identity();
        if identity.word == 0 {
            identity.word = mapping;
        } else {
            entry.next = NonNull::new(self.more.load(Relaxed));
            self.more.store(PoolBox::into_raw(entry).as_ptr(), Relaxed);
            identity.word |= MORE;
        }
        Ok(())
    }

    /// Takes a mapping off the list; `false` if it is not there any more, because
    /// `page_protect` was faster. The caller holds the pmap's lock.
    #[inline]
    pub(crate) fn pv_remove(&self, root: Frame, vpn: Vpn) -> bool {
        let mapping = pack(root, vpn);
        if self
            .pv
            .compare_exchange(mapping, 0, Release, Relaxed)
            .is_ok()
        {
            return true;
        }
        self.lock_identity().remove(mapping)
    }
}

impl Identity<'_> {
    /// All mappings, as (root table, virtual page).
    pub(crate) fn mappings(&self) -> impl Iterator<Item = (Frame, Vpn)> + '_ {
        let first = (self.word != 0).then(|| unpack(self.word));
        let mut next = if self.word & MORE != 0 {
            NonNull::new(self.page.more.load(Relaxed))
        } else {
            None
        };
        first.into_iter().chain(core::iter::from_fn(move || {
            // SAFETY: entries in the list are alive while the identity lock is held, which `self`
            // does.
            let entry = unsafe { next?.as_ref() };
            next = entry.next;
            Some(unpack(entry.mapping))
        }))
    }

    /// The mapping that stands in the page itself: there is one if there is any.
    pub(crate) fn first(&self) -> Option<(Frame, Vpn)> {
        (self.word != 0).then(|| unpack(self.word))
    }

    /// A counted reference to the page's owner, as [`Page::owner_ref`]. Not to be dropped while the lock is held: it may be the last.
    #[inline]
    pub(crate) fn owner_ref<T: PageOwner>(&self) -> Option<T::Handle> {
        let owner = self.page.owner_ptr::<T>()?;
        // SAFETY: set as owner, and `clear_owner` cannot pass while the identity lock is held, so the memory stays valid. The tag proves the
        // type.
        unsafe { T::try_handle(owner) }
    }

    /// The mapping of a page that has just one.
    #[inline]
    pub(crate) fn only(&self) -> Option<(Frame, Vpn)> {
        (self.word != 0 && self.word & MORE == 0).then(|| unpack(self.word))
    }

    /// Takes the only mapping off.
    #[inline]
    pub(crate) fn clear_only(&mut self) {
        debug_assert!(self.only().is_some());
        self.word = 0;
    }

    /// Takes a mapping off.
    pub(crate) fn remove_mapping(&mut self, root: Frame, vpn: Vpn) {
        self.remove(pack(root, vpn));
    }

    fn remove(&mut self, mapping: u64) -> bool {
        if self.word & MAPPING_MASK == mapping {
            if mapping == 0 {
                return false;
            }
            // The word may only be 0 when nothing is left, so the next one moves in.
            self.word = match self.pop() {
                Some(entry) => entry.mapping | self.more_bit(),
                None => 0,
            };
            return true;
        }
        let mut head = NonNull::new(self.page.more.load(Relaxed));
        let mut link: *mut Option<NonNull<PvEntry>> = &raw mut head;
        // SAFETY: `link` points to `head` or into an entry of the list, all alive and ours under
        // the identity lock.
        unsafe {
            while let Some(entry) = *link {
                if (*entry.as_ptr()).mapping == mapping {
                    *link = (*entry.as_ptr()).next;
                    drop(PoolBox::from_raw(entry));
                    self.page
                        .more
                        .store(head.map_or(ptr::null_mut(), NonNull::as_ptr), Relaxed);
                    self.word = self.word & !MORE | self.more_bit();
                    return true;
                }
                link = &raw mut (*entry.as_ptr()).next;
            }
        }
        false
    }

    fn pop(&mut self) -> Option<PoolBox<PvEntry>> {
        let entry = NonNull::new(self.page.more.load(Relaxed))?;
        // SAFETY: in the list, so alive; taken off it here, so that the box is the only owner.
        let entry = unsafe { PoolBox::from_raw(entry) };
        self.page
            .more
            .store(entry.next.map_or(ptr::null_mut(), NonNull::as_ptr), Relaxed);
        Some(entry)
    }

    fn more_bit(&self) -> u64 {
        if self.page.more.load(Relaxed).is_null() {
            0
        } else {
            MORE
        }
    }
}
