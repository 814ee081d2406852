//! UVM.md's table of what must hold, as far as it is about births and deaths.

use super::*;
use crate::proc::table::{Change, Interest, Which};
use executor::TaskInfo;
use std::sync::Mutex;
use std::task::{Context, Poll, Wake, Waker};
use uvm::meter::Counter;
use uvm::uarea::UAREA_KEEP;

/// A page of a program's data.
const DATA: u64 = entry(0) + 0x1_1000;
const ROUNDS: u64 = 200;

/// Vforks `ROUNDS` times; each child adds one to a word of its parent's, and exits or executes program 1.
fn vforks(step: u64, frame: &mut TrapFrame) -> Trap {
    match (step, frame.rax) {
        (0, _) => match store(DATA + 64, b"/1\0") {
            Some(fault) => fault,
            None => call(frame, sys::__NR_vfork, &[]),
        },
        (1, 0) => {
            let count = match load(DATA) {
                Ok(count) => count,
                Err(fault) => return fault,
            };
            if let Some(fault) = store(DATA, &(count + 1).to_le_bytes()) {
                return fault;
            }
            match count % 2 {
                0 => exit(frame, 0),
                _ => call(frame, sys::__NR_execve, &[DATA + 64, 0, 0]),
            }
        }
        (1, child) => call(frame, sys::__NR_wait4, &[child, 0, 0, 0]),
        _ => match load(DATA) {
            Ok(ROUNDS) => exit(frame, 0),
            // Every child's store is there, before the parent goes on.
            Ok(count) => {
                assert_eq!(count, frame.r15 + 1);
                frame.r15 = count;
                // Again, as if from step 0.
                frame.rip = entry(0);
                call(frame, sys::__NR_vfork, &[])
            }
            Err(fault) => fault,
        },
    }
}

#[test]
fn row_01_vfork_borrows_the_space_and_the_exit_path_alone_gives_it_back() {
    let mut world = World::new(1);
    let processes = Arc::downgrade(&world.processes);
    program(0, move |step, frame| {
        if step == 2 {
            // The parent, after each child: nobody else has its space any more.
            let processes = processes.upgrade().expect("it runs");
            let parents = processes.list().filter_map(|row| row.process.space());
            let held: Vec<bool> = parents.map(|space| space.is_held_once()).collect();
            assert_eq!(held, [true]);
        }
        vforks(step, frame)
    });
    program(1, |_, frame| exit(frame, 0));
    assert_eq!(world.run(0), ExitStatus::Exited(0));
    world.check();
    let count = |counter| world.host.uvm.meter().get(counter);
    // Its own, and that of each child that executed something.
    assert_eq!(count(Counter::SpaceFrees), 1 + ROUNDS / 2);
    assert_eq!(count(Counter::Forks), 0);
    assert_eq!(
        count(Counter::PmapActivate),
        count(Counter::PmapDeactivate),
        "each space that was entered was left"
    );
}

/// Polls a future whose wake-ups call `woken`.
struct Spy<F>(F);

impl<F: Fn() + Send + Sync + 'static> Wake for Spy<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

#[test]
fn row_02_a_child_is_collected_before_its_uarea_is_released() {
    let mut world = World::new(2);
    program(0, |_, frame| exit(frame, 9));
    let child = world.spawn(0).expect("the program starts");
    let (pid, uvm) = (child.pid(), world.host.uvm.clone());
    let frees = move || uvm.meter().get(Counter::UareaFrees);
    assert_eq!(frees(), 0);
    let seen = Arc::new(Mutex::new(None));
    let waker = {
        let (processes, seen) = (world.processes.clone(), seen.clone());
        Waker::from(Arc::new(Spy(move || {
            let which = Which::One(pid);
            let collected = (processes.table().lock()).collect(Pid::INIT, which, Interest::END);
            if let Ok(Some((_, change))) = collected {
                *seen.lock().expect("no panic") = Some((change, frees()));
            }
        })))
    };
    let parent = world.processes.init().clone();
    let wait = parent.children().wait_until(|| None::<()>);
    let mut wait = core::pin::pin!(wait);
    let waiting = wait.as_mut().poll(&mut Context::from_waker(&waker));
    assert_eq!(waiting, Poll::Pending);
    world.driver.run_until_stalled();
    // It was collected when its parent was told, by the dying thread itself: with its u-area in use.
    let seen = seen.lock().expect("no panic").take();
    assert_eq!(seen, Some((Change::Ended(ExitStatus::Exited(9)), 0)));
    assert_eq!(world.host.uvm.meter().get(Counter::UareaFrees), 1);
    drop(child);
    world.check();
}

/// Tasks by number.
fn tasks(world: &World) -> Vec<u64> {
    let mut ids = Vec::new();
    let executor = world.driver.executor();
    executor.for_each_task(|task: &TaskInfo| ids.push(task.id));
    ids
}

#[test]
fn row_02_an_exit_makes_no_task() {
    let mut world = World::new(3);
    program(0, |_, frame| exit(frame, 0));
    // Its pages are read once.
    drop(world.spawn(0).expect("the program starts"));
    world.driver.run_until_stalled();
    let before = tasks(&world);
    let marker = |world: &World| {
        let mut id = 0;
        let executor = world.driver.executor().clone();
        drop(executor.spawn(Class::Daemon, "marker", async {}));
        executor.for_each_task(|task| id = id.max(task.id));
        id
    };
    let first = marker(&world);
    world.driver.run_until_stalled();
    for _ in 0..10 {
        drop(world.spawn(0).expect("the program starts"));
        world.driver.run_until_stalled();
    }
    // Ten threads; besides them the test's own: what starts each.
    let last = marker(&world);
    world.driver.run_until_stalled();
    assert_eq!(last - first, 1 + 10 * 2);
    assert_eq!(tasks(&world), before);
    world.check();
}

#[test]
fn row_03_after_a_thousand_children_and_a_wait_few_uareas_are_cached() {
    let mut world = World::new(4);
    // Ten times a hundred children, all there before the first is waited for.
    program(0, |step, frame| match (step, frame.rax) {
        (0, _) => call(frame, sys::__NR_fork, &[]),
        (1, 0) => exit(frame, 0),
        (1, _) => {
            frame.r15 += 1;
            match frame.r15 % 100 {
                0 => call(frame, sys::__NR_wait4, &[u64::MAX, 0, 0, 0]),
                _ => {
                    frame.rip = entry(0);
                    call(frame, sys::__NR_fork, &[])
                }
            }
        }
        (2, answer) if answer == error(linux_raw_sys::errno::ECHILD) => match frame.r15 {
            1000 => exit(frame, 0),
            _ => {
                frame.rip = entry(0);
                call(frame, sys::__NR_fork, &[])
            }
        },
        _ => {
            frame.rip = entry(0) + 2;
            call(frame, sys::__NR_wait4, &[u64::MAX, 0, 0, 0])
        }
    });
    assert_eq!(world.run(0), ExitStatus::Exited(0));
    world.check();
    let uvm = &world.host.uvm;
    let count = |counter| uvm.meter().get(counter);
    assert_eq!(count(Counter::UareaFrees), 1001);
    assert!(count(Counter::UareaDrained) > 100, "many were there");
    // The program's own went there after its parent had waited.
    assert!(uvm.uarea_cached() <= UAREA_KEEP + 1);
    let (made, hits) = (count(Counter::UareaFresh), count(Counter::UareaHits));
    assert_eq!(made + hits, 1001);
    assert!(hits > 0, "{made} made");
    assert_eq!(world.host.machine.uareas_wired().len() as u64, made);
    let clone = uvm.clone();
    world
        .driver
        .run_until(async move { clone.uarea_drain(0).await });
    assert_eq!(world.host.uvm.uarea_cached(), 0);
}
