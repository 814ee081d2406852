//! Which address space each CPU has loaded.
//!
//! A CPU keeps the last one loaded, with a reference, until it switches to another: switching to
//! the kernel's own tables would cost a flush for nothing. Only exit goes back to them explicitly.

use core::sync::atomic::{
    AtomicU32,
    Ordering::{Relaxed, SeqCst},
};

use super::{AWAY, Pmap};
use crate::Uvm;
use crate::addr::Frame;
use crate::lock::{LEAF, SpinLock};
use crate::meter::Counter;
use crate::page::freelist::AllocFor;
use crate::pool::Ref;

/// One CPU's address space.
#[derive(Default)]
#[repr(align(64))]
pub(crate) struct CpuSpace {
    /// Number of the root's frame; 0: the kernel's own root.
    root: AtomicU32,
    /// What keeps it.
    pmap: SpinLock<Option<Ref<Pmap>>, LEAF>,
}

impl Uvm {
    /// Makes `pmap` the address space of this CPU, unless it is already. For the start of each
    /// poll.
    #[inline]
    pub fn pmap_activate(&self, pmap: &Ref<Pmap>) {
        let cpu = self.cpu();
        if self.spaces.get(cpu).root.load(Relaxed) != pmap.root.load(Relaxed) {
            self.switch_to(cpu, Some(pmap.clone()));
        }
    }

    /// Whether this CPU has it loaded.
    #[must_use]
    pub fn pmap_is_active(&self, pmap: &Pmap) -> bool {
        self.spaces.get(self.cpu()).root.load(Relaxed) == pmap.root.load(Relaxed)
    }

    /// Leaves `pmap` if this CPU is in it, for the kernel's own root table. Exit does so before the
    /// address space goes; otherwise it would live until the CPU switches.
    pub fn pmap_deactivate(&self, pmap: &Pmap) {
        if self.pmap_is_active(pmap) {
            self.switch_to(self.cpu(), None);
        }
    }

    #[cold]
    #[inline(never)]
    fn switch_to(&self, cpu: usize, pmap: Option<Ref<Pmap>>) {
        let space = self.spaces.get(cpu);
        let bit = 1 << cpu;
        let loaded = pmap.and_then(|pmap| {
            // Who lets somebody run in a space has made its tables before; where there is no memory for them he faults, and awaits some.
            let _ = pmap.make_tables(self, AllocFor::User);
            // Before the load: whoever changes an entry from here on flushes this CPU. And before the look at the root, see `away`.
            pmap.active.fetch_or(bit, SeqCst);
            let root = pmap.root.load(SeqCst);
            if root == AWAY {
                pmap.active.fetch_and(!bit, SeqCst);
                return None;
            }
            self.count(Counter::PmapActivate);
            Some((pmap, Frame::new(root)))
        });
        let (pmap, number, root) = match loaded {
            Some((pmap, root)) => (Some(pmap), root.number(), root.addr()),
            None => (None, 0, self.kernel_root.addr()),
        };
        self.machine().load_root(root);
        space.root.store(number, Relaxed);
        let old = core::mem::replace(&mut *space.pmap.lock(), pmap);
        if let Some(old) = old {
            old.active.fetch_and(!bit, SeqCst);
            self.count(Counter::PmapDeactivate);
        }
    }

    /// Calls `f` with each pmap that a CPU has loaded. For `check`.
    pub(crate) fn for_each_loaded(&self, mut f: impl FnMut(&Ref<Pmap>)) {
        for space in self.spaces.iter() {
            let loaded = space.pmap.lock().clone();
            if let Some(pmap) = loaded {
                f(&pmap);
            }
        }
    }

    /// At the end of the `Uvm`: gives up what a CPU had loaded.
    pub(crate) fn forget_space(&mut self, cpu: usize) {
        if let Some(pmap) = self.spaces.get_mut(cpu).pmap.get_mut().take() {
            pmap.active.fetch_and(!(1 << cpu), SeqCst);
        }
    }
}
