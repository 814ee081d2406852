//! Where many tasks, processes or threads, wait for each other.

use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

use crate::bench::{Failure, Outcome};
use crate::sys::{self, Access, Sharing};

/// How often it is looked whether a child has ended that should arrive.
const LOOK_MS: u64 = 5000;

/// A gate that opens once. Those who pass it sleep until then; whoever opens it can wait until all are there.
#[derive(Debug)]
pub struct Gate {
    expected: AtomicU32,
    arrived: AtomicU32,
    /// 1 when all have arrived.
    full: AtomicU32,
    /// 1 when it is open.
    open: AtomicU32,
}

impl Gate {
    /// A gate for so many tasks, in memory that children share. It stays for good.
    ///
    /// # Errors
    /// No memory.
    pub fn new(expected: usize) -> Result<&'static Gate, Failure> {
        let place = sys::map(1, Access::ReadWrite, Sharing::Shared)?;
        // SAFETY: a new page of zeroes, which is a gate for nobody; it is never unmapped.
        let gate: &Gate = unsafe { &*place.cast() };
        gate.expected.store(expected as u32, SeqCst);
        Ok(gate)
    }

    /// Arrives, and sleeps until the gate is open.
    pub fn pass(&self) {
        if self.arrived.fetch_add(1, SeqCst) + 1 == self.expected.load(SeqCst) {
            set(&self.full);
        }
        sleep_until_set(&self.open);
    }

    /// Sleeps until all have arrived, threads or children.
    ///
    /// # Errors
    /// One of them has ended instead.
    pub fn gather(&self) -> Outcome {
        while self.full.load(SeqCst) == 0 {
            // That it was set meanwhile is no error.
            let _ = sys::futex_wait_for(self.full.as_ptr(), 0, Sharing::Shared, LOOK_MS);
            if self.full.load(SeqCst) == 0
                && let Ok(Some(status)) = sys::ended_child()
            {
                return Err(Failure::Child(status));
            }
        }
        Ok(())
    }

    /// Lets all pass, now and later.
    pub fn open(&self) {
        set(&self.open);
    }
}

fn set(word: &AtomicU32) {
    word.store(1, SeqCst);
    // That nobody sleeps there is no error.
    let _ = sys::futex_wake_all(word.as_ptr(), Sharing::Shared);
}

fn sleep_until_set(word: &AtomicU32) {
    while word.load(SeqCst) == 0 {
        // That it was set meanwhile is no error.
        let _ = sys::futex_wait(word.as_ptr(), 0, Sharing::Shared);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_arrive_before_any_passes() {
        let gate = Gate::new(2).unwrap();
        let passed = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    gate.pass();
                    passed.fetch_add(1, SeqCst);
                });
            }
            gate.gather().unwrap();
            assert_eq!(passed.load(SeqCst), 0);
            gate.open();
        });
        assert_eq!(passed.load(SeqCst), 2);
    }
}
