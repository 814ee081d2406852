//! Waiting for memory: what becomes of an operation that found too little.
//!
//! Owns the queue of those who wait for the pagedaemon, and how often it had to give up. Who waits holds nothing, not even a busy page, and
//! tries all of its operation again. What it lacks may be more than a frame: structures and page tables come from the same free list, and
//! none of it is kept when one of them cannot be had. So who tries again waits for more each time.
//!
//! There are two sorts. A fault cannot do without: it has a [`Demand`], for which somebody may be killed, and ends only when nothing can be
//! freed any more. A system call can fail: it has [`Patience`], waits as long as memory can be had by paging out, and nobody is killed for it.

use core::future::poll_fn;
use core::pin::pin;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use core::task::Poll;

use executor::sync::WaitQueue;

use crate::Uvm;
use crate::lock;
use crate::map::VmSpace;
use crate::pool::OutOfMemory;

/// What the pagedaemon shares with those who wait for it.
pub(crate) struct Hope {
    /// How often it had to give up.
    pub(super) lost: AtomicU64,
    waiting: WaitQueue,
}

impl Hope {
    pub(crate) const fn new() -> Self {
        Self {
            lost: AtomicU64::new(0),
            waiting: WaitQueue::new("free memory"),
        }
    }

    /// Tells all who wait that there is none.
    pub(super) fn lose(&self) {
        self.lost.fetch_add(1, Relaxed);
        self.wake_all();
    }

    /// Has all who wait look whether they still should.
    pub(super) fn wake_all(&self) {
        self.waiting.wake_all();
    }
}

/// How much memory a task that found too little waits for: one frame, then twice as much each time that it turns out not to be enough.
/// After all hope is lost it may try once more, with what there is.
pub(crate) struct Demand {
    pages: usize,
    hopeless: bool,
}

impl Demand {
    pub(crate) const fn new() -> Self {
        Self {
            pages: 1,
            hopeless: false,
        }
    }

    /// Waits, after an attempt that failed, until another one makes sense. The caller holds nothing, not even a busy page.
    ///
    /// # Errors
    /// [`OutOfMemory`] when none does.
    pub(crate) async fn wait(&mut self, uvm: &Uvm) -> Result<(), OutOfMemory> {
        self.wait_unless(uvm, || false).await
    }

    /// The same, until `given_up`; who changes the answer to that has all who wait look again ([`VmSpace::doom`]).
    pub(crate) async fn wait_unless(
        &mut self,
        uvm: &Uvm,
        given_up: impl Fn() -> bool,
    ) -> Result<(), OutOfMemory> {
        if self.hopeless || given_up() {
            return Err(OutOfMemory);
        }
        self.hopeless = uvm
            .wait_for_memory_unless(self.pages, given_up)
            .await
            .is_err();
        self.pages = self.pages.saturating_mul(2).min(uvm.pages().managed());
        Ok(())
    }
}

/// How long somebody waits for memory who can do without: an operation that found too little, and has changed nothing, is tried again a
/// few times.
#[derive(Debug)]
pub struct Patience {
    pages: u16,
    left: u16,
}

impl Patience {
    /// Frames awaited the first time, and at most.
    const FIRST: u16 = 4;
    const MOST: u16 = 256;
    /// Attempts.
    const TIMES: u16 = 12;

    /// Before the first attempt.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            pages: Self::FIRST,
            left: Self::TIMES,
        }
    }

    /// Waits, after an attempt that failed, until another one makes sense. The caller holds nothing.
    ///
    /// # Errors
    /// [`OutOfMemory`] when none does: nothing can be paged out any more, or it has been tried often enough.
    pub async fn wait(&mut self, uvm: &Uvm) -> Result<(), OutOfMemory> {
        self.wait_unless(uvm, || false).await
    }

    /// The same for work in `space`; when that is being killed, no attempt makes sense.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub async fn wait_in(&mut self, space: &VmSpace) -> Result<(), OutOfMemory> {
        self.wait_unless(space.uvm(), || space.is_doomed()).await
    }

    async fn wait_unless(
        &mut self,
        uvm: &Uvm,
        given_up: impl Fn() -> bool,
    ) -> Result<(), OutOfMemory> {
        let pages = usize::from(self.pages);
        self.left = self.left.checked_sub(1).ok_or(OutOfMemory)?;
        self.pages = (self.pages * 2).min(Self::MOST);
        match uvm.has_more_to_free(pages) && !given_up() {
            true => uvm.wait_for_memory_unless(pages, given_up).await,
            false => Err(OutOfMemory),
        }
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self::new()
    }
}

impl Uvm {
    /// Waits until `pages` frames can be allocated, or until the pagedaemon has found that none can be freed. The
    /// caller holds nothing, not even a busy page.
    ///
    /// # Errors
    /// [`OutOfMemory`] when there is no hope.
    pub async fn wait_for_memory(&self, pages: usize) -> Result<(), OutOfMemory> {
        self.wait_for_memory_unless(pages, || false).await
    }

    /// The same, for who would rather go without than have somebody killed for it: waits only as long as memory can be had by paging out. The
    /// caller holds nothing.
    ///
    /// # Errors
    /// [`OutOfMemory`] when it cannot.
    pub async fn wait_for_room(&self, pages: usize) -> Result<(), OutOfMemory> {
        // What is on no queue cannot be paged out: more than all the rest there will not be, whoever is killed for it.
        let queued: usize = (self.queue_counts_by_sort().iter())
            .map(|queues| queues.total())
            .sum();
        match self.has_more_to_free(pages) && self.free_frames() + queued >= pages {
            true => self.wait_for_memory(pages).await,
            false => Err(OutOfMemory),
        }
    }

    /// Whether `pages` more can be had by paging out, by a guess: to swap, or from twice as many pages of files.
    pub(crate) fn has_more_to_free(&self, pages: usize) -> bool {
        let [_, file, text] = self.queue_counts_by_sort();
        self.swap_has_room() || file.total() + text.total() >= 2 * pages
    }

    /// The same as [`Self::wait_for_memory`], until `given_up`; see [`Demand::wait_unless`].
    ///
    /// # Errors
    /// [`OutOfMemory`] when there is no hope, or it was given up.
    pub(crate) async fn wait_for_memory_unless(
        &self,
        pages: usize,
        given_up: impl Fn() -> bool,
    ) -> Result<(), OutOfMemory> {
        lock::assert_none_held("waiting for memory");
        let hope = &self.upper.hope;
        let before = hope.lost.load(Relaxed);
        self.wake_pagedaemon();
        let mut free = pin!(self.wait_for_free(pages));
        let mut lost = pin!(
            hope.waiting
                .wait_until(|| (hope.lost.load(Relaxed) != before || given_up()).then_some(()))
        );
        poll_fn(|cx| {
            if free.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            lost.as_mut().poll(cx).map(|()| Err(OutOfMemory))
        })
        .await
    }
}
