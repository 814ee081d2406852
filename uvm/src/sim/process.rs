//! Simulated processes: an address space, its model, and who may change what at the same time.
//!
//! Operations that change mappings go side by side where their order does not matter: on different pages. What overlaps takes turns,
//! since only the order would decide the result. Loads, stores and faults never wait for a turn; making a mapping waits for all but fork.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use core::pin::pin;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use core::task::{Context, Waker};
use core::time::Duration;
use std::sync::Mutex;

use executor::Executor;

use crate::glue::SpaceRef;
use crate::map::VmSpace;
use crate::sim::mapping::ALL;
use crate::sim::model::Model;

/// How soon who waits for its turn looks again at first, and how seldom at last: those looks are polls without an operation done, and
/// a disk may take long, in which nothing else happens.
const TURN: (Duration, Duration) = (Duration::from_micros(1), Duration::from_millis(1));

/// What somebody does with a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// Makes a mapping.
    Maps,
    /// Changes or removes mappings.
    Changes,
    /// Forks.
    Forks,
    /// Touches what may grow.
    Grows,
}

impl Doing {
    const fn goes_with(self, other: Self) -> bool {
        matches!(
            (self, other),
            (Self::Maps, Self::Forks) | (Self::Forks, Self::Maps) | (Self::Grows, Self::Grows)
        )
    }
}

/// A process.
pub(super) struct Process {
    /// The order in which those who need two of them take turns.
    number: usize,
    pub(super) space: Arc<VmSpace>,
    pub(super) model: Mutex<Model>,
    /// Who has the space: its programs and those who visit it.
    holders: Mutex<Vec<Arc<SpaceRef>>>,
    /// Accesses under way, and whether no more may begin.
    accesses: AtomicUsize,
    quiet: AtomicBool,
    /// It has been killed: its programs end as soon as they can.
    killed: AtomicBool,
    under_way: Mutex<Vec<(Range<u64>, Doing)>>,
    /// Turns taken so far.
    turns: AtomicU64,
}

impl Process {
    /// A process in a space that `holder` has, and nobody else yet.
    pub(super) fn new(number: usize, holder: Arc<SpaceRef>, model: Model) -> Option<Self> {
        let space = holder.space()?;
        Some(Self {
            number,
            space,
            model: Mutex::new(model),
            holders: Mutex::new(vec![holder]),
            accesses: AtomicUsize::new(0),
            quiet: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            under_way: Mutex::new(Vec::new()),
            turns: AtomicU64::new(0),
        })
    }

    /// One more who has the space; `None` if nobody has it any more.
    pub(super) fn join(&self) -> Option<Arc<SpaceRef>> {
        let mut holders = self.holders.lock().expect("not poisoned");
        // Some of those who are listed may be leaving.
        let here = |holder: &&Arc<SpaceRef>| {
            let space = holder.space();
            space.is_some_and(|space| Arc::ptr_eq(&space, &self.space))
        };
        let with = holders.iter().find(here)?;
        let holder = Arc::new(SpaceRef::empty());
        let share = pin!(holder.share(with)).poll(&mut Context::from_waker(Waker::noop()));
        assert!(share.is_ready(), "it had no space that it would take down");
        holders.push(holder.clone());
        Some(holder)
    }

    /// `holder` has come over from another space, with the help of one who is here.
    pub(super) fn came(&self, holder: Arc<SpaceRef>) {
        self.holders.lock().expect("not poisoned").push(holder);
    }

    /// `holder` has left, and has taken the space down if it was the last to have it; whether all have left.
    pub(super) fn is_left_by(&self, holder: &Arc<SpaceRef>) -> bool {
        let mut holders = self.holders.lock().expect("not poisoned");
        holders.retain(|other| !Arc::ptr_eq(other, holder));
        holders.is_empty()
    }

    /// It is to end.
    pub(super) fn kill(&self) {
        self.killed.store(true, Relaxed);
    }

    /// Whether it is to end.
    pub(super) fn is_killed(&self) -> bool {
        self.killed.load(Relaxed)
    }

    /// Works on the model.
    pub(super) fn with<T>(&self, f: impl FnOnce(&mut Model) -> T) -> T {
        f(&mut self.model.lock().expect("not poisoned"))
    }

    /// An access begins, if it may now; [`Self::accessed`] ends it.
    pub(super) fn may_access(&self) -> bool {
        let may = !self.quiet.load(Relaxed);
        if may {
            self.accesses.fetch_add(1, Relaxed);
        }
        may
    }

    /// An access has ended.
    pub(super) fn accessed(&self) {
        self.accesses.fetch_sub(1, Relaxed);
    }

    /// Awaits the end of all accesses, and lets none begin: for who moves pages, which others would find in the old or in the new
    /// place. The caller has its turn at everything, and ends it by [`Self::noise`].
    pub(super) async fn quiet(&self, executor: &Arc<Executor>) {
        self.quiet.store(true, Relaxed);
        while self.accesses.load(Relaxed) > 0 {
            executor.sleep(Duration::from_micros(50)).await;
        }
    }

    /// Accesses may begin again.
    pub(super) fn noise(&self) {
        self.quiet.store(false, Relaxed);
    }

    /// Whether no access may begin.
    pub(super) fn is_quiet(&self) -> bool {
        self.quiet.load(Relaxed)
    }

    /// Awaits the turn of an operation on `pages`.
    pub(super) async fn turn(
        &self,
        executor: &Arc<Executor>,
        pages: Range<u64>,
        doing: Doing,
    ) -> Turn<'_> {
        let (mut pause, longest) = TURN;
        loop {
            {
                let mut under_way = self.under_way.lock().expect("not poisoned");
                let free = under_way.iter().all(|(other, what)| {
                    other.end <= pages.start || pages.end <= other.start || doing.goes_with(*what)
                });
                if free {
                    under_way.push((pages.clone(), doing));
                    let number = self.turns.fetch_add(1, Relaxed) + 1;
                    return Turn {
                        process: self,
                        alone: (under_way.len() == 1).then_some(number),
                        pages,
                        doing,
                    };
                }
            }
            executor.sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }
}

/// The two processes of an operation, which may be one, while nobody else does anything in either.
pub(super) struct Pair<'a> {
    pub(super) own: &'a Process,
    pub(super) other: &'a Process,
    _turns: (Turn<'a>, Option<Turn<'a>>),
}

impl<'a> Pair<'a> {
    /// Awaits its turn at everything in both. Accesses go on.
    pub(super) async fn turn(
        executor: &Arc<Executor>,
        own: &'a Process,
        other: Option<&'a Process>,
    ) -> Self {
        let turn = |process: &'a Process| process.turn(executor, ALL, Doing::Changes);
        // In one order everywhere, or two would wait for each other.
        let turns = match other {
            None => (turn(own).await, None),
            Some(other) => {
                let (first, second) = match own.number < other.number {
                    true => (own, other),
                    false => (other, own),
                };
                (turn(first).await, Some(turn(second).await))
            }
        };
        Self {
            own,
            other: other.unwrap_or(own),
            _turns: turns,
        }
    }

    /// Whether it is one process.
    pub(super) fn is_one(&self) -> bool {
        core::ptr::eq(self.own, self.other)
    }

    /// Awaits the end of all accesses, and lets none begin until [`Self::noise`].
    pub(super) async fn quiet(&self, executor: &Arc<Executor>) {
        self.own.quiet(executor).await;
        self.other.quiet(executor).await;
    }

    /// Accesses may begin again.
    pub(super) fn noise(&self) {
        self.own.noise();
        self.other.noise();
    }
}

/// A turn, until dropped.
pub(super) struct Turn<'a> {
    process: &'a Process,
    /// Its number, if nobody else had a turn when it began.
    alone: Option<u64>,
    pages: Range<u64>,
    doing: Doing,
}

impl Turn<'_> {
    /// Whether nobody has had another turn since it began.
    pub(super) fn is_alone(&self) -> bool {
        self.alone == Some(self.process.turns.load(Relaxed))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Ok(mut under_way) = self.process.under_way.lock()
            && let Some(at) = under_way
                .iter()
                .position(|(pages, doing)| *pages == self.pages && *doing == self.doing)
        {
            under_way.swap_remove(at);
        }
    }
}
