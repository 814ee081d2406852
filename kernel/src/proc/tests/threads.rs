//! Several threads in a process: how one of them, or all, come to an end, whatever the others are at.

use super::*;
use crate::proc::signal::Signal;

/// What threads share.
const THREAD: u64 = (sys::CLONE_VM
    | sys::CLONE_FS
    | sys::CLONE_FILES
    | sys::CLONE_SIGHAND
    | sys::CLONE_THREAD
    | sys::CLONE_CHILD_CLEARTID) as u64;
/// The word that is cleared when a thread ends; and a futex that nobody wakes.
const GONE: u64 = entry(0) + 0x1_1000;
const NEVER: u64 = entry(0) + 0x1_1010;

fn start(frame: &mut TrapFrame) -> Trap {
    let stack = frame.rsp - 0x2000;
    call(frame, sys::__NR_clone, &[THREAD, stack, 0, GONE, 0])
}

fn leave(frame: &mut TrapFrame, code: u64) -> Trap {
    call(frame, sys::__NR_exit, &[code])
}

/// Ways to be busy without end.
fn busy(way: u64, frame: &mut TrapFrame) -> Trap {
    match way % 4 {
        0 => call(frame, sys::__NR_pause, &[]),
        1 => call(frame, sys::__NR_futex, &[NEVER, 0, 0, 0]),
        2 => {
            frame.rip -= 2;
            call(frame, sys::__NR_sched_yield, &[])
        }
        _ => call(frame, sys::__NR_wait4, &[u64::MAX, 0, 0, 0]),
    }
}

#[test]
fn who_waits_for_a_thread_hears_of_its_end() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        program(0, |step, frame| match (step, frame.rax) {
            (0, _) => store(GONE, &7_u32.to_le_bytes()).unwrap_or_else(|| start(frame)),
            (1, 0) => leave(frame, 3),
            // FUTEX_WAIT, shared, as `pthread_join` does.
            (1, _) => call(frame, sys::__NR_futex, &[GONE, 0, 7, 0]),
            _ => match load(GONE) {
                Ok(word) if word as u32 == 0 => exit(frame, 5),
                Ok(_) => panic!("woken, and the word is not cleared"),
                Err(fault) => fault,
            },
        });
        assert_eq!(world.run(0), ExitStatus::Exited(5));
        assert!(world.processes.futexes().is_empty());
        world.check();
    }
}

#[test]
fn all_end_with_the_first_that_says_so() {
    for seed in 0..40 {
        let mut world = World::new(seed);
        program(0, move |step, frame| match (step, frame.rax) {
            (0 | 1, _) => start(frame),
            // The second thread was begun by the first, or by the one that that began.
            (2, 0) => busy(seed, frame),
            (2, _) => exit(frame, 9),
            _ => busy(seed, frame),
        });
        assert_eq!(world.run(0), ExitStatus::Exited(9));
        assert!(world.processes.futexes().is_empty());
        world.check();
    }
}

#[test]
fn a_killed_process_leaves_no_thread() {
    for seed in 0..40 {
        let mut world = World::new(seed);
        program(0, move |step, frame| match step {
            0..3 => start(frame),
            // One that never waits would keep the others from being looked at.
            _ => busy((seed + frame.rax) % 2, frame),
        });
        let child = world.spawn(0).expect("the program starts");
        (0..seed).for_each(|_| world.driver.run_ready());
        let lwps = child.process().lwps();
        assert!((1..=8).contains(&lwps), "{lwps} threads");
        assert!(world.processes.kill(child.pid(), Signal::KILL));
        let status = world.driver.run_until(child.wait());
        assert_eq!(status, ExitStatus::Killed(Signal::KILL));
        assert!(world.processes.futexes().is_empty());
        world.check();
    }
}

/// Exec from a thread ends all others, and its number is the process's from then on.
#[test]
fn a_thread_replaces_the_program() {
    for seed in 0..40 {
        let mut world = World::new(seed);
        program(0, move |step, frame| match (step, frame.rax) {
            (0, _) => start(frame),
            (1, 0) => {
                let at = GONE + 0x100;
                store(at, b"/1\0").unwrap_or_else(|| call(frame, sys::__NR_execve, &[at, 0, 0]))
            }
            _ => busy(seed, frame),
        });
        program(1, |step, frame| match step {
            0 => call(frame, sys::__NR_getpid, &[]),
            1 => {
                frame.r15 = frame.rax;
                call(frame, sys::__NR_gettid, &[])
            }
            _ => {
                let same = u64::from(frame.rax == frame.r15);
                exit(frame, 10 + same)
            }
        });
        let child = world.spawn(0).expect("the program starts");
        assert_eq!(world.driver.run_until(child.wait()), ExitStatus::Exited(11));
        assert!(world.processes.futexes().is_empty());
        world.check();
    }
}

/// As on Linux since 5.19: the status is that of the last thread to leave.
#[test]
fn a_process_without_its_first_thread_lives_on() {
    let mut world = World::new(1);
    program(0, |step, frame| match (step, frame.rax) {
        (0, _) => start(frame),
        (1, 0) => {
            let at = GONE + 0x200;
            let time: Vec<u8> = [0_u64, 1_000_000]
                .into_iter()
                .flat_map(u64::to_le_bytes)
                .collect();
            store(at, &time).unwrap_or_else(|| call(frame, sys::__NR_nanosleep, &[at, 0]))
        }
        (1, _) => leave(frame, 1),
        _ => leave(frame, 2),
    });
    let child = world.spawn(0).expect("the program starts");
    world.driver.run_ready();
    assert_eq!(child.process().lwps(), 1);
    assert_eq!(world.driver.run_until(child.wait()), ExitStatus::Exited(2));
    world.check();
}

/// A vfork parent that is killed leaves its memory to the child, who frees it at its own end.
#[test]
fn row_01_a_vfork_parent_may_die_before_its_child() {
    let mut world = World::new(1);
    program(0, |step, frame| match (step, frame.rax) {
        (0, _) => call(frame, sys::__NR_vfork, &[]),
        (1, 0) => call(frame, sys::__NR_pause, &[]),
        (1, _) => panic!("the parent goes on while its memory is lent"),
        _ => exit(frame, 1),
    });
    let parent = world.spawn(0).expect("the program starts");
    world.driver.run_ready();
    let child = Pid(parent.pid().0 + 1);
    let space = parent.process().space().expect("its memory");
    assert!(!space.is_held_once());
    assert!(parent.process().is_asleep());
    assert!(world.processes.kill(parent.pid(), Signal::KILL));
    let status = world.driver.run_until(parent.wait());
    assert_eq!(status, ExitStatus::Killed(Signal::KILL));
    assert!(space.is_held_once(), "the child has it still");
    assert!(world.processes.kill(child, Signal::KILL));
    drop(space);
    world.check();
}

/// A thread that was told of a signal and leaves instead of taking it leaves it to the other one, which sleeps.
#[test]
fn a_signal_told_to_a_thread_that_leaves_reaches_the_last_one() {
    let mut world = World::new(1);
    let processes = Arc::downgrade(&world.processes);
    program(0, move |step, frame| match (step, frame.rax) {
        (0, _) => start(frame),
        (1, 0) => call(frame, sys::__NR_pause, &[]),
        (1, _) => call(frame, sys::__NR_sched_yield, &[]),
        (2, _) => call(frame, sys::__NR_getpid, &[]),
        (_, pid) => {
            // From another CPU, say, as this one makes its last call.
            let processes = processes.upgrade().expect("it runs");
            assert!(processes.kill(Pid(pid as u32), Signal::USR1));
            leave(frame, 0)
        }
    });
    let child = world.spawn(0).expect("the program starts");
    let status = world.driver.run_until(child.wait());
    assert_eq!(status, ExitStatus::Killed(Signal::USR1));
    world.check();
}
