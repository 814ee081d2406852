//! Who may come in when.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use executor::{Class, JoinHandle};

use super::*;
use crate::addr::Frame;
use crate::page::freelist::Zero;
use crate::sim::World;

/// Takes all memory but `leaves` frames.
fn hog(world: &World, leaves: usize) -> Vec<Frame> {
    let mut hog = Vec::new();
    while world.uvm.spare_frames(AllocFor::User) > leaves {
        hog.extend(world.uvm.alloc_frame(AllocFor::User, Zero::No));
    }
    hog
}

/// Somebody who wants to come in, and counts in `inside` when it has.
fn comes(world: &World, inside: &Arc<AtomicUsize>) -> JoinHandle<()> {
    let (uvm, inside) = (world.uvm.clone(), inside.clone());
    world.executor.spawn(Class::User, "comes in", async move {
        uvm.wait_to_come_in(|| false).await;
        inside.fetch_add(1, Relaxed);
    })
}

/// Time for some passes.
fn wait(world: &World, ms: u64) {
    let executor = world.executor.clone();
    world.run(async move { executor.sleep(Duration::from_millis(ms)).await });
}

#[test]
fn nobody_comes_in_while_somebody_in_memory_waits_for_frames() {
    let world = World::new(512, 0);
    let mut hog = hog(&world, 0);
    let uvm = world.uvm.clone();
    let waits = world.executor.spawn(Class::User, "in memory", async move {
        uvm.wait_for_free(4).await;
    });
    let inside = Arc::new(AtomicUsize::new(0));
    let comes = comes(&world, &inside);
    wait(&world, 50);
    assert_eq!(inside.load(Relaxed), 0);
    // More than it wants, but it comes first.
    hog.drain(..3).for_each(|frame| world.uvm.free_frame(frame));
    wait(&world, 50);
    assert_eq!(inside.load(Relaxed), 0);
    // Now it has what it waits for. There is no room, and there will be none: one may try.
    hog.drain(..1).for_each(|frame| world.uvm.free_frame(frame));
    wait(&world, 50);
    assert_eq!(inside.load(Relaxed), 1);
    world.run(async move {
        waits.await;
        comes.await;
    });
    hog.into_iter()
        .for_each(|frame| world.uvm.free_frame(frame));
    world.check_quiet();
}

#[test]
fn each_finds_room_and_others_come_with_the_next_pass() {
    let world = World::new(512, 0);
    let hog = hog(&world, 2 * ROOM + ROOM / 2);
    let inside = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..3).map(|_| comes(&world, &inside)).collect();
    let seen = inside.clone();
    world.run(async move {
        // Before the pagedaemon has made a pass, which the third one makes it do.
        executor::yield_now().await;
        assert_eq!(seen.load(Relaxed), 2);
    });
    wait(&world, 10);
    assert_eq!(inside.load(Relaxed), 3);
    world.run(async move {
        for task in tasks {
            task.await;
        }
    });
    hog.into_iter()
        .for_each(|frame| world.uvm.free_frame(frame));
    world.check_quiet();
}

#[test]
fn who_always_waits_behind_others_comes_in_at_last() {
    let world = World::new(512, 0);
    let hog = hog(&world, 0);
    let uvm = world.uvm.clone();
    let waits = world.executor.spawn(Class::User, "in memory", async move {
        uvm.wait_for_free(4).await;
    });
    let inside = Arc::new(AtomicUsize::new(0));
    let comes = comes(&world, &inside);
    wait(&world, u64::from(PATIENCE) / 2);
    assert_eq!(inside.load(Relaxed), 0);
    wait(&world, u64::from(PATIENCE) * 4);
    assert_eq!(inside.load(Relaxed), 1);
    hog.into_iter()
        .for_each(|frame| world.uvm.free_frame(frame));
    world.run(async move {
        waits.await;
        comes.await;
    });
    world.check_quiet();
}
