//! Page-out to swap: the pagedaemon chooses pages, worker tasks write them.
//!
//! Owns the pages of a cluster from the moment at which the pagedaemon has made them BUSY until they are free frames, or are as they
//! were. All its memory is reserved at boot: clusters lie in fixed places, request slots are kept for it, and nothing on the way
//! out asks for a frame (rule 5 of awaiting).
//!
//! # The way of a page
//! 1. The pagedaemon, under the owner's lock: no translation is left, BUSY and PAGEOUT are set, and an old slot is given up.
//! 2. A worker takes a run of slots for as many pages as it gets, notes them with the owners, and writes.
//! 3. Written, the frame is freed, unless somebody has come to wait for the page meanwhile: then it stays, CLEAN, in memory and on swap.
//!    What cannot be written stays as it was: dirty, in memory, active (row 16); of a run that fails each page is written alone,
//!    and a slot that cannot be written is never used again.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use arrayvec::ArrayVec;
use executor::sync::WaitQueue;

use super::{Owner, SwapSlot};
use crate::Uvm;
use crate::addr::{Frame, PAGE_SIZE};
use crate::io::{IoError, Op, Request, Segment};
use crate::lock::{LEAF, SpinLock};
use crate::meter::{Counter, Gauge};
use crate::object::vnode::CLUSTER;
use crate::page::{PageAttrs, PageFlags};

/// Worker tasks, and so clusters in flight at once, at most.
pub const WORKERS: usize = 32;

/// A page on its way out, BUSY.
pub(crate) struct Leaving {
    pub(crate) owner: Owner,
    pub(crate) frame: Frame,
}

/// Pages that are written together.
pub(crate) type Cluster = ArrayVec<Leaving, CLUSTER>;

/// What pagedaemon and workers share.
pub(crate) struct Pageout {
    /// Clusters that no worker has taken yet.
    ready: SpinLock<ArrayVec<Cluster, WORKERS>, LEAF>,
    work: WaitQueue,
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
            work: WaitQueue::new("pages to write"),
            under_way: AtomicUsize::new(0),
            limit,
            finished: WaitQueue::new("page-out"),
            count: AtomicUsize::new(0),
        }
    }

    /// Clusters finished since boot.
    pub(crate) fn finished(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// Awaits that more clusters than `before` are finished, or none is under way.
    pub(crate) async fn wait_finished(&self, before: usize) {
        let done =
            || (self.finished() != before || self.under_way.load(Relaxed) == 0).then_some(());
        self.finished.wait_until(done).await;
    }
}

/// A task that writes what the pagedaemon has chosen, for ever: [`WORKERS`] of them are spawned at boot, in class Daemon.
pub async fn pageout_worker(uvm: Arc<Uvm>) {
    let out = &uvm.swap().out;
    loop {
        let next = || {
            let mut ready = out.ready.lock();
            (!ready.is_empty()).then(|| ready.remove(0))
        };
        let cluster = out.work.wait_until(next).await;
        uvm.write_cluster(cluster).await;
        out.count.fetch_add(1, Relaxed);
        out.under_way.fetch_sub(1, Relaxed);
        out.finished.wake_all();
    }
}

impl Uvm {
    /// Puts a page of anonymous memory, which nobody maps, holds or has wired, on its way out: the caller adds it to a cluster. It has
    /// `held`, its owner's lock's contents.
    pub(crate) fn send_off(&self, held: &mut super::owner::Held<'_>, frame: Frame) {
        let page = self.page(frame);
        held.give_slot_up(self);
        // What was written until now goes out with it; nobody can write from here on.
        page.clear_attrs(PageAttrs::MODIFIED);
        page.set_busy();
        page.set(PageFlags::PAGEOUT);
        self.meter().raise(Gauge::Paging, 1);
    }

    /// Hands a cluster to the workers. Awaits that not too many are in flight.
    pub(crate) async fn hand_over(&self, cluster: &mut Cluster) {
        if cluster.is_empty() {
            return;
        }
        let out = &self.swap().out;
        let room = || (out.under_way.load(Relaxed) < out.limit).then_some(());
        out.finished.wait_until(room).await;
        out.under_way.fetch_add(1, Relaxed);
        out.ready.lock().push(core::mem::take(cluster));
        out.work.wake_one();
    }

    async fn write_cluster(self: &Arc<Self>, mut cluster: Cluster) {
        while !cluster.is_empty() {
            let Some((first, len)) = self.swap().take_run(self, cluster.len()) else {
                // Swap is full.
                cluster.drain(..).for_each(|leaving| self.stays(leaving));
                return;
            };
            let run: Cluster = cluster.drain(..len).collect();
            let run = self.write_run(run, first).await;
            // One of them cannot be written, nobody knows which: each by itself, at its place.
            for (i, leaving) in run.into_iter().enumerate() {
                let Some(slot) = first.offset(i as isize) else {
                    continue;
                };
                let alone = self.write_run([leaving].into_iter().collect(), slot).await;
                for leaving in alone {
                    leaving.owner.with(|held| held.set_slot(None));
                    self.swap().condemn(self, slot);
                    self.stays(leaving);
                }
            }
        }
    }

    /// Writes pages to the slots from `first` on; returns those that could not be written, all or none.
    async fn write_run(self: &Arc<Self>, mut run: Cluster, first: SwapSlot) -> Cluster {
        for (i, leaving) in run.iter().enumerate() {
            leaving
                .owner
                .with(|held| held.set_slot(first.offset(i as isize)));
        }
        let result = match self.swap().place(first) {
            Some((disk, offset)) => {
                let segments = run
                    .iter()
                    .map(|leaving| Segment::page(leaving.frame))
                    .collect();
                let request = Request::transfer(Op::Write, offset, segments);
                debug_assert_eq!(request.len as usize, run.len() * PAGE_SIZE);
                self.count(Counter::Pageouts);
                let claim = self.io().claim_to_write().await;
                claim.submit(&disk, request).await
            }
            None => Err(IoError::Device),
        };
        if result.is_ok() {
            self.count_n(Counter::Swapouts, run.len());
            run.drain(..).for_each(|leaving| self.has_left(leaving));
        }
        run
    }

    /// A page is written: frees its frame, unless somebody waits for it.
    fn has_left(&self, leaving: Leaving) {
        let Leaving { owner, frame } = leaving;
        let page = self.page(frame);
        owner.with(|held| {
            page.set(PageFlags::CLEAN);
            page.clear(PageFlags::PAGEOUT);
            if page.has(PageFlags::WANTED) {
                self.activate(frame);
                self.unbusy(frame);
            } else {
                self.unbusy(frame);
                held.evict(self);
                self.count(Counter::Pdfreed);
            }
        });
        drop(owner);
        self.meter().lower(Gauge::Paging, 1);
    }

    /// A page cannot leave: it is as before, and active.
    fn stays(&self, leaving: Leaving) {
        let Leaving { owner, frame } = leaving;
        owner.with(|_| {
            self.page(frame).clear(PageFlags::PAGEOUT);
            self.activate(frame);
            self.unbusy(frame);
        });
        drop(owner);
        self.meter().lower(Gauge::Paging, 1);
        self.count(Counter::Pdpending);
    }
}
