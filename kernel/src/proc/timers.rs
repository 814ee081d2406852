//! A process's timers by the clock: `ITIMER_REAL` and POSIX timers.
//!
//! # What this owns
//! The countdowns, and one task for each process that has ever set one: it sleeps until the first of them is over, sends its
//! signal, and ends with the process. Nothing polls.
//!
//! A POSIX timer has one signal under way at most. Having sent it, it rests until the program has taken the signal, and goes on with its first
//! end after that; those between are its overruns. So the shortest interval costs nothing while the program does not look. `ITIMER_REAL`
//! rests in the same way until SIGALRM is taken. A signal that is ignored is not taken: the timer rests until it is ignored no more
//! ([`Timers::heed`]).
//!
//! A signal under way of a timer that was set anew or deleted meanwhile is stale: it says to which *setting* it belongs, and is dropped when it is
//! taken ([`took`]). Its place in the queue is there from the timer's making on ([`Pending::reserve`]).
//!
//! # How it synchronises
//! One short spin lock, under none but that of the signals. Signals are sent after it is released.

use super::Processes;
use super::countdown::{Countdown, Setting};
use super::lwp::Lwp;
use super::pending::{self, Pending};
use super::process::Process;
use super::signal::{Detail, SigInfo, Signal};
use super::table::Pid;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::pin::pin;
use executor::Class;
use executor::sync::{SpinLock, WaitQueue};
use futures_util::future::select;
use linux_raw_sys::general as sys;
use uvm::OutOfMemory;
use uvm::km::HeapRoom;

/// Most POSIX timers of a process: their signals' places fit the queue.
pub const MOST: usize = pending::MOST_OF_TIMERS;
/// Most overruns that are told (`DELAYTIMER_MAX`).
const MOST_OVERRUNS: u64 = i32::MAX as u64;

/// Why there is no timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimerError {
    /// There is none with this number.
    #[error("no such timer")]
    Unknown,
    /// The process has as many as it may.
    #[error("too many timers")]
    TooMany,
    /// No memory for it.
    #[error("out of memory")]
    OutOfMemory,
}

impl From<OutOfMemory> for TimerError {
    fn from(_: OutOfMemory) -> TimerError {
        TimerError::OutOfMemory
    }
}

/// The clock that a POSIX timer counts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerClock {
    /// Since boot.
    Monotonic,
    /// The time of day.
    Realtime,
}

/// Whom a timer's signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// The process.
    Process,
    /// One LWP of it.
    Lwp(Pid),
}

/// What a POSIX timer does when it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Nothing: it can only be asked.
    None,
    /// It sends a signal.
    Signal {
        /// Which.
        signal: Signal,
        /// `si_value`; the timer's number if there is none.
        value: Option<u64>,
        /// To whom.
        to: Recipient,
    },
}

struct Timer {
    clock: TimerClock,
    notice: Notice,
    countdown: Countdown,
    /// Counts the settings of all timers of the process.
    setting: u32,
    /// Of the last signal taken.
    overruns: u32,
}

impl Timer {
    fn left(&mut self, now: u64) -> Setting {
        if self.notice == Notice::None {
            // Nobody else ever looks whether it is over.
            let _ = self.countdown.tell(now);
        }
        self.countdown.left(now)
    }
}

/// Whether the task is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Watcher {
    None,
    Watches,
    /// The process ends: it may go, and no other comes.
    Dismissed,
}

/// What the task has to wait for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    At(u64),
    Never,
    End,
}

struct Inner {
    real: Countdown,
    /// By their numbers.
    timers: Vec<Option<Timer>>,
    settings: u32,
    watcher: Watcher,
}

impl Inner {
    fn timer(&mut self, id: u32) -> Result<&mut Timer, TimerError> {
        let slot = self.timers.get_mut(id as usize).and_then(Option::as_mut);
        slot.ok_or(TimerError::Unknown)
    }

    fn next_setting(&mut self) -> u32 {
        self.settings = self.settings.wrapping_add(1);
        self.settings
    }

    fn next(&self) -> Next {
        if self.watcher == Watcher::Dismissed {
            return Next::End;
        }
        let posix = self.timers.iter().flatten();
        let ringing = posix.filter(|timer| timer.notice != Notice::None);
        let all = ringing.map(|timer| &timer.countdown).chain([&self.real]);
        match all.filter_map(Countdown::deadline).min() {
            Some(at) => Next::At(at),
            None => Next::Never,
        }
    }

    /// The signal of one timer that is over by `now`, which rests from here on.
    fn ring(&mut self, now: u64) -> Option<(SigInfo, Recipient)> {
        if self.real.tell(now) {
            return Some((SigInfo::from_kernel(Signal::ALRM), Recipient::Process));
        }
        (0..).zip(&mut self.timers).find_map(|(id, slot)| {
            let timer = slot.as_mut()?;
            match timer.notice {
                Notice::Signal { signal, value, to } if timer.countdown.tell(now) => {
                    let detail = Detail::Timer {
                        id,
                        setting: timer.setting,
                        overruns: 0,
                        value: value.unwrap_or(id.into()),
                    };
                    let code = sys::SI_TIMER;
                    let info = SigInfo {
                        signal,
                        code,
                        detail,
                    };
                    Some((info, to))
                }
                _ => None,
            }
        })
    }
}

/// See the module.
pub struct Timers {
    inner: SpinLock<Inner>,
    /// Woken when something is set.
    changed: WaitQueue,
}

impl Timers {
    /// None.
    pub(super) fn new() -> Timers {
        Timers {
            inner: SpinLock::new(Inner {
                real: Countdown::OFF,
                timers: Vec::new(),
                settings: 0,
                watcher: Watcher::None,
            }),
            changed: WaitQueue::new("timers"),
        }
    }

    /// How `ITIMER_REAL` stands.
    #[must_use]
    pub fn real(&self, now: u64) -> Setting {
        self.inner.lock().real.left(now)
    }

    /// How a timer stands.
    ///
    /// # Errors
    /// [`TimerError::Unknown`]
    pub fn get(&self, id: u32, now: u64) -> Result<Setting, TimerError> {
        Ok(self.inner.lock().timer(id)?.left(now))
    }

    /// How often the timer was over between the sending of its last signal and the taking of that.
    ///
    /// # Errors
    /// [`TimerError::Unknown`]
    pub fn overruns(&self, id: u32) -> Result<u32, TimerError> {
        Ok(self.inner.lock().timer(id)?.overruns)
    }

    /// The clock of a timer.
    ///
    /// # Errors
    /// [`TimerError::Unknown`]
    pub fn clock(&self, id: u32) -> Result<TimerClock, TimerError> {
        Ok(self.inner.lock().timer(id)?.clock)
    }

    /// Deletes a timer.
    ///
    /// # Errors
    /// [`TimerError::Unknown`]
    pub fn delete(&self, id: u32) -> Result<(), TimerError> {
        let mut inner = self.inner.lock();
        inner.timer(id)?;
        inner.timers[id as usize] = None;
        Ok(())
    }

    /// Makes a timer that is off, with the lowest free number.
    fn make(&self, clock: TimerClock, notice: Notice) -> Result<u32, TimerError> {
        let mut inner = self.inner.lock();
        let timer = Timer {
            clock,
            notice,
            countdown: Countdown::OFF,
            setting: inner.next_setting(),
            overruns: 0,
        };
        let free = inner.timers.iter().position(Option::is_none);
        let at = match free {
            Some(at) => at,
            None if inner.timers.len() == MOST => return Err(TimerError::TooMany),
            None => {
                let room = inner.timers.try_reserve(1);
                room.map_err(|_| TimerError::OutOfMemory)?;
                inner.timers.push(None);
                inner.timers.len() - 1
            }
        };
        inner.timers[at] = Some(timer);
        Ok(at as u32)
    }

    /// Whether a signal is one of a timer that has been set anew or deleted since.
    pub(super) fn is_stale(&self, info: &SigInfo) -> bool {
        let Detail::Timer { id, setting, .. } = info.detail else {
            return false;
        };
        let mut inner = self.inner.lock();
        let timer = inner.timer(id);
        !timer.is_ok_and(|timer| timer.setting == setting)
    }

    /// A signal has been taken from a queue: its timer goes on. Gives the signal as the program shall see it, or `None` if it is stale.
    pub(super) fn took(&self, info: SigInfo, now: u64) -> Option<SigInfo> {
        match info.detail {
            Detail::Timer {
                id, setting, value, ..
            } => {
                let mut inner = self.inner.lock();
                let timer = inner.timer(id).ok().filter(|t| t.setting == setting)?;
                timer.overruns = timer.countdown.heard(now).min(MOST_OVERRUNS) as u32;
                let detail = Detail::Timer {
                    id,
                    setting,
                    overruns: timer.overruns,
                    value,
                };
                drop(inner);
                self.changed.wake_all();
                Some(SigInfo { detail, ..info })
            }
            _ => {
                if info.signal == Signal::ALRM {
                    self.inner.lock().real.heard(now);
                    self.changed.wake_all();
                }
                Some(info)
            }
        }
    }

    /// A signal is not ignored any more: timers whose signals were lost go on.
    pub fn heed(&self, signal: Signal, now: u64) {
        let mut inner = self.inner.lock();
        if signal == Signal::ALRM {
            inner.real.heard(now);
        }
        for timer in inner.timers.iter_mut().flatten() {
            if matches!(timer.notice, Notice::Signal { signal: own, .. } if own == signal) {
                timer.countdown.heard(now);
            }
        }
        drop(inner);
        self.changed.wake_all();
    }

    /// For a new program: it keeps `ITIMER_REAL` alone.
    pub(super) fn exec(&self) {
        let old = core::mem::take(&mut self.inner.lock().timers);
        drop(old);
    }

    /// For a process that ends: the task goes.
    pub(super) fn end(&self) {
        self.inner.lock().watcher = Watcher::Dismissed;
        self.changed.wake_all();
    }

    /// Makes `change` once the task is there, which then heeds it.
    fn watched<R>(
        &self,
        system: &Arc<Processes>,
        process: &Arc<Process>,
        change: impl FnOnce(&mut Inner) -> Result<R, TimerError>,
    ) -> Result<R, TimerError> {
        let mut inner = self.inner.lock();
        if inner.watcher == Watcher::None {
            let task = watch(system.clone(), process.clone());
            let spawned = system.executor().try_spawn(Class::Daemon, "timers", task);
            // It goes by itself, with the process.
            drop(spawned.map_err(|_| TimerError::OutOfMemory)?);
            inner.watcher = Watcher::Watches;
        }
        let result = change(&mut inner);
        drop(inner);
        self.changed.wake_all();
        result
    }
}

/// Makes a POSIX timer, which is off; gives its number. For a thread of the process.
///
/// # Errors
/// [`TimerError::TooMany`]; [`TimerError::OutOfMemory`]; [`TimerError::Unknown`] if the recipient is no thread of the process.
pub fn make(
    process: &Arc<Process>,
    clock: TimerClock,
    notice: Notice,
    room: &HeapRoom<'_>,
) -> Result<u32, TimerError> {
    let reserve = |pending: &mut Pending| pending.reserve().map_err(|_| TimerError::OutOfMemory);
    match notice {
        Notice::None => {}
        Notice::Signal {
            to: Recipient::Process,
            ..
        } => process.signals().lock().reserve()?,
        Notice::Signal {
            to: Recipient::Lwp(tid),
            ..
        } => {
            let lwp = process.lwp(tid).ok_or(TimerError::Unknown)?;
            reserve(&mut lwp.pending().lock())?;
        }
    }
    process.timers_or_new(room).make(clock, notice)
}

/// Sets a POSIX timer; gives how it stood.
///
/// # Errors
/// [`TimerError::Unknown`]; [`TimerError::OutOfMemory`], and nothing has changed.
pub fn set(
    system: &Arc<Processes>,
    process: &Arc<Process>,
    id: u32,
    new: Countdown,
) -> Result<Setting, TimerError> {
    let now = system.executor().now();
    let timers = process.timers().ok_or(TimerError::Unknown)?;
    timers.watched(system, process, |inner| {
        let setting = inner.next_setting();
        let timer = inner.timer(id)?;
        let old = timer.left(now);
        (timer.countdown, timer.setting, timer.overruns) = (new, setting, 0);
        Ok(old)
    })
}

/// Sets `ITIMER_REAL`; gives how it stood.
///
/// # Errors
/// [`TimerError::OutOfMemory`], and nothing has changed.
pub fn set_real(
    system: &Arc<Processes>,
    process: &Arc<Process>,
    setting: Setting,
    room: &HeapRoom<'_>,
) -> Result<Setting, TimerError> {
    let now = system.executor().now();
    process
        .timers_or_new(room)
        .watched(system, process, |inner| {
            let new = Countdown::from(now, setting);
            Ok(core::mem::replace(&mut inner.real, new).left(now))
        })
}

/// The task: sends the signals of the timers of `process` until that ends.
async fn watch(system: Arc<Processes>, process: Arc<Process>) {
    let Some(timers) = process.timers() else {
        return;
    };
    let executor = system.executor();
    loop {
        let next = timers.inner.lock().next();
        let changed = timers
            .changed
            .wait_until(|| (timers.inner.lock().next() != next).then_some(()));
        match next {
            Next::End => return,
            Next::Never => changed.await,
            Next::At(at) => {
                select(pin!(changed), pin!(executor.sleep_until(at))).await;
                ring(&process, timers, executor.now());
            }
        }
    }
}

/// Sends what is over by `now`.
fn ring(process: &Arc<Process>, timers: &Timers, now: u64) {
    // Each timer rings once at most: taken, it goes on after `now`.
    loop {
        let rings = timers.inner.lock().ring(now);
        let Some((info, recipient)) = rings else {
            return;
        };
        // There is a place in the queue for what is said of a timer, and what the kernel says is never refused.
        let _ = match recipient {
            Recipient::Process => process.send(info, None),
            Recipient::Lwp(tid) => match process.lwp(tid) {
                Some(lwp) => process.send(info, Some(&lwp)),
                // Nobody will ever take it.
                None => Ok(()),
            },
        };
    }
}

/// A signal that `lwp` has taken, as its program shall see it: a timer goes on with that. `None` if it is stale.
pub fn took(system: &Processes, lwp: &Lwp, info: SigInfo) -> Option<SigInfo> {
    match (info.signal, info.detail) {
        (Signal::ALRM, _) | (_, Detail::Timer { .. }) => match lwp.process().timers() {
            Some(timers) => timers.took(info, system.executor().now()),
            None => Some(info),
        },
        _ => Some(info),
    }
}

#[cfg(test)]
mod tests;
