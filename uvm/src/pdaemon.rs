//! The pagedaemon: the task that turns pages into free frames before they are needed.
//!
//! # What this owns
//! The decision that a page goes. Clean ones can at once; those of anonymous memory are written to swap first ([`crate::swap::pageout`]).
//! Dirty pages of files stay: nothing writes them back yet.
//!
//! # A pass
//! 0. Where less is free than should be, and there is swap, have LWPs put out that have slept for long, or, where there is hardly anything left, some other one
//!    (`lwps`). Their u-areas are written while the pass goes on. (A pass that frees nothing else looks once more, for anybody.)
//! 1. Scan the inactive queues, oldest first, until four times the free target is free. Which sort of memory gives the next few pages
//!    is the policy's choice (`policy::balance`). What becomes of a page is told in `evict`: one that was used since it became inactive is
//!    active again; busy, held and wired ones are skipped; all others lose their translations. A clean
//!    one loses its owner as well, and its frame is free: its place is remembered, so that its return tells of a mistake
//!    (`policy::nonresident`). Dirty ones are handed to the page-out's workers, a cluster at a time, and are free
//!    when they have been written: the pagedaemon does not wait for that, but for a worker, if all have something to do.
//! 2. Refill the inactive queues from the active ones (`cool`). What becomes inactive loses its referenced bit, so that the bit tells of the time
//!    since.
//! 3. Wake who waits for frames, or to come in (`admission`); drain pools and, in shortage, u-areas and page tables that map nothing any more.
//!
//! # How it synchronises
//! Against the order of locks, from the frame to its owner (`evict`). It never waits for a lock, a busy page or a frame. It lets others run every few
//! dozen pages, asked or not: a scan of all of memory is long, and nothing waits for its end.
//!
//! # When nothing can be freed
//! While pages are being written it waits for them, and for the end of a discard if all free slots of swap are in it. A pass that frees nothing, and skipped nothing that might be free soon
//! (the page tables of those who have just gone out are), tells all who wait ([`Uvm::wait_for_memory`]): their faults
//! end with out-of-memory, unless a swap device is being taken away, which is called off then, or there is somebody whose death helps (`pdaemon::victim`). No fault ever reclaims anything itself. After a pass in vain it pauses, and goes on only when somebody
//! waits or another allocation found memory short: that memory *is* short is no reason to look again at the same pages.

pub(crate) mod admission;
mod cool;
pub(crate) mod demand;
mod evict;
pub(crate) mod lwps;
pub(crate) mod turn;
pub(crate) mod victim;

use alloc::sync::Arc;
use core::time::Duration;

use arrayvec::ArrayVec;

use crate::Uvm;
use crate::addr::{Frame, Vpn};
use crate::meter::{Counter, Gauge};
use crate::page::queues::{Queue, Sort};
use crate::policy::balance::Turns;
use crate::swap::pageout::Cluster;

/// Pages looked at before others run.
const BATCH: usize = 32;
/// Passes without a freed page, though some might have been freed later, after which waiters are told that there is no hope.
const PATIENCE: u32 = 64;
/// How long it lets others work after a pass in vain, and between passes in torture.
const PAUSE: Duration = Duration::from_millis(1);
const TORTURE_PAUSE: Duration = Duration::from_micros(50);

/// What a pass came to.
#[derive(Default)]
struct Pass {
    freed: usize,
    later: usize,
}

/// The pagedaemon, for ever: the future of a Daemon-class task.
pub async fn pagedaemon(uvm: Arc<Uvm>) {
    // Without the memory for it nothing is remembered of what goes: evictions are then less well chosen, no more.
    let _ = uvm.upper.memory.gone.allocate(uvm.pages().managed());
    let mut cluster = Cluster::new();
    let mut fruitless = 0;
    // What has been told and was in vain.
    let mut heard = None;
    loop {
        if uvm.torture_evict() {
            uvm.executor().sleep(TORTURE_PAUSE).await;
        } else {
            let needed = || {
                uvm.has_free_waiters()
                    || uvm.has_turn_waiters()
                    || uvm.has_some_to_admit()
                    || (heard != Some(uvm.pressure_kicks()) && uvm.memory_runs_low())
            };
            uvm.wait_pressure(needed).await;
        }
        uvm.count(Counter::Pdwoke);
        let kicks = uvm.pressure_kicks();
        let (finished, freed) = (uvm.swap().out.finished(), uvm.meter().get(Counter::Pdfreed));
        let mut pass = uvm.page_daemon_pass(&mut cluster).await;
        if pass.freed == 0 && uvm.meter().gauge(Gauge::Paging) > 0 {
            uvm.swap().out.wait_finished(finished).await;
            pass.later += 1;
        }
        if pass.freed == 0 && (uvm.swap().discarded_room().await || uvm.lwps_are_freeing()) {
            pass.later += 1;
        }
        // The workers' count as well, also of writes that ended before the pass did.
        pass.freed = pass
            .freed
            .max((uvm.meter().get(Counter::Pdfreed) - freed) as usize);
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
            if uvm.swap().call_off() || uvm.kill_somebody().await {
                continue;
            }
            uvm.upper.hope.lose();
        }
        if !uvm.torture_evict() {
            uvm.executor().sleep(PAUSE).await;
        }
    }
}

impl Uvm {
    async fn page_daemon_pass(&self, cluster: &mut Cluster) -> Pass {
        self.count(Counter::Pdrevs);
        let mut pass = Pass::default();
        self.put_out_lwps();
        self.scan_inactive(cluster, &mut pass, self.eviction_weights())
            .await;
        self.refill_inactive().await;
        if pass.freed == 0 && self.should_scan() {
            // The queues of who should give were empty or in use: now they may hold something, and all give.
            self.scan_inactive(cluster, &mut pass, [1; Sort::ALL.len()])
                .await;
        }
        pass.freed += self.reclaim_pools();
        if self.torture_evict() || self.memory_is_short() || self.has_unmet_demand() {
            pass.freed += self.collect_tables().await;
            self.uarea_drain(0).await;
        }
        if pass.freed == 0
            && self.has_unmet_demand()
            && self.meter().gauge(Gauge::Paging) == 0
            && self.put_out_any_lwp().await
        {
            pass.later += 1;
        }
        self.wake_free_waiters();
        self.end_turns();
        self.admit_again();
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
                executor::yield_now().await;
            }
        }
        freed
    }

    /// Whether more should be freed.
    fn should_scan(&self) -> bool {
        self.torture_evict()
            || !self.memory_is_ample()
            || self.has_unmet_demand()
            || self.has_turn_waiters()
    }

    /// Looks at each inactive page at most once, the sorts of memory by turns in proportion to `weights`.
    async fn scan_inactive(
        &self,
        cluster: &mut Cluster,
        pass: &mut Pass,
        weights: [u64; Sort::ALL.len()],
    ) {
        let mut left = self.queue_counts_by_sort().map(|queues| queues.inactive);
        let mut turns = Turns::default();
        while self.should_scan() {
            let Some(sort) = turns.next(weights, left) else {
                break;
            };
            let mut batch = ArrayVec::<Frame, BATCH>::new();
            // No more than can leave together: whatever is not looked at would have to be put back.
            self.take_oldest(Queue::Inactive, sort, cluster.room(), &mut batch);
            let left = &mut left[sort as usize];
            *left = if batch.is_empty() {
                0
            } else {
                left.saturating_sub(self.evict_some(sort, &batch, cluster, pass))
            };
            if cluster.is_full() {
                self.hand_over(cluster).await;
            }
            executor::yield_now().await;
        }
        self.hand_over(cluster).await;
    }

    /// Moves the oldest active pages that could be evicted to the inactive queues, up to the target of each sort.
    async fn refill_inactive(&self) {
        self.set_inactive_target();
        let freetarg = self.meter().gauge(Gauge::Freetarg);
        for sort in Sort::ALL {
            let queues = || self.queue_counts_by_sort()[sort as usize];
            let mut left = queues().active;
            let target = self
                .inactive_part(queues().total() as u64)
                .max(freetarg + 1);
            while left > 0 && (self.torture_evict() || (queues().inactive as u64) < target) {
                let mut batch = ArrayVec::<Frame, BATCH>::new();
                self.take_oldest(Queue::Active, sort, BATCH, &mut batch);
                if batch.is_empty() {
                    break;
                }
                self.cool_some(&batch);
                left = left.saturating_sub(batch.len());
                executor::yield_now().await;
            }
        }
    }

    /// Whether pages are on their way in or out.
    #[must_use]
    pub fn is_paging(&self) -> bool {
        let under_way = [Gauge::PagingIn, Gauge::Paging, Gauge::SwapWaits];
        let meter = self.meter();
        under_way.iter().any(|&gauge| meter.gauge(gauge) > 0)
    }
}

#[cfg(test)]
mod tests;
