//! Holds: what keeps a page's frame from being evicted and reused while somebody waits for it, reads it, or has it on loan.
//!
//! Owns one count of the page's loans for each hold. The count is raised under the lock of the page's owner and lowered by anyone; when
//! the owner lets the page go meanwhile, the last hold frees the frame.

use alloc::sync::Arc;

use crate::Uvm;
use crate::addr::Frame;
use crate::anon::Anon;
use crate::object::UvmObject;
use crate::page::{OwnerKind, PageFlags};
use crate::phys::PageBytes;
use crate::prot::Prot;

/// What became of a page that was busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// It is not busy any more. It may have been evicted from its owner since; who wants to use it looks it up again.
    Valid,
    /// The read of a cluster failed: whether this page can be read nobody knows. To be read alone ([`Advice::Random`]).
    ClusterFailed,
    /// It cannot be read.
    Failed,
}

/// Keeps a page's frame from being evicted and reused.
///
/// Does not prove that the page is valid, unbusy, or still its owner's: only that the frame is the same.
#[must_use = "dropping it lets the page go"]
pub struct PageHold {
    uvm: Arc<Uvm>,
    frame: Frame,
}

impl PageHold {
    /// Holds a page. The caller has the owner locked.
    pub(crate) fn new(uvm: &Arc<Uvm>, frame: Frame) -> Self {
        uvm.page(frame).loan();
        Self {
            uvm: uvm.clone(),
            frame,
        }
    }

    /// Holds a page that was found through a translation, unless its owner is letting it go.
    pub(crate) fn of_mapped(uvm: &Arc<Uvm>, frame: Frame) -> Option<Self> {
        uvm.with_owner_locked(frame, || Self::new(uvm, frame))
    }

    /// Takes over a hold that the caller has counted ([`Uvm::lend`]).
    pub(crate) fn counted(uvm: &Arc<Uvm>, frame: Frame) -> Self {
        Self {
            uvm: uvm.clone(),
            frame,
        }
    }

    /// One hold more, for who makes it of what this gives by [`Self::counted`].
    pub(crate) fn count_another(&self) -> Frame {
        // Held already: its owner's lock is not needed.
        self.uvm.page(self.frame).loan();
        self.frame
    }

    /// The frame.
    #[must_use]
    pub fn frame(&self) -> Frame {
        self.frame
    }

    /// The page's bytes. Programs that map the page may write to them at any time.
    #[must_use]
    pub fn bytes(&self) -> PageBytes {
        self.uvm.bytes(self.frame)
    }

    /// Awaits that the page is not busy; says what became of it.
    pub(crate) async fn settled(&self) -> Settled {
        self.uvm.pages().busy_wait(self.frame).await;
        let page = self.uvm.page(self.frame);
        if page.owner_kind() != OwnerKind::None || !page.has(PageFlags::FAKE) {
            Settled::Valid
        } else if page.has(PageFlags::RELEASED) {
            Settled::ClusterFailed
        } else {
            Settled::Failed
        }
    }
}

impl Drop for PageHold {
    fn drop(&mut self) {
        self.uvm.let_go(self.frame);
    }
}

impl Uvm {
    /// Calls `f` with the owner of a page locked, unless it is letting the page go or there is none.
    pub(crate) fn with_owner_locked<R>(&self, frame: Frame, f: impl FnOnce() -> R) -> Option<R> {
        let page = self.pages().get(frame)?;
        if let Some(anon) = page.owner_ref::<Anon>() {
            let inner = anon.lock();
            return (inner.frame == Some(frame)).then(f);
        }
        let object = page.owner_ref::<UvmObject>()?;
        let pages = object.lock();
        let same = pages.frames.get(page.index().0) == Some(&frame);
        same.then(f)
    }

    /// Takes the owner off a page; frees it at once, or when the last hold goes. The caller has the owner
    /// locked, or is its last user.
    pub(crate) fn disown(&self, frame: Frame) {
        if self.is_mapped(frame) {
            self.page_protect(frame, Prot::empty());
        }
        if self.take_owner_off(frame) {
            self.free_frame(frame);
        }
    }

    /// Takes the owner off a page that nothing maps. Whether the caller has to free it; else that happens when the last hold goes. The caller has
    /// the owner locked, or is its last user.
    #[inline]
    #[must_use]
    pub(crate) fn take_owner_off(&self, frame: Frame) -> bool {
        let page = self.page(frame);
        page.clear_owner();
        self.dequeue_page(frame, page);
        page.orphan()
    }

    /// Ends one hold; frees the frame if it was the last one of a disowned page.
    pub(crate) fn let_go(&self, frame: Frame) {
        if self.page(frame).unloan() {
            // A page that an anon borrowed may have been mapped after it was disowned.
            if self.is_mapped(frame) {
                self.page_protect(frame, Prot::empty());
            }
            self.free_frame(frame);
        }
    }
}
