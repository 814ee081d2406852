//! Who has a page of anonymous memory, seen from a transfer: an anon, or an anonymous object at an index.
//!
//! Owns a counted reference, so that frame and slot are still there when the transfer ends. The lock is the owner's.

use crate::Uvm;
use crate::addr::{Frame, PageIndex};
use crate::anon::{Anon, AnonInner};
use crate::meter::Gauge;
use crate::object::{ObjectPages, UvmObject};
use crate::page::PageFlags;
use crate::policy::nonresident::{Key, Went};
use crate::pool::{OutOfMemory, Ref};
use crate::swap::SwapSlot;

/// The owner of a page, kept alive.
#[derive(Clone)]
pub(crate) enum Owner {
    /// An anon.
    Anon(Ref<Anon>),
    /// An anonymous object, at this index.
    Object(Ref<UvmObject>, PageIndex),
}

/// What an owner's lock protects of one page.
pub(crate) enum Held<'a> {
    Anon(&'a Ref<Anon>, &'a mut AnonInner),
    Object(&'a Ref<UvmObject>, &'a mut ObjectPages, PageIndex),
}

impl Owner {
    /// Calls `f` with the owner locked. Always inlined, so that what `f` does is made for each kind of owner.
    #[inline(always)]
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut Held<'_>) -> R) -> R {
        match self {
            Self::Anon(anon) => f(&mut Held::Anon(anon, &mut anon.lock())),
            Self::Object(object, index) => f(&mut Held::Object(object, &mut object.lock(), *index)),
        }
    }
}

impl Held<'_> {
    /// The page's frame.
    pub(crate) fn frame(&self) -> Option<Frame> {
        match self {
            Self::Anon(_, inner) => inner.frame,
            Self::Object(_, pages, index) => pages.frames.get(index.0).copied(),
        }
    }

    /// The page's slot.
    pub(crate) fn slot(&self) -> Option<SwapSlot> {
        match self {
            Self::Anon(_, inner) => inner.slot,
            Self::Object(_, pages, index) => pages.slot(*index),
        }
    }

    /// Gives it another slot, or none; returns that of before.
    pub(crate) fn set_slot(&mut self, slot: Option<SwapSlot>) -> Option<SwapSlot> {
        match self {
            Self::Anon(_, inner) => core::mem::replace(&mut inner.slot, slot),
            Self::Object(_, pages, index) => pages.set_slot(*index, slot),
        }
    }

    /// The page is in memory only: its slot, if it has one, is given up.
    pub(crate) fn give_slot_up(&mut self, uvm: &Uvm) {
        if let Some(slot) = self.set_slot(None) {
            uvm.swap().free(uvm, slot);
            if let Some(frame) = self.frame() {
                uvm.page(frame).clear(PageFlags::CLEAN);
            } else {
                uvm.meter().lower(Gauge::Swpgonly, 1);
            }
        }
    }

    /// Puts a fresh frame, BUSY and FAKE, in for the page that is on swap only.
    ///
    /// # Errors
    /// [`OutOfMemory`]; the frame stays the caller's.
    pub(crate) fn put(&mut self, uvm: &Uvm, frame: Frame) -> Result<(), OutOfMemory> {
        match self {
            Self::Anon(anon, inner) => Anon::put(anon, inner, uvm, frame),
            Self::Object(object, pages, index) => {
                UvmObject::insert(object, pages, uvm, *index, frame)?;
                uvm.page(frame).set(PageFlags::AOBJ);
            }
        }
        uvm.meter().lower(Gauge::Swpgonly, 1);
        Ok(())
    }

    /// Takes the frame out: from now on, that is since `went`, the page is on swap only. Nothing maps it. Whether the caller has to free the frame;
    /// if not, that happens when its last hold goes.
    #[inline(always)]
    #[must_use]
    pub(crate) fn evict(&mut self, uvm: &Uvm, went: Went) -> bool {
        debug_assert!(self.slot().is_some(), "an evicted page has a slot");
        uvm.meter().raise(Gauge::Swpgonly, 1);
        match self {
            Self::Anon(_, inner) => Anon::evict(inner, uvm, went),
            Self::Object(object, pages, index) => {
                if let Some(slot) = pages.slot(*index) {
                    uvm.upper.memory.gone.note(Key::slot(slot));
                }
                object.take_out(pages, uvm, *index)
            }
        }
    }

    /// The page is back: how many evictions it was away for, if that is known. That is forgotten.
    pub(crate) fn returns(&mut self, uvm: &Uvm) -> Option<u64> {
        let gone = &uvm.upper.memory.gone;
        match self {
            Self::Anon(_, inner) => gone.since(core::mem::take(&mut inner.went)),
            Self::Object(_, pages, index) => gone.take(Key::slot(pages.slot(*index)?)),
        }
    }
}
