//! What memory costs where nobody waits for it: frames, blocks of the heap, mappings, address spaces.

use alloc::vec::Vec;

use uvm::page::freelist::{AllocFor, Zero};
use uvm::{Access, MapRequest, PAGE_SIZE, Placement, Prot, VaRange, VirtAddr, VmSpace};

use super::{Bench, Trouble};
use crate::samples::Samples;

const FRAME_ALLOC: (&str, &str) = ("frame-alloc", "taking a frame, zeroed or not");
const FRAME_FREE: (&str, &str) = ("frame-free", "giving it back");
const HEAP_ALLOC: (&str, &str) = ("heap-alloc-64", "taking 64 bytes from the kernel's heap");
const HEAP_FREE: (&str, &str) = ("heap-free-64", "giving them back");
const MAP: (&str, &str) = ("map", "mapping of a page of anonymous memory");
const UNMAP: (&str, &str) = ("unmap", "unmapping of such a page, never touched");
const EXTRACT: (&str, &str) = ("pmap-extract", "looking a page up in the page tables");
const SPACE_NEW: (&str, &str) = ("space-new", "making an address space");
const SPACE_TEARDOWN: (&str, &str) = ("space-teardown", "the end of an empty one");

pub(super) const CASES: [(&str, &str); 9] = [
    FRAME_ALLOC,
    FRAME_FREE,
    HEAP_ALLOC,
    HEAP_FREE,
    MAP,
    UNMAP,
    EXTRACT,
    SPACE_NEW,
    SPACE_TEARDOWN,
];

/// Bytes in a block of the heap.
const BLOCK: usize = 64;
/// Where a page is mapped and unmapped.
const HERE: VirtAddr = VirtAddr::new(0x1_0000_0000);
/// Where one stays.
const THERE: VirtAddr = VirtAddr::new(0x1_0000_0000 + 16 * PAGE_SIZE as u64);

pub(super) async fn run(bench: &mut Bench) -> Result<(), Trouble> {
    frames(bench).await?;
    heap(bench).await?;
    let space = VmSpace::new(&bench.env.uvm)?;
    let result = mappings(bench, &space).await;
    space.teardown().await;
    result?;
    spaces(bench).await
}

/// Times `take`, then `give` with what it gave.
fn pair<T>(
    bench: &Bench,
    samples: &mut [Samples; 2],
    take: impl FnOnce() -> Option<T>,
    give: impl FnOnce(T),
) -> Result<(), Trouble> {
    let start = bench.now();
    let taken = take();
    let took = bench.now().saturating_sub(start);
    let taken = taken.ok_or(Trouble::NoRoom)?;
    let start = bench.now();
    give(taken);
    let gave = bench.now().saturating_sub(start);
    samples[0].push(took);
    samples[1].push(gave);
    Ok(())
}

async fn frames(bench: &mut Bench) -> Result<(), Trouble> {
    let mut samples = [bench.samples()?, bench.samples()?];
    let uvm = bench.env.uvm.clone();
    for _ in 0..bench.count {
        let take = || uvm.alloc_frame(AllocFor::User, Zero::Any);
        pair(bench, &mut samples, take, |frame| uvm.free_frame(frame))?;
        bench.give_way().await?;
    }
    let [take, give] = samples;
    bench.add(FRAME_ALLOC, take);
    bench.add(FRAME_FREE, give);
    Ok(())
}

async fn heap(bench: &mut Bench) -> Result<(), Trouble> {
    let mut samples = [bench.samples()?, bench.samples()?];
    for _ in 0..bench.count {
        let take = || {
            let mut block = Vec::<u8>::new();
            block.try_reserve_exact(BLOCK).ok()?;
            // Or it might never be made.
            Some(core::hint::black_box(block))
        };
        pair(bench, &mut samples, take, drop)?;
        bench.give_way().await?;
    }
    let [take, give] = samples;
    bench.add(HEAP_ALLOC, take);
    bench.add(HEAP_FREE, give);
    Ok(())
}

async fn mappings(bench: &mut Bench, space: &VmSpace) -> Result<(), Trouble> {
    let at = |at| MapRequest::anonymous(PAGE_SIZE, Prot::RW).at(Placement::Fixed(at));
    let (mut map, mut unmap, mut extract) = (bench.samples()?, bench.samples()?, bench.samples()?);
    space.map(at(THERE))?;
    space
        .fault(THERE, Access::Write)
        .await
        .map_err(|_| Trouble::NoRoom)?;
    for _ in 0..bench.count {
        let start = bench.now();
        space.map(at(HERE))?;
        map.push(bench.now().saturating_sub(start));
        let start = bench.now();
        space.unmap(VaRange::of_pages(HERE, 1)).await?;
        unmap.push(bench.now().saturating_sub(start));
        let start = bench.now();
        let found = space.pmap().extract(&bench.env.uvm, THERE);
        extract.push(bench.now().saturating_sub(start));
        core::hint::black_box(found);
        bench.give_way().await?;
    }
    bench.add(MAP, map);
    bench.add(UNMAP, unmap);
    bench.add(EXTRACT, extract);
    Ok(())
}

async fn spaces(bench: &mut Bench) -> Result<(), Trouble> {
    let (mut new, mut teardown) = (bench.samples()?, bench.samples()?);
    for _ in 0..bench.count {
        let start = bench.now();
        let space = VmSpace::new(&bench.env.uvm)?;
        new.push(bench.now().saturating_sub(start));
        let start = bench.now();
        space.teardown().await;
        drop(space);
        teardown.push(bench.now().saturating_sub(start));
        bench.give_way().await?;
    }
    bench.add(SPACE_NEW, new);
    bench.add(SPACE_TEARDOWN, teardown);
    Ok(())
}
