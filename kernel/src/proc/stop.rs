//! Whether a process is stopped.
//!
//! A stop is the process's, not a thread's: the thread that takes a stopping signal begins it, and each thread
//! waits in it on its own way back to ring 3, wherever it was when it began. SIGCONT and SIGKILL end it, from any task.

use core::sync::atomic::{AtomicU8, Ordering::SeqCst};
use executor::sync::WaitQueue;

const GOING: u8 = 0;
const STOPPED: u8 = 1;
const KILLED: u8 = 2;

/// How a stop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// By SIGCONT.
    Continued,
    /// By SIGKILL: nobody is told that it goes on, for it does not.
    Killed,
}

/// Going, stopped, or stopped and killed: then it never stops again.
pub struct Stop {
    state: AtomicU8,
}

impl Stop {
    /// Not stopped.
    pub(super) fn new() -> Stop {
        Stop {
            state: AtomicU8::new(GOING),
        }
    }

    /// Begins a stop. Called under the lock of the signals, so that one posted later ends it. Other threads of the process must then
    /// be told to look, as by a signal.
    pub(super) fn begin(&self) {
        // One that was killed does not stop any more: the failure is that.
        let _ = self.state.compare_exchange(GOING, STOPPED, SeqCst, SeqCst);
    }

    /// Whether threads must wait.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.state.load(SeqCst) == STOPPED
    }

    /// Ends a stop, if there is one. Who waits in it is woken by the caller, afterwards.
    pub(super) fn end(&self, how: Over) {
        match how {
            Over::Continued => {
                // Not stopped, or killed: then nothing changes.
                let _ = self.state.compare_exchange(STOPPED, GOING, SeqCst, SeqCst);
            }
            Over::Killed => self.state.store(KILLED, SeqCst),
        }
    }

    /// Awaits the end of the stop, in the queue that is woken then. For the process's own threads.
    pub(super) async fn until_over(&self, queue: &WaitQueue) -> Over {
        let look = || match self.state.load(SeqCst) {
            STOPPED => None,
            KILLED => Some(Over::Killed),
            _ => Some(Over::Continued),
        };
        queue.wait_until(look).labelled("SIGCONT").await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::pin::pin;
    use futures_util::FutureExt;

    #[test]
    fn a_stop_lasts_until_it_is_ended() {
        let (stop, queue) = (Stop::new(), WaitQueue::new("a stop"));
        assert_eq!(
            stop.until_over(&queue).now_or_never(),
            Some(Over::Continued)
        );
        stop.begin();
        assert!(stop.is_on());
        let (mut one, mut other) = (pin!(stop.until_over(&queue)), pin!(stop.until_over(&queue)));
        assert_eq!(one.as_mut().now_or_never(), None);
        assert_eq!(other.as_mut().now_or_never(), None);
        stop.end(Over::Continued);
        assert_eq!(one.now_or_never(), Some(Over::Continued));
        assert_eq!(other.now_or_never(), Some(Over::Continued), "every thread");
    }

    #[test]
    fn the_killed_never_stop_again() {
        let (stop, queue) = (Stop::new(), WaitQueue::new("a stop"));
        stop.begin();
        stop.end(Over::Killed);
        stop.begin();
        assert!(!stop.is_on());
        stop.end(Over::Continued);
        assert_eq!(stop.until_over(&queue).now_or_never(), Some(Over::Killed));
    }
}
