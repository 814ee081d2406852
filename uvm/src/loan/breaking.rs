//! Breaking a loan: what a fault may do with a page that is marked LOANED.
//!
//! Owns nothing. All under the lock of the anon or object that shows the page; it awaits nothing, and lies off the path of pages that are
//! not on loan.

use crate::Uvm;
use crate::addr::{Frame, PageIndex};
use crate::anon::{Anon, AnonInner};
use crate::meter::{Counter, Gauge};
use crate::object::{ObjectPages, UvmObject};
use crate::page::PageFlags;
use crate::pool::{OutOfMemory, Ref};
use crate::prot::{Access, Prot};

/// What a page marked LOANED may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usable {
    /// The page to use; another one than before if it had to be copied.
    pub(crate) frame: Frame,
    /// What a translation of it may allow.
    pub(crate) prot: Prot,
}

impl Anon {
    /// What a fault that needs `access` may do with an anon whose page is marked LOANED; `prot` if it were not. For a write, which only
    /// an anon's sole user may ask for, the anon gets a page of its own if need be, and nobody has the old one mapped any more. The
    /// caller has the anon locked, and its page is not busy.
    ///
    /// # Errors
    /// [`OutOfMemory`]; nothing has changed.
    #[cold]
    #[inline(never)]
    pub(crate) fn settle_loan(
        this: &Ref<Self>,
        inner: &mut AnonInner,
        uvm: &Uvm,
        access: Access,
        prot: Prot,
    ) -> Result<Usable, OutOfMemory> {
        let frame = inner.frame.ok_or(OutOfMemory)?;
        let page = uvm.page(frame);
        let mut owned = Self::owns(this, uvm, frame);
        if !owned && page.adopt() {
            Self::take(this, uvm, frame);
            owned = true;
        }
        if owned {
            // A borrowed page is its owner's to queue.
            uvm.activate(frame);
        }
        if !page.is_lent() {
            return Ok(Usable { frame, prot });
        }
        if access != Access::Write {
            let prot = prot - Prot::WRITE;
            return Ok(Usable { frame, prot });
        }
        let copy = uvm.copy_page(frame)?;
        uvm.count(Counter::LoanBreaks);
        uvm.page_protect(frame, Prot::empty());
        inner.frame = Some(copy);
        Self::take(this, uvm, copy);
        if owned {
            uvm.meter().lower(Gauge::Anonpages, 1);
            uvm.disown(frame);
        } else {
            uvm.let_go(frame);
        }
        Ok(Usable { frame: copy, prot })
    }
}

impl UvmObject {
    /// The same for the page of an object at `index`, which is valid. The caller has the object locked.
    ///
    /// # Errors
    /// [`OutOfMemory`]; nothing has changed.
    #[cold]
    #[inline(never)]
    pub(crate) fn settle_loan(
        this: &Ref<Self>,
        pages: &mut ObjectPages,
        uvm: &Uvm,
        index: PageIndex,
        access: Access,
        prot: Prot,
    ) -> Result<Usable, OutOfMemory> {
        let frame = *pages.frames.get(index.0).ok_or(OutOfMemory)?;
        let page = uvm.page(frame);
        if !page.is_lent() {
            return Ok(Usable { frame, prot });
        }
        if access != Access::Write {
            let prot = prot - Prot::WRITE;
            return Ok(Usable { frame, prot });
        }
        let copy = uvm.copy_page(frame)?;
        uvm.page_protect(frame, Prot::empty());
        // CLEAN as the old one was: wiring breaks loans and writes nothing, and who does write leaves a dirty bit.
        let mut kept = PageFlags::AOBJ | PageFlags::EXEC | PageFlags::RDONLY;
        if !uvm.is_modified(frame) {
            kept.insert(PageFlags::CLEAN);
        }
        uvm.page(copy).reset_flags(page.flags() & kept);
        Self::replace(this, pages, uvm, index, copy).inspect_err(|_| uvm.free_frame(copy))?;
        uvm.activate(copy);
        uvm.count(Counter::LoanBreaks);
        Ok(Usable { frame: copy, prot })
    }
}
