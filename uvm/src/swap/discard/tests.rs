//! Discards on disks that end them when told, and what happens meanwhile.

use alloc::vec::Vec;
use core::time::Duration;

use executor::Class;

use super::*;
use crate::map::{MapRequest, Placement};
use crate::meter::Gauge;
use crate::prot::Prot;
use crate::sim::disk::{Mode, SimDisk};
use crate::sim::{Program, World};
use crate::swap::tests::{AT, PAGE, count, end, fill, gauge, range, verify};

/// Pages of a cluster.
const PAGES: u64 = CLUSTER as u64;
/// Enough for a request each time.
const USEFUL: Discards = Discards::Useful(1 << 20);

/// A machine of 256 frames with a swap disk of so many pages that is of this mode from now on.
fn world(pages: u32, discards: Discards, mode: Mode) -> (World, Arc<SimDisk>) {
    let world = World::new(256, 1);
    let disk = SimDisk::swap(&world.uvm, pages, Mode::AtOnce);
    disk.set_discards(discards);
    world.swapon(&disk, "swap", 0);
    disk.set_mode(mode);
    (world, disk)
}

/// A program with so many pages of its own.
fn program(world: &World, pages: usize) -> Program {
    let space = world.space();
    let request = MapRequest::anonymous(pages * PAGE_SIZE, Prot::RW);
    let place = Placement::Fixed(range(0, 1).start());
    space.map(request.at(place)).unwrap();
    world.program(&space)
}

/// Takes up to so many runs of slots.
fn take(world: &World, runs: usize) -> Vec<SwapSlot> {
    let run = || world.uvm.swap().take_run(&world.uvm, CLUSTER);
    let runs = core::iter::from_fn(run).take(runs);
    runs.flat_map(|(first, len)| (0..len).filter_map(move |n| first.offset(n as isize)))
        .collect()
}

fn give(world: &World, slots: Vec<SwapSlot>) {
    world.uvm.swap().free_all(&world.uvm, slots.into_iter());
}

/// Gives back so many clusters that have been taken.
fn spend(world: &World, clusters: usize) {
    let slots = take(world, clusters);
    assert_eq!(slots.len(), clusters * CLUSTER);
    give(world, slots);
}

fn sleep(world: &World, micros: u64) {
    let executor = world.executor.clone();
    world.run(async move { executor.sleep(Duration::from_micros(micros)).await });
}

fn state(world: &World) -> Discarding {
    world.uvm.swap_devices()[0].discarding
}

#[test]
fn what_a_program_gives_up_is_discarded_once_and_what_it_has_is_not() {
    let (world, disk) = world(1024, USEFUL, Mode::After(Duration::from_micros(30)));
    let program = program(&world, 700);
    let p = program.clone();
    world.run(async move { fill(&p, 700).await });
    world.driver.run_until_stalled();
    let space = program.space().clone();
    world.run(async move { space.unmap(range(0, 350)).await.unwrap() });
    world.driver.run_until_stalled();
    let some = count(&world, Counter::Swdiscards);
    assert!(some > 100, "{some}");
    world.check();
    let p = program.clone();
    world.run(async move {
        for page in 350..700 {
            assert_eq!(p.load(AT + page * PAGE).await, Ok(page as u8 ^ 0x5a));
        }
    });
    let space = program.space().clone();
    world.run(async move { space.unmap(range(350, 350)).await.unwrap() });
    world.driver.run_until_stalled();
    // Of all that was ever written nothing is left.
    assert_eq!(world.uvm.swap().discardable(), 0);
    let discarded: u64 = disk.discarded().iter().map(|&(_, pages)| pages).sum();
    assert_eq!(discarded, count(&world, Counter::Swdiscards));
    assert!(discarded > some && disk.misuse().is_none());
    end(world, program);
}

#[test]
fn a_few_go_when_it_has_been_quiet_and_many_go_together() {
    let (world, disk) = world(1024, USEFUL, Mode::AtOnce);
    spend(&world, 1);
    sleep(&world, 400);
    assert_eq!(disk.discarded(), []);
    sleep(&world, 200);
    assert_eq!(disk.discarded(), [(PAGES, PAGES)]);
    spend(&world, 15);
    sleep(&world, 100);
    assert_eq!(disk.discarded()[1..], [(2 * PAGES, 15 * PAGES)]);
    sleep(&world, 1_000);
    assert_eq!(disk.discarded().len(), 2);
    world.check_quiet();
}

#[test]
fn nothing_is_discarded_while_a_device_has_something_to_do() {
    let (world, disk) = world(1024, USEFUL, Mode::Told);
    let frame = world
        .uvm
        .alloc_frame(crate::AllocFor::User, crate::Zero::No);
    let frame = frame.unwrap();
    let scratch = world.uvm.take_scratch().unwrap();
    let read = async move { scratch.transfer(crate::io::Op::Read, 0, &[frame]).await };
    let read = world.executor.spawn(Class::User, "read", read);
    spend(&world, 20);
    sleep(&world, 5_000);
    assert_eq!((disk.pending(), disk.reads()), (1, 2));
    disk.complete(1);
    assert_eq!(world.run(read), Ok(()));
    sleep(&world, 1_000);
    assert_eq!((disk.pending(), disk.reads()), (1, 3));
    disk.complete(1);
    world.driver.run_until_stalled();
    while disk.complete(1) > 0 {
        world.driver.run_until_stalled();
    }
    assert!(count(&world, Counter::Swdiscards) >= 20 * PAGES);
    world.uvm.free_pages(&[frame]);
    world.check_quiet();
}

#[test]
fn a_slot_in_discard_is_free_and_found_by_nobody() {
    let (world, disk) = world(1024, USEFUL, Mode::Told);
    spend(&world, 10);
    world.driver.run_until_stalled();
    assert_eq!(disk.pending(), 1);
    assert_eq!(gauge(&world, Gauge::Swpginuse), 0);
    world.check();
    let others = take(&world, usize::MAX);
    let free = 1023 - others.len();
    assert_eq!(free, 10 * CLUSTER);
    assert_eq!(world.uvm.swap().counted_room(), free);
    assert!(world.uvm.swap_has_room());
    let uvm = world.uvm.clone();
    let room = async move { uvm.swap().discarded_room().await };
    let room = world.executor.spawn(Class::User, "room", room);
    world.driver.run_until_stalled();
    assert!(!room.is_finished());
    disk.complete(1);
    world.driver.run_until_stalled();
    assert!(world.run(room));
    let rest = take(&world, usize::MAX);
    assert_eq!(rest.len(), free);
    assert!(rest.iter().all(|slot| !others.contains(slot)));
    give(&world, others.into_iter().chain(rest).collect());
    disk.set_mode(Mode::AtOnce);
    world.driver.run_until_stalled();
    world.check_quiet();
}

#[test]
fn swap_is_not_full_while_slots_are_in_discard() {
    let (world, disk) = world(400, USEFUL, Mode::Told);
    spend(&world, 6);
    world.driver.run_until_stalled();
    assert_eq!(disk.pending(), 1);
    let others = take(&world, usize::MAX);
    // It needs more memory than there is, and all slots that there are come back only when the disk is done.
    let program = program(&world, 290);
    let p = program.clone();
    let filling = world
        .executor
        .spawn(Class::User, "fill", async move { fill(&p, 290).await });
    world.driver.run_until_stalled();
    assert!(!filling.is_finished());
    disk.set_mode(Mode::AtOnce);
    disk.complete(1);
    world.run(filling);
    let p = program.clone();
    world.run(async move { verify(&p, 290).await });
    give(&world, others);
    end(world, program);
}

#[test]
fn a_discard_that_fails_is_the_last_and_changes_nothing() {
    let (world, disk) = world(1024, USEFUL, Mode::AtOnce);
    disk.spoil(100 * PAGE, 101 * PAGE);
    spend(&world, 10);
    world.driver.run_until_stalled();
    assert_eq!(
        (state(&world), disk.discarded()),
        (Discarding::Failed, Vec::new())
    );
    assert_eq!(count(&world, Counter::Swdiscards), 0);
    let requests = disk.reads();
    spend(&world, 10);
    world.driver.run_until_stalled();
    assert_eq!(disk.reads(), requests);
    let device = &world.uvm.swap_devices()[0];
    assert_eq!((device.pages, device.bad, device.used), (1023, 0, 0));
    world.check_quiet();
    // Asked for once more, what was written before goes as well.
    disk.mend();
    world.uvm.start_discards("swap").unwrap();
    world.driver.run_until_stalled();
    assert_eq!(state(&world), Discarding::On);
    assert_eq!(count(&world, Counter::Swdiscards), 20 * PAGES);
}

#[test]
fn a_device_leaves_when_its_discard_has_ended() {
    let (world, disk) = world(1024, USEFUL, Mode::Told);
    // Two requests' worth.
    spend(&world, 20);
    world.driver.run_until_stalled();
    let uvm = world.uvm.clone();
    let off = async move { uvm.swapoff("swap").await };
    let off = world.executor.spawn(Class::User, "swapoff", off);
    world.driver.run_until_stalled();
    assert!(!off.is_finished());
    assert_eq!((disk.pending(), world.uvm.swap_devices().len()), (1, 1));
    world.check();
    disk.complete(1);
    world.driver.run_until_stalled();
    assert_eq!(world.run(off), Ok(()));
    assert_eq!((disk.pending(), disk.discarded().len()), (0, 1));
    assert!(world.uvm.swap_devices().is_empty());
    world.check_quiet();
}

#[test]
fn who_calls_swapoff_off_need_not_wait_for_a_discard() {
    let (world, disk) = world(1024, USEFUL, Mode::Told);
    spend(&world, 20);
    world.driver.run_until_stalled();
    let uvm = world.uvm.clone();
    let off = async move { uvm.swapoff("swap").await };
    let off = world.executor.spawn(Class::User, "swapoff", off);
    world.driver.run_until_stalled();
    assert!(world.uvm.swap().call_off());
    let others = take(&world, usize::MAX);
    assert!(others.len() > 700);
    disk.complete(1);
    world.driver.run_until_stalled();
    assert_eq!(world.run(off), Err(SwapError::OutOfMemory));
    give(&world, others);
    disk.set_mode(Mode::AtOnce);
    disk.complete(usize::MAX);
    world.driver.run_until_stalled();
    assert_eq!(world.uvm.swap().discardable(), 0);
    world.check_quiet();
}

#[test]
fn it_is_on_where_it_gains_something_and_off_where_not() {
    for (discards, at_first) in [
        (USEFUL, Discarding::On),
        (Discards::Useless(1 << 20), Discarding::Off),
        (Discards::Unsupported, Discarding::Unsupported),
        // Less than a cluster.
        (Discards::Useful(PAGE), Discarding::Unsupported),
    ] {
        let (world, disk) = world(1024, discards, Mode::AtOnce);
        assert_eq!(state(&world), at_first, "{discards:?}");
        spend(&world, 10);
        world.driver.run_until_stalled();
        let on = at_first == Discarding::On;
        assert_eq!(disk.discarded().is_empty(), !on, "{discards:?}");
        let uvm = &world.uvm;
        let expected = match at_first {
            Discarding::Unsupported => Err(SwapError::NoDiscard),
            _ => Ok(()),
        };
        assert_eq!(uvm.start_discards("swap"), expected, "{discards:?}");
        assert_eq!(uvm.start_discards("none"), Err(SwapError::Unknown));
        world.driver.run_until_stalled();
        let discarded = count(&world, Counter::Swdiscards);
        assert_eq!(discarded > 0, expected.is_ok(), "{discards:?}");
        assert_eq!(uvm.stop_discards("swap"), Ok(()));
        spend(&world, 10);
        world.driver.run_until_stalled();
        assert_eq!(count(&world, Counter::Swdiscards), discarded);
    }
}
