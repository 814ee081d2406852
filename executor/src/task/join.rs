//! The handle to a task's result.

use core::marker::PhantomData;
use core::pin::Pin;
use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;
use core::task::{Context, Poll};

use super::header::{Header, awaits};
use super::state::State;

/// Awaits a task and gives its result. Dropping it detaches the task, which runs on.
///
/// # Returns
/// - `Pending` until the task has returned; the awaiting task is woken then. Stays pending for ever if
///   the executor was shut down first.
/// - `Ready(result)` once. Polling again stays pending.
pub struct JoinHandle<T> {
    task: NonNull<Header>,
    result: PhantomData<T>,
}

// SAFETY: the handle refers to a task, whose header may be used from any CPU, and gives out its result.
unsafe impl<T: Send> Send for JoinHandle<T> {}
// SAFETY: a shared handle only reads atomics.
unsafe impl<T: Send> Sync for JoinHandle<T> {}

impl<T> Unpin for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    /// # Safety
    /// The caller passes on a reference to the task, whose output is a `T`.
    #[inline]
    pub(crate) unsafe fn new(task: NonNull<Header>) -> Self {
        Self {
            task,
            result: PhantomData,
        }
    }

    /// The task's number, as [`TaskInfo::id`](crate::TaskInfo) has it.
    pub fn id(&self) -> u64 {
        self.header().id.load(Relaxed)
    }

    /// Whether the task waits to be woken: it is not being polled, and does not stand in line for that.
    pub fn is_idle(&self) -> bool {
        self.header().state.state() == State::Idle
    }

    /// Whether the task has returned.
    pub fn is_finished(&self) -> bool {
        self.header().state.is_done()
    }

    fn header(&self) -> &Header {
        // SAFETY: the handle owns a reference.
        unsafe { self.task.as_ref() }
    }

    fn take(&mut self) -> Option<T> {
        if !self.is_finished() {
            return None;
        }
        let mut slot: Option<T> = None;
        // SAFETY: the task is done, this is its only join handle, and its output is a `T`.
        unsafe { (self.header().vtable.take)(self.task, (&raw mut slot).cast()) };
        slot
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        if let Some(result) = self.take() {
            return Poll::Ready(result);
        }
        self.header().join.register(cx.waker());
        match self.take() {
            Some(result) => Poll::Ready(result),
            None => {
                awaits(cx, "join");
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        // SAFETY: the handle owns a reference and is gone after this.
        unsafe { Header::release(self.task) }
    }
}
