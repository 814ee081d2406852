//! Free frames: who gets the last ones, and how most allocations touch no shared lock.
//!
//! # What this owns
//! Every frame whose page has the FREE flag. They are on one of two global lists (zeroed, dirty) or in a
//! CPU's *magazine*: up to [`MAGAZINE`] zeroed and as many dirty frames, refilled from and flushed to
//! the lists half a magazine at a time.
//!
//! # Reserves
//! One frame is for the pagedaemon alone and five more for the kernel (UVM's numbers). Magazines
//! must not blur that: when the global lists fall to [`SCARCE`] frames a machine-wide *scarce* mode begins:
//! all magazines are emptied into the lists, and until there is twice as much again every allocation
//! and every free goes through the lock, one frame at a time, where the count is exact. A magazine
//! holds frames only while there are more than enough. So ordinary allocation fails exactly when no more than the
//! reserves are left, and the hot path needs no test for it: in scarce mode the magazine is empty.
//!
//! # How it synchronises
//! A lock for each magazine, taken by its CPU (never contended) and by whoever empties it; then the lock of
//! the lists. Order: magazine, lists. `alloc` never waits; who wants to wait uses [`Uvm::wait_for_free`].

use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use arrayvec::ArrayVec;
use crate::exec::{SpinLock, WaitQueue};

use crate::Uvm;
use crate::addr::{Frame, PAGE_SIZE};
use crate::meter::{Counter, Gauge};
use crate::page::{NIL, Page, PageAttrs, PageFlags};

/// Frames that only the pagedaemon may take.
pub const RESERVE_PAGEDAEMON: usize = 1;
/// Frames that only the kernel and the pagedaemon may take.
pub const RESERVE_KERNEL: usize = 5;
/// Most frames of each sort in a magazine.
pub const MAGAZINE: usize = 32;
/// Frames moved between a magazine and the lists at a time.
const BATCH: usize = MAGAZINE / 2;

/// On whose behalf a frame is allocated: decides which reserves it may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocFor {
    /// Pages of programs, and of the file cache. No reserve.
    User,
    /// Page tables, pools, heap, and LWPs on their way out: the kernel's reserve.
    Kernel,
    /// The pagedaemon: everything.
    Pagedaemon,
}

impl AllocFor {
    const fn leaves(self) -> usize {
        match self {
            Self::User => RESERVE_PAGEDAEMON + RESERVE_KERNEL,
            Self::Kernel => RESERVE_PAGEDAEMON,
            Self::Pagedaemon => 0,
        }
    }
}

/// Whether the frame must be zeroed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zero {
    /// It must; it is cleared now if no zeroed one is ready.
    Yes,
    /// It will be overwritten: a dirty one is preferred, so that zeroed ones last.
    No,
    /// A zeroed one is welcome; the page's ZERO flag says whether it is.
    Any,
}

/// How many frames are free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeCounts {
    /// Known to be zero.
    pub zeroed: usize,
    /// Others.
    pub dirty: usize,
}

impl FreeCounts {
    /// All free frames.
    #[must_use]
    pub const fn total(self) -> usize {
        self.zeroed + self.dirty
    }
}

/// The free frames of a machine.
pub(crate) struct FreeList {
    lists: SpinLock<Lists>,
    /// `lists`' counts, readable without its lock.
    zeroed: AtomicUsize,
    dirty: AtomicUsize,
    scarce: AtomicBool,
    scarce_below: usize,
    magazines: Box<[Magazine]>,
    /// Tasks that wait for frames, first come first served.
    waiters: WaitQueue,
    /// Where the pagedaemon sleeps.
    pressure: WaitQueue,
    /// Where the zeroing task sleeps.
    dirt: WaitQueue,
    wanted: AtomicBool,
}

#[derive(Default)]
struct Lists {
    zeroed: List,
    dirty: List,
}

/// Doubly linked through the pages, so that a frame can be taken out of the middle.
#[derive(Default)]
struct List {
    head: u32,
    count: usize,
}

#[repr(align(64))]
struct Magazine {
    frames: SpinLock<Rounds>,
    /// `frames`' counts, readable without its lock.
    zeroed: AtomicUsize,
    dirty: AtomicUsize,
}

#[derive(Default)]
struct Rounds {
    zeroed: ArrayVec<Frame, MAGAZINE>,
    dirty: ArrayVec<Frame, MAGAZINE>,
}

impl FreeList {
    pub(crate) fn new(cpus: usize) -> Self {
        todo!()
    }
}

impl Uvm {
    /// Takes a free frame, or returns `None` when no more than the reserves are left; never waits. The page is
    /// BUSY, CLEAN and FAKE (UVM's state of a fresh page), and ZERO if its bytes are known to be zero; it has no owner,
    /// is on no queue, and all counts are 0. Wakes the pagedaemon when memory gets short.
    pub fn alloc_frame(&self, who: AllocFor, zero: Zero) -> Option<Frame> {
        todo!()
    }

    /// Frees a frame. The page has no owner, no mapping, no wiring, no loan; it is taken off its paging queue here.
    /// If it is busy and wanted, the waiters are woken. Stale TLB entries must be gone: call
    /// [`crate::pmap::Pmap::update`] first.
    pub fn free_frame(&self, frame: Frame) {
        todo!()
    }

    /// Takes `n` frames in a row for the kernel, for boot and for what hardware wants in one piece. Searches all of memory.
    pub fn alloc_contiguous(&self, n: usize) -> Option<Frame> {
        todo!()
    }

    /// How many frames are free, magazines included. Exact when nothing allocates meanwhile.
    #[must_use]
    pub fn free_counts(&self) -> FreeCounts {
        todo!()
    }

    /// Free frames, magazines included.
    #[must_use]
    pub fn free_frames(&self) -> usize {
        self.free_counts().total()
    }

    /// Whether an allocation of `n` frames would succeed as of now.
    #[must_use]
    pub fn can_allocate(&self, who: AllocFor, n: usize) -> bool {
        self.free_frames() >= n + who.leaves()
    }

    /// Waits until `n` frames could be had by an ordinary allocation, in order of arrival. They are not reserved: the caller
    /// tries again, and may wait again.
    pub async fn wait_for_free(&self, n: usize) {
        todo!()
    }

    /// Wakes those who wait for frames ([`Uvm::wait_for_free`]), as the pagedaemon does at the end of a pass. Freeing does it too.
    pub fn wake_free_waiters(&self) {
        todo!()
    }

    /// Whether anybody waits for a frame.
    #[must_use]
    pub fn has_free_waiters(&self) -> bool {
        todo!()
    }

    /// Waits, as the pagedaemon, until memory is short: `needed` (asked at each hint of shortage) says yes, or
    /// somebody waits for frames.
    pub async fn wait_pressure(&self, needed: impl Fn() -> bool) {
        todo!()
    }

    /// Wakes the pagedaemon.
    pub fn wake_pagedaemon(&self) {
        todo!()
    }

    /// Zeroes free frames ahead of need, for ever: the future of an `Idle`-class task.
    pub async fn zero_idle_task(&self) -> ! {
        todo!()
    }

    /// Calls `f` with each free frame, for `check`. Nothing may allocate or free meanwhile.
    pub fn for_each_free(&self, f: impl FnMut(Frame)) {
        todo!()
    }
}
