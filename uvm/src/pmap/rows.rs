//! Rows 1 and 22 at the level of address spaces: flushes are put off and few, and each CPU leaves as often as it enters.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::pin::Pin;
use core::sync::atomic::Ordering::SeqCst;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::vec::Vec;

use super::flush::PAGES;
use crate::addr::{Frame, PAGE_SIZE, VaRange, VirtAddr};
use crate::map::{Inherit, MapRequest, Placement, VmSpace};
use crate::meter::Counter;
use crate::pmap::{EnterFlags, Pmap};
use crate::prot::{Access, Prot};
use crate::sim::World;
use crate::testing::{Host, HostConfig, on_cpu};

const AT: u64 = 0x1000_0000;

fn range(pages: usize) -> VaRange {
    VaRange::of_pages(VirtAddr::new(AT), pages)
}

fn request(pages: usize) -> MapRequest {
    MapRequest::anonymous(pages * PAGE_SIZE, Prot::RW).at(Placement::Fixed(VirtAddr::new(AT)))
}

/// What was flushed: calls for single pages, pages in them, calls for everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flushes {
    some: u64,
    pages: u64,
    all: u64,
}

fn flushes(world: &World) -> Flushes {
    let get = |counter| world.uvm.meter().get(counter);
    Flushes {
        some: get(Counter::TlbFlush),
        pages: get(Counter::TlbFlushPages),
        all: get(Counter::TlbFlushAll),
    }
}

/// What `f` flushes.
fn flushed_by(world: &World, f: impl Future<Output = ()> + Send + 'static) -> Flushes {
    let before = flushes(world);
    world.run(f);
    let after = flushes(world);
    Flushes {
        some: after.some - before.some,
        pages: after.pages - before.pages,
        all: after.all - before.all,
    }
}

/// Maps so many pages in a space that is active, and writes to each.
fn touched(world: &World, pages: usize) -> Arc<VmSpace> {
    let space = world.space();
    space.map(request(pages)).unwrap();
    let program = world.program(&space);
    world
        .run(async move { program.touch(AT, pages, 1).await })
        .unwrap();
    space
}

#[test]
fn row_22_flushes_are_deferred_until_update() {
    const FEW: usize = 8;
    const MANY: usize = 500;
    let world = World::new(2048, 0);
    type Operation = fn(Arc<VmSpace>, usize) -> Pin<Box<dyn Future<Output = ()> + Send>>;
    let operations: [(&str, Operation); 4] = [
        ("unmap", |space, pages| {
            Box::pin(async move { space.unmap(range(pages)).await.unwrap() })
        }),
        ("protect", |space, pages| {
            Box::pin(async move { space.protect(range(pages), Prot::READ).await.unwrap() })
        }),
        ("replace", |space, pages| {
            Box::pin(async move { assert!(space.map(request(pages)).is_ok()) })
        }),
        ("fork", |space, _| {
            Box::pin(async move { space.fork().await.unwrap().teardown().await })
        }),
    ];
    for (name, operation) in operations {
        // Filling it needs none: nothing was there.
        let before = flushes(&world);
        let space = touched(&world, FEW);
        assert_eq!(flushes(&world), before, "{name}");
        let few = flushed_by(&world, operation(space.clone(), FEW));
        assert_eq!((few.some, few.all), (1, 0), "{name}");
        assert!(
            (FEW..=PAGES).contains(&(few.pages as usize)),
            "{name}: {few:?}"
        );
        space.assert_settled();
        let space = touched(&world, MANY);
        let many = flushed_by(&world, operation(space.clone(), MANY));
        assert_eq!((many.some, many.all), (0, 1), "{name}");
        space.assert_settled();
        assert_eq!(world.uvm.flushes_pending.load(SeqCst), 0, "{name}");
        space.deactivate();
        world.run(async move { space.teardown().await });
        world.check();
    }
}

#[test]
fn row_22_other_cpus_are_flushed_with_the_one() {
    let world = World::with(
        &HostConfig {
            frames: 1024,
            cpus: 4,
            ..HostConfig::default()
        },
        0,
    );
    let space = touched(&world, 40);
    let program = world.program(&space);
    let see = |access| {
        let seen: Vec<_> = (0..4)
            .map(|cpu| {
                on_cpu(cpu);
                space.activate();
                space.assert_settled();
                let at = |page: u64| VirtAddr::new(AT + page * PAGE_SIZE as u64);
                (0..40)
                    .filter(|&page| world.machine.translate(at(page), access, true).is_ok())
                    .count()
            })
            .collect();
        on_cpu(0);
        seen
    };
    // Every CPU but the last has it all cached, for writing.
    assert_eq!(see(Access::Write), [40; 4]);
    on_cpu(3);
    space.deactivate();
    on_cpu(0);
    let target = space.clone();
    let one = VaRange::of_pages(VirtAddr::new(AT), 5);
    let protect = flushed_by(&world, async move {
        target.protect(one, Prot::READ).await.unwrap();
    });
    assert_eq!((protect.some, protect.pages, protect.all), (1, 5, 0));
    assert_eq!(see(Access::Write), [35; 4]);
    assert_eq!(see(Access::Read), [40; 4]);
    let target = space.clone();
    let unmap = flushed_by(&world, async move {
        target.unmap(range(20)).await.unwrap();
    });
    assert_eq!((unmap.some, unmap.all), (0, 1));
    assert_eq!(see(Access::Read), [20; 4]);
    // What a child shares by copy is not writable for anyone.
    let parent = space.clone();
    let child = world.run(async move { parent.fork().await.unwrap() });
    assert_eq!(see(Access::Write), [0; 4]);
    // No more CPUs, no more flushes.
    for cpu in 0..4 {
        on_cpu(cpu);
        space.deactivate();
    }
    on_cpu(0);
    let target = space.clone();
    let nobody = flushed_by(&world, async move {
        target.unmap(range(40)).await.unwrap();
    });
    assert_eq!((nobody.some, nobody.all), (0, 0));
    drop((program, child, space));
    world.check();
}

#[test]
fn row_22_a_program_does_not_go_on_before_its_flush() {
    let host = Host::with(&HostConfig {
        cpus: 2,
        ..HostConfig::default()
    });
    let pmap = Pmap::new(&host.uvm).unwrap();
    host.uvm.pmap_activate(&pmap);
    let frame: Frame = host
        .uvm
        .alloc_frame(crate::AllocFor::User, crate::Zero::Yes)
        .unwrap();
    let va = VirtAddr::new(AT);
    pmap.enter(&host.uvm, va, frame, Prot::RW, EnterFlags::WRITE)
        .unwrap();
    host.uvm.assert_flushed(&pmap);
    pmap.remove(&host.uvm, range(1));
    let goes_on = || {
        let check = AssertUnwindSafe(|| host.uvm.assert_flushed(&pmap));
        catch_unwind(check).is_ok()
    };
    assert_eq!(goes_on(), !cfg!(debug_assertions));
    // It is this CPU's to do: what another one is in the midst of says nothing.
    on_cpu(1);
    assert!(goes_on());
    on_cpu(0);
    pmap.update(&host.uvm);
    assert!(goes_on());
    host.uvm.free_frame(frame);
    host.uvm.pmap_deactivate(&pmap);
}

#[test]
fn row_1_each_cpu_leaves_as_often_as_it_enters() {
    const CPUS: usize = 3;
    let host = Host::with(&HostConfig {
        cpus: CPUS,
        ..HostConfig::default()
    });
    let pmaps: Vec<_> = (0..4).map(|_| Pmap::new(&host.uvm).unwrap()).collect();
    let balance = |cpu| {
        let get = |counter| host.uvm.meter().get_on(cpu, counter);
        get(Counter::PmapActivate) - get(Counter::PmapDeactivate)
    };
    let mut random = crate::sim::random::Random::new(1);
    let mut loaded = [None; CPUS];
    for _ in 0..2_000 {
        let cpu = random.below(CPUS as u64) as usize;
        let pmap = random.below(pmaps.len() as u64) as usize;
        on_cpu(cpu);
        if random.percent(70) {
            host.uvm.pmap_activate(&pmaps[pmap]);
            loaded[cpu] = Some(pmap);
        } else {
            host.uvm.pmap_deactivate(&pmaps[pmap]);
            loaded[cpu] = loaded[cpu].filter(|&now| now != pmap);
        }
        for (cpu, now) in loaded.iter().enumerate() {
            assert_eq!(balance(cpu), u64::from(now.is_some()), "CPU {cpu}");
        }
        for (i, pmap) in pmaps.iter().enumerate() {
            let on = (0..CPUS).filter(|&cpu| loaded[cpu] == Some(i));
            assert_eq!(pmap.cpus().0, on.map(|cpu| 1 << cpu).sum::<u64>());
        }
    }
    for cpu in 0..CPUS {
        on_cpu(cpu);
        pmaps.iter().for_each(|pmap| host.uvm.pmap_deactivate(pmap));
        assert_eq!(balance(cpu), 0);
        assert!(host.uvm.meter().get_on(cpu, Counter::PmapActivate) > 100);
    }
    on_cpu(0);
}

#[test]
fn page_tables_are_charged() {
    let world = World::new(2048, 0);
    let tables = |world: &World| world.check().tables;
    assert_eq!(tables(&world), 0);
    let space = touched(&world, 3);
    // Root, two in between, one leaf.
    assert_eq!((tables(&world), space.pmap().stats().tables), (4, 4));
    let far = AT + (1 << 39);
    let program = world.program(&space);
    let more =
        MapRequest::anonymous(PAGE_SIZE, Prot::RW).at(Placement::Exclusive(VirtAddr::new(far)));
    space.map(more).unwrap();
    world
        .run(async move { program.store(far, 1).await })
        .unwrap();
    assert_eq!(tables(&world), 7);
    let parent = space.clone();
    let child = world.run(async move {
        parent.inherit(range(3), Inherit::Share).await.unwrap();
        parent.fork().await.unwrap()
    });
    assert_eq!(tables(&world), 8);
    let target = space.clone();
    world.run(async move { target.unmap(range(3)).await.unwrap() });
    assert_eq!(tables(&world), 5);
    world.run(async move { child.teardown().await });
    // A CPU keeps the tables that it has loaded.
    drop(space);
    assert_eq!(tables(&world), 1);
    assert_eq!(world.uvm.meter().gauge(crate::meter::Gauge::PmapTables), 1);
}
