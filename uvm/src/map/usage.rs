//! How much memory an address space uses, for who looks at it from outside (`top`).
//!
//! Owns the counts of its faults. The rest is counted when it is asked for: a walk over the entries in parts ([`super::part`]), under the
//! map's read lock, amap before object. What changes meanwhile is counted as it was or as it is.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::addr::VirtAddr;
use crate::map::VmSpace;
use crate::pool::Ref;

/// What an address space uses, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Mapped and in memory.
    pub resident: u64,
    /// Of those, what it is not alone to have: pages of files and of shared memory, and since a fork what neither side has written.
    pub shared: u64,
    /// On swap and not in memory. What several have is counted for each.
    pub swapped: u64,
}

/// Faults in an address space since it was made. Written by plain loads and stores: threads of one space on several CPUs may lose
/// a count.
#[derive(Debug, Default)]
pub(crate) struct FaultCounts {
    all: AtomicU64,
    waited: AtomicU64,
}

impl FaultCounts {
    #[inline]
    pub(crate) fn count(&self) {
        self.all
            .store(self.all.load(Relaxed).wrapping_add(1), Relaxed);
    }

    pub(crate) fn count_wait(&self) {
        self.waited
            .store(self.waited.load(Relaxed).wrapping_add(1), Relaxed);
    }
}

impl VmSpace {
    /// Faults since it was made, and how many of them did not end in their first poll.
    #[must_use]
    pub fn faults(&self) -> (u64, u64) {
        let FaultCounts { all, waited } = &self.fault_counts;
        (all.load(Relaxed), waited.load(Relaxed))
    }

    /// What it uses now. Awaits its turn between parts.
    pub async fn usage(&self) -> Usage {
        let (mut usage, mut at) = (Usage::default(), Some(0));
        while let Some(va) = at {
            at = self.usage_from(va, &mut usage);
            self.uvm.executor().reschedule_if_asked().await;
        }
        usage.resident = self.resident_pages() as u64;
        usage
    }

    /// Adds what is used of the first part that ends after `va`; returns where to go on.
    fn usage_from(&self, va: u64, usage: &mut Usage) -> Option<u64> {
        let map = self.map.read();
        let part = map.part(va)?;
        let entry = part.entry;
        let mapped = |va| self.pmap.extract(&self.uvm, VirtAddr::new(va)).is_some();
        let slots = entry.amap.as_ref().map(|amap| (amap, amap.lock()));
        if let Some((amap, slots)) = &slots {
            for (va, anon) in part.anons(slots) {
                let inner = anon.lock();
                usage.swapped += u64::from(inner.frame.is_none() && inner.slot.is_some());
                let others = Ref::count(anon) > 1 || Ref::count(amap) > 1;
                usage.shared += u64::from(others && inner.frame.is_some() && mapped(va));
            }
        }
        if let Some(object) = entry.object.as_ref().filter(|object| !object.is_device()) {
            // A page of its own hides the object's.
            let hidden = |va| {
                let slots = slots.as_ref();
                slots.is_some_and(|(_, slots)| slots.anons.get(entry.slot_of(va)).is_some())
            };
            let pages = object.lock();
            for (va, _) in part.frames(&pages) {
                usage.shared += u64::from(!hidden(va) && mapped(va));
            }
            let out = |va| pages.frames.get(entry.index_of(va).0).is_none() && !hidden(va);
            usage.swapped += part.slots(&pages).filter(|&(va, _)| out(va)).count() as u64;
        }
        Some(part.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{PAGE_SIZE, PageIndex, Pages};
    use crate::map::{MapRequest, Placement};
    use crate::object::UvmObject;
    use crate::prot::Prot;
    use crate::sim::World;
    use crate::sim::disk::{Mode, SimDisk};

    const AT: u64 = 0x1000_0000;
    const PAGE: u64 = PAGE_SIZE as u64;

    #[test]
    fn what_is_used_is_told_apart() {
        let world = World::new(2048, 0);
        let space = world.space();
        let map = |request: MapRequest, page: u64| {
            let at = Placement::Exclusive(VirtAddr::new(AT + page * PAGE));
            space.map(request.at(at)).unwrap();
        };
        // More than a budget's worth, with a hole; and an object of which some is hidden by pages of its own.
        map(MapRequest::anonymous(1000 * PAGE_SIZE, Prot::RW), 0);
        let object = UvmObject::anonymous(&world.uvm, Pages(10)).unwrap();
        map(
            MapRequest::object(object, PageIndex(0), 10 * PAGE_SIZE, Prot::RW),
            1000,
        );
        let program = world.program(&space);
        let s = space.clone();
        world.run(async move {
            assert_eq!(s.usage().await, Usage::default());
            let before = s.faults();
            for page in (0..600).chain(900..1000) {
                program.store(AT + page * PAGE, 1).await.unwrap();
            }
            program.load(AT + 1001 * PAGE).await.unwrap();
            program.load(AT + 1002 * PAGE).await.unwrap();
            program.store(AT + 1002 * PAGE, 1).await.unwrap();
            let alone = s.usage().await;
            assert_eq!((alone.resident, alone.shared, alone.swapped), (702, 1, 0));
            assert!(s.faults().0 >= before.0 + 100, "{:?}", s.faults());
            let child = s.fork().await.unwrap();
            let both = s.usage().await;
            assert_eq!(both.shared, both.resident, "until someone writes");
            program.store(AT, 2).await.unwrap();
            assert_eq!(s.usage().await.shared, both.shared - 1);
            child.teardown().await;
            assert_eq!(s.usage().await.shared, 1);
        });
        world.check_quiet();
    }

    #[test]
    fn what_is_on_swap_is_told() {
        const PAGES: u64 = 600;
        let world = World::new(512, 0);
        let disk = SimDisk::swap(&world.uvm, 1024, Mode::AtOnce);
        world.swapon(&disk, "swap", 0);
        let space = world.space();
        let at = Placement::Exclusive(VirtAddr::new(AT));
        space
            .map(MapRequest::anonymous(PAGES as usize * PAGE_SIZE, Prot::RW).at(at))
            .unwrap();
        let program = world.program(&space);
        let s = space.clone();
        world.run(async move {
            for page in 0..PAGES {
                program.store(AT + page * PAGE, 1).await.unwrap();
            }
            let usage = s.usage().await;
            assert!(usage.swapped > 100, "{usage:?}");
            assert!(usage.resident + usage.swapped <= PAGES, "{usage:?}");
            assert_eq!(usage.shared, 0);
            // All frames are taken: to read what is on swap is to wait.
            let before = s.faults().1;
            program.load(AT).await.unwrap();
            assert!(s.faults().1 > before);
        });
        // What is on its way to swap holds its pages.
        world.driver.run_until_stalled();
        world.run(async move { space.teardown().await });
        world.check_quiet();
    }
}
