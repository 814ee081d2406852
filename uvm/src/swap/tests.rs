//! Programs larger than memory, on disks that are good, bad, slow and full.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use executor::Class;

use super::*;
use crate::addr::{PAGE_SIZE, PageIndex, Pages, VaRange, VirtAddr};
use crate::fault::FaultError;
use crate::map::{Advice, MapRequest, Placement};
use crate::meter::Counter;
use crate::object::UvmObject;
use crate::page::PageFlags;
use crate::prot::Prot;
use crate::sim::disk::{Mode, SimDisk};
use crate::sim::{Program, World};

pub(super) const AT: u64 = 0x1000_0000;
pub(super) const PAGE: u64 = PAGE_SIZE as u64;

pub(super) fn range(from: u64, pages: usize) -> VaRange {
    VaRange::of_pages(VirtAddr::new(AT + from * PAGE), pages)
}

/// A machine of `frames` frames with a swap disk of `pages` pages, and a program with that many pages of its own.
fn world(frames: usize, swap: u32, mode: Mode, pages: usize) -> (World, Arc<SimDisk>, Program) {
    let world = World::new(frames, 1);
    let disk = SimDisk::swap(&world.uvm, swap, Mode::AtOnce);
    world.swapon(&disk, "swap", 0);
    let disk = match mode {
        Mode::AtOnce => disk,
        // The first one has served to begin with.
        mode => {
            let other = SimDisk::swap(&world.uvm, swap, Mode::AtOnce);
            world.swapon(&other, "other", 1);
            let uvm = world.uvm.clone();
            world.run(async move { uvm.swapoff("swap").await }).unwrap();
            let uvm = world.uvm.clone();
            world
                .run(async move { uvm.swapoff("other").await })
                .unwrap();
            other.set_mode(mode);
            let (uvm, device) = (world.uvm.clone(), other.device());
            let on = world.executor.spawn(Class::User, "swapon", async move {
                uvm.swapon(device, "swap", 0).await
            });
            if mode == Mode::Told {
                world.driver.run_until_stalled();
                other.complete(1);
            }
            world.run(on).unwrap();
            other
        }
    };
    let space = world.space();
    let request = MapRequest::anonymous(pages * PAGE_SIZE, Prot::RW);
    space
        .map(request.at(Placement::Fixed(range(0, 1).start())))
        .unwrap();
    let program = world.program(&space);
    (world, disk, program)
}

pub(super) fn count(world: &World, counter: Counter) -> u64 {
    world.uvm.meter().get(counter)
}

pub(super) fn gauge(world: &World, gauge: Gauge) -> u64 {
    world.uvm.meter().gauge(gauge)
}

/// Stores another byte in each of `pages` pages.
pub(super) async fn fill(program: &Program, pages: u64) {
    for page in 0..pages {
        program
            .store(AT + page * PAGE, page as u8 ^ 0x5a)
            .await
            .unwrap();
    }
}

/// Finds what [`fill`] has stored.
pub(super) async fn verify(program: &Program, pages: u64) {
    for page in 0..pages {
        let byte = program.load(AT + page * PAGE).await;
        assert_eq!(byte, Ok(page as u8 ^ 0x5a), "page {page}");
    }
}

pub(super) fn end(world: World, program: Program) {
    world.driver.run_until_stalled();
    let space = program.space().clone();
    world.run(async move {
        space.deactivate();
        space.teardown().await;
    });
    drop(program);
    assert_eq!(gauge(&world, Gauge::Swpginuse), 0);
    assert_eq!(gauge(&world, Gauge::Swpgonly), 0);
    world.check_quiet();
}

#[test]
fn a_program_larger_than_memory_finds_all_that_it_has_written() {
    for mode in [
        Mode::AtOnce,
        Mode::After(Duration::from_micros(300)),
        Mode::Chance {
            seed: 3,
            failing: 0,
        },
    ] {
        let (world, disk, program) = world(256, 1024, mode, 800);
        let p = program.clone();
        world.run(async move {
            for _ in 0..2 {
                fill(&p, 800).await;
                verify(&p, 800).await;
            }
        });
        assert!(count(&world, Counter::Swapouts) > 1200, "{mode:?}");
        assert!(count(&world, Counter::Swapins) > 1200, "{mode:?}");
        // Clusters, not pages.
        assert!(disk.writes() as u64 * 10 < count(&world, Counter::Swapouts));
        world.check();
        end(world, program);
    }
}

#[test]
fn what_was_not_written_since_is_not_written_out_again() {
    let (world, _, program) = world(256, 1024, Mode::AtOnce, 600);
    let p = program.clone();
    world.run(async move {
        fill(&p, 600).await;
        verify(&p, 600).await;
    });
    let before = count(&world, Counter::Swapouts);
    let p = program.clone();
    world.run(async move {
        for _ in 0..3 {
            verify(&p, 600).await;
        }
    });
    // Of the pages written last some were still only in memory.
    assert!(count(&world, Counter::Swapouts) <= before + 256);
    end(world, program);
}

#[test]
fn parent_and_child_share_what_is_on_swap_until_one_writes() {
    let (world, _, program) = world(256, 2048, Mode::AtOnce, 500);
    let p = program.clone();
    let child = world.run(async move {
        fill(&p, 500).await;
        let child = p.space().fork().await.unwrap();
        let c = p.in_space(&child);
        verify(&c, 500).await;
        for page in 0..500 {
            c.store(AT + page * PAGE, 7).await.unwrap();
        }
        verify(&p, 500).await;
        assert_eq!(c.peek(AT, 500).await.unwrap(), [7; 500]);
        child.deactivate();
        child
    });
    world.check();
    world.run(async move { child.teardown().await });
    end(world, program);
}

#[test]
fn shared_memory_goes_to_swap_too() {
    let (world, _, program) = world(256, 1024, Mode::AtOnce, 1);
    let object = UvmObject::anonymous(&world.uvm, Pages(600)).unwrap();
    let map = |space: &crate::VmSpace, at: u64| {
        let place = Placement::Fixed(VirtAddr::new(at));
        let request = MapRequest::object(object.clone(), PageIndex(0), 600 * PAGE_SIZE, Prot::RW);
        space.map(request.shared().at(place)).unwrap();
    };
    map(program.space(), AT);
    let other = world.space();
    map(&other, AT);
    let (p, q) = (program.clone(), program.in_space(&other));
    world.run(async move {
        fill(&p, 600).await;
        verify(&q, 600).await;
        q.space().deactivate();
    });
    assert!(count(&world, Counter::Swapins) > 300);
    world.check();
    world.run(async move { other.teardown().await });
    drop(object);
    end(world, program);
}

#[test]
fn what_cannot_be_written_stays_and_its_slot_is_never_used_again() {
    let (world, disk, program) = world(256, 1024, Mode::AtOnce, 600);
    for slot in [20, 40, 41, 300] {
        disk.spoil(slot * PAGE, slot * PAGE + 1);
    }
    let p = program.clone();
    world.run(async move {
        for _ in 0..3 {
            fill(&p, 600).await;
            verify(&p, 600).await;
        }
    });
    let device = &world.uvm.swap_devices()[0];
    assert_eq!((device.bad, device.pages), (4, 1019));
    assert_eq!(count(&world, Counter::Pdbadslot), 4);
    end(world, program);
}

#[test]
fn row_16_a_page_that_could_not_be_written_is_as_before() {
    let (world, disk, program) = world(256, 64, Mode::AtOnce, 300);
    disk.spoil(PAGE, u64::MAX);
    let p = program.clone();
    let result = world.run(async move {
        for page in 0..300 {
            p.store(AT + page * PAGE, page as u8).await?;
        }
        Ok(())
    });
    // There is no room anywhere in the end; what is there is whole.
    assert_eq!(result, Err(FaultError::OutOfMemory));
    let p = program.clone();
    world.run(async move {
        for page in 0..150 {
            assert_eq!(p.load(AT + page * PAGE).await, Ok(page as u8));
        }
    });
    assert_eq!(gauge(&world, Gauge::Paging), 0);
    assert_eq!(world.uvm.swap_devices()[0].bad, 63);
    end(world, program);
}

#[test]
fn row_17_no_slot_is_reused_under_a_write() {
    let (world, disk, program) = world(256, 1024, Mode::Told, 600);
    let (p, executor) = (program.clone(), world.executor.clone());
    let filling = executor.spawn(Class::User, "fill", async move { fill(&p, 600).await });
    world.driver.run_until_stalled();
    let writing = disk.pending();
    assert!(writing > 0);
    let used = gauge(&world, Gauge::Swpginuse);
    assert!(used > 0);
    // Unmapped in the midst of it: the frames and slots stay until the device is done with them.
    let space = program.space().clone();
    let unmap = async move { space.unmap(range(0, 100)).await.unwrap() };
    world.executor.spawn(Class::User, "unmap", unmap);
    world.driver.run_until_stalled();
    assert_eq!(gauge(&world, Gauge::Swpginuse), used);
    world.check();
    while !filling.is_finished() {
        disk.complete(1);
        world.driver.run_until_stalled();
    }
    while disk.complete(1) > 0 {
        world.driver.run_until_stalled();
    }
    disk.set_mode(Mode::AtOnce);
    let p = program.clone();
    world.run(async move {
        assert_eq!(p.load(AT).await, Err(FaultError::NoMapping));
        for page in 100..600 {
            assert_eq!(p.load(AT + page * PAGE).await, Ok(page as u8 ^ 0x5a));
        }
    });
    end(world, program);
}

#[test]
fn a_page_that_somebody_waits_for_while_it_is_written_stays() {
    let (world, disk, program) = world(256, 1024, Mode::Told, 300);
    let p = program.clone();
    let filling = world
        .executor
        .spawn(Class::User, "fill", async move { fill(&p, 300).await });
    world.driver.run_until_stalled();
    // The first page is among the oldest, and on its way.
    let p = program.clone();
    let reader = world
        .executor
        .spawn(Class::User, "reader", async move { p.load(AT).await });
    world.driver.run_until_stalled();
    assert!(!reader.is_finished());
    let before = count(&world, Counter::Swapins);
    while !(filling.is_finished() && reader.is_finished()) {
        disk.complete(1);
        world.driver.run_until_stalled();
    }
    assert_eq!(world.run(reader), Ok(0x5a));
    assert_eq!(count(&world, Counter::Swapins), before);
    // Only read since, it need not be written again.
    let mapping = program
        .space()
        .pmap()
        .extract(&world.uvm, range(0, 1).start());
    let frame = mapping.unwrap().frame;
    assert!(world.uvm.page(frame).has(PageFlags::CLEAN) && !world.uvm.is_modified(frame));
    disk.set_mode(Mode::AtOnce);
    while disk.complete(1) > 0 {
        world.driver.run_until_stalled();
    }
    end(world, program);
}

/// Everything of a program goes to swap.
fn push_out(world: &World, program: &Program, pages: u64) {
    let hog = world.space();
    let request = MapRequest::anonymous(400 * PAGE_SIZE, Prot::RW);
    hog.map(request.at(Placement::Fixed(range(0, 1).start())))
        .unwrap();
    let hog = program.in_space(&hog);
    let p = program.clone();
    world.run(async move {
        fill(&p, pages).await;
        fill(&hog, 400).await;
        hog.space().deactivate();
        hog.space().teardown().await;
    });
    world.driver.run_until_stalled();
}

#[test]
fn two_faults_on_one_page_make_one_read() {
    let (world, disk, program) = world(256, 1024, Mode::AtOnce, 1);
    push_out(&world, &program, 1);
    disk.set_mode(Mode::Told);
    let before = disk.reads();
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let p = program.clone();
            let load = async move { p.load(AT).await };
            world.executor.spawn(Class::User, "reader", load)
        })
        .collect();
    world.driver.run_until_stalled();
    assert_eq!((disk.reads(), disk.pending()), (before + 1, 1));
    disk.complete(1);
    for reader in readers {
        assert_eq!(world.run(reader), Ok(0x5a));
    }
    disk.set_mode(Mode::AtOnce);
    end(world, program);
}

#[test]
fn a_page_that_cannot_be_read_is_an_error_and_its_cluster_is_not() {
    let (world, disk, program) = world(256, 1024, Mode::AtOnce, 16);
    push_out(&world, &program, 16);
    let slots: Vec<_> = {
        let map = program.space().vm_map().read();
        let entry = map.tree.from(AT).unwrap();
        let amap = entry.amap.as_ref().unwrap().lock();
        let slots = amap.anons.iter_from(0);
        slots.map(|(_, anon)| anon.lock().slot.unwrap()).collect()
    };
    let bad = slots[5].page() as u64 * PAGE;
    disk.spoil(bad, bad + 1);
    let p = program.clone();
    world.run(async move {
        for page in 0..16 {
            let expected = match page {
                5 => Err(FaultError::Io),
                page => Ok(page as u8 ^ 0x5a),
            };
            assert_eq!(p.load(AT + page * PAGE).await, expected, "page {page}");
        }
    });
    world.check();
    // It is not lost: once the disk can be read again, it is there. But its slot is not used again.
    disk.mend();
    let p = program.clone();
    world.run(async move { verify(&p, 16).await });
    let before = world.uvm.swap_devices()[0].clone();
    assert_eq!((before.bad, before.pages), (0, 1023));
    let space = program.space().clone();
    world.run(async move { space.unmap(range(0, 16)).await.unwrap() });
    let after = world.uvm.swap_devices()[0].clone();
    assert_eq!((after.bad, after.pages, after.used), (1, 1022, 0));
    let mut runs = Vec::new();
    while let Some((first, len)) = world.uvm.swap().take_run(&world.uvm, 16) {
        runs.extend((0..len).map(|i| first.offset(i as isize).unwrap()));
    }
    assert!(runs.len() == 1022 && !runs.contains(&slots[5]));
    runs.iter()
        .for_each(|&slot| world.uvm.swap().free(&world.uvm, slot));
    end(world, program);
}

#[test]
fn neighbours_in_the_cluster_come_along_and_random_ones_do_not() {
    for (advice, pages) in [(Advice::Normal, 16), (Advice::Random, 1)] {
        let (world, _, program) = world(256, 1024, Mode::AtOnce, 16);
        push_out(&world, &program, 16);
        let p = program.clone();
        world.run(async move {
            p.space().advise(range(0, 16), advice).await.unwrap();
            assert_eq!(p.load(AT + 5 * PAGE).await, Ok(5 ^ 0x5a));
        });
        assert_eq!(count(&world, Counter::Swapins), pages, "{advice:?}");
        end(world, program);
    }
}

#[test]
fn what_is_wired_comes_in_and_gives_its_slots_up() {
    let (world, _, program) = world(256, 1024, Mode::AtOnce, 20);
    push_out(&world, &program, 20);
    assert!(gauge(&world, Gauge::Swpgonly) >= 20);
    let p = program.clone();
    world.run(async move { p.space().mlock(range(0, 20)).await.unwrap() });
    assert_eq!(gauge(&world, Gauge::Swpginuse), 0);
    world.check();
    let p = program.clone();
    world.run(async move { p.space().munlock(range(0, 20)).await.unwrap() });
    push_out(&world, &program, 20);
    let p = program.clone();
    world.run(async move { verify(&p, 20).await });
    end(world, program);
}

#[test]
fn swapoff_brings_everything_back_or_nothing_has_changed() {
    let (world, _, program) = world(400, 1024, Mode::AtOnce, 200);
    push_out(&world, &program, 200);
    let uvm = world.uvm.clone();
    world.run(async move { uvm.swapoff("swap").await }).unwrap();
    assert!(world.uvm.swap_devices().is_empty());
    assert_eq!(gauge(&world, Gauge::Swpages), 0);
    let p = program.clone();
    world.run(async move { verify(&p, 200).await });
    end(world, program);

    // What does not fit stays where it is.
    let (world, _, program) = self::world(256, 1024, Mode::AtOnce, 600);
    let p = program.clone();
    world.run(async move { fill(&p, 600).await });
    let uvm = world.uvm.clone();
    let refused = world.run(async move { uvm.swapoff("swap").await });
    assert_eq!(refused, Err(SwapError::OutOfMemory));
    let p = program.clone();
    world.run(async move {
        verify(&p, 600).await;
        fill(&p, 600).await;
    });
    let uvm = world.uvm.clone();
    let unknown = world.run(async move { uvm.swapoff("none").await });
    assert_eq!(unknown, Err(SwapError::Unknown));
    end(world, program);
}

#[test]
fn swapoff_reaches_shared_memory_that_nobody_maps() {
    let (world, disk, program) = world(400, 1024, Mode::AtOnce, 1);
    let object = UvmObject::anonymous(&world.uvm, Pages(100)).unwrap();
    let show = |program: &Program| {
        let request =
            MapRequest::object(object.clone(), PageIndex(0), 100 * PAGE_SIZE, Prot::RW).shared();
        let place = Placement::Fixed(range(0, 1).start());
        program.space().map(request.at(place)).unwrap();
    };
    show(&program);
    push_out(&world, &program, 100);
    let space = program.space().clone();
    world.run(async move { space.unmap(range(0, 100)).await.unwrap() });
    assert!(gauge(&world, Gauge::Swpgonly) > 50);
    let uvm = world.uvm.clone();
    world.run(async move { uvm.swapoff("swap").await }).unwrap();
    disk.spoil(0, u64::MAX);
    show(&program);
    let p = program.clone();
    world.run(async move { verify(&p, 100).await });
    drop(object);
    end(world, program);
}

/// One who counts those whom it is asked to kill, and kills nobody.
struct Merciful(core::sync::atomic::AtomicUsize);

impl crate::Killer for Merciful {
    fn kill(&self, _: &Arc<crate::VmSpace>, _: crate::Gain) -> bool {
        self.0.fetch_add(1, Relaxed);
        false
    }
}

#[test]
fn swapoff_gives_up_before_anybody_is_killed_for_it() {
    let (world, _, program) = world(256, 1024, Mode::After(Duration::from_micros(50)), 600);
    let killer = Arc::new(Merciful(0.into()));
    world.uvm.set_killer(killer.clone());
    let p = program.clone();
    world.run(async move { fill(&p, 600).await });
    let uvm = world.uvm.clone();
    let off = async move { uvm.swapoff("swap").await };
    let off = world.executor.spawn(Class::User, "swapoff", off);
    // It wants memory all the while.
    let p = program.clone();
    let busy = async move {
        for _ in 0..3 {
            verify(&p, 600).await;
            fill(&p, 600).await;
        }
    };
    let busy = world.executor.spawn(Class::User, "program", busy);
    assert_eq!(world.run(off), Err(SwapError::OutOfMemory));
    world.run(busy);
    assert_eq!(killer.0.load(Relaxed), 0);
    assert_eq!(count(&world, Counter::Pdkills), 0);
    world.check();
    end(world, program);
}

#[test]
fn devices_are_filled_by_priority_and_in_turns() {
    let world = World::new(256, 1);
    let disks: Vec<_> = [("c", 5), ("a", 1), ("b", 1)]
        .into_iter()
        .map(|(name, priority)| {
            let disk = SimDisk::swap(&world.uvm, 129, Mode::AtOnce);
            world.swapon(&disk, name, priority);
            disk
        })
        .collect();
    let used = || -> Vec<_> {
        let devices = world.uvm.swap_devices();
        let mut used: Vec<_> = devices.iter().map(|d| (d.name, d.used)).collect();
        used.sort();
        used.into_iter().map(|(_, used)| used).collect()
    };
    let swap = world.uvm.swap();
    let mut taken = Vec::new();
    let mut take = |runs: usize| {
        for _ in 0..runs {
            taken.push(swap.take_run(&world.uvm, 16).unwrap());
        }
    };
    take(4);
    assert_eq!(used(), [32, 32, 0]);
    // 128 slots are seven whole clusters and what lies beside them.
    take(14);
    assert_eq!(used()[2], 0);
    take(1);
    assert_eq!(used()[2], 16);
    world.uvm.set_swap_priority("c", 0).unwrap();
    take(1);
    assert_eq!(used()[2], 32);
    for (first, len) in taken {
        for i in 0..len {
            swap.free(&world.uvm, first.offset(i as isize).unwrap());
        }
    }
    assert_eq!(used(), [0, 0, 0]);
    drop(disks);
    world.check_quiet();
}

#[test]
fn what_is_no_swap_space_is_refused() {
    let world = World::new(256, 1);
    let on = |disk: &Arc<SimDisk>, name: &'static str| {
        let (uvm, device) = (world.uvm.clone(), disk.device());
        world.run(async move { uvm.swapon(device, name, 0).await })
    };
    let plain = SimDisk::new(&world.uvm, 1 << 20, Mode::AtOnce);
    assert_eq!(on(&plain, "plain"), Err(SwapError::ReadOnly));
    let disk = SimDisk::swap(&world.uvm, 100, Mode::AtOnce);
    disk.spoil(0, 1);
    assert_eq!(on(&disk, "bad"), Err(SwapError::Io(IoError::Device)));
    disk.mend();
    assert_eq!(
        on(&disk, &"long name ".repeat(4).leak()[..]),
        Err(SwapError::NameTooLong)
    );
    assert_eq!(on(&disk, "good"), Ok(()));
    assert_eq!(on(&disk, "good"), Err(SwapError::Exists));
    // Two at once: the second finds what the first has added.
    let slow = SimDisk::swap(&world.uvm, 100, Mode::After(Duration::from_micros(10)));
    let both: Vec<_> = (0..2)
        .map(|_| {
            let (uvm, device) = (world.uvm.clone(), slow.device());
            let on = async move { uvm.swapon(device, "twice", 0).await };
            world.executor.spawn(Class::User, "swapon", on)
        })
        .collect();
    let both: Vec<_> = both.into_iter().map(|on| world.run(on)).collect();
    assert_eq!(both, [Ok(()), Err(SwapError::Exists)]);
    for i in 2..MAX_DEVICES {
        let disk = SimDisk::swap(&world.uvm, 100, Mode::AtOnce);
        assert_eq!(on(&disk, alloc::format!("disk {i}").leak()), Ok(()));
    }
    assert_eq!(on(&disk, "one more"), Err(SwapError::TooMany));
}
