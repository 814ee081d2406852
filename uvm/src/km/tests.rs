//! The heap, early and attached.

use std::vec;
use std::vec::Vec;

use super::*;
use crate::OutOfMemory;
use crate::testing::Host;

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).unwrap()
}

/// A heap on `host`. The box that `attach` leaks comes from the test's own allocator.
fn attached(host: &Host) -> Heap {
    let heap = Heap::new();
    // SAFETY: each test keeps its host as long as its heap.
    unsafe { heap.attach(&host.uvm) };
    heap
}

#[test]
fn classes_fit() {
    for size in 1..=LARGEST_CLASS {
        let class = class(&layout(size, 8)).unwrap();
        assert!(CLASSES[class] >= size);
        assert!(class == 0 || CLASSES[class - 1] < size, "{size}");
    }
    for align in [32, 64, 128, 256, 512] {
        for size in [1, 31, 100, 300, 512] {
            let class = CLASSES[class(&layout(size, align)).unwrap()];
            assert!(class >= size && class.is_multiple_of(align));
        }
    }
    assert_eq!(class(&layout(600, 32)), None);
    assert_eq!(class(&layout(16, 1024)), None);
}

#[test]
fn early_region() {
    let heap = Heap::new();
    // SAFETY: as the test's heap has no memory yet, this answers null.
    assert!(unsafe { heap.alloc(layout(8, 8)) }.is_null());
    let region = vec![0_u64; 128].leak();
    // SAFETY: leaked memory that nobody else uses; blocks are freed with their layouts.
    unsafe {
        heap.init(region.as_mut_ptr().cast(), 1024);
        let a = heap.alloc(layout(100, 8));
        let b = heap.alloc(layout(100, 64));
        assert!(!a.is_null() && b.addr().is_multiple_of(64) && b.addr() >= a.addr() + 100);
        let used = heap.early_used();
        let c = heap.alloc(layout(50, 1));
        heap.dealloc(c, layout(50, 1));
        assert_eq!(heap.early_used(), used, "the last block comes back");
        assert!(heap.alloc(layout(1000, 8)).is_null());
        // Freed after the change of stage: known by its address.
        let host = Host::new(256);
        heap.attach(&host.uvm);
        heap.dealloc(a, layout(100, 8));
        assert_eq!(host.uvm.meter().get(Counter::HeapFrees), 0);
    }
}

#[test]
fn blocks_of_all_sizes_are_apart_and_aligned() {
    let host = Host::new(1024);
    let before = host.uvm.free_frames();
    let heap = attached(&host);
    let mut blocks = Vec::new();
    for (i, size) in (1..9000).step_by(37).enumerate() {
        let layout = layout(size, [1, 8, 16, 64, 4096][i % 5]);
        // SAFETY: the layout is not empty; each block is written within its size.
        unsafe {
            let block = heap.alloc(layout);
            assert!(!block.is_null() && block.addr().is_multiple_of(layout.align()));
            block.write_bytes(i as u8, size);
            blocks.push((block, layout, i as u8));
        }
    }
    for (block, layout, byte) in blocks {
        // SAFETY: allocated and written above, freed once.
        unsafe {
            assert!((0..layout.size()).all(|i| *block.add(i) == byte));
            heap.dealloc(block, layout);
        }
    }
    let attached = heap.attached().unwrap();
    for class in &attached.classes {
        class.reclaim(&host.uvm);
    }
    assert_eq!(host.uvm.free_frames(), before);
    let meter = host.uvm.meter();
    assert_eq!(
        meter.get(Counter::HeapAllocs),
        meter.get(Counter::HeapFrees)
    );
}

#[test]
fn realloc_stays_in_place_within_a_class() {
    let host = Host::new(256);
    let heap = attached(&host);
    // SAFETY: blocks are used within their sizes and freed once.
    unsafe {
        let a = heap.alloc(layout(230, 8));
        a.write(7);
        assert_eq!(heap.realloc(a, layout(230, 8), 250), a);
        let b = heap.realloc(a, layout(250, 8), 5000);
        assert_eq!(*b, 7);
        assert_eq!(heap.realloc(b, layout(5000, 8), 8000), b);
        heap.dealloc(b, layout(8000, 8));
    }
}

#[test]
fn exhaustion_is_null_and_large_blocks_are_counted() {
    let host = Host::new(128);
    let heap = attached(&host);
    heap.seal();
    // SAFETY: sizes are not zero; blocks are freed once.
    unsafe {
        let large = heap.alloc(layout(8192, 8));
        assert_eq!(host.uvm.meter().get(Counter::HeapLarge), 1);
        heap.dealloc(large, layout(8192, 8));
        let mut pages = Vec::new();
        loop {
            let page = heap.alloc(layout(4096, 8));
            if page.is_null() {
                break;
            }
            pages.push(page);
        }
        assert_eq!(host.uvm.meter().get(Counter::HeapFails), 1);
        assert_eq!(
            host.uvm.free_frames(),
            crate::page::freelist::RESERVE_PAGEDAEMON
        );
        pages.iter().for_each(|&p| heap.dealloc(p, layout(4096, 8)));
        // What was not to be had was not allocated.
        let count = |counter| host.uvm.meter().get(counter);
        assert_eq!(count(Counter::HeapAllocs), count(Counter::HeapFrees));
    }
}

/// Programs cannot have what is kept back for the heap, the heap can; and while it is used, nobody is told that there is room.
#[test]
fn programs_leave_the_heap_its_reserve() {
    let host = Host::new(1024);
    let uvm = &host.uvm;
    let heap = attached(&host);
    let reserve = uvm.heap_reserve();
    assert!(reserve >= 16 && uvm.heap_room().is_ok());
    let mut taken = Vec::new();
    while let Some(frame) = uvm.alloc_frame(AllocFor::User, Zero::No) {
        taken.push(frame);
    }
    let kept = crate::page::freelist::RESERVE_PAGEDAEMON + crate::page::freelist::RESERVE_KERNEL;
    assert_eq!(uvm.free_frames(), kept + reserve);
    assert_eq!(uvm.heap_room().err(), Some(OutOfMemory));
    // SAFETY: sizes are not zero; blocks are freed once, with their layout.
    unsafe {
        let page = layout(4096, 8);
        let blocks: Vec<_> = (0..reserve).map(|_| heap.alloc(page)).collect();
        assert!(blocks.iter().all(|block| !block.is_null()));
        // One frame back from a program is the heap's: its reserve comes first.
        uvm.free_frame(taken.pop().unwrap());
        assert_eq!(uvm.alloc_frame(AllocFor::User, Zero::No), None);
        assert!(uvm.heap_room().is_err());
        blocks.iter().for_each(|&block| heap.dealloc(block, page));
    }
    assert!(uvm.heap_room().is_ok());
    taken.into_iter().for_each(|frame| uvm.free_frame(frame));
}
