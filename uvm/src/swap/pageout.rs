//! Page-out to swap: the pagedaemon chooses pages, worker tasks write them.
//!
//! Owns the pages of a cluster from the moment at which the pagedaemon has made them BUSY until they are free frames, or are as they
//! were. All its memory is reserved at boot: clusters lie in fixed places, request slots are kept for it, and nothing on the way
//! out asks for a frame (rule 5 of awaiting).
//!
//! The workers write u-areas as well (`swap::uarea`).
//!
//! # The way of a page
//! 1. The pagedaemon, under the owner's lock: no translation is left, BUSY and PAGEOUT are set, it is on no queue, and its slot is the next of
//!    a run that was taken for the cluster. The slot of before is given up.
//! 2. A worker writes what there is of the cluster, in one request.
//! 3. Written, the frame is freed, unless somebody has come to wait for the page meanwhile: then it stays, CLEAN, in memory and on swap.
//!    What cannot be written stays as it was: dirty, in memory, active (row 16); of a run that fails each page is written alone,
//!    and a slot that cannot be written is never used again.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use arrayvec::ArrayVec;
use executor::sync::WaitQueue;

use super::owner::Held;
use super::uarea::LeavingUareas;
use super::{Owner, SwapSlot};
use crate::Uvm;
use crate::addr::Frame;
use crate::io::{IoError, Op, Segment};
use crate::lock::{LEAF, SpinLock};
use crate::meter::{Counter, Gauge};
use crate::object::vnode::CLUSTER;
use crate::page::{Page, PageAttrs, PageFlags};
use crate::policy::nonresident::Went;
use crate::uarea::Residence;

/// Worker tasks, and so clusters in flight at once, at most.
pub const WORKERS: usize = 32;

/// A page on its way out, BUSY.
pub(crate) struct Leaving {
    pub(crate) owner: Owner,
    pub(crate) frame: Frame,
}

/// Pages that are written together. In a box: they go from hand to hand.
type Pages = Box<ArrayVec<Leaving, CLUSTER>>;

/// What the pagedaemon gathers: pages, and the slots that they will be written to, in a row.
pub(crate) struct Cluster {
    pages: Pages,
    /// The first of the slots, and how many there are: more than pages, until it is full.
    slots: Option<(SwapSlot, usize)>,
    /// Where its pages were before.
    old: ArrayVec<SwapSlot, CLUSTER>,
}

impl Cluster {
    /// Empty. Takes its memory from the heap: made once.
    pub(crate) fn new() -> Self {
        Self {
            pages: Pages::default(),
            slots: None,
            old: ArrayVec::new(),
        }
    }

    /// How many pages it may still take, at most.
    pub(crate) fn room(&self) -> usize {
        self.slots.map_or(CLUSTER, |(_, slots)| slots) - self.pages.len()
    }

    /// The slot of the next page. Takes a run of them for the first one. `None`: swap is full.
    pub(crate) fn next_slot(&mut self, uvm: &Uvm) -> Option<SwapSlot> {
        debug_assert!(!self.is_full());
        if self.slots.is_none() {
            self.slots = uvm.swap().take_run(uvm, CLUSTER);
        }
        let (first, _) = self.slots?;
        first.offset(self.pages.len() as isize)
    }

    /// Adds a page that [`Uvm::send_off`] has sent to the next slot; `old` is its place of before.
    #[inline]
    pub(crate) fn add(&mut self, leaving: Leaving, old: Option<SwapSlot>) {
        let full = self.pages.try_push(leaving).is_err();
        debug_assert!(!full, "a page without a slot");
        if let Some(old) = old {
            let full = self.old.try_push(old).is_err();
            debug_assert!(!full, "more old slots than pages");
        }
    }

    /// Whether there is a page for each slot.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.slots
            .is_some_and(|(_, slots)| slots == self.pages.len())
    }

    /// Gives back what it does not need: slots without a page, and those of before.
    fn trim(&mut self, uvm: &Uvm) {
        let pages = self.pages.len();
        let (first, slots) = self.slots.map_or((None, 0), |(first, n)| (Some(first), n));
        let spare = (pages..slots).filter_map(|i| first?.offset(i as isize));
        uvm.swap().free_all(uvm, self.old.drain(..).chain(spare));
    }
}

/// What pagedaemon and workers share.
pub(crate) struct Pageout {
    /// Clusters that no worker has taken yet.
    ready: SpinLock<ArrayVec<(Pages, SwapSlot), WORKERS>, LEAF>,
    /// Empty ones: each worker brings one.
    spare: SpinLock<ArrayVec<Pages, WORKERS>, LEAF>,
    work: WaitQueue,
    pub(super) uareas: LeavingUareas,
    /// Clusters handed over and not finished, and how many there may be.
    under_way: AtomicUsize,
    limit: usize,
    /// For who waits for one to be finished.
    finished: WaitQueue,
    /// How many were ever finished.
    count: AtomicUsize,
}

impl Pageout {
    pub(super) const fn new(managed: usize) -> Self {
        // Of little memory only a part may be on its way at once.
        let limit = managed / 16 / CLUSTER;
        let limit = if limit < 1 {
            1
        } else if limit > WORKERS {
            WORKERS
        } else {
            limit
        };
        Self {
            ready: SpinLock::new(ArrayVec::new_const()),
            spare: SpinLock::new(ArrayVec::new_const()),
            work: WaitQueue::new("pages to write"),
            uareas: LeavingUareas::new(),
            under_way: AtomicUsize::new(0),
            limit,
            finished: WaitQueue::new("page-out"),
            count: AtomicUsize::new(0),
        }
    }

    /// Clusters and u-areas finished since boot.
    pub(crate) fn finished(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// Awaits that more than `before` are finished, or none is under way.
    pub(crate) async fn wait_finished(&self, before: usize) {
        let none = || self.under_way.load(Relaxed) + self.uareas.under_way() == 0;
        let done = || (self.finished() != before || none()).then_some(());
        self.finished.wait_until(done).await;
    }

    /// There is something for a worker.
    pub(super) fn has_work(&self) {
        self.work.wake_one();
    }

    /// What is there for a worker.
    fn next(&self) -> Option<Work> {
        let cluster = {
            let mut ready = self.ready.lock();
            (!ready.is_empty()).then(|| ready.remove(0))
        };
        match cluster {
            Some((pages, first)) => Some(Work::Cluster(pages, first)),
            None => self.uareas.next().map(Work::Uarea),
        }
    }

    /// A worker is through with something.
    fn has_finished(&self) {
        self.count.fetch_add(1, Relaxed);
        self.finished.wake_all();
    }
}

/// What a worker writes.
enum Work {
    /// Pages, to the slots from this one on.
    Cluster(Pages, SwapSlot),
    /// A u-area.
    Uarea(Arc<Residence>),
}

/// A task that writes what the pagedaemon has chosen, for ever: [`WORKERS`] of them are spawned at boot, in class Daemon.
pub async fn pageout_worker(uvm: Arc<Uvm>) {
    let out = &uvm.swap().out;
    out.spare.lock().push(Pages::default());
    out.finished.wake_all();
    loop {
        match out.work.wait_until(|| out.next()).await {
            Work::Cluster(mut pages, first) => {
                uvm.write_cluster(&mut pages, first).await;
                out.spare.lock().push(pages);
                out.under_way.fetch_sub(1, Relaxed);
            }
            Work::Uarea(residence) => {
                residence.leave().await;
                drop(residence);
                out.uareas.finished();
            }
        }
        out.has_finished();
    }
}

impl Uvm {
    /// Puts a page of anonymous memory, which nobody maps, holds or has wired, on its way to the slot that it has got, the next one of a
    /// cluster: the caller adds it there, and counts it ([`Gauge::Paging`]). It has the owner locked.
    #[inline]
    pub(crate) fn send_off(&self, frame: Frame, page: &Page) {
        // What was written until now goes out with it; nobody can write from here on.
        page.clear_attrs(PageAttrs::MODIFIED);
        if page.has(PageFlags::CLEAN) {
            page.clear(PageFlags::CLEAN);
        }
        page.set(PageFlags::PAGEOUT.union(PageFlags::BUSY));
        self.dequeue_page(frame, page);
    }

    /// Hands a cluster to the workers. Awaits that not too many are in flight.
    pub(crate) async fn hand_over(&self, cluster: &mut Cluster) {
        cluster.trim(self);
        // Slots may have been taken for pages that then stayed.
        let Some((first, _)) = cluster.slots.take().filter(|_| !cluster.pages.is_empty()) else {
            return;
        };
        let out = &self.swap().out;
        let room = || match out.under_way.load(Relaxed) < out.limit {
            true => out.spare.lock().pop(),
            false => None,
        };
        let spare = out.finished.wait_until(room).await;
        out.under_way.fetch_add(1, Relaxed);
        let pages = core::mem::replace(&mut cluster.pages, spare);
        out.ready.lock().push((pages, first));
        out.has_work();
    }

    async fn write_cluster(self: &Arc<Self>, pages: &mut Pages, first: SwapSlot) {
        if self.write_run(pages, first).await.is_ok() {
            return self.have_left(pages);
        }
        // One of them cannot be written, nobody knows which: each by itself, at its place.
        for (i, leaving) in pages.drain(..).enumerate() {
            let slot = first.offset(i as isize).unwrap_or(first);
            let mut alone: ArrayVec<_, CLUSTER> = [leaving].into_iter().collect();
            match self.write_run(&alone, slot).await {
                Ok(()) => self.have_left(&mut alone),
                Err(_) => {
                    self.stay(&alone);
                    self.swap().condemn(self, slot);
                }
            }
        }
    }

    /// Writes pages to the slots from `first` on.
    async fn write_run(
        self: &Arc<Self>,
        pages: &[Leaving],
        first: SwapSlot,
    ) -> Result<(), IoError> {
        let (disk, offset) = self.swap().place(first).ok_or(IoError::Device)?;
        self.count(Counter::Pageouts);
        let claim = self.io().claim_to_write().await;
        let written = claim.start(&disk, |order| {
            let segments = pages.iter().map(|leaving| Segment::page(leaving.frame));
            order.request.fill(Op::Write, offset, segments);
        });
        written.await
    }

    /// Pages are written: frees their frames, but those that somebody waits for.
    fn have_left(&self, pages: &mut ArrayVec<Leaving, CLUSTER>) {
        let n = pages.len();
        let went = self.upper.memory.gone.count(n);
        let mut free = ArrayVec::<Frame, CLUSTER>::new();
        for Leaving { owner, frame } in pages.iter() {
            let left = match owner {
                Owner::Anon(anon) => {
                    self.has_left(*frame, Held::Anon(anon, &mut anon.lock()), went)
                }
                Owner::Object(object, index) => {
                    let mut pages = object.lock();
                    self.has_left(*frame, Held::Object(object, &mut pages, *index), went)
                }
            };
            if left {
                let full = free.try_push(*frame).is_err();
                debug_assert!(!full, "no more frames than pages");
            }
        }
        self.count_n(Counter::Swapouts, n);
        self.count_n(Counter::Pdfreed, free.len());
        self.free_pages(&free);
        pages.clear();
        self.meter().lower(Gauge::Paging, n as u64);
    }

    /// The same for one page, its owner locked; whether the caller has to free the frame.
    #[inline(always)]
    fn has_left(&self, frame: Frame, mut held: Held<'_>, went: Went) -> bool {
        let page = self.page(frame);
        let old = page.clear(PageFlags::PAGEOUT.union(PageFlags::BUSY));
        if old.contains(PageFlags::WANTED) {
            self.stays_after_all(frame);
            return false;
        }
        held.evict(self, went)
    }

    /// Somebody has come to wait for a page that is written: it stays.
    #[cold]
    fn stays_after_all(&self, frame: Frame) {
        self.page(frame)
            .set(PageFlags::CLEAN.union(PageFlags::BUSY));
        self.activate(frame);
        self.unbusy(frame);
    }

    /// Pages cannot leave: they are as before, and active.
    fn stay(&self, pages: &[Leaving]) {
        let n = pages.len();
        for Leaving { owner, frame } in pages {
            owner.with(|held| {
                held.set_slot(None);
                self.page(*frame).clear(PageFlags::PAGEOUT);
                self.activate(*frame);
                self.unbusy(*frame);
            });
        }
        self.meter().lower(Gauge::Paging, n as u64);
        self.count_n(Counter::Pdpending, n);
    }
}
