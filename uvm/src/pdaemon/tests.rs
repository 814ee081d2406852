//! What the pagedaemon does when nothing can go, and what those hear who wait.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use executor::{Class, Executor};

use super::demand::{Demand, Patience};
use super::victim::{Gain, Killer};
use crate::addr::{Frame, PAGE_SIZE, PageIndex, Pages, VirtAddr};
use crate::fault::FaultError;
use crate::map::{Advice, MapRequest, Placement, VmSpace};
use crate::meter::Counter;
use crate::object::{PagerError, UvmObject};
use crate::page::freelist::{AllocFor, Zero};
use crate::pool::OutOfMemory;
use crate::prot::Prot;
use crate::sim::World;
use crate::sim::disk::{Layout, Mode, SimDisk, SimFile};

const AT: u64 = 0x1000_0000;

/// Takes frames for itself until a program could have `left` more.
fn hog(world: &World, left: usize) -> Vec<Frame> {
    let uvm = &world.uvm;
    uvm.reclaim_pools();
    let mut frames = Vec::new();
    while uvm.can_allocate(AllocFor::User, left + 1) {
        frames.extend(uvm.alloc_frame(AllocFor::User, Zero::No));
    }
    frames
}

fn free(world: &World, frames: Vec<Frame>) {
    frames.into_iter().for_each(|f| world.uvm.free_frame(f));
    world.check_quiet();
}

#[test]
fn it_rests_while_memory_is_short_and_nothing_can_go() {
    let world = World::new(256, 0);
    let frames = hog(&world, 0);
    assert!(world.uvm.memory_is_short());
    // Being short is no reason to look twice; nor does time make it one.
    world.driver.run_ready();
    world.driver.run_for(Duration::from_secs(10));
    let woke = world.uvm.meter().get(Counter::Pdwoke);
    assert!((1..4).contains(&woke), "{woke} passes");
    // An allocation that finds memory short is.
    assert!(world.uvm.alloc_frame(AllocFor::User, Zero::No).is_none());
    world.driver.run_for(Duration::from_secs(10));
    let again = world.uvm.meter().get(Counter::Pdwoke);
    assert!((1..4).contains(&(again - woke)), "{again} passes");
    free(&world, frames);
}

/// UVM.md, row 3: the cache is memory to be had.
#[test]
fn row_03_under_pressure_no_uarea_stays_cached() {
    let world = World::new(512, 0);
    let made: Vec<_> = (0..20)
        .map(|_| world.uvm.uarea_alloc().unwrap().0)
        .collect();
    made.into_iter().for_each(|u| world.uvm.uarea_free(u));
    world.driver.run_ready();
    assert_eq!(world.uvm.uarea_cached(), 20, "nobody is short of memory");
    let frames = hog(&world, 0);
    assert!(world.uvm.alloc_frame(AllocFor::User, Zero::No).is_none());
    world.driver.run_for(Duration::from_secs(1));
    assert_eq!(world.uvm.uarea_cached(), 0);
    assert_eq!(world.uvm.meter().get(Counter::UareaDrained), 20);
    free(&world, frames);
}

#[test]
fn a_fault_that_lacks_more_than_a_frame_ends_with_out_of_memory() {
    let world = World::new(256, 0);
    let space = world.space();
    let request =
        MapRequest::anonymous(1 << 20, Prot::RW).at(Placement::Exclusive(VirtAddr::new(AT)));
    space.map(request).unwrap();
    // The page, and pages for its anon, for the slots and for tables: what there is never suffices.
    for left in 0..3 {
        let frames = hog(&world, left);
        let program = world.program(&space);
        let result = world.run(async move { program.store(AT, 1).await });
        assert_eq!(result, Err(FaultError::OutOfMemory), "{left} left");
        free(&world, frames);
    }
    let program = world.program(&space);
    assert_eq!(world.run(async move { program.store(AT, 1).await }), Ok(()));
    // Then one is enough for the next.
    let frames = hog(&world, 1);
    let program = world.program(&space);
    assert_eq!(
        world.run(async move { program.store(AT + 4096, 1).await }),
        Ok(())
    );
    free(&world, frames);
}

#[test]
fn objects_that_lack_more_than_a_frame_say_so() {
    for from_file in [true, false] {
        let world = World::new(256, 0);
        let uvm = world.uvm.clone();
        let delay = Mode::After(Duration::from_micros(10));
        let disk = SimDisk::new(&uvm, 1 << 20, delay);
        let file = world.file(SimFile::new(&disk, Layout::Contiguous(0)), 1 << 20);
        let object = if from_file {
            file.object().clone()
        } else {
            UvmObject::anonymous(&uvm, Pages(16)).unwrap()
        };
        let page_in = || {
            let (uvm, object) = (uvm.clone(), object.clone());
            async move {
                let page = UvmObject::page_in(&object, &uvm, PageIndex(5), Advice::Random).await;
                page.map(drop)
            }
        };
        // One for the page, none for the array that it goes in.
        let frames = hog(&world, 1);
        assert_eq!(world.run(page_in()), Err(PagerError::OutOfMemory));
        free(&world, frames);
        let frames = hog(&world, 2);
        assert_eq!(world.run(page_in()), Ok(()));
        free(&world, frames);
    }
}

#[test]
fn who_needs_many_frames_gets_them_from_clean_pages() {
    let world = World::new(256, 0);
    let disk = SimDisk::new(&world.uvm, 1 << 20, Mode::After(Duration::from_micros(10)));
    let file = world.file(SimFile::new(&disk, Layout::Contiguous(0)), 200 * 4096);
    let uvm = world.uvm.clone();
    let object = file.clone();
    world.run(async move {
        for page in 0..200 {
            drop(object.page_in(&uvm, PageIndex(page)).await.unwrap());
        }
        // More than the pagedaemon frees for its own targets.
        let pages = 180;
        assert!(!uvm.can_allocate(AllocFor::User, pages));
        assert_eq!(uvm.wait_for_memory(pages).await, Ok(()));
        assert!(uvm.can_allocate(AllocFor::User, pages));
        // And no more than there are.
        assert_eq!(uvm.wait_for_memory(300).await, Err(OutOfMemory));
    });
    world.check_quiet();
}

#[test]
fn who_tries_again_waits_for_more_and_at_the_end_tries_once_more() {
    let world = World::new(256, 0);
    let frames = hog(&world, 1);
    let uvm = world.uvm.clone();
    world.run(async move {
        let lost = || {
            uvm.upper
                .hope
                .lost
                .load(core::sync::atomic::Ordering::Relaxed)
        };
        let mut demand = Demand::new();
        assert_eq!(demand.wait(&uvm).await, Ok(()));
        assert_eq!(lost(), 0, "one frame is there");
        assert_eq!(demand.wait(&uvm).await, Ok(()));
        assert_eq!(lost(), 1, "two are not");
        assert_eq!(demand.wait(&uvm).await, Err(OutOfMemory));
    });
    free(&world, frames);
}

#[test]
fn who_takes_the_last_frame_within_one_poll_goes_on_once_there_is_another() {
    let world = World::new(256, 0);
    // Its answers come at once: the reader first waits when nothing is left, and nobody else has anything to do.
    let disk = SimDisk::new(&world.uvm, 64 << 20, Mode::AtOnce);
    let file = SimFile::new(&disk, Layout::Contiguous(0));
    let object = world.file(file.clone(), 1000 * PAGE_SIZE as u64);
    let uvm = world.uvm.clone();
    world.run(async move {
        for page in 0..1000 {
            let hold = object.page_in(&uvm, PageIndex(page)).await.unwrap();
            let mut byte = [0];
            hold.bytes().read(7, &mut byte);
            assert_eq!(byte[0], file.byte(page * PAGE_SIZE as u64 + 7));
        }
    });
    assert!(world.uvm.meter().get(Counter::Pgallocfail) > 0);
    world.check_quiet();
}

#[test]
fn page_tables_that_evictions_have_emptied_are_freed_in_shortage() {
    const FAR: u64 = 2 << 20;
    let world = World::new(256, 0);
    let disk = SimDisk::new(&world.uvm, 1 << 20, Mode::After(Duration::from_micros(10)));
    let file = world.file(SimFile::new(&disk, Layout::Contiguous(0)), 1 << 20);
    let space = world.space();
    // Each page has a leaf table to itself.
    let pages = 40;
    for page in 0..pages {
        let mut request = MapRequest::object(
            file.object().clone(),
            PageIndex(page),
            PAGE_SIZE,
            Prot::READ,
        )
        .at(Placement::Exclusive(VirtAddr::new(AT + page * FAR)));
        request.advice = Advice::Random;
        space.map(request).unwrap();
    }
    let program = world.program(&space);
    world.run(async move {
        for page in 0..pages {
            program.load(AT + page * FAR).await.unwrap();
        }
        // Pages just waited for would stay.
        program.space().made_progress();
    });
    assert_eq!(space.pmap().stats().tables as u64, 3 + pages);
    let frames = hog(&world, 0);
    let free_before = world.uvm.free_frames() as u64;
    let uvm = world.uvm.clone();
    // All of the pages, and half of the tables.
    let wanted = pages + pages / 2;
    let enough = world.run(async move { uvm.wait_for_memory(wanted as usize).await });
    assert_eq!(enough, Ok(()));
    let left = space.pmap().stats().tables as u64;
    assert!(left <= 3 + pages / 2, "{left} tables are left");
    assert!(world.uvm.free_frames() as u64 >= free_before + wanted);
    // The rest of the space is as it was.
    let program = world.program(&space);
    let byte = world.run(async move { program.load(AT + 3 * FAR).await });
    assert_eq!(byte, Ok(crate::sim::disk::byte_at(3 * PAGE_SIZE as u64)));
    free(&world, frames);
}

/// Tears down whatever it is told to kill.
struct Executioner {
    world: Arc<Executor>,
    killed: std::sync::Mutex<Vec<(usize, Gain)>>,
    spaces: Vec<Arc<VmSpace>>,
}

impl Executioner {
    /// One for these spaces. It refers to them, and the machine to it: who wants them gone sets one of none afterwards.
    fn of(world: &World, spaces: Vec<Arc<VmSpace>>) -> Arc<Self> {
        Arc::new(Self {
            world: world.executor.clone(),
            killed: std::sync::Mutex::default(),
            spaces,
        })
    }
}

impl Killer for Executioner {
    fn kill(&self, space: &Arc<VmSpace>, gain: Gain) -> bool {
        let Some(at) = self.spaces.iter().position(|s| Arc::ptr_eq(s, space)) else {
            return false;
        };
        self.killed.lock().unwrap().push((at, gain));
        let space = space.clone();
        self.world.spawn(Class::User, "death", async move {
            space.deactivate();
            space.teardown().await;
        });
        true
    }
}

#[test]
fn when_all_is_full_the_largest_dies_and_the_others_go_on() {
    let world = World::new(256, 1);
    let disk = SimDisk::swap(&world.uvm, 65, Mode::After(Duration::from_micros(50)));
    world.swapon(&disk, "swap", 0);
    let sizes = [40, 90, 40, 40];
    let spaces: Vec<_> = sizes.iter().map(|_| world.space()).collect();
    // What nobody can be killed for is passed over, however large.
    let nobodys = world.space();
    let request = MapRequest::anonymous(100 * PAGE_SIZE, Prot::RW);
    nobodys
        .map(request.at(Placement::Fixed(VirtAddr::new(AT))))
        .unwrap();
    let program = world.program(&nobodys);
    world.run(async move { program.touch(AT, 100, 1).await.unwrap() });
    let killer = Executioner::of(&world, spaces.clone());
    world.uvm.set_killer(killer.clone());
    let programs: Vec<_> = spaces
        .iter()
        .zip(sizes)
        .map(|(space, pages)| {
            let request = MapRequest::anonymous(pages * PAGE_SIZE, Prot::RW);
            space
                .map(request.at(Placement::Fixed(VirtAddr::new(AT))))
                .unwrap();
            let program = world.program(space);
            let fill = async move {
                program.touch(AT, pages, pages as u8).await?;
                program.peek(AT, pages).await
            };
            world.executor.spawn(Class::User, "program", fill)
        })
        .collect();
    for (program, (i, pages)) in programs.into_iter().zip(sizes.into_iter().enumerate()) {
        let seen = world.run(program);
        match i {
            // It may have come to its end before; and this executioner takes the space away under it, as no kernel does.
            1 if matches!(seen, Err(FaultError::Killed | FaultError::NoMapping)) => {}
            _ => assert_eq!(seen, Ok(alloc::vec![pages as u8; pages]), "program {i}"),
        }
    }
    let killed = killer.killed.lock().unwrap().clone();
    assert_eq!(killed.len(), 1, "{killed:?}");
    assert!(killed[0].0 == 1 && killed[0].1.total() > 60, "{killed:?}");
    assert_eq!(world.uvm.meter().get(Counter::Pdkills), 1);
    assert!(!nobodys.is_doomed());
    let mut all = spaces.clone();
    all.push(nobodys);
    world.run(async move {
        for space in all {
            space.deactivate();
            space.teardown().await;
        }
    });
    world.uvm.set_killer(Executioner::of(&world, Vec::new()));
    drop((killer, spaces));
    world.driver.run_until_stalled();
    world.check_quiet();
}

/// Who can do without waits for no more than there can be, and nobody dies for it.
#[test]
fn nobody_dies_for_who_can_do_without() {
    const PAGES: usize = 40;
    let world = World::new(256, 0);
    let disk = SimDisk::swap(&world.uvm, 100, Mode::AtOnce);
    world.swapon(&disk, "swap", 0);
    let space = world.space();
    let request = MapRequest::anonymous(PAGES * PAGE_SIZE, Prot::RW);
    space
        .map(request.at(Placement::Fixed(VirtAddr::new(AT))))
        .unwrap();
    let program = world.program(&space);
    world.run(async move { program.touch(AT, PAGES, 1).await.unwrap() });
    let killer = Executioner::of(&world, alloc::vec![space.clone()]);
    world.uvm.set_killer(killer.clone());
    // Of the kernel's own, which stays.
    let frames = hog(&world, 20);
    let uvm = world.uvm.clone();
    let (some, more) = world.run(async move {
        let some = uvm.wait_for_room(20 + PAGES / 2).await;
        (some, uvm.wait_for_room(200).await)
    });
    assert_eq!((some, more), (Ok(()), Err(OutOfMemory)));
    assert_eq!(*killer.killed.lock().unwrap(), []);
    free(&world, frames);
    world.run(async move {
        space.deactivate();
        space.teardown().await;
    });
    world.uvm.set_killer(Executioner::of(&world, Vec::new()));
    drop(killer);
    world.driver.run_until_stalled();
    world.check_quiet();
}

#[test]
fn who_is_doomed_does_not_wait_for_memory() {
    let world = World::new(256, 0);
    let space = world.space();
    let request = MapRequest::anonymous(PAGE_SIZE, Prot::RW);
    space
        .map(request.at(Placement::Fixed(VirtAddr::new(AT))))
        .unwrap();
    let frames = hog(&world, 0);
    let program = world.program(&space);
    let waiting = async move { program.store(AT, 1).await };
    let waiting = world.executor.spawn(Class::User, "program", waiting);
    // One poll of the program, at most one of the pagedaemon: it has not given up yet.
    while world.uvm.meter().get(Counter::FltNoram) == 0 {
        assert!(world.driver.step());
    }
    assert!(!waiting.is_finished());
    space.doom();
    assert_eq!(world.run(waiting), Err(FaultError::Killed));
    let s = space.clone();
    world.run(async move { s.deactivate() });
    drop(space);
    free(&world, frames);
}

#[test]
fn who_has_patience_waits_while_something_can_go_and_costs_nobody_his_life() {
    let world = World::new(256, 0);
    let disk = SimDisk::new(&world.uvm, 1 << 20, Mode::After(Duration::from_micros(10)));
    let file = world.file(SimFile::new(&disk, Layout::Contiguous(0)), 200 * 4096);
    let (uvm, space) = (world.uvm.clone(), world.space());
    let doomed = world.space();
    doomed.doom();
    let object = file.clone();
    world.run(async move {
        for page in 0..200 {
            drop(object.page_in(&uvm, PageIndex(page)).await.unwrap());
        }
        let mut held = Vec::new();
        let mut take = || {
            let frames = core::iter::from_fn(|| uvm.alloc_frame(AllocFor::User, Zero::No));
            held.extend(frames);
        };
        take();
        // Each time there are more, until it has been long enough.
        let mut patience = Patience::new();
        for pages in [4, 8, 16] {
            assert_eq!(patience.wait_in(&space).await, Ok(()));
            assert!(uvm.can_allocate(AllocFor::User, pages));
            take();
        }
        assert_eq!(patience.wait_in(&doomed).await, Err(OutOfMemory));
        held.into_iter().for_each(|frame| uvm.free_frame(frame));
    });
    drop(file);
    // Nothing that could go: it does not even wait.
    let frames = hog(&world, 0);
    let passes = world.uvm.meter().get(Counter::Pdwoke);
    let uvm = world.uvm.clone();
    world.run(async move {
        assert_eq!(Patience::new().wait(&uvm).await, Err(OutOfMemory));
    });
    assert_eq!(world.uvm.meter().get(Counter::Pdwoke), passes);
    free(&world, frames);
}

#[test]
fn patience_comes_to_an_end() {
    let world = World::new(512, 0);
    let disk = SimDisk::swap(&world.uvm, 64, Mode::AtOnce);
    world.swapon(&disk, "swap", 0);
    let uvm = world.uvm.clone();
    world.run(async move {
        let (mut patience, mut times) = (Patience::new(), 0);
        while patience.wait(&uvm).await.is_ok() {
            times += 1;
        }
        assert_eq!(times, 12);
    });
}
