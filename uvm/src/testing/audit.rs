//! What TLBs hold against what the tables say.
//!
//! Owns nothing. For the moments at which no flush may be outstanding: between two polls of the one thread that plays all CPUs.

use core::sync::atomic::Ordering::Relaxed;

use super::HostMachine;
use super::tlb::Cached;
use crate::Uvm;
use crate::addr::{Frame, PhysAddr, VirtAddr};
use crate::page::PageFlags;
use crate::pmap::walk::Pte;
use crate::prot::Access;

/// Why a cached translation must not be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The tables map nothing there.
    Gone,
    /// They map another frame.
    OtherFrame,
    /// They allow less.
    MoreRights,
    /// Stores through it set no dirty bit, and the entry has none.
    LosesDirty,
    /// The frame is free.
    FreeFrame,
}

/// A cached translation that must not be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stale {
    /// The CPU.
    pub cpu: usize,
    /// The page.
    pub va: VirtAddr,
    /// The frame that the CPU would use.
    pub frame: Frame,
    /// What is wrong.
    pub why: Why,
}

impl HostMachine {
    /// A translation that some CPU has cached and that the tables it has loaded do not allow, if there is one.
    #[must_use]
    pub fn find_stale(&self, uvm: &Uvm) -> Option<Stale> {
        (0..self.cpus.len()).find_map(|cpu| {
            let state = self.cpu_state(cpu);
            state.tlb.iter().find_map(|(vpn, cached)| {
                let va = VirtAddr::new_truncate(vpn << 12);
                let why = match self.peek(state.root, va) {
                    None => Why::Gone,
                    Some(entry) if entry.frame != cached.frame => Why::OtherFrame,
                    Some(entry)
                        if (cached.user && !entry.user)
                            || (cached.write && !entry.write)
                            || (cached.exec && !entry.exec) =>
                    {
                        Why::MoreRights
                    }
                    Some(entry) if cached.dirty && !entry.dirty => Why::LosesDirty,
                    Some(_) => {
                        let page = uvm.pages().get(cached.frame)?;
                        if !page.has(PageFlags::FREE) {
                            return None;
                        }
                        Why::FreeFrame
                    }
                };
                Some(Stale {
                    cpu,
                    va,
                    frame: cached.frame,
                    why,
                })
            })
        })
    }

    /// What the tables say, without leaving a trace in them.
    fn peek(&self, root: PhysAddr, va: VirtAddr) -> Option<Cached> {
        let mut at = Cached {
            frame: Frame::containing(root),
            user: true,
            write: true,
            exec: true,
            dirty: false,
        };
        for level in (0..4).rev() {
            // SAFETY: as for `walk`: a table in our RAM.
            let table = unsafe { self.phys.table(at.frame) };
            let slot = &table.0[(va.as_u64() >> (12 + 9 * level) & 511) as usize];
            let entry = Pte(slot.load(Relaxed));
            if !entry.is_present() {
                return None;
            }
            at = Cached {
                frame: entry.frame(),
                user: at.user && entry.is_user(),
                write: at.write && entry.prot().allows(Access::Write),
                exec: at.exec && entry.prot().allows(Access::Exec),
                dirty: entry.0 & Pte::DIRTY != 0,
            };
        }
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pmap::{EnterFlags, Pmap};
    use crate::prot::Prot;
    use crate::testing::Host;
    use crate::{AllocFor, VaRange, Zero};

    #[test]
    fn a_missing_flush_is_found() {
        let host = Host::new(64);
        let (uvm, machine) = (&host.uvm, &host.machine);
        let pmap = Pmap::new(uvm).expect("memory");
        let frame = uvm.alloc_frame(AllocFor::User, Zero::Yes).expect("a frame");
        let va = VirtAddr::new(0x40_0000);
        pmap.enter(uvm, va, frame, Prot::RW, EnterFlags::empty())
            .expect("memory");
        uvm.pmap_activate(&pmap);
        machine.store(va, 1).expect("mapped");
        assert_eq!(machine.find_stale(uvm), None);
        let range = VaRange::of_pages(va, 1);
        pmap.protect(uvm, range, Prot::READ);
        let why = || machine.find_stale(uvm).map(|stale| stale.why);
        assert_eq!(why(), Some(Why::MoreRights));
        pmap.remove(uvm, range);
        assert_eq!(why(), Some(Why::Gone));
        pmap.update(uvm);
        assert_eq!(why(), None);
        uvm.free_frame(frame);
        uvm.pmap_deactivate(&pmap);
    }
}
