//! Threads of a case, without anything around them that a library would put there.

use core::sync::atomic::{AtomicU32, Ordering::Acquire};

use crate::PAGE;
use crate::bench::Failure;
use crate::sys::{self, Access, Errno, Sharing};

/// Pages of a thread's stack.
const STACK: usize = 4;

/// Memory that one thread at a time runs in.
#[derive(Debug)]
pub struct Room {
    stack: *mut u8,
    /// The thread's number while there is one.
    tid: AtomicU32,
}

impl Room {
    /// Its pages are there already.
    ///
    /// # Errors
    /// No memory.
    pub fn new() -> Result<Room, Failure> {
        let stack = sys::map(STACK, Access::ReadWrite, Sharing::Private)?;
        for page in 0..STACK {
            // SAFETY: inside the new mapping, which nobody else knows.
            unsafe { stack.add(page * PAGE).write_volatile(1) };
        }
        let tid = AtomicU32::new(0);
        Ok(Room { stack, tid })
    }

    /// Starts a thread, which must have been joined before the room is used again, moved or forgotten.
    ///
    /// # Safety
    /// `argument` is good for the thread as long as it runs; `begin` ends in [`sys::exit_thread`].
    ///
    /// # Errors
    /// The kernel's.
    #[inline(always)]
    pub unsafe fn start(
        &self,
        begin: extern "C" fn(*mut ()) -> !,
        argument: *mut (),
    ) -> Result<(), Errno> {
        // SAFETY: the stack's end is a page boundary, and the last thread that used it was joined.
        unsafe {
            let end = self.stack.add(STACK * PAGE);
            sys::thread(begin, argument, end, self.tid.as_ptr())?;
        }
        Ok(())
    }

    /// Waits for the end of the thread.
    #[inline(always)]
    pub fn join(&self) {
        loop {
            match self.tid.load(Acquire) {
                0 => break,
                // The kernel wakes without the private flag. That the word has changed is an answer too.
                tid => drop(sys::futex_wait(self.tid.as_ptr(), tid, Sharing::Shared)),
            }
        }
    }
}
