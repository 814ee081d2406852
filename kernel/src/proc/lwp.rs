//! An LWP's header: what others need of a thread while its own state is out of reach in its u-area.
//!
//! The header is resident, counted, and small: who it is, what it holds back, whether it must look up
//! before it goes on, how to wake it. Everything else of a thread is [`super::body::Current`], which
//! only the thread itself has.

use super::futex::FutexSeat;
use super::machine;
use super::pending::Pending;
use super::process::Process;
use super::resident::Resident;
use super::signal::{SigSet, Signal};
use super::swapin::Coming;
use super::table::Pid;
use super::usage::{Account, Times, Used};
use crate::fs::io::{Interrupted, Sleeper};
use alloc::sync::Arc;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::sync::atomic::{
    AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst,
};
use core::task::{Poll, Waker};
use executor::JoinHandle;
use executor::sync::{AtomicWaker, SpinLock};
use uvm::VmSpace;
use uvm::km::HeapRoom;
use uvm::uarea::Residence;

/// When the sleep of one began that does not sleep.
const AWAKE: u64 = 0;

/// The header.
pub struct Lwp {
    /// Changed by exec alone, when no other LWP is left.
    tid: AtomicU32,
    process: Arc<Process>,
    /// Signals for it alone. Locked after the process's.
    pending: SpinLock<Pending>,
    /// Signals that it takes by waiting for them, though it holds them back.
    awaited: AtomicU64,
    /// Where it waits for a futex.
    futex: FutexSeat,
    /// Signals held back. Written by the LWP itself alone.
    mask: AtomicU64,
    /// Something has been posted that the mask does not hold back: look before going on.
    attention: AtomicBool,
    waker: AtomicWaker,
    /// What each poll makes the CPU's address space; `None` once the LWP has let go of it.
    space: SpinLock<Option<Arc<VmSpace>>>,
    /// When its sleep began, or [`AWAKE`].
    asleep_since: AtomicU64,
    /// If its sleep needs nothing of what lies in the u-area: the size of the wait, in bytes, 1 at least; else 0. Written by the LWP itself alone.
    apart: AtomicU16,
    /// Its u-area.
    residence: Arc<Residence>,
    /// What polls it.
    task: SpinLock<Option<JoinHandle<()>>>,
    /// Its place among those that wait to come back into memory.
    pub(super) coming: Coming,
}

impl Lwp {
    pub(super) fn new(
        tid: Pid,
        process: Arc<Process>,
        space: Arc<VmSpace>,
        mask: SigSet,
        residence: Arc<Residence>,
        _room: &HeapRoom<'_>,
    ) -> Arc<Lwp> {
        Arc::new(Lwp {
            tid: AtomicU32::new(tid.0),
            process,
            pending: SpinLock::new(Pending::new()),
            awaited: AtomicU64::new(0),
            futex: FutexSeat::new(),
            mask: AtomicU64::new(mask.bits()),
            attention: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            space: SpinLock::new(Some(space)),
            asleep_since: AtomicU64::new(AWAKE),
            apart: AtomicU16::new(0),
            residence,
            task: SpinLock::new(None),
            coming: Coming::new(),
        })
    }

    /// Its number; the first LWP's is its process's.
    #[must_use]
    pub fn tid(&self) -> Pid {
        Pid(self.tid.load(Relaxed))
    }

    /// For the only LWP that exec has left.
    pub(super) fn set_tid(&self, tid: Pid) {
        self.tid.store(tid.0, Relaxed);
    }

    /// Signals that are for it alone.
    #[must_use]
    pub fn pending(&self) -> &SpinLock<Pending> {
        &self.pending
    }

    /// Where it waits for a futex.
    #[must_use]
    pub fn futex(&self) -> &FutexSeat {
        &self.futex
    }

    /// Says which signals, held back or not, end the wait that follows. For the LWP itself.
    pub fn set_awaited(&self, signals: SigSet) {
        self.awaited.store(signals.bits(), SeqCst);
        self.attention.store(true, SeqCst);
    }

    /// Whether a signal that is sent to its process could be its.
    pub(super) fn wants(&self, signal: Signal) -> bool {
        let awaited = SigSet::from_bits(self.awaited.load(SeqCst));
        !self.mask().contains(signal) || awaited.contains(signal)
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

    /// Changes what it holds back; pending signals that this lets through are looked at before ring 3, and what it would have taken may
    /// go to another. For the LWP itself.
    pub fn set_mask(&self, mask: SigSet) {
        let mask = mask.without(SigSet::UNMASKABLE);
        let before = SigSet::from_bits(self.mask.swap(mask.bits(), SeqCst));
        self.attention.store(true, SeqCst);
        if !mask.without(before).is_empty() {
            self.process.retarget(self.tid());
        }
    }

    /// Tells the LWP to look up before it goes back to ring 3, without ending what it awaits.
    pub(super) fn look_up(&self) {
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

    /// Whether a signal is pending that it does not hold back, or awaits, or it must end.
    #[must_use]
    pub fn interrupted(&self) -> bool {
        if !self.must_look() {
            return false;
        }
        let held_back = self
            .mask()
            .without(SigSet::from_bits(self.awaited.load(SeqCst)));
        !self.all_pending().without(held_back).is_empty() || self.must_leave()
    }

    /// All signals that wait for it, or for any LWP of its process.
    #[must_use]
    pub fn all_pending(&self) -> SigSet {
        let signals = self.process.signals().lock();
        signals.pending().union(self.pending.lock().set())
    }

    /// Whether it is to end, because its process does or another LWP wants to be alone.
    #[must_use]
    pub fn must_leave(&self) -> bool {
        self.process.threads().must_leave(self.tid())
    }

    /// Awaits `wait`, which only the end of the LWP breaks off.
    ///
    /// # Errors
    /// [`Interrupted`]: it must leave.
    pub(super) async fn sleep_to_the_end<T: Send>(
        &self,
        wait: impl Future<Output = T> + Send,
    ) -> Result<T, Interrupted> {
        self.sleep_unless(wait, || self.must_leave()).await
    }

    async fn sleep_unless<T: Send>(
        &self,
        wait: impl Future<Output = T> + Send,
        interrupted: impl Fn() -> bool,
    ) -> Result<T, Interrupted> {
        // What others reach meanwhile lies in no u-area.
        let mut wait = pin!(Resident::new(wait));
        poll_fn(|cx| {
            if let Poll::Ready(value) = wait.as_mut().poll(cx) {
                return Poll::Ready(Ok(value));
            }
            // Registered before the look: what is posted after the look wakes.
            self.waker.register(cx.waker());
            if interrupted() {
                Poll::Ready(Err(Interrupted))
            } else {
                let now = machine::now().max(AWAKE + 1);
                self.asleep_since.store(now, Relaxed);
                self.apart.store(wait.bytes_apart(), Relaxed);
                Poll::Pending
            }
        })
        .await
    }

    /// Since when it sleeps, as the machine's clock has it in nanoseconds; `None` while it runs, could run, or waits for memory or a disk.
    #[must_use]
    pub fn asleep_since(&self) -> Option<u64> {
        Some(self.asleep_since.load(Relaxed)).filter(|&since| since != AWAKE)
    }

    pub(super) fn set_space(&self, space: Option<Arc<VmSpace>>) {
        let _old = core::mem::replace(&mut *self.space.lock(), space);
    }

    /// Makes its address space this CPU's. Whether that worked: without memory for page tables that were put away it does not.
    #[inline]
    pub(super) fn activate(&self) -> bool {
        match &*self.space.lock() {
            Some(space) => {
                space.activate();
                space.is_active()
            }
            None => true,
        }
    }

    /// What each poll makes the CPU's address space; `None` once the LWP has let go of it.
    pub(super) fn space(&self) -> Option<Arc<VmSpace>> {
        self.space.lock().clone()
    }

    /// Its u-area.
    pub(super) fn residence(&self) -> &Arc<Residence> {
        &self.residence
    }

    /// Whether its u-area is in memory.
    #[must_use]
    pub fn is_in(&self) -> bool {
        self.residence.is_in()
    }

    /// Says what polls it.
    pub(super) fn set_task(&self, task: JoinHandle<()>) {
        *self.task.lock() = Some(task);
    }

    /// Whether it waits to be woken, and has not been.
    pub(super) fn is_idle(&self) -> bool {
        self.task.lock().as_ref().is_some_and(JoinHandle::is_idle)
    }

    /// Has it polled once more, which changes nothing in what it awaits. After [`Self::wants_poll`].
    pub(super) fn poll_again(&self) {
        self.waker.wake();
    }

    /// Says who is polled by [`Self::poll_again`].
    pub(super) fn wants_poll(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// A poll begins: it does not sleep.
    #[inline]
    pub(super) fn begin_poll(&self) {
        self.asleep_since.store(AWAKE, Relaxed);
        self.apart.store(0, Relaxed);
    }

    /// Whether the poll that ends left it in a swappable wait.
    #[inline]
    pub(super) fn may_rest(&self) -> bool {
        self.apart.load(Relaxed) != 0
    }

    /// Bytes of its swappable wait, if it is in one.
    pub(super) fn wait_bytes(&self) -> usize {
        usize::from(self.apart.load(Relaxed))
    }

    /// Ends a poll: adds what it has used, by its account, to its own count and to its process's. Gives the time.
    pub(super) fn charge(&self, account: &Account, now: u64) -> Times {
        let used = account.end(now);
        let used = self.with_memory(used);
        account.own().add(used);
        self.process.usage().add(used);
        self.process.cpu_timers().look(&self.process);
        used.times
    }

    /// Adds the faults of the poll under way. For the LWP itself, before somebody looks.
    pub(super) fn charge_faults(&self, account: &Account) {
        let faults = account.take_faults();
        let used = self.with_memory(Used {
            faults,
            ..Used::default()
        });
        account.own().add(used);
        self.process.usage().add(used);
    }

    /// After faults there may be more in memory than ever before.
    fn with_memory(&self, used: Used) -> Used {
        if used.faults.minor + used.faults.major == 0 {
            return used;
        }
        let resident = (self.space.lock().as_ref()).map_or(0, |space| space.resident_pages());
        Used {
            most_resident: resident as u64,
            ..used
        }
    }
}

/// The *swappable* wait: an LWP's long waits (for a child, a pipe's other end, a key, a time) all pass
/// here. It then holds no lock, busy page or I/O, and a signal ends it.
impl Sleeper for Lwp {
    async fn sleep<T: Send>(&self, wait: impl Future<Output = T> + Send) -> Result<T, Interrupted> {
        self.sleep_unless(wait, || self.interrupted()).await
    }
}
