//! At most two machines at once, over all test processes of this host.
//!
//! A slot is a lock on a file, so it comes free however its holder ends.

use std::fs::{File, TryLockError};
use std::time::Duration;

/// Machines that may run at the same time.
const SLOTS: usize = 2;

/// The right to run a machine, until dropped.
#[derive(Debug)]
pub struct Slot {
    /// Closing it gives the slot back.
    _file: File,
}

/// Waits for a free slot.
pub fn take() -> Slot {
    let directory = crate::workspace()
        .target_dir("test-slots")
        .expect("a directory can be made");
    loop {
        for slot in 0..SLOTS {
            let file =
                File::create(directory.join(slot.to_string())).expect("a lock file can be made");
            match file.try_lock() {
                Ok(()) => return Slot { _file: file },
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => {
                    panic!("the lock file cannot be locked: {error}")
                }
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
