//! The fault routine: what an access to an address needs, from the map down to the frame.
//!
//! # Shape
//! `resident` is a plain function: one pass over map, amap and object under their locks, which either finishes the fault or says
//! in its return type, `Attempt`, what is missing. It never waits, allocates nothing but the frame and
//! the anon of a page that did not exist, and takes no global lock. [`VmSpace::fault_at_once`] is that pass; only if something is
//! missing does [`VmSpace::fault_wait`], or [`VmSpace::fault`], which is both, go on to the loop that awaits it, with nothing held but a
//! hold on the page that it waits for, and then starts over from the top, since everything may have changed (rules 1 to 4 of awaiting).
//!
//! # Cases (UVM's numbers)
//! | case | there is | and then |
//! |---|---|---|
//! | 0 | nothing | a stack above grows down to it, or error |
//! | 1A | an anon, ours alone or only read | map it |
//! | 1B | an anon shared with others, written | copy it to an anon of our own |
//! | 2A | an object page, read or shared | map it |
//! | 2B | an object page written privately, or nothing but zeroes | a new anon with a copy, or zeroes |
//!
//! Two kinds of pages are mapped without WRITE although the mapping has it, and change at the first write: one on loan
//! ([`crate::loan`]: its owner gets a copy) and one that is a hole of its file (the pager gives it a block: `NeedBlock`).
//!
//! # Order of locks
//! map (read), amap, object, anon; translations are entered under them, so that whoever takes a page away, under its owner's lock,
//! finds every translation.

mod cases;
mod wire;

use alloc::boxed::Box;

use crate::Uvm;
use crate::addr::{PageIndex, VirtAddr};
use crate::amap::Amap;
use crate::anon::Anon;
use crate::map::grow::Grown;
use crate::map::{Advice, MapEntry, VmSpace};
use crate::meter::Counter;
use crate::object::{Behind, PageHold, PagerError, Settled, UvmObject};
use crate::page::freelist::AllocFor;
use crate::pdaemon::demand::Demand;
use crate::pool::{OutOfMemory, Ref};
use crate::prot::Access;
use crate::swap::pagein::Around;
use crate::swap::{Owner, SwapSlot};

pub(crate) use cases::resident;

/// Why a fault could not be resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// Nothing is mapped there (SIGSEGV, SEGV_MAPERR).
    #[error("nothing is mapped there")]
    NoMapping,
    /// The mapping does not allow it (SIGSEGV, SEGV_ACCERR).
    #[error("access not allowed")]
    Protection,
    /// The page could not be read (SIGBUS).
    #[error("input/output error")]
    Io,
    /// The page lies past the end of the file (SIGBUS).
    #[error("beyond the end of the object")]
    BeyondEnd,
    /// No frame, and none will come.
    #[error("out of memory")]
    OutOfMemory,
    /// The process is being killed.
    #[error("killed")]
    Killed,
}

impl From<PagerError> for FaultError {
    fn from(error: PagerError) -> Self {
        match error {
            PagerError::BeyondEnd => Self::BeyondEnd,
            PagerError::OutOfMemory => Self::OutOfMemory,
            PagerError::Io(_) | PagerError::ReadOnly => Self::Io,
        }
    }
}

/// A fault that could not be resolved at once, and what it lacked. Nothing is held but a hold on the page that it has to wait for.
#[must_use = "the access is not possible yet"]
pub struct Unresolved(Attempt);

/// How far one pass came.
pub(crate) enum Attempt {
    /// The access can be tried again.
    Done,
    /// It never can.
    Error(FaultError),
    /// The entry's amap must be made or copied first.
    NeedAmap,
    /// The page is busy; which one it is, if it is one that is being read.
    NeedBusy(PageHold, Option<Missing>),
    /// The page is on disk.
    NeedIo(Ref<UvmObject>, PageIndex, Advice),
    /// The page is a hole of the object and must get a place in the backing store before it is written.
    NeedBlock(PageHold, Ref<UvmObject>, PageIndex),
    /// The page is on swap.
    NeedSwap(Owner, SwapSlot, Advice),
    /// There was no frame, or no memory for a structure.
    NeedMemory,
}

/// A page that is not there.
#[derive(Clone)]
pub(crate) enum Missing {
    /// An object's.
    Object(Ref<UvmObject>, PageIndex),
    /// An anon's, by the anon's address and slot. Not a reference: it would look like somebody else who shows the page. Should another anon
    /// have come to lie there, it has another slot.
    Anon(usize, SwapSlot),
}

impl Missing {
    /// An anon's page, which is, or was written, in `slot`.
    pub(crate) fn anon(anon: &Ref<Anon>, slot: SwapSlot) -> Self {
        Self::Anon(Ref::as_ptr(anon).addr().get(), slot)
    }

    /// A page in `slot`.
    fn on_swap(owner: &Owner, slot: SwapSlot) -> Self {
        match owner {
            Owner::Anon(anon) => Self::anon(anon, slot),
            Owner::Object(object, index) => Self::Object(object.clone(), *index),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Object(object, index), other) => other.is(object, *index),
            (Self::Anon(at, slot), Self::Anon(a, s)) => at == a && slot == s,
            (Self::Anon(..), Self::Object(..)) => false,
        }
    }

    /// Whether it is that page of an object.
    fn is(&self, object: &Ref<UvmObject>, index: PageIndex) -> bool {
        matches!(self, Self::Object(o, i) if Ref::ptr_eq(o, object) && *i == index)
    }
}

impl Attempt {
    /// Whether it is that page which is missing.
    fn wants(&self, page: &Missing) -> bool {
        match (self, page) {
            (Self::NeedIo(object, index, _) | Self::NeedBlock(_, object, index), page) => {
                page.is(object, *index)
            }
            (Self::NeedBusy(_, Some(missing)), page) => page.is_same(missing),
            (Self::NeedSwap(owner, slot, _), page) => page.is_same(&Missing::on_swap(owner, *slot)),
            _ => false,
        }
    }
}

/// Whether neighbours are mapped along (only on the first pass), or the page is to be wired.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    First,
    Again,
    Wire,
}

impl VmSpace {
    /// Resolves a fault: when it returns `Ok`, the access at `va` is worth another try. Awaits reads, busy pages and free frames;
    /// a fault that needs none of them is done in the first poll.
    ///
    /// # Errors
    /// [`FaultError`]. The address space is unchanged then.
    #[inline]
    pub async fn fault(&self, va: VirtAddr, access: Access) -> Result<(), FaultError> {
        match self.fault_at_once(va, access) {
            Ok(()) => Ok(()),
            Err(unresolved) => self.fault_wait(va, access, unresolved).await,
        }
    }

    /// The first part of [`fault`](Self::fault), which never waits: for who would rather not make a future for each fault that needs
    /// none.
    ///
    /// # Errors
    /// [`Unresolved`] if that was not all: [`fault_wait`](Self::fault_wait) is the rest.
    #[inline]
    pub fn fault_at_once(&self, va: VirtAddr, access: Access) -> Result<(), Unresolved> {
        let va = va.as_u64();
        let uvm = self.uvm();
        uvm.count(Counter::Faults);
        self.fault_counts.count();
        let mut attempt = resident(self, va, access, Pass::First);
        if let Attempt::NeedAmap = attempt {
            attempt = match self.own_amap(va) {
                Ok(()) => resident(self, va, access, Pass::First),
                Err(OutOfMemory) => Attempt::NeedMemory,
            };
        }
        match attempt {
            Attempt::Done => {
                uvm.count(Counter::FltNowait);
                // There is nothing in it; without this it is looked at once more to find that out.
                core::mem::forget(attempt);
                Ok(())
            }
            missing => Err(Unresolved(missing)),
        }
    }

    /// What a fault comes to if nothing may be awaited; `None`: something would have to be.
    #[cfg(test)]
    pub(crate) fn try_fault(&self, va: VirtAddr, access: Access) -> Option<Result<(), FaultError>> {
        match self.fault_at_once(va, access) {
            Ok(()) => Some(Ok(())),
            Err(Unresolved(Attempt::Error(error))) => Some(Err(error)),
            Err(Unresolved(_)) => None,
        }
    }

    /// The part of [`fault`](Self::fault) that may await: at the same address, for the same access. `unresolved`: what it has come to.
    ///
    /// # Errors
    /// As those of a whole fault.
    pub async fn fault_wait(
        &self,
        va: VirtAddr,
        access: Access,
        unresolved: Unresolved,
    ) -> Result<(), FaultError> {
        let (va, Unresolved(missing)) = (va.as_u64(), unresolved);
        self.fault_counts.count_wait();
        let again = || resident(self, va, access, Pass::Again);
        // Only who has made it grow wires what is new: whatever else is not wired there has been unwired since.
        let mut grown = None;
        let mut grow = |attempt| match attempt {
            Attempt::Error(FaultError::NoMapping) => match self.grow_stack(va) {
                Ok(Grown::Yes(unwired)) => {
                    grown = unwired.or(grown);
                    again()
                }
                Ok(Grown::No) => Attempt::Error(FaultError::NoMapping),
                Err(OutOfMemory) => Attempt::NeedMemory,
            },
            attempt => attempt,
        };
        let missing = grow(missing);
        self.fault_until(va, Some(missing), || grow(again()))
            .await?;
        if let Some(growth) = grown
            && self.uvm().can_allocate(AllocFor::User, 1)
        {
            // Rare, and large: it has a block of its own.
            Box::pin(self.wire_growth(growth)).await;
        }
        Ok(())
    }

    /// Repeats `pass`, which looks at `va`, and awaits what it misses, until it is done or cannot be. `attempt`: what it has missed
    /// just now, nothing awaited since.
    async fn fault_until(
        &self,
        va: u64,
        mut attempt: Option<Attempt>,
        mut pass: impl FnMut() -> Attempt,
    ) -> Result<(), FaultError> {
        let uvm = self.uvm();
        // Kept over the next pass, so that what was waited for is still there.
        let mut held = None;
        let mut demand = Demand::new();
        // The page that could not be had, and why.
        let mut failed: Option<(Missing, FaultError)> = None;
        // How to read after a cluster failed.
        let mut narrowed = None;
        loop {
            let attempt = attempt.take().unwrap_or_else(&mut pass);
            // Something else may be mapped there by now, or nothing. Only if it is that page which is still missing is its error ours.
            if let Some((page, error)) = failed.take()
                && attempt.wants(&page)
            {
                uvm.count(Counter::FaultErrors);
                return Err(error);
            }
            match attempt {
                Attempt::Done => {
                    self.remember(held);
                    return Ok(());
                }
                Attempt::Error(error) => {
                    uvm.count(Counter::FaultErrors);
                    return Err(error);
                }
                Attempt::NeedAmap => {
                    if self.own_amap(va).is_err() {
                        self.await_memory(&mut demand).await?;
                    }
                }
                Attempt::NeedBusy(hold, page) => {
                    uvm.count(Counter::FltPgwait);
                    match (hold.settled().await, page) {
                        (Settled::Valid, _) => held = Some(hold),
                        (Settled::ClusterFailed, _) => narrowed = Some(Advice::Random),
                        (Settled::Failed, Some(page)) => failed = Some((page, FaultError::Io)),
                        // Nobody was reading it when this was looked at.
                        (Settled::Failed, None) => {}
                    }
                }
                Attempt::NeedIo(..) | Attempt::NeedBlock(..) | Attempt::NeedSwap(..)
                    if !uvm.can_allocate(AllocFor::User, 1)
                        || (uvm.is_scarce() && !self.may_take()) =>
                {
                    // A read needs a frame anyway, and the pager's future a block of the heap, which must not be asked in vain.
                    drop(attempt);
                    self.await_memory(&mut demand).await?;
                }
                Attempt::NeedSwap(owner, slot, advice) => {
                    let page = Missing::on_swap(&owner, slot);
                    let advice = narrowed.unwrap_or(advice);
                    let around = match page {
                        Missing::Anon(..) => Around::Space(self, va),
                        Missing::Object(..) => Around::Object,
                    };
                    match uvm.swap_in(owner, around, advice).await {
                        Ok(None) => {}
                        Ok(Some(hold)) => match hold.settled().await {
                            Settled::Valid => held = Some(hold),
                            Settled::ClusterFailed => narrowed = Some(Advice::Random),
                            Settled::Failed => failed = Some((page, FaultError::Io)),
                        },
                        Err(OutOfMemory) => self.await_memory(&mut demand).await?,
                    }
                }
                Attempt::NeedIo(object, index, advice) => {
                    uvm.count(Counter::FltGet);
                    if let Behind::Pager(pager) = object.behind() {
                        let advice = narrowed.unwrap_or(advice);
                        match pager.get(uvm, &object, index, advice).await {
                            Ok(None) => {}
                            Ok(Some(hold)) => match hold.settled().await {
                                Settled::Valid => held = Some(hold),
                                Settled::ClusterFailed => narrowed = Some(Advice::Random),
                                Settled::Failed => {
                                    failed = Some((Missing::Object(object, index), FaultError::Io));
                                }
                            },
                            Err(PagerError::OutOfMemory) => self.await_memory(&mut demand).await?,
                            Err(error) => {
                                failed = Some((Missing::Object(object, index), error.into()));
                            }
                        }
                    }
                }
                Attempt::NeedBlock(hold, object, index) => {
                    if let Behind::Pager(pager) = object.behind() {
                        match pager.allocate(uvm, &object, index).await {
                            Ok(()) => {
                                object.allocated(uvm, index, &hold);
                                held = Some(hold);
                            }
                            Err(error) => {
                                failed = Some((Missing::Object(object, index), error.into()));
                            }
                        }
                    }
                }
                Attempt::NeedMemory => self.await_memory(&mut demand).await?,
            }
            uvm.count(Counter::FltRelck);
        }
    }

    /// Waits, after an attempt that failed, until another one makes sense. The caller holds nothing.
    ///
    /// # Errors
    /// [`FaultError::Killed`] if the process is to end, else [`FaultError::OutOfMemory`], when none does.
    pub(crate) async fn await_memory(&self, demand: &mut Demand) -> Result<(), FaultError> {
        let uvm = self.uvm();
        uvm.count(Counter::FltNoram);
        if self.wait_for_turn().await {
            return Ok(());
        }
        let waited = demand.wait_unless(uvm, || self.is_doomed()).await;
        waited.map_err(|OutOfMemory| {
            uvm.count(Counter::FaultErrors);
            match self.is_doomed() {
                true => FaultError::Killed,
                false => FaultError::OutOfMemory,
            }
        })
    }

    /// Gives the entry at `va` an amap of its own: the existing one if nobody else refers to it, else a copy.
    ///
    /// # Errors
    /// [`OutOfMemory`]; nothing has changed.
    pub(crate) fn own_amap(&self, va: u64) -> Result<(), OutOfMemory> {
        let mut map = self.map.write();
        let Some(entry) = map.tree.find(va).map(|node| node.value()) else {
            return Ok(());
        };
        if !entry.needs_copy {
            return Ok(());
        }
        let (start, slot, len) = (entry.start, entry.slot, entry.pages());
        let new = own(self.uvm(), entry)?;
        let old = map.tree.modify(start, |entry| {
            entry.needs_copy = false;
            new.and_then(|new| {
                entry.slot = new.first();
                entry.amap.replace(new)
            })
        });
        drop(map);
        if let Some(old) = old.flatten() {
            Amap::unreference(old, self.uvm(), slot, len);
        }
        Ok(())
    }
}

/// The amap that an entry gets when it needs one of its own; `None`: it may keep the one that it has, which nobody
/// else refers to.
pub(crate) fn own(uvm: &Uvm, entry: &MapEntry) -> Result<Option<Ref<Amap>>, OutOfMemory> {
    let pages = entry.pages();
    match &entry.amap {
        None => {
            let first = entry.room_below();
            Amap::new(uvm, first..first + pages).map(Some)
        }
        Some(amap) if Ref::count(amap) == 1 => Ok(None),
        Some(amap) => Amap::copy(amap, uvm, entry.slot..entry.slot + pages).map(Some),
    }
}

#[cfg(test)]
mod tests;
