//! Which LWPs go out of memory when it is short, and which comes in first: the rule, without the LWPs.
//!
//! Owns nothing but what one look through all LWPs has found ([`Choice`]). Whoever knows LWPs calls it, under whatever lock keeps their states still; it allocates
//! nothing. After `uvm_swapout_threads` and `uvm_scheduler`: who has slept for `vm.maxslp` seconds goes. If there is no such LWP, and only when free memory is below
//! the worth of one u-area, since little is gained, one other goes: who has slept longest, else who has been in memory longest of those that could run.

use core::time::Duration;

use bitflags::bitflags;

use crate::Uvm;
use crate::pdaemon::lwps::Need;
use crate::policy::Setting;

/// What an LWP that is in memory does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It sleeps, or is stopped, at a swappable wait, for so long.
    Sleeps(Duration),
    /// It could run, and has been in memory for so long.
    Runnable(Duration),
}

bitflags! {
    /// Why an LWP is not put out, whatever it does.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Keeps: u8 {
        /// It is out already, or on its way.
        const OUT = 1;
        /// It belongs to the kernel.
        const SYSTEM = 2;
        /// It is about to end.
        const EXITING = 4;
        /// Somebody has asked that it stay, or it holds what must: it waits elsewhere than at a swappable wait.
        const HELD = 8;
    }
}

/// What is known of an LWP at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What it does.
    pub doing: Doing,
    /// Why it must stay.
    pub keeps: Keeps,
    /// The CPU that it is on, if it is on one.
    pub cpu: Option<usize>,
}

/// One look through all LWPs, of which `T` tells who one is.
#[derive(Debug)]
pub struct Choice<T> {
    need: Need,
    maxslp: Duration,
    /// The CPU that looks.
    here: usize,
    out: usize,
    sleeper: Option<(Duration, T)>,
    runner: Option<(Duration, T)>,
}

impl Uvm {
    /// Begins a look for LWPs to put out.
    #[must_use]
    pub fn choose_lwps<T>(&self, need: Need) -> Choice<T> {
        Choice {
            need,
            maxslp: Duration::from_secs(self.setting(Setting::Maxslp)),
            here: self.cpu(),
            out: 0,
            sleeper: None,
            runner: None,
        }
    }
}

impl<T> Choice<T> {
    /// Looks at one more: whether it goes out now. The caller tells by [`Self::went`] if it really did.
    ///
    /// # Panics
    /// If it is on the CPU that looks (row 9): who looks is not an LWP, and a CPU runs one task at a time.
    pub fn consider(&mut self, candidate: &Candidate, who: T) -> Option<T> {
        assert_ne!(
            candidate.cpu,
            Some(self.here),
            "an LWP runs on the CPU of who puts it out"
        );
        if !candidate.keeps.is_empty() || candidate.cpu.is_some() {
            return None;
        }
        match candidate.doing {
            Doing::Sleeps(long) if long >= self.maxslp => return Some(who),
            Doing::Sleeps(long) => remember(&mut self.sleeper, long, who),
            Doing::Runnable(long) => remember(&mut self.runner, long, who),
        }
        None
    }

    /// One that [`Self::consider`] has named is on its way out.
    pub fn went(&mut self) {
        self.out += 1;
    }

    /// After all of them: who goes out although it has not slept for long, if anybody.
    #[must_use]
    pub fn last_resort(self) -> Option<T> {
        if self.out > 0 || self.need != Need::Anybody {
            return None;
        }
        let best = self.sleeper.or(self.runner);
        best.map(|(_, who)| who)
    }
}

/// Keeps who has done it longest, the first of those who are equal.
fn remember<T>(best: &mut Option<(Duration, T)>, long: Duration, who: T) {
    if best.as_ref().is_none_or(|&(most, _)| long > most) {
        *best = Some((long, who));
    }
}

/// An LWP that is out and could run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// For how long it has been out.
    pub out: Duration,
    /// For how long it slept before it could run.
    pub slept: Duration,
    /// How nice it is: -20 to 19.
    pub nice: i8,
}

impl Waiting {
    /// The one of the highest comes in first. In nanoseconds, more or less; all priorities grow alike with time, so that who is before another stays so.
    #[must_use]
    pub fn priority(&self) -> i64 {
        let ns = |long: Duration| i64::try_from(long.as_nanos()).unwrap_or(i64::MAX / 4);
        let nice = 8 * ns(Duration::from_secs(1)) * i64::from(self.nice);
        ns(self.out)
            .saturating_add(ns(self.slept))
            .saturating_sub(nice)
    }
}

#[cfg(test)]
mod tests;
