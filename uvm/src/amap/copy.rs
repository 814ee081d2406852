//! Copies of amaps, made in parts.
//!
//! # What this owns
//! An amap that is not finished, until somebody shows it. Anons are shared with the original, one reference each more; but a wired
//! page has to stay alone with its anon, and so the copy gets one of its own at once (UVM's `cow_now`). Since that takes as long as there
//! are wired pages, a copy goes on where it stopped.
//!
//! # How it synchronises
//! Each part is made under the locks of both amaps. Between two parts the copy refers to nothing that could go away: whoever goes on
//! looks the original up again and asks whether it is that ([`Copying::is_of`]).

use core::num::NonZeroUsize;

use crate::Uvm;
use crate::addr::Frame;
use crate::amap::Amap;
use crate::anon::Anon;
use crate::page::freelist::{AllocFor, Zero};
use crate::pool::{OutOfMemory, Ref};
use crate::prot::Prot;

/// What copying a page costs, when sharing an anon costs 1.
const PAGE_COST: usize = 8;

/// A copy of some slots of an amap, under way.
pub(crate) struct Copying {
    /// Address of the original, to compare.
    source: NonZeroUsize,
    slot: u64,
    len: u64,
    /// First slot of the original not looked at yet.
    next: u64,
    copy: Ref<Amap>,
}

impl Copying {
    /// Begins a copy of the `len` slots of `source` from `slot` on.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub(crate) fn new(
        source: &Ref<Amap>,
        uvm: &Uvm,
        slot: u64,
        len: u64,
    ) -> Result<Self, OutOfMemory> {
        Ok(Self {
            source: Ref::as_ptr(source).addr(),
            slot,
            len,
            next: slot,
            copy: Amap::new(uvm, len)?,
        })
    }

    /// Whether these slots of `source` are what it copies.
    pub(crate) fn is_of(&self, source: &Ref<Amap>, slot: u64, len: u64) -> bool {
        (self.source, self.slot, self.len) == (Ref::as_ptr(source).addr(), slot, len)
    }

    /// Copies on, at a cost of about `budget` anons shared; whether that was all. Where the other side may have writable
    /// translations of a page that is shared now (`source` is shared) they are taken away.
    ///
    /// # Errors
    /// [`OutOfMemory`]; the copy is of no use any more, the original is as before.
    pub(crate) fn advance(
        &mut self,
        source: &Ref<Amap>,
        uvm: &Uvm,
        mut budget: usize,
    ) -> Result<bool, OutOfMemory> {
        let slots = source.lock();
        let mut target = self.copy.inner.lock_unshared();
        let end = self.slot + self.len;
        while let Some((at, anon)) = slots.anons.next_from(self.next).filter(|&(at, _)| at < end) {
            if budget == 0 {
                return Ok(false);
            }
            let frame = anon.lock().frame;
            let wired = frame.filter(|&frame| uvm.page(frame).wire_count() > 0);
            let (copy, cost) = match wired {
                Some(frame) => (copy_now(uvm, frame)?, PAGE_COST),
                None => (anon.clone(), 1),
            };
            target
                .anons
                .insert(at - self.slot, copy, uvm, &uvm.upper.slot_nodes)?;
            if let Some(frame) = frame
                && wired.is_none()
                && source.is_shared()
            {
                uvm.page_protect(frame, Prot::READ | Prot::EXEC);
            }
            self.next = at + 1;
            budget = budget.saturating_sub(cost);
        }
        Ok(true)
    }

    /// The finished copy, with one reference.
    pub(crate) fn finish(self) -> Ref<Amap> {
        self.copy
    }
}

/// An anon with the contents of a wired page. The page stays where it is while an amap that shows it is locked.
fn copy_now(uvm: &Uvm, wired: Frame) -> Result<Ref<Anon>, OutOfMemory> {
    let frame = uvm
        .alloc_frame(AllocFor::User, Zero::No)
        .ok_or(OutOfMemory)?;
    uvm.bytes(frame).copy_from(uvm.bytes(wired));
    Anon::new(uvm, frame).inspect_err(|_| uvm.free_frame(frame))
}
