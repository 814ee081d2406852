//! Large mappings with few pages cost what the pages cost.

use crate::addr::{PAGE_SIZE, VirtAddr};
use crate::map::{MapRequest, Placement};
use crate::meter::Counter;
use crate::prot::Prot;
use crate::sim::World;

const TIB: u64 = 1 << 40;
const AT: u64 = TIB;
const TOUCHED: u64 = 10;

fn address(page: u64) -> u64 {
    AT + page * (TIB / TOUCHED) / PAGE_SIZE as u64 * PAGE_SIZE as u64
}

#[test]
fn a_tebibyte_with_ten_pages_costs_and_forks_as_ten_pages() {
    let world = World::new(512, 0);
    let space = world.space();
    let program = world.program(&space);
    let uvm = world.uvm.clone();
    let child = world.run(async move {
        let count = |counter| uvm.meter().get(counter);
        let request = MapRequest::anonymous(TIB as usize, Prot::RW);
        let request = request.at(Placement::Exclusive(VirtAddr::new(AT)));
        let before = (count(Counter::PoolAllocs), uvm.slab_pages());
        program.space().map(request).unwrap();
        assert_eq!(count(Counter::PoolAllocs) - before.0, 1, "an entry");
        for page in 0..TOUCHED {
            program.store(address(page), page as u8 + 1).await.unwrap();
        }
        // The entry and its amap; an anon for each page, and the way to it in the amap: at most 10 chunks.
        let objects = count(Counter::PoolAllocs) - before.0;
        assert!(objects <= 2 + TOUCHED * 11, "{objects} objects");
        let pages = uvm.slab_pages() - before.1;
        assert!(pages <= 6, "{pages} pages of pools");
        assert_eq!(program.space().resident_pages(), TOUCHED as usize);

        let before = (
            count(Counter::PoolAllocs),
            count(Counter::PmapTableAllocs),
            count(Counter::Pgalloc),
        );
        let child = program.space().fork().await.unwrap();
        // The space on its list, its pmap, and an entry; a root table.
        assert_eq!(count(Counter::PoolAllocs) - before.0, 3);
        assert_eq!(count(Counter::PmapTableAllocs) - before.1, 0);
        assert!(count(Counter::Pgalloc) - before.2 <= 2);
        child
    });
    let program = world.program(&child);
    let uvm = world.uvm.clone();
    world.run(async move {
        let before = uvm.meter().get(Counter::PoolAllocs);
        program.store(address(3), 99).await.unwrap();
        // Its own amap is the ten chunks' ways, and one anon is new.
        let objects = uvm.meter().get(Counter::PoolAllocs) - before;
        assert!(objects <= 2 + TOUCHED * 10, "{objects} objects");
        for page in 0..TOUCHED {
            let expected = if page == 3 { 99 } else { page as u8 + 1 };
            assert_eq!(program.load(address(page)).await, Ok(expected));
        }
    });
    let report = world.check_quiet();
    assert_eq!(report.anons, TOUCHED as usize + 1);
}
