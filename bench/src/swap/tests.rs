//! All loads on the simulated machine, whose tasks take no time: only the disk does.

use core::time::Duration;

use executor::Class;
use uvm::PAGE_SIZE;
use uvm::meter::Gauge;
use uvm::sim::World;
use uvm::sim::disk::{Mode, SimDisk};

use super::*;

const DELAY: Duration = Duration::from_millis(1);
const FRAMES: usize = 2048;

struct Machine {
    env: Env,
    disk: Arc<SimDisk>,
    world: World,
}

impl Machine {
    /// With a swap disk of so many pages.
    fn new(seed: u64, swap: u32) -> Self {
        let world = World::new(FRAMES, seed);
        let disk = SimDisk::swap(&world.uvm, swap, Mode::After(DELAY));
        world.swapon(&disk, "swap", 0);
        let env = Env {
            uvm: world.uvm.clone(),
            executor: world.executor.clone(),
        };
        Self { env, disk, world }
    }

    fn measure(&self) -> Result<[Case; 4], Trouble> {
        let running = start(&self.env).unwrap();
        self.world.run(running.finish())
    }

    /// Nothing is left of it, in memory or on swap.
    fn assert_quiet(&self) {
        self.world.driver.run_until_stalled();
        let gauge = |gauge| self.world.uvm.meter().gauge(gauge);
        assert_eq!((gauge(Gauge::Swpginuse), gauge(Gauge::Anonpages)), (0, 0));
        self.world.check_quiet();
    }
}

fn figure(case: &Case, name: &str) -> u64 {
    let found = case.figures.iter().find(|figure| figure.name == name);
    found.unwrap_or_else(|| panic!("no figure {name}")).value
}

#[test]
fn rates_are_what_latency_and_depth_make_them() {
    for seed in 0..2 {
        let machine = Machine::new(seed, 16_384);
        let mut cases = machine.measure().unwrap();
        machine.assert_quiet();
        let names = cases.each_ref().map(|case| case.name);
        assert_eq!(names, Kind::ALL.map(Kind::name));
        // So many at once, each of so many pages, end with every millisecond.
        let [write, out, read, back] = &cases;
        assert_eq!(figure(write, "pages_per_second"), 16 * 16 * 1000);
        assert_eq!(figure(read, "pages_per_second"), 64 * 1000);
        assert_eq!(
            [write, read].map(|case| figure(case, "mean_in_flight")),
            [16, 64]
        );
        for (case, raw) in [(out, write), (back, read)] {
            let rate = |case| figure(case, "pages_per_second");
            let percent = rate(case) * 100 / rate(raw);
            assert_eq!(figure(case, "percent_of_raw"), percent, "{}", case.name);
            assert!(percent > 0, "{}", case.name);
        }
        // A read takes as long as the disk takes, and no fault is counted that read nothing.
        let delay = DELAY.as_nanos() as u64;
        let read = cases[2].kernel.summary().unwrap();
        assert_eq!((read.min, read.max), (delay, delay));
        assert!(cases[3].kernel.summary().unwrap().p50 >= delay);
    }
}

#[test]
fn too_little_swap_is_said_and_none_is_used() {
    let machine = Machine::new(0, FRAMES as u32);
    let error = machine.measure().unwrap_err();
    assert!(matches!(error, Trouble::TooLittleSwap { .. }), "{error}");
    assert_eq!(machine.disk.writes(), 0);
    machine.assert_quiet();
}

#[test]
fn a_device_that_fails_ends_it() {
    let machine = Machine::new(0, 16_384);
    // What is written goes nowhere from the second page on.
    machine
        .disk
        .spoil(PAGE_SIZE as u64, machine.disk.device().size());
    assert_eq!(machine.measure().unwrap_err(), Trouble::Io(IoError::Device));
    machine.assert_quiet();
}

#[test]
fn dropped_it_stops_and_leaves_nothing() {
    // During the raw transfers, and while there is a mapping.
    for pause in [10, 500] {
        let machine = Machine::new(0, 16_384);
        let running = start(&machine.env).unwrap();
        let executor = machine.env.executor.clone();
        let wait = Duration::from_millis(pause);
        let timer = machine
            .env
            .executor
            .spawn(Class::User, "timer", async move {
                executor.sleep(wait).await;
            });
        machine.world.run(timer);
        assert!(machine.world.uvm.meter().gauge(Gauge::Swpginuse) > 0);
        drop(running);
        machine.assert_quiet();
    }
}

#[test]
fn its_task_fits_a_heap_block() {
    let machine = Machine::new(0, 16_384);
    let task = measure(machine.env.clone(), Arc::new(AtomicBool::new(false)));
    // The task's header is in the same block.
    let size = size_of_val(&task);
    assert!(size <= PAGE_SIZE - 512, "{size}");
}
