use super::*;
use crate::fs::testing::{MemoryDisk, SmallMachine, small_machine};
use core::future::Future;
use core::pin::pin;
use futures_util::FutureExt;
use std::vec::Vec;

const FRAMES: usize = 8;

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i / 512 * 31 + i) as u8).collect()
}

/// A machine, a disk of 256 KiB, and a cache of at most [`FRAMES`] frames on it.
fn cache(block_size: usize) -> (SmallMachine, Arc<MemoryDisk>, BlockCache) {
    let machine = small_machine(4);
    let disk = MemoryDisk::new(&machine.uvm, content(256 << 10));
    let cache = BlockCache::new(machine.uvm.clone(), disk.clone(), block_size, FRAMES);
    (machine, disk, cache.unwrap())
}

#[test]
fn every_block_is_what_the_disk_has() {
    for block_size in [512, 1024, 2048, 4096] {
        let (machine, disk, cache) = cache(block_size);
        let expected = content(256 << 10);
        let blocks = (256 << 10) / block_size;
        let reader = cache.clone();
        machine.run(async move {
            // Twice, backwards the second time: buffers are recycled on the way.
            for number in (0..blocks).chain((0..blocks).rev()) {
                let block = reader.read(number as u64).await.unwrap();
                assert!(*block == expected[number * block_size..][..block_size]);
            }
        });
        let stats = cache.stats();
        assert_eq!(stats.frames, FRAMES);
        assert_eq!(stats.buffers, FRAMES * 4096 / block_size);
        // What was read last was still there on the way back.
        assert!(disk.reads() < 2 * blocks as u64 && disk.reads() == stats.reads);
        machine.check();
    }
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let (machine, disk, _) = cache(4096);
    for size in [0, 256, 1000, 8192] {
        let made = BlockCache::new(machine.uvm.clone(), disk.clone(), size, FRAMES);
        assert!(matches!(made, Err(FsError::Invalid)), "{size}");
    }
}

#[test]
fn frames_go_back_with_the_cache() {
    let machine = small_machine(4);
    let free = machine.uvm.free_frames();
    let disk = MemoryDisk::new(&machine.uvm, content(256 << 10));
    let cache = BlockCache::new(machine.uvm.clone(), disk, 1024, FRAMES).unwrap();
    assert_eq!(machine.uvm.free_frames(), free - RESERVE);
    machine.run(async move {
        for number in 0..100 {
            cache.read(number).await.unwrap();
        }
    });
    assert_eq!(machine.uvm.free_frames(), free);
    machine.check();
}

#[test]
fn readers_wait_when_every_buffer_is_in_use() {
    let (machine, disk, cache) = cache(4096);
    let mut held = Vec::new();
    for number in 0..FRAMES as u64 {
        held.push(read_now(&machine, &cache, number).unwrap());
    }
    let mut first = pin!(cache.read(40));
    let mut second = pin!(cache.read(41));
    assert!(first.as_mut().now_or_never().is_none());
    assert!(second.as_mut().now_or_never().is_none());
    machine.run_until_stalled();
    assert_eq!(disk.reads(), FRAMES as u64);
    drop(held.pop());
    let finish = |mut waiting: core::pin::Pin<&mut dyn Future<Output = _>>| {
        for _ in 0..10 {
            machine.run_until_stalled();
            if let Some(block) = waiting.as_mut().now_or_never() {
                return block;
            }
        }
        panic!("the reader was not woken");
    };
    let block: Result<Block<'_>, FsError> = finish(first);
    drop(block.unwrap());
    finish(second).unwrap();
    drop(held);
}

#[test]
fn a_failed_read_is_tried_again_by_the_next_reader() {
    let (machine, disk, cache) = cache(1024);
    disk.set_bad(5 * 1024, true);
    assert!(matches!(read_now(&machine, &cache, 5), Err(FsError::Io)));
    // Its neighbour in the same frame is not concerned.
    assert!(read_now(&machine, &cache, 4).is_ok());
    assert!(matches!(read_now(&machine, &cache, 5), Err(FsError::Io)));
    disk.set_bad(5 * 1024, false);
    assert!(read_now(&machine, &cache, 5).is_ok());
    // Beyond the end, far beyond, and past all numbers.
    for number in [256, 1 << 40, u64::MAX] {
        assert!(matches!(
            read_now(&machine, &cache, number),
            Err(FsError::Io)
        ));
    }
}

/// Reads a block, running the machine until it is there.
fn read_now<'a>(
    machine: &SmallMachine,
    cache: &'a BlockCache,
    number: u64,
) -> Result<Block<'a>, FsError> {
    let mut reading = pin!(cache.read(number));
    loop {
        if let Some(block) = reading.as_mut().now_or_never() {
            return block;
        }
        machine.run_until_stalled();
    }
}
