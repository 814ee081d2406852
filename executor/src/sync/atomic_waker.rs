//! A slot for one waker that an interrupt handler may wake.

use core::task::Waker;

use crate::shim::UnsafeCell;
use crate::shim::atomic::AtomicUsize;
use crate::shim::atomic::Ordering::{AcqRel, Acquire, Release};
use crate::shim::const_fn;

/// Nobody uses the slot.
const REST: usize = 0;
/// [`AtomicWaker::register`] writes the slot.
const REGISTERING: usize = 0b01;
/// [`AtomicWaker::wake`] reads the slot, or came while it was written.
const WAKING: usize = 0b10;

/// One task waits, anyone wakes, interrupt handlers included.
///
/// The task registers **first** and looks at what it waits for **afterwards**; the waker changes that
/// first and then wakes. Then no wake is lost.
///
/// Unlike the type of the same name in `futures`, waking leaves the waker where it is: taking it out
/// would drop a reference, perhaps the last one, and free memory inside an interrupt handler. So a
/// task is also woken, to no harm, after it stopped waiting.
pub struct AtomicWaker {
    state: AtomicUsize,
    waker: UnsafeCell<Option<Waker>>,
}

// SAFETY: the slot is written only by who moved `state` from REST to REGISTERING and read only by who
// moved it from REST to WAKING, and `Waker` is `Send + Sync`.
unsafe impl Send for AtomicWaker {}
// SAFETY: as above.
unsafe impl Sync for AtomicWaker {}

impl AtomicWaker {
    const_fn! {
        /// An empty slot.
        pub const fn new() -> Self {
            Self {
                state: AtomicUsize::new(REST),
                waker: UnsafeCell::new(None),
            }
        }
    }

    /// Puts the waker of the task that waits into the slot. One task at a time, in each poll, before it
    /// looks at what it waits for. Not from an interrupt handler: it may drop the waker of before.
    pub fn register(&self, waker: &Waker) {
        match self
            .state
            .compare_exchange(REST, REGISTERING, AcqRel, Acquire)
        {
            Ok(_) => {
                // SAFETY: REST -> REGISTERING gave this call the slot.
                let old = self.waker.with_mut(|slot| unsafe { replace(slot, waker) });
                if self
                    .state
                    .compare_exchange(REGISTERING, REST, AcqRel, Acquire)
                    .is_err()
                {
                    // A wake came in between and left the waking to us.
                    self.state.swap(REST, AcqRel);
                    waker.wake_by_ref();
                }
                drop(old);
            }
            // The slot is being woken: the waker in it may be an old one, so look again.
            Err(_) => waker.wake_by_ref(),
        }
    }

    /// Wakes the registered task, if any. From anywhere, interrupt handlers included: takes no lock,
    /// neither allocates nor frees.
    pub fn wake(&self) {
        if self.state.fetch_or(WAKING, AcqRel) != REST {
            // Who is registering, or waking, sees our bit or comes after what we did.
            return;
        }
        self.waker.with(|slot| {
            // SAFETY: REST -> WAKING gave this call the slot.
            if let Some(waker) = unsafe { &*slot } {
                waker.wake_by_ref();
            }
        });
        self.state.fetch_and(!WAKING, Release);
    }
}

/// Puts a clone of `waker` into the slot, unless the one in it wakes the same task.
///
/// # Safety
/// The caller has the slot to itself.
unsafe fn replace(slot: *mut Option<Waker>, waker: &Waker) -> Option<Waker> {
    // SAFETY: as the caller says.
    let slot = unsafe { &mut *slot };
    match slot {
        Some(old) if old.will_wake(waker) => None,
        _ => slot.replace(waker.clone()),
    }
}

impl Default for AtomicWaker {
    fn default() -> Self {
        Self::new()
    }
}
