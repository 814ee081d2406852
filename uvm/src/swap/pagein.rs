//! Page-in from swap: for faults, a cluster of slots at a time, and ahead of who goes in order.
//!
//! Owns the pages of a read from its start to its end (`SwapIn`): BUSY and FAKE, each with a hold and a reference to its owner.
//!
//! # Which pages come along
//! Those of neighbouring slots in the same cluster that belong to neighbouring slots of the same amap, or pages of the same object: what
//! was written together and lies together is wanted together. Where the faults of an amap run in order, clusters behind that are read
//! ahead of them, in windows that double, while memory is plenty.

use alloc::sync::Arc;

use arrayvec::ArrayVec;

use super::{Owner, SwapSlot};
use crate::Uvm;
use crate::addr::{Frame, PAGE_SIZE, PageIndex};
use crate::amap::Amap;
use crate::anon::Anon;
use crate::io::{Claim, Finish, IoError, Op, Segment};
use crate::map::{Advice, VmSpace};
use crate::meter::{Counter, Gauge};
use crate::object::vnode::CLUSTER;
use crate::object::{PageHold, UvmObject};
use crate::page::PageFlags;
use crate::page::freelist::{AllocFor, Zero};
use crate::page::fresh::Fresh;
use crate::page::queues::Sort;
use crate::policy::nonresident::Went;
use crate::pool::{OutOfMemory, Ref};

/// Largest read-ahead, in pages.
const AHEAD_MAX: u64 = 128;

/// Where a page is among others that may be wanted next.
#[derive(Clone, Copy)]
pub(crate) enum Around<'a> {
    /// At this address of a space. Looked up anew each time: who held the amap would count as one more who shows it.
    Space(&'a VmSpace, u64),
    /// In its object.
    Object,
}

/// Pages that a read under way will make valid.
pub(crate) struct SwapIn {
    uvm: Arc<Uvm>,
    owners: Owners,
    /// Which of them is wanted; the others come along.
    wanted: u8,
}

/// Who owns the pages of a read, in the order of their slots. One of these lies in every request slot, so it is small.
enum Owners {
    Anons(ArrayVec<Ref<Anon>, CLUSTER>),
    /// So many pages of the object, from this one on.
    Object(Ref<UvmObject>, PageIndex, u64),
}

impl Owners {
    fn of(owner: &Owner) -> Self {
        match owner {
            Owner::Anon(anon) => Self::Anons([anon.clone()].into_iter().collect()),
            Owner::Object(object, index) => Self::Object(object.clone(), *index, 1),
        }
    }

    /// Adds the next one above, or below. All are of one kind.
    fn add(&mut self, owner: Owner, below: bool) {
        match (self, owner) {
            (Self::Anons(anons), Owner::Anon(anon)) => {
                let at = if below { 0 } else { anons.len() };
                anons.insert(at, anon);
            }
            (Self::Object(_, first, count), Owner::Object(_, index)) => {
                *first = (*first).min(index);
                *count += 1;
            }
            _ => debug_assert!(false, "neighbours are of one kind"),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Anons(anons) => anons.len(),
            Self::Object(_, _, count) => *count as usize,
        }
    }

    /// The one at `i`.
    fn get(&self, i: usize) -> Owner {
        match self {
            Self::Anons(anons) => Owner::Anon(anons[i].clone()),
            Self::Object(object, first, _) => Owner::Object(object.clone(), *first + i as u64),
        }
    }
}

/// A read that is being put together, and the frames for its pages.
struct Reading {
    owners: Owners,
    frames: ArrayVec<Frame, CLUSTER>,
}

/// Tells `check` that somebody refers to an anon besides its amaps.
pub(super) struct UnderWay<'a>(&'a Uvm);

impl<'a> UnderWay<'a> {
    pub(super) fn new(uvm: &'a Uvm) -> Self {
        uvm.meter().raise(Gauge::SwapWaits, 1);
        Self(uvm)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.meter().lower(Gauge::SwapWaits, 1);
    }
}

impl Uvm {
    /// Starts to read a page from swap, unless somebody has brought it meanwhile (`None`). Awaits a request slot. The page that is returned
    /// is busy: the caller awaits it, and learns from it what became of the read.
    ///
    /// # Errors
    /// [`OutOfMemory`]: there is no frame now.
    pub(crate) async fn swap_in(
        self: &Arc<Self>,
        owner: Owner,
        around: Around<'_>,
        advice: Advice,
    ) -> Result<Option<PageHold>, OutOfMemory> {
        let _under_way = UnderWay::new(self);
        let frame = self.alloc_frame(AllocFor::User, Zero::No);
        let frame = Fresh::new(self, frame.ok_or(OutOfMemory)?);
        let claim = self.io().claim().await;
        let read = self.start_swap_in(&owner, around, advice, frame, claim)?;
        let Some((hold, end)) = read else {
            return Ok(None);
        };
        drop(owner);
        self.swap_ahead(around, end, advice);
        Ok(Some(hold))
    }

    /// Puts frames in, `frame` for the page of `owner` and others for those that come along, and starts the read. Returns the page, held
    /// from before the read starts, and how many pages behind it were taken along. `None`: it is not on swap only.
    fn start_swap_in(
        self: &Arc<Self>,
        owner: &Owner,
        around: Around<'_>,
        advice: Advice,
        frame: Fresh<'_>,
        claim: Claim,
    ) -> Result<Option<(PageHold, u64)>, OutOfMemory> {
        let number = frame.frame();
        let first = owner.with(|held| {
            let Some(slot) = held.slot().filter(|_| held.frame().is_none()) else {
                return Ok(None);
            };
            held.put(self, number)?;
            frame.keep();
            // The read's own hold, so that `finish` can disown the page under the feet of those who wait for it.
            self.page(number).loan();
            Ok(Some((slot, PageHold::new(self, number))))
        })?;
        let Some((slot, hold)) = first else {
            return Ok(None);
        };
        let mut read = Reading {
            owners: Owners::of(owner),
            frames: [number].into_iter().collect(),
        };
        let (mut start, mut ahead, mut wanted) = (slot, 0, 0);
        if advice != Advice::Random {
            ahead = self.take_along(&mut read, around, owner, slot, 1);
            wanted = self.take_along(&mut read, around, owner, slot, -1) as u8;
            start = slot.offset(-isize::from(wanted)).unwrap_or(slot);
        }
        self.submit_swap_in(start, claim, read, wanted);
        Ok(Some((hold, ahead)))
    }

    fn submit_swap_in(self: &Arc<Self>, start: SwapSlot, claim: Claim, read: Reading, wanted: u8) {
        let Reading { owners, frames } = read;
        self.meter()
            .raise_with_max(Gauge::PagingIn, Gauge::PagingInMax, frames.len() as u64);
        self.count(Counter::Pageins);
        self.count_n(Counter::Swapins, frames.len());
        let read = SwapIn {
            uvm: self.clone(),
            owners,
            wanted,
        };
        let Some((disk, offset)) = self.swap().place(start) else {
            // A device is not taken away before its slots are empty.
            return read.finish(Err(IoError::Device));
        };
        drop(claim.start(&disk, |order| {
            let segments = frames.into_iter().map(Segment::page);
            order.request.fill(Op::Read, offset, segments);
            order.finish = Finish::SwapIn(read);
        }));
    }

    /// Adds the pages next to that of `owner` at `slot`, upwards (`step` 1) or downwards (-1), as far as they lie side by side in its
    /// cluster and there are frames to spare. Returns how many.
    fn take_along(
        &self,
        read: &mut Reading,
        around: Around<'_>,
        owner: &Owner,
        slot: SwapSlot,
        step: isize,
    ) -> u64 {
        let cluster = slot.page() / CLUSTER;
        let mut taken = 0;
        while !read.frames.is_full() && self.memory_is_plenty() {
            let distance = (taken as isize + 1) * step;
            let Some(next) = slot
                .offset(distance)
                .filter(|s| s.page() / CLUSTER == cluster)
            else {
                break;
            };
            let Some((page, frame)) = self.put_neighbour(around, owner, distance, next) else {
                break;
            };
            let at = if step < 0 { 0 } else { read.frames.len() };
            read.frames.insert(at, frame);
            read.owners.add(page, step < 0);
            taken += 1;
        }
        taken
    }

    /// Puts a frame in for the page `distance` from that of `owner`, if that is on swap only, in `slot`.
    fn put_neighbour(
        &self,
        around: Around<'_>,
        owner: &Owner,
        distance: isize,
        slot: SwapSlot,
    ) -> Option<(Owner, Frame)> {
        let neighbour = match (around, owner) {
            (Around::Space(space, va), _) => {
                let va = va.checked_add_signed(distance as i64 * PAGE_SIZE as i64)?;
                Owner::Anon(space.anon_at(va)?)
            }
            (Around::Object, Owner::Object(object, index)) => {
                let index = index.0.checked_add_signed(distance as i64)?;
                Owner::Object(object.clone(), PageIndex(index))
            }
            (Around::Object, Owner::Anon(_)) => return None,
        };
        let frame = self.put_if_at(&neighbour, slot)?;
        Some((neighbour, frame))
    }

    /// Puts a frame in for a page, if that is on swap only, in `slot`, and there is a frame.
    fn put_if_at(&self, owner: &Owner, slot: SwapSlot) -> Option<Frame> {
        owner.with(|held| {
            if held.frame().is_some() || held.slot() != Some(slot) {
                return None;
            }
            let frame = self.alloc_frame(AllocFor::User, Zero::No)?;
            let frame = Fresh::new(self, frame);
            let number = frame.frame();
            held.put(self, number).ok()?;
            frame.keep();
            self.page(number).loan();
            Some(number)
        })
    }

    /// After a read that ended `read` pages behind the one that was wanted: is this where somebody who goes in order would miss? Then
    /// starts on what it will want. Everything is tried and nothing waited for.
    fn swap_ahead(self: &Arc<Self>, around: Around<'_>, read: u64, advice: Advice) {
        let Around::Space(space, va) = around else {
            return;
        };
        let next = va + (read + 1) * PAGE_SIZE as u64;
        let window = space.swap_window(va, next, advice);
        let end = next + window * PAGE_SIZE as u64;
        let mut at = next;
        while at < end && self.memory_is_plenty() {
            let Some(owner) = space.anon_at(at).map(Owner::Anon) else {
                break;
            };
            let Some(claim) = self.io().try_claim() else {
                break;
            };
            let Some(frame) = self.alloc_frame(AllocFor::User, Zero::No) else {
                break;
            };
            let frame = Fresh::new(self, frame);
            let around = Around::Space(space, at);
            match self.start_swap_in(&owner, around, Advice::Normal, frame, claim) {
                Ok(Some((_, read))) => at += (read + 1) * PAGE_SIZE as u64,
                // In memory already.
                Ok(None) => at += PAGE_SIZE as u64,
                Err(OutOfMemory) => break,
            }
        }
        if at > next {
            space.swap_expected(va, at);
        }
    }
}

impl VmSpace {
    /// Calls `f` with the amap at `va` and the slot there.
    fn with_amap<R>(&self, va: u64, f: impl FnOnce(&Amap, u64) -> R) -> Option<R> {
        let map = self.map.read();
        let entry = self.map.lookup(&map, va)?;
        let amap = entry.amap.as_ref()?;
        Some(f(amap, entry.slot_of(va)))
    }

    fn anon_at(&self, va: u64) -> Option<Ref<Anon>> {
        self.with_amap(va, |amap, slot| amap.lock().anons.get(slot).cloned())?
    }

    /// How many pages to read ahead after a miss at `va` that was read up to `next`.
    fn swap_window(&self, va: u64, next: u64, advice: Advice) -> u64 {
        let window = |amap: &Amap, slot: u64| {
            let mut slots = amap.lock();
            let (expected, window) = slots.ahead;
            let window = match advice {
                Advice::Random => 0,
                _ if expected == slot => (window * 2).clamp(CLUSTER as u64, AHEAD_MAX),
                Advice::Sequential => CLUSTER as u64,
                Advice::Normal => 0,
            };
            slots.ahead = (slot + (next - va) / PAGE_SIZE as u64, window);
            window
        };
        self.with_amap(va, window).unwrap_or(0)
    }

    /// What follows a miss at `va` has been read up to `next`: that is where somebody who goes in order misses next.
    fn swap_expected(&self, va: u64, next: u64) {
        let expected = |amap: &Amap, slot: u64| {
            amap.lock().ahead.0 = slot + (next - va) / PAGE_SIZE as u64;
        };
        let _ = self.with_amap(va, expected);
    }
}

impl SwapIn {
    /// The read has ended: makes its pages valid, or takes them out again. Wakes all who await them. Never waits.
    pub(crate) fn finish(self, result: Result<(), IoError>) {
        let Self {
            uvm,
            owners,
            wanted,
        } = self;
        let pages = owners.len();
        let cluster_failed = result.is_err() && pages > 1;
        let mut refault = false;
        uvm.meter().lower(Gauge::PagingIn, pages as u64);
        let mut frames = ArrayVec::<Frame, CLUSTER>::new();
        for i in 0..pages {
            owners.get(i).with(|held| {
                let Some(frame) = held.frame() else {
                    return debug_assert!(false, "a page that is being read goes away");
                };
                let page = uvm.page(frame);
                if result.is_ok() {
                    page.clear(PageFlags::FAKE | PageFlags::ZERO);
                    page.set(PageFlags::CLEAN);
                    let away = held.returns(&uvm);
                    refault |= uvm.page_returns(frame, away) && i == usize::from(wanted);
                } else {
                    if cluster_failed {
                        page.set(PageFlags::RELEASED);
                    } else if let Some(slot) = held.slot() {
                        uvm.swap().doubt(slot);
                    }
                    // It was away all the time; since when is forgotten.
                    let free = held.evict(&uvm, Went::UNKNOWN);
                    debug_assert!(!free, "the read holds its pages");
                }
                uvm.unbusy(frame);
                frames.push(frame);
            });
        }
        if refault {
            uvm.note_refault_cost(Sort::Anon);
        }
        // Before who waits runs: an anon that one amap shows is then its alone.
        drop(owners);
        for frame in frames {
            uvm.let_go(frame);
        }
    }
}
