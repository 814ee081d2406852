//! Ready queues: intrusive, through the one link in each task's header.
//!
//! A queue is two parts. Anyone pushes, from interrupt handlers and other CPUs too, onto a [`Stack`]:
//! one compare-and-swap, no lock, no allocation. Only the owning CPU pops, from a [`Fifo`]: when that
//! runs dry it takes the whole stack with one swap and reverses it. So tasks run in the order in which
//! they were queued, and nothing can be pushed to the front. (A Treiber stack that is only ever emptied
//! as a whole has no ABA problem.)
//!
//! A task is in at most one queue, since only the step idle -> scheduled puts it there.

use core::ptr::{self, NonNull};

use crate::shim::atomic::AtomicPtr;
use crate::shim::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::task::Header;

/// The part that anyone pushes to; newest first.
pub(crate) struct Stack {
    head: AtomicPtr<Header>,
}

impl Stack {
    pub(crate) fn new() -> Self {
        Self {
            head: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Queues a task.
    ///
    /// # Safety
    /// The task has just become scheduled, this is the one call that queues it, and it stays allocated
    /// until it was polled.
    #[inline]
    pub(crate) unsafe fn push(&self, task: NonNull<Header>) {
        // SAFETY: scheduled but in no queue yet, so the link is ours.
        let link = unsafe { &task.as_ref().next };
        let mut head = self.head.load(Relaxed);
        loop {
            // SAFETY: as above.
            link.with_mut(|next| unsafe { *next = head });
            match self
                .head
                .compare_exchange_weak(head, task.as_ptr(), Release, Relaxed)
            {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Whether it looked empty at some moment.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.head.load(Relaxed).is_null()
    }

    /// Takes everything, newest first.
    #[inline]
    pub(crate) fn take(&self) -> *mut Header {
        self.head.swap(ptr::null_mut(), Acquire)
    }
}

/// The part that only the owning CPU touches; oldest first.
pub(crate) struct Fifo {
    head: *mut Header,
    tail: *mut Header,
}

impl Fifo {
    pub(crate) const fn new() -> Self {
        Self {
            head: ptr::null_mut(),
            tail: ptr::null_mut(),
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_null()
    }

    /// Appends what was taken from a stack, oldest first.
    ///
    /// # Safety
    /// `newest` comes from [`Stack::take`]; its tasks are allocated.
    #[inline]
    pub(crate) unsafe fn append(&mut self, newest: *mut Header) {
        let Some(last) = NonNull::new(newest) else {
            return;
        };
        let mut first = last;
        let mut after = ptr::null_mut();
        loop {
            // SAFETY: the chain from `Stack::take` belongs to this CPU now.
            let before = unsafe { replace_next(first, after) };
            let Some(before) = NonNull::new(before) else {
                break;
            };
            after = first.as_ptr();
            first = before;
        }
        match NonNull::new(self.tail) {
            Some(tail) => {
                // SAFETY: the tail is in this queue, so its link is this CPU's.
                unsafe { replace_next(tail, first.as_ptr()) };
            }
            None => self.head = first.as_ptr(),
        }
        self.tail = last.as_ptr();
    }

    /// Takes the oldest task.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<NonNull<Header>> {
        let task = NonNull::new(self.head)?;
        // SAFETY: a task in this queue is allocated and its link is this CPU's.
        self.head = unsafe { next(task) };
        if self.head.is_null() {
            self.tail = ptr::null_mut();
        }
        Some(task)
    }
}

/// # Safety
/// The task is in a queue that belongs to this CPU.
#[inline]
unsafe fn next(task: NonNull<Header>) -> *mut Header {
    // SAFETY: as the caller says.
    unsafe { task.as_ref().next.with(|next| *next) }
}

/// # Safety
/// The task is in a queue that belongs to this CPU.
#[inline]
unsafe fn replace_next(task: NonNull<Header>, next: *mut Header) -> *mut Header {
    // SAFETY: as the caller says.
    unsafe { task.as_ref().next.with_mut(|link| link.replace(next)) }
}

/// What a seeded run needs beyond the order of arrival.
#[cfg(not(target_os = "none"))]
impl Fifo {
    /// How many tasks stand in the queue.
    pub(crate) fn len(&self) -> usize {
        let mut len = 0;
        let mut at = self.head;
        while let Some(task) = NonNull::new(at) {
            len += 1;
            // SAFETY: in this queue.
            at = unsafe { next(task) };
        }
        len
    }

    /// Takes the task that `index` others stand before.
    pub(crate) fn take_nth(&mut self, index: usize) -> Option<NonNull<Header>> {
        if index == 0 {
            return self.pop();
        }
        let mut before = NonNull::new(self.head)?;
        for _ in 1..index {
            // SAFETY: in this queue, as are all that follow.
            before = NonNull::new(unsafe { next(before) })?;
        }
        // SAFETY: as above; the link around the taken task joins its neighbours.
        unsafe {
            let task = NonNull::new(next(before))?;
            replace_next(before, next(task));
            if self.tail == task.as_ptr() {
                self.tail = before.as_ptr();
            }
            Some(task)
        }
    }
}
