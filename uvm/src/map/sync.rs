//! Writing mapped files back on request: what msync(2) is made of.
//!
//! Owns nothing, and holds nothing while it writes: at each step the entry is looked up by address, and its object referred to. A
//! triangle of fault, msync and mmap (UVM's deadlock of busy page against map lock) has no corner here to wait at.

use bitflags::bitflags;

use crate::Uvm;
use crate::addr::{PAGE_SHIFT, PageIndex, VaRange};
use crate::map::{MapEntry, VmError, VmSpace};
use crate::object::vnode::CLUSTER;
use crate::object::{Behind, PagerError, UvmObject};
use crate::page::PageFlags;
use crate::pool::Ref;

/// Pages looked at in one hold of an object's lock.
const BUDGET: u64 = 256;

bitflags! {
    /// What [`VmSpace::sync`] does besides looking whether all is mapped.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Sync: u8 {
        /// Write dirty pages of shared file mappings, and await it (MS_SYNC).
        const WRITE = 1;
        /// Give up copies of the file that are not the file's own (MS_INVALIDATE). There are none: mappings and read(2) show the same
        /// pages. But what is wired refuses.
        const INVALIDATE = 2;
    }
}

impl VmSpace {
    /// Brings the files under a range up to date with what was written through its shared mappings. Awaits writes, and its turn. Pages
    /// that are written to meanwhile may be written or not.
    ///
    /// # Errors
    /// [`VmError::Busy`] when it is to invalidate what is wired, [`VmError::Io`] when a page could not be written (it stays dirty, and
    /// in memory), [`VmError::OutOfMemory`]: the rest of the range was not looked at. [`VmError::Unmapped`] if there is a hole in the
    /// range; all that is mapped was worked on.
    pub async fn sync(&self, range: VaRange, how: Sync) -> Result<(), VmError> {
        let (mut at, end) = (range.start().as_u64(), range.end().as_u64());
        let mut result = Ok(());
        while at < end {
            let (next, written) = {
                let map = self.map.read();
                let Some(entry) = map.tree.from(at).filter(|entry| entry.start < end) else {
                    return Err(VmError::Unmapped);
                };
                if entry.start > at {
                    result = Err(VmError::Unmapped);
                }
                if how.contains(Sync::INVALIDATE) && entry.wired > 0 {
                    return Err(VmError::Busy);
                }
                let from = at.max(entry.start);
                match written_back(entry).filter(|_| how.contains(Sync::WRITE)) {
                    Some(object) => {
                        let to = end.min(entry.end).min(from + (BUDGET << PAGE_SHIFT));
                        let count = (to - from) >> PAGE_SHIFT;
                        (to, Some((object.clone(), entry.index_of(from), count)))
                    }
                    None => (entry.end, None),
                }
            };
            at = next;
            if let Some((object, first, count)) = written {
                let put = put_dirty(&self.uvm, &object, first, count).await;
                put.map_err(|error| match error {
                    PagerError::OutOfMemory => VmError::OutOfMemory,
                    _ => VmError::Io,
                })?;
            }
            self.uvm.executor().reschedule_if_asked().await;
        }
        result
    }
}

/// The object whose pages the entry can have made dirty, if they have somewhere to go.
fn written_back(entry: &MapEntry) -> Option<&Ref<UvmObject>> {
    entry
        .object
        .as_ref()
        .filter(|object| !entry.copy_on_write && matches!(object.behind(), Behind::Pager(_)))
}

/// Has the dirty ones of `count` pages from `first` on written, a cluster at a time.
async fn put_dirty(
    uvm: &alloc::sync::Arc<Uvm>,
    object: &Ref<UvmObject>,
    first: PageIndex,
    count: u64,
) -> Result<(), PagerError> {
    let Behind::Pager(pager) = object.behind() else {
        return Ok(());
    };
    let end = first + count;
    let mut at = first;
    while let Some((start, len)) = dirty_run(uvm, object, at, end) {
        pager.put(uvm, object, start, len).await?;
        at = start + len;
    }
    Ok(())
}

/// The first run of dirty pages within `from..end`, at most a cluster.
fn dirty_run(
    uvm: &Uvm,
    object: &UvmObject,
    from: PageIndex,
    end: PageIndex,
) -> Option<(PageIndex, u64)> {
    let pages = object.lock();
    let mut run = None;
    for (index, &frame) in pages.frames.iter_from(from.0) {
        if index >= end.0 || run.is_some_and(|(_, len)| len == CLUSTER as u64) {
            break;
        }
        let next = run.map_or(index, |(start, len)| start + len);
        let page = uvm.page(frame);
        // A page that is being read has nothing to write.
        let dirty =
            !page.has(PageFlags::FAKE) && (!page.has(PageFlags::CLEAN) || uvm.is_modified(frame));
        if index != next || !dirty {
            if run.is_some() {
                break;
            }
            continue;
        }
        run = Some(run.map_or((index, 1), |(start, len)| (start, len + 1)));
    }
    run.map(|(start, len)| (PageIndex(start), len))
}

#[cfg(test)]
mod tests;
