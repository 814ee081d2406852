//! Anonymous objects: memory that several spaces share, with zeroes behind it.
//!
//! Owns nothing beyond the object. A page is made, zeroed, by the first one that touches it, under the object's lock and
//! without waiting. It stays until the object goes, in memory or on swap.

use crate::Uvm;
use crate::addr::{Frame, PageIndex, Pages};
use crate::meter::Counter;
use crate::object::{Behind, ObjectPages, UvmObject};
use crate::page::PageFlags;
use crate::page::freelist::{AllocFor, Zero};
use crate::pool::{OutOfMemory, Ref};

impl UvmObject {
    /// An object of zeroes. Costs nothing until it is touched.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn anonymous(uvm: &Uvm, size: Pages) -> Result<Ref<Self>, OutOfMemory> {
        Self::make(uvm, Behind::Zeroes, size.bytes() as u64)
    }
}

/// Makes the page at `index`, where there is none. The caller has the object locked.
pub(crate) fn zero_page(
    object: &Ref<UvmObject>,
    pages: &mut ObjectPages,
    uvm: &Uvm,
    index: PageIndex,
) -> Result<Frame, OutOfMemory> {
    pages.make_slot(uvm, index)?;
    let frame = uvm
        .alloc_frame(AllocFor::User, Zero::Yes)
        .ok_or(OutOfMemory)?;
    if let Err(error) = UvmObject::insert(object, pages, uvm, index, frame) {
        uvm.free_frame(frame);
        return Err(error);
    }
    uvm.page(frame).reset_flags(PageFlags::AOBJ);
    uvm.activate(frame);
    uvm.count(Counter::FltPrzero);
    Ok(frame)
}
