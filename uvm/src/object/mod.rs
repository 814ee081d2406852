//! Memory objects: what can be mapped, and the pages of it that are resident.
//!
//! # What this owns
//! [`UvmObject`]: a size, a sparse array of resident pages, and what stands behind them: nothing but zeroes
//! ([`aobj`]) or a [`Pager`]. A file of the kernel's *is* such an object ([`vnode`]). A page belongs
//! to one object at one index until it is evicted or the object goes.
//!
//! # How it synchronises
//! One spin lock per object, over its pages and their flags; after map and amap, before anons and
//! the page queues. Nothing awaits under it. Per pair of operations on one page:
//!
//! | | fault | read by the pager | eviction | `read(2)` |
//! |---|---|---|---|---|
//! | **fault** | object lock | BUSY: awaits, *holding* the page | object lock; takes translations away first | object lock |
//! | **pager** | | BUSY: the second one finds the page | skips BUSY | BUSY: awaits |
//! | **eviction** | | | queue order | skips held pages |
//!
//! A *hold* (the page's loan count) keeps a frame from being evicted and reused, nothing else. Who awaits a busy page holds
//! it, so that it finds afterwards either the page, valid, or the same frame disowned and still FAKE: the read
//! failed, and each of the waiters learns it. The last one to let go of a disowned page frees it ([`PageHold`]).

pub mod aobj;
mod evict;
pub mod pager;
pub mod radix;
pub mod vnode;

use alloc::sync::Arc;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub use pager::{Pager, PagerError};
use radix::{NodePool, Radix};

use crate::Uvm;
use crate::addr::{Frame, PageIndex};
use crate::anon::Anon;
use crate::io::IoError;
use crate::lock::{OBJECT, SpinLock, SpinLockGuard};
use crate::map::Advice;
use crate::meter::{Counter, Gauge};
use crate::page::{OwnerKind, PageFlags, PageOwner};
use crate::pdaemon::Demand;
use crate::phys::PageBytes;
use crate::pool::{Counted, OutOfMemory, Ref, RefCount};

/// Fan-out of an object's page array.
const FANOUT: usize = 64;

pub(crate) type PageNodes = NodePool<Frame, FANOUT>;

/// What stands behind an object.
pub(crate) enum Behind {
    /// Zeroes.
    Zeroes,
    /// A store that pages are read from.
    Pager(Arc<dyn Pager>),
}

pub(crate) struct ObjectPages {
    pub(crate) frames: Radix<Frame, FANOUT>,
    /// The index at which a sequential reader will miss next, and how far to read ahead then.
    pub(crate) ahead: (PageIndex, u16),
}

/// A memory object. Made by [`UvmObject::anonymous`] or [`vnode::VnodeObject::new`]; goes, with its pages, with its last reference.
pub struct UvmObject {
    count: RefCount,
    pages: SpinLock<ObjectPages, OBJECT>,
    behind: Behind,
    /// In bytes.
    size: AtomicU64,
}

// SAFETY: `count` is this object's own and nothing else changes it.
unsafe impl Counted for UvmObject {
    fn count(&self) -> &RefCount {
        &self.count
    }

    fn finalize(&mut self, uvm: &Uvm) {
        let anonymous = self.is_anonymous();
        let pages = self.pages.get_mut();
        while let Some((index, &frame)) = pages.frames.next_from(0) {
            pages.frames.remove(index);
            uvm.meter().lower(resident_gauge(anonymous), 1);
            uvm.disown(frame);
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
                    ahead: (PageIndex(0), 0),
                }),
                behind,
                size: AtomicU64::new(size),
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
        uvm.meter().raise(resident_gauge(this.is_anonymous()), 1);
        Ok(())
    }

    /// Takes the page at `index` out and disowns it: it is freed as soon as nobody holds it. The caller has the
    /// object locked; nothing maps the page.
    pub(crate) fn remove(&self, pages: &mut ObjectPages, uvm: &Uvm, index: PageIndex) {
        if let Some(frame) = pages.frames.remove(index.0) {
            uvm.meter().lower(resident_gauge(self.is_anonymous()), 1);
            uvm.disown(frame);
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
        loop {
            if index.0 >= this.pages() {
                return Err(PagerError::BeyondEnd);
            }
            let busy = {
                let mut pages = this.lock();
                match pages.at(uvm, index) {
                    Resident::Valid(frame) => {
                        uvm.activate(frame);
                        return Ok(PageHold::new(uvm, frame));
                    }
                    Resident::Busy(frame) => Some(PageHold::new(uvm, frame)),
                    Resident::Missing => match &this.behind {
                        Behind::Pager(_) => None,
                        Behind::Zeroes => match aobj::zero_page(this, &mut pages, uvm, index) {
                            Ok(frame) => return Ok(PageHold::new(uvm, frame)),
                            Err(OutOfMemory) => None,
                        },
                    },
                }
            };
            match (busy, &this.behind) {
                (Some(hold), _) => hold.settled().await?,
                (None, Behind::Pager(pager)) => {
                    uvm.count(Counter::FltGet);
                    if let Some(hold) = pager.get(uvm, this, index, advice).await? {
                        hold.settled().await?;
                    }
                }
                (None, Behind::Zeroes) => demand.wait(uvm).await?,
            }
        }
    }
}

impl ObjectPages {
    /// What is at `index`. The caller has the object locked.
    #[inline]
    pub(crate) fn at(&self, uvm: &Uvm, index: PageIndex) -> Resident {
        match self.frames.get(index.0) {
            None => Resident::Missing,
            Some(&frame) if uvm.page(frame).is_busy() => Resident::Busy(frame),
            Some(&frame) => Resident::Valid(frame),
        }
    }
}

/// Keeps a page's frame from being evicted and reused.
///
/// Does not prove that the page is valid, unbusy, or still its owner's: only that the frame is the same.
#[must_use = "dropping it lets the page go"]
pub struct PageHold {
    uvm: Arc<Uvm>,
    frame: Frame,
}

impl PageHold {
    /// Holds a page. The caller has the owner locked.
    pub(crate) fn new(uvm: &Arc<Uvm>, frame: Frame) -> Self {
        uvm.page(frame).loan();
        Self {
            uvm: uvm.clone(),
            frame,
        }
    }

    /// Holds a page that was found through a translation, unless its owner is letting it go.
    pub(crate) fn of_mapped(uvm: &Arc<Uvm>, frame: Frame) -> Option<Self> {
        let page = uvm.page(frame);
        if let Some(anon) = page.owner_ref::<Anon>() {
            let inner = anon.lock();
            return (inner.frame == Some(frame)).then(|| Self::new(uvm, frame));
        }
        let object = page.owner_ref::<UvmObject>()?;
        let pages = object.lock();
        let same = pages.frames.get(page.index().0) == Some(&frame);
        same.then(|| Self::new(uvm, frame))
    }

    /// The frame.
    #[must_use]
    pub fn frame(&self) -> Frame {
        self.frame
    }

    /// The page's bytes. Programs that map the page may write to them at any time.
    #[must_use]
    pub fn bytes(&self) -> PageBytes {
        self.uvm.bytes(self.frame)
    }

    /// Awaits that the page is not busy. The page may have been evicted from its owner since; who wants
    /// to use it looks it up again.
    ///
    /// # Errors
    /// [`IoError::Device`] if the read that it was busy under has failed.
    pub(crate) async fn settled(&self) -> Result<(), IoError> {
        self.uvm.pages().busy_wait(self.frame).await;
        let page = self.uvm.page(self.frame);
        if page.owner_kind() == OwnerKind::None && page.has(PageFlags::FAKE) {
            return Err(IoError::Device);
        }
        Ok(())
    }
}

impl Drop for PageHold {
    fn drop(&mut self) {
        self.uvm.let_go(self.frame);
    }
}

impl Uvm {
    /// Takes the owner off a page; frees it at once, or when the last hold goes. The caller has the owner
    /// locked, or is its last user.
    pub(crate) fn disown(&self, frame: Frame) {
        let page = self.page(frame);
        if self.is_mapped(frame) {
            self.page_protect(frame, crate::Prot::empty());
        }
        page.clear_owner();
        self.dequeue(frame);
        if page.orphan() {
            self.free_frame(frame);
        }
    }

    /// Ends one hold; frees the frame if it was the last one of a disowned page.
    pub(crate) fn let_go(&self, frame: Frame) {
        if self.page(frame).unloan() {
            self.free_frame(frame);
        }
    }
}
