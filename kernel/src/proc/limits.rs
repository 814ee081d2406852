//! Resource limits (`getrlimit`): kept, inherited and reported. UVM, the descriptor table and [`super::cpu_timers`] enforce theirs. The one on
//! processes (`RLIMIT_NPROC`) binds nobody, since everybody is the superuser; signals that wait are bounded by what is told of them. That of the
//! resident set binds nobody either: what is resident is the pagedaemon's to say.

use super::cpu_timers::CpuLimit;
use super::pending;
use super::stack::STACK_SIZE;
use crate::fs::fd::MAX_FILES;
use linux_raw_sys::general as sys;
use uvm::{PAGE_SIZE, Uvm};

/// No limit.
pub const INFINITY: u64 = u64::MAX;

/// A soft and a hard limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What counts.
    pub soft: u64,
    /// How far `soft` may be raised.
    pub hard: u64,
}

impl Limit {
    const NONE: Limit = Limit {
        soft: INFINITY,
        hard: INFINITY,
    };
}

/// Number of kinds of limit.
pub const KINDS: usize = sys::RLIM_NLIMITS as usize;

/// All limits of a process, by Linux's numbers (`RLIMIT_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits([Limit; KINDS]);

impl Default for Limits {
    fn default() -> Limits {
        let mut limits = Limits([Limit::NONE; KINDS]);
        limits.0[sys::RLIMIT_STACK as usize].soft = STACK_SIZE;
        limits.0[sys::RLIMIT_CORE as usize].soft = 0;
        limits.0[sys::RLIMIT_NOFILE as usize] = Limit {
            soft: u64::from(MAX_FILES),
            hard: u64::from(MAX_FILES),
        };
        limits.0[sys::RLIMIT_SIGPENDING as usize] = Limit {
            soft: pending::MOST as u64,
            hard: pending::MOST as u64,
        };
        limits
    }
}

impl Limits {
    /// What programs start with on this machine as it is now, at boot: after `uvm_init_limits`.
    #[must_use]
    pub fn of_machine(uvm: &Uvm) -> Limits {
        let pages = |pages: usize| (pages * PAGE_SIZE) as u64;
        Limits::of_memory(
            pages(uvm.pages().managed()),
            pages(uvm.free_counts().total()),
        )
    }

    /// For so many bytes of memory in all and free ones. Soft limits alone: who needs more may have it. The stack may fill a quarter of
    /// memory, and no more than [`STACK_SIZE`]; what `brk` gives, all of it; what is free may be resident.
    fn of_memory(memory: u64, free: u64) -> Limits {
        let mut limits = Limits::default();
        let quarter = (memory / 4) & !(PAGE_SIZE as u64 - 1);
        limits.0[sys::RLIMIT_STACK as usize].soft = STACK_SIZE.min(quarter);
        limits.0[sys::RLIMIT_DATA as usize].soft = memory;
        limits.0[sys::RLIMIT_RSS as usize].soft = free;
        limits
    }

    /// The limit of one kind; `None` if there is no such kind.
    #[must_use]
    pub fn get(&self, kind: u64) -> Option<Limit> {
        self.0.get(usize::try_from(kind).ok()?).copied()
    }

    /// What of it binds an address space.
    #[must_use]
    pub fn of_space(&self) -> uvm::map::Limits {
        let soft = |kind: u32| self.0[kind as usize].soft;
        uvm::map::Limits {
            address_space: soft(sys::RLIMIT_AS),
            data: soft(sys::RLIMIT_DATA),
            stack: soft(sys::RLIMIT_STACK),
            locked: soft(sys::RLIMIT_MEMLOCK),
        }
    }

    /// What of it binds the time used.
    #[must_use]
    pub fn of_cpu(&self) -> CpuLimit {
        let Limit { soft, hard } = self.0[sys::RLIMIT_CPU as usize];
        CpuLimit::of_seconds(soft, hard)
    }

    /// Puts the soft limit on processor time a second higher, as Linux does with each warning.
    pub fn extend_cpu(&mut self) {
        let soft = &mut self.0[sys::RLIMIT_CPU as usize].soft;
        *soft = soft.saturating_add(1);
    }

    /// Sets the limit of one kind. Returns whether there is such a kind and `soft` is not above `hard`.
    #[must_use]
    pub fn set(&mut self, kind: u64, limit: Limit) -> bool {
        let slot = usize::try_from(kind)
            .ok()
            .and_then(|kind| self.0.get_mut(kind));
        match slot {
            Some(slot) if limit.soft <= limit.hard => {
                *slot = limit;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// UVM.md, row 26.
    #[test]
    fn row_26_stack_data_and_resident_set_follow_memory() {
        let soft = |memory, free| {
            let limits = Limits::of_memory(memory, free);
            [sys::RLIMIT_STACK, sys::RLIMIT_DATA, sys::RLIMIT_RSS]
                .map(|kind| limits.get(kind.into()).unwrap().soft)
        };
        const MIB: u64 = 1 << 20;
        assert_eq!(soft(64 * MIB, 60 * MIB), [8 * MIB, 64 * MIB, 60 * MIB]);
        let small = 16 * MIB - 4096;
        assert_eq!(soft(small, MIB), [4 * MIB - 4096, small, MIB]);
        let host = uvm::testing::Host::new(1024);
        let limits = Limits::of_machine(&host.uvm);
        let data = limits.get(sys::RLIMIT_DATA.into()).unwrap();
        assert_eq!(data.soft, (host.uvm.pages().managed() * PAGE_SIZE) as u64);
        assert_eq!(data.hard, INFINITY);
        let resident = limits.get(sys::RLIMIT_RSS.into()).unwrap().soft;
        assert!((1..=data.soft).contains(&resident), "{resident}");
    }

    #[test]
    fn bounds() {
        let mut l = Limits::default();
        assert_eq!(l.get(sys::RLIMIT_STACK.into()).unwrap().soft, STACK_SIZE);
        assert_eq!(l.get(16), None);
        assert_eq!(l.get(u64::MAX), None);
        assert!(!l.set(0, Limit { soft: 2, hard: 1 }));
        assert!(!l.set(99, Limit { soft: 1, hard: 1 }));
        assert!(l.set(0, Limit { soft: 1, hard: 1 }));
        assert_eq!(l.get(0), Some(Limit { soft: 1, hard: 1 }));
    }
}
