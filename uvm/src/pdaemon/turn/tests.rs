//! Who goes first when memory is short.

use alloc::vec::Vec;
use core::pin::pin;
use core::task::{Context, Poll, Waker};

use super::*;
use crate::addr::{Frame, VirtAddr};
use crate::map::{MapRequest, Placement};
use crate::page::freelist::Zero;
use crate::prot::Prot;
use crate::sim::World;

const MODEST: usize = 8;
const AT: u64 = 0x1000_0000;

/// A machine with frames for the modest alone, and what took the others.
fn scarce(world: &World) -> Vec<Frame> {
    let uvm = &world.uvm;
    uvm.keep_for_the_modest(MODEST);
    let mut frames = Vec::new();
    while uvm.can_allocate(AllocFor::User, MODEST + 1) {
        frames.extend(uvm.alloc_frame(AllocFor::User, Zero::No));
    }
    assert!(uvm.is_scarce() && uvm.is_for_the_modest());
    frames
}

fn hasten(space: &VmSpace) {
    let epoch = space.uvm().upper.turns.epoch.load(Relaxed);
    space.taken.set(HASTY, epoch);
}

#[test]
fn the_hasty_wait_until_frames_are_freed_and_the_modest_do_not() {
    let world = World::new(256, 0);
    let (large, small) = (world.space(), world.space());
    let mut frames = scarce(&world);
    hasten(&large);
    assert!(small.may_take() && !large.may_take());
    let mut waiting = pin!(large.wait_for_turn());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(waiting.as_mut().poll(&mut cx).is_pending());
    assert!(small.may_take());
    world
        .uvm
        .free_frame(frames.pop().expect("a frame taken above"));
    assert_eq!(waiting.as_mut().poll(&mut cx), Poll::Ready(true));
    assert!(large.may_take());
    frames.into_iter().for_each(|f| world.uvm.free_frame(f));
    world.check_quiet();
}

#[test]
fn who_finds_none_at_all_does_not_wait_for_a_turn() {
    let world = World::new(256, 0);
    let large = world.space();
    let mut frames = scarce(&world);
    while let Some(frame) = world.uvm.alloc_frame(AllocFor::User, Zero::No) {
        frames.push(frame);
    }
    hasten(&large);
    let mut cx = Context::from_waker(Waker::noop());
    let waited = pin!(large.wait_for_turn()).poll(&mut cx);
    assert_eq!(waited, Poll::Ready(false));
    frames.into_iter().for_each(|f| world.uvm.free_frame(f));
    world.check_quiet();
}

/// Nothing can be freed: the pagedaemon's pass ends in vain, and the hasty have what there is.
#[test]
fn the_end_of_a_pass_lets_the_hasty_go_on() {
    let world = World::new(256, 0);
    let space = world.space();
    let request =
        MapRequest::anonymous(1 << 20, Prot::RW).at(Placement::Exclusive(VirtAddr::new(AT)));
    space.map(request).unwrap();
    let program = world.program(&space);
    assert_eq!(world.run(async move { program.store(AT, 1).await }), Ok(()));
    let frames = scarce(&world);
    for page in 1..4 {
        hasten(&space);
        let program = world.program(&space);
        let stored = world.run(async move { program.store(AT + page * 4096, 1).await });
        assert_eq!(stored, Ok(()));
        assert_eq!(world.uvm.meter().get(Counter::Turnwaits), page);
    }
    frames.into_iter().for_each(|f| world.uvm.free_frame(f));
    world.check_quiet();
}

#[test]
fn equals_among_many_are_hasty_and_a_newcomer_is_not() {
    let world = World::new(256, 0);
    let spaces: Vec<_> = (0..5).map(|_| world.space()).collect();
    let lately = |space: &VmSpace| {
        let epoch = world.uvm.upper.turns.epoch.load(Relaxed);
        space.taken.at(epoch).0
    };
    let (newcomer, equals) = spaces.split_first().expect("five");
    for _ in 0..10 * SHARE {
        equals.iter().for_each(|space| assert!(space.may_take()));
    }
    (0..40).for_each(|_| assert!(newcomer.may_take()));
    assert!(equals.iter().all(|space| lately(space) >= HASTY));
    assert!(lately(newcomer) < HASTY);
    // Who takes nothing for a while is modest again.
    for _ in 0..4 * SHARE {
        assert!(equals[0].may_take());
    }
    assert!(lately(&equals[1]) < HASTY && lately(&equals[0]) >= HASTY);
}
