//! Device objects: a device's memory (a frame buffer, registers) that programs map.
//!
//! # What this owns
//! Nothing: frames that no [`Page`](crate::page::Page) describes. So there is nothing to evict, to count, to keep clean or to wait
//! for: a fault enters the translation, no reverse map lists it, and wiring is a word without meaning.
//!
//! Only shared mappings of it exist: a private one would have to copy what may change, or act, when it is read. A child always shares
//! it. The idea is UVM's `udv` pager. How the processor caches an access is left to the memory type that the platform has set for the
//! range.

use crate::Uvm;
use crate::addr::{Frame, PAGE_SIZE, Pages, PhysAddr};
use crate::map::VmError;
use crate::object::{Behind, UvmObject};
use crate::pool::Ref;

impl UvmObject {
    /// The object of `pages` pages of a device's memory from `start` on. For drivers: whoever may map it may do to the device what
    /// these addresses allow. Never waits.
    ///
    /// # Errors
    /// [`VmError::Invalid`] if `start` is not the start of a page, there are no pages, or any of them is memory that uvm manages;
    /// [`VmError::OutOfMemory`].
    pub fn device(uvm: &Uvm, start: PhysAddr, pages: Pages) -> Result<Ref<Self>, VmError> {
        let first = start.as_u64() / PAGE_SIZE as u64;
        let end = first
            .checked_add(pages.0 as u64)
            .filter(|&end| end <= u64::from(u32::MAX))
            .ok_or(VmError::Invalid)?;
        if pages.0 == 0
            || !start.is_aligned(PAGE_SIZE as u64)
            || uvm.pages().meets(first as u32..end as u32)
        {
            return Err(VmError::Invalid);
        }
        let behind = Behind::Device(Frame::containing(start));
        Ok(Self::make(uvm, behind, pages.bytes() as u64)?)
    }

    /// Whether it is a device's memory.
    #[must_use]
    pub fn is_device(&self) -> bool {
        matches!(self.behind(), Behind::Device(_))
    }
}

#[cfg(test)]
mod tests;
