//! Block I/O as uvm sees it: devices as a trait, requests over slots that exist since boot.
//!
//! Owns: the [`IoSlots`] of one `Uvm`, 256 of them, allocated when it is made, so that neither page-in nor
//! page-out ever allocates. Does not own: devices (the kernel wraps its drivers in [`BlockDevice`]), nor
//! the frames, which belong to whoever submitted the request.
//!
//! ```text
//!   free --acquire--> claimed --submit--> in flight --complete--> done --last handle dropped--> free
//! ```
//!
//! A slot has two handles while in flight: the device's [`PageIo`] and the submitter's [`Transfer`].
//! Either may go first. Dropping the waiter never cancels anything: the device still completes, what the
//! request finishes (pages of a page-in) is finished by the completion itself, and only then is the slot free again.
//! A [`PageIo`] that a device drops without completing counts as failed, so that nobody waits for ever.
//!
//! How long devices had requests is added up in [`DeviceTime`], so that what a fault spends in the kernel can be told from what it
//! waits for.
//!
//! Synchronisation: one spin lock per slot, held for a few instructions, one for the free list; both are
//! leaves of the lock order. Completions come from a Completion-class task, never from an interrupt.

use alloc::sync::Arc;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use core::task::{Context, Poll};

use arrayvec::ArrayVec;
use executor::sync::{AtomicWaker, WaitQueue};
use executor::{Executor, InFlight};

use crate::addr::{Frame, PAGE_SIZE};
use crate::lock::{self, LEAF, SpinLock};
use crate::object::vnode::PageIn;
use crate::swap::{SwapIn, pageout::WORKERS};

/// Requests that can be under way at once in one `Uvm`.
pub const IO_SLOTS: usize = 256;
/// Of these, so many are for page-out alone: without it no frame may ever be free again, and everybody else waits for frames.
const RESERVED: usize = WORKERS;
/// Pieces of memory in one request: a cluster of 16 pages.
pub const MAX_SEGMENTS: usize = 16;
/// Further device ranges that one request may go through, one after the other: a page on a file system of 512-byte
/// blocks has eight in all.
pub const MAX_CHAIN: usize = 7;

/// What a device is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Device to memory.
    Read,
    /// Memory to device.
    Write,
    /// All completed writes reach the medium.
    Flush,
    /// The range's content is no longer needed.
    Discard,
}

/// Part of a frame that takes part in a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The frame.
    pub frame: Frame,
    /// First byte within the frame.
    pub offset: u32,
    /// Bytes; does not run past the frame's end.
    pub len: u32,
}

impl Segment {
    /// A whole frame.
    #[must_use]
    pub const fn page(frame: Frame) -> Self {
        Self {
            frame,
            offset: 0,
            len: PAGE_SIZE as u32,
        }
    }

    /// Physical address of its first byte.
    #[must_use]
    pub fn phys(&self) -> u64 {
        self.frame.addr().as_u64() + u64::from(self.offset)
    }
}

/// Why a transfer failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IoError {
    /// The device could not do it.
    #[error("device error")]
    Device,
    /// The range lies beyond the device's end.
    #[error("beyond the end of the device")]
    OutOfRange,
    /// A write to a device that cannot be written.
    #[error("device is read-only")]
    ReadOnly,
    /// The file system's own data makes no sense.
    #[error("damaged file system")]
    Damaged,
}

/// What a device makes of [`Op::Discard`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discards {
    /// It fails.
    Unsupported,
    /// What is discarded, at most so many bytes at once, goes back to whoever the space belongs to.
    Useful(u64),
    /// It works, for at most so many bytes at once, and gains nothing: a disk in memory keeps its memory.
    Useless(u64),
}

/// A disk. Implemented by the kernel around a driver, and by the simulated disks.
pub trait BlockDevice: Send + Sync + 'static {
    /// Size in bytes.
    fn size(&self) -> u64;

    /// Whether writes fail.
    fn read_only(&self) -> bool;

    /// What it makes of a discard.
    fn discards(&self) -> Discards {
        Discards::Unsupported
    }

    /// Starts a request and returns at once. The device owns `io` until it calls
    /// [`PageIo::complete`], exactly once, from a task (never from within `start` with a lock of its own
    /// held). It has room for [`IO_SLOTS`] requests.
    fn start(&self, io: PageIo);
}

/// Device range and memory of one transfer.
#[derive(Clone, Debug)]
pub struct Request {
    /// What to do.
    pub op: Op,
    /// First byte on the device; a multiple of 512.
    pub offset: u64,
    /// Length on the device in bytes; for transfers the sum of the segments.
    pub len: u64,
    /// The memory, in order; empty for flush and discard.
    pub segments: ArrayVec<Segment, MAX_SEGMENTS>,
}

impl Request {
    /// A read or write of `segments` at `offset`.
    #[must_use]
    pub fn transfer(op: Op, offset: u64, segments: ArrayVec<Segment, MAX_SEGMENTS>) -> Self {
        let len = segments.iter().map(|s| u64::from(s.len)).sum();
        debug_assert!(len > 0, "a transfer of nothing");
        Self {
            op,
            offset,
            len,
            segments,
        }
    }

    /// Becomes a read or write of `segments` (at most [`MAX_SEGMENTS`]) at `offset`, in place: a request is too large to be moved about for each
    /// page.
    pub(crate) fn fill(
        &mut self,
        op: Op,
        offset: u64,
        segments: impl IntoIterator<Item = Segment>,
    ) {
        (self.op, self.offset, self.len) = (op, offset, 0);
        self.segments.clear();
        for segment in segments {
            self.len += u64::from(segment.len);
            self.segments.push(segment);
        }
        debug_assert!(self.len > 0, "a transfer of nothing");
    }

    /// The content of `len` bytes from `offset` on is no longer needed.
    #[must_use]
    pub const fn discard(offset: u64, len: u64) -> Self {
        Self {
            op: Op::Discard,
            offset,
            len,
            segments: ArrayVec::new_const(),
        }
    }
}

/// One block of a page that is read in several pieces.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// First byte on the device.
    pub offset: u64,
    /// Where it goes.
    pub segment: Segment,
}

/// What a completion has to finish, besides telling the waiter.
pub(crate) enum Finish {
    /// Nothing: the waiter owns the frames.
    Waiter,
    /// Pages of a file.
    PageIn(PageIn),
    /// Pages from swap.
    SwapIn(SwapIn),
}

/// What is to be done with a claimed slot.
pub(crate) struct Order {
    pub(crate) request: Request,
    /// Ranges still to be read after `request`, last first.
    pub(crate) chain: ArrayVec<Piece, MAX_CHAIN>,
    /// What the end of it finishes; nobody need wait.
    pub(crate) finish: Finish,
}

struct SlotState {
    order: Order,
    device: Option<Arc<dyn BlockDevice>>,
    result: Option<Result<(), IoError>>,
    /// When the device got it, in nanoseconds.
    started: u64,
    /// Handles that keep the slot from being reused: the device's, the waiter's.
    handles: u8,
    /// Where the slot goes back to. Empty while it is free, so that slots and table are no cycle.
    home: Option<Arc<Shared>>,
    /// Tells the executor that something can still happen.
    in_flight: Option<InFlight>,
}

struct Slot {
    state: SpinLock<SlotState, LEAF>,
    waiter: AtomicWaker,
}

struct Shared {
    slots: SpinLock<ArrayVec<Arc<Slot>, IO_SLOTS>, LEAF>,
    waiting: WaitQueue,
    executor: Arc<Executor>,
    requests: AtomicU64,
    device_ns: AtomicU64,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
}

/// What devices have done since boot. Only ever grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceTime {
    /// Requests that have ended; all pieces of a page are one.
    pub requests: u64,
    /// Nanoseconds between start and completion, added up over requests: more than has passed if several were under way
    /// at once. The completion is the driver's task telling of it, not yet the waiter running.
    pub ns: u64,
}

/// The request slots of one machine.
pub struct IoSlots {
    shared: Arc<Shared>,
}

/// A claimed slot, not yet submitted. Dropping it frees the slot.
#[must_use = "a claimed slot is to be submitted"]
pub struct Claim {
    slot: Option<Arc<Slot>>,
}

/// A request in the hands of a device: the right, and the duty, to complete it.
///
/// Holding it does not prove that anyone still waits for the result.
#[must_use = "a device must complete what it was given"]
pub struct PageIo {
    slot: Option<Arc<Slot>>,
}

/// Awaits the end of a transfer. Dropping it does not cancel anything.
#[must_use = "futures do nothing unless awaited"]
pub struct Transfer {
    slot: Option<Arc<Slot>>,
}

impl Request {
    fn empty() -> Self {
        Self {
            op: Op::Flush,
            offset: 0,
            len: 0,
            segments: ArrayVec::new(),
        }
    }
}

impl IoSlots {
    /// All slots, free. Allocates; called once, at boot.
    #[must_use]
    pub(crate) fn new(executor: Arc<Executor>) -> Self {
        let slots = (0..IO_SLOTS)
            .map(|_| {
                Arc::new(Slot {
                    state: SpinLock::new(SlotState {
                        order: Order {
                            request: Request::empty(),
                            chain: ArrayVec::new(),
                            finish: Finish::Waiter,
                        },
                        device: None,
                        result: None,
                        started: 0,
                        handles: 0,
                        home: None,
                        in_flight: None,
                    }),
                    waiter: AtomicWaker::new(),
                })
            })
            .collect();
        Self {
            shared: Arc::new(Shared {
                slots: SpinLock::new(slots),
                waiting: WaitQueue::new("I/O slot"),
                executor,
                requests: AtomicU64::new(0),
                device_ns: AtomicU64::new(0),
                under_way: AtomicUsize::new(0),
                most_under_way: AtomicUsize::new(0),
            }),
        }
    }

    /// What devices have done since boot. A request counts before anyone hears that it has ended.
    #[must_use]
    pub fn device_time(&self) -> DeviceTime {
        DeviceTime {
            requests: self.shared.requests.load(Relaxed),
            ns: self.shared.device_ns.load(Relaxed),
        }
    }

    /// Requests that devices have now; all pieces of a page are one.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.shared.under_way.load(Relaxed)
    }

    /// The most requests that devices ever had at once.
    #[must_use]
    pub fn most_under_way(&self) -> usize {
        self.shared.most_under_way.load(Relaxed)
    }

    /// Takes a slot if one is free. Those that page-out may need are not.
    pub fn try_claim(&self) -> Option<Claim> {
        self.try_take(RESERVED)
    }

    /// Takes a slot if that leaves so many.
    fn try_take(&self, leaves: usize) -> Option<Claim> {
        let slot = {
            let mut slots = self.shared.slots.lock();
            if slots.len() <= leaves {
                return None;
            }
            slots.pop()?
        };
        slot.state.lock().home = Some(self.shared.clone());
        Some(Claim { slot: Some(slot) })
    }

    /// Awaits a slot, in order of arrival. The caller holds no busy page that a completion needs.
    pub async fn claim(&self) -> Claim {
        lock::assert_none_held("waiting for an I/O slot");
        self.shared.waiting.wait_until(|| self.try_claim()).await
    }

    /// The same for a worker of the page-out, which has one request at a time: for each there is a slot that nobody else gets.
    pub(crate) async fn claim_to_write(&self) -> Claim {
        lock::assert_none_held("waiting for an I/O slot");
        self.shared.waiting.wait_until(|| self.try_take(0)).await
    }

    /// Slots that nobody uses.
    #[must_use]
    pub fn free(&self) -> usize {
        self.shared.slots.lock().len()
    }

    /// One transfer of the caller's own frames, from claim to end. The frames stay the caller's and must stay
    /// allocated until the future has ended.
    ///
    /// # Errors
    /// What the device reports.
    pub async fn transfer(
        &self,
        device: &Arc<dyn BlockDevice>,
        request: Request,
    ) -> Result<(), IoError> {
        self.claim().await.submit(device, request).await
    }
}

impl Claim {
    /// Starts the request; await the result. Never waits itself.
    pub fn submit(self, device: &Arc<dyn BlockDevice>, request: Request) -> Transfer {
        self.start(device, |order| order.request = request)
    }

    /// Starts what `fill` makes of an order with an old request, no chain and nothing to finish. It is called with the slot locked, and
    /// takes no lock itself.
    pub(crate) fn start(
        mut self,
        device: &Arc<dyn BlockDevice>,
        fill: impl FnOnce(&mut Order),
    ) -> Transfer {
        let slot = self.slot.take().expect("a claim has its slot");
        {
            let mut state = slot.state.lock();
            let in_flight = state.home.as_ref().map(|home| home.executor.in_flight());
            let started = state.home.as_ref().map_or(0, |home| {
                let now = home.under_way.fetch_add(1, Relaxed) + 1;
                home.most_under_way.fetch_max(now, Relaxed);
                home.executor.now()
            });
            debug_assert!(state.order.chain.is_empty(), "the slot was free");
            fill(&mut state.order);
            state.device = Some(device.clone());
            state.result = None;
            state.started = started;
            state.handles = 2;
            state.in_flight = in_flight;
        }
        start_on(
            device,
            PageIo {
                slot: Some(slot.clone()),
            },
        );
        Transfer { slot: Some(slot) }
    }
}

/// Hands the request to its device, unless it is nonsense.
fn start_on(device: &Arc<dyn BlockDevice>, io: PageIo) {
    let (op, end) = io.with_request(|r| (r.op, r.offset.checked_add(r.len)));
    if end.is_none_or(|end| end > device.size()) {
        io.complete(Err(IoError::OutOfRange));
    } else if device.read_only() && op != Op::Read {
        io.complete(Err(IoError::ReadOnly));
    } else {
        device.start(io);
    }
}

impl PageIo {
    fn with<T>(&self, f: impl FnOnce(&SlotState) -> T) -> T {
        let slot = self.slot.as_ref().expect("not completed yet");
        f(&slot.state.lock())
    }

    /// A copy of what to transfer. A driver that is to be quick reads it in place: [`Self::with_request`].
    #[must_use]
    pub fn request(&self) -> Request {
        self.with_request(Request::clone)
    }

    /// What `f` makes of the request. The slot is locked meanwhile: `f` takes no lock and does not complete anything.
    pub fn with_request<T>(&self, f: impl FnOnce(&Request) -> T) -> T {
        self.with(|state| f(&state.order.request))
    }

    /// Ends the request. Finishes its pages and wakes its waiter. Called from a Completion-class task.
    pub fn complete(mut self, result: Result<(), IoError>) {
        if let Some(slot) = self.slot.take() {
            finish(slot, result);
        }
    }

    /// Turns it into a number for a driver's completion token. [`Self::from_token`] is the way back; a token that
    /// is never turned back is a request that never ends.
    #[must_use]
    pub fn into_token(mut self) -> usize {
        Arc::into_raw(self.slot.take().expect("not completed yet")) as usize
    }

    /// The way back from [`Self::into_token`].
    ///
    /// # Safety
    /// `token` came from `into_token` and is used only once.
    pub unsafe fn from_token(token: usize) -> Self {
        // SAFETY: by the caller's promise this undoes one `into_raw`.
        let slot = unsafe { Arc::from_raw(token as *const Slot) };
        Self { slot: Some(slot) }
    }
}

impl Drop for PageIo {
    fn drop(&mut self) {
        // A driver that lost the request: whoever waits must hear of it.
        if let Some(slot) = self.slot.take() {
            finish(slot, Err(IoError::Device));
        }
    }
}

impl fmt::Debug for PageIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_request(|r| write!(f, "PageIo({:?} {} bytes at {})", r.op, r.len, r.offset))
    }
}

/// The completion: next piece of the chain, or the end.
fn finish(slot: Arc<Slot>, result: Result<(), IoError>) {
    let mut state = slot.state.lock();
    if result.is_ok()
        && let Some(piece) = state.order.chain.pop()
        && let Some(device) = state.device.clone()
    {
        state
            .order
            .request
            .fill(Op::Read, piece.offset, [piece.segment]);
        drop(state);
        start_on(&device, PageIo { slot: Some(slot) });
        return;
    }
    state.order.chain.clear();
    let what = core::mem::replace(&mut state.order.finish, Finish::Waiter);
    let device = state.device.take();
    let in_flight = state.in_flight.take();
    if let Some(home) = &state.home {
        let took = home.executor.now().saturating_sub(state.started);
        home.device_ns.fetch_add(took, Relaxed);
        home.requests.fetch_add(1, Relaxed);
        home.under_way.fetch_sub(1, Relaxed);
    }
    drop(state);
    // Pages first: whoever is woken below must find them finished.
    match what {
        Finish::Waiter => {}
        Finish::PageIn(pages) => pages.finish(result),
        Finish::SwapIn(pages) => pages.finish(result),
    }
    slot.state.lock().result = Some(result);
    slot.waiter.wake();
    release(slot);
    drop(in_flight);
    drop(device);
}

/// Drops one handle; with the last one the slot is free.
fn release(slot: Arc<Slot>) {
    let mut state = slot.state.lock();
    state.handles = state.handles.saturating_sub(1);
    if state.handles > 0 {
        return;
    }
    let home = state.home.take();
    drop(state);
    if let Some(home) = home {
        home.slots.lock().push(slot);
        home.waiting.wake_one();
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            release(slot);
        }
    }
}

impl Future for Transfer {
    type Output = Result<(), IoError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        lock::assert_none_held("waiting for a transfer");
        let slot = self.slot.as_ref().expect("polled after it was ready");
        slot.waiter.register(cx.waker());
        let Some(result) = slot.state.lock().result else {
            return Poll::Pending;
        };
        if let Some(slot) = self.slot.take() {
            release(slot);
        }
        Poll::Ready(result)
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            release(slot);
        }
    }
}
