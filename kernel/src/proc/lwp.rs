//! An LWP's header: what others need of a thread while its own state is out of reach in its u-area.
//!
//! The header is resident, counted, and small: who it is, what it holds back, whether it must look up
//! before it goes on, how to wake it. Everything else of a thread is [`super::body::Current`], which
//! only the thread itself has.

use super::process::{Process, Times};
use super::signal::SigSet;
use super::table::Pid;
use crate::fs::io::{Interrupted, Sleeper};
use alloc::sync::Arc;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use core::task::Poll;
use executor::sync::{AtomicWaker, SpinLock};
use uvm::VmSpace;
use uvm::km::HeapRoom;

/// The header.
pub struct Lwp {
    tid: Pid,
    process: Arc<Process>,
    /// Signals held back. Written by the LWP itself alone.
    mask: AtomicU64,
    /// Something has been posted that the mask does not hold back: look before going on.
    attention: AtomicBool,
    waker: AtomicWaker,
    /// What each poll makes the CPU's address space; `None` once the LWP has let go of it.
    space: SpinLock<Option<Arc<VmSpace>>>,
    /// Time in ring 3 since the executor was told last, in nanoseconds. Written by the LWP itself alone.
    user_time: AtomicU64,
}

impl Lwp {
    pub(super) fn new(
        tid: Pid,
        process: Arc<Process>,
        space: Arc<VmSpace>,
        mask: SigSet,
        _room: &HeapRoom<'_>,
    ) -> Arc<Lwp> {
        Arc::new(Lwp {
            tid,
            process,
            mask: AtomicU64::new(mask.bits()),
            attention: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            space: SpinLock::new(Some(space)),
            user_time: AtomicU64::new(0),
        })
    }

    /// Its number; the first LWP's is its process's.
    #[must_use]
    pub fn tid(&self) -> Pid {
        self.tid
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// The signals that it holds back.
    #[must_use]
    pub fn mask(&self) -> SigSet {
        SigSet::from_bits(self.mask.load(SeqCst))
    }

    /// Changes what it holds back; pending signals that this lets through are looked at before ring 3.
    /// For the LWP itself.
    pub fn set_mask(&self, mask: SigSet) {
        self.mask
            .store(mask.without(SigSet::UNMASKABLE).bits(), SeqCst);
        self.attention.store(true, SeqCst);
    }

    /// Tells the LWP to look at its signals, and ends its interruptible wait.
    pub(super) fn notify(&self) {
        self.attention.store(true, SeqCst);
        self.waker.wake();
    }

    /// Whether the LWP must look at its signals before it goes back to ring 3: one load, for the hot path.
    #[inline]
    #[must_use]
    pub(super) fn must_look(&self) -> bool {
        self.attention.load(Relaxed)
    }

    /// Starts a look at the signals: what is posted from now on asks for another.
    pub(super) fn look(&self) {
        self.attention.store(false, SeqCst);
    }

    /// Whether a signal is pending that is not held back.
    #[must_use]
    pub fn interrupted(&self) -> bool {
        self.must_look()
            && !self
                .process
                .signals()
                .lock()
                .pending()
                .without(self.mask())
                .is_empty()
    }

    pub(super) fn set_space(&self, space: Option<Arc<VmSpace>>) {
        let _old = core::mem::replace(&mut *self.space.lock(), space);
    }

    /// Makes its address space this CPU's.
    pub(super) fn activate(&self) {
        if let Some(space) = &*self.space.lock() {
            space.activate();
        }
    }

    /// Adds time spent in ring 3. For the LWP itself.
    #[inline]
    pub(super) fn add_user_time(&self, ns: u64) {
        // One writer: a load and a store do, and no locked instruction is on the hot path.
        self.user_time
            .store(self.user_time.load(Relaxed) + ns, Relaxed);
    }

    /// Takes the time spent in ring 3 since the last call: for the poll that ends.
    pub(super) fn take_user_time(&self) -> u64 {
        self.user_time.swap(0, Relaxed)
    }

    /// Adds one poll's times to the process's.
    pub(super) fn charge(&self, times: Times) {
        self.process.usage().add(times);
    }
}

/// The *swappable* wait: an LWP's long waits (for a child, a pipe's other end, a key, a time) all pass
/// here. It then holds no lock, busy page or I/O, and a signal ends it.
impl Sleeper for Lwp {
    async fn sleep<T: Send>(&self, wait: impl Future<Output = T> + Send) -> Result<T, Interrupted> {
        let mut wait = pin!(wait);
        poll_fn(|cx| {
            if let Poll::Ready(value) = wait.as_mut().poll(cx) {
                return Poll::Ready(Ok(value));
            }
            // Registered before the look: what is posted after the look wakes.
            self.waker.register(cx.waker());
            if self.interrupted() {
                Poll::Ready(Err(Interrupted))
            } else {
                Poll::Pending
            }
        })
        .await
    }
}
