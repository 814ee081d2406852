//! Giving up an object's resident pages on request, as a file system that flushes its cache does, or a benchmark of reads.
//!
//! Owns nothing. The pagedaemon starts from frames and takes what is idle; this starts from an object and takes what is
//! unused. Under the object's lock, like all who take a page out; it awaits nothing.

use crate::Uvm;
use crate::addr::PageIndex;
use crate::object::UvmObject;
use crate::page::PageFlags;
use crate::prot::Prot;

impl UvmObject {
    /// Whether page `index` is in memory, or on its way there.
    #[must_use]
    pub fn is_resident(&self, index: PageIndex) -> bool {
        self.lock().frames.get(index.0).is_some()
    }

    /// Gives up those of the `count` pages from `first` on that can be had again from the backing and that nobody uses: clean, and
    /// neither mapped nor busy, held or wired. Returns how many. The lock is held all the while: ask for a few dozen at a time.
    ///
    /// An anonymous object's pages have no other copy: none goes.
    pub fn evict_unused(&self, uvm: &Uvm, first: PageIndex, count: u64) -> usize {
        if self.is_anonymous() {
            return 0;
        }
        let end = first.0.saturating_add(count);
        let mut pages = self.lock();
        let (mut at, mut evicted) = (first.0, 0);
        while let Some((index, &frame)) = pages.frames.next_from(at)
            && index < end
        {
            at = index + 1;
            let page = uvm.page(frame);
            if page.is_busy() || page.loan_count() > 0 || page.wire_count() > 0 || page.is_mapped()
            {
                continue;
            }
            // No mapping is left, and none can come while the object is locked; but a flush may be outstanding.
            uvm.page_protect(frame, Prot::empty());
            if page.has(PageFlags::CLEAN) && !uvm.is_modified(frame) {
                self.remove(&mut pages, uvm, PageIndex(index));
                evicted += 1;
            }
        }
        evicted
    }
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;
    use core::time::Duration;

    use crate::addr::{PAGE_SIZE, PageIndex, Pages};
    use crate::map::{Advice, MapRequest};
    use crate::object::UvmObject;
    use crate::object::vnode::FileMap;
    use crate::prot::{Access, Prot};
    use crate::sim::World;
    use crate::sim::disk::{Layout, Mode, SimDisk, SimFile};

    #[test]
    fn only_what_nobody_uses_goes_and_it_is_read_again() {
        let world = World::new(512, 0);
        let disk = SimDisk::new(&world.uvm, 1 << 20, Mode::After(Duration::from_micros(10)));
        let file = SimFile::new(&disk, Layout::Contiguous(0));
        let map: Arc<dyn FileMap> = file.clone();
        let object = world.file(map, 16 * PAGE_SIZE as u64);
        let space = world.space();
        let uvm = world.uvm.clone();
        world.run(async move {
            let memory = object.object().clone();
            let at = |index| PageIndex(index);
            let held = object.page_in(&uvm, at(3)).await.unwrap();
            for index in 0..16 {
                drop(object.page_in(&uvm, at(index)).await.unwrap());
            }
            let mut request = MapRequest::object(memory.clone(), at(5), 2 * PAGE_SIZE, Prot::READ);
            request.advice = Advice::Random;
            let va = space.map(request).unwrap();
            space.fault(va, Access::Read).await.unwrap();
            assert_eq!(memory.evict_unused(&uvm, at(2), 6), 4);
            let left: alloc::vec::Vec<_> = (0..16).filter(|&i| memory.is_resident(at(i))).collect();
            assert_eq!(left, [0, 1, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15]);
            // What was let go of can go.
            drop(held);
            space.deactivate();
            space.teardown().await;
            assert_eq!(memory.evict_unused(&uvm, at(0), u64::MAX), 12);
            assert_eq!(memory.resident(), 0);
            let again = object.page_in(&uvm, at(5)).await.unwrap();
            let mut byte = [0];
            again.bytes().read(9, &mut byte);
            assert_eq!(byte[0], file.byte(5 * PAGE_SIZE as u64 + 9));
        });
        world.check_quiet();
    }

    #[test]
    fn a_page_under_read_stays_and_so_do_pages_without_another_copy() {
        let world = World::new(512, 0);
        let disk = SimDisk::new(&world.uvm, 1 << 20, Mode::Told);
        let object = world.file(SimFile::new(&disk, Layout::Contiguous(0)), 1 << 16);
        let uvm = world.uvm.clone();
        let (reader, machine) = (object.clone(), uvm.clone());
        let read = world
            .executor
            .spawn(executor::Class::User, "reader", async move {
                reader.page_in(&machine, PageIndex(0)).await.is_ok()
            });
        world.driver.run_ready();
        assert_eq!(disk.pending(), 1);
        assert_eq!(object.object().evict_unused(&uvm, PageIndex(0), 16), 0);
        disk.complete(1);
        assert!(world.run(read));
        assert_eq!(object.object().evict_unused(&uvm, PageIndex(0), 16), 16);

        let zeroes = UvmObject::anonymous(&uvm, Pages(4)).unwrap();
        let kept = zeroes.clone();
        world.run(async move {
            let hold = UvmObject::page_in(&zeroes, &uvm, PageIndex(1), Advice::Normal).await;
            drop(hold.unwrap());
            assert_eq!(zeroes.evict_unused(&uvm, PageIndex(0), 4), 0);
        });
        assert!(kept.is_resident(PageIndex(1)));
        world.check_quiet();
    }
}
