//! What belongs to one CPU: its ready queues, what it runs, and whether it sleeps.
//!
//! **Choice of the next task.** Classes are looked at best first, and each is first in, first out. So that none starves the next,
//! every [`DAEMON_TURN`]th choice looks at daemons first and every [`USER_TURN`]th at user tasks; idle tasks run only when there is no
//! other. The two periods are coprime, so that both promises hold at once.
//!
//! **How it synchronises.** Anyone pushes to the stacks (see [`crate::ready`]). The rest of the queues is behind a spin lock that others
//! take only to see whether it is empty. The flags are atomics.
//!
//! *Push against choice.* Another CPU pushes, then looks at `running`, and if its task is better than that (anything is better than
//! nothing) sets `asked` and kicks. This CPU ends a poll (`running` = nothing), clears `asked`, then looks at the stacks, and only then
//! begins the next poll or goes to sleep. Between the two steps of each there is a sequentially consistent fence. So either this CPU sees
//! the push, or the other one sees that nothing runs and asks. Interrupt handlers of this CPU need no fence.
//!
//! *Stall.* `asleep` serves the stall rule alone: see [`Cpu::is_resting`].

use core::ptr::NonNull;
use core::sync::atomic::AtomicU64;

use crate::class::{CLASSES, Class};
use crate::executor::Executor;
use crate::ready::{Fifo, Stack};
use crate::shim::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::shim::atomic::{AtomicBool, AtomicU8, fence};
use crate::sync::SpinLock;
use crate::task::Header;

/// Every so many choices daemons come first.
const DAEMON_TURN: u32 = 13;
/// Every so many choices user tasks come first.
const USER_TURN: u32 = 61;
/// Stands for no class in `running`: worse than every class.
const NOTHING: u8 = CLASSES as u8;

/// One CPU's part of the executor.
pub(crate) struct Cpu {
    index: usize,
    /// There are other CPUs.
    others: bool,
    stacks: [Stack; CLASSES],
    queues: SpinLock<Queues>,
    /// The CPU is in, or on its way into, [`Platform::idle`](crate::Platform::idle).
    asleep: AtomicBool,
    /// The running task should give way.
    asked: AtomicBool,
    /// Class of the running task, or [`NOTHING`].
    running: AtomicU8,
    /// Nanoseconds of the running poll that were spent in ring 3.
    user: AtomicU64,
    /// Polls so far.
    polls: AtomicU64,
    /// When the platform's timer of this CPU goes off; `u64::MAX` if it does not.
    pub(crate) armed: AtomicU64,
}

struct Queues {
    fifos: [Fifo; CLASSES],
    turn: u32,
}

// SAFETY: the tasks in the queues may be used from any CPU.
unsafe impl Send for Queues {}

impl Cpu {
    /// CPU `index` of `count`.
    pub(crate) fn new(index: usize, count: usize) -> Self {
        Self {
            index,
            others: count > 1,
            stacks: core::array::from_fn(|_| Stack::new()),
            queues: SpinLock::new(Queues {
                fifos: [const { Fifo::new() }; CLASSES],
                turn: 0,
            }),
            asleep: AtomicBool::new(false),
            asked: AtomicBool::new(false),
            running: AtomicU8::new(NOTHING),
            user: AtomicU64::new(0),
            polls: AtomicU64::new(0),
            armed: AtomicU64::new(u64::MAX),
        }
    }

    /// The queue that a task of `class` is pushed to.
    #[inline]
    pub(crate) fn ready(&self, class: Class) -> &Stack {
        &self.stacks[class as usize]
    }

    /// Called after a push: makes the CPU look, if it would not soon.
    #[inline]
    pub(crate) fn tell(&self, class: Class, executor: &Executor) {
        let elsewhere = self.others && executor.platform().cpu() != self.index;
        if elsewhere {
            // With the one in `choosing`: see the head of this file.
            fence(SeqCst);
        }
        if (class as u8) < self.running.load(Relaxed) {
            self.asked.store(true, Relaxed);
            // The CPU that pushes looks at its own queues before it sleeps.
            if elsewhere {
                executor.platform().kick(self.index);
            }
        }
    }

    /// The running task should give way soon.
    #[inline]
    pub(crate) fn ask(&self) {
        self.asked.store(true, Relaxed);
    }

    /// Whether the running task should give way.
    #[inline]
    pub(crate) fn is_asked(&self) -> bool {
        self.asked.load(Relaxed)
    }

    /// Adds to the running poll's time in ring 3, in nanoseconds.
    #[inline]
    pub(crate) fn add_user(&self, ns: u64) {
        crate::task::add(&self.user, ns);
    }

    /// Polls on this CPU so far.
    pub(crate) fn polls(&self) -> u64 {
        self.polls.load(Relaxed)
    }

    /// A poll begins.
    #[inline]
    pub(crate) fn begin(&self, class: Class) {
        crate::task::add(&self.polls, 1);
        self.user.store(0, Relaxed);
        self.running.store(class as u8, Relaxed);
    }

    /// A poll ends; gives its nanoseconds in ring 3.
    #[inline]
    pub(crate) fn end(&self) -> u64 {
        self.running.store(NOTHING, Relaxed);
        self.user.load(Relaxed)
    }

    /// From here on a push counts for the choice that follows, or asks.
    #[inline]
    fn choosing(&self) {
        self.asked.store(false, Relaxed);
        if self.others {
            // With the one in `tell`: see the head of this file.
            fence(SeqCst);
        }
    }

    /// Takes the next task to poll. Only on this CPU.
    #[inline]
    pub(crate) fn pick(&self) -> Option<NonNull<Header>> {
        self.choosing();
        let mut queues = self.queues.lock();
        queues.turn = queues.turn.wrapping_add(1);
        let order = if queues.turn.is_multiple_of(USER_TURN) {
            [Class::User, Class::Completion, Class::Daemon, Class::Idle]
        } else if queues.turn.is_multiple_of(DAEMON_TURN) {
            [Class::Daemon, Class::Completion, Class::User, Class::Idle]
        } else {
            Class::ALL
        };
        order
            .into_iter()
            .find_map(|class| self.pop(&mut queues, class))
    }

    #[inline]
    fn pop(&self, queues: &mut Queues, class: Class) -> Option<NonNull<Header>> {
        let fifo = &mut queues.fifos[class as usize];
        let stack = &self.stacks[class as usize];
        if !stack.is_empty() {
            // SAFETY: tasks in the stack are scheduled, and so allocated.
            unsafe { fifo.append(stack.take()) };
        }
        fifo.pop()
    }

    /// Whether its queues are empty. From any CPU.
    pub(crate) fn nothing_ready(&self) -> bool {
        let queues = self.queues.lock();
        self.stacks.iter().all(Stack::is_empty) && queues.fifos.iter().all(Fifo::is_empty)
    }

    /// Whether it sleeps with nothing to do; then all that it did before can be seen. From another CPU.
    ///
    /// A CPU wakes up before it takes the lock of its queues to choose a task. So of a task that it has taken before the look at the
    /// queues here, it follows that the CPU is seen awake, or asleep again after that task.
    pub(crate) fn is_resting(&self) -> bool {
        self.nothing_ready() && self.asleep.load(Acquire)
    }

    /// Says that the CPU goes to sleep; from now on it or the next one to do so sees that all sleep.
    pub(crate) fn fall_asleep(&self) {
        self.asleep.store(true, Release);
        if self.others {
            fence(SeqCst);
        }
    }

    /// Says that the CPU sleeps no longer.
    pub(crate) fn wake_up(&self) {
        self.asleep.store(false, Release);
    }

    /// Takes a task by chance: `choose(n)` gives a number below `n`. Idle tasks stand back here too.
    #[cfg(not(target_os = "none"))]
    pub(crate) fn pick_by(
        &self,
        choose: &mut dyn FnMut(usize) -> usize,
    ) -> Option<NonNull<Header>> {
        self.choosing();
        let mut queues = self.queues.lock();
        for (stack, fifo) in self.stacks.iter().zip(&mut queues.fifos) {
            // SAFETY: tasks in the stack are scheduled, and so allocated.
            unsafe { fifo.append(stack.take()) };
        }
        let (idle, busy) = queues.fifos.split_last_mut()?;
        let waiting: usize = busy.iter().map(Fifo::len).sum();
        if waiting == 0 {
            return idle.pop();
        }
        let mut index = choose(waiting);
        for fifo in busy {
            match index.checked_sub(fifo.len()) {
                Some(rest) => index = rest,
                None => return fifo.take_nth(index),
            }
        }
        None
    }
}
