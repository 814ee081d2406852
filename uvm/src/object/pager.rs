//! The contract between a memory object and what backs it.
//!
//! A pager knows how to bring pages in and, later, out; it owns no pages itself. All calls come with nothing held.

use alloc::boxed::Box;
use alloc::sync::Arc;

use crate::Uvm;
use crate::addr::PageIndex;
use crate::io::IoError;
use crate::map::Advice;
use crate::object::{PageHold, UvmObject};
use crate::pool::{OutOfMemory, Ref};

/// Why a pager could not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PagerError {
    /// The page is past the object's end.
    #[error("beyond the end of the object")]
    BeyondEnd,
    /// The backing store failed.
    #[error("{0}")]
    Io(#[from] IoError),
    /// No frame, and none will come.
    #[error("out of memory")]
    OutOfMemory,
    /// The backing cannot be written.
    #[error("read-only backing")]
    ReadOnly,
}

impl From<OutOfMemory> for PagerError {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

/// What stands behind an object.
#[async_trait::async_trait]
pub trait Pager: Send + Sync + 'static {
    /// Makes sure that page `wanted` of `object` is resident or on its way, with as many neighbours as
    /// the pager sees fit and `advice` suggests. Returns the page if this call has started to read it: the caller awaits it and
    /// learns what became of the read, which may have ended, and failed, before this returns. `None`: there is, or was, something
    /// to find; the caller looks again.
    ///
    /// # Errors
    /// [`PagerError`] when no read could be started; [`PagerError::OutOfMemory`] when there was no frame: the caller waits for one, and
    /// asks again. The error of a read reaches those who hold the page.
    async fn get(
        &self,
        uvm: &Arc<Uvm>,
        object: &Ref<UvmObject>,
        wanted: PageIndex,
        advice: Advice,
    ) -> Result<Option<PageHold>, PagerError>;

    /// Whether pages may ever be written. Decides when a mapping is made; `false` unless a pager says otherwise.
    fn is_writable(&self) -> bool {
        false
    }

    /// Gives page `index`, which [`Self::get`] has marked as backed by a hole ([`crate::PageFlags::RDONLY`]), a place in the backing
    /// store, before the first write to it. The caller holds the page, and makes it writable and dirty when this has succeeded.
    /// A page that has a place already is no error: two faults may ask at once.
    ///
    /// # Errors
    /// [`PagerError`]; [`PagerError::ReadOnly`] unless a pager can do it. The page stays as it is.
    async fn allocate(
        &self,
        uvm: &Arc<Uvm>,
        object: &Ref<UvmObject>,
        index: PageIndex,
    ) -> Result<(), PagerError> {
        let _ = (uvm, object, index);
        Err(PagerError::ReadOnly)
    }

    /// Writes `count` pages from `first` on back to where they came from, as far as they are dirty. Returns when they are written.
    ///
    /// # Errors
    /// [`PagerError`] of the first page that could not be written; it stays dirty and in memory.
    async fn put(
        &self,
        uvm: &Arc<Uvm>,
        object: &Ref<UvmObject>,
        first: PageIndex,
        count: u64,
    ) -> Result<(), PagerError>;
}
