//! Everything that touches wiring, at random and at once, with everything checked after each step.

use alloc::sync::Arc;
use core::future::poll_fn;
use core::pin::pin;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use core::time::Duration;

use executor::Class;

use super::MlockAll;
use crate::VnodeObject;
use crate::addr::{PAGE_SIZE, PageIndex, Pages, VaRange, VirtAddr};
use crate::map::{Inherit, MapRequest, Placement};
use crate::meter::Gauge;
use crate::object::UvmObject;
use crate::pool::Ref;
use crate::prot::Prot;
use crate::sim::disk::{Layout, Mode, SimDisk, SimFile};
use crate::sim::random::Random;
use crate::sim::{Program, World};
use crate::testing::HostConfig;

const AT: u64 = 0x1000_0000;
/// Pages that programs use; a good deal more than are unwired at a time.
const ARENA: u64 = 200;

/// What the programs of a run share.
struct Storm {
    file: Arc<VnodeObject>,
    object: Ref<UvmObject>,
    steps: AtomicU64,
}

fn range(random: &mut Random) -> VaRange {
    let from = random.below(ARENA);
    let most = if random.percent(30) { ARENA } else { 12 };
    let len = random.below(most.min(ARENA - from)) + 1;
    VaRange::of_pages(VirtAddr::new(AT + from * PAGE_SIZE as u64), len as usize)
}

fn request(storm: &Storm, random: &mut Random) -> MapRequest {
    let at = range(random);
    let len = at.pages() * PAGE_SIZE;
    let prot = random.pick(&[Prot::RW, Prot::RW, Prot::READ, Prot::empty()]);
    let request = match random.below(4) {
        0 => MapRequest::object(
            storm.file.object().clone(),
            PageIndex(0),
            len,
            prot & Prot::READ,
        ),
        1 => MapRequest::object(storm.object.clone(), PageIndex(0), len, prot),
        _ => MapRequest::anonymous(len, prot),
    };
    let mut request = request.at(Placement::Fixed(at.start()));
    if random.percent(30) {
        request = request.shared();
    }
    if random.percent(20) {
        request.inherit = random.pick(&[Inherit::Share, Inherit::Copy, Inherit::Zero]);
    }
    request
}

/// One operation.
async fn step(storm: &Storm, program: &Program, random: &mut Random) {
    let space = program.space();
    let range = range(random);
    let va = range.start().as_u64();
    match random.below(16) {
        0 => ignore(space.map(request(storm, random))),
        1 => ignore(space.mmap(request(storm, random)).await),
        2 | 3 => ignore(space.mlock(range).await),
        4 => ignore(space.munlock(range).await),
        5 => ignore(space.unmap(range).await),
        6 => {
            let prot = random.pick(&[Prot::RW, Prot::READ, Prot::empty()]);
            ignore(space.protect(range, prot).await);
        }
        7 => {
            let (now, future) = (MlockAll::CURRENT, MlockAll::FUTURE);
            let what = random.pick(&[now, future, now | future, MlockAll::empty()]);
            ignore(space.mlockall(what).await);
        }
        8 if random.percent(50) => space.munlockall().await,
        9 => {
            let inherit = random.pick(&[Inherit::Share, Inherit::Copy]);
            ignore(space.inherit(range, inherit).await);
        }
        10 | 11 => {
            // A child that writes, and locks what it shares, for a while.
            if let Ok(child) = space.fork().await {
                ignore(child.write_bytes(range.start(), &[1]).await);
                ignore(child.mlock(range).await);
                space.uvm().executor().yield_now().await;
                child.teardown().await;
            }
        }
        12 | 13 => ignore(program.store(va, 1).await),
        _ => ignore(program.load(va).await),
    }
}

/// What an operation answers does not matter: memory is short, the disk bad, the range full of holes.
fn ignore<T>(_: T) {}

/// Polls a future as if the timer ticked at the start of each poll.
async fn hurried(executor: &executor::Executor, f: impl Future<Output = ()>) {
    let mut f = pin!(f);
    poll_fn(|cx| {
        executor.tick();
        f.as_mut().poll(cx)
    })
    .await;
}

fn run(seed: u64, steps: u64, frames: usize, bad_disk: bool, torture_evict: bool) {
    let config = HostConfig {
        frames,
        torture_evict,
        ..HostConfig::default()
    };
    let world = World::with(&config, seed);
    world.uvm.meter().set(Gauge::Wiredmax, frames as u64 / 2);
    let delay = Mode::After(Duration::from_micros(30));
    let disk = SimDisk::new(&world.uvm, 4 << 20, delay);
    if bad_disk {
        disk.spoil(20 * PAGE_SIZE as u64, 21 * PAGE_SIZE as u64);
    }
    let file = SimFile::new(&disk, Layout::Contiguous(0));
    let storm = Arc::new(Storm {
        file: world.file(file, 64 * PAGE_SIZE as u64),
        object: UvmObject::anonymous(&world.uvm, Pages(ARENA as usize)).unwrap(),
        steps: AtomicU64::new(steps),
    });
    let mut programs = alloc::vec::Vec::new();
    for number in 0..2 {
        // Two threads in one space, and a neighbour who shows the same objects.
        let space = world.space();
        for thread in 0..2 - number {
            let (storm, program) = (storm.clone(), world.program(&space));
            let (uvm, executor) = (world.uvm.clone(), world.executor.clone());
            let mut random = Random::new(seed * 8 + number * 2 + thread);
            programs.push(world.executor.spawn(Class::User, "storm", async move {
                while storm.steps.fetch_sub(1, Relaxed) > 1 {
                    if random.percent(50) {
                        hurried(&executor, step(&storm, &program, &mut random)).await;
                    } else {
                        step(&storm, &program, &mut random).await;
                    }
                    if uvm.has_memory_for_check()
                        && let Err(error) = uvm.check()
                    {
                        panic!("seed {seed}: {error}");
                    }
                }
                storm.steps.store(1, Relaxed);
                program.space().munlockall().await;
                program.space().deactivate();
            }));
        }
        programs.push(world.executor.spawn(Class::User, "end", {
            let (storm, executor) = (storm.clone(), world.executor.clone());
            async move {
                while storm.steps.load(Relaxed) > 1 {
                    executor.sleep(Duration::from_millis(1)).await;
                }
                space.teardown().await;
            }
        }));
    }
    for program in programs {
        world.run(program);
    }
    drop(storm);
    world.run(async {});
    assert_eq!(world.uvm.meter().gauge(Gauge::Wired), 0, "seed {seed}");
    world.check_quiet();
}

#[test]
fn enough_memory() {
    (0..20).for_each(|seed| run(seed, 300, 1500, false, false));
}

#[test]
fn a_bad_disk_and_little_memory() {
    (100..120).for_each(|seed| run(seed, 300, 200, true, false));
}

#[test]
fn eviction_all_the_time() {
    (200..220).for_each(|seed| run(seed, 300, 600, true, true));
}
