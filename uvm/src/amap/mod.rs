//! Anonymous maps: which anons a range of anonymous memory shows.
//!
//! # What this owns
//! References to anons by slot (one slot is one page), in a sparse array of 16-slot chunks: a slot never used costs nothing,
//! neither memory nor time at fork. UVM clips large entries into chunks for that end; here the amap itself is in
//! chunks and entries stay whole. Offsets and lengths are in pages throughout.
//!
//! # References
//! Each map entry that shows the amap holds one [`Ref`], for its own range of slots. As long as every entry shows all of it, the
//! count says it all. After a clip or a partial unmap `Runs` counts per range of slots, so that a slot which no entry
//! shows any more gives its anon up at once.
//!
//! # How it synchronises
//! One spin lock over slots and runs; after the map's, before objects and anons. References are made only from an existing entry, by
//! someone who holds that entry's map lock.

mod copy;
mod runs;

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::Prot;
use crate::Uvm;
use crate::anon::Anon;
use crate::lock::{AMAP, SpinLock, SpinLockGuard};
use crate::map::tree::Node;
use crate::meter::Counter;
use crate::object::radix::{NodePool, Radix};
use crate::pool::{Counted, OutOfMemory, Pool, Ref, RefCount};

pub(crate) use copy::Copying;
pub(crate) use runs::{Run, Runs};

/// Slots in a chunk.
pub const CHUNK: usize = 16;

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
    /// Number of slots, used or not.
    pub(crate) slots: u64,
    pub(crate) runs: Runs,
}

// SAFETY: `count` is this amap's own and nothing else changes it.
unsafe impl Counted for Amap {
    fn count(&self) -> &RefCount {
        &self.count
    }
}

impl Amap {
    /// An amap of `slots` slots, none of them used.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub(crate) fn new(uvm: &Uvm, slots: u64) -> Result<Ref<Self>, OutOfMemory> {
        Ref::new(
            &uvm.upper.amaps,
            uvm,
            Self {
                count: RefCount::new(),
                inner: SpinLock::new(AmapInner {
                    anons: Radix::new(),
                    slots,
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

    /// Marks it as shared, for good.
    pub(crate) fn set_shared(&self) {
        self.shared.store(true, Relaxed);
    }

    /// One more reference to the `len` slots from `slot` on.
    pub(crate) fn reference(this: &Ref<Self>, uvm: &Uvm, slot: u64, len: u64) -> Ref<Self> {
        let mut inner = this.lock();
        let slots = inner.slots;
        if !matches!(inner.runs, Runs::Uniform) || (slot, len) != (0, slots) {
            inner.runs.materialise(uvm, slots, Ref::count(this));
            inner.runs.add(uvm, slot, len, 1);
        }
        this.clone()
    }

    /// A second reference for an entry that was clipped in two: both halves together show what the one showed.
    pub(crate) fn split(this: &Ref<Self>, uvm: &Uvm) -> Ref<Self> {
        let mut inner = this.lock();
        let slots = inner.slots;
        inner.runs.materialise(uvm, slots, Ref::count(this));
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
        let slots = inner.slots;
        if Ref::count(&this) > 1
            && (!matches!(inner.runs, Runs::Uniform) || (slot, len) != (0, slots))
        {
            inner.runs.materialise(uvm, slots, Ref::count(&this));
            inner.runs.add(uvm, slot, len, -1);
            let AmapInner { anons, runs, .. } = &mut *inner;
            runs.for_each_unused(slot, len, |from, to| {
                while let Some((at, _)) = anons.next_from(from).filter(|&(at, _)| at < to) {
                    anons.remove(at);
                }
            });
        }
        drop(inner);
    }

    /// Gives up the anons in the `len` slots from `slot` on, for all who show it. Wired pages stay: they are another entry's. The caller
    /// has removed and flushed its own entry's translations, and holds its map's write lock.
    pub(crate) fn forget(this: &Ref<Self>, uvm: &Uvm, slot: u64, len: u64) {
        let mut inner = this.lock();
        let mut at = slot;
        while let Some((used, anon)) = inner.anons.next_from(at).filter(|&(s, _)| s < slot + len) {
            at = used + 1;
            let frame = anon.lock().frame;
            if frame.is_some_and(|frame| uvm.page(frame).wire_count() > 0) {
                continue;
            }
            if let Some(frame) = frame.filter(|_| this.is_shared()) {
                // Others who share the amap have it mapped, and must see that it is gone.
                uvm.page_protect(frame, Prot::empty());
            }
            inner.anons.remove(used);
        }
    }

    /// Frees up to `budget` anons of an amap that only `this` refers to; whether any are left. For long tear-downs that yield.
    pub(crate) fn release_some(this: &Ref<Self>, budget: usize) -> bool {
        let mut inner = this.lock();
        if Ref::count(this) > 1 {
            return false;
        }
        for _ in 0..budget {
            let Some((at, _)) = inner.anons.next_from(0) else {
                return false;
            };
            inner.anons.remove(at);
        }
        !inner.anons.is_empty()
    }

    /// An amap of its own for an entry that shows `len` slots of `this` from `slot` on, all at once: the same anons, one reference each
    /// more, and copies of wired pages (who may meet many of those makes a [`Copying`] in parts). From now on neither side may write to them in place; where the other side may have writable translations
    /// (`this` is shared) they are taken away here.
    ///
    /// # Errors
    /// [`OutOfMemory`]; nothing has changed.
    pub(crate) fn copy(
        this: &Ref<Self>,
        uvm: &Uvm,
        slot: u64,
        len: u64,
    ) -> Result<Ref<Self>, OutOfMemory> {
        let mut copy = Copying::new(this, uvm, slot, len)?;
        copy.advance(this, uvm, usize::MAX)?;
        uvm.count(Counter::FltAmcopy);
        Ok(copy.finish())
    }

    /// Makes room for `more` slots behind the `len` from `slot` on, if the only entry that shows it shows its end.
    pub(crate) fn try_extend(this: &Ref<Self>, slot: u64, len: u64, more: u64) -> bool {
        let mut inner = this.lock();
        let can = Ref::count(this) == 1
            && matches!(inner.runs, Runs::Uniform)
            && slot + len == inner.slots;
        if can {
            inner.slots += more;
        }
        can
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
