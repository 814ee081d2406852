//! Countdowns of used time: `ITIMER_VIRTUAL`, `ITIMER_PROF` and the limit on processor time.
//!
//! Nothing runs for them: they are looked at where time is charged, at the end of each poll of a thread, and only while one is armed. A
//! poll in ring 3 lasts a slice at most ([`executor::SLICE`]), so that is how exact they are.
//!
//! One short lock, and one load for who has none armed.

use super::countdown::{Countdown, Setting};
use super::process::Process;
use super::signal::{SigInfo, SigSet, Signal};
use super::usage::Times;
use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use executor::sync::SpinLock;
use uvm::km::HeapRoom;

/// A second in nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// Which countdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuClock {
    /// Time in ring 3.
    User,
    /// That, and time in the kernel.
    All,
}

impl CpuClock {
    fn read(self, times: Times) -> u64 {
        match self {
            CpuClock::User => times.user,
            CpuClock::All => times.all(),
        }
    }
}

/// Most processor time, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuLimit {
    /// From here on, a SIGXCPU every second.
    pub soft: u64,
    /// Here, a SIGKILL.
    pub hard: u64,
}

impl CpuLimit {
    const NONE: CpuLimit = CpuLimit {
        soft: u64::MAX,
        hard: u64::MAX,
    };

    /// From limits in seconds.
    #[must_use]
    pub fn of_seconds(soft: u64, hard: u64) -> CpuLimit {
        let ns = |seconds: u64| seconds.saturating_mul(SECOND);
        CpuLimit {
            soft: ns(soft),
            hard: ns(hard),
        }
    }

    fn binds(&self) -> bool {
        self.soft.min(self.hard) != u64::MAX
    }
}

struct Inner {
    user: Countdown,
    all: Countdown,
    limit: CpuLimit,
}

impl Inner {
    /// None armed but the limit.
    fn new(limit: CpuLimit) -> Inner {
        Inner {
            user: Countdown::OFF,
            all: Countdown::OFF,
            limit,
        }
    }

    fn of(&mut self, clock: CpuClock) -> &mut Countdown {
        match clock {
            CpuClock::User => &mut self.user,
            CpuClock::All => &mut self.all,
        }
    }

    /// What is due when so much has been used.
    fn due(&mut self, times: Times) -> SigSet {
        let mut due = SigSet::EMPTY;
        let clocks = [
            (CpuClock::User, Signal::VTALRM),
            (CpuClock::All, Signal::PROF),
        ];
        for (clock, signal) in clocks {
            let now = clock.read(times);
            if self.of(clock).tell(now) {
                self.of(clock).heard(now);
                due = due.union(SigSet::only(signal));
            }
        }
        if times.all() >= self.limit.hard {
            due = due.union(SigSet::only(Signal::KILL));
        } else if times.all() >= self.limit.soft {
            self.limit.soft = self.limit.soft.saturating_add(SECOND);
            due = due.union(SigSet::only(Signal::XCPU));
        }
        due
    }

    fn are_armed(&self) -> bool {
        !self.user.is_off() || !self.all.is_off() || self.limit.binds()
    }
}

/// See the module.
pub struct CpuTimers {
    armed: AtomicBool,
    /// None before the first is armed.
    inner: SpinLock<Option<Box<Inner>>>,
}

impl CpuTimers {
    /// None armed but the limit.
    pub(super) fn new(limit: CpuLimit, _room: &HeapRoom<'_>) -> CpuTimers {
        let binds = limit.binds();
        CpuTimers {
            armed: AtomicBool::new(binds),
            inner: SpinLock::new(binds.then(|| Box::new(Inner::new(limit)))),
        }
    }

    /// How a countdown stands when so much has been used.
    #[must_use]
    pub fn get(&self, clock: CpuClock, times: Times) -> Setting {
        let mut inner = self.inner.lock();
        inner.as_mut().map_or(Setting::default(), |inner| {
            inner.of(clock).left(clock.read(times))
        })
    }

    /// Sets a countdown when so much has been used. Gives how it stood.
    pub fn set(
        &self,
        clock: CpuClock,
        times: Times,
        setting: Setting,
        _room: &HeapRoom<'_>,
    ) -> Setting {
        let now = clock.read(times);
        let mut inner = self.inner.lock();
        let inner = inner.get_or_insert_with(|| Box::new(Inner::new(CpuLimit::NONE)));
        let new = Countdown::from(now, setting);
        let old = core::mem::replace(inner.of(clock), new);
        self.armed.store(inner.are_armed(), Relaxed);
        old.left(now)
    }

    /// Changes the limit.
    pub(super) fn set_limit(&self, limit: CpuLimit, _room: &HeapRoom<'_>) {
        let mut inner = self.inner.lock();
        if inner.is_none() && !limit.binds() {
            return;
        }
        let inner = inner.get_or_insert_with(|| Box::new(Inner::new(limit)));
        inner.limit = limit;
        self.armed.store(inner.are_armed(), Relaxed);
    }

    /// Looks whether something is due, and sends it. For who has just charged time.
    #[inline]
    pub(super) fn look(&self, process: &Process) {
        if self.armed.load(Relaxed) {
            self.look_closely(process);
        }
    }

    #[cold]
    fn look_closely(&self, process: &Process) {
        let due = {
            let mut inner = self.inner.lock();
            let Some(inner) = inner.as_mut() else {
                return;
            };
            let due = inner.due(process.usage().times());
            self.armed.store(inner.are_armed(), Relaxed);
            due
        };
        for signal in [Signal::KILL, Signal::XCPU, Signal::PROF, Signal::VTALRM] {
            if due.contains(signal) {
                if signal == Signal::XCPU {
                    process.extend_cpu_limit();
                }
                process.post(SigInfo::from_kernel(signal));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(user: u64, system: u64) -> Times {
        Times { user, system }
    }

    #[test]
    fn each_clock_has_its_signal() {
        let mut i = Inner::new(CpuLimit::of_seconds(u64::MAX, u64::MAX));
        assert!(!i.are_armed());
        i.user = Countdown::until(10, 0);
        i.all = Countdown::until(10, 5);
        assert_eq!(i.due(times(5, 4)), SigSet::EMPTY);
        assert_eq!(i.due(times(5, 5)), SigSet::only(Signal::PROF));
        assert_eq!(i.due(times(9, 5)), SigSet::EMPTY, "next at 15");
        let both = SigSet::only(Signal::PROF).union(SigSet::only(Signal::VTALRM));
        assert_eq!(i.due(times(20, 20)), both);
        assert_eq!(
            i.all.deadline(),
            Some(45),
            "what was missed is not made up for"
        );
        assert!(i.user.is_off() && i.are_armed());
    }

    #[test]
    fn the_limit_warns_every_second_and_then_kills() {
        let mut i = Inner::new(CpuLimit::of_seconds(1, 3));
        assert!(i.are_armed());
        assert_eq!(i.due(times(SECOND - 1, 0)), SigSet::EMPTY);
        assert_eq!(i.due(times(SECOND, 0)), SigSet::only(Signal::XCPU));
        assert_eq!(i.due(times(SECOND, 5)), SigSet::EMPTY);
        assert_eq!(i.due(times(SECOND, SECOND)), SigSet::only(Signal::XCPU));
        assert_eq!(i.due(times(SECOND, 2 * SECOND)), SigSet::only(Signal::KILL));
    }
}
