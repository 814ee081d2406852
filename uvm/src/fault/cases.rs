//! One pass of a fault: from the map down to the frame, under their locks. See the parent's docs for cases and shape.
//!
//! Owns nothing. It never waits and allocates nothing but the frame and the anon of a page that did not exist.

use alloc::sync::Arc;

use super::{Attempt, Missing, Pass};
use crate::Uvm;
use crate::addr::{Frame, PAGE_SIZE, VirtAddr, Vpn};
use crate::amap::{Amap, AmapInner};
use crate::anon::Anon;
use crate::fault::FaultError;
use crate::loan::Usable;
use crate::map::{MapEntry, VmSpace};
use crate::meter::Counter;
use crate::object::{Behind, PageHold, Resident, UvmObject, aobj};
use crate::page::freelist::Zero;
use crate::page::{PageAttrs, PageFlags};
use crate::pmap::EnterFlags;
use crate::pool::{OutOfMemory, Ref};
use crate::prot::{Access, Prot};
use crate::swap::owner::Held;
use crate::swap::{Owner, SwapSlot};

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
    Fault {
        space,
        uvm,
        entry,
        va,
        prot,
        access,
        pass,
    }
    .resolve()
}

/// What one pass knows. `va` is page-aligned; `prot` is what a translation may allow so far.
pub(super) struct Fault<'a> {
    pub(super) space: &'a VmSpace,
    pub(super) uvm: &'a Arc<Uvm>,
    pub(super) entry: &'a MapEntry,
    pub(super) va: u64,
    pub(super) prot: Prot,
    pub(super) access: Access,
    pub(super) pass: Pass,
}

impl Fault<'_> {
    /// Looks at the amap, then at the object. The map is locked.
    #[inline]
    pub(super) fn resolve(&self) -> Attempt {
        match &self.entry.amap {
            Some(amap) => {
                let mut slots = amap.lock();
                match slots.anons.get(self.entry.slot_of(self.va)) {
                    Some(anon) if self.writes_in_place(anon) => Attempt::Done,
                    Some(anon) => {
                        let anon = anon.clone();
                        self.anon(amap, &mut slots, &anon)
                    }
                    None => match &self.entry.object {
                        None => self.zero_fill(&mut slots),
                        Some(object) => self.object(object, Some((amap, &mut slots))),
                    },
                }
            }
            None => match &self.entry.object {
                Some(object) => self.object(object, None),
                None => Attempt::NeedAmap,
            },
        }
    }

    #[inline]
    fn enter(&self, frame: Frame, prot: Prot) -> Attempt {
        if self.entry.wired_to != 0 {
            return self.enter_wired(frame, prot, enter_flags(self.access));
        }
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

    /// Case 1A at its simplest: a write to a page that is the anon's own, mapped here, and lacked nothing but the right to be written, which
    /// it has now. Whoever could have been mapped along was when it was mapped. `anon` is the amap's.
    #[inline]
    fn writes_in_place(&self, anon: &Ref<Anon>) -> bool {
        if self.access != Access::Write || self.entry.wired_to != 0 || Ref::count(anon) != 1 {
            return false;
        }
        let inner = anon.lock();
        let Some(frame) = inner.writable(self.uvm) else {
            return false;
        };
        let vpn = Vpn::containing(VirtAddr::new_truncate(self.va));
        let flags = enter_flags(self.access);
        if !self.space.pmap().widen(vpn, frame, self.prot, flags) {
            return false;
        }
        self.uvm.note_use(frame);
        self.uvm.count(Counter::FltAnon);
        true
    }

    /// Whether the address space has taken so much lately that others come first.
    #[inline]
    fn must_wait(&self) -> bool {
        self.uvm.is_scarce() && !self.space.may_take()
    }

    /// Case 2B over nothing: a new page of zeroes.
    #[inline]
    fn zero_fill(&self, slots: &mut AmapInner) -> Attempt {
        let Some(frame) = self.uvm.alloc_frame_in_turn(self.space, Zero::Yes) else {
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
        let mut inner = anon.lock();
        let Some(old) = inner.frame else {
            return self.need_swap(anon, inner.slot);
        };
        let page = self.uvm.page(old);
        if page.is_busy() {
            let missing = inner.slot.map(|slot| Missing::anon(anon, slot));
            return Attempt::NeedBusy(PageHold::new(self.uvm, old), missing);
        }
        if self.pass == Pass::Wire && inner.slot.is_some() {
            // What is wired stays in memory.
            Held::Anon(anon, &mut inner).give_slot_up(self.uvm);
        }
        // A wired page is its slot's alone (W2), even if someone just looks at the anon.
        let alone = Ref::count(anon) == 2 || page.wire_count() > 0;
        if self.access == Access::Write && !alone {
            if self.must_wait() {
                return Attempt::NeedMemory;
            }
            let Ok(new) = self.uvm.copy_page(old) else {
                return Attempt::NeedMemory;
            };
            drop(inner);
            if self.add_anon(slots, new).is_err() {
                return Attempt::NeedMemory;
            }
            if amap.is_shared() {
                // Others who share the amap may have the old page mapped, and must see the new one.
                self.uvm.remove_unwired(old);
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
        let usable = if page.attrs().contains(PageAttrs::LOANED) {
            match Anon::settle_loan(anon, &mut inner, self.uvm, self.access, prot) {
                Ok(usable) => usable,
                Err(OutOfMemory) => return Attempt::NeedMemory,
            }
        } else {
            self.uvm.note_use(old);
            Usable { frame: old, prot }
        };
        self.uvm.count(Counter::FltAnon);
        let attempt = self.enter(usable.frame, usable.prot);
        drop(inner);
        if self.pass == Pass::First && matches!(attempt, Attempt::Done) {
            self.anon_neighbours(slots);
        }
        attempt
    }

    /// Case 1 of a page that is not in memory.
    #[cold]
    #[inline(never)]
    fn need_swap(&self, anon: &Ref<Anon>, slot: Option<SwapSlot>) -> Attempt {
        let Some(slot) = slot else {
            return Attempt::NeedMemory;
        };
        Attempt::NeedSwap(Owner::Anon(anon.clone()), slot, self.entry.advice)
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
                return Attempt::NeedBusy(hold, Some(Missing::Object(object.clone(), index)));
            }
            Resident::Swapped(slot) => {
                let owner = Owner::Object(object.clone(), index);
                return Attempt::NeedSwap(owner, slot, self.entry.advice);
            }
            Resident::Missing => match object.behind() {
                Behind::Pager(_) => {
                    return Attempt::NeedIo(object.clone(), index, self.entry.advice);
                }
                Behind::Device(_) => return self.device(),
                Behind::Zeroes => match aobj::zero_page(object, &mut pages, self.uvm, index) {
                    Ok(frame) => frame,
                    Err(OutOfMemory) => return Attempt::NeedMemory,
                },
            },
        };
        let page = self.uvm.page(frame);
        self.uvm.note_use(frame);
        if self.pass == Pass::Wire {
            // What is wired stays in memory. (A page that is only copied gives up nothing that it needs.)
            Held::Object(object, &mut pages, index).give_slot_up(self.uvm);
        }
        if !self.entry.copy_on_write {
            let mut usable = Usable {
                frame,
                prot: self.prot,
            };
            if page.has(PageFlags::RDONLY) {
                // A hole's page must not be written before it has a block.
                if self.access == Access::Write {
                    let hold = PageHold::new(self.uvm, frame);
                    return Attempt::NeedBlock(hold, object.clone(), index);
                }
                usable.prot -= Prot::WRITE;
            }
            if page.attrs().contains(PageAttrs::LOANED) {
                // A page that is to be wired must not be on loan: as if it were written.
                let access = if self.pass == Pass::Wire {
                    Access::Write
                } else {
                    self.access
                };
                let prot = usable.prot;
                match UvmObject::settle_loan(object, &mut pages, self.uvm, index, access, prot) {
                    Ok(settled) => usable = settled,
                    Err(OutOfMemory) => return Attempt::NeedMemory,
                }
            }
            self.uvm.count(Counter::FltObj);
            let attempt = self.enter(usable.frame, usable.prot);
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
        if self.must_wait() {
            return Attempt::NeedMemory;
        }
        let Ok(new) = self.uvm.copy_page(frame) else {
            return Attempt::NeedMemory;
        };
        if self.add_anon(slots, new).is_err() {
            return Attempt::NeedMemory;
        }
        if amap.is_shared() {
            // But not who has the object's page itself wired.
            self.uvm.remove_unwired(frame);
        }
        self.uvm.count(Counter::FltPrcopy);
        let attempt = self.enter(new, self.prot);
        self.space.pmap().update(self.uvm);
        attempt
    }

    /// A device's memory from frame `first` on, which lies within the object: no page, no reverse map, nothing to wait for.
    #[cold]
    #[inline(never)]
    fn device(&self) -> Attempt {
        if self.entry.copy_on_write {
            // Nobody makes such a mapping; a copy of what may change by being read would be wrong anyway.
            return Attempt::Error(FaultError::Io);
        }
        let Some(frame) = self.entry.device_frame(self.va) else {
            return Attempt::Error(FaultError::BeyondEnd);
        };
        self.uvm.count(Counter::FltObj);
        let prot = self.prot & self.entry.prot;
        if prot.is_empty() {
            // Being wired, which it always is, where nothing may see it.
            return Attempt::Done;
        }
        // Never marked wired: there is no page that counts it.
        let va = VirtAddr::new_truncate(self.va);
        let flags = enter_flags(self.access);
        let pmap = self.space.pmap();
        let attempt = match pmap.enter(self.uvm, va, frame, prot, flags) {
            Ok(()) => Attempt::Done,
            Err(OutOfMemory) => Attempt::NeedMemory,
        };
        if self.pass == Pass::First && matches!(attempt, Attempt::Done) {
            let frame = |va| Some((va, self.entry.device_frame(va)?));
            for (va, frame) in self.neighbours().filter_map(frame) {
                self.enter_unmapped(va, frame, self.prot);
            }
        }
        attempt
    }

    /// The pages around the faulting one that advice says may be wanted, without it.
    #[inline]
    fn neighbours(&self) -> impl Iterator<Item = u64> {
        let (back, ahead) = self.entry.advice.window();
        let size = PAGE_SIZE as u64;
        let first = self.va.saturating_sub(back * size).max(self.entry.start);
        let last = (self.va + (ahead + 1) * size).min(self.entry.end);
        let here = self.va;
        (first / size..last / size)
            .map(move |page| page * size)
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
        let page = self.uvm.page(frame);
        if !page.is_busy() && page.loan_count() == 0 {
            self.enter_unmapped(va, frame, prot);
        }
    }

    fn enter_unmapped(&self, va: u64, frame: Frame, prot: Prot) {
        let at = VirtAddr::new_truncate(va);
        let flags = match self.uvm.pages().get(frame) {
            Some(_) => self.wired_flag(va),
            None => EnterFlags::empty(),
        };
        if self.space.pmap().extract(self.uvm, at).is_some() {
            return;
        }
        // Not told that it is referenced: only a use shows that.
        if self
            .space
            .pmap()
            .enter(self.uvm, at, frame, prot, flags)
            .is_ok()
        {
            self.uvm.count(Counter::FltNamap);
        }
    }
}
