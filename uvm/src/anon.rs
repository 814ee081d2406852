//! One page of anonymous memory.
//!
//! Owns a frame, a swap slot or both ([`crate::swap`]), or *borrows* a frame that is another's ([`crate::loan`]): then it holds a loan of it,
//! and is not the page's owner. Counted: each amap slot that shows it is one reference, and an I/O request on its page is another,
//! so that its memory is never freed under a transfer; who drops the last one frees the frame, or gives the loan back.
//!
//! Synchronisation: a spin lock for the frame number and the page's flags; after amap and object, before the page queues. The
//! *count* is raised only under the lock of an amap that shows the anon: who holds that lock and sees 1 is its sole user. Nobody raises that of
//! an anon whose page is wired (W2 in `map::wire`).

use core::ptr::NonNull;

use arrayvec::ArrayVec;

use crate::Uvm;
use crate::addr::{Frame, PageIndex};
use crate::lock::{ANON, SpinLock, SpinLockGuard};
use crate::meter::Gauge;
use crate::page::{OwnerKind, PageAttrs, PageFlags, PageOwner};
use crate::policy::nonresident::Went;
use crate::pool::{Counted, OutOfMemory, Ref, RefCount};
use crate::swap::SwapSlot;

/// A page of anonymous memory. Aligned as page owners must be.
#[repr(align(8))]
pub struct Anon {
    count: RefCount,
    inner: SpinLock<AnonInner, ANON>,
}

/// Where an anon's contents are.
pub(crate) struct AnonInner {
    /// In memory.
    pub(crate) frame: Option<Frame>,
    /// On a swap device; if it is in memory as well, as it was when it was written last.
    pub(crate) slot: Option<SwapSlot>,
    /// Since when it is there only. (Fills what alignment would leave.)
    pub(crate) went: Went,
}

const _: () = assert!(size_of::<Anon>() == 24);

impl AnonInner {
    const fn of(frame: Frame) -> Self {
        Self {
            frame: Some(frame),
            slot: None,
            went: Went::UNKNOWN,
        }
    }

    /// Its page, if whoever is its sole user may write to it as it is: in memory, not busy, and not on loan.
    #[inline]
    pub(crate) fn writable(&self, uvm: &Uvm) -> Option<Frame> {
        self.frame.filter(|&frame| {
            let page = uvm.page(frame);
            !page.is_busy() && !page.attrs().contains(PageAttrs::LOANED)
        })
    }
}

// SAFETY: `count` is this anon's own and nothing else changes it.
unsafe impl Counted for Anon {
    fn count(&self) -> &RefCount {
        &self.count
    }

    fn finalize(&mut self, uvm: &Uvm) {
        if let Some(frame) = self.leave(uvm) {
            uvm.meter().lower(Gauge::Anonpages, 1);
            uvm.free_frame(frame);
        }
    }
}

// SAFETY: KIND is this type's alone; it is 8-aligned; `finalize` clears itself from the page.
unsafe impl PageOwner for Anon {
    const KIND: OwnerKind = OwnerKind::Anon;
    type Handle = Ref<Self>;
    unsafe fn try_handle(owner: NonNull<Self>) -> Option<Ref<Self>> {
        // SAFETY: pool memory that stays valid during the call, by the caller's promise.
        unsafe { Ref::try_from_ptr(owner) }
    }
}

impl Anon {
    /// Gives up what it has, with the last reference: its slot, and its frame. If that is its own and nobody has a hold of it, it is left to
    /// the caller, who lowers [`Gauge::Anonpages`] and frees it: it has no owner any more, but may be on a queue.
    #[inline]
    fn leave(&mut self, uvm: &Uvm) -> Option<Frame> {
        let AnonInner { frame, slot, .. } = self.inner.get_mut();
        let (frame, slot) = (frame.take(), slot.take());
        if let Some(slot) = slot {
            uvm.swap().free(uvm, slot);
            if frame.is_none() {
                uvm.meter().lower(Gauge::Swpgonly, 1);
            }
        }
        let frame = frame?;
        if !owns(NonNull::from(&mut *self), uvm, frame) {
            uvm.let_go(frame);
            return None;
        }
        let page = uvm.page(frame);
        if page.is_mapped() || page.loan_count() > 0 {
            uvm.meter().lower(Gauge::Anonpages, 1);
            uvm.disown(frame);
            return None;
        }
        // Nobody comes to it any more, neither to map nor to hold it.
        page.clear_owner();
        page.orphan().then_some(frame)
    }

    /// An anon with one reference for `frame`, which is fresh from the free list and filled; the page becomes valid,
    /// dirty, not busy, active.
    ///
    /// # Errors
    /// [`OutOfMemory`]; the frame stays the caller's.
    #[inline]
    pub(crate) fn new(uvm: &Uvm, frame: Frame) -> Result<Ref<Self>, OutOfMemory> {
        let anon = Ref::new(
            &uvm.upper.anons,
            uvm,
            Self {
                count: RefCount::new(),
                inner: SpinLock::new(AnonInner::of(frame)),
            },
        )?;
        let page = uvm.page(frame);
        // SAFETY: `finalize` clears the owner before the anon's memory goes.
        unsafe { page.set_owner(Ref::as_ptr(&anon), PageIndex(0)) };
        page.reset_flags(PageFlags::ANON);
        uvm.activate_fresh(frame, page);
        uvm.meter().raise(Gauge::Anonpages, 1);
        Ok(anon)
    }

    /// An anon with one reference that borrows `frame`: a loan of the caller's ([`Uvm::lend`]) becomes the anon's.
    ///
    /// # Errors
    /// [`OutOfMemory`]; the loan stays the caller's.
    pub(crate) fn borrowing(uvm: &Uvm, frame: Frame) -> Result<Ref<Self>, OutOfMemory> {
        let anon = Self {
            count: RefCount::new(),
            inner: SpinLock::new(AnonInner::of(frame)),
        };
        // Should there be no memory: only what has been a `Ref` is finalized, so the loan is not given back.
        Ref::new(&uvm.upper.anons, uvm, anon)
    }

    /// Whether `frame`, which it shows, is its own and not borrowed. The caller has it locked.
    #[inline]
    pub(crate) fn owns(this: &Ref<Self>, uvm: &Uvm, frame: Frame) -> bool {
        owns(Ref::as_ptr(this), uvm, frame)
    }

    /// Makes it the owner of `frame`, a page without one. The page is then dirty, and active. The caller has it locked.
    pub(crate) fn take(this: &Ref<Self>, uvm: &Uvm, frame: Frame) {
        let page = uvm.page(frame);
        // SAFETY: `finalize` clears the owner before the anon's memory goes.
        unsafe { page.set_owner(Ref::as_ptr(this), PageIndex(0)) };
        page.clear(PageFlags::all() - PageFlags::WANTED);
        page.set(PageFlags::ANON);
        uvm.activate(frame);
        uvm.meter().raise(Gauge::Anonpages, 1);
    }

    /// Puts a fresh frame in, BUSY and FAKE, for a page that is on swap only. The caller has it locked.
    pub(crate) fn put(this: &Ref<Self>, inner: &mut AnonInner, uvm: &Uvm, frame: Frame) {
        let page = uvm.page(frame);
        // SAFETY: `finalize` and `evict` clear the owner before the anon's memory goes.
        unsafe { page.set_owner(Ref::as_ptr(this), PageIndex(0)) };
        page.set(PageFlags::ANON);
        inner.frame = Some(frame);
        uvm.meter().raise(Gauge::Anonpages, 1);
    }

    /// Takes its own frame out: from now on it is on swap only. Nothing maps the page. The caller has it locked, and frees the frame if the
    /// answer is `true`.
    #[inline]
    pub(crate) fn evict(inner: &mut AnonInner, uvm: &Uvm, went: Went) -> bool {
        let Some(frame) = inner.frame.take() else {
            return false;
        };
        inner.went = went;
        uvm.meter().lower(Gauge::Anonpages, 1);
        uvm.take_owner_off(frame)
    }

    #[inline]
    pub(crate) fn try_lock(&self) -> Option<SpinLockGuard<'_, AnonInner, ANON>> {
        self.inner.try_lock()
    }

    #[inline]
    pub(crate) fn lock(&self) -> SpinLockGuard<'_, AnonInner, ANON> {
        self.inner.lock()
    }
}

/// Gives up references to anons, and frees the frames of those that go with them together: the locks of queues and free lists are taken once
/// for many. All are free when it is dropped. Comes where anons are locked.
pub(crate) struct Release<'a> {
    uvm: &'a Uvm,
    /// Without owner or mapping.
    frames: ArrayVec<Frame, RELEASED>,
}

/// Frames freed together.
const RELEASED: usize = 32;
/// With fewer the CPU's magazine is a better place for them than the lists.
const FEW: usize = 8;

impl<'a> Release<'a> {
    pub(crate) fn new(uvm: &'a Uvm) -> Self {
        Self {
            uvm,
            frames: ArrayVec::new(),
        }
    }

    /// Gives up a reference.
    #[inline]
    pub(crate) fn add(&mut self, anon: Ref<Anon>) {
        if let Some(mut anon) = Ref::into_last(anon)
            && let Some(frame) = anon.leave(self.uvm)
        {
            self.frames.push(frame);
            if self.frames.is_full() {
                self.free();
            }
        }
    }

    #[inline(never)]
    fn free(&mut self) {
        let (uvm, frames) = (self.uvm, &self.frames[..]);
        uvm.meter().lower(Gauge::Anonpages, frames.len() as u64);
        if frames.len() < FEW {
            frames.iter().for_each(|&frame| uvm.free_frame(frame));
        } else {
            uvm.dequeue_all(frames);
            uvm.free_pages(frames);
        }
        self.frames.clear();
    }
}

impl Drop for Release<'_> {
    fn drop(&mut self) {
        self.free();
    }
}

#[inline]
fn owns(anon: NonNull<Anon>, uvm: &Uvm, frame: Frame) -> bool {
    uvm.page(frame).is_owned_by(anon, PageIndex(0))
}
