//! How much memory should be free, and which pages should go first: the numbers behind the pagedaemon.
//!
//! Owns the [settings](Setting); targets live in the gauges. Constants are UVM's.

mod settings;

pub(crate) use settings::Settings;
pub use settings::{Setting, SettingError};

use crate::Uvm;
use crate::addr::PAGE_SIZE;
use crate::meter::Gauge;

/// Least and most of the target minimum, in bytes for each CPU.
const FREEMIN_LEAST: usize = 128 << 10;
const FREEMIN_MOST: usize = 1 << 20;

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
    pub(crate) fn set_inactive_target(&self) -> u64 {
        let queues = self.queue_counts();
        let target =
            (queues.active + queues.inactive) as u64 * self.setting(Setting::Inactivepct) / 100;
        let target = target.max(self.meter().gauge(Gauge::Freetarg) + 1);
        self.meter().set(Gauge::Inactarg, target);
        target
    }

    /// Free pages and pages that will be free when their page-out ends.
    fn free_soon(&self) -> u64 {
        self.free_frames() as u64 + self.meter().gauge(Gauge::Paging)
    }

    /// Whether the pagedaemon has something to do.
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
