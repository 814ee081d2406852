//! Both parts on the simulated machine.

use super::*;
use uvm::sim::World;

const COUNT: usize = 20;

fn env(world: &World) -> Env {
    Env {
        uvm: world.uvm.clone(),
        executor: world.executor.clone(),
    }
}

#[test]
fn every_case_is_measured_and_nothing_stays() {
    let world = World::new(512, 0);
    for part in [Part::Executor, Part::Memory] {
        let running = start(&env(&world), part, COUNT).unwrap();
        let mut cases = world.run(async move { running.finish().await.unwrap() });
        let names = cases.iter().map(|case| (case.name, case.what));
        assert!(names.eq(part.cases().iter().copied()), "{part:?}");
        for case in &mut cases {
            assert_eq!(case.kernel.len(), COUNT, "{}", case.name);
            assert_eq!(case.figures[0].name, "clock_reading_ns");
        }
    }
    world.check_quiet();
}

#[test]
fn it_stops_when_nobody_waits_any_more() {
    let world = World::new(512, 0);
    for part in [Part::Executor, Part::Memory] {
        let running = start(&env(&world), part, 100_000).unwrap();
        drop(running);
        world.driver.run_until_stalled();
    }
    world.check_quiet();
}
