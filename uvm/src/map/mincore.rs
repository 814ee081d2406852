//! Which pages of a range are in memory.
//!
//! Owns nothing. Looked up under the map's read lock, amap before object, as a fault does; the answer may be old when it arrives.

use crate::addr::{PAGE_SIZE, VaRange};
use crate::map::{MapEntry, VmError, VmSpace};
use crate::page::PageFlags;

/// A page is resident: bit 0 of its byte, as mincore(2) has it.
const RESIDENT: u8 = 1;

impl VmSpace {
    /// Says of each page of `range`, in bit 0 of its byte, whether it is in memory: whether a load would find it there, mapped or not.
    /// Memory never touched is not. Never waits; for a long range ask in parts of a few thousand pages.
    ///
    /// # Errors
    /// [`VmError::Unmapped`] if there is a hole in the range, [`VmError::Invalid`] if `out` is not as long as it has pages; `out`
    /// is unchanged then.
    pub fn mincore(&self, range: VaRange, out: &mut [u8]) -> Result<(), VmError> {
        if out.len() != range.pages() {
            return Err(VmError::Invalid);
        }
        let (start, end) = (range.start().as_u64(), range.end().as_u64());
        let map = self.map.read();
        map.covers(start, end, |_| Ok(()))?;
        let mut va = start;
        let mut out = out.iter_mut();
        while let Some(entry) = map.tree.from(va).filter(|_| va < end) {
            let to = entry.end.min(end);
            let pages = (va..to).step_by(PAGE_SIZE);
            for (va, byte) in pages.zip(&mut out) {
                *byte = if self.is_in_memory(entry, va) {
                    RESIDENT
                } else {
                    0
                };
            }
            va = to;
        }
        Ok(())
    }

    fn is_in_memory(&self, entry: &MapEntry, va: u64) -> bool {
        if let Some(amap) = &entry.amap
            && let Some(anon) = amap.lock().anons.get(entry.slot_of(va))
        {
            let frame = anon.lock().frame;
            return frame.is_some_and(|frame| !self.uvm.page(frame).has(PageFlags::FAKE));
        }
        entry.object.as_ref().is_some_and(|object| {
            if object.is_device() {
                return entry.index_of(va).0 < object.pages();
            }
            let pages = object.lock();
            let frame = pages.frames.get(entry.index_of(va).0);
            frame.is_some_and(|&frame| !self.uvm.page(frame).has(PageFlags::FAKE))
        })
    }
}

#[cfg(test)]
mod tests;
