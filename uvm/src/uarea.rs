//! The u-area cache.
//!
//! A u-area is the memory of a suspended LWP: trap frame, FPU state, pinned future; [`UAREA_SIZE`]
//! bytes in whole wired pages, at kernel addresses of their own with an unmapped page on each side.
//! Making one allocates and maps; most often one from the cache will do, its pages still wired
//! (UVM.md, rows 3 and 5).
//!
//! # What this owns
//! The address range [`crate::Config::kva`], cut into slots, and the cached u-areas, linked through
//! their own first bytes. Where nothing translates kernel addresses (host) a u-area is two
//! contiguous frames in the direct map instead.
//!
//! # How it synchronises
//! One spin lock, held for a few instructions. [`Uvm::uarea_free`] never waits and never fails, so
//! that exit can call it last; the excess is released by [`Uvm::uarea_drain`], by whoever can await
//! (the parent in wait4, a thread that leaves others behind, the pagedaemon).

use alloc::boxed::Box;
use alloc::vec;
use core::ptr::{self, NonNull};

use crate::Uvm;
use crate::addr::{Frame, PAGE_SIZE, VaRange, VirtAddr};
use crate::lock::{LEAF, SpinLock};
use crate::meter::Counter;
use crate::page::freelist::{AllocFor, Zero};
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
}

impl Uarea {
    /// First byte, page-aligned. Contents are undefined at first.
    #[must_use]
    pub fn base(&self) -> NonNull<u8> {
        self.base
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

/// What stands in a cached u-area.
struct Cached {
    next: *mut Cached,
}

// SAFETY: the cached u-areas belong to the cache, whichever thread looks.
unsafe impl Send for State {}

impl Uareas {
    /// For `frames` frames of memory in all.
    pub(crate) fn new(kva: Option<VaRange>, frames: usize) -> Self {
        let slots = kva.map_or(0, |r| {
            (r.pages().saturating_sub(1) / SLOT_PAGES).min(frames / UAREA_PAGES)
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
        let base = NonNull::new(self.head)?;
        // SAFETY: cached u-areas are mapped, ours, and begin with their link.
        self.head = unsafe { base.as_ref() }.next;
        self.cached -= 1;
        Some(Uarea { base: base.cast() })
    }

    fn push(&mut self, uarea: Uarea) {
        let cached = uarea.base.cast::<Cached>();
        // SAFETY: mapped, aligned, and ours from now on.
        unsafe { cached.write(Cached { next: self.head }) };
        self.head = cached.as_ptr();
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
        self.uareas.state.lock().push(uarea);
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
        match self.uareas.kva {
            Some(kva) => self.unmake_mapped(kva, uarea),
            None => {
                let first = self.phys().frame_of(uarea.base.as_ptr());
                // SAFETY: made so by `make_direct`, and nobody has it.
                unsafe { self.free_contiguous(first, UAREA_PAGES) };
            }
        }
        true
    }

    /// u-areas in the cache.
    #[must_use]
    pub fn uarea_cached(&self) -> usize {
        self.uareas.state.lock().cached
    }

    fn make_direct(&self) -> Result<Uarea, OutOfMemory> {
        if !self.can_allocate(AllocFor::User, UAREA_PAGES) {
            return Err(OutOfMemory);
        }
        let first = self.alloc_contiguous(UAREA_PAGES).ok_or(OutOfMemory)?;
        Ok(Uarea {
            base: NonNull::new(self.phys().ptr(first)).ok_or(OutOfMemory)?,
        })
    }

    fn make_mapped(&self, kva: VaRange) -> Result<Uarea, OutOfMemory> {
        let slot = self.uareas.state.lock().take_slot().ok_or(OutOfMemory)?;
        let range = slot_range(kva, slot);
        for i in 0..UAREA_PAGES {
            let va = range.start() + (i * PAGE_SIZE) as u64;
            let mapped = self
                .alloc_frame(AllocFor::User, Zero::No)
                .ok_or(OutOfMemory)
                .and_then(|frame| {
                    self.claim_for_kernel(frame);
                    self.kenter(va, frame, Prot::RW)
                        .inspect_err(|_| self.free_kernel_frame(frame))
                });
            if let Err(e) = mapped {
                self.unmap_slot(kva, slot);
                return Err(e);
            }
        }
        let base = NonNull::new(range.start().as_mut_ptr()).ok_or(OutOfMemory)?;
        Ok(Uarea { base })
    }

    fn unmake_mapped(&self, kva: VaRange, uarea: Uarea) {
        let offset = VirtAddr::from_ptr(uarea.base.as_ptr()) - kva.start();
        self.unmap_slot(kva, offset as usize / (SLOT_PAGES * PAGE_SIZE));
    }

    /// Unmaps what is mapped in a slot, frees the frames, and then the slot.
    fn unmap_slot(&self, kva: VaRange, slot: usize) {
        let range = slot_range(kva, slot);
        let frames: [Option<Frame>; UAREA_PAGES] = core::array::from_fn(|i| {
            self.kextract(range.start() + (i * PAGE_SIZE) as u64)
                .map(|m| m.frame)
        });
        self.kremove(range);
        self.kernel_update();
        for frame in frames.into_iter().flatten() {
            self.free_kernel_frame(frame);
        }
        self.uareas.state.lock().free_slot(slot);
    }
}

/// The pages of a slot's u-area. The first page of the range is never mapped, nor the one behind
/// each u-area.
fn slot_range(kva: VaRange, slot: usize) -> VaRange {
    let first = kva.start() + ((slot * SLOT_PAGES + 1) * PAGE_SIZE) as u64;
    VaRange::of_pages(first, UAREA_PAGES)
}

#[cfg(test)]
mod tests;
