//! What stays in memory and what goes, seen from programs.

use core::time::Duration;

use crate::addr::{PageIndex, VaRange, VirtAddr};
use crate::map::{Advice, MapRequest, Placement};
use crate::meter::Counter;
use crate::page::queues::Sort;
use crate::prot::Prot;
use crate::sim::disk::{Layout, Mode, SimDisk, SimFile};
use crate::sim::{Program, World};

const PAGE: u64 = 4096;
const ANON: u64 = 0x1000_0000;
const FILE: u64 = 0x2000_0000;
const DELAY: Mode = Mode::After(Duration::from_micros(10));

/// A program with `anon` pages of its own, all written, and a file of `file` pages mapped, read where it is touched.
fn program(world: &World, anon: u64, file: u64) -> Program {
    let swap = SimDisk::swap(&world.uvm, 1000, DELAY);
    world.swapon(&swap, "swap", 0);
    let disk = SimDisk::new(&world.uvm, 64 << 20, DELAY);
    let layout = SimFile::new(&disk, Layout::Contiguous(0));
    let object = world.file(layout, file * PAGE).object().clone();
    let space = world.space();
    let mut map = MapRequest::object(object, PageIndex(0), (file * PAGE) as usize, Prot::READ);
    map.advice = Advice::Random;
    space
        .map(map.at(Placement::Fixed(VirtAddr::new(FILE))))
        .unwrap();
    let own = MapRequest::anonymous((anon * PAGE) as usize, Prot::RW);
    space
        .map(own.at(Placement::Fixed(VirtAddr::new(ANON))))
        .unwrap();
    let program = world.program(&space);
    let touching = program.clone();
    world.run(async move { touching.touch(ANON, anon as usize, 1).await.unwrap() });
    program
}

#[test]
fn what_is_read_once_does_not_push_out_what_is_in_use() {
    let world = World::new(512, 0);
    let (own, file) = (150, 4000);
    let program = program(&world, own, file);
    let swapped = || world.uvm.meter().get(Counter::Swapins);
    let before = swapped();
    world.run(async move {
        for page in 0..file {
            program.load(FILE + page * PAGE).await.unwrap();
            // Its own pages all the while.
            program.load(ANON + page * 7 % own * PAGE).await.unwrap();
        }
    });
    let swapped = swapped() - before;
    assert!(swapped < file / 50, "{swapped} pages came back from swap");
    world.check_quiet();
}

#[test]
fn a_working_set_takes_the_place_of_what_is_not_used_any_more() {
    let world = World::new(512, 0);
    // Read again and again, and larger than what is inactive, while memory is full of what once was in use.
    let (own, file, rounds) = (450, 200, 20);
    let program = program(&world, own, file);
    let read = || world.uvm.meter().get(Counter::Pgswapin);
    let mut rounds_read = alloc::vec::Vec::new();
    for _ in 0..rounds {
        let before = read();
        let program = program.clone();
        world.run(async move {
            for page in 0..file {
                program.load(FILE + page * PAGE).await.unwrap();
            }
        });
        rounds_read.push(read() - before);
    }
    // The last rounds found nearly all of it in memory, because those before were told of their mistakes.
    let last: u64 = rounds_read[rounds - 5..].iter().sum();
    assert!(last < 5 * file / 10, "{rounds_read:?}");
    assert!(world.uvm.meter().get(Counter::Refkept) > 0);
    world.check_quiet();
}

#[test]
fn what_is_mapped_to_be_executed_is_text() {
    const PAGES: u64 = 16;
    let world = World::new(512, 0);
    let disk = SimDisk::new(&world.uvm, 64 << 20, DELAY);
    let space = world.space();
    let rx = Prot::READ | Prot::EXEC;
    let file = |at: u64, prot: Prot| {
        let layout = SimFile::new(&disk, Layout::Contiguous(at));
        let object = world.file(layout, PAGES * PAGE).object().clone();
        let map = MapRequest::object(object.clone(), PageIndex(0), (PAGES * PAGE) as usize, prot);
        let at = Placement::Fixed(VirtAddr::new(FILE + at));
        space.map(map.at(at)).unwrap();
        object
    };
    let (_text, data) = (file(0, rx), file(1 << 20, Prot::READ));
    let program = world.program(&space);
    world.run(async move {
        for page in 0..PAGES {
            program.load(FILE + page * PAGE).await.unwrap();
            program.load(FILE + (1 << 20) + page * PAGE).await.unwrap();
        }
    });
    let on_queues = world.uvm.queue_counts_by_sort();
    let of = |sort: Sort| on_queues[sort as usize].total() as u64;
    assert_eq!((of(Sort::Exec), of(Sort::File)), (PAGES, PAGES));
    // What is in memory when that is decided counts, too.
    let range = VaRange::of_pages(VirtAddr::new(FILE + (1 << 20)), 4);
    world.run(async move { space.protect(range, rx).await.unwrap() });
    let pages = data.lock();
    let mut frames = pages.frames.iter_from(0).map(|(_, &frame)| frame);
    assert!(frames.all(|frame| Sort::of(world.uvm.page(frame)) == Sort::Exec));
}
