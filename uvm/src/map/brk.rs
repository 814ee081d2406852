//! The heap: one anonymous mapping whose end moves.
//!
//! Owns the heap's bounds, in [`VmSpace`], under a lock of their own.

use crate::addr::{VaRange, VirtAddr, round_page};
use crate::map::space::Heap;
use crate::map::{MapRequest, Placement, USER_MAX, VmError, VmSpace};
use crate::pool::OutOfMemory;
use crate::prot::Prot;

impl VmSpace {
    /// Where the heap begins; it is empty then. For exec.
    pub fn set_brk_start(&self, start: VirtAddr) {
        let start = round_page(start.as_u64()).unwrap_or(USER_MAX);
        *self.heap.lock() = Heap { start, end: start };
    }

    /// Moves the end of the heap to `end`, which need not be page-aligned, and returns where it is then: the
    /// old end if that cannot be (over the limit, in the way of a mapping, below the heap). Awaits other modifiers; wires what it adds as
    /// [`Self::mmap`] does.
    ///
    /// # Errors
    /// [`OutOfMemory`]: the end is where it was.
    pub async fn brk(&self, end: VirtAddr) -> Result<VirtAddr, OutOfMemory> {
        let (start, old) = {
            let heap = self.heap.lock();
            (heap.start, heap.end)
        };
        let end = end.as_u64();
        // What no address space has room for is refused below.
        if end < start || end - start > self.limits().data {
            return Ok(VirtAddr::new(old));
        }
        let (from, to) = (round_page(old), round_page(end));
        let (Some(from), Some(to)) = (from, to) else {
            return Ok(VirtAddr::new(old));
        };
        let moved = if to > from {
            let more = MapRequest::anonymous((to - from) as usize, Prot::RW)
                .at(Placement::Exclusive(VirtAddr::new(from)));
            self.mmap(more).await.map(drop)
        } else {
            self.unmap(VaRange::new(VirtAddr::new(to), VirtAddr::new(from)))
                .await
        };
        match moved {
            Ok(()) => {
                self.heap.lock().end = end;
                Ok(VirtAddr::new(end))
            }
            Err(VmError::OutOfMemory) => Err(OutOfMemory),
            Err(_) => Ok(VirtAddr::new(old)),
        }
    }

    /// Where the heap ends.
    #[must_use]
    pub fn brk_end(&self) -> VirtAddr {
        VirtAddr::new(self.heap.lock().end)
    }
}
