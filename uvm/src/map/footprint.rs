//! What an address space costs in kernel memory, for who looks at it from outside (`ps -v`).
//!
//! Owns nothing: it is counted when it is asked for, as `usage` counts pages. Of what several entries have in common, amaps and
//! anons, each has its share.

use crate::addr::PAGE_SIZE;
use crate::anon::Anon;
use crate::km;
use crate::map::VmSpace;
use crate::pool::Ref;

impl VmSpace {
    /// Bytes of kernel memory that describe it: its own, map entries, its share of amaps and anons, page tables. Not the pages that it shows, and no
    /// objects. Awaits its turn between parts.
    pub async fn kernel_bytes(&self) -> u64 {
        let (uvm, mut bytes, mut at) = (&self.uvm, 0, Some(0));
        while let Some(va) = at {
            at = self.count_from(va, &mut bytes);
            uvm.executor().reschedule_if_asked().await;
        }
        let own = km::arc_bytes::<Self>() + uvm.pmap_pool.cost() + uvm.upper.listed.cost();
        bytes + (own + self.pmap.stats().tables * PAGE_SIZE) as u64
    }

    /// Adds what describes the first part that ends after `va`; returns where to go on.
    fn count_from(&self, va: u64, bytes: &mut u64) -> Option<u64> {
        let upper = &self.uvm.upper;
        let map = self.map.read();
        let part = map.part(va)?;
        let entry = part.entry;
        if part.from == entry.start {
            *bytes += upper.entries.cost() as u64;
        }
        let Some(amap) = &entry.amap else {
            return Some(part.to);
        };
        let slots = amap.lock();
        // An anon is shared by the amaps that have it, and with its amap by all entries that show that.
        let of_anon = |(_, anon): (u64, &Ref<Anon>)| upper.anons.cost() / Ref::count(anon) as usize;
        let mut of_amap: usize = part.anons(&slots).map(of_anon).sum();
        if part.from == entry.start {
            of_amap += upper.amaps.cost() + slots.anons.nodes() * upper.slot_nodes.cost();
        }
        *bytes += (of_amap / Ref::count(amap) as usize) as u64;
        Some(part.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::VirtAddr;
    use crate::map::{MapRequest, Placement};
    use crate::prot::Prot;
    use crate::sim::World;

    const AT: u64 = 0x1000_0000;
    const PAGE: u64 = PAGE_SIZE as u64;

    #[test]
    fn it_grows_by_what_is_made_for_a_space() {
        let world = World::new(4096, 0);
        let space = world.space();
        let program = world.program(&space);
        let uvm = world.uvm.clone();
        world.run(async move {
            let upper = &uvm.upper;
            // Without the page tables.
            let described = async |space: &VmSpace| {
                space.kernel_bytes().await as usize - space.pmap.stats().tables * PAGE_SIZE
            };
            let empty = described(&space).await;
            assert!((200..1000).contains(&empty), "{empty}");
            let at = Placement::Exclusive(VirtAddr::new(AT));
            let mapping = MapRequest::anonymous(4096 * PAGE_SIZE, Prot::RW);
            space.map(mapping.at(at)).unwrap();
            let own = empty + upper.entries.cost();
            assert_eq!(described(&space).await, own);
            // Two leaves beside each other, and one far from them.
            for page in [0, 1, 8, 1000] {
                program.store(AT + page * PAGE, 1).await.unwrap();
            }
            let nodes = upper.slot_nodes.in_use();
            assert!(nodes >= 4);
            let amap = upper.amaps.cost() + nodes * upper.slot_nodes.cost();
            let anons = 4 * upper.anons.cost();
            assert_eq!(described(&space).await, own + amap + anons);
            // What two have, each has half of.
            let child = space.fork().await.unwrap();
            for space in [&space, &child] {
                assert_eq!(described(space).await, own + (amap + anons) / 2);
            }
            child.teardown().await;
            space.teardown().await;
        });
        world.check_quiet();
    }
}
