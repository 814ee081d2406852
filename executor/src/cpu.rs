//! What belongs to one CPU: its ready queues, what it runs, and whether it sleeps.
//!
//! **Choice of the next task.** Classes are looked at best first, and each is first in, first out. So that none starves the next,
//! every [`DAEMON_TURN`]th choice looks at daemons first and every [`USER_TURN`]th at user tasks; idle tasks run only when there is no
//! other. The two periods are coprime, so that both promises hold at once.
//!
//! **How it synchronises.** Anyone pushes to the stacks (see [`crate::ready`]). The rest of the queues is behind a spin lock that only
//! the CPU itself takes. The flags are atomics; `asleep` pairs with the stacks' heads as [`Stack::take`] says.

use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicU8, AtomicU64};

use crate::class::{CLASSES, Class};
use crate::executor::Executor;
use crate::ready::{Fifo, Stack};
use crate::shim::atomic::AtomicBool;
use crate::shim::atomic::Ordering::{Acquire, Release};
use crate::sync::SpinLock;
use crate::task::Header;
use core::ptr::NonNull;

/// Every so many choices daemons come first.
const DAEMON_TURN: u32 = 13;
/// Every so many choices user tasks come first.
const USER_TURN: u32 = 61;
/// Stands for no class in `running`: worse than every class.
const NOTHING: u8 = CLASSES as u8;

/// One CPU's part of the executor.
pub(crate) struct Cpu {
    index: usize,
    stacks: [Stack; CLASSES],
    queues: SpinLock<Queues>,
    /// The CPU is in, or on its way into, [`Platform::idle`](crate::Platform::idle).
    asleep: AtomicBool,
    /// The running task should give way.
    asked: core::sync::atomic::AtomicBool,
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
    pub(crate) fn new(index: usize) -> Self {
        Self {
            index,
            stacks: core::array::from_fn(|_| Stack::new()),
            queues: SpinLock::new(Queues {
                fifos: [const { Fifo::new() }; CLASSES],
                turn: 0,
            }),
            asleep: AtomicBool::new(false),
            asked: core::sync::atomic::AtomicBool::new(false),
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
        let better = (class as u8) < self.running.load(Relaxed);
        if better {
            self.asked.store(true, Relaxed);
        }
        // The CPU that pushes looks at its own queues before it sleeps.
        if executor.has_others()
            && executor.platform().cpu() != self.index
            && (better || self.asleep.load(Acquire))
        {
            executor.platform().kick(self.index);
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
        self.asked.store(false, Relaxed);
        self.user.store(0, Relaxed);
        self.running.store(class as u8, Relaxed);
    }

    /// A poll ends; gives its nanoseconds in ring 3.
    #[inline]
    pub(crate) fn end(&self) -> u64 {
        self.running.store(NOTHING, Relaxed);
        self.user.load(Relaxed)
    }

    /// Takes the next task to poll. Only on this CPU.
    #[inline]
    pub(crate) fn pick(&self) -> Option<NonNull<Header>> {
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

    /// Whether nothing was pushed since the queues were last found empty. Swaps the stacks, so that a push not seen here sees `asleep`.
    pub(crate) fn nothing_ready(&self) -> bool {
        let mut queues = self.queues.lock();
        let mut nothing = true;
        for (stack, fifo) in self.stacks.iter().zip(&mut queues.fifos) {
            // SAFETY: tasks in the stack are scheduled, and so allocated.
            unsafe { fifo.append(stack.take()) };
            nothing &= fifo.is_empty();
        }
        nothing
    }

    /// Says that the CPU sleeps from now on, or no longer.
    pub(crate) fn set_asleep(&self, asleep: bool) {
        self.asleep.store(asleep, Release);
    }

    /// Takes a task by chance: `choose(n)` gives a number below `n`. Idle tasks stand back here too.
    #[cfg(not(target_os = "none"))]
    pub(crate) fn pick_by(
        &self,
        choose: &mut dyn FnMut(usize) -> usize,
    ) -> Option<NonNull<Header>> {
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
