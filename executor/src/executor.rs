//! The executor itself: spawning, the loop of a CPU, the idle and the stall rule.
//!
//! It owns the CPUs' queues, the list of all tasks, the timers, and two counts that say whether something may still happen by itself:
//! I/O under way ([`InFlight`]) and waits for the outside ([`Outside`]).
//!
//! **How it synchronises.** Queues and task states are lock-free. The list of tasks and the timers have a spin lock each, taken for
//! spawning, finishing and sleeping, never while a task is polled and never by an interrupt handler.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::future::Future;
use core::panic::Location;
use core::pin::Pin;
use core::ptr::NonNull;
use core::task::{Context, Poll};

use crate::class::Class;
use crate::cpu::Cpu;
use crate::info::{Report, TaskInfo};
use crate::platform::Platform;
use crate::shim::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::shim::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use crate::sync::SpinLock;
use crate::task::{self, Header, JoinHandle, Name, TaskList};
use crate::timer::Timers;

/// How long a program may run before it is asked to give way, in nanoseconds: with what its last system call or fault takes, its poll ends
/// within a millisecond. (Linux's base slice, for one processor.)
pub const SLICE: u64 = 750_000;

/// No memory for a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfMemory;

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("out of memory")
    }
}

impl core::error::Error for OutOfMemory {}

/// Runs tasks on the CPUs of one machine.
pub struct Executor {
    platform: Arc<dyn Platform>,
    cpus: Box<[Cpu]>,
    tasks: SpinLock<TaskList>,
    pub(crate) timers: SpinLock<Timers>,
    /// Earliest deadline in `timers`, to look at without the lock; `u64::MAX` if there is none. Written with `Release` for the stall rule,
    /// like the counts below.
    pub(crate) next_deadline: AtomicU64,
    in_flight: AtomicUsize,
    outside: AtomicUsize,
    /// A stall was reported and nothing has run since.
    stalled: AtomicBool,
}

impl Executor {
    /// An executor on `platform`, with no task.
    pub fn new(platform: Arc<dyn Platform>) -> Arc<Self> {
        let count = platform.cpus();
        let cpus = (0..count).map(|index| Cpu::new(index, count)).collect();
        Arc::new(Self {
            platform,
            cpus,
            tasks: SpinLock::new(TaskList::new()),
            timers: SpinLock::new(Timers::new()),
            next_deadline: AtomicU64::new(u64::MAX),
            in_flight: AtomicUsize::new(0),
            outside: AtomicUsize::new(0),
            stalled: AtomicBool::new(false),
        })
    }

    /// Starts a task. From any task; not from an interrupt handler. Dropping the handle detaches the task.
    ///
    /// # Panics
    /// If there is no memory for it: [`try_spawn`](Self::try_spawn) says so instead.
    #[track_caller]
    pub fn spawn<F>(
        self: &Arc<Self>,
        class: Class,
        name: impl Into<Name>,
        future: F,
    ) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        match self.try_spawn(class, name, future) {
            Ok(handle) => handle,
            Err(OutOfMemory) => panic!("no memory for a task"),
        }
    }

    /// Starts a task, with one allocation.
    ///
    /// # Errors
    /// [`OutOfMemory`]; the future is dropped.
    #[track_caller]
    pub fn try_spawn<F>(
        self: &Arc<Self>,
        class: Class,
        name: impl Into<Name>,
        future: F,
    ) -> Result<JoinHandle<F::Output>, OutOfMemory>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        let site = Location::caller();
        // Where it was spawned: balancing between CPUs is not its creator's business.
        let home = NonNull::from(self.cpu());
        let task = task::allocate(self, home, class, name.into(), site, future)?;
        // SAFETY: allocated just now, with references for the executor and for the handle; in no list and no queue yet. The
        // executor's reference keeps it until it has been polled to its end, which also takes it out of the list.
        unsafe {
            self.tasks.lock().append(task);
            let handle = JoinHandle::new(task);
            Header::queue(task);
            Ok(handle)
        }
    }

    /// The time, in nanoseconds.
    #[inline]
    pub fn now(&self) -> u64 {
        self.platform.now()
    }

    /// The machine below.
    #[inline]
    pub(crate) fn platform(&self) -> &dyn Platform {
        &*self.platform
    }

    /// The CPU that the caller runs on.
    #[inline]
    pub(crate) fn cpu(&self) -> &Cpu {
        match &*self.cpus {
            [only] => only,
            several => &several[self.platform.cpu()],
        }
    }

    /// The loop of a CPU: polls tasks, sleeps when there are none. Every CPU calls it once, with interrupts enabled.
    pub fn run(&self) -> ! {
        let cpu = self.cpu();
        let mut now = self.now();
        loop {
            now = self.turn(cpu, now);
        }
    }

    /// One round of the loop of `cpu`, which the caller runs on: a poll, or a sleep. Gives the time after it.
    #[inline]
    pub(crate) fn turn(&self, cpu: &Cpu, now: u64) -> u64 {
        let now = match cpu.pick() {
            // SAFETY: it was taken from this CPU's queue just now.
            Some(task) => unsafe { self.poll(cpu, task, now) },
            None => {
                self.idle(cpu, now);
                self.now()
            }
        };
        if now >= self.next_deadline.load(Relaxed) {
            self.expire(now);
        }
        now
    }

    /// Polls a task once. Gives the time after it.
    ///
    /// # Safety
    /// The caller took the task from the queue of `cpu`, which it runs on.
    #[inline]
    pub(crate) unsafe fn poll(&self, cpu: &Cpu, task: NonNull<Header>, start: u64) -> u64 {
        // SAFETY: a scheduled task is allocated, and stays so until the executor's reference is released below.
        let header = unsafe { task.as_ref() };
        cpu.begin(header.class);
        self.stalled.store(false, Relaxed);
        if header.class == Class::User {
            self.arm_slice(cpu, start);
        }
        // SAFETY: as the caller says.
        let done = unsafe { Header::poll(task) };
        let end = self.now();
        header.stats.record(end.saturating_sub(start), cpu.end());
        if done {
            header.state.finish();
            // SAFETY: it was put in the list when it was spawned, and leaves it only here or in `shutdown`.
            unsafe { self.tasks.lock().remove(task) };
            header.join.wake();
            // SAFETY: the executor's own reference, not used again.
            unsafe { Header::release(task) };
        } else {
            // SAFETY: it was polled just now.
            unsafe { Header::suspend(task) };
        }
        end
    }

    /// Sees to it that a timer interrupt comes within a slice, so that a program in ring 3 gives way.
    #[inline]
    fn arm_slice(&self, cpu: &Cpu, now: u64) {
        let armed = cpu.armed.load(Relaxed);
        let wanted = self.next_deadline.load(Relaxed).min(now + SLICE);
        // A deadline that has passed has gone off.
        if armed <= now || armed > wanted {
            cpu.armed.store(wanted, Relaxed);
            self.platform.arm(Some(wanted));
        }
    }

    /// Sleeps until something happens, unless it has.
    pub(crate) fn idle(&self, cpu: &Cpu, now: u64) {
        let deadline = self.next_deadline.load(Relaxed);
        if deadline <= now {
            return;
        }
        cpu.fall_asleep();
        if deadline == u64::MAX && self.is_stalled() && !self.stalled.swap(true, Relaxed) {
            self.platform.stalled(&Report(self));
        }
        let armed = if deadline == u64::MAX {
            None
        } else {
            Some(deadline)
        };
        cpu.armed.store(deadline, Relaxed);
        self.platform.arm(armed);
        self.platform.idle(&|| {
            // The timer may have gone off since it was armed, and does so only once.
            let timer_to_come = cpu.armed.load(Relaxed) == deadline;
            timer_to_come && cpu.nothing_ready() && self.next_deadline.load(Relaxed) >= deadline
        });
        cpu.wake_up();
    }

    /// Whether no timer, no I/O and nobody outside can ever wake one of the user tasks that wait. By a CPU with nothing to do.
    ///
    /// What is looked at changes only on CPUs that are awake, so this is true only if none was meanwhile: the other CPUs rest before and
    /// after, and have polled nothing in between. Whoever sees a timer or a count gone also sees awake the CPU that did it.
    pub(crate) fn is_stalled(&self) -> bool {
        let polls = self.switches();
        self.all_rest()
            && self.next_deadline.load(Acquire) == u64::MAX
            && self.in_flight.load(Acquire) == 0
            && self.outside.load(Acquire) == 0
            && self.has_user_task()
            && self.all_rest()
            && self.switches() == polls
    }

    fn all_rest(&self) -> bool {
        let own = self.cpu();
        own.nothing_ready()
            && self
                .cpus
                .iter()
                .all(|cpu| core::ptr::eq(cpu, own) || cpu.is_resting())
    }

    fn has_user_task(&self) -> bool {
        let tasks = self.tasks.lock();
        // SAFETY: allocated, like all in the list, while its lock is held.
        tasks
            .after(0)
            .any(|task| unsafe { task.as_ref() }.class == Class::User)
    }

    /// For the timer interrupt's handler: the running task is asked to give way, and the loop looks at the timers.
    #[inline]
    pub fn tick(&self) {
        let cpu = self.cpu();
        cpu.armed.store(u64::MAX, Relaxed);
        cpu.ask();
    }

    /// Whether the running task should give way: its slice is over, or a better class waits. One load.
    #[inline]
    pub fn need_resched(&self) -> bool {
        self.cpu().is_asked()
    }

    /// Lets others run if they asked for it; else goes on at once.
    #[inline]
    pub fn reschedule_if_asked(&self) -> RescheduleIfAsked<'_> {
        RescheduleIfAsked {
            executor: self,
            yielded: false,
        }
    }

    /// Lets every task that is ready run first.
    #[inline]
    pub fn yield_now(&self) -> YieldNow {
        yield_now()
    }

    /// Takes `ns` nanoseconds, which the running task spent in ring 3, out of its poll's length.
    #[inline]
    pub fn user_time(&self, ns: u64) {
        self.cpu().add_user(ns);
    }

    /// Polls of tasks since the start.
    pub fn switches(&self) -> u64 {
        self.cpus.iter().map(Cpu::polls).sum()
    }

    /// Says that I/O is under way until the guard is dropped: its completion will wake somebody.
    pub fn in_flight(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        InFlight(self.clone())
    }

    /// Says that somebody waits for the outside (a key, a packet) until the guard is dropped.
    pub fn outside(self: &Arc<Self>) -> Outside {
        self.outside.fetch_add(1, Relaxed);
        Outside(self.clone())
    }

    /// Calls `f` with every task that is not done, in the order of spawning. No lock is held while `f` runs.
    pub fn for_each_task(&self, mut f: impl FnMut(&TaskInfo)) {
        const BATCH: usize = 8;
        let mut last = 0;
        loop {
            let mut batch: [Option<TaskInfo>; BATCH] = [const { None }; BATCH];
            for (slot, task) in batch.iter_mut().zip(self.tasks.lock().after(last)) {
                // SAFETY: allocated, like all in the list, while its lock is held.
                *slot = Some(TaskInfo::of(unsafe { task.as_ref() }));
            }
            for info in batch.iter().flatten() {
                last = info.id;
                f(info);
            }
            if batch[BATCH - 1].is_none() {
                return;
            }
        }
    }

    /// Drops every task that is not done. For tests, which make many executors: tasks and executor keep each other otherwise. Not
    /// while a task is polled.
    #[cfg(not(target_os = "none"))]
    pub(crate) fn shutdown(&self) {
        for cpu in &self.cpus {
            while cpu.pick().is_some() {}
        }
        loop {
            let first = {
                let mut tasks = self.tasks.lock();
                let Some(first) = tasks.first() else { return };
                // SAFETY: in this list, and so allocated.
                unsafe { tasks.remove(first) };
                first
            };
            // SAFETY: out of the queues and the list, polled by nobody; the executor's reference is released last.
            unsafe {
                if first.as_ref().state.cancel() {
                    first.as_ref().discard();
                }
                Header::release(first);
            }
        }
    }

    /// The queues of the only CPU, for a host's loop.
    #[cfg(not(target_os = "none"))]
    pub(crate) fn first_cpu(&self) -> &Cpu {
        &self.cpus[0]
    }
}

/// I/O is under way while this lives.
#[must_use = "the I/O counts as finished when this is dropped"]
pub struct InFlight(Arc<Executor>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Release);
    }
}

/// Somebody waits for the outside while this lives.
#[must_use = "the wait counts as over when this is dropped"]
pub struct Outside(Arc<Executor>);

impl Drop for Outside {
    fn drop(&mut self) {
        self.0.outside.fetch_sub(1, Release);
    }
}

/// Future of [`Executor::reschedule_if_asked`].
///
/// # Returns
/// `Ready` at once unless somebody asked; else `Pending` once, and the task goes to the end of its queue.
#[must_use = "futures do nothing unless polled"]
pub struct RescheduleIfAsked<'a> {
    executor: &'a Executor,
    yielded: bool,
}

impl Future for RescheduleIfAsked<'_> {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.yielded || !self.executor.need_resched() {
            return Poll::Ready(());
        }
        self.yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Lets every task that is ready run first. On any executor.
#[inline]
pub fn yield_now() -> YieldNow {
    YieldNow { yielded: false }
}

/// Future of [`yield_now`].
///
/// # Returns
/// `Pending` once, with the task at the end of its queue; then `Ready`.
#[must_use = "futures do nothing unless polled"]
pub struct YieldNow {
    yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.yielded {
            return Poll::Ready(());
        }
        self.yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
