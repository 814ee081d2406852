//! The fault routine: what an access to an address needs, from the map down to the frame.
//!
//! # Shape
//! `resident` is a plain function: one pass over map, amap and object under their locks, which either finishes the fault or says
//! in its return type, `Attempt`, what is missing. It never waits, allocates nothing but the frame and
//! the anon of a page that did not exist, and takes no global lock. [`VmSpace::fault`] calls it first; only if
//! something is missing does it go on to the loop that awaits it, with nothing held but a hold on the page that it waits for, and
//! then starts over from the top, since everything may have changed (rules 1 to 4 of awaiting).
//!
//! # Cases (UVM's numbers)
//! | case | there is | and then |
//! |---|---|---|
//! | 0 | nothing | error |
//! | 1A | an anon, ours alone or only read | map it |
//! | 1B | an anon shared with others, written | copy it to an anon of our own |
//! | 2A | an object page, read or shared | map it |
//! | 2B | an object page written privately, or nothing but zeroes | a new anon with a copy, or zeroes |
//!
//! # Order of locks
//! map (read), amap, object, anon; translations are entered under them, so that whoever takes a page away, under its owner's lock,
//! finds every translation.

use alloc::sync::Arc;

use crate::Uvm;
use crate::addr::{Frame, PAGE_SIZE, PageIndex, VirtAddr};
use crate::amap::{Amap, AmapInner};
use crate::anon::Anon;
use crate::glue::VmSpace;
use crate::map::{Advice, MapEntry};
use crate::meter::Counter;
use crate::object::{Behind, PageHold, PagerError, Resident, UvmObject, aobj};
use crate::page::PageFlags;
use crate::page::freelist::{AllocFor, Zero};
use crate::pdaemon::Demand;
use crate::pmap::EnterFlags;
use crate::pool::{OutOfMemory, Ref};
use crate::prot::{Access, Prot};

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

/// How far one pass came.
pub(crate) enum Attempt {
    /// The access can be tried again.
    Done,
    /// It never can.
    Error(FaultError),
    /// The entry's amap must be made or copied first.
    NeedAmap,
    /// The page is busy; the object's page that it is, if it is one.
    NeedBusy(PageHold, Option<(Ref<UvmObject>, PageIndex)>),
    /// The page is on disk.
    NeedIo(Ref<UvmObject>, PageIndex, Advice),
    /// There was no frame, or no memory for a structure.
    NeedMemory,
}

impl Attempt {
    /// Whether it is page `index` of `object` that is missing.
    fn wants(&self, object: &Ref<UvmObject>, index: PageIndex) -> bool {
        match self {
            Self::NeedIo(wanted, at, _) | Self::NeedBusy(_, Some((wanted, at))) => {
                Ref::ptr_eq(wanted, object) && *at == index
            }
            _ => false,
        }
    }
}

/// Whether neighbours are mapped along: only on the first pass.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    First,
    Again,
}

impl VmSpace {
    /// Resolves a fault at `va`, if that takes no waiting. Never waits; what a caller tries before it builds the future of
    /// [`Self::fault`]. `None`: call that.
    #[inline]
    pub fn try_fault(&self, va: VirtAddr, access: Access) -> Option<Result<(), FaultError>> {
        let uvm = self.uvm();
        uvm.count(Counter::Faults);
        let mut attempt = resident(self, va.as_u64(), access, Pass::First);
        if let Attempt::NeedAmap = attempt {
            attempt = match self.own_amap(va.as_u64()) {
                Ok(()) => resident(self, va.as_u64(), access, Pass::First),
                Err(OutOfMemory) => Attempt::NeedMemory,
            };
        }
        match attempt {
            Attempt::Done => {
                uvm.count(Counter::FltNowait);
                Some(Ok(()))
            }
            Attempt::Error(error) => {
                uvm.count(Counter::FaultErrors);
                Some(Err(error))
            }
            _ => None,
        }
    }

    /// Resolves a fault: when it returns `Ok`, the access at `va` is worth another try. Awaits reads, busy pages and free frames;
    /// a fault that needs none of them is done in the first poll.
    ///
    /// # Errors
    /// [`FaultError`]. The address space is unchanged then.
    #[inline]
    pub async fn fault(&self, va: VirtAddr, access: Access) -> Result<(), FaultError> {
        match self.try_fault(va, access) {
            Some(result) => result,
            None => self.fault_wait(va.as_u64(), access).await,
        }
    }

    /// The part of a fault that awaits.
    async fn fault_wait(&self, va: u64, access: Access) -> Result<(), FaultError> {
        let uvm = self.uvm();
        // Kept over the next pass, so that what was waited for is still there.
        let mut held = None;
        let mut demand = Demand::new();
        // The page that could not be had, and why.
        let mut failed: Option<(Ref<UvmObject>, PageIndex, FaultError)> = None;
        loop {
            let attempt = resident(self, va, access, Pass::Again);
            // Something else may be mapped there by now, or nothing. Only if it is that page which is still missing is its error ours.
            if let Some((object, index, error)) = failed.take()
                && attempt.wants(&object, index)
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
                        (Ok(()), _) => held = Some(hold),
                        (Err(_), Some((object, index))) => {
                            failed = Some((object, index, FaultError::Io));
                        }
                        (Err(_), None) => return Err(FaultError::Io),
                    }
                }
                Attempt::NeedIo(..) if !uvm.can_allocate(AllocFor::User, 1) => {
                    // A read needs a frame anyway, and its future a block of the heap, which must not be asked in vain.
                    self.await_memory(&mut demand).await?;
                }
                Attempt::NeedIo(object, index, advice) => {
                    uvm.count(Counter::FltGet);
                    if let Behind::Pager(pager) = object.behind() {
                        match pager.get(uvm, &object, index, advice).await {
                            Ok(None) => {}
                            Ok(Some(hold)) => match hold.settled().await {
                                Ok(()) => held = Some(hold),
                                Err(_) => failed = Some((object, index, FaultError::Io)),
                            },
                            Err(error) => failed = Some((object, index, error.into())),
                        }
                    }
                }
                Attempt::NeedMemory => self.await_memory(&mut demand).await?,
            }
            uvm.count(Counter::FltRelck);
        }
    }

    async fn await_memory(&self, demand: &mut Demand) -> Result<(), FaultError> {
        let uvm = self.uvm();
        uvm.count(Counter::FltNoram);
        demand.wait(uvm).await.map_err(|OutOfMemory| {
            uvm.count(Counter::FaultErrors);
            FaultError::OutOfMemory
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
                entry.slot = 0;
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
    match &entry.amap {
        None => Amap::new(uvm, entry.pages()).map(Some),
        Some(amap) if Ref::count(amap) == 1 => Ok(None),
        Some(amap) => Amap::copy(amap, uvm, entry.slot, entry.pages()).map(Some),
    }
}

const fn enter_flags(access: Access) -> EnterFlags {
    match access {
        Access::Write => EnterFlags::WRITE,
        Access::Read | Access::Exec => EnterFlags::READ,
    }
}

/// One pass: see the module's docs.
#[inline]
pub(crate) fn resident(space: &VmSpace, va: u64, access: Access, pass: Pass) -> Attempt {
    let uvm = space.uvm();
    let va = crate::addr::trunc_page(va);
    let map = space.map.read();
    let Some(entry) = space.map.lookup(&map, va) else {
        return Attempt::Error(FaultError::NoMapping);
    };
    if !entry.prot.allows(access) {
        return Attempt::Error(FaultError::Protection);
    }
    let mut prot = entry.prot;
    if entry.needs_copy {
        if access == Access::Write || entry.object.is_none() {
            return Attempt::NeedAmap;
        }
        prot.remove(Prot::WRITE);
    }
    let fault = Fault {
        space,
        uvm,
        entry,
        va,
        prot,
        access,
        pass,
    };
    match &entry.amap {
        Some(amap) => {
            let mut slots = amap.lock();
            match slots.anons.get(entry.slot_of(va)) {
                Some(anon) => {
                    let anon = anon.clone();
                    fault.anon(amap, &mut slots, &anon)
                }
                None => match &entry.object {
                    None => fault.zero_fill(&mut slots),
                    Some(object) => fault.object(object, Some((amap, &mut slots))),
                },
            }
        }
        None => match &entry.object {
            Some(object) => fault.object(object, None),
            None => Attempt::NeedAmap,
        },
    }
}

/// What one pass knows. `va` is page-aligned; `prot` is what a translation may allow so far.
struct Fault<'a> {
    space: &'a VmSpace,
    uvm: &'a Arc<Uvm>,
    entry: &'a MapEntry,
    va: u64,
    prot: Prot,
    access: Access,
    pass: Pass,
}

impl Fault<'_> {
    #[inline]
    fn enter(&self, frame: Frame, prot: Prot) -> Attempt {
        let va = VirtAddr::new_truncate(self.va);
        match self
            .space
            .pmap()
            .enter(self.uvm, va, frame, prot, enter_flags(self.access))
        {
            Ok(()) => Attempt::Done,
            Err(OutOfMemory) => Attempt::NeedMemory,
        }
    }

    /// Case 2B over nothing: a new page of zeroes.
    #[inline]
    fn zero_fill(&self, slots: &mut AmapInner) -> Attempt {
        let Some(frame) = self.uvm.alloc_frame(AllocFor::User, Zero::Yes) else {
            return Attempt::NeedMemory;
        };
        match self.add_anon(slots, frame) {
            Ok(()) => {
                self.uvm.count(Counter::FltPrzero);
                self.enter(frame, self.prot)
            }
            Err(OutOfMemory) => Attempt::NeedMemory,
        }
    }

    /// Makes an anon of a filled frame and shows it in the faulting slot. Frees the frame on failure.
    #[inline]
    fn add_anon(&self, slots: &mut AmapInner, frame: Frame) -> Result<(), OutOfMemory> {
        let anon = match Anon::new(self.uvm, frame) {
            Ok(anon) => anon,
            Err(error) => {
                self.uvm.free_frame(frame);
                return Err(error);
            }
        };
        // An anon that does not get in takes its frame along when it is dropped.
        slots.anons.insert(
            self.entry.slot_of(self.va),
            anon,
            self.uvm,
            &self.uvm.upper.slot_nodes,
        )?;
        Ok(())
    }

    /// Cases 1A and 1B. `anon` is the caller's own reference: the amap's is another.
    fn anon(&self, amap: &Amap, slots: &mut AmapInner, anon: &Ref<Anon>) -> Attempt {
        let inner = anon.lock();
        let Some(old) = inner.frame else {
            return Attempt::NeedMemory;
        };
        if self.uvm.page(old).is_busy() {
            return Attempt::NeedBusy(PageHold::new(self.uvm, old), None);
        }
        let alone = Ref::count(anon) == 2;
        if self.access == Access::Write && !alone {
            let Some(new) = self.uvm.alloc_frame(AllocFor::User, Zero::No) else {
                return Attempt::NeedMemory;
            };
            self.uvm.bytes(new).copy_from(self.uvm.bytes(old));
            drop(inner);
            if self.add_anon(slots, new).is_err() {
                return Attempt::NeedMemory;
            }
            if amap.is_shared() {
                // Others who share the amap may have the old page mapped, and must see the new one.
                self.uvm.page_protect(old, Prot::empty());
            }
            self.uvm.count(Counter::FltAcow);
            let attempt = self.enter(new, self.prot);
            self.space.pmap().update(self.uvm);
            return attempt;
        }
        let prot = if alone {
            self.prot
        } else {
            self.prot - Prot::WRITE
        };
        self.uvm.activate(old);
        self.uvm.count(Counter::FltAnon);
        let attempt = self.enter(old, prot);
        drop(inner);
        if self.pass == Pass::First && matches!(attempt, Attempt::Done) {
            self.anon_neighbours(slots);
        }
        attempt
    }

    /// Cases 2A and 2B over an object. `over`: the entry's amap, which has nothing in this slot.
    fn object(
        &self,
        object: &Ref<UvmObject>,
        over: Option<(&Ref<Amap>, &mut AmapInner)>,
    ) -> Attempt {
        let index = self.entry.index_of(self.va);
        if index.0 >= object.pages() {
            return Attempt::Error(FaultError::BeyondEnd);
        }
        let mut pages = object.lock();
        let frame = match pages.at(self.uvm, index) {
            Resident::Valid(frame) => frame,
            Resident::Busy(frame) => {
                let hold = PageHold::new(self.uvm, frame);
                return Attempt::NeedBusy(hold, Some((object.clone(), index)));
            }
            Resident::Missing => match object.behind() {
                Behind::Pager(_) => {
                    return Attempt::NeedIo(object.clone(), index, self.entry.advice);
                }
                Behind::Zeroes => match aobj::zero_page(object, &mut pages, self.uvm, index) {
                    Ok(frame) => frame,
                    Err(OutOfMemory) => return Attempt::NeedMemory,
                },
            },
        };
        let page = self.uvm.page(frame);
        self.uvm.activate(frame);
        if !self.entry.copy_on_write {
            // A hole's page must not be written before it has a block.
            let prot = if page.has(PageFlags::RDONLY) {
                self.prot - Prot::WRITE
            } else {
                self.prot
            };
            if !prot.allows(self.access) {
                return Attempt::Error(FaultError::Protection);
            }
            self.uvm.count(Counter::FltObj);
            let attempt = self.enter(frame, prot);
            if self.pass == Pass::First && matches!(attempt, Attempt::Done) {
                self.object_neighbours(&pages, over.as_ref().map(|(_, slots)| &**slots));
            }
            return attempt;
        }
        if self.access != Access::Write {
            self.uvm.count(Counter::FltObj);
            let attempt = self.enter(frame, self.prot - Prot::WRITE);
            if self.pass == Pass::First && matches!(attempt, Attempt::Done) {
                self.object_neighbours(&pages, over.as_ref().map(|(_, slots)| &**slots));
            }
            return attempt;
        }
        let Some((amap, slots)) = over else {
            return Attempt::NeedAmap;
        };
        let Some(new) = self.uvm.alloc_frame(AllocFor::User, Zero::No) else {
            return Attempt::NeedMemory;
        };
        self.uvm.bytes(new).copy_from(self.uvm.bytes(frame));
        if self.add_anon(slots, new).is_err() {
            return Attempt::NeedMemory;
        }
        if amap.is_shared() {
            self.uvm.page_protect(frame, Prot::empty());
        }
        self.uvm.count(Counter::FltPrcopy);
        let attempt = self.enter(new, self.prot);
        self.space.pmap().update(self.uvm);
        attempt
    }

    /// The pages around the faulting one that advice says may be wanted, without it.
    fn neighbours(&self) -> impl Iterator<Item = u64> {
        let (back, ahead) = self.entry.advice.window();
        let size = PAGE_SIZE as u64;
        let first = self.va.saturating_sub(back * size).max(self.entry.start);
        let last = (self.va + (ahead + 1) * size).min(self.entry.end);
        let here = self.va;
        (first..last)
            .step_by(PAGE_SIZE)
            .filter(move |&va| va != here)
    }

    /// Maps neighbouring anons that are resident, not busy, and not mapped yet. Failures do not matter.
    fn anon_neighbours(&self, slots: &AmapInner) {
        for va in self.neighbours() {
            let Some(anon) = slots.anons.get(self.entry.slot_of(va)) else {
                continue;
            };
            let inner = anon.lock();
            let Some(frame) = inner.frame else { continue };
            let prot = if Ref::count(anon) == 1 {
                self.prot
            } else {
                self.prot - Prot::WRITE
            };
            self.enter_neighbour(va, frame, prot);
        }
    }

    /// The same for neighbouring pages of the object that no anon hides.
    fn object_neighbours(&self, pages: &crate::object::ObjectPages, over: Option<&AmapInner>) {
        for va in self.neighbours() {
            if over.is_some_and(|slots| slots.anons.get(self.entry.slot_of(va)).is_some()) {
                continue;
            }
            let Some(&frame) = pages.frames.get(self.entry.index_of(va).0) else {
                continue;
            };
            let hole = self.uvm.page(frame).has(PageFlags::RDONLY);
            let prot = if self.entry.copy_on_write || hole {
                self.prot - Prot::WRITE
            } else {
                self.prot
            };
            self.enter_neighbour(va, frame, prot);
        }
    }

    fn enter_neighbour(&self, va: u64, frame: Frame, prot: Prot) {
        let va = VirtAddr::new_truncate(va);
        let page = self.uvm.page(frame);
        if page.is_busy()
            || page.loan_count() > 0
            || self.space.pmap().extract(self.uvm, va).is_some()
        {
            return;
        }
        // Not told that it is referenced: only a use shows that.
        if self
            .space
            .pmap()
            .enter(self.uvm, va, frame, prot, EnterFlags::empty())
            .is_ok()
        {
            self.uvm.count(Counter::FltNamap);
        }
    }
}

#[cfg(test)]
mod tests;
