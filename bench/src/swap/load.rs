//! A load: tasks that do one operation over and over, and what is measured of it while it runs evenly.
//!
//! # What this owns
//! The window of a measurement. It opens when so many operations have ended that the beginning no longer shows, and closes while all tasks
//! are still at work: neither the first nor the last ones, which have the device to themselves, are in it.
//!
//! # How it synchronises
//! Counts operations begun and ended in atomics; a spin lock over what is measured.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::Future;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use executor::Class;
use executor::sync::SpinLock;
use uvm::addr::PAGE_SIZE;
use uvm::meter::Counter;
use uvm::pool::OutOfMemory;

use super::{Env, Trouble};
use crate::fault::MAX_COUNT;
use crate::samples::Samples;

/// What is read at both ends of the window.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    /// Nanoseconds.
    pub(super) at: u64,
    /// Operations of the load that have ended.
    pub(super) ended: u64,
    /// Pages that page-out has written to swap, and requests of page-in.
    pub(super) swapouts: u64,
    pub(super) pageins: u64,
    /// Requests that devices have ended, and the time that they had them.
    pub(super) requests: u64,
    pub(super) device_ns: u64,
}

impl Reading {
    fn take(env: &Env, ended: usize) -> Self {
        let device = env.uvm.io().device_time();
        Self {
            at: env.executor.now(),
            ended: ended as u64,
            swapouts: env.uvm.meter().get(Counter::Swapouts),
            pageins: env.uvm.meter().get(Counter::Pageins),
            requests: device.requests,
            device_ns: device.ns,
        }
    }

    /// How much everything has grown since `before`.
    fn since(&self, before: &Self) -> Self {
        Self {
            at: self.at - before.at,
            ended: self.ended - before.ended,
            swapouts: self.swapouts - before.swapouts,
            pageins: self.pageins - before.pageins,
            requests: self.requests - before.requests,
            device_ns: self.device_ns - before.device_ns,
        }
    }
}

/// What the tasks of a load share.
pub(super) struct Load {
    pub(super) env: Env,
    stop: Arc<AtomicBool>,
    /// Operations before the window opens, and until it closes.
    opens: usize,
    closes: usize,
    begun: AtomicUsize,
    ended: AtomicUsize,
    measured: SpinLock<Measured>,
}

/// What was measured so far.
struct Measured {
    samples: Samples,
    from: Option<Reading>,
    to: Option<Reading>,
}

impl Load {
    /// A load whose window opens after `opens` operations, and closes `count` operations later. Awaits memory for its samples: other cases
    /// have left little that is free.
    pub(super) async fn new(
        env: &Env,
        stop: &Arc<AtomicBool>,
        opens: usize,
        count: usize,
    ) -> Result<Self, Trouble> {
        let count_kept = count.min(MAX_COUNT);
        // Twice what they take: for a moment the pages are wanted by others, too.
        let pages = 2 * (count_kept * size_of::<u64>()).div_ceil(PAGE_SIZE) + 1;
        let room = env.uvm.wait_for_memory(pages).await;
        room.map_err(|OutOfMemory| Trouble::NoRoom)?;
        let samples = Samples::with_capacity(count_kept).map_err(|_| Trouble::NoRoom)?;
        Ok(Self {
            env: env.clone(),
            stop: stop.clone(),
            opens,
            closes: opens + count,
            begun: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            measured: SpinLock::new(Measured {
                samples,
                from: None,
                to: None,
            }),
        })
    }

    /// Runs `tasks` tasks made by `work`, in which each calls [`Self::begin`] and [`Self::end`] around every operation until there is
    /// nothing more to begin; returns the time of each operation in the window, and what has grown in it. Awaits all tasks, also
    /// if one fails.
    ///
    /// # Errors
    /// What one of them met.
    pub(super) async fn run<F>(
        self,
        name: &'static str,
        tasks: usize,
        work: impl Fn(Arc<Self>) -> F,
    ) -> Result<(Samples, Reading), Trouble>
    where
        F: Future<Output = Result<(), Trouble>> + Send + 'static,
    {
        let load = Arc::new(self);
        let mut handles = Vec::new();
        handles
            .try_reserve_exact(tasks)
            .map_err(|_| Trouble::NoRoom)?;
        let mut result = Ok(());
        for _ in 0..tasks {
            let executor = &load.env.executor;
            match executor.try_spawn(Class::User, name, work(load.clone())) {
                Ok(handle) => handles.push(handle),
                Err(_) => result = Err(Trouble::NoRoom),
            }
        }
        for handle in handles {
            result = result.and(handle.await);
        }
        result?;
        let measured = &mut *load.measured.lock();
        let (Some(from), Some(to)) = (measured.from, measured.to) else {
            return Err(Trouble::Stopped);
        };
        let samples = core::mem::replace(&mut measured.samples, Samples::none());
        Ok((samples, to.since(&from)))
    }

    /// The number of the next operation to begin, counted from 0. `None`: the window is closed. Awaits others' turn, if they ask for it.
    ///
    /// # Errors
    /// [`Trouble::Stopped`].
    pub(super) async fn begin(&self) -> Result<Option<usize>, Trouble> {
        self.env.executor.reschedule_if_asked().await;
        if self.stop.load(Relaxed) {
            return Err(Trouble::Stopped);
        }
        let open = self.ended.load(Relaxed) < self.closes;
        Ok(open.then(|| self.begun.fetch_add(1, Relaxed)))
    }

    /// An operation that began at `start`, in nanoseconds, has ended.
    pub(super) fn end(&self, start: u64) {
        let mut measured = self.measured.lock();
        let ended = self.ended.fetch_add(1, Relaxed) + 1;
        if ended > self.opens && ended <= self.closes {
            let took = self.env.executor.now().saturating_sub(start);
            measured.samples.push(took);
        }
        if ended == self.opens {
            measured.from = Some(Reading::take(&self.env, ended));
        } else if ended == self.closes {
            measured.to = Some(Reading::take(&self.env, ended));
        }
    }
}
