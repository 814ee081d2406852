//! Regular files read through the page cache, after UVM's unified buffer cache: what `read` copies is what
//! `mmap` maps.
//!
//! A page is held, not busy, while bytes are copied from it to the sink, and let go of before anything is
//! awaited: the sink may be memory mapped from this very page.

use super::FsError;
use super::io::IoSink;
use alloc::sync::Arc;
use uvm::object::PagerError;
use uvm::object::vnode::{FileMap, VnodeObject};
use uvm::pool::Ref;
use uvm::{PAGE_SIZE, PageIndex, Uvm};

/// A regular file's memory: the object, and the machine it lives on.
pub struct FileObject {
    uvm: Arc<Uvm>,
    object: Arc<VnodeObject>,
}

impl FileObject {
    /// The memory of a file of `size` bytes whose blocks `map` knows. Costs no page until it is read.
    ///
    /// # Errors
    /// [`FsError::OutOfMemory`].
    pub fn new(
        uvm: &Arc<Uvm>,
        map: Arc<dyn FileMap>,
        size: u64,
    ) -> Result<Arc<FileObject>, FsError> {
        let object = VnodeObject::new(uvm, map, size).map_err(|_| FsError::OutOfMemory)?;
        Ok(Arc::new(FileObject {
            uvm: uvm.clone(),
            object,
        }))
    }

    /// What `mmap` and `exec` map.
    pub fn object(&self) -> &Arc<VnodeObject> {
        &self.object
    }

    /// Bytes in the file.
    pub fn size(&self) -> u64 {
        self.object.size()
    }

    /// Whether somebody but the file itself has the object: a mapping, or a read under way.
    pub fn is_mapped(&self) -> bool {
        Arc::strong_count(&self.object) > 1 || Ref::count(self.object.object()) > 1
    }

    /// Copies bytes from `offset` on until the sink is full or the file ends. Returns how many. Awaits pages
    /// and the sink's own memory.
    ///
    /// # Errors
    /// [`FsError::Io`], [`FsError::Fault`], [`FsError::OutOfMemory`]: only if nothing was copied.
    pub async fn read(&self, offset: u64, sink: &mut impl IoSink) -> Result<usize, FsError> {
        let mut done = 0;
        let error = loop {
            let at = offset.saturating_add(done as u64);
            let left = self.size().saturating_sub(at);
            if left == 0 || sink.remaining() == 0 {
                return Ok(done);
            }
            let start = (at % PAGE_SIZE as u64) as usize;
            let len = left.min((PAGE_SIZE - start) as u64) as usize;
            let want = len.min(sink.remaining());
            let index = PageIndex::containing(at);
            let copied = match self.object.page_in(&self.uvm, index).await {
                Ok(page) => sink.put_page(&page.bytes(), start, want),
                // Cut off since the size was read.
                Err(PagerError::BeyondEnd) => return Ok(done),
                Err(PagerError::OutOfMemory) => break FsError::OutOfMemory,
                Err(PagerError::Io(_) | PagerError::ReadOnly) => break FsError::Io,
            };
            done += copied;
            if copied < want
                && let Err(error) = sink.fault_in().await
            {
                break error;
            }
        };
        match done {
            0 => Err(error),
            _ => Ok(done),
        }
    }

    /// Copies bytes from `offset` on into kernel memory until `buffer` is full or the file ends. Returns how
    /// many.
    ///
    /// # Errors
    /// [`FsError::Io`], [`FsError::OutOfMemory`]: only if nothing was copied.
    pub async fn read_bytes(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, FsError> {
        let mut sink = buffer;
        self.read(offset, &mut sink).await
    }
}
