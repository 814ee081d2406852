//! Every case on the simulated machine, with a heap that counts.

use super::*;
use alloc::vec::Vec;
use core::time::Duration;
use std::alloc::{GlobalAlloc, Layout as MemoryLayout, System};
use std::cell::Cell;
use std::thread_local;

use executor::Class;
use uvm::PAGE_SIZE;
use uvm::meter::Counter;
use uvm::sim::World;
use uvm::sim::disk::{Layout, Mode, SimDisk, SimFile};

const COUNT: usize = 300;
const DELAY: Duration = Duration::from_micros(50);

thread_local! {
    static MACHINE: Cell<*const Uvm> = const { Cell::new(core::ptr::null()) };
}

/// The host's heap, counting for this thread's machine as the kernel's heap does for its own.
struct Counting;

#[global_allocator]
static HEAP: Counting = Counting;

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: MemoryLayout) -> *mut u8 {
        // SAFETY: null, or the machine of a `Counted` that lives.
        if let Some(uvm) = unsafe { MACHINE.get().as_ref() } {
            uvm.count(Counter::HeapAllocs);
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: MemoryLayout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

/// A machine whose heap allocations are counted while this lives, with an idle task that zeroes and a file on a disk.
struct Counted {
    env: Env,
    world: World,
}

impl Counted {
    fn new(seed: u64, pages: usize) -> Self {
        let world = World::new(1024, seed);
        let zeroer = world.uvm.clone();
        world.executor.spawn(Class::Idle, "zeroing", async move {
            zeroer.zero_idle_task().await;
        });
        let disk = SimDisk::new(&world.uvm, 16 << 20, Mode::After(DELAY));
        let file = SimFile::new(&disk, Layout::Contiguous(0));
        let env = Env {
            uvm: world.uvm.clone(),
            executor: world.executor.clone(),
            file: Some(world.file(file, (pages * PAGE_SIZE) as u64)),
        };
        MACHINE.set(Arc::as_ptr(&world.uvm));
        Self { env, world }
    }

    fn measure(&self, kind: Kind, count: usize) -> Result<Case, Trouble> {
        let running = start(&self.env, kind, count).unwrap();
        self.world.run(running.finish())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        MACHINE.set(core::ptr::null());
    }
}

fn figure(case: &Case, name: &str) -> u64 {
    let found = case.figures.iter().find(|figure| figure.name == name);
    found.unwrap_or_else(|| panic!("no figure {name}")).value
}

#[test]
fn every_case_has_its_samples_and_each_is_one_fault() {
    for seed in 0..4 {
        let machine = Counted::new(seed, 100);
        for kind in Kind::ALL {
            let mut case = machine.measure(kind, COUNT).unwrap();
            let name = kind.name();
            assert_eq!(case.kernel.len(), COUNT, "{name}");
            assert_eq!(figure(&case, "faults"), COUNT as u64, "{name}");
            assert_eq!(figure(&case, "resident_pages"), COUNT as u64, "{name}");
            let reads = if kind == Kind::FileFromDisk { COUNT } else { 0 };
            assert_eq!(figure(&case, "page_reads"), reads as u64, "{name}");
            let late = if kind == Kind::FirstTouchUnzeroed {
                COUNT
            } else {
                0
            };
            assert_eq!(figure(&case, "frames_zeroed_late"), late as u64, "{name}");
            assert_eq!(case.device.len(), reads, "{name}");
            if let Some(device) = case.device.summary() {
                let delay = DELAY.as_nanos() as u64;
                assert_eq!((device.min, device.max), (delay, delay));
            }
            // The virtual clock stands still while tasks run: all that passes is the device's.
            assert_eq!(case.kernel.summary().unwrap().max, 0, "{name}");
            machine.world.check_quiet();
        }
    }
}

#[test]
fn resident_cases_allocate_nothing_on_the_heap() {
    let machine = Counted::new(0, 100);
    for kind in Kind::ALL {
        let case = machine.measure(kind, COUNT).unwrap();
        let allocations = figure(&case, "heap_allocations");
        if kind == Kind::FileFromDisk {
            // The pager's boxed futures; and the proof that the counter counts.
            assert!(allocations >= COUNT as u64);
        } else {
            assert_eq!(allocations, 0, "{}", kind.name());
        }
        let frames = match kind {
            Kind::FileResident => 0,
            // One each; and one for each slab of anons and tree nodes.
            _ => COUNT as u64 + figure(&case, "slabs_made"),
        };
        assert_eq!(figure(&case, "frames_allocated"), frames, "{}", kind.name());
        if kind == Kind::FileResident {
            for none in ["pool_allocations", "free_list_locks", "pool_locks"] {
                assert_eq!(figure(&case, none), 0, "{none}");
            }
        }
    }
}

#[test]
fn nothing_is_left_behind() {
    let machine = Counted::new(0, 100);
    let spaces = machine.world.check_quiet();
    for kind in Kind::ALL {
        machine.measure(kind, 10).unwrap();
    }
    let after = machine.world.check_quiet();
    assert_eq!((spaces.anons, after.anons), (0, 0));
}

#[test]
fn a_dropped_case_stops_and_cleans_up() {
    // Before its first sample, and in the middle of those that wait for something.
    for (kind, ran) in Kind::ALL
        .into_iter()
        .flat_map(|kind| [(kind, 0), (kind, 5)])
    {
        let machine = Counted::new(1, 100);
        let name = kind.name();
        let waits = matches!(
            kind,
            Kind::FirstTouchZeroed | Kind::ReadUnwritten | Kind::FileFromDisk
        );
        if ran > 0 && !waits {
            // The virtual clock stands still until it is through.
            continue;
        }
        let running = start(&machine.env, kind, MAX_COUNT).unwrap();
        if ran > 0 {
            machine.world.driver.run_for(Duration::from_millis(ran));
        }
        let faults = machine.env.uvm.meter().get(Counter::Faults);
        assert_eq!(faults > 0, ran > 0, "{name}");
        drop(running);
        machine.world.driver.run_until_stalled();
        let after = machine.env.uvm.meter().get(Counter::Faults);
        assert!(after - faults < 100, "{name} went on");
        assert_eq!(machine.world.check_quiet().anons, 0, "{name}");
        machine.world.executor.for_each_task(|task| {
            assert_ne!(task.class, Class::User, "{name} runs on");
        });
    }
}

#[test]
fn what_cannot_be_measured_says_why() {
    let mut machine = Counted::new(0, 100);
    assert_eq!(
        machine.measure(Kind::CopyOnWrite, 0).unwrap().kernel.len(),
        0
    );
    // Somebody holds every page: none can be evicted.
    let (file, uvm) = (machine.env.file.clone().unwrap(), machine.env.uvm.clone());
    let holds = machine.world.run(async move {
        let mut holds = Vec::new();
        for n in 0..100 {
            holds.push(file.page_in(&uvm, uvm::PageIndex(n)).await.unwrap());
        }
        holds
    });
    let error = machine.measure(Kind::FileFromDisk, 10).unwrap_err();
    assert_eq!(error, Trouble::FileInUse);
    drop(holds);
    machine.measure(Kind::FileFromDisk, 10).unwrap();
    machine.env.file = None;
    for kind in Kind::ALL {
        let result = machine.measure(kind, 1).map(|case| case.kernel.len());
        if kind.needs_file() {
            assert_eq!(result, Err(Trouble::NoFile));
        } else {
            assert_eq!(result, Ok(1));
        }
    }
}

#[test]
fn without_an_idle_task_there_are_no_zeroed_frames_to_wait_for() {
    let world = World::new(1024, 0);
    let env = Env {
        uvm: world.uvm.clone(),
        executor: world.executor.clone(),
        file: None,
    };
    let running = start(&env, Kind::FirstTouchZeroed, 10).unwrap();
    let error = world.run(running.finish()).unwrap_err();
    assert_eq!(error, Trouble::NoZeroedFrames);
    world.check_quiet();
}

#[test]
fn names_lead_back_to_their_kinds() {
    for kind in Kind::ALL {
        assert_eq!(Kind::by_name(kind.name()), Some(kind));
    }
    assert_eq!(Kind::by_name("first-touch"), None);
}

#[test]
fn a_task_fits_a_heap_block() {
    let machine = Counted::new(0, 1);
    let stop = Arc::new(AtomicBool::new(false));
    let task = measure(machine.env.clone(), Kind::FileFromDisk, 1, stop);
    // The task's header is in the same block.
    assert!(
        size_of_val(&task) <= PAGE_SIZE - 512,
        "{}",
        size_of_val(&task)
    );
}
