//! The list of all tasks that are not done: for the dump, and to count.

use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering::Relaxed;

use super::header::Header;
use crate::shim::UnsafeCell;

/// A task's place in the list; belongs to the lock around the [`TaskList`].
pub(crate) struct Links(UnsafeCell<Neighbours>);

#[derive(Clone, Copy)]
struct Neighbours {
    before: *mut Header,
    after: *mut Header,
}

impl Links {
    pub(crate) fn new() -> Self {
        Self(UnsafeCell::new(Neighbours {
            before: ptr::null_mut(),
            after: ptr::null_mut(),
        }))
    }
}

/// In the order of spawning, which is also that of the tasks' numbers.
pub(crate) struct TaskList {
    first: *mut Header,
    last: *mut Header,
    next_id: u64,
}

// SAFETY: the headers in the list may be used from any CPU.
unsafe impl Send for TaskList {}

impl TaskList {
    pub(crate) const fn new() -> Self {
        Self {
            first: ptr::null_mut(),
            last: ptr::null_mut(),
            next_id: 1,
        }
    }

    /// Appends a task and numbers it.
    ///
    /// # Safety
    /// The task is in no list, and stays allocated until it is removed from this one.
    pub(crate) unsafe fn append(&mut self, task: NonNull<Header>) {
        // SAFETY: allocated, as the caller says, like all in the list; `&mut self` is the lock.
        unsafe {
            task.as_ref().id.store(self.next_id, Relaxed);
            self.next_id += 1;
            set(task, |links| links.before = self.last);
            match NonNull::new(self.last) {
                Some(last) => set(last, |links| links.after = task.as_ptr()),
                None => self.first = task.as_ptr(),
            }
        }
        self.last = task.as_ptr();
    }

    /// Takes a task out.
    ///
    /// # Safety
    /// The task is in this list.
    pub(crate) unsafe fn remove(&mut self, task: NonNull<Header>) {
        // SAFETY: allocated, like all in the list; `&mut self` is the lock.
        unsafe {
            let links = get(task);
            match NonNull::new(links.before) {
                Some(before) => set(before, |at| at.after = links.after),
                None => self.first = links.after,
            }
            match NonNull::new(links.after) {
                Some(after) => set(after, |at| at.before = links.before),
                None => self.last = links.before,
            }
        }
    }

    /// The oldest task.
    pub(crate) fn first(&self) -> Option<NonNull<Header>> {
        NonNull::new(self.first)
    }

    /// The tasks numbered above `id`, oldest first.
    pub(crate) fn after(&self, id: u64) -> impl Iterator<Item = NonNull<Header>> {
        // SAFETY: allocated, like all in the list; the borrow of `self` is the lock.
        core::iter::successors(self.first(), |task| unsafe {
            NonNull::new(get(*task).after)
        })
        // SAFETY: as above.
        .skip_while(move |task| unsafe { task.as_ref() }.id.load(Relaxed) <= id)
    }
}

/// # Safety
/// The task is allocated and the caller holds the list's lock.
unsafe fn get(task: NonNull<Header>) -> Neighbours {
    // SAFETY: as the caller says.
    unsafe { task.as_ref().links.0.with(|links| *links) }
}

/// # Safety
/// The task is allocated and the caller holds the list's lock.
unsafe fn set(task: NonNull<Header>, change: impl FnOnce(&mut Neighbours)) {
    // SAFETY: as the caller says.
    unsafe { task.as_ref().links.0.with_mut(|links| change(&mut *links)) }
}
