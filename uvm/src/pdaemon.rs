//! The pagedaemon: the task that turns pages into free frames before they are needed.
//!
//! # What this owns
//! The decision that a page goes. As yet only clean file pages can: there is nowhere to write others to.
//!
//! # A pass
//! 1. Scan the inactive queue, oldest first, until four times the free target is free: a page used since it became inactive is
//!    active again (second chance); busy, held and wired ones are skipped; a clean one loses its translations
//!    and its owner, and its frame is free.
//! 2. Refill the inactive queue from the active one.
//! 3. Wake who waits for frames; drain pools and, in shortage, u-areas and page tables that map nothing any more.
//!
//! # How it synchronises
//! Against the order of locks: from the frame to its owner ([`crate::page::Page::owner_ref`]), whose lock it only *tries*; then it looks
//! whether the owner still has the page. It never waits for a lock, a busy page or a frame. It lets others run every few
//! dozen pages.
//!
//! # When nothing can be freed
//! A pass that frees nothing, and skipped nothing that might be free soon, tells all who wait ([`Uvm::wait_for_memory`]): their faults
//! end with out-of-memory. No fault ever reclaims anything itself. After a pass in vain it pauses, and goes on only when somebody
//! waits or another allocation found memory short: that memory *is* short is no reason to look again at the same pages.
//!
//! What a fault lacks may be more than a frame: structures and page tables come from the same free list, and none of it is kept
//! when one of them cannot be had. So who tries again waits for more each time (`Demand`).

use alloc::sync::Arc;
use core::future::poll_fn;
use core::pin::pin;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use core::task::Poll;
use core::time::Duration;

use arrayvec::ArrayVec;
use executor::sync::WaitQueue;

use crate::Uvm;
use crate::addr::{Frame, Vpn};
use crate::lock;
use crate::meter::{Counter, Gauge};
use crate::object::UvmObject;
use crate::page::queues::Queue;
use crate::page::{OwnerKind, PageFlags};
use crate::pool::{OutOfMemory, Ref};
use crate::prot::Prot;

/// Pages looked at between two looks at whether someone else should run.
const BATCH: usize = 32;
/// Passes without a freed page, though some might have been freed later, after which waiters are told that there is no hope.
const PATIENCE: u32 = 64;
/// How long it lets others work after a pass in vain, and between passes in torture.
const PAUSE: Duration = Duration::from_millis(1);
const TORTURE_PAUSE: Duration = Duration::from_micros(50);

/// What the pagedaemon shares with those who wait for it.
pub(crate) struct Hope {
    /// How often it had to give up.
    lost: AtomicU64,
    waiting: WaitQueue,
}

impl Hope {
    pub(crate) const fn new() -> Self {
        Self {
            lost: AtomicU64::new(0),
            waiting: WaitQueue::new("free memory"),
        }
    }
}

/// What became of a page that was looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Freed,
    /// Used since it was last looked at.
    Reactivated,
    /// Not now: busy, held, or its owner is locked.
    Later,
    /// It cannot go: anonymous, dirty, wired.
    Stays,
}

/// What a pass came to.
#[derive(Default)]
struct Pass {
    freed: usize,
    later: usize,
}

/// The pagedaemon, for ever: the future of a Daemon-class task.
pub async fn pagedaemon(uvm: Arc<Uvm>) {
    let mut fruitless = 0;
    // What has been told and was in vain.
    let mut heard = None;
    loop {
        if uvm.torture_evict() {
            uvm.executor().sleep(TORTURE_PAUSE).await;
        } else {
            let needed = || {
                uvm.has_free_waiters()
                    || (heard != Some(uvm.pressure_kicks()) && uvm.memory_is_short())
            };
            uvm.wait_pressure(needed).await;
        }
        uvm.count(Counter::Pdwoke);
        let kicks = uvm.pressure_kicks();
        let pass = uvm.page_daemon_pass().await;
        if pass.freed > 0 {
            (fruitless, heard) = (0, None);
            continue;
        }
        heard = Some(kicks);
        fruitless = if uvm.has_unmet_demand() {
            fruitless + 1
        } else {
            0
        };
        if fruitless >= PATIENCE || (fruitless > 0 && pass.later == 0) {
            fruitless = 0;
            let hope = &uvm.upper.hope;
            hope.lost.fetch_add(1, Relaxed);
            hope.waiting.wake_all();
        }
        if !uvm.torture_evict() {
            uvm.executor().sleep(PAUSE).await;
        }
    }
}

/// How much memory a task that found too little waits for: one frame, then twice as much each time that it turns out not to be enough.
/// After all hope is lost it may try once more, with what there is.
pub(crate) struct Demand {
    pages: usize,
    hopeless: bool,
}

impl Demand {
    pub(crate) const fn new() -> Self {
        Self {
            pages: 1,
            hopeless: false,
        }
    }

    /// Waits, after an attempt that failed, until another one makes sense. The caller holds nothing, not even a busy page.
    ///
    /// # Errors
    /// [`OutOfMemory`] when none does.
    pub(crate) async fn wait(&mut self, uvm: &Uvm) -> Result<(), OutOfMemory> {
        if self.hopeless {
            return Err(OutOfMemory);
        }
        self.hopeless = uvm.wait_for_memory(self.pages).await.is_err();
        self.pages = self.pages.saturating_mul(2).min(uvm.pages().managed());
        Ok(())
    }
}

impl Uvm {
    /// Waits until `pages` frames can be allocated, or until the pagedaemon has found that none can be freed. The
    /// caller holds nothing, not even a busy page.
    ///
    /// # Errors
    /// [`OutOfMemory`] when there is no hope.
    pub async fn wait_for_memory(&self, pages: usize) -> Result<(), OutOfMemory> {
        lock::assert_none_held("waiting for memory");
        let hope = &self.upper.hope;
        let before = hope.lost.load(Relaxed);
        self.wake_pagedaemon();
        let mut free = pin!(self.wait_for_free(pages));
        let mut lost = pin!(
            hope.waiting
                .wait_until(|| (hope.lost.load(Relaxed) != before).then_some(()))
        );
        poll_fn(|cx| {
            if free.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            lost.as_mut().poll(cx).map(|()| Err(OutOfMemory))
        })
        .await
    }

    async fn page_daemon_pass(&self) -> Pass {
        self.count(Counter::Pdrevs);
        let mut pass = Pass::default();
        self.scan_inactive(&mut pass).await;
        self.refill_inactive().await;
        if pass.freed == 0 && self.should_scan() {
            // The inactive queue was empty or in use: now it may hold something.
            self.scan_inactive(&mut pass).await;
        }
        pass.freed += self.reclaim_pools();
        if self.torture_evict() || self.memory_is_short() || self.has_unmet_demand() {
            pass.freed += self.collect_tables().await;
            self.uarea_drain(0).await;
        }
        self.wake_free_waiters();
        pass
    }

    /// Frees page tables that evictions have emptied; returns how many. Nothing is locked between its parts.
    async fn collect_tables(&self) -> usize {
        let (mut at, mut freed) = (0, 0);
        while let Some(space) = self.next_space(&mut at) {
            // The page tables alone are kept meanwhile: whoever lets go of a space last expects its memory back.
            let pmap = space.pmap().clone();
            drop(space);
            let mut from = pmap.has_empty_tables().then_some(Vpn::new(0));
            while let Some(vpn) = from {
                let before = pmap.stats().tables;
                from = pmap.collect_some(self, vpn, BATCH);
                freed += before.saturating_sub(pmap.stats().tables);
                pmap.update(self);
                self.executor().reschedule_if_asked().await;
            }
        }
        freed
    }

    /// Whether more should be freed.
    fn should_scan(&self) -> bool {
        self.torture_evict() || !self.memory_is_ample() || self.has_unmet_demand()
    }

    async fn scan_inactive(&self, pass: &mut Pass) {
        let mut left = self.queue_counts().inactive;
        while left > 0 && self.should_scan() {
            let mut batch = ArrayVec::<Frame, BATCH>::new();
            self.rotate(Queue::Inactive, &mut batch);
            if batch.is_empty() {
                break;
            }
            for &frame in batch.iter().take(left) {
                self.count(Counter::Pdscans);
                match self.evict(frame) {
                    Fate::Freed => {
                        self.count(Counter::Pdfreed);
                        pass.freed += 1;
                    }
                    Fate::Later => {
                        self.count(Counter::Pdbusy);
                        pass.later += 1;
                    }
                    Fate::Reactivated => {
                        self.count(Counter::Pdreact);
                        // Used just now; next time it may not be.
                        pass.later += 1;
                    }
                    Fate::Stays => {}
                }
            }
            left = left.saturating_sub(batch.len());
            self.executor().reschedule_if_asked().await;
        }
    }

    /// Moves the oldest active pages that could be evicted to the inactive queue, up to the target.
    async fn refill_inactive(&self) {
        let target = self.set_inactive_target();
        let mut left = self.queue_counts().active;
        while left > 0 {
            let inactive = self.queue_counts().inactive as u64;
            if inactive >= target && !self.torture_evict() {
                break;
            }
            let mut batch = ArrayVec::<Frame, BATCH>::new();
            self.rotate(Queue::Active, &mut batch);
            if batch.is_empty() {
                break;
            }
            for &frame in batch.iter().take(left) {
                self.cool(frame);
            }
            left = left.saturating_sub(batch.len());
            self.executor().reschedule_if_asked().await;
        }
    }

    /// Deactivates an active page, if it is one that could ever be evicted.
    fn cool(&self, frame: Frame) {
        let page = self.page(frame);
        let Some(object) = page.owner_ref::<UvmObject>() else {
            return;
        };
        if object.is_anonymous() {
            return;
        }
        let Some(pages) = object.try_lock() else {
            return;
        };
        if page.is_owned_by(Ref::as_ptr(&object), page.index())
            && !page.is_busy()
            && self.queue_of(frame) == Some(Queue::Active)
        {
            self.deactivate(frame);
            self.count(Counter::Pddeact);
        }
        drop(pages);
    }

    /// Looks at one inactive page.
    fn evict(&self, frame: Frame) -> Fate {
        let page = self.page(frame);
        match page.owner_kind() {
            OwnerKind::Anon => {
                self.count(Counter::Pdanscan);
                return Fate::Stays;
            }
            OwnerKind::Object => self.count(Counter::Pdobscan),
            _ => return Fate::Stays,
        }
        let Some(object) = page.owner_ref::<UvmObject>() else {
            return Fate::Stays;
        };
        let fate = {
            let Some(mut pages) = object.try_lock() else {
                return Fate::Later;
            };
            let index = page.index();
            if pages.frames.get(index.0) != Some(&frame) {
                return Fate::Stays;
            }
            if page.is_busy() || page.loan_count() > 0 {
                Fate::Later
            } else if object.is_anonymous() || page.wire_count() > 0 {
                Fate::Stays
            } else if self.clear_reference(frame) && !self.torture_evict() {
                self.activate(frame);
                Fate::Reactivated
            } else {
                self.page_protect(frame, Prot::empty());
                if page.has(PageFlags::CLEAN) && !self.is_modified(frame) {
                    object.remove(&mut pages, self, index);
                    Fate::Freed
                } else {
                    self.activate(frame);
                    Fate::Stays
                }
            }
        };
        // The last reference to an object may go here: not under its lock.
        drop(object);
        fate
    }

    /// Whether page-ins are under way that will bring evictable pages.
    #[must_use]
    pub fn is_paging_in(&self) -> bool {
        self.meter().gauge(Gauge::PagingIn) > 0
    }
}

#[cfg(test)]
mod tests;
