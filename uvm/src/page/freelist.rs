//! Free frames: who gets the last ones, and how most allocations touch no shared lock.
//!
//! # What this owns
//! Every frame whose page has the FREE flag. They are on one of two global lists (zeroed, dirty) or
//! in a CPU's *magazine*: up to [`MAGAZINE`] zeroed and as many dirty frames, refilled from and
//! flushed to the lists half a magazine at a time.
//!
//! # Reserves
//! One frame is for the pagedaemon alone and five more for the kernel (UVM's numbers), and on top of
//! these what the heap's growth is promised (see [`crate::km`]). Magazines
//! must not blur that: when the global lists fall to [`SCARCE`] frames and the heap's a machine-wide *scarce* mode
//! begins: all magazines are emptied into the lists, and until there is twice as much again every
//! allocation and every free goes through the lock, one frame at a time, where the count is exact.
//! A magazine holds frames only while there are more than enough. So ordinary allocation fails
//! exactly when no more than the reserves are left, and the hot path needs no test for it: in
//! scarce mode the magazine is empty.
//!
//! # How it synchronises
//! A lock for each magazine, taken by its CPU (never contended) and by whoever empties it; then the
//! lock of the lists. Order: magazine, lists. `alloc` never waits; who wants to wait uses
//! [`Uvm::wait_for_free`].

mod lists;
mod wait;

use core::ops::ControlFlow;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use arrayvec::ArrayVec;
use executor::sync::WaitQueue;

use self::lists::{Lists, Rounds};
use crate::Uvm;
use crate::addr::{Frame, PAGE_SIZE};
use crate::lock::{FREE_LIST, FREE_MAGAZINE, SpinLock};
use crate::map::VmSpace;
use crate::meter::{Counter, Gauge};
use crate::page::{NIL, PageArray, PageFlags};
use crate::percpu::PerCpu;
use crate::pool::OutOfMemory;

/// Frames that only the pagedaemon may take.
pub const RESERVE_PAGEDAEMON: usize = 1;
/// Frames that only the kernel and the pagedaemon may take.
pub const RESERVE_KERNEL: usize = 5;
/// Most frames of each sort in a magazine.
pub const MAGAZINE: usize = 32;
/// Frames moved between a magazine and the lists at a time.
const BATCH: usize = MAGAZINE / 2;
/// Frames on the global lists below which magazines are closed (and at twice which they reopen).
pub const SCARCE: usize = 32;
/// Sorts of demand that waiters are counted by: any number of frames that a machine can have.
const DEMANDS: usize = usize::BITS as usize;
/// Dirty frames that the zeroing task leaves alone.
const KEEP_DIRTY: usize = 2 * BATCH;

// A refill outside scarce mode leaves the reserves on the lists.
const _: () = assert!(SCARCE >= BATCH + RESERVE_PAGEDAEMON + RESERVE_KERNEL);

/// What must not be freed.
const NOT_FREED: PageFlags = PageFlags::FREE
    .union(PageFlags::RESERVED)
    .union(PageFlags::KERNEL);

/// A fresh page's flags.
const FRESH: PageFlags = PageFlags::BUSY
    .union(PageFlags::CLEAN)
    .union(PageFlags::FAKE);

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
    lists: SpinLock<Lists, FREE_LIST>,
    scarce: AtomicBool,
    /// Frames beside the two reserves that only the kernel may take, so that its heap can grow.
    heap_reserve: AtomicUsize,
    /// Whether the lists have zeroed frames, as of the last look: a hint, for who finds none in its magazine.
    zeroed_listed: AtomicBool,
    magazines: PerCpu<Magazine>,
    /// Tasks in `wait_for_free`, how many, and how many for how much: at `i` those that wait for at most 2^i frames.
    waiters: WaitQueue,
    waiting: AtomicUsize,
    demands: [AtomicUsize; DEMANDS],
    /// Where the pagedaemon sleeps, and how often it was told that memory gets short.
    pressure: WaitQueue,
    kicks: AtomicU64,
    /// Where the zeroing task sleeps, and whether it does.
    dirt: WaitQueue,
    zeroer_sleeps: AtomicBool,
}

#[repr(align(64))]
struct Magazine(SpinLock<Rounds, FREE_MAGAZINE>);

type Batch = ArrayVec<Frame, BATCH>;

impl FreeList {
    /// All frames of `pages`, dirty.
    pub(crate) fn new(pages: &PageArray, cpus: usize) -> Self {
        let mut lists = Lists::default();
        // Backwards, so that low frames go first.
        for frame in pages.frames().rev() {
            lists.dirty.push(pages, frame, PageFlags::empty());
        }
        Self {
            lists: SpinLock::new(lists),
            scarce: AtomicBool::new(false),
            heap_reserve: AtomicUsize::new(0),
            zeroed_listed: AtomicBool::new(false),
            magazines: PerCpu::new(cpus, || Magazine(SpinLock::default())),
            waiters: WaitQueue::new("free frame"),
            waiting: AtomicUsize::new(0),
            demands: [const { AtomicUsize::new(0) }; DEMANDS],
            kicks: AtomicU64::new(0),
            pressure: WaitQueue::new("pagedaemon: nothing to do"),
            dirt: WaitQueue::new("zeroing: nothing to do"),
            zeroer_sleeps: AtomicBool::new(false),
        }
    }

    /// Frames that an allocation for `who` must leave.
    fn leaves(&self, who: AllocFor) -> usize {
        match who {
            AllocFor::User => RESERVE_PAGEDAEMON + RESERVE_KERNEL + self.heap_reserve.load(Relaxed),
            AllocFor::Kernel => RESERVE_PAGEDAEMON,
            AllocFor::Pagedaemon => 0,
        }
    }

    /// Frames on the lists below which memory is scarce.
    fn scarce_below(&self) -> usize {
        SCARCE + self.heap_reserve.load(Relaxed)
    }

    /// Puts frames that nobody has back on a list.
    fn give_back(&self, uvm: &Uvm, frames: &[Frame], flags: PageFlags) {
        uvm.count(Counter::FreelistLocks);
        let mut lists = self.lists.lock();
        lists.of(flags).push_all(uvm.pages(), frames, flags);
        if lists.total() >= 2 * self.scarce_below() {
            self.scarce.store(false, Relaxed);
        }
        self.note_zeroed(&lists);
    }

    /// Called before the lists are unlocked.
    fn note_zeroed(&self, lists: &Lists) {
        self.zeroed_listed.store(lists.zeroed.count > 0, Relaxed);
    }

    /// Empties all magazines.
    fn drain(&self, uvm: &Uvm) {
        for magazine in self.magazines.iter() {
            let mut rounds = magazine.0.lock();
            let rounds = &mut *rounds;
            for (frames, flags) in [
                (&mut rounds.zeroed, PageFlags::ZERO),
                (&mut rounds.dirty, PageFlags::empty()),
            ] {
                if !frames.is_empty() {
                    self.give_back(uvm, frames, flags);
                    frames.clear();
                }
            }
        }
    }

    /// The magazine has nothing: to the lists.
    #[cold]
    #[inline(never)]
    fn refill(&self, uvm: &Uvm, who: AllocFor, zero: Zero) -> Option<(Frame, PageFlags)> {
        let mut batch = Batch::new();
        let (first, flags) = loop {
            uvm.count(Counter::FreelistLocks);
            let mut lists = self.lists.lock();
            let total = lists.total();
            if total < self.scarce_below() && !self.scarce.swap(true, Relaxed) {
                // From here on the exact count is what the lists hold.
                drop(lists);
                self.drain(uvm);
                continue;
            }
            let scarce = total < 2 * self.scarce_below() && self.scarce.load(Relaxed);
            if scarce && total <= self.leaves(who) {
                drop(lists);
                self.kick();
                return None;
            }
            let (list, flags) = lists.pick(zero);
            let first = list.pop(uvm.pages())?;
            if !scarce {
                self.scarce.store(false, Relaxed);
                while batch.len() < BATCH - 1 {
                    let Some(frame) = list.pop(uvm.pages()) else {
                        break;
                    };
                    batch.push(frame);
                }
            }
            let low = (total as u64) < uvm.meter().gauge(Gauge::Freetarg);
            self.note_zeroed(&lists);
            drop(lists);
            if low {
                self.kick();
            }
            break (first, flags);
        };
        let mut rounds = self.magazines.get(uvm.cpu()).0.lock();
        if !self.scarce.load(Relaxed) {
            let rounds = rounds.of(flags);
            while rounds.len() < MAGAZINE {
                let Some(frame) = batch.pop() else { break };
                rounds.push(frame);
            }
        }
        drop(rounds);
        if !batch.is_empty() {
            // Memory got scarce meanwhile, or this is another CPU than before.
            self.give_back(uvm, &batch, flags);
        }
        Some((first, flags))
    }

    /// The magazine is full or closed: to the list.
    #[cold]
    #[inline(never)]
    fn flush(&self, uvm: &Uvm, frames: &[Frame], flags: PageFlags) {
        self.give_back(uvm, frames, flags);
        if flags.is_empty() && self.zeroer_sleeps.load(Relaxed) {
            self.dirt.wake_one();
        }
    }
}

impl Uvm {
    /// Takes a free frame, or returns `None` when no more than the reserves are left; never waits.
    /// The page is BUSY, CLEAN and FAKE (UVM's state of a fresh page), and ZERO if its bytes are
    /// known to be zero; it has no owner, is on no queue, and all counts are 0. Wakes the
    /// pagedaemon when memory gets short.
    #[inline]
    pub fn alloc_frame(&self, who: AllocFor, zero: Zero) -> Option<Frame> {
        let cpu = self.cpu();
        let taken = self.free.magazines.get(cpu).0.lock().pop(zero);
        match taken {
            Some((frame, flags)) => Some(self.given(cpu, frame, flags, zero)),
            None => self.alloc_slowly(who, zero),
        }
    }

    /// [`Self::alloc_frame`] for a program's fault in `space`, whose turn it must be if memory is scarce. That is asked only where the magazine has
    /// nothing: while memory is scarce, it never has.
    #[inline]
    pub(crate) fn alloc_frame_in_turn(&self, space: &VmSpace, zero: Zero) -> Option<Frame> {
        let cpu = self.cpu();
        let taken = self.free.magazines.get(cpu).0.lock().pop(zero);
        match taken {
            Some((frame, flags)) => Some(self.given(cpu, frame, flags, zero)),
            None => self.alloc_in_turn(space, zero),
        }
    }

    #[cold]
    #[inline(never)]
    fn alloc_in_turn(&self, space: &VmSpace, zero: Zero) -> Option<Frame> {
        match self.is_scarce() && !space.may_take() {
            true => None,
            false => self.alloc_slowly(AllocFor::User, zero),
        }
    }

    /// A fresh frame, still BUSY, with the bytes of another, which is a data page. The caller has the other's owner locked.
    ///
    /// # Errors
    /// [`OutOfMemory`]: none, see [`Self::alloc_frame`].
    #[inline]
    pub(crate) fn copy_page(&self, frame: Frame) -> Result<Frame, OutOfMemory> {
        let copy = self
            .alloc_frame(AllocFor::User, Zero::No)
            .ok_or(OutOfMemory)?;
        // SAFETY: managed RAM, off the lists and nobody else's yet: plain bytes.
        unsafe { self.phys().bytes(copy) }.copy_from(self.bytes(frame));
        Ok(copy)
    }

    #[cold]
    #[inline(never)]
    fn alloc_slowly(&self, who: AllocFor, zero: Zero) -> Option<Frame> {
        if zero == Zero::Yes && !self.free.zeroed_listed.load(Relaxed) {
            // No zeroed frame anywhere: one of the magazine's others is as good as one from the lists, and needs no lock of theirs.
            let cpu = self.cpu();
            let taken = self.free.magazines.get(cpu).0.lock().pop(Zero::Any);
            if let Some((frame, flags)) = taken {
                return Some(self.given(cpu, frame, flags, zero));
            }
        }
        let taken = self.free.refill(self, who, zero);
        if taken.is_none() {
            self.count(Counter::Pgallocfail);
        }
        taken.map(|(frame, flags)| self.given(self.cpu(), frame, flags, zero))
    }

    /// Makes a frame off the lists a fresh page.
    #[inline]
    fn given(&self, cpu: usize, frame: Frame, flags: PageFlags, zero: Zero) -> Frame {
        debug_assert!(
            !self.page(frame).is_mapped(),
            "{frame:?} is free and mapped"
        );
        self.meter().add(cpu, Counter::Pgalloc, 1);
        if zero == Zero::Yes && !flags.contains(PageFlags::ZERO) {
            return self.zero_late(frame);
        }
        self.page(frame).reset_flags(FRESH.union(flags));
        frame
    }

    #[cold]
    #[inline(never)]
    fn zero_late(&self, frame: Frame) -> Frame {
        self.count(Counter::Pgzeromiss);
        // SAFETY: managed RAM, off the lists and not given out yet: plain bytes.
        unsafe { self.phys().bytes(frame) }.zero();
        self.page(frame).reset_flags(FRESH.union(PageFlags::ZERO));
        frame
    }

    /// Frees a frame. The page has no owner, no mapping, no wiring, no loan; it is taken off its
    /// paging queue here. If it is busy and wanted, the waiters are woken. Stale TLB entries must
    /// be gone: call [`crate::pmap::Pmap::update`] first.
    ///
    /// # Panics
    /// If it is free already, or not a page that can be freed.
    pub fn free_frame(&self, frame: Frame) {
        self.free_frame_as(frame, PageFlags::empty());
    }

    /// Frees a frame, which is zero if `flags` say so.
    #[inline]
    fn free_frame_as(&self, frame: Frame, flags: PageFlags) {
        self.retire(frame);
        let cpu = self.cpu();
        self.meter().add(cpu, Counter::Pgfree, 1);
        let mut rounds = self.free.magazines.get(cpu).0.lock();
        if self.free.scarce.load(Relaxed) {
            drop(rounds);
            self.free.flush(self, &[frame], flags);
        } else {
            let of_its_sort = rounds.of(flags);
            if of_its_sort.len() < MAGAZINE {
                of_its_sort.push(frame);
                drop(rounds);
            } else {
                let old: Batch = of_its_sort.drain(..BATCH).collect();
                of_its_sort.push(frame);
                drop(rounds);
                self.free.flush(self, &old, flags);
            }
        }
        if self.has_free_waiters() {
            self.wake_one_free_waiter();
        }
        self.go_on_in_turn(1);
    }

    /// The same for several frames: to the lists at once.
    pub(crate) fn free_pages(&self, frames: &[Frame]) {
        if frames.is_empty() {
            return;
        }
        frames.iter().for_each(|&frame| self.retire(frame));
        self.count_n(Counter::Pgfree, frames.len());
        self.free.flush(self, frames, PageFlags::empty());
        for _ in frames {
            if !self.has_free_waiters() {
                break;
            }
            self.wake_one_free_waiter();
        }
        self.go_on_in_turn(frames.len());
    }

    /// Takes down the state of a page that is about to be free.
    #[inline]
    fn retire(&self, frame: Frame) {
        let page = self.page(frame);
        self.dequeue_page(frame, page);
        let old = page.retire(PageFlags::FREE.union(PageFlags::CACHED));
        if old.intersects(NOT_FREED.union(PageFlags::WANTED)) {
            self.retire_special(frame, old);
        }
    }

    #[cold]
    #[inline(never)]
    fn retire_special(&self, frame: Frame, old: PageFlags) {
        assert!(
            !old.intersects(NOT_FREED),
            "{frame:?} freed in state {old:?}"
        );
        self.wake_busy(frame);
    }

    /// Marks a fresh frame as holding objects of the kernel, not data.
    pub(crate) fn claim_for_kernel(&self, frame: Frame) {
        self.page(frame).reset_flags(PageFlags::KERNEL);
    }

    /// Frees a frame of [`Self::claim_for_kernel`].
    pub(crate) fn free_kernel_frame(&self, frame: Frame) {
        debug_assert!(
            self.page(frame).has(PageFlags::KERNEL),
            "{frame:?} is not the kernel's"
        );
        self.page(frame).reset_flags(PageFlags::BUSY);
        self.free_frame(frame);
    }

    /// Frees a frame that was a page table and has no entry any more: it is zero, and nobody need clear it again.
    pub(crate) fn free_empty_table(&self, frame: Frame) {
        debug_assert!(
            self.page(frame).has(PageFlags::KERNEL),
            "{frame:?} is not the kernel's"
        );
        debug_assert!(
            self.is_zero(frame),
            "the page table in {frame:?} is not empty"
        );
        self.page(frame).reset_flags(PageFlags::BUSY);
        self.free_frame_as(frame, PageFlags::ZERO);
    }

    fn is_zero(&self, frame: Frame) -> bool {
        let mut bytes = [1; PAGE_SIZE];
        // SAFETY: managed RAM that is about to be free: plain bytes.
        unsafe { self.phys().bytes(frame) }.read(0, &mut bytes);
        bytes == [0; PAGE_SIZE]
    }

    /// Takes `n` frames in a row for the kernel, for boot and for what hardware wants in one piece.
    /// Walks all of memory. The frames are marked as the kernel's; they are freed one by one by
    /// [`Self::free_contiguous`].
    pub fn alloc_contiguous(&self, n: usize) -> Option<Frame> {
        self.free.drain(self);
        self.count(Counter::FreelistLocks);
        let mut lists = self.free.lists.lock();
        if n == 0 || lists.total() < n + self.free.leaves(AllocFor::Kernel) {
            return None;
        }
        let mut run = 0;
        let last = self.pages().frames().scan(NIL, |before, frame| {
            let follows = frame.number() == *before + 1;
            *before = frame.number();
            Some((frame, follows))
        });
        let last = last
            .filter_map(|(frame, follows)| {
                let flags = self.page(frame).flags();
                let free = flags.contains(PageFlags::FREE) && !flags.contains(PageFlags::CACHED);
                run = if !free {
                    0
                } else if follows {
                    run + 1
                } else {
                    1
                };
                (run == n).then_some(frame)
            })
            .next()?;
        let first = Frame::new(last.number() + 1 - n as u32);
        for i in 0..n as u32 {
            let flags = self.page(first.offset(i)).flags();
            lists.of(flags).remove(self.pages(), first.offset(i));
            self.claim_for_kernel(first.offset(i));
        }
        drop(lists);
        self.count_n(Counter::Pgalloc, n);
        Some(first)
    }

    /// Frees what [`Self::alloc_contiguous`] returned.
    ///
    /// # Safety
    /// `first` and `n` are as they were there, and nothing uses the memory any more.
    pub unsafe fn free_contiguous(&self, first: Frame, n: usize) {
        for i in 0..n as u32 {
            self.free_kernel_frame(first.offset(i));
        }
    }

    /// How many frames are free, magazines included. Exact when nothing allocates meanwhile.
    #[must_use]
    pub fn free_counts(&self) -> FreeCounts {
        let mut counts = FreeCounts {
            zeroed: 0,
            dirty: 0,
        };
        for magazine in self.free.magazines.iter() {
            let rounds = magazine.0.lock();
            counts.zeroed += rounds.zeroed.len();
            counts.dirty += rounds.dirty.len();
        }
        let lists = self.free.lists.lock();
        counts.zeroed += lists.zeroed.count;
        counts.dirty += lists.dirty.count;
        counts
    }

    /// Takes up to `max` of the zeroed frames for dirty ones, and returns how many: afterwards, once it returns 0, the next one who
    /// wants zeroes must wait for them to be written. For benchmarks of just that. The zeroing task does its work again as
    /// soon as the machine is idle.
    pub fn forget_zeroed(&self, max: usize) -> usize {
        self.free.drain(self);
        self.count(Counter::FreelistLocks);
        let mut lists = self.free.lists.lock();
        let mut forgotten = 0;
        while forgotten < max
            && let Some(frame) = lists.zeroed.pop(self.pages())
        {
            lists.dirty.push(self.pages(), frame, PageFlags::empty());
            forgotten += 1;
        }
        self.free.note_zeroed(&lists);
        drop(lists);
        if forgotten > 0 && self.free.zeroer_sleeps.load(Relaxed) {
            self.free.dirt.wake_one();
        }
        forgotten
    }

    /// Free frames, magazines included.
    #[must_use]
    pub fn free_frames(&self) -> usize {
        self.free_counts().total()
    }

    /// Whether `n` frames could be allocated as of now.
    #[must_use]
    pub fn can_allocate(&self, who: AllocFor, n: usize) -> bool {
        self.free_frames() >= n + self.free.leaves(who)
    }

    /// Frames that are not for programs.
    pub(crate) fn reserves_for_others(&self) -> usize {
        self.free.leaves(AllocFor::User)
    }

    /// How many frames there are beyond what an allocation for `who` must leave.
    pub(crate) fn spare_frames(&self, who: AllocFor) -> usize {
        self.free_frames().saturating_sub(self.free.leaves(who))
    }

    /// Keeps `frames` more for the kernel than UVM's reserves, so that its heap can grow when programs have all the rest.
    pub(crate) fn set_heap_reserve(&self, frames: usize) {
        self.free.heap_reserve.store(frames, Relaxed);
    }

    /// Frames kept for the heap.
    pub(crate) fn heap_reserve(&self) -> usize {
        self.free.heap_reserve.load(Relaxed)
    }

    /// Whether so few frames are free that each is counted; while not, there are more than any reserve.
    #[inline]
    #[must_use]
    pub(crate) fn is_scarce(&self) -> bool {
        self.free.scarce.load(Relaxed)
    }

    /// Calls `f` with each free frame until it breaks off, for `check`. Under the free list's lock: `f` neither allocates nor frees.
    pub fn for_each_free(&self, mut f: impl FnMut(Frame) -> ControlFlow<()>) {
        self.free.drain(self);
        let lists = self.free.lists.lock();
        for list in [&lists.zeroed, &lists.dirty] {
            let mut number = list.head;
            while number != NIL {
                if f(Frame::new(number)).is_break() {
                    return;
                }
                number = self.page(Frame::new(number)).next.load(Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests;
