//! The header: the part of a task that does not depend on its future's type.

use alloc::sync::Arc;
use core::mem::ManuallyDrop;
use core::panic::Location;
use core::ptr::{self, NonNull};
use core::sync::atomic::AtomicU64;
use core::task::{Context, RawWaker, RawWakerVTable, Waker};

use super::list::Links;
use super::name::Name;
use super::state::{StateWord, Suspended, Woken};
use super::stats::Stats;
use crate::class::Class;
use crate::cpu::Cpu;
use crate::executor::Executor;
use crate::shim::UnsafeCell;
use crate::sync::AtomicWaker;

/// The functions that know the future's type.
pub(crate) struct Vtable {
    /// Polls the future; stores its output and returns true when it is ready. For who runs the task.
    pub(crate) poll: unsafe fn(NonNull<Header>, &mut Context<'_>) -> bool,
    /// Moves the output, if still there, into the `Option<Output>` at the pointer. For the join handle
    /// of a task that is done.
    pub(crate) take: unsafe fn(NonNull<Header>, *mut ()),
    /// Drops what the task holds, be it future or output. For who cancelled the task.
    #[cfg(not(target_os = "none"))]
    pub(crate) discard: unsafe fn(NonNull<Header>),
    /// Drops all of it and frees its memory. For who released the last reference.
    pub(crate) free: unsafe fn(NonNull<Header>),
}

/// One per task, at the start of its allocation.
///
/// Owns the task's state, its one link and what is counted. `state` is shared by everyone; `next`
/// belongs to the queue that the task stands in; `links` belongs to the lock of the list of all tasks;
/// `stats` is written by the polling CPU alone; the rest never changes.
pub(crate) struct Header {
    pub(crate) state: StateWord,
    /// The one link, for the ready queue.
    pub(crate) next: UnsafeCell<*mut Header>,
    pub(crate) vtable: &'static Vtable,
    /// The CPU whose queues the task goes to. (Stealing would change it, between two polls.)
    home: NonNull<Cpu>,
    pub(crate) class: Class,
    pub(crate) stats: Stats,
    pub(crate) id: AtomicU64,
    pub(crate) links: Links,
    pub(crate) name: Name,
    pub(crate) site: &'static Location<'static>,
    /// Who awaits the join handle.
    pub(crate) join: AtomicWaker,
    /// Keeps `home` allocated.
    executor: Arc<Executor>,
}

impl Header {
    /// A task that is scheduled, but in no queue yet.
    #[inline]
    pub(crate) fn new(
        vtable: &'static Vtable,
        executor: Arc<Executor>,
        home: NonNull<Cpu>,
        class: Class,
        name: Name,
        site: &'static Location<'static>,
    ) -> Self {
        Self {
            state: StateWord::new(),
            next: UnsafeCell::new(ptr::null_mut()),
            vtable,
            home,
            class,
            stats: Stats::default(),
            id: AtomicU64::new(0),
            links: Links::new(),
            name,
            site,
            join: AtomicWaker::new(),
            executor,
        }
    }

    /// Puts the task, which has just become scheduled, into its queue.
    ///
    /// # Safety
    /// As [`Stack::push`](crate::ready::Stack::push).
    #[inline]
    pub(crate) unsafe fn queue(task: NonNull<Header>) {
        // SAFETY: the caller says that the task is allocated; from the push on it may be polled, done
        // and freed at any time, but its home outlives it, and the executor is kept by the caller's
        // reference to the task or by running on it.
        unsafe {
            let home = task.as_ref().home;
            let class = task.as_ref().class;
            let executor: *const Executor = &*task.as_ref().executor;
            home.as_ref().ready(class).push(task);
            home.as_ref().tell(class, &*executor);
        }
    }

    /// Wakes the task.
    ///
    /// # Safety
    /// The caller has a reference to the task.
    #[inline]
    unsafe fn wake(task: NonNull<Header>) {
        // SAFETY: the reference keeps the task allocated throughout; a task that is not done keeps the
        // executor's reference until it was polled.
        unsafe {
            if task.as_ref().state.wake() == Woken::MustQueue {
                Self::queue(task);
            }
        }
    }

    /// Drops a reference, and the task with the last one.
    ///
    /// # Safety
    /// The caller owns a reference and does not use it again.
    #[inline]
    pub(crate) unsafe fn release(task: NonNull<Header>) {
        // SAFETY: the caller owns a reference; the last one out frees.
        unsafe {
            if task.as_ref().state.release_reference() {
                (task.as_ref().vtable.free)(task);
            }
        }
    }

    /// Polls a task that was taken from its queue. Says whether it is done; if not, and if it was woken
    /// meanwhile, it is scheduled again and the caller must queue it.
    ///
    /// # Safety
    /// The caller took the task from its home's queue.
    #[inline]
    pub(crate) unsafe fn poll(task: NonNull<Header>) -> bool {
        // SAFETY: a scheduled task has not finished, so the executor's reference keeps it; the waker
        // borrows that reference for the poll, and is never dropped.
        unsafe {
            let header = task.as_ref();
            header.state.start();
            header.stats.awaiting.clear();
            let waker = ManuallyDrop::new(Waker::from_raw(raw_waker(task)));
            (header.vtable.poll)(task, &mut Context::from_waker(&waker))
        }
    }

    /// Drops what a cancelled task holds.
    ///
    /// # Safety
    /// The caller cancelled the task, and nobody polls it.
    #[cfg(not(target_os = "none"))]
    pub(crate) unsafe fn discard(&self) {
        // SAFETY: as the caller says.
        unsafe { (self.vtable.discard)(NonNull::from(self)) };
    }

    /// After a poll that returned `Pending`.
    ///
    /// # Safety
    /// The caller has just polled the task.
    #[inline]
    pub(crate) unsafe fn suspend(task: NonNull<Header>) {
        // SAFETY: the executor's reference keeps the task while it has not finished.
        unsafe {
            if task.as_ref().state.suspend() == Suspended::MustQueue {
                let home = task.as_ref().home;
                home.as_ref().ready(task.as_ref().class).push(task);
            }
        }
    }
}

/// The task that a poll belongs to, if it is a task of an executor of ours that polls and not, say,
/// `FuturesUnordered` with a waker of its own.
#[inline]
pub(crate) fn current<'a>(cx: &Context<'a>) -> Option<&'a Header> {
    let waker = cx.waker();
    if !ptr::eq(waker.vtable(), &WAKER) {
        return None;
    }
    // SAFETY: only `raw_waker` uses that table, and the waker's reference lasts as long as its borrow.
    Some(unsafe { &*waker.data().cast::<Header>() })
}

/// Says in the task dump what the task of this poll awaits.
#[inline]
pub(crate) fn awaits(cx: &Context<'_>, label: &'static str) {
    if let Some(header) = current(cx) {
        header.stats.awaiting.set(label);
    }
}

#[inline]
fn raw_waker(task: NonNull<Header>) -> RawWaker {
    RawWaker::new(task.as_ptr().cast_const().cast(), &WAKER)
}

/// Wakers neither allocate nor lock. A `static`, so that its address says whose waker it is.
static WAKER: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop);

/// # Safety
/// `data` is a waker's, and so a header that the waker has a reference to. So for all four.
unsafe fn clone(data: *const ()) -> RawWaker {
    let task = header(data);
    // SAFETY: the waker has a reference.
    unsafe { task.as_ref().state.acquire_reference() };
    raw_waker(task)
}

unsafe fn wake(data: *const ()) {
    // SAFETY: the waker has a reference, and gives it up.
    unsafe {
        Header::wake(header(data));
        Header::release(header(data));
    }
}

unsafe fn wake_by_ref(data: *const ()) {
    // SAFETY: the waker has a reference.
    unsafe { Header::wake(header(data)) }
}

unsafe fn drop(data: *const ()) {
    // SAFETY: the waker has a reference, and gives it up.
    unsafe { Header::release(header(data)) }
}

fn header(data: *const ()) -> NonNull<Header> {
    // SAFETY: made from a `NonNull` in `raw_waker`.
    unsafe { NonNull::new_unchecked(data.cast_mut().cast()) }
}
