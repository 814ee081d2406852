//! Signals that wait to be delivered: to a process, or to one LWP of it.
//!
//! Standard signals (1 to 31) merge: one of each waits, the first. Real-time signals queue, each with what is told about it, and come in the
//! order in which they were sent. So do signals of timers, of any number, one of each timer: they have places of their own. Plain data: the
//! owner's lock.

use super::signal::{Detail, SigInfo, SigSet};
use crate::boxed::try_box;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use linux_raw_sys::general as sys;
use uvm::OutOfMemory;

/// Most signals that wait in one queue besides those of timers, as Linux's `RLIMIT_SIGPENDING` bounds them.
pub const MOST: usize = 96;
/// Most timers of a process, whose signals have places of their own.
pub const MOST_OF_TIMERS: usize = 32;

const _: () = assert!(
    (MOST + MOST_OF_TIMERS) * size_of::<SigInfo>() <= uvm::PAGE_SIZE,
    "a full queue is a page"
);

/// There is no room for one more real-time signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many signals wait")]
pub struct Full;

/// What is told about them, in the order in which they came.
type Queue = VecDeque<SigInfo>;

/// Signals that wait.
#[derive(Debug, Default)]
pub struct Pending {
    set: SigSet,
    /// Most of the time there is none.
    infos: Option<Box<Queue>>,
}

impl Pending {
    /// None.
    #[must_use]
    pub const fn new() -> Pending {
        Pending {
            set: SigSet::EMPTY,
            infos: None,
        }
    }

    /// Which wait.
    #[must_use]
    pub fn set(&self) -> SigSet {
        self.set
    }

    /// Adds one. A standard signal, or one that `kill` sends, is never lost: without room for what is told about it, it comes without.
    ///
    /// # Errors
    /// [`Full`]: a real-time signal for which there is no room.
    pub fn push(&mut self, info: SigInfo) -> Result<(), Full> {
        let signal = info.signal;
        let room = if let Detail::Timer { id, .. } = info.detail {
            // What is left of an older setting of this timer is stale.
            let older =
                |info: &SigInfo| matches!(info.detail, Detail::Timer { id: i, .. } if i == id);
            let place = |infos: &mut Box<Queue>| {
                infos.retain(|info| !older(info));
                infos.len() < infos.capacity()
            };
            self.infos.as_mut().is_some_and(place)
        } else if !signal.is_real_time() && self.set.contains(signal) {
            return Ok(());
        } else {
            let of_timers = |info: &&SigInfo| matches!(info.detail, Detail::Timer { .. });
            self.queue().is_some_and(|infos| {
                let others = infos.len() - infos.iter().filter(of_timers).count();
                others < MOST && infos.try_reserve(1).is_ok()
            })
        };
        if let Some(infos) = self.infos.as_mut().filter(|_| room) {
            infos.push_back(info);
        } else if signal.is_real_time() && info.code != sys::SI_USER as i32 {
            return Err(Full);
        }
        self.set = self.set.union(SigSet::only(signal));
        Ok(())
    }

    /// Makes sure that there are places for the signals of timers, whatever else comes.
    ///
    /// # Errors
    /// [`OutOfMemory`]
    pub fn reserve(&mut self) -> Result<(), OutOfMemory> {
        let infos = self.queue().ok_or(OutOfMemory)?;
        let more = MOST + MOST_OF_TIMERS - infos.len();
        infos.try_reserve_exact(more).map_err(|_| OutOfMemory)
    }

    /// Takes the first that is in `wanted`: KILL, else the lowest number, of those the oldest.
    pub fn take(&mut self, wanted: SigSet) -> Option<SigInfo> {
        let signal = self.set.intersection(wanted).first()?;
        let infos = self.infos.iter().flat_map(|infos| infos.iter());
        let mut of = (infos.enumerate()).filter(|(_, info)| info.signal == signal);
        let (at, more) = (of.next().map(|(at, _)| at), of.next().is_some());
        if !more {
            self.set = self.set.without(SigSet::only(signal));
        }
        let info = at.and_then(|at| self.infos.as_mut()?.remove(at));
        Some(info.unwrap_or_else(|| SigInfo::from_process(signal, 0)))
    }

    /// Drops those in `which`.
    pub fn drop_all(&mut self, which: SigSet) {
        self.set = self.set.without(which);
        if let Some(infos) = &mut self.infos {
            infos.retain(|info| !which.contains(info.signal));
        }
    }

    /// The queue, made if there is none; `None` without memory for it.
    fn queue(&mut self) -> Option<&mut Queue> {
        if self.infos.is_none() {
            self.infos = try_box(VecDeque::new()).ok();
        }
        self.infos.as_deref_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proc::signal::Signal;

    fn info(number: u64, pid: u32) -> SigInfo {
        SigInfo::from_process(Signal::new(number).expect("1 to 64"), pid)
    }

    #[test]
    fn standard_signals_merge_and_real_time_signals_queue() {
        let mut pending = Pending::new();
        for pid in 1..4 {
            pending.push(info(15, pid)).unwrap();
            pending.push(info(40, pid)).unwrap();
            pending.push(info(34, pid)).unwrap();
        }
        let all = SigSet::from_bits(u64::MAX);
        let order: std::vec::Vec<_> = core::iter::from_fn(|| pending.take(all)).collect();
        let expected = [15, 34, 34, 34, 40, 40, 40]
            .into_iter()
            .zip([1, 1, 2, 3, 1, 2, 3]);
        assert!(order.into_iter().eq(expected.map(|(n, pid)| info(n, pid))));
        assert!(pending.set().is_empty());
    }

    #[test]
    fn signals_of_timers_have_places_of_their_own() {
        let of_timer = |id: u32, setting: u32| SigInfo {
            code: sys::SI_TIMER,
            detail: Detail::Timer {
                id,
                setting,
                overruns: 0,
                value: 0,
            },
            ..info(10, 0)
        };
        let mut pending = Pending::new();
        pending.reserve().unwrap();
        let place = pending.queue().unwrap().capacity();
        (0..MOST as u32).for_each(|pid| pending.push(info(50, pid)).unwrap());
        (0..MOST_OF_TIMERS as u32).for_each(|id| pending.push(of_timer(id, 1)).unwrap());
        pending.push(of_timer(3, 2)).unwrap();
        assert_eq!(pending.queue().unwrap().len(), MOST + MOST_OF_TIMERS);
        assert_eq!(pending.queue().unwrap().capacity(), place);
        // They do not merge with each other; what `kill` sends merges with them.
        pending.push(info(10, 5)).unwrap();
        let all = SigSet::from_bits(u64::MAX);
        let taken: std::vec::Vec<_> = core::iter::from_fn(|| pending.take(all))
            .take_while(|info| info.signal == Signal::USR1)
            .collect();
        assert_eq!(taken.len(), MOST_OF_TIMERS);
        assert_eq!(taken.last(), Some(&of_timer(3, 2)));
    }

    #[test]
    fn a_full_queue_refuses_real_time_signals_alone() {
        let mut pending = Pending::new();
        (0..MOST as u32).for_each(|pid| pending.push(info(50, pid)).unwrap());
        let queued = SigInfo {
            code: sys::SI_QUEUE,
            ..info(50, 0)
        };
        assert_eq!(pending.push(queued), Err(Full));
        assert_eq!(pending.push(info(50, 0)), Ok(()));
        assert_eq!(pending.push(info(9, 7)), Ok(()));
        let all = SigSet::from_bits(u64::MAX);
        assert_eq!(pending.take(all), Some(info(9, 0)));
        pending.drop_all(all);
        assert_eq!(pending.take(all), None);
    }
}
