//! What processes and threads have used: time, faults, switches, memory.
//!
//! A thread counts for itself alone, by plain loads and stores (`Account`), and adds to its process's [`Usage`] at the end of
//! each poll, so at the latest once a slice, and whenever it asks what was used.

use super::machine;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Time used, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// In ring 3.
    pub user: u64,
    /// In the kernel.
    pub system: u64,
}

impl Times {
    /// Both together.
    #[must_use]
    pub fn all(self) -> u64 {
        self.user + self.system
    }
}

/// Page faults of ring 3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Served at once.
    pub minor: u64,
    /// That waited, for a disk or for memory.
    pub major: u64,
}

/// Everything that is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Time.
    pub times: Times,
    /// Faults.
    pub faults: Faults,
    /// How often it waited for something.
    pub waits: u64,
    /// How often it gave way to others though it could have gone on.
    pub given_way: u64,
    /// Most pages that were in memory, as seen at the end of polls with faults.
    pub most_resident: u64,
}

impl Used {
    /// Both together; of memory, the more.
    #[must_use]
    pub fn plus(self, other: Used) -> Used {
        Used {
            times: Times {
                user: self.times.user + other.times.user,
                system: self.times.system + other.times.system,
            },
            faults: Faults {
                minor: self.faults.minor + other.faults.minor,
                major: self.faults.major + other.faults.major,
            },
            waits: self.waits + other.waits,
            given_way: self.given_way + other.given_way,
            most_resident: self.most_resident.max(other.most_resident),
        }
    }
}

/// Counters that anybody adds to and reads.
#[derive(Debug, Default)]
pub struct Usage {
    user: AtomicU64,
    system: AtomicU64,
    minor: AtomicU64,
    major: AtomicU64,
    waits: AtomicU64,
    given_way: AtomicU64,
    most_resident: AtomicU64,
}

impl Usage {
    /// Adds what was used.
    pub fn add(&self, used: Used) {
        // Most of it is 0 most of the time.
        let add = |to: &AtomicU64, n| {
            if n != 0 {
                to.fetch_add(n, Relaxed);
            }
        };
        add(&self.user, used.times.user);
        add(&self.system, used.times.system);
        add(&self.minor, used.faults.minor);
        add(&self.major, used.faults.major);
        add(&self.waits, used.waits);
        add(&self.given_way, used.given_way);
        if used.most_resident != 0 {
            self.most_resident.fetch_max(used.most_resident, Relaxed);
        }
    }

    /// The time used so far.
    #[must_use]
    pub fn times(&self) -> Times {
        Times {
            user: self.user.load(Relaxed),
            system: self.system.load(Relaxed),
        }
    }

    /// All that was used so far.
    #[must_use]
    pub fn used(&self) -> Used {
        Used {
            times: self.times(),
            faults: Faults {
                minor: self.minor.load(Relaxed),
                major: self.major.load(Relaxed),
            },
            waits: self.waits.load(Relaxed),
            given_way: self.given_way.load(Relaxed),
            most_resident: self.most_resident.load(Relaxed),
        }
    }
}

/// What one thread counts for itself. Its methods are for that thread alone, but for [`Account::own`].
#[derive(Debug, Default)]
pub(super) struct Account {
    /// When the poll under way began.
    began: AtomicU64,
    /// Time in ring 3 in this poll, in ticks of the machine's counter.
    ring3: AtomicU64,
    minor: AtomicU64,
    major: AtomicU64,
    /// Polls that have ended.
    polls: AtomicU64,
    /// It gives way in this poll: 0 or 1.
    gives_way: AtomicU64,
    own: Usage,
}

/// One writer: a load and a store do, and no locked instruction is on the hot path.
#[inline]
fn bump(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Relaxed) + n, Relaxed);
}

impl Account {
    /// Adds time spent in ring 3, in ticks of the machine's counter: they become nanoseconds once for each poll.
    #[inline]
    pub(super) fn in_ring3(&self, ticks: u64) {
        bump(&self.ring3, ticks);
    }

    /// Counts a fault that was resolved at once.
    #[inline]
    pub(super) fn minor_fault(&self) {
        bump(&self.minor, 1);
    }

    /// Counts a fault that was begun after `polls` polls.
    pub(super) fn fault_since(&self, polls: u64) {
        let waited = polls != self.polls();
        bump(if waited { &self.major } else { &self.minor }, 1);
    }

    /// How many polls have ended: where this has changed, it has waited.
    pub(super) fn polls(&self) -> u64 {
        self.polls.load(Relaxed)
    }

    /// Says that this poll ends because others have their turn.
    pub(super) fn gives_way(&self) {
        self.gives_way.store(1, Relaxed);
    }

    /// What it has used in all the polls before this one.
    pub(super) fn own(&self) -> &Usage {
        &self.own
    }

    /// Begins a poll.
    #[inline]
    pub(super) fn begin(&self, now: u64) {
        self.began.store(now, Relaxed);
    }

    /// Time used in the poll under way.
    pub(super) fn under_way(&self, now: u64) -> Times {
        let user = machine::ticks_to_ns(self.ring3.load(Relaxed));
        let all = now.saturating_sub(self.began.load(Relaxed));
        Times {
            user,
            system: all.saturating_sub(user),
        }
    }

    /// Takes the faults that have not been charged yet.
    pub(super) fn take_faults(&self) -> Faults {
        let take = |counter: &AtomicU64| {
            let n = counter.load(Relaxed);
            if n != 0 {
                counter.store(0, Relaxed);
            }
            n
        };
        Faults {
            minor: take(&self.minor),
            major: take(&self.major),
        }
    }

    /// Ends a poll: gives what it comes to.
    pub(super) fn end(&self, now: u64) -> Used {
        let times = self.under_way(now);
        self.ring3.store(0, Relaxed);
        bump(&self.polls, 1);
        let given_way = self.gives_way.swap(0, Relaxed);
        Used {
            times,
            faults: self.take_faults(),
            waits: 1 - given_way,
            given_way,
            most_resident: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_is_charged_once() {
        let account = Account::default();
        account.begin(100);
        account.in_ring3(30);
        account.minor_fault();
        account.fault_since(account.polls());
        assert_eq!(
            account.under_way(150),
            Times {
                user: 30,
                system: 20
            }
        );
        let polls = account.polls();
        let first = account.end(160);
        assert_eq!(
            first.times,
            Times {
                user: 30,
                system: 30
            }
        );
        assert_eq!(
            (first.faults.minor, first.waits, first.given_way),
            (2, 1, 0)
        );
        account.begin(200);
        // Begun in the poll before: it has waited.
        account.fault_since(polls);
        account.gives_way();
        let second = account.end(201);
        assert_eq!(second.times.all(), 1);
        assert_eq!((second.faults.minor, second.faults.major), (0, 1));
        assert_eq!((second.waits, second.given_way), (0, 1));
    }

    #[test]
    fn usage_adds_and_keeps_the_most() {
        let usage = Usage::default();
        let one = Used {
            times: Times { user: 1, system: 2 },
            most_resident: 7,
            waits: 3,
            ..Used::default()
        };
        usage.add(one);
        usage.add(Used {
            most_resident: 5,
            ..one
        });
        let used = usage.used();
        assert_eq!(
            (used.times.all(), used.most_resident, used.waits),
            (6, 7, 6)
        );
        assert_eq!(used.plus(one).waits, 9);
        assert_eq!(used.plus(one).most_resident, 7);
    }
}
