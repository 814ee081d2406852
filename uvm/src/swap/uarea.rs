//! Transfers of u-areas: their slots, and the requests that write and read them.
//!
//! Owns nothing: which u-area has which slots is its [`Residence`]'s to know, who may be asked for it is in `crate::uarea`. Slots are taken and given
//! back here, side by side if there are two such, so that a u-area is one request.
//!
//! Page-out's workers write them ([`super::pageout`]), each with the request slot that it has anyway, so that nothing is allocated or
//! waited for on the way out but the device (rule 5 of awaiting).

use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use arrayvec::ArrayVec;

use super::{Swap, SwapSlot};
use crate::Uvm;
use crate::addr::Frame;
use crate::io::{IoError, Op, Request, Segment};
use crate::lock::{LEAF, SpinLock};
use crate::meter::Counter;
use crate::uarea::{Residence, UAREA_PAGES};

/// u-areas on their way out at once, at most.
const UNDER_WAY: usize = 32;

/// The slots of a u-area's pages, in their order.
pub(crate) type UareaSlots = [SwapSlot; UAREA_PAGES];

/// Slots that could not be written.
pub(crate) type BadSlots = ArrayVec<SwapSlot, UAREA_PAGES>;

/// u-areas that are to be written.
pub(super) struct LeavingUareas {
    /// Those that no worker has taken yet.
    ready: SpinLock<ArrayVec<Arc<Residence>, UNDER_WAY>, LEAF>,
    /// Those, and those that workers have.
    under_way: AtomicUsize,
}

impl LeavingUareas {
    pub(super) const fn new() -> Self {
        Self {
            ready: SpinLock::new(ArrayVec::new_const()),
            under_way: AtomicUsize::new(0),
        }
    }

    /// How many are on their way.
    pub(super) fn under_way(&self) -> usize {
        self.under_way.load(Relaxed)
    }

    /// The next one for a worker, which calls [`Self::finished`] for it.
    pub(super) fn next(&self) -> Option<Arc<Residence>> {
        let mut ready = self.ready.lock();
        (!ready.is_empty()).then(|| ready.remove(0))
    }

    /// One is through.
    pub(super) fn finished(&self) {
        self.under_way.fetch_sub(1, Relaxed);
    }
}

/// The right to put one u-area on its way. Dropped unused, it is another's.
#[must_use = "for one u-area"]
pub(crate) struct Place<'a>(&'a LeavingUareas);

impl Place<'_> {
    /// Uses it: a page-out worker will call [`Residence::leave`].
    pub(crate) fn take(self, uvm: &Uvm, residence: Arc<Residence>) {
        let full = self.0.ready.lock().try_push(residence).is_err();
        debug_assert!(!full, "more u-areas than places");
        core::mem::forget(self);
        uvm.swap().out.has_work();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.finished();
    }
}

impl Swap {
    /// A place among the u-areas that leave, if there is one.
    pub(crate) fn uarea_place(&self) -> Option<Place<'_>> {
        let leaving = &self.out.uareas;
        let more = |n: usize| (n < UNDER_WAY).then_some(n + 1);
        let had = leaving.under_way.fetch_update(Relaxed, Relaxed, more);
        had.is_ok().then(|| Place(leaving))
    }

    /// Takes one slot: for tests.
    #[cfg(test)]
    pub(crate) fn take_any(&self, uvm: &Uvm) -> Option<(SwapSlot, usize)> {
        self.take_run(uvm, 1)
    }

    /// Takes slots for a u-area, in a row if it can. `None`: there are not so many.
    pub(crate) fn take_for_uarea(&self, uvm: &Uvm) -> Option<UareaSlots> {
        let mut slots = ArrayVec::<SwapSlot, UAREA_PAGES>::new();
        while !slots.is_full() {
            let Some((first, len)) = self.take_run(uvm, UAREA_PAGES - slots.len()) else {
                self.free_all(uvm, slots.into_iter());
                return None;
            };
            slots.extend((0..len as isize).filter_map(|i| first.offset(i)));
        }
        slots.into_inner().ok()
    }

    /// Gives a u-area's slots back, but those that cannot be written: they are never used again.
    pub(crate) fn free_of_uarea(&self, uvm: &Uvm, slots: UareaSlots, bad: &BadSlots) {
        bad.iter().for_each(|&slot| self.condemn(uvm, slot));
        let good = slots.into_iter().filter(|slot| !bad.contains(slot));
        self.free_all(uvm, good);
    }
}

impl Uvm {
    /// Writes a u-area's frames to its slots. Awaits the device. For page-out's workers.
    ///
    /// # Errors
    /// The slots that cannot be written.
    pub(crate) async fn write_uarea(
        &self,
        frames: [Frame; UAREA_PAGES],
        slots: UareaSlots,
    ) -> Result<(), BadSlots> {
        if in_a_row(slots) && self.write_to(&frames, slots[0]).await.is_ok() {
            return Ok(());
        }
        // Nobody knows which of them cannot be written.
        let mut bad = BadSlots::new();
        for (frame, slot) in frames.into_iter().zip(slots) {
            if self.write_to(&[frame], slot).await.is_err() {
                bad.push(slot);
            }
        }
        if bad.is_empty() { Ok(()) } else { Err(bad) }
    }

    async fn write_to(&self, frames: &[Frame], slot: SwapSlot) -> Result<(), IoError> {
        let (disk, request) = self.swap().transfer(Op::Write, frames, slot)?;
        self.count(Counter::Pageouts);
        let claim = self.io().claim_to_write().await;
        claim.submit(&disk, request).await
    }

    /// Reads a u-area into frames, which are the caller's and stay so until this has ended: it is not to be dropped before. Awaits a request slot
    /// and the device.
    ///
    /// # Errors
    /// What the device reports of a page that was asked for alone; its slot is not used again once it is given back.
    pub(crate) async fn read_uarea(
        &self,
        frames: [Frame; UAREA_PAGES],
        slots: UareaSlots,
    ) -> Result<(), IoError> {
        if in_a_row(slots) && self.read_from(&frames, slots[0]).await.is_ok() {
            return Ok(());
        }
        for (frame, slot) in frames.into_iter().zip(slots) {
            let read = self.read_from(&[frame], slot).await;
            read.inspect_err(|_| self.swap().doubt(slot))?;
        }
        Ok(())
    }

    async fn read_from(&self, frames: &[Frame], slot: SwapSlot) -> Result<(), IoError> {
        let (disk, request) = self.swap().transfer(Op::Read, frames, slot)?;
        self.count(Counter::Pageins);
        self.io().transfer(&disk, request).await
    }
}

impl Swap {
    /// A request for frames and as many slots from `slot` on, and whom to ask.
    fn transfer(
        &self,
        op: Op,
        frames: &[Frame],
        slot: SwapSlot,
    ) -> Result<(Arc<dyn crate::BlockDevice>, Request), IoError> {
        let (disk, offset) = self.place(slot).ok_or(IoError::Device)?;
        let segments = frames.iter().copied().map(Segment::page).collect();
        Ok((disk, Request::transfer(op, offset, segments)))
    }
}

/// Whether slots lie side by side.
fn in_a_row(slots: UareaSlots) -> bool {
    slots
        .windows(2)
        .all(|pair| pair[0].offset(1) == Some(pair[1]))
}
