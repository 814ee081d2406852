//! The lists behind the magazines, and what is in a magazine. No locks here: callers hold them.

use core::sync::atomic::Ordering::Relaxed;

use arrayvec::ArrayVec;

use super::{MAGAZINE, Zero};
use crate::addr::Frame;
use crate::page::{NIL, PageArray, PageFlags};

#[derive(Default)]
pub(super) struct Lists {
    pub(super) zeroed: List,
    pub(super) dirty: List,
}

/// Doubly linked through the pages, so that a frame can be taken out of the middle.
#[derive(Default)]
pub(super) struct List {
    pub(super) head: u32,
    pub(super) count: usize,
}

#[derive(Default)]
pub(super) struct Rounds {
    pub(super) zeroed: ArrayVec<Frame, MAGAZINE>,
    pub(super) dirty: ArrayVec<Frame, MAGAZINE>,
}

impl Rounds {
    /// Those that are zero, or not, as `flags` say.
    #[inline]
    pub(super) fn of(&mut self, flags: PageFlags) -> &mut ArrayVec<Frame, MAGAZINE> {
        match flags.contains(PageFlags::ZERO) {
            true => &mut self.zeroed,
            false => &mut self.dirty,
        }
    }

    #[inline]
    pub(super) fn pop(&mut self, zero: Zero) -> Option<(Frame, PageFlags)> {
        match zero {
            Zero::Yes => Self::zero(self.zeroed.pop()),
            Zero::Any => Self::zero(self.zeroed.pop()).or_else(|| Self::dirty(self.dirty.pop())),
            Zero::No => Self::dirty(self.dirty.pop()).or_else(|| Self::zero(self.zeroed.pop())),
        }
    }

    #[inline]
    fn zero(frame: Option<Frame>) -> Option<(Frame, PageFlags)> {
        frame.map(|f| (f, PageFlags::ZERO))
    }

    #[inline]
    fn dirty(frame: Option<Frame>) -> Option<(Frame, PageFlags)> {
        frame.map(|f| (f, PageFlags::empty()))
    }
}

impl Lists {
    pub(super) fn total(&self) -> usize {
        self.zeroed.count + self.dirty.count
    }

    pub(super) fn of(&mut self, flags: PageFlags) -> &mut List {
        if flags.contains(PageFlags::ZERO) {
            &mut self.zeroed
        } else {
            &mut self.dirty
        }
    }

    /// The list that a request is served from.
    pub(super) fn pick(&mut self, zero: Zero) -> (&mut List, PageFlags) {
        let zeroed = match zero {
            Zero::Yes | Zero::Any => self.zeroed.count > 0,
            Zero::No => self.dirty.count == 0,
        };
        if zeroed {
            (&mut self.zeroed, PageFlags::ZERO)
        } else {
            (&mut self.dirty, PageFlags::empty())
        }
    }
}

impl List {
    pub(super) fn push(&mut self, pages: &PageArray, frame: Frame, flags: PageFlags) {
        self.push_all(pages, &[frame], flags);
    }

    /// Pushes some, one after the other: the last one ends up at the head.
    pub(super) fn push_all(&mut self, pages: &PageArray, frames: &[Frame], flags: PageFlags) {
        let mut head = self.head;
        let mut behind = (head != NIL).then(|| pages.page(Frame::new(head)));
        for &frame in frames {
            let page = pages.page(frame);
            page.reset_flags(PageFlags::FREE.union(flags));
            page.next.store(head, Relaxed);
            head = frame.number();
            if let Some(behind) = behind {
                behind.prev.store(head, Relaxed);
            }
            behind = Some(page);
        }
        if let Some(first) = behind {
            first.prev.store(NIL, Relaxed);
        }
        self.head = head;
        self.count += frames.len();
    }

    pub(super) fn pop(&mut self, pages: &PageArray) -> Option<Frame> {
        if self.head == NIL {
            return None;
        }
        let frame = Frame::new(self.head);
        self.remove(pages, frame);
        // Not on a list any more, for who looks for frames in a row.
        pages
            .page(frame)
            .reset_flags(PageFlags::FREE.union(PageFlags::CACHED));
        Some(frame)
    }

    pub(super) fn remove(&mut self, pages: &PageArray, frame: Frame) {
        let page = pages.page(frame);
        let (next, prev) = (page.next.load(Relaxed), page.prev.load(Relaxed));
        if prev == NIL {
            self.head = next;
        } else {
            pages.page(Frame::new(prev)).next.store(next, Relaxed);
        }
        if next != NIL {
            pages.page(Frame::new(next)).prev.store(prev, Relaxed);
        }
        self.count -= 1;
    }
}
