//! Loans: pages that somebody reads without a copy, while their owner may write on.
//!
//! # What this owns
//! Nothing: a loan is a hold of a page ([`PageHold`]) together with LOANED among the page's attributes. The hold keeps the frame; as
//! long as there is one, LOANED keeps everybody, the owner included, from writing to it: all translations lose WRITE when the page is
//! lent, and none gets it back. After UVM's `uvm_loan`:
//!
//! | | of an anon's page | of an object's page |
//! |---|---|---|
//! | **to the kernel** ([`VmSpace::loan`]) | a hold | a hold |
//! | **to a process** ([`VmSpace::loan_to`]) | one more reference to the anon: copy on write does the rest | an anon that *borrows* the page |
//!
//! # Breaking a loan
//! A write to a lent page first gives the *owner* a new page with a copy, at the same place; whoever has the loan keeps the old frame,
//! which is disowned and is freed with the last loan. An anon that borrows gets a page of its own when it is written. When the
//! page's owner lets it go, evictors never touching a page that is held, the first borrower to use it becomes its owner.
//!
//! Wired pages never change their frame, so they are not lent: who borrows one gets a copy. Who wires a lent page breaks the loan.
//!
//! # How it synchronises
//! LOANED is set, and the count raised from nothing, under the lock of the page's owner, with the page not busy. Who has a loan may lend
//! on under its own lock: the count is not 0 then. A borrowing anon's translations are entered under the anon's lock and not under
//! that of the page's owner; they never allow writes, and no owner frees or rewrites a frame that is on loan, so that none depends on
//! finding them.

mod breaking;

use alloc::sync::Arc;

use arrayvec::ArrayVec;

use crate::Uvm;
use crate::addr::{Frame, PAGE_SIZE, VaRange, VirtAddr};
use crate::anon::Anon;
use crate::fault::FaultError;
use crate::map::{MapEntry, USER_MAX, VmError, VmSpace};
use crate::meter::Counter;
use crate::object::{PageHold, Resident};
use crate::page::{PageAttrs, PageFlags};
use crate::pdaemon::demand::Demand;
use crate::pool::{OutOfMemory, Ref};
use crate::prot::{Access, Prot};

pub(crate) use breaking::Usable;

/// Most pages in one [`KernelLoan`].
pub const MAX_LOAN: usize = 16;
/// Pages lent to a process between two looks at whether someone else should run.
const BATCH: usize = 64;

/// Why pages could not be lent to another space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoanError {
    /// The lender's pages cannot be had.
    #[error("lender: {0}")]
    From(FaultError),
    /// The borrower's range cannot show them.
    #[error("borrower: {0}")]
    To(VmError),
}

/// Pages on loan to the kernel, as they were when they were lent. Dropping it gives them back.
///
/// Does not prove that the pages are still what the lender has: only that these bytes do not change.
#[must_use = "dropping it gives the pages back"]
pub struct KernelLoan {
    pages: ArrayVec<PageHold, MAX_LOAN>,
}

impl KernelLoan {
    /// How many pages.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.pages.len()
    }

    /// The frames, in order of addresses: what a device is told to read.
    pub fn frames(&self) -> impl ExactSizeIterator<Item = Frame> + '_ {
        self.pages.iter().map(PageHold::frame)
    }

    /// Copies bytes from `offset`, counted from the start of the first page, to `out`.
    ///
    /// # Panics
    /// If that runs past the last page.
    pub fn read(&self, offset: usize, out: &mut [u8]) {
        let mut done = 0;
        while done < out.len() {
            let at = offset + done;
            let within = at % PAGE_SIZE;
            let n = (PAGE_SIZE - within).min(out.len() - done);
            self.pages[at / PAGE_SIZE]
                .bytes()
                .read(within, &mut out[done..done + n]);
            done += n;
        }
    }
}

/// A page that was looked up, valid, with its owner locked.
enum Found<'a> {
    Anon(&'a Ref<Anon>, Frame),
    Object(Frame),
}

impl VmSpace {
    /// Lends the first pages of `range`, as many as there are but no more than [`MAX_LOAN`], to the kernel: their bytes stay as they
    /// are now while the [`KernelLoan`] lives, whatever the program does. Awaits reads, busy pages and free frames.
    ///
    /// # Errors
    /// [`FaultError`] of the first page that cannot be read; [`FaultError::Io`] also for a device's memory, which nobody can lend. Nothing
    /// is lent then.
    pub async fn loan(&self, range: VaRange) -> Result<KernelLoan, FaultError> {
        let uvm = self.uvm();
        let mut loan = KernelLoan {
            pages: ArrayVec::new(),
        };
        let mut at = range.start().as_u64();
        while at < range.end().as_u64() && !loan.pages.is_full() {
            let page = self
                .lend_page(at, |found| {
                    let (Found::Anon(_, frame) | Found::Object(frame)) = found;
                    if uvm.page(frame).wire_count() > 0 {
                        return uvm.copy_for_loan(frame);
                    }
                    uvm.lend(frame);
                    Ok(PageHold::counted(uvm, frame))
                })
                .await?;
            loan.pages.push(page);
            at += PAGE_SIZE as u64;
        }
        Ok(loan)
    }

    /// Lends the pages of `range` to `to`, which shows them from `at` on, in place of what it had there, without a copy: a copy is
    /// made by whichever side writes first. The borrower's range is private anonymous memory that may be written and is not wired.
    /// Awaits reads, busy pages and free frames, and its turn between parts. `to` may be `self`.
    ///
    /// # Errors
    /// [`LoanError::From`] with the [`FaultError`] of the first page that cannot be read. [`LoanError::To`] with [`VmError::Unmapped`],
    /// [`VmError::Protection`] where it may not be written, [`VmError::Busy`] where it is wired, and [`VmError::Invalid`] where it is not
    /// private anonymous memory or lies outside the user half. Pages before that one have been lent.
    pub async fn loan_to(&self, range: VaRange, to: &Self, at: VirtAddr) -> Result<(), LoanError> {
        let len = range.end().as_u64() - range.start().as_u64();
        let end = at.as_u64().checked_add(len);
        if !at.is_aligned(PAGE_SIZE as u64) || end.is_none_or(|end| end > USER_MAX) {
            return Err(LoanError::To(VmError::Invalid));
        }
        let uvm = self.uvm();
        let mut demand = Demand::new();
        let mut done = 0;
        while done < len {
            let anon = self
                .lend_page(range.start().as_u64() + done, |found| found.into_anon(uvm))
                .await
                .map_err(LoanError::From)?;
            match to.show_anon(at.as_u64() + done, anon) {
                Ok(()) => done += PAGE_SIZE as u64,
                Err(VmError::OutOfMemory) => demand
                    .wait_unless(uvm, || self.is_doomed() || to.is_doomed())
                    .await
                    .map_err(|OutOfMemory| LoanError::To(VmError::OutOfMemory))?,
                Err(error) => return Err(LoanError::To(error)),
            }
            if done.is_multiple_of((BATCH * PAGE_SIZE) as u64) {
                uvm.executor().reschedule_if_asked().await;
            }
        }
        Ok(())
    }

    /// Calls `lend` with the page at `va`, its owner locked, and the page neither missing nor busy. Faults it in until that is so.
    async fn lend_page<T>(
        &self,
        va: u64,
        lend: impl Fn(Found<'_>) -> Result<T, OutOfMemory>,
    ) -> Result<T, FaultError> {
        let mut demand = Demand::new();
        loop {
            match self.find_page(va, &lend)? {
                Some(Ok(lent)) => return Ok(lent),
                Some(Err(OutOfMemory)) => self.await_memory(&mut demand).await?,
                None => {
                    self.fault(VirtAddr::new_truncate(va), Access::Read).await?;
                }
            }
        }
    }

    /// Looks the page at `va` up, amap first, as a load would. `None`: it is missing or busy.
    fn find_page<T>(
        &self,
        va: u64,
        f: impl FnOnce(Found<'_>) -> T,
    ) -> Result<Option<T>, FaultError> {
        let uvm = self.uvm();
        let map = self.map.read();
        let entry = self.map.lookup(&map, va).ok_or(FaultError::NoMapping)?;
        if !entry.prot.allows(Access::Read) {
            return Err(FaultError::Protection);
        }
        if let Some(amap) = &entry.amap {
            let slots = amap.lock();
            if let Some(anon) = slots.anons.get(entry.slot_of(va)) {
                let inner = anon.lock();
                let idle = inner.frame.filter(|&frame| !uvm.page(frame).is_busy());
                return Ok(idle.map(|frame| f(Found::Anon(anon, frame))));
            }
        }
        let Some(object) = &entry.object else {
            return Ok(None);
        };
        if object.is_device() {
            let within = entry.device_frame(va).is_some();
            return Err(if within {
                FaultError::Io
            } else {
                FaultError::BeyondEnd
            });
        }
        let pages = object.lock();
        match pages.at(uvm, entry.index_of(va)) {
            Resident::Valid(frame) => Ok(Some(f(Found::Object(frame)))),
            Resident::Missing | Resident::Swapped(_) | Resident::Busy(_) => Ok(None),
        }
    }

    /// Has the slot at `va` show `anon`, in place of what is there.
    fn show_anon(&self, va: u64, anon: Ref<Anon>) -> Result<(), VmError> {
        let uvm = self.uvm();
        loop {
            let map = self.map.read();
            let entry = self.map.lookup(&map, va).ok_or(VmError::Unmapped)?;
            may_borrow(entry)?;
            let Some(amap) = entry.amap.as_ref().filter(|_| !entry.needs_copy) else {
                drop(map);
                self.own_amap(va)?;
                continue;
            };
            let mut slots = amap.lock();
            let slot = entry.slot_of(va);
            let frame = slots.anons.get(slot).and_then(|old| old.lock().frame);
            if let Some(frame) = frame {
                if uvm.page(frame).wire_count() > 0 {
                    return Err(VmError::Busy);
                }
                if amap.is_shared() {
                    // Others who share the amap must see the new page.
                    uvm.page_protect(frame, Prot::empty());
                }
            }
            let old = slots.anons.insert(slot, anon, uvm, &uvm.upper.slot_nodes)?;
            // No fault comes in between: it needs the amap's lock.
            let page = VaRange::of_pages(VirtAddr::new_truncate(va), 1);
            self.pmap().remove(uvm, page);
            self.pmap().update(uvm);
            drop((slots, old));
            return Ok(());
        }
    }
}

/// Whether an entry may show borrowed pages.
fn may_borrow(entry: &MapEntry) -> Result<(), VmError> {
    if entry.object.is_some() || !entry.copy_on_write {
        return Err(VmError::Invalid);
    }
    if entry.wired > 0 {
        return Err(VmError::Busy);
    }
    if !entry.prot.contains(Prot::WRITE) {
        return Err(VmError::Protection);
    }
    Ok(())
}

impl Found<'_> {
    /// An anon for another amap that shows the page: the same one, or one that borrows it, or, of a wired page, one with a copy.
    fn into_anon(self, uvm: &Uvm) -> Result<Ref<Anon>, OutOfMemory> {
        let (Self::Anon(_, frame) | Self::Object(frame)) = self;
        if uvm.page(frame).wire_count() > 0 {
            let copy = uvm.copy_page(frame)?;
            return Anon::new(uvm, copy).inspect_err(|_| uvm.free_frame(copy));
        }
        match self {
            Self::Anon(anon, _) => {
                uvm.count(Counter::Loans);
                uvm.page_protect(frame, Prot::READ | Prot::EXEC);
                Ok(anon.clone())
            }
            Self::Object(_) => {
                uvm.lend(frame);
                Anon::borrowing(uvm, frame).inspect_err(|_| uvm.let_go(frame))
            }
        }
    }
}

impl Uvm {
    /// Lends a page that is neither busy nor wired: counts a hold, and takes the right to write to it from everybody. The caller has
    /// its owner locked, or has a loan of it, and gives this one back by [`Self::let_go`].
    pub(crate) fn lend(&self, frame: Frame) {
        let page = self.page(frame);
        debug_assert!(page.wire_count() == 0 && !page.is_busy());
        self.count(Counter::Loans);
        page.note_attrs(PageAttrs::LOANED);
        page.loan();
        self.page_protect(frame, Prot::READ | Prot::EXEC);
    }

    /// A copy of a page that must not be lent, owned by nobody and freed with the hold.
    fn copy_for_loan(self: &Arc<Self>, frame: Frame) -> Result<PageHold, OutOfMemory> {
        let copy = self.copy_page(frame)?;
        let page = self.page(copy);
        page.reset_flags(PageFlags::empty());
        let hold = PageHold::new(self, copy);
        let unheld = page.orphan();
        debug_assert!(!unheld, "held a line ago");
        Ok(hold)
    }
}

#[cfg(test)]
mod tests;
