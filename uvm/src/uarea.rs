//! The u-area cache.
//!
//! A u-area is the memory of a suspended LWP: trap frame, FPU state, pinned future; [`UAREA_SIZE`]
//! bytes in whole wired pages, at kernel addresses of their own with an unmapped page on each side.
//! Making one allocates and maps; most often one from the cache will do, its pages still wired
//! (UVM.md, rows 3 and 5).
//!
//! # What this owns
//! The address range [`crate::Config::kva`], cut into slots, and the cached u-areas, linked through
//! their own first bytes, as the direct map has them. Where nothing translates kernel addresses (host, unless told) a u-area is two
//! contiguous frames in the direct map instead.
//!
//! A u-area that nothing uses for now can be put out to swap. Its slot of addresses stays its own meanwhile. Who has it, and whether it is in memory, is
//! told by a [`Residence`].
//!
//! # How it synchronises
//! One spin lock, held for a few instructions. [`Uvm::uarea_free`] never waits and never fails, so
//! that exit can call it last; the excess is released by [`Uvm::uarea_drain`], by whoever can await
//! (the parent in wait4, a thread that leaves others behind, the pagedaemon).

mod list;
mod out;
mod residence;

use alloc::boxed::Box;
use alloc::vec;
use core::ptr::{self, NonNull};

pub(crate) use list::{Listed, Residences};
pub(crate) use residence::Where;
pub use residence::{ComesNot, NotIn, Residence, StaysIn};

use arrayvec::ArrayVec;

use crate::Uvm;
use crate::addr::{Frame, PAGE_SIZE, VaRange, VirtAddr};
use crate::lock::{LEAF, SpinLock};
use crate::meter::Counter;
use crate::page::freelist::{AllocFor, Zero};
use crate::page::fresh::Fresh;
use crate::policy::Setting;
use crate::pool::OutOfMemory;
use crate::prot::Prot;

/// Pages in a u-area.
pub const UAREA_PAGES: usize = 2;
/// Bytes in a u-area.
pub const UAREA_SIZE: usize = UAREA_PAGES * PAGE_SIZE;
/// u-areas that are kept while memory is not short, unless told ([`Setting::Uareakeep`]).
pub const UAREA_KEEP: usize = 16;
/// A slot of addresses: the u-area and a page that is never mapped.
const SLOT_PAGES: usize = UAREA_PAGES + 1;

/// Where a u-area came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Newly allocated, mapped and wired.
    Fresh,
    /// From the cache, its pages wired all along.
    Cached,
}

/// [`UAREA_SIZE`] bytes of wired kernel memory with one owner. It must end in [`Uvm::uarea_free`];
/// merely dropping it loses the memory.
#[derive(Debug)]
#[must_use = "give it back by uarea_free"]
pub struct Uarea {
    base: NonNull<u8>,
    frames: [Frame; UAREA_PAGES],
}

impl Uarea {
    /// First byte, page-aligned. Contents are undefined at first.
    #[must_use]
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Its frames, in the order of their addresses.
    pub(crate) const fn frames(&self) -> [Frame; UAREA_PAGES] {
        self.frames
    }
}

// SAFETY: memory with one owner.
unsafe impl Send for Uarea {}
// SAFETY: as above; it gives out only an address.
unsafe impl Sync for Uarea {}

/// All u-areas that nobody has.
pub(crate) struct Uareas {
    kva: Option<VaRange>,
    state: SpinLock<State, LEAF>,
}

struct State {
    /// The cache, last in first out: its youngest is warm.
    head: *mut Cached,
    cached: usize,
    /// Used slots, a bit each.
    slots: Box<[u64]>,
}

/// What stands in a cached u-area: itself.
struct Cached {
    next: *mut Cached,
    uarea: Uarea,
}

// SAFETY: the cached u-areas belong to the cache, whichever thread looks.
unsafe impl Send for State {}

impl Uareas {
    /// For `frames` frames of memory in all. There are slots for more u-areas than fit into memory, since some may be out.
    pub(crate) fn new(kva: Option<VaRange>, frames: usize) -> Self {
        let slots = kva.map_or(0, |r| {
            (r.pages().saturating_sub(1) / SLOT_PAGES).min(frames)
        });
        let mut used = vec![0_u64; slots.div_ceil(64)].into_boxed_slice();
        if let Some(last) = used.last_mut().filter(|_| !slots.is_multiple_of(64)) {
            *last = u64::MAX << (slots % 64);
        }
        Self {
            kva,
            state: SpinLock::new(State {
                head: ptr::null_mut(),
                cached: 0,
                slots: used,
            }),
        }
    }
}

impl State {
    fn pop(&mut self) -> Option<Uarea> {
        let head = NonNull::new(self.head)?;
        // SAFETY: cached u-areas are in memory, ours, and begin with what `push` wrote, which is read once.
        let Cached { next, uarea } = unsafe { head.read() };
        self.head = next;
        self.cached -= 1;
        Some(uarea)
    }

    /// `at`: where the direct map has the u-area's first page.
    fn push(&mut self, uarea: Uarea, at: *mut u8) {
        let cached = at.cast::<Cached>();
        // SAFETY: a page of RAM, aligned, and ours from now on.
        unsafe {
            cached.write(Cached {
                next: self.head,
                uarea,
            });
        }
        self.head = cached;
        self.cached += 1;
    }

    fn take_slot(&mut self) -> Option<usize> {
        let word = self.slots.iter().position(|&w| w != u64::MAX)?;
        let bit = self.slots[word].trailing_ones() as usize;
        self.slots[word] |= 1 << bit;
        Some(word * 64 + bit)
    }

    fn free_slot(&mut self, slot: usize) {
        self.slots[slot / 64] &= !(1 << (slot % 64));
    }
}

impl Uvm {
    /// Takes a u-area from the cache, or makes one. Never waits.
    ///
    /// # Errors
    /// [`OutOfMemory`]: there is none in the cache, and no frames or addresses for another.
    pub fn uarea_alloc(&self) -> Result<(Uarea, Source), OutOfMemory> {
        if let Some(uarea) = self.take_cached() {
            self.count(Counter::UareaHits);
            return Ok((uarea, Source::Cached));
        }
        let uarea = match self.uareas.kva {
            Some(kva) => self.make_mapped(kva)?,
            None => self.make_direct()?,
        };
        self.count(Counter::UareaFresh);
        let base = VirtAddr::from_ptr(uarea.base.as_ptr());
        self.machine()
            .uarea_wired(VaRange::of_pages(base, UAREA_PAGES));
        Ok((uarea, Source::Fresh))
    }

    fn take_cached(&self) -> Option<Uarea> {
        // None are kept: what is there only waits for who may release it.
        if self.setting(Setting::Uareakeep) == 0 {
            return None;
        }
        self.uareas.state.lock().pop()
    }

    /// Puts a u-area, which nothing uses any more, into the cache. Never waits, never fails.
    pub fn uarea_free(&self, uarea: Uarea) {
        self.count(Counter::UareaFrees);
        let at = self.phys().ptr(uarea.frames[0]);
        self.uareas.state.lock().push(uarea, at);
    }

    /// Releases what is cached beyond [`Setting::Uareakeep`]. Awaits only to let others run.
    pub async fn uarea_drain_excess(&self) {
        let keep = self.setting(Setting::Uareakeep);
        self.uarea_drain(usize::try_from(keep).unwrap_or(usize::MAX))
            .await;
    }

    /// Releases u-areas until no more than `keep` are cached: 0 when memory is short. Awaits only to
    /// let others run.
    pub async fn uarea_drain(&self, keep: usize) {
        while self.release_one(keep) {
            executor::yield_now().await;
        }
    }

    fn release_one(&self, keep: usize) -> bool {
        let excess = {
            let mut state = self.uareas.state.lock();
            if state.cached > keep {
                state.pop()
            } else {
                None
            }
        };
        let Some(uarea) = excess else { return false };
        self.count(Counter::UareaDrained);
        self.unmake(uarea);
        true
    }

    /// u-areas in the cache.
    #[must_use]
    pub fn uarea_cached(&self) -> usize {
        self.uareas.state.lock().cached
    }

    /// Whether u-areas have addresses of their own, and so can be put out.
    #[must_use]
    pub fn uareas_have_addresses(&self) -> bool {
        self.uareas.kva.is_some()
    }

    fn make_direct(&self) -> Result<Uarea, OutOfMemory> {
        if !self.can_allocate(AllocFor::User, UAREA_PAGES) {
            return Err(OutOfMemory);
        }
        let first = self.alloc_contiguous(UAREA_PAGES).ok_or(OutOfMemory)?;
        Ok(Uarea {
            base: NonNull::new(self.phys().ptr(first)).ok_or(OutOfMemory)?,
            frames: core::array::from_fn(|i| first.offset(i as u32)),
        })
    }

    fn make_mapped(&self, kva: VaRange) -> Result<Uarea, OutOfMemory> {
        let slot = self.uareas.state.lock().take_slot().ok_or(OutOfMemory)?;
        let made = NonNull::new(slot_range(kva, slot).start().as_mut_ptr())
            .ok_or(OutOfMemory)
            .and_then(|base| {
                let frames = self.uarea_frames(AllocFor::User)?;
                self.map_uarea(base, frames)
            });
        made.inspect_err(|_| self.uareas.state.lock().free_slot(slot))
    }

    /// Frames for a u-area's pages, not the kernel's yet.
    fn uarea_frames(&self, who: AllocFor) -> Result<[Frame; UAREA_PAGES], OutOfMemory> {
        let mut frames = ArrayVec::<Fresh<'_>, UAREA_PAGES>::new();
        while !frames.is_full() {
            let frame = self.alloc_frame(who, Zero::No).ok_or(OutOfMemory)?;
            frames.push(Fresh::new(self, frame));
        }
        let numbers = core::array::from_fn(|i| frames[i].frame());
        frames.into_iter().for_each(Fresh::keep);
        Ok(numbers)
    }

    /// Maps frames at the addresses of a slot, where nothing is mapped. On failure they are free.
    fn map_uarea(
        &self,
        base: NonNull<u8>,
        frames: [Frame; UAREA_PAGES],
    ) -> Result<Uarea, OutOfMemory> {
        let range = uarea_range(base);
        for frame in frames {
            self.claim_for_kernel(frame);
        }
        let mapped = frames.iter().enumerate().try_for_each(|(i, &frame)| {
            let va = range.start() + (i * PAGE_SIZE) as u64;
            self.kenter(va, frame, Prot::RW)
        });
        let uarea = Uarea { base, frames };
        match mapped {
            Ok(()) => Ok(uarea),
            Err(error) => {
                self.unmap_uarea(uarea);
                Err(error)
            }
        }
    }

    /// Unmaps a u-area that has a slot of addresses, which it keeps, and frees its frames.
    fn unmap_uarea(&self, uarea: Uarea) {
        self.kremove(uarea_range(uarea.base));
        self.kernel_update();
        for frame in uarea.frames {
            self.free_kernel_frame(frame);
        }
    }

    /// Frees a u-area's memory, and its slot of addresses if it has one.
    fn unmake(&self, uarea: Uarea) {
        let base = uarea.base;
        if self.uareas.kva.is_some() {
            self.unmap_uarea(uarea);
            self.free_uarea_addresses(base);
        } else {
            // SAFETY: made so by `make_direct`, and nobody has it.
            unsafe { self.free_contiguous(uarea.frames[0], UAREA_PAGES) };
        }
    }

    /// Frees the slot of a u-area that is not mapped.
    fn free_uarea_addresses(&self, base: NonNull<u8>) {
        let Some(kva) = self.uareas.kva else { return };
        let offset = VirtAddr::from_ptr(base.as_ptr()) - kva.start();
        let slot = offset as usize / (SLOT_PAGES * PAGE_SIZE);
        self.uareas.state.lock().free_slot(slot);
    }
}

/// The pages of the u-area at `base`.
fn uarea_range(base: NonNull<u8>) -> VaRange {
    VaRange::of_pages(VirtAddr::from_ptr(base.as_ptr()), UAREA_PAGES)
}

/// The pages of a slot's u-area. The first page of the range is never mapped, nor the one behind
/// each u-area.
fn slot_range(kva: VaRange, slot: usize) -> VaRange {
    let first = kva.start() + ((slot * SLOT_PAGES + 1) * PAGE_SIZE) as u64;
    VaRange::of_pages(first, UAREA_PAGES)
}

#[cfg(test)]
mod tests;
