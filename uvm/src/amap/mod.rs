//! Anonymous maps: which anons a range of anonymous memory shows.
//!
//! # What this owns
//! References to anons by slot (one slot is one page), in a sparse array of chunks of [`CHUNK`] slots: a slot never used costs nothing,
//! neither memory nor time at fork. UVM clips large entries into chunks for that end; here the amap itself is in
//! chunks and entries stay whole. Offsets and lengths are in pages throughout.
//!
//! # References
//! Each map entry that shows the amap holds one [`Ref`], for its own range of slots. As long as every entry shows all of it, the
//! count says it all. After a clip or a partial unmap `Runs` counts per range of slots, so that a slot which no entry
//! shows any more gives its anon up at once.
//!
//! An amap grows at both ends, where no entry has ever shown anything: the first one to ask gets the new slots. Slots before the
//! first one are numbered in advance for mappings that grow down (a stack); never used, they cost nothing either.
//!
//! # How it synchronises
//! One spin lock over slots and runs; after the map's, before objects and anons. References are made only from an existing entry, by
//! someone who holds that entry's map lock.

mod copy;
mod runs;

use core::ops::{ControlFlow, Range};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::Prot;
use crate::Uvm;
use crate::anon::{Anon, Release};
use crate::lock::{AMAP, SpinLock, SpinLockGuard};
use crate::map::tree::Node;
use crate::meter::Counter;
use crate::object::radix::{NodePool, Radix};
use crate::pool::{Counted, OutOfMemory, Pool, Ref, RefCount};

pub(crate) use copy::Copying;
pub(crate) use runs::{Run, Runs};

/// Slots in a chunk.
pub const CHUNK: usize = 8;

pub(crate) type SlotNodes = NodePool<Ref<Anon>, CHUNK>;
pub(crate) type RunNodes = Pool<Node<Run>>;

/// An anonymous map.
pub struct Amap {
    count: RefCount,
    inner: SpinLock<AmapInner, AMAP>,
    /// Several entries show it *and* see each other's writes (inherit share).
    shared: AtomicBool,
}

/// What an amap's lock protects.
pub(crate) struct AmapInner {
    pub(crate) anons: Radix<Ref<Anon>, CHUNK>,
    /// The slots that entries have shown so far, used or not. Beyond them there is nothing.
    pub(crate) slots: Range<u64>,
    /// The slot at which a reader in order will miss next on swap, and how far to read ahead then.
    pub(crate) ahead: (u64, u64),
    pub(crate) runs: Runs,
}

// SAFETY: `count` is this amap's own and nothing else changes it.
unsafe impl Counted for Amap {
    fn count(&self) -> &RefCount {
        &self.count
    }
}

impl Amap {
    /// An amap for an entry that shows these slots. None of them is used.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub(crate) fn new(uvm: &Uvm, slots: Range<u64>) -> Result<Ref<Self>, OutOfMemory> {
        Ref::new(
            &uvm.upper.amaps,
            uvm,
            Self {
                count: RefCount::new(),
                inner: SpinLock::new(AmapInner {
                    anons: Radix::new(),
                    slots,
                    ahead: (u64::MAX, 0),
                    runs: Runs::Uniform,
                }),
                shared: AtomicBool::new(false),
            },
        )
    }

    #[inline]
    pub(crate) fn lock(&self) -> SpinLockGuard<'_, AmapInner, AMAP> {
        self.inner.lock()
    }

    /// Whether entries see each other's writes through it.
    #[inline]
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.shared.load(Relaxed)
    }

    /// One more reference to the `len` slots from `slot` on.
    pub(crate) fn reference(this: &Ref<Self>, uvm: &Uvm, slot: u64, len: u64) -> Ref<Self> {
        let mut inner = this.lock();
        inner.refer(uvm, Ref::count(this), slot..slot + len);
        this.clone()
    }

    /// The same, for an entry that shall see what the others write and the other way round. The amap is nobody's to copy (its
    /// entries do not need one of their own) and is marked shared until a single reference is left.
    pub(crate) fn share(this: &Ref<Self>, uvm: &Uvm, slot: u64, len: u64) -> Ref<Self> {
        let mut inner = this.lock();
        this.shared.store(true, Relaxed);
        inner.refer(uvm, Ref::count(this), slot..slot + len);
        this.clone()
    }

    /// A second reference for an entry that was clipped in two: both halves together show what the one showed.
    pub(crate) fn split(this: &Ref<Self>, uvm: &Uvm) -> Ref<Self> {
        let mut inner = this.lock();
        inner.count_by_range(uvm, Ref::count(this));
        this.clone()
    }

    /// Gives up the second reference after two entries have become one: the reverse of [`Self::split`].
    pub(crate) fn join(this: Ref<Self>) {
        // Counts per slot stay as they are; only the number of references sinks.
        let inner = this.lock();
        debug_assert!(
            !matches!(inner.runs, Runs::Uniform),
            "joined what was never split"
        );
        drop(inner);
    }

    /// Gives up a reference to the `len` slots from `slot` on. Slots that nobody shows any more give up their anons. The caller has
    /// removed the translations.
    pub(crate) fn unreference(this: Ref<Self>, uvm: &Uvm, slot: u64, len: u64) {
        let mut inner = this.lock();
        let count = Ref::count(&this);
        if count > 1 && !inner.is_whole(&(slot..slot + len)) {
            inner.count_by_range(uvm, count);
            inner.runs.add(uvm, slot, len, -1);
            let AmapInner { anons, runs, .. } = &mut *inner;
            runs.for_each_unused(slot, len, |from, to| discard(anons, uvm, from..to));
        }
        if count == 2 {
            // Who is left has nobody to share with. New references are made under the lock.
            this.shared.store(false, Relaxed);
        }
        drop(inner);
    }

    /// Gives up the anons in the `len` slots from `slot` on, for all who show it. Wired pages stay: they are another entry's. The caller
    /// has removed and flushed its own entry's translations, and holds its map's write lock.
    pub(crate) fn forget(this: &Ref<Self>, uvm: &Uvm, slot: u64, len: u64) {
        let mut inner = this.lock();
        let mut gone = Release::new(uvm);
        inner.anons.take_some(slot..slot + len, |_, anon| {
            let frame = anon.as_ref().and_then(|anon| anon.lock().frame);
            if frame.is_some_and(|frame| uvm.page(frame).wire_count() > 0) {
                return ControlFlow::Continue(());
            }
            if let Some(frame) = frame.filter(|_| this.is_shared()) {
                // Others who share the amap have it mapped, and must see that it is gone.
                uvm.page_protect(frame, Prot::empty());
            }
            anon.take().into_iter().for_each(|anon| gone.add(anon));
            ControlFlow::Continue(())
        });
    }

    /// Frees up to `budget` anons of an amap that only `this` refers to; whether any are left. For long tear-downs that yield.
    pub(crate) fn release_some(this: &Ref<Self>, uvm: &Uvm, budget: usize) -> bool {
        let mut inner = this.lock();
        if Ref::count(this) > 1 {
            return false;
        }
        let mut left = budget;
        let mut gone = Release::new(uvm);
        inner.anons.take_some(0..u64::MAX, |_, anon| {
            anon.take().into_iter().for_each(|anon| gone.add(anon));
            left -= 1;
            match left {
                0 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        });
        !inner.anons.is_empty()
    }

    /// An amap of its own for an entry that shows these slots of `this`, all at once: the same anons in the same slots, one reference
    /// each more, and copies of wired pages (who may meet many of those makes a [`Copying`] in parts). From now on neither side may write
    /// to them in place; where the other side may have writable translations
    /// (`this` is shared) they are taken away here.
    ///
    /// # Errors
    /// [`OutOfMemory`]; nothing has changed.
    pub(crate) fn copy(
        this: &Ref<Self>,
        uvm: &Uvm,
        slots: Range<u64>,
    ) -> Result<Ref<Self>, OutOfMemory> {
        let mut copy = Copying::new(this, uvm, slots)?;
        copy.advance(this, uvm, usize::MAX)?;
        uvm.count(Counter::FltAmcopy);
        Ok(copy.finish())
    }

    /// Lets an entry that shows `slots` show `more` behind them, never used; whether that can be.
    pub(crate) fn extend(this: &Ref<Self>, uvm: &Uvm, slots: Range<u64>, more: u64) -> bool {
        let mut inner = this.lock();
        inner.settle(uvm, Ref::count(this), &slots);
        let end = inner.slots.end;
        slots.end == end && inner.claim(uvm, Ref::count(this), end..end + more)
    }

    /// The same for `more` slots before them.
    pub(crate) fn extend_down(this: &Ref<Self>, uvm: &Uvm, slots: Range<u64>, more: u64) -> bool {
        let mut inner = this.lock();
        inner.settle(uvm, Ref::count(this), &slots);
        let start = inner.slots.start;
        slots.start == start
            && start >= more
            && inner.claim(uvm, Ref::count(this), start - more..start)
    }

    /// The first slot that an entry has ever shown.
    pub(crate) fn first(&self) -> u64 {
        self.lock().slots.start
    }

    /// How many of the `len` slots from `slot` on have an anon.
    pub(crate) fn used(&self, slot: u64, len: u64) -> u64 {
        self.lock()
            .anons
            .iter_from(slot)
            .take_while(|&(at, _)| at < slot + len)
            .count() as u64
    }
}

impl AmapInner {
    /// Whether every entry shows all slots, and `slots` is all of them.
    fn is_whole(&self, slots: &Range<u64>) -> bool {
        matches!(self.runs, Runs::Uniform) && *slots == self.slots
    }

    /// Goes over to counting by range; `count` entries show the amap as of now.
    fn count_by_range(&mut self, uvm: &Uvm, count: u32) {
        self.runs.materialise(uvm, self.slots.clone(), count);
    }

    /// Counts one entry more for `slots`, besides `count`.
    fn refer(&mut self, uvm: &Uvm, count: u32, slots: Range<u64>) {
        if !self.is_whole(&slots) {
            self.count_by_range(uvm, count);
            self.runs.add(uvm, slots.start, slots.end - slots.start, 1);
        }
    }

    /// If the entry that shows `slots` is the only one (`count`), nothing else is left of the amap: it can be counted by its
    /// references again, and grow from there.
    fn settle(&mut self, uvm: &Uvm, count: u32, slots: &Range<u64>) {
        if count == 1 && !self.is_whole(slots) {
            // There is nothing outside unless its count was lost.
            discard(&mut self.anons, uvm, 0..slots.start);
            discard(&mut self.anons, uvm, slots.end..u64::MAX);
            self.runs = Runs::Uniform;
            self.slots = slots.clone();
        }
    }

    /// Adds slots at an end, for one of `count` entries; whether there was memory to count them.
    fn claim(&mut self, uvm: &Uvm, count: u32, new: Range<u64>) -> bool {
        if count > 1 && !self.runs.claim(uvm, self.slots.clone(), count, new.clone()) {
            return false;
        }
        self.slots = self.slots.start.min(new.start)..self.slots.end.max(new.end);
        true
    }
}

/// Frees the anons in `slots`.
fn discard(anons: &mut Radix<Ref<Anon>, CHUNK>, uvm: &Uvm, slots: Range<u64>) {
    let mut gone = Release::new(uvm);
    anons.take_some(slots, |_, anon| {
        anon.take().into_iter().for_each(|anon| gone.add(anon));
        ControlFlow::Continue(())
    });
}

#[cfg(test)]
mod tests;
