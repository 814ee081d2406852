//! Memory objects: what can be mapped, and the pages of it that are resident.
//!
//! # What this owns
//! [`UvmObject`]: a size, a sparse array of resident pages, and what stands behind them: nothing but zeroes
//! ([`aobj`]), a [`Pager`], or a device's memory, which has no pages ([`device`]). A file of the kernel's *is* such an object
//! ([`vnode`]). A page belongs to one object at one index until it is evicted, replaced after a loan, or the object goes.
//!
//! # How it synchronises
//! One spin lock per object, over its pages and their flags; after map and amap, before anons and
//! the page queues. Nothing awaits under it. Per pair of operations on one page:
//!
//! | | fault | read by the pager | eviction | `read(2)` | loan | a block for a hole |
//! |---|---|---|---|---|---|---|
//! | **fault** | object lock | BUSY: awaits, *holding* the page | object lock; takes translations away first | object lock | object lock; a write gives the object a new page | RDONLY: a write awaits it, *holding* the page |
//! | **pager** | | BUSY: the second one finds the page | skips BUSY | BUSY: awaits | BUSY: awaits | only of a page that has been read |
//! | **eviction** | | | queue order | skips held pages | skips lent pages | skips held pages |
//! | **`read(2)`** | | | | object lock | both only read | sees zeroes before and after |
//! | **loan** | | | | | each counts | the frame stays: its zeroes are what the block will hold |
//! | **hole** | | | | | | the file system's: the second one finds the block |
//!
//! A *hold* (the page's loan count) keeps a frame from being evicted and reused, nothing else; a *loan* is a hold that also keeps it
//! from being written ([`crate::loan`]). Who awaits a busy page holds it, so that it finds afterwards either the page, valid, or the
//! same frame disowned and still FAKE: the read failed, and each of the waiters learns it. RELEASED as well says that it failed as
//! part of a cluster: what is wrong may be another page of it, so that the waiters have the page read alone (`Settled`). The last one to let go of a disowned page frees it ([`PageHold`]).

pub mod aobj;
pub mod device;
mod evict;
mod hold;
pub mod pager;
pub mod radix;
pub mod vnode;

use alloc::sync::Arc;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

pub use hold::PageHold;
pub(crate) use hold::Settled;
pub use pager::{Pager, PagerError};
use radix::{NodePool, Radix};

use crate::Uvm;
use crate::addr::{Frame, PageIndex};
use crate::io::IoError;
use crate::lock::{OBJECT, SpinLock, SpinLockGuard};
use crate::map::Advice;
use crate::meter::{Counter, Gauge};
use crate::page::{OwnerKind, PageFlags, PageOwner};
use crate::pdaemon::demand::Demand;
use crate::pool::{Counted, OutOfMemory, Ref, RefCount};
use crate::swap::pagein::Around;
use crate::swap::{Owner, SwapSlot};

/// Fan-out of an object's page array.
const FANOUT: usize = 64;

pub(crate) type PageNodes = NodePool<Frame, FANOUT>;
pub(crate) type SwapNodes = NodePool<Option<SwapSlot>, FANOUT>;

/// What stands behind an object.
pub(crate) enum Behind {
    /// Zeroes.
    Zeroes,
    /// A store that pages are read from.
    Pager(Arc<dyn Pager>),
    /// A device's memory, from this frame on. There are no pages of it.
    Device(Frame),
}

/// Pages of a file that are marked as text in one hold of its lock; what is left is marked when it is read again.
const MARKED: usize = 512;

pub(crate) struct ObjectPages {
    pub(crate) frames: Radix<Frame, FANOUT>,
    /// Of an anonymous object: for each page that was ever made the slot that it has, if any. Its place is there before it needs one, so
    /// that page-out allocates nothing.
    slots: Radix<Option<SwapSlot>, FANOUT>,
    /// The index at which a sequential reader will miss next, and how far to read ahead then.
    pub(crate) ahead: (PageIndex, u16),
    /// Pages of the last cluster that could not be read. Only a hint: they are read one by one from then on, so that one bad block
    /// costs one failed read and not one for each page before it.
    pub(crate) doubted: Range<u64>,
}

/// A memory object. Made by [`UvmObject::anonymous`], [`UvmObject::device`] or [`vnode::VnodeObject::new`]; goes, with its pages, with
/// its last reference.
pub struct UvmObject {
    count: RefCount,
    pages: SpinLock<ObjectPages, OBJECT>,
    behind: Behind,
    /// In bytes.
    size: AtomicU64,
    /// Some of it has been mapped to be executed.
    text: AtomicBool,
}

// SAFETY: `count` is this object's own and nothing else changes it.
unsafe impl Counted for UvmObject {
    fn count(&self) -> &RefCount {
        &self.count
    }

    fn finalize(&mut self, uvm: &Uvm) {
        let anonymous = self.is_anonymous();
        if anonymous {
            self.unlist(uvm);
        }
        let pages = self.pages.get_mut();
        while let Some((index, &frame)) = pages.frames.next_from(0) {
            pages.frames.remove(index);
            uvm.meter().lower(resident_gauge(anonymous), 1);
            if let Some(slot) = pages.set_slot(PageIndex(index), None) {
                uvm.swap().free(uvm, slot);
            }
            uvm.disown(frame);
        }
        while let Some((index, &slot)) = pages.slots.next_from(0) {
            pages.slots.remove(index);
            if let Some(slot) = slot {
                uvm.swap().free(uvm, slot);
                uvm.meter().lower(Gauge::Swpgonly, 1);
            }
        }
    }
}

// SAFETY: KIND is this type's alone. Objects are at least 8-aligned (they hold an AtomicU64). `finalize`, and whoever
// removes a page, clears itself from the page before the memory goes.
unsafe impl PageOwner for UvmObject {
    const KIND: OwnerKind = OwnerKind::Object;
    type Handle = Ref<Self>;
    unsafe fn try_handle(owner: NonNull<Self>) -> Option<Ref<Self>> {
        // SAFETY: pool memory that stays valid during the call, by the caller's promise.
        unsafe { Ref::try_from_ptr(owner) }
    }
}

const fn resident_gauge(anonymous: bool) -> Gauge {
    if anonymous {
        Gauge::Anonpages
    } else {
        Gauge::Filepages
    }
}

/// What an object has at an index.
pub(crate) enum Resident {
    /// Nothing.
    Missing,
    /// A page that someone works on.
    Busy(Frame),
    /// A valid page.
    Valid(Frame),
    /// A page on swap only.
    Swapped(SwapSlot),
}

impl UvmObject {
    pub(crate) fn make(uvm: &Uvm, behind: Behind, size: u64) -> Result<Ref<Self>, OutOfMemory> {
        Ref::new(
            &uvm.upper.objects,
            uvm,
            Self {
                count: RefCount::new(),
                pages: SpinLock::new(ObjectPages {
                    frames: Radix::new(),
                    slots: Radix::new(),
                    ahead: (PageIndex(0), 0),
                    doubted: 0..0,
                }),
                behind,
                size: AtomicU64::new(size),
                text: AtomicBool::new(false),
            },
        )
    }

    /// Size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size.load(Relaxed)
    }

    /// Pages that it has, resident or not.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.size().div_ceil(crate::PAGE_SIZE as u64)
    }

    /// Pages of it in memory.
    #[must_use]
    pub fn resident(&self) -> usize {
        self.lock().frames.len()
    }

    /// Whether there are only zeroes behind it.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        matches!(self.behind, Behind::Zeroes)
    }

    /// Whether shared mappings may allow writes: what is written has somewhere to go.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        match &self.behind {
            Behind::Zeroes | Behind::Device(_) => true,
            Behind::Pager(pager) => pager.is_writable(),
        }
    }

    pub(crate) fn behind(&self) -> &Behind {
        &self.behind
    }

    #[inline]
    pub(crate) fn lock(&self) -> SpinLockGuard<'_, ObjectPages, OBJECT> {
        self.pages.lock()
    }

    #[inline]
    pub(crate) fn try_lock(&self) -> Option<SpinLockGuard<'_, ObjectPages, OBJECT>> {
        self.pages.try_lock()
    }

    /// Puts a fresh frame at an index where there is none. The caller has the object locked.
    ///
    /// # Errors
    /// [`OutOfMemory`]; the frame stays the caller's.
    pub(crate) fn insert(
        this: &Ref<Self>,
        pages: &mut ObjectPages,
        uvm: &Uvm,
        index: PageIndex,
        frame: Frame,
    ) -> Result<(), OutOfMemory> {
        let old = pages
            .frames
            .insert(index.0, frame, uvm, &uvm.upper.page_nodes)?;
        debug_assert!(old.is_none(), "two pages at one index");
        // SAFETY: `finalize`, `remove` clear the owner before the object's memory goes.
        unsafe { uvm.page(frame).set_owner(Ref::as_ptr(this), index) };
        if this.text.load(Relaxed) {
            uvm.page(frame).set(PageFlags::EXEC);
        }
        uvm.meter().raise(resident_gauge(this.is_anonymous()), 1);
        Ok(())
    }

    /// Some of it is mapped to be executed: if it is a file's, its pages count as text from now on ([`Sort::Exec`](crate::page::queues::Sort)), those that
    /// are in memory already, up to [`MARKED`], with their next move to another queue. Takes its lock the first time.
    ///
    /// After vn_markexec.
    pub(crate) fn mark_text(&self, uvm: &Uvm) {
        if !matches!(self.behind, Behind::Pager(_)) || self.text.swap(true, Relaxed) {
            return;
        }
        let pages = self.lock();
        for (_, &frame) in pages.frames.iter_from(0).take(MARKED) {
            uvm.page(frame).set(PageFlags::EXEC);
        }
    }

    /// Takes the page at `index` out and disowns it: it is freed as soon as nobody holds it. The caller has the
    /// object locked; nothing maps the page.
    pub(crate) fn remove(&self, pages: &mut ObjectPages, uvm: &Uvm, index: PageIndex) {
        if let Some(frame) = pages.frames.remove(index.0) {
            uvm.meter().lower(resident_gauge(self.is_anonymous()), 1);
            uvm.disown(frame);
        }
    }

    /// The same; whether the caller has to free the frame ([`Uvm::take_owner_off`]).
    #[must_use]
    pub(crate) fn take_out(&self, pages: &mut ObjectPages, uvm: &Uvm, index: PageIndex) -> bool {
        let Some(frame) = pages.frames.remove(index.0) else {
            return false;
        };
        uvm.meter().lower(resident_gauge(self.is_anonymous()), 1);
        uvm.take_owner_off(frame)
    }

    /// Puts a fresh, filled frame in the place of the page at `index`, which is disowned. The caller has the object locked and has
    /// taken the old page's translations away.
    pub(crate) fn replace(
        this: &Ref<Self>,
        pages: &mut ObjectPages,
        uvm: &Uvm,
        index: PageIndex,
        frame: Frame,
    ) -> Result<(), OutOfMemory> {
        let old = pages
            .frames
            .insert(index.0, frame, uvm, &uvm.upper.page_nodes)?;
        // SAFETY: as in `insert`.
        unsafe { uvm.page(frame).set_owner(Ref::as_ptr(this), index) };
        match old {
            Some(old) => uvm.disown(old),
            None => drop(uvm.meter().raise(resident_gauge(this.is_anonymous()), 1)),
        }
        Ok(())
    }

    /// A hole's page `hold` at `index` has got its block: it may be written from now on, and differs from what the block holds.
    pub(crate) fn allocated(&self, uvm: &Uvm, index: PageIndex, hold: &PageHold) {
        let pages = self.lock();
        // Held, it was not evicted meanwhile; another's write after a loan may have replaced it.
        if pages.frames.get(index.0) == Some(&hold.frame()) {
            uvm.page(hold.frame())
                .clear(PageFlags::RDONLY | PageFlags::CLEAN);
        }
    }

    /// Brings a page in and keeps it in memory for as long as the [`PageHold`] lives. It may be read and
    /// mapped meanwhile; it is not busy. Awaits reads, busy pages and free frames.
    ///
    /// # Errors
    /// [`PagerError`].
    pub async fn page_in(
        this: &Ref<Self>,
        uvm: &Arc<Uvm>,
        index: PageIndex,
        advice: Advice,
    ) -> Result<PageHold, PagerError> {
        let mut demand = Demand::new();
        let mut advice = advice;
        loop {
            if index.0 >= this.pages() {
                return Err(PagerError::BeyondEnd);
            }
            let mut swapped = false;
            let busy = {
                let mut pages = this.lock();
                match pages.at(uvm, index) {
                    Resident::Valid(frame) => {
                        uvm.note_use(frame);
                        return Ok(PageHold::new(uvm, frame));
                    }
                    Resident::Busy(frame) => Some(PageHold::new(uvm, frame)),
                    Resident::Swapped(_) => {
                        swapped = true;
                        None
                    }
                    Resident::Missing => match &this.behind {
                        Behind::Pager(_) => None,
                        Behind::Device(_) => return Err(IoError::Device.into()),
                        Behind::Zeroes => match aobj::zero_page(this, &mut pages, uvm, index) {
                            Ok(frame) => return Ok(PageHold::new(uvm, frame)),
                            Err(OutOfMemory) => None,
                        },
                    },
                }
            };
            let awaited = match (busy, &this.behind) {
                (Some(hold), _) => Some(hold),
                (None, Behind::Pager(pager)) => {
                    uvm.count(Counter::FltGet);
                    match pager.get(uvm, this, index, advice).await {
                        Err(PagerError::OutOfMemory) => {
                            demand.wait(uvm).await?;
                            None
                        }
                        got => got?,
                    }
                }
                (None, _) if swapped => {
                    let owner = Owner::Object(this.clone(), index);
                    match uvm.swap_in(owner, Around::Object, advice).await {
                        Ok(started) => started,
                        Err(OutOfMemory) => {
                            demand.wait(uvm).await?;
                            None
                        }
                    }
                }
                (None, _) => {
                    demand.wait(uvm).await?;
                    None
                }
            };
            if let Some(hold) = awaited {
                match hold.settled().await {
                    Settled::Valid => {}
                    Settled::ClusterFailed => advice = Advice::Random,
                    Settled::Failed => return Err(IoError::Device.into()),
                }
            }
        }
    }
}

impl ObjectPages {
    /// What is at `index`. The caller has the object locked.
    #[inline]
    pub(crate) fn at(&self, uvm: &Uvm, index: PageIndex) -> Resident {
        match self.frames.get(index.0) {
            None => self
                .slot(index)
                .map_or(Resident::Missing, Resident::Swapped),
            Some(&frame) if uvm.page(frame).is_busy() => Resident::Busy(frame),
            Some(&frame) => Resident::Valid(frame),
        }
    }

    /// The swap slot of the page at `index`.
    pub(crate) fn slot(&self, index: PageIndex) -> Option<SwapSlot> {
        self.slots.get(index.0).copied().flatten()
    }

    /// Gives the page at `index`, which has been made once, another slot, or none; returns that of before.
    pub(crate) fn set_slot(
        &mut self,
        index: PageIndex,
        slot: Option<SwapSlot>,
    ) -> Option<SwapSlot> {
        let place = self.slots.get_mut(index.0);
        debug_assert!(place.is_some() || slot.is_none(), "a page without a place");
        place.and_then(|place| core::mem::replace(place, slot))
    }

    /// Makes a place for the slot of the page at `index`.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    fn make_slot(&mut self, uvm: &Uvm, index: PageIndex) -> Result<(), OutOfMemory> {
        if self.slots.get(index.0).is_none() {
            self.slots
                .insert(index.0, None, uvm, &uvm.upper.swap_nodes)?;
        }
        Ok(())
    }

    /// The slots of pages that are on swap only, or in memory as well, from `index` on. For `check` and swapoff.
    pub(crate) fn slots_from(
        &self,
        index: PageIndex,
    ) -> impl Iterator<Item = (PageIndex, SwapSlot)> {
        let slots = self.slots.iter_from(index.0);
        slots.filter_map(|(index, &slot)| Some((PageIndex(index), slot?)))
    }

    /// How many of `count` pages from `first` on one read should ask for.
    pub(crate) fn undoubted(&self, first: PageIndex, count: u64) -> u64 {
        let Range { start, end } = self.doubted;
        if (start..end).contains(&first.0) {
            1
        } else if first.0 < start {
            count.min(start - first.0)
        } else {
            count
        }
    }
}

#[cfg(test)]
mod tests;
