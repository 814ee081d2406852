//! How much memory should be free, and which pages should go first: the numbers behind the pagedaemon.
//!
//! Owns the [settings](Setting); targets live in the gauges. Constants are UVM's.

pub(crate) mod balance;
pub(crate) mod nonresident;
mod settings;

pub(crate) use settings::Settings;
pub use settings::{Setting, SettingError};

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use self::balance::{Costs, Rails};
use self::nonresident::Nonresident;
use crate::Uvm;
use crate::addr::{Frame, PAGE_SIZE};
use crate::meter::{Counter, Gauge};
use crate::page::PageAttrs;
use crate::page::queues::Sort;

/// Least and most of the target minimum, in bytes for each CPU.
const FREEMIN_LEAST: usize = 128 << 10;
const FREEMIN_MOST: usize = 1 << 20;

/// What the policy remembers.
pub(crate) struct Memory {
    pub(crate) gone: Nonresident,
    costs: Costs,
    /// Pages on all active queues, and on all queues, as of the last look: how far back a page that returns may have gone.
    active: AtomicU64,
    pageable: AtomicU64,
}

impl Memory {
    pub(crate) fn new(managed: usize) -> Self {
        Self {
            gone: Nonresident::new(managed),
            costs: Costs::new(),
            active: AtomicU64::new(managed as u64),
            pageable: AtomicU64::new(managed as u64),
        }
    }
}

impl Uvm {
    /// Sets the pagedaemon's targets from the size of memory. Called at boot.
    pub(crate) fn set_targets(&self) {
        let managed = self.pages().managed();
        let least = FREEMIN_LEAST * self.cpus() / PAGE_SIZE;
        let most = FREEMIN_MOST * self.cpus() / PAGE_SIZE;
        // Machines of a few hundred frames, in tests, must not spend most of them on being free.
        let freemin = (managed / 200).clamp(least, most).min(managed / 16).max(2) as u64;
        self.meter().set(Gauge::Freemin, freemin);
        self.meter()
            .set(Gauge::Freetarg, freemin + freemin.div_ceil(3));
        self.meter().set(Gauge::Wiredmax, managed as u64 / 3);
        self.set_inactive_target();
    }

    /// Follows the queues' lengths with the number of inactive pages aimed at.
    pub(crate) fn set_inactive_target(&self) {
        let queues = self.queue_counts();
        let memory = &self.upper.memory;
        memory.active.store(queues.active as u64, Relaxed);
        memory.pageable.store(queues.total() as u64, Relaxed);
        let target = self.inactive_part(queues.total() as u64);
        let target = target.max(self.meter().gauge(Gauge::Freetarg) + 1);
        self.meter().set(Gauge::Inactarg, target);
    }

    /// How many of so many pages on queues should be inactive.
    pub(crate) fn inactive_part(&self, pages: u64) -> u64 {
        pages * self.setting(Setting::Inactivepct) / 100
    }

    /// In which proportions the sorts of memory should give pages now.
    pub(crate) fn eviction_weights(&self) -> [u64; Sort::ALL.len()] {
        let sizes = self
            .queue_counts_by_sort()
            .map(|queues| queues.total() as u64);
        let rails = Sort::ALL.map(|sort| {
            let (min, max) = sort.rails();
            Rails {
                min: self.setting(min),
                max: self.setting(max),
            }
        });
        balance::weights(sizes, self.upper.memory.costs.get(), rails)
    }

    /// Decides where a page that has been read begins, by how long it was away: with those that are in use if it went so lately that
    /// fewer active pages would have kept it, else with the candidates, where that it was used once counts for nothing: what is read once
    /// pushes nothing out ([`PageAttrs::ONCE`]). `away`: for how many evictions, if that is known. Returns whether it was evicted lately at all.
    /// Caller holds the owner's lock.
    pub(crate) fn page_returns(&self, frame: Frame, away: Option<u64>) -> bool {
        let memory = &self.upper.memory;
        // As far back as is remembered of all.
        let away = away.filter(|&away| away <= self.pages().managed() as u64);
        if away.is_some() {
            self.count(Counter::Refaults);
        }
        if away.is_some_and(|away| away <= memory.active.load(Relaxed)) {
            self.count(Counter::Refkept);
            self.activate(frame);
        } else {
            self.page(frame).note_attrs(PageAttrs::ONCE);
            self.deactivate(frame);
        }
        away.is_some_and(|away| away <= memory.pageable.load(Relaxed))
    }

    /// A read that would not have been, had pages of `sort` stayed a little longer.
    pub(crate) fn note_refault_cost(&self, sort: Sort) {
        let memory = &self.upper.memory;
        memory.costs.note(sort, memory.pageable.load(Relaxed));
    }

    /// Free pages and pages that will be free when their page-out ends.
    fn free_soon(&self) -> u64 {
        self.free_frames() as u64 + self.meter().gauge(Gauge::Paging)
    }

    /// Whether the pagedaemon has something to do: also if nothing but pages on their way out is to be free soon, as long as more can
    /// be sent off. Else the device would be idle before the next are.
    pub(crate) fn memory_runs_low(&self) -> bool {
        self.memory_is_short()
            || ((self.free_frames() as u64) < self.meter().gauge(Gauge::Freetarg)
                && self.free_soon() < 3 * self.meter().gauge(Gauge::Freetarg))
    }

    /// Whether too little is free, and will be.
    pub(crate) fn memory_is_short(&self) -> bool {
        let free = self.free_soon();
        free < self.meter().gauge(Gauge::Freemin)
            || (free < self.meter().gauge(Gauge::Freetarg)
                && (self.queue_counts().inactive as u64) < self.meter().gauge(Gauge::Inactarg))
    }

    /// Whether a scan has freed enough.
    pub(crate) fn memory_is_ample(&self) -> bool {
        self.free_soon() >= 4 * self.meter().gauge(Gauge::Freetarg)
    }

    /// Whether guesses, such as read-ahead, may take frames.
    #[must_use]
    pub fn memory_is_plenty(&self) -> bool {
        self.free_soon() > self.meter().gauge(Gauge::Freetarg)
    }
}

#[cfg(test)]
mod tests;
