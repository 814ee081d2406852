//! The paging queues: which resident pages may be evicted, and in which order.
//!
//! # What this owns
//! An active and an inactive queue for each [`Sort`] of memory, oldest page first, linked through the pages. A page is on at
//! most one. It does not decide anything: that is `pdaemon` and `policy`.
//!
//! # How it synchronises
//! One lock for all queues, which the fault path never takes: a change that it wants is written in
//! the page (`Page::queue`) and noted in the CPU's *batch*; when the batch is full the lock is
//! taken once for all of it. Whatever the page says by then is done, so a note about a page that
//! was freed or changed its mind meanwhile is harmless. Order: batch, then queues; both are last in
//! the order of locks.

use core::ops::ControlFlow;
use core::sync::atomic::Ordering::Relaxed;

use arrayvec::ArrayVec;

use crate::Uvm;
use crate::addr::Frame;
use crate::lock::{QUEUE_BATCH, QUEUES, SpinLock};
use crate::meter::{Counter, Gauge};
use crate::page::{NIL, Page, PageArray, PageAttrs, PageFlags};
use crate::percpu::PerCpu;
use crate::pool::OutOfMemory;

/// Pages noted in a CPU's batch before the queue lock is taken.
const BATCH: usize = 32;

/// One of the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// In use, as far as known.
    Active,
    /// Candidates for eviction.
    Inactive,
}

/// What a page holds. Each sort has queues of its own, so that which of them gives way is a choice ([`crate::policy`]) and not a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Sort {
    /// Anonymous memory.
    Anon,
    /// A page of a file.
    File,
    /// A page of a file that is mapped as a program's text.
    Exec,
}

impl Sort {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Anon, Self::File, Self::Exec];

    /// The sort of a page that belongs to an anon or object.
    #[must_use]
    pub fn of(page: &Page) -> Self {
        let flags = page.flags();
        if flags.intersects(PageFlags::ANON.union(PageFlags::AOBJ)) {
            Self::Anon
        } else if flags.contains(PageFlags::EXEC) {
            Self::Exec
        } else {
            Self::File
        }
    }
}

/// Lengths of the queues, pending changes counted as if done. By [`Sort`], or added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Pages on an active queue.
    pub active: usize,
    /// Pages on an inactive queue.
    pub inactive: usize,
}

impl QueueCounts {
    /// Pages on either.
    #[must_use]
    pub const fn total(self) -> usize {
        self.active + self.inactive
    }
}

/// Bits of `Page::queue`: which list the page is linked in (changed under the queue lock) ...
const ON_ACTIVE: u8 = 1;
const ON_INACTIVE: u8 = 2;
const ON: u8 = ON_ACTIVE | ON_INACTIVE;
/// (with the sort that the page was of when it was linked),
const SORT_SHIFT: u32 = 4;
const SORT: u8 = 3 << SORT_SHIFT;
/// ... and where it shall go (noted in some batch).
const TO_ACTIVE: u8 = 4;
const TO_INACTIVE: u8 = 8;
const TO: u8 = TO_ACTIVE | TO_INACTIVE;

/// The queues and the batches.
pub(crate) struct Queues {
    lists: SpinLock<Lists, QUEUES>,
    batches: PerCpu<Batch>,
}

#[repr(align(64))]
struct Batch(SpinLock<ArrayVec<Frame, BATCH>, QUEUE_BATCH>);

#[derive(Default)]
struct Lists {
    /// By sort.
    active: [List; Sort::ALL.len()],
    inactive: [List; Sort::ALL.len()],
}

/// Oldest at the head.
#[derive(Default)]
struct List {
    head: u32,
    tail: u32,
    count: usize,
}

impl List {
    fn push(&mut self, pages: &PageArray, frame: Frame) {
        let page = pages.page(frame);
        page.next.store(NIL, Relaxed);
        page.prev.store(self.tail, Relaxed);
        if self.tail == NIL {
            self.head = frame.number();
        } else {
            pages
                .page(Frame::new(self.tail))
                .next
                .store(frame.number(), Relaxed);
        }
        self.tail = frame.number();
        self.count += 1;
    }

    fn push_front(&mut self, pages: &PageArray, frame: Frame) {
        let page = pages.page(frame);
        page.prev.store(NIL, Relaxed);
        page.next.store(self.head, Relaxed);
        if self.head == NIL {
            self.tail = frame.number();
        } else {
            pages
                .page(Frame::new(self.head))
                .prev
                .store(frame.number(), Relaxed);
        }
        self.head = frame.number();
        self.count += 1;
    }

    fn remove(&mut self, pages: &PageArray, frame: Frame) {
        let page = pages.page(frame);
        let (next, prev) = (page.next.load(Relaxed), page.prev.load(Relaxed));
        if prev == NIL {
            self.head = next;
        } else {
            pages.page(Frame::new(prev)).next.store(next, Relaxed);
        }
        if next == NIL {
            self.tail = prev;
        } else {
            pages.page(Frame::new(next)).prev.store(prev, Relaxed);
        }
        self.count -= 1;
    }
}

impl Lists {
    fn of(&mut self, queue: Queue, sort: usize) -> &mut List {
        match queue {
            Queue::Active => &mut self.active[sort],
            Queue::Inactive => &mut self.inactive[sort],
        }
    }

    fn unlink(&mut self, pages: &PageArray, frame: Frame, state: u8) {
        let sort = usize::from((state & SORT) >> SORT_SHIFT);
        match state & ON {
            ON_ACTIVE => self.active[sort].remove(pages, frame),
            ON_INACTIVE => self.inactive[sort].remove(pages, frame),
            _ => {}
        }
    }

    fn counts(&self, sort: Sort) -> QueueCounts {
        QueueCounts {
            active: self.active[sort as usize].count,
            inactive: self.inactive[sort as usize].count,
        }
    }

    /// Does what the page says; nothing if it changed its mind.
    fn settle(&mut self, pages: &PageArray, frame: Frame) {
        let page = pages.page(frame);
        let (list, on) = match page.queue.load(Relaxed) & TO {
            TO_ACTIVE => (Queue::Active, ON_ACTIVE),
            TO_INACTIVE => (Queue::Inactive, ON_INACTIVE),
            _ => return,
        };
        let sort = Sort::of(page) as u8;
        // Exchanged before the links change: who asks again from here on notes the page again.
        let old = page.queue.swap(on | sort << SORT_SHIFT, Relaxed);
        self.unlink(pages, frame, old);
        self.of(list, usize::from(sort)).push(pages, frame);
    }
}

impl Queues {
    pub(crate) fn new(cpus: usize) -> Self {
        Self {
            lists: SpinLock::default(),
            batches: PerCpu::new(cpus, || Batch(SpinLock::new(ArrayVec::new()))),
        }
    }

    /// Notes that `page` shall go where `to` says, wherever it is.
    fn note(&self, uvm: &Uvm, frame: Frame, page: &Page, to: u8) {
        let noted = |state| Some(state & (ON | SORT) | to);
        let old = page.queue.fetch_update(Relaxed, Relaxed, noted);
        if old.unwrap_or(0) & TO == 0 {
            self.batch(uvm, frame);
        }
    }

    #[inline]
    fn batch(&self, uvm: &Uvm, frame: Frame) {
        let mut batch = self.batches.get(uvm.cpu()).0.lock();
        if batch.try_push(frame).is_err() {
            self.flush(uvm, &mut batch);
            batch.push(frame);
        }
    }

    #[cold]
    #[inline(never)]
    fn flush(&self, uvm: &Uvm, batch: &mut ArrayVec<Frame, BATCH>) {
        uvm.count(Counter::QueueLocks);
        let mut lists = self.lists.lock();
        for frame in batch.drain(..) {
            lists.settle(uvm.pages(), frame);
        }
    }
}

/// Whether a page in this state is on the active queue, or noted for it.
#[inline]
const fn is_active(state: u8) -> bool {
    state & TO == TO_ACTIVE || state & (ON | TO) == ON_ACTIVE
}

impl Uvm {
    /// Puts a page at the young end of the active queue, unless it is wired. If it is active
    /// already nothing changes. Takes no global lock, but for one in 32 calls. Caller holds the
    /// owner's lock.
    #[inline]
    pub fn activate(&self, frame: Frame) {
        let page = self.page(frame);
        if !is_active(page.queue.load(Relaxed)) {
            self.activate_other(frame, page);
        }
    }

    /// Notes that a page has been used through something else than a translation, or gets one. An inactive page becomes active,
    /// unless it has just been read for this use ([`PageAttrs::ONCE`]): then a scan decides. As cheap as [`Self::activate`] for
    /// active ones. Caller holds the owner's lock.
    #[inline]
    pub fn note_use(&self, frame: Frame) {
        let page = self.page(frame);
        if !is_active(page.queue.load(Relaxed)) {
            self.note_other_use(frame, page);
        }
    }

    #[inline(never)]
    fn note_other_use(&self, frame: Frame, page: &Page) {
        if page.attrs().contains(PageAttrs::ONCE) {
            page.note_attrs(PageAttrs::REFERENCED);
        } else {
            self.activate_other(frame, page);
        }
    }

    /// [`Self::activate`] for a page fresh from the free list, which is on no queue and nobody else's yet.
    #[inline]
    pub(crate) fn activate_fresh(&self, frame: Frame, page: &Page) {
        debug_assert!(page.queue.load(Relaxed) == 0 && page.wire_count() == 0);
        page.queue.store(TO_ACTIVE, Relaxed);
        self.queues.batch(self, frame);
    }

    #[inline(never)]
    fn activate_other(&self, frame: Frame, page: &Page) {
        if page.wire_count() != 0 {
            return;
        }
        // A fresh page is nowhere yet.
        match page.queue.compare_exchange(0, TO_ACTIVE, Relaxed, Relaxed) {
            Ok(_) => self.queues.batch(self, frame),
            Err(state) if is_active(state) => {}
            Err(_) => self.queues.note(self, frame, page, TO_ACTIVE),
        }
    }

    /// Puts a page at the young end of the inactive queue, unless it is wired or inactive already.
    /// Its referenced bits are the caller's to clear. Caller holds the owner's lock.
    pub fn deactivate(&self, frame: Frame) {
        let page = self.page(frame);
        let state = page.queue.load(Relaxed);
        let inactive = state & TO == TO_INACTIVE || state & (ON | TO) == ON_INACTIVE;
        if !inactive && page.wire_count() == 0 {
            self.queues.note(self, frame, page, TO_INACTIVE);
        }
    }

    /// Takes a page off its queue, and back whatever was noted. Caller holds the owner's lock.
    #[inline]
    pub fn dequeue(&self, frame: Frame) {
        self.dequeue_page(frame, self.page(frame));
    }

    /// The same for who has the page at hand.
    #[inline]
    pub(crate) fn dequeue_page(&self, frame: Frame, page: &Page) {
        let state = page.queue.load(Relaxed);
        // Not linked anywhere: the note stays in its batch and will mean nothing.
        let done = state == 0
            || state & ON == 0
                && page
                    .queue
                    .compare_exchange(state, 0, Relaxed, Relaxed)
                    .is_ok();
        if !done {
            self.unlink(frame, page);
        }
    }

    /// The same for many. Nobody can queue them any more.
    pub(crate) fn dequeue_all(&self, frames: &[Frame]) {
        self.count(Counter::QueueLocks);
        let mut lists = self.queues.lists.lock();
        for &frame in frames {
            let old = self.page(frame).queue.swap(0, Relaxed);
            lists.unlink(self.pages(), frame, old);
        }
    }

    #[cold]
    #[inline(never)]
    fn unlink(&self, frame: Frame, page: &Page) {
        self.count(Counter::QueueLocks);
        let mut lists = self.queues.lists.lock();
        let old = page.queue.swap(0, Relaxed);
        lists.unlink(self.pages(), frame, old);
    }

    /// Moves a page to the young end of the queue that it is on. Caller holds the owner's lock.
    pub fn requeue(&self, frame: Frame) {
        let to = match self.queue_of(frame) {
            Some(Queue::Active) => TO_ACTIVE,
            Some(Queue::Inactive) => TO_INACTIVE,
            None => return,
        };
        self.queues.note(self, frame, self.page(frame), to);
    }

    /// The queue that a page is on, or on its way to.
    #[must_use]
    pub fn queue_of(&self, frame: Frame) -> Option<Queue> {
        let state = self.page(frame).queue.load(Relaxed);
        let where_to = if state & TO == 0 {
            state & ON
        } else {
            state & TO
        };
        match where_to {
            ON_ACTIVE | TO_ACTIVE => Some(Queue::Active),
            ON_INACTIVE | TO_INACTIVE => Some(Queue::Inactive),
            _ => None,
        }
    }

    /// Wires a page once more: it leaves the queues with the first wiring. Caller holds the owner's
    /// lock.
    ///
    /// # Errors
    /// [`OutOfMemory`] when it is wired as often as can be counted; nothing has changed.
    pub fn wire_page(&self, frame: Frame) -> Result<(), OutOfMemory> {
        let page = self.page(frame);
        let wirings = page.wire_count();
        page.set_wire_count(wirings.checked_add(1).ok_or(OutOfMemory)?);
        if wirings == 0 {
            self.meter().raise(Gauge::Wired, 1);
            self.dequeue(frame);
        }
        Ok(())
    }

    /// Takes one wiring off; with the last the page becomes active. Caller holds the owner's lock.
    pub fn unwire_page(&self, frame: Frame) {
        let page = self.page(frame);
        let wirings = page.wire_count().checked_sub(1).expect("page is not wired");
        page.set_wire_count(wirings);
        if wirings == 0 {
            self.meter().lower(Gauge::Wired, 1);
            self.activate(frame);
        }
    }

    /// Lengths of the queues, all sorts added up. Does pending changes first.
    #[must_use]
    pub fn queue_counts(&self) -> QueueCounts {
        self.queue_counts_by_sort()
            .iter()
            .fold(QueueCounts::default(), |sum, counts| QueueCounts {
                active: sum.active + counts.active,
                inactive: sum.inactive + counts.inactive,
            })
    }

    /// Lengths of the queues of each sort, in the order of [`Sort::ALL`]. Does pending changes first.
    #[must_use]
    pub fn queue_counts_by_sort(&self) -> [QueueCounts; Sort::ALL.len()] {
        self.flush_queue_batches();
        let lists = self.queues.lists.lock();
        Sort::ALL.map(|sort| lists.counts(sort))
    }

    /// For the pagedaemon: takes the oldest pages of `queue`, up to `most` and as many as `out` has room for, off it, oldest first, on their way
    /// to its young end. It looks at them and does to them what it wants, and puts back what then still is to be on a queue, before it lets
    /// anybody else run ([`Self::put_back`]): so what leaves costs no more than being taken off, once for all of a batch. Only hints:
    /// by the time they are looked at they may be gone ([`Page::owner_ref`]).
    pub(crate) fn take_oldest<const N: usize>(
        &self,
        queue: Queue,
        sort: Sort,
        most: usize,
        out: &mut ArrayVec<Frame, N>,
    ) {
        self.flush_queue_batches();
        self.count(Counter::QueueLocks);
        let to = match queue {
            Queue::Active => TO_ACTIVE,
            Queue::Inactive => TO_INACTIVE,
        };
        let mut lists = self.queues.lists.lock();
        let list = lists.of(queue, sort as usize);
        let n = list.count.min(most).min(out.remaining_capacity());
        let mut number = list.head;
        for _ in 0..n {
            let frame = Frame::new(number);
            let page = self.page(frame);
            number = page.next.load(Relaxed);
            // As if noted in this task's own batch. Who has noted something else meanwhile has his way.
            let noted = |state| Some(if state & TO == 0 { to } else { state & TO });
            let _ = page.queue.fetch_update(Relaxed, Relaxed, noted);
            out.push(frame);
        }
        list.head = number;
        if number == NIL {
            list.tail = NIL;
        } else {
            self.page(Frame::new(number)).prev.store(NIL, Relaxed);
        }
        list.count -= n;
    }

    /// Puts pages that were taken off by [`Self::take_oldest`] where they belong by now. Not needed for those that have been dequeued.
    pub(crate) fn put_back(&self, frames: &[Frame]) {
        if frames.is_empty() {
            return;
        }
        self.count(Counter::QueueLocks);
        let mut lists = self.queues.lists.lock();
        for &frame in frames {
            lists.settle(self.pages(), frame);
        }
    }

    /// Puts pages that were taken off the inactive queues, but not looked at, back where they were: at the old end.
    pub(crate) fn put_back_unseen(&self, frames: &[Frame]) {
        if frames.is_empty() {
            return;
        }
        self.count(Counter::QueueLocks);
        let mut lists = self.queues.lists.lock();
        for &frame in frames.iter().rev() {
            let page = self.page(frame);
            let sort = Sort::of(page) as u8;
            let on = ON_INACTIVE | sort << SORT_SHIFT;
            // Only if nobody has noted anything else meanwhile.
            let unseen = page
                .queue
                .compare_exchange(TO_INACTIVE, on, Relaxed, Relaxed);
            match unseen {
                Ok(_) => lists.inactive[usize::from(sort)].push_front(self.pages(), frame),
                Err(_) => lists.settle(self.pages(), frame),
            }
        }
    }

    /// Does all pending changes of all CPUs now.
    pub fn flush_queue_batches(&self) {
        for batch in self.queues.batches.iter() {
            let mut batch = batch.0.lock();
            if !batch.is_empty() {
                self.queues.flush(self, &mut batch);
            }
        }
    }

    /// Calls `f` with each page of a queue, one sort after the other, oldest first, under the queue lock. For `check`.
    pub fn for_each_queued(&self, queue: Queue, mut f: impl FnMut(Frame) -> ControlFlow<()>) {
        self.flush_queue_batches();
        let mut lists = self.queues.lists.lock();
        for sort in Sort::ALL {
            let mut number = lists.of(queue, sort as usize).head;
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
