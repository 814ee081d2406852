//! The LWPs of a process, and how they all come to an end.
//!
//! # What this owns
//! The list of a process's living LWPs, by number, and whether the process is to end. The first LWP has the process's number and needs no
//! memory here; most processes have no other.
//!
//! ```text
//!   going --end(status)--> ending --the last leaves--> ended
//!     |  ^
//!     |  +--only that one is left--+
//!     +--one wants to be alone-----+   (exec: all others leave)
//! ```
//!
//! An LWP that must leave does so on its own way back to ring 3, or out of an interruptible wait; it is told by [`Lwp::notify`]. Nothing
//! takes it away from what it awaits. The first end counts: a process that is ending does so with the status that was first.
//!
//! # How it synchronises
//! One spin lock, taken before that of the signals. LWPs are told after it is released.

use super::lwp::Lwp;
use super::table::{ExitStatus, Pid};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::ops::Bound;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use executor::sync::{SpinLock, WaitQueue};
use uvm::km::HeapRoom;

/// The process is to end: no LWP begins any more, and none gets to be alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the process is ending")]
pub struct Ending;

/// What an LWP leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Others live on.
    Others,
    /// It was the last: the process ends so.
    Nobody(ExitStatus),
}

#[derive(Default)]
struct Inner {
    first: Option<Arc<Lwp>>,
    others: BTreeMap<Pid, Arc<Lwp>>,
    end: Option<ExitStatus>,
    /// The LWP that wants to be the only one.
    alone: Option<Pid>,
}

impl Inner {
    fn len(&self) -> usize {
        self.others.len() + usize::from(self.first.is_some())
    }

    fn must_leave(&self, tid: Pid) -> bool {
        self.end.is_some() || self.alone.is_some_and(|alone| alone != tid)
    }
}

/// See the module.
pub(super) struct Threads {
    inner: SpinLock<Inner>,
    /// Where LWPs of the process wait for it: woken whenever one has left, when none copies the address space any more, and when a stop is over.
    changed: WaitQueue,
    /// LWPs that copy the address space.
    copying: AtomicUsize,
    /// An LWP that was in memory when somebody last looked.
    seen_in: AtomicU32,
}

/// While it lives, no other LWP of the process goes to ring 3: the address space is being copied, and the copy must be of one moment. (A C library
/// relies on it: in the child it mends the lists that another thread was changing, which it cannot if it sees one half old and the other new.)
pub(super) struct Copying<'a>(&'a Threads);

impl Drop for Copying<'_> {
    fn drop(&mut self) {
        if self.0.copying.fetch_sub(1, SeqCst) == 1 {
            self.0.changed.wake_all();
        }
    }
}

impl Threads {
    pub(super) fn new() -> Threads {
        Threads {
            inner: SpinLock::new(Inner::default()),
            changed: WaitQueue::new("its process"),
            copying: AtomicUsize::new(0),
            seen_in: AtomicU32::new(0),
        }
    }

    /// Enters the first LWP of a process that has none.
    pub(super) fn begin(&self, lwp: Arc<Lwp>) {
        self.inner.lock().first = Some(lwp);
    }

    /// Enters one more.
    ///
    /// # Errors
    /// [`Ending`]
    pub(super) fn add(&self, lwp: Arc<Lwp>, _room: &HeapRoom<'_>) -> Result<(), Ending> {
        let mut inner = self.inner.lock();
        if inner.end.is_some() || inner.alone.is_some() {
            return Err(Ending);
        }
        inner.others.insert(lwp.tid(), lwp);
        Ok(())
    }

    /// Takes an LWP out, which leaves with `status` if it leaves by itself.
    pub(super) fn leave(&self, lwp: &Arc<Lwp>, status: ExitStatus) -> Left {
        let (gone, left) = {
            let mut inner = self.inner.lock();
            let is_first = inner.first.as_ref().is_some_and(|f| Arc::ptr_eq(f, lwp));
            let gone = match is_first {
                true => inner.first.take(),
                false => inner.others.remove(&lwp.tid()),
            };
            let left = match inner.len() {
                0 => {
                    // As Linux has it since 5.19: the last one's own, not the first's.
                    Left::Nobody(*inner.end.get_or_insert(status))
                }
                _ => Left::Others,
            };
            (gone, left)
        };
        drop(gone);
        self.changed.wake_all();
        left
    }

    /// Has all LWPs end, and the process with them. Returns with which status: that of the first who called.
    pub(super) fn end(&self, status: ExitStatus) -> ExitStatus {
        let status = *self.inner.lock().end.get_or_insert(status);
        self.tell_all();
        self.changed.wake_all();
        status
    }

    /// How the process is to end, if it is.
    pub(super) fn ends(&self) -> Option<ExitStatus> {
        self.inner.lock().end
    }

    /// Whether an LWP must leave.
    pub(super) fn must_leave(&self, tid: Pid) -> bool {
        self.inner.lock().must_leave(tid)
    }

    /// Has all others leave, and awaits that. For `lwp` itself, which is the process's only and first one afterwards, with its number.
    /// No signal ends the wait, but the process's end does.
    ///
    /// # Errors
    /// [`Ending`]: then this one must leave, too.
    pub(super) async fn be_alone(&self, lwp: &Arc<Lwp>, pid: Pid) -> Result<(), Ending> {
        {
            let mut inner = self.inner.lock();
            if inner.end.is_some() || inner.alone.is_some_and(|alone| alone != lwp.tid()) {
                return Err(Ending);
            }
            inner.alone = Some(lwp.tid());
        }
        self.tell_all();
        let look = || {
            let inner = self.inner.lock();
            match (inner.end, inner.len()) {
                (Some(_), _) => Some(Err(Ending)),
                (None, 1) => Some(Ok(())),
                (None, _) => None,
            }
        };
        self.changed
            .wait_until(look)
            .labelled("other threads' end")
            .await?;
        let mut inner = self.inner.lock();
        if inner.end.is_some() {
            return Err(Ending);
        }
        if inner.first.is_none() {
            inner.first = inner.others.remove(&lwp.tid());
        }
        inner.alone = None;
        lwp.set_tid(pid);
        Ok(())
    }

    /// Begins a copy of the address space, by the LWP `tid`.
    pub(super) fn copy(&self, tid: Pid) -> Copying<'_> {
        self.copying.fetch_add(1, SeqCst);
        let others = self.iter().filter(|lwp| lwp.tid() != tid);
        others.for_each(|lwp| lwp.look_up());
        Copying(self)
    }

    /// Whether others must wait for the end of a copy before they go to ring 3.
    pub(super) fn is_copying(&self) -> bool {
        self.copying.load(SeqCst) != 0
    }

    /// Awaits the end of all copies.
    pub(super) async fn copied(&self) {
        self.changed
            .wait_until(|| (!self.is_copying()).then_some(()))
            .labelled("end of a fork")
            .await;
    }

    /// Where LWPs of the process wait for what concerns all of them.
    pub(super) fn queue(&self) -> &WaitQueue {
        &self.changed
    }

    /// How many live.
    pub(super) fn len(&self) -> usize {
        self.inner.lock().len()
    }

    /// The LWP with this number.
    pub(super) fn find(&self, tid: Pid) -> Option<Arc<Lwp>> {
        let inner = self.inner.lock();
        let first = inner.first.as_ref().filter(|first| first.tid() == tid);
        first.or_else(|| inner.others.get(&tid)).cloned()
    }

    /// The one that has lived longest.
    pub(super) fn first(&self) -> Option<Arc<Lwp>> {
        self.after(None)
    }

    /// All of them, a short lock for each.
    pub(super) fn iter(&self) -> impl Iterator<Item = Arc<Lwp>> + '_ {
        self.iter_after(None)
    }

    /// Those behind number `last`.
    pub(super) fn iter_after(&self, mut last: Option<Pid>) -> impl Iterator<Item = Arc<Lwp>> + '_ {
        core::iter::from_fn(move || {
            let next = self.after(last)?;
            last = Some(next.tid());
            Some(next)
        })
    }

    /// Whether all of them are out of memory. As they go one by one this is asked each time: it looks first at one that was in the last time.
    pub(super) fn are_out(&self) -> bool {
        let last = Pid(self.seen_in.load(Relaxed));
        let is_in = |lwp: &Arc<Lwp>| lwp.residence().is_in();
        if self.find(last).as_ref().is_some_and(is_in) {
            return false;
        }
        let behind = self.iter_after(Some(last)).find(is_in);
        let seen = behind.or_else(|| self.iter().find(is_in));
        if let Some(lwp) = &seen {
            self.seen_in.store(lwp.tid().0, Relaxed);
        }
        seen.is_none()
    }

    /// The next one after number `tid`: the first, then the others in order.
    fn after(&self, tid: Option<Pid>) -> Option<Arc<Lwp>> {
        let inner = self.inner.lock();
        let from = match (tid, &inner.first) {
            (None, Some(first)) => return Some(first.clone()),
            (Some(tid), Some(first)) if first.tid() == tid => Bound::Unbounded,
            (Some(tid), _) => Bound::Excluded(tid),
            (None, None) => Bound::Unbounded,
        };
        let mut rest = inner.others.range((from, Bound::Unbounded));
        rest.next().map(|(_, lwp)| lwp.clone())
    }

    fn tell_all(&self) {
        self.iter().for_each(|lwp| lwp.notify());
    }
}
