//! Anonymous objects: memory that several spaces share, with zeroes behind it.
//!
//! Owns the list of all of them, by address and under a lock of its own, last in the order: it leads swapoff to what nobody maps at the
//! moment. A page is made, zeroed, by the first one that touches it, under the object's lock and
//! without waiting. It stays until the object goes, in memory or on swap.

use core::ptr::NonNull;

use crate::Uvm;
use crate::addr::{Frame, PageIndex, Pages};
use crate::map::tree::{Node, Span, Tree};
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
        let object = Self::make(uvm, Behind::Zeroes, size.bytes() as u64)?;
        let listed = ListedObject(Ref::as_ptr(&object));
        let node = uvm.upper.listed_objects.alloc(uvm, Node::new(listed))?;
        uvm.upper.anonymous.lock().0.insert(node);
        Ok(object)
    }

    /// Takes an anonymous object that goes off the list; it may not have got there.
    pub(super) fn unlist(&mut self, uvm: &Uvm) {
        let at = NonNull::from(self).addr().get() as u64;
        let node = uvm.upper.anonymous.lock().0.remove(at);
        drop(node);
    }
}

/// All anonymous objects, by their addresses.
pub(crate) struct Anonymous(Tree<ListedObject>);

impl Anonymous {
    pub(crate) const fn new() -> Self {
        Self(Tree::new())
    }
}

/// A node of [`Anonymous`]: one object, which takes itself off the list before it goes.
pub(crate) struct ListedObject(NonNull<UvmObject>);

// SAFETY: no more than an address; objects are shared between CPUs anyway.
unsafe impl Send for ListedObject {}

impl Span for ListedObject {
    fn start(&self) -> u64 {
        self.0.addr().get() as u64
    }

    fn end(&self) -> u64 {
        self.start() + 1
    }
}

impl Uvm {
    /// The first anonymous object alive from `at` on, which moves behind it. For walks that await in between.
    pub(crate) fn next_anonymous(&self, at: &mut u64) -> Option<Ref<UvmObject>> {
        let objects = self.upper.anonymous.lock();
        loop {
            let listed = objects.0.from(*at)?;
            *at = listed.end();
            // SAFETY: `finalize` takes an object off the list, whose lock is held, before its memory goes.
            if let Some(object) = unsafe { Ref::try_from_ptr(listed.0) } {
                return Some(object);
            }
        }
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
