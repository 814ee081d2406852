//! Page tables put away: an address space of which nobody runs needs none, not even the top one, and gets them again when somebody does.
//!
//! What this owns: the root table's coming and going. A [`Pmap`] without tables is empty. It gets them again by [`Pmap::make_tables`], or by the first
//! [`Pmap::enter`], which may be a debugger's; all else finds nothing mapped.
//!
//! # How it synchronises
//! The root is changed under the pmap's lock. A CPU that loads it says so first (`active`), and then looks again whether it is still there; who puts it away takes
//! it out first, and then looks whether a CPU has it. One of the two sees the other.

use core::sync::atomic::Ordering::{Relaxed, Release, SeqCst};

use super::{AWAY, Inner, Leaf, Pmap, PmapStats, pv};
use crate::Uvm;
use crate::addr::{Frame, PageIndex};
use crate::meter::{Counter, Gauge};
use crate::page::freelist::{AllocFor, Zero};
use crate::pool::OutOfMemory;

/// Why page tables are not put away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TablesStay {
    /// Another CPU has the space loaded still.
    Loaded,
    /// Something is wired there, and so mapped always.
    Wired,
    /// Somebody has mapped something meanwhile.
    InUse,
}

impl Pmap {
    /// Whether it has any tables.
    #[must_use]
    pub fn has_tables(&self) -> bool {
        self.root().is_some()
    }

    /// Makes the root table, if it is put away. Never waits. Before somebody runs in the space again; the frame is taken on behalf of `who`.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn make_tables(&self, uvm: &Uvm, who: AllocFor) -> Result<(), OutOfMemory> {
        let _inner = self.inner.lock();
        self.root_or_make(uvm, who).map(drop)
    }

    /// The root table; the lock is held.
    #[inline]
    pub(super) fn root_or_make(&self, uvm: &Uvm, who: AllocFor) -> Result<Frame, OutOfMemory> {
        match self.root() {
            Some(root) => Ok(root),
            None => self.make_root(uvm, who),
        }
    }

    #[cold]
    fn make_root(&self, uvm: &Uvm, who: AllocFor) -> Result<Frame, OutOfMemory> {
        let root = new_root(uvm, who)?;
        // SAFETY: `finalize` clears the owner again, or `put_away` before.
        unsafe {
            uvm.page(root)
                .set_owner(core::ptr::NonNull::from(self), PageIndex(0));
        }
        self.tables.fetch_add(1, Relaxed);
        self.root.store(root.number(), SeqCst);
        Ok(root)
    }

    /// Puts the root table away, the last there is; all else has been removed. The caller has left the space on this CPU.
    ///
    /// # Errors
    /// [`TablesStay`]; the space is empty, but as it was otherwise.
    pub(crate) fn put_away(&self, uvm: &Uvm) -> Result<(), TablesStay> {
        self.collect(uvm);
        self.update(uvm);
        let mut inner = self.inner.lock();
        let Some(root) = self.root() else {
            return Ok(());
        };
        let empty = PmapStats {
            resident: 0,
            wired: 0,
            tables: 1,
        };
        if self.stats() != empty {
            return Err(TablesStay::InUse);
        }
        self.root.store(AWAY, SeqCst);
        if !self.cpus().is_empty() {
            self.root.store(root.number(), SeqCst);
            return Err(TablesStay::Loaded);
        }
        self.forget_root(&mut inner);
        free_root(uvm, root);
        uvm.count(Counter::PmapsAway);
        Ok(())
    }

    fn forget_root(&self, inner: &mut Inner) {
        inner.hint = Leaf::NONE;
        // Who remembers a table of before looks again.
        self.tables_gone.fetch_add(1, Release);
        self.tables.fetch_sub(1, Relaxed);
    }
}

/// A root table without an owner: the kernel's half, and nothing in the user half.
pub(super) fn new_root(uvm: &Uvm, who: AllocFor) -> Result<Frame, OutOfMemory> {
    let root = uvm.alloc_frame(who, Zero::Yes).ok_or(OutOfMemory)?;
    assert!(
        root.number() < pv::ROOT_LIMIT,
        "too much RAM for reverse maps"
    );
    uvm.claim_table(root);
    uvm.copy_kernel_half(root);
    uvm.meter().raise(Gauge::PmapTables, 1);
    Ok(root)
}

/// Frees a root table that no CPU has loaded and that maps nothing.
pub(super) fn free_root(uvm: &Uvm, root: Frame) {
    uvm.meter().lower(Gauge::PmapTables, 1);
    uvm.page(root).clear_owner();
    // Half the work of zeroing it later.
    uvm.clear_kernel_half(root);
    uvm.free_empty_table(root);
}
