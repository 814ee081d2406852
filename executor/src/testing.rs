//! The executor on the host: one CPU, a virtual clock, and, with a seed, a choice of the next task by chance.
//!
//! A run is exact: the same seed and the same tasks give the same order of polls. Time passes only when nothing is ready; then the clock
//! jumps to the next deadline. For tests of this crate and of those built on it.

use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::{format, string::String};
use core::fmt;
use core::future::Future;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicBool, AtomicU64};
use core::task::{Context, Poll, Waker};
use core::time::Duration;

use crate::info::Report;
use crate::sync::SpinLock;
use crate::{Class, Executor, Platform};

/// A virtual clock, in nanoseconds.
#[derive(Debug, Default)]
pub struct Clock(AtomicU64);

impl Clock {
    /// The time now.
    pub fn now(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Lets time pass.
    pub fn advance(&self, duration: Duration) {
        self.0.fetch_add(duration.as_nanos() as u64, Relaxed);
    }
}

struct Host(Arc<Clock>);

impl Platform for Host {
    fn now(&self) -> u64 {
        self.0.now()
    }

    fn arm(&self, _deadline: Option<u64>) {
        // The driver looks at the executor's deadlines itself.
    }

    fn idle(&self, _idle_ok: &dyn Fn() -> bool) {}

    fn cpu(&self) -> usize {
        0
    }

    fn cpus(&self) -> usize {
        1
    }

    fn kick(&self, _cpu: usize) {}

    fn stalled(&self, report: &dyn fmt::Display) {
        panic!("nothing can run any more:\n{report}");
    }
}

/// An executor with the loop around it. Dropping it drops all its tasks.
pub struct Driver {
    executor: Arc<Executor>,
    clock: Arc<Clock>,
    /// State of the generator that chooses; `None` runs tasks as a CPU does.
    random: SpinLock<Option<u64>>,
    /// Polls in a hundred at whose start the task is asked to give way.
    asks: AtomicU64,
}

impl Driver {
    /// Runs tasks in the order in which a CPU does.
    #[allow(
        clippy::new_without_default,
        reason = "a driver is a machine, not a value"
    )]
    pub fn new() -> Self {
        let clock = Arc::new(Clock::default());
        Self {
            executor: Executor::new(Arc::new(Host(clock.clone()))),
            clock,
            random: SpinLock::new(None),
            asks: AtomicU64::new(0),
        }
    }

    /// Chooses the next task by chance, from a seed.
    pub fn seeded(seed: u64) -> Self {
        // Zero is the one state that the generator does not leave.
        let driver = Self::new();
        *driver.random.lock() = Some(seed.wrapping_mul(2).wrapping_add(1));
        driver
    }

    /// From now on asks a task to give way ([`Executor::need_resched`]) right at the start of its poll, `percent` times in a hundred,
    /// so that long work is interrupted wherever it can be. Needs a seed.
    pub fn ask_by_chance(&self, percent: u64) {
        self.asks.store(percent, Relaxed);
    }

    /// The executor.
    pub fn executor(&self) -> &Arc<Executor> {
        &self.executor
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    /// Polls one task that is ready. Says whether there was one.
    pub fn step(&self) -> bool {
        self.executor.expire(self.clock.now());
        let cpu = self.executor.first_cpu();
        let mut random = self.random.lock();
        let task = match &mut *random {
            None => cpu.pick(),
            Some(state) => cpu.pick_by(&mut |below| draw(state, below)),
        };
        let Some(task) = task else { return false };
        let asks = self.asks.load(Relaxed);
        if asks > 0
            && let Some(state) = &mut *random
            && (draw(state, 100) as u64) < asks
        {
            cpu.ask();
        }
        drop(random);
        // SAFETY: it was taken from this CPU's queue just now.
        unsafe { self.executor.poll(cpu, task, self.clock.now()) };
        true
    }

    /// Polls tasks until none is ready. The clock stands still.
    pub fn run_ready(&self) {
        while self.step() {}
    }

    /// Polls tasks, and lets time pass when none is ready, until nothing is left that could happen.
    pub fn run_until_stalled(&self) {
        loop {
            self.run_ready();
            if !self.jump() {
                return;
            }
        }
    }

    /// Polls tasks and lets time pass until `future` is done.
    ///
    /// # Panics
    /// If nothing can run any more before; the message lists all tasks.
    pub fn run_until<F>(&self, future: F) -> F::Output
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let mut handle = core::pin::pin!(self.executor.spawn(Class::User, "test", future));
        loop {
            if handle.is_finished() {
                let mut cx = Context::from_waker(Waker::noop());
                if let Poll::Ready(output) = handle.as_mut().poll(&mut cx) {
                    return output;
                }
            }
            if !self.step() && !self.jump() {
                panic!("nothing can run any more:\n{}", self.report());
            }
        }
    }

    /// Polls a future that may borrow, here and not as a task, and runs tasks and lets time pass until it is done.
    ///
    /// Like a task it is polled again only when it was woken: a lost wake shows itself.
    ///
    /// # Panics
    /// If nothing can run any more before; the message lists all tasks.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let mut future = core::pin::pin!(future);
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        loop {
            if woken.0.swap(false, Relaxed)
                && let Poll::Ready(output) = future.as_mut().poll(&mut cx)
            {
                return output;
            }
            // It may have woken itself, to let others run.
            if !self.step() && !woken.0.load(Relaxed) && !self.jump() {
                panic!("nothing can run any more:\n{}", self.report());
            }
        }
    }

    /// Lets `duration` pass, running what comes due on the way.
    pub fn run_for(&self, duration: Duration) {
        let end = self.clock.now() + duration.as_nanos() as u64;
        loop {
            self.run_ready();
            let next = self.executor.next_deadline.load(Relaxed);
            if next > end {
                self.clock.0.store(end, Relaxed);
                return self.run_ready();
            }
            self.clock.0.fetch_max(next, Relaxed);
        }
    }

    /// Every task that is not done, a line each.
    pub fn report(&self) -> String {
        format!("{}", Report(&self.executor))
    }

    /// Whether the executor would report a stall.
    pub fn is_stalled(&self) -> bool {
        self.executor.is_stalled()
    }

    /// Moves the clock to the next deadline. Says whether there is one. For loops around [`Self::step`].
    pub fn jump(&self) -> bool {
        let next = self.executor.next_deadline.load(Relaxed);
        if next != u64::MAX {
            self.clock.0.fetch_max(next, Relaxed);
        }
        next != u64::MAX
    }
}

/// The next number of a generator (xorshift), below `below`.
fn draw(state: &mut u64, below: usize) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state % below as u64) as usize
}

/// Whether the future of [`Driver::block_on`] was woken since its last poll.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.executor.shutdown();
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("now", &self.clock.now())
            .finish_non_exhaustive()
    }
}
