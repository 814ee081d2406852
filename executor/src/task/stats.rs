//! What is counted per task, and the label of what it awaits.
//!
//! Only the CPU that polls a task writes here; anyone reads at any time. The counters need no more
//! than relaxed loads and stores, so they are `core`'s atomics even under loom.

use core::sync::atomic::AtomicU64;

use crate::shim::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::shim::atomic::{AtomicPtr, AtomicUsize, fence};

/// Times are nanoseconds.
#[derive(Default)]
pub(crate) struct Stats {
    pub(crate) polls: AtomicU64,
    pub(crate) total: AtomicU64,
    pub(crate) user: AtomicU64,
    pub(crate) longest: AtomicU64,
    pub(crate) awaiting: Awaiting,
}

impl Stats {
    /// Accounts for a poll that took `total` ns, `user` of them in ring 3.
    #[inline]
    pub(crate) fn record(&self, total: u64, user: u64) {
        add(&self.polls, 1);
        add(&self.total, total);
        let mut kernel = total;
        if user != 0 {
            add(&self.user, user);
            kernel = total.saturating_sub(user);
        }
        if kernel > self.longest.load(Relaxed) {
            self.longest.store(kernel, Relaxed);
        }
    }
}

/// Adds without a locked instruction: there is one writer.
#[inline]
pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(amount), Relaxed);
}

/// A `&'static str` that one CPU writes while others read: a sequence lock around its two words.
#[derive(Default)]
pub(crate) struct Awaiting {
    sequence: AtomicUsize,
    text: AtomicPtr<u8>,
    len: AtomicUsize,
}

impl Awaiting {
    /// Says what the task awaits. Only from inside its poll.
    #[inline]
    pub(crate) fn set(&self, label: &'static str) {
        let sequence = self.sequence.load(Relaxed);
        self.sequence.store(sequence.wrapping_add(1), Relaxed);
        fence(Release);
        self.text.store(label.as_ptr().cast_mut(), Relaxed);
        self.len.store(label.len(), Relaxed);
        self.sequence.store(sequence.wrapping_add(2), Release);
    }

    /// Forgets it: a poll begins. A reader sees either no label or one that was whole.
    #[inline]
    pub(crate) fn clear(&self) {
        self.text.store(core::ptr::null_mut(), Relaxed);
    }

    /// What the task awaits, if it said so; `None` also while it is just changing its mind.
    pub(crate) fn get(&self) -> Option<&'static str> {
        let before = self.sequence.load(Acquire);
        let text = self.text.load(Relaxed);
        let len = self.len.load(Relaxed);
        fence(Acquire);
        if !before.is_multiple_of(2) || self.sequence.load(Relaxed) != before || text.is_null() {
            return None;
        }
        // SAFETY: the sequence did not move, so pointer and length were stored by one `set` (a `clear`
        // in between stores null, which was excluded), which took them from a `&'static str`.
        Some(unsafe { core::str::from_utf8_unchecked(core::slice::from_raw_parts(text, len)) })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn ring_3_does_not_count_as_a_long_poll() {
        let stats = Stats::default();
        stats.record(1_000, 900);
        stats.record(300, 0);
        stats.record(50, 0);
        assert_eq!(stats.polls.load(Relaxed), 3);
        assert_eq!(stats.total.load(Relaxed), 1_350);
        assert_eq!(stats.user.load(Relaxed), 900);
        assert_eq!(stats.longest.load(Relaxed), 300);
    }

    #[test]
    fn a_label_is_whole_or_absent() {
        let awaiting = Awaiting::default();
        assert_eq!(awaiting.get(), None);
        awaiting.set("busy page");
        assert_eq!(awaiting.get(), Some("busy page"));
        awaiting.clear();
        assert_eq!(awaiting.get(), None);
        awaiting.set("");
        assert_eq!(awaiting.get(), Some(""));
    }

    #[test]
    fn readers_never_see_half_a_label() {
        let awaiting = Awaiting::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    awaiting.set("a");
                    awaiting.clear();
                    awaiting.set("a long one");
                }
            });
            for _ in 0..20_000 {
                assert!(matches!(awaiting.get(), None | Some("a" | "a long one")));
            }
        });
    }
}
