//! From frame numbers to pages, and to the bytes of data pages.
//!
//! Owns the arrays of [`Page`]s and the queue of those who wait for busy pages. The arrays never
//! change; what is in a page synchronises itself (see the parent module).

use core::ptr::NonNull;

use arrayvec::ArrayVec;

use super::{Page, PageFlags};
use crate::Uvm;
use crate::addr::{Frame, PAGE_SHIFT, PAGE_SIZE, PhysRange};
use crate::lock;
use crate::phys::{PageBytes, PhysMem};
use executor::sync::KeyedWaitQueue;

/// Most separate ranges of RAM that can be managed.
pub const MAX_RANGES: usize = 16;

/// All pages, by frame number.
///
/// The array of a range stands in the last frames of that range, so that holes between ranges cost
/// nothing.
pub struct PageArray {
    /// The largest range: nearly all lookups end here.
    main: Range,
    others: ArrayVec<Range, MAX_RANGES>,
    managed: usize,
    busy: KeyedWaitQueue,
}

struct Range {
    first: u32,
    count: u32,
    /// Frame after the last of its array of pages, which stands behind the frames that it describes.
    end: u32,
    pages: NonNull<Page>,
}

// SAFETY: `pages` points to memory that the array owns for good, and `Page` is Sync.
unsafe impl Send for Range {}
// SAFETY: as above.
unsafe impl Sync for Range {}

impl Range {
    #[inline]
    fn get(&self, frame: Frame) -> Option<&Page> {
        let i = frame.number().wrapping_sub(self.first);
        // SAFETY: in bounds, and initialised by `PageArray::new`.
        (i < self.count).then(|| unsafe { self.pages.add(i as usize).as_ref() })
    }
}

impl PageArray {
    /// Takes the given ranges over.
    ///
    /// # Safety
    /// The ranges are RAM that nothing else uses, in the direct map, and stay that as long as the
    /// array exists.
    pub(crate) unsafe fn new(phys: &PhysMem, ram: &[PhysRange]) -> Self {
        let mut ranges = ArrayVec::<Range, MAX_RANGES>::new();
        let mut managed = 0;
        for range in ram {
            let first = range.start.as_u64().div_ceil(PAGE_SIZE as u64).max(1) as u32;
            let end = (range.end.as_u64() >> PAGE_SHIFT) as u32;
            let frames = end.saturating_sub(first);
            // Each usable frame needs itself and its `Page`.
            let count = (frames as usize * PAGE_SIZE / (PAGE_SIZE + size_of::<Page>())) as u32;
            if count == 0 {
                continue;
            }
            let pages = NonNull::new(phys.ptr(Frame::new(first + count)).cast::<Page>())
                .expect("the direct map is not at address 0");
            for i in 0..count as usize {
                // SAFETY: `count` was chosen so that the array fits behind the frames it describes;
                // the memory is ours by the caller's promise.
                unsafe { pages.add(i).write(Page::new(PageFlags::RESERVED)) };
            }
            managed += count as usize;
            ranges.push(Range {
                first,
                count,
                end,
                pages,
            });
        }
        ranges.sort_unstable_by_key(|r| r.count);
        Self {
            main: ranges.pop().expect("there is RAM"),
            others: ranges,
            managed,
            busy: KeyedWaitQueue::new("busy page"),
        }
    }

    /// Number of frames managed.
    #[must_use]
    pub fn managed(&self) -> usize {
        self.managed
    }

    /// All managed frames.
    pub fn frames(&self) -> impl DoubleEndedIterator<Item = Frame> + '_ {
        let ranges = core::iter::once(&self.main).chain(&self.others);
        ranges.flat_map(|r| (r.first..r.first + r.count).map(Frame::new))
    }

    /// Whether any of these frames is managed, or holds the pages of those that are.
    pub(crate) fn meets(&self, frames: core::ops::Range<u32>) -> bool {
        let ranges = core::iter::once(&self.main).chain(&self.others);
        ranges
            .into_iter()
            .any(|r| frames.start < r.end && r.first < frames.end)
    }

    /// The page of a frame, `None` if the frame is not managed RAM (a device's, for example).
    #[inline]
    #[must_use]
    pub fn get(&self, frame: Frame) -> Option<&Page> {
        match self.main.get(frame) {
            Some(page) => Some(page),
            None => self.others.iter().find_map(|range| range.get(frame)),
        }
    }

    /// The page of a frame that is known to be managed.
    #[inline]
    pub(crate) fn page(&self, frame: Frame) -> &Page {
        match self.get(frame) {
            Some(page) => page,
            None => unmanaged(frame),
        }
    }

    /// Waits until the page is not busy. By then it may be busy again, freed or someone else's: the
    /// caller, who must hold nothing (rule 3), looks everything up again.
    pub async fn busy_wait(&self, frame: Frame) {
        lock::assert_none_held("waiting for a busy page");
        let Some(page) = self.get(frame) else { return };
        self.busy
            .wait(u64::from(frame.number()), || {
                // WANTED before the look at BUSY: `unbusy` clears both at once and wakes if WANTED
                // was there. A WANTED left behind here costs one idle wake and nothing else.
                let idle =
                    !page.is_busy() || !page.set(PageFlags::WANTED).contains(PageFlags::BUSY);
                idle.then_some(())
            })
            .await;
    }
}

impl Uvm {
    /// All pages.
    #[inline]
    #[must_use]
    pub fn pages(&self) -> &PageArray {
        &self.pages
    }

    /// The page of a managed frame.
    ///
    /// # Panics
    /// If the frame is not managed.
    #[inline]
    #[must_use]
    pub fn page(&self, frame: Frame) -> &Page {
        self.pages.page(frame)
    }

    /// The bytes of a data page. The caller has the page busy, or is its only user (see
    /// [`PageBytes`]).
    ///
    /// # Panics
    /// If the frame holds objects of the kernel or is free.
    #[must_use]
    pub fn bytes(&self, frame: Frame) -> PageBytes {
        let forbidden = PageFlags::KERNEL
            .union(PageFlags::FREE)
            .union(PageFlags::RESERVED);
        assert!(
            !self.page(frame).flags().intersects(forbidden),
            "{frame:?} holds no data"
        );
        // SAFETY: managed RAM, and its flags say that it is a data page.
        unsafe { self.phys.bytes(frame) }
    }

    /// Ends BUSY and wakes all who wait for it. Caller holds the owner's lock (waking under it is
    /// harmless: woken tasks run later). Flags RELEASED and PAGEOUT are left to the caller.
    #[inline]
    pub fn unbusy(&self, frame: Frame) {
        let old = self
            .page(frame)
            .clear(PageFlags::BUSY.union(PageFlags::WANTED));
        self.wake_if_wanted(frame, old);
    }

    /// Ends BUSY with `flags` in place of all others, as one does with a fresh page: one
    /// exchange. Otherwise like [`Self::unbusy`].
    #[inline]
    pub fn unbusy_with(&self, frame: Frame, flags: PageFlags) {
        let old = self.page(frame).swap_flags(flags);
        self.wake_if_wanted(frame, old);
    }

    #[inline]
    fn wake_if_wanted(&self, frame: Frame, old: PageFlags) {
        debug_assert!(old.contains(PageFlags::BUSY), "page is not busy");
        if old.contains(PageFlags::WANTED) {
            self.wake_busy(frame);
        }
    }

    #[cold]
    pub(crate) fn wake_busy(&self, frame: Frame) {
        self.pages.busy.wake_all(u64::from(frame.number()));
    }
}

#[cold]
#[inline(never)]
fn unmanaged(frame: Frame) -> ! {
    panic!("{frame:?} is not managed")
}
