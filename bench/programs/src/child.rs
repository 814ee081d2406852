//! Children of a case.

use linux_raw_sys::general::SIGKILL;

use crate::PAGE;
use crate::bench::{Failure, Outcome};
use crate::sys::{self, Access, Sharing};

/// A child that does `work` and exits, with 0 if that went well.
///
/// # Errors
/// It could not be made.
pub fn spawn(work: impl FnOnce() -> Outcome) -> Result<usize, Failure> {
    match sys::fork()? {
        Some(child) => Ok(child),
        None => sys::exit_group(i32::from(work().is_err())),
    }
}

/// Collects a child, which must have exited with 0.
///
/// # Errors
/// It did not.
#[inline(always)]
pub fn expect_exit(child: usize) -> Outcome {
    match sys::wait(child)? {
        0 => Ok(()),
        status => Err(Failure::Child(status)),
    }
}

/// Many children. Their numbers are in shared memory: noting one down makes no page that is a child's, too, into a copy.
#[derive(Debug)]
pub struct Children {
    numbers: &'static mut [usize],
    count: usize,
}

impl Children {
    /// None yet, with room for so many.
    ///
    /// # Errors
    /// No memory.
    pub fn with_room(room: usize) -> Result<Children, Failure> {
        let pages = (room * size_of::<usize>()).div_ceil(PAGE);
        let place = sys::map(pages, Access::ReadWrite, Sharing::Shared)?;
        // SAFETY: the mapping is that long, aligned to pages, zeroed, ours, and never unmapped.
        let numbers = unsafe { core::slice::from_raw_parts_mut(place.cast(), room) };
        Ok(Children { numbers, count: 0 })
    }

    /// As [`spawn`].
    ///
    /// # Errors
    /// It could not be made.
    pub fn spawn(&mut self, work: impl FnOnce() -> Outcome) -> Outcome {
        self.numbers[self.count] = spawn(work)?;
        self.count += 1;
        Ok(())
    }

    /// As [`expect_exit`], of all.
    ///
    /// # Errors
    /// One did not.
    pub fn expect_exits(self) -> Outcome {
        self.numbers[..self.count]
            .iter()
            .try_for_each(|number| expect_exit(*number))
    }

    /// Ends all that have not ended.
    pub fn kill(&self) {
        for number in &self.numbers[..self.count] {
            // It may have ended already.
            let _ = sys::kill(*number, SIGKILL);
        }
    }
}
