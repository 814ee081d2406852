//! Timers and broken-off sleeps as programs meet them.

use super::*;
use crate::proc::signal::Signal;

const SECOND: u64 = 1_000_000_000;

fn scratch(frame: &TrapFrame) -> u64 {
    (frame.rsp - 8192) & !0xfff
}

/// A call whose argument number `at` is the address of these words.
fn call_with(
    frame: &mut TrapFrame,
    number: u32,
    words: &[u64],
    args: &mut [u64],
    at: usize,
) -> Trap {
    let place = scratch(frame);
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    args[at] = place;
    store(place, &bytes).unwrap_or_else(|| call(frame, number, args))
}

fn sleep(frame: &mut TrapFrame, seconds: u64) -> Trap {
    call_with(frame, sys::__NR_nanosleep, &[seconds, 0], &mut [0, 0], 0)
}

#[test]
fn an_alarm_ends_a_program_that_does_not_expect_it() {
    let mut world = World::new(31);
    program(0, |step, frame| match step {
        0 => call(frame, sys::__NR_alarm, &[5]),
        _ => call(frame, sys::__NR_pause, &[]),
    });
    let begun = world.driver.executor().now();
    assert_eq!(world.run(0), ExitStatus::Killed(Signal::ALRM));
    let took = world.driver.executor().now() - begun;
    assert!((5 * SECOND..6 * SECOND).contains(&took), "{took}");
    world.check();
}

#[test]
fn a_process_ends_though_a_timer_is_set() {
    let mut world = World::new(32);
    program(0, |step, frame| match step {
        0 => call(frame, sys::__NR_alarm, &[1 << 30]),
        1 => call(frame, sys::__NR_alarm, &[77]),
        _ => {
            let old = frame.rax;
            exit(frame, u64::from(old == 1 << 30))
        }
    });
    assert_eq!(world.run(0), ExitStatus::Exited(1));
    // Nothing sleeps until the alarm that nobody hears.
    world.check();
    assert!(world.driver.executor().now() < 77 * SECOND);
}

#[test]
fn a_sleep_that_is_stopped_goes_on_with_what_is_left() {
    let mut world = World::new(33);
    program(0, |step, frame| match step {
        // The kernel has put another number there, and the instruction is run again.
        0 if frame.rax == u64::from(sys::__NR_restart_syscall) => Trap::Syscall,
        0 => sleep(frame, 10),
        _ => {
            let slept = frame.rax;
            exit(frame, slept)
        }
    });
    let child = world.spawn(0).expect("the program starts");
    let (pid, begun) = (child.pid(), world.driver.executor().now());
    let executor = world.driver.executor().clone();
    for signal in [Signal::STOP, Signal::CONT, Signal::TSTP, Signal::CONT] {
        let executor = executor.clone();
        world.driver.run_until(async move {
            executor.sleep(core::time::Duration::from_secs(2)).await;
        });
        assert!(world.processes.kill(pid, signal));
    }
    assert_eq!(world.driver.run_until(child.wait()), ExitStatus::Exited(0));
    let took = executor.now() - begun;
    assert!((10 * SECOND..11 * SECOND).contains(&took), "{took}");
    world.check();
}

#[test]
fn an_interval_timer_counts_used_time_and_the_limit_ends_the_process() {
    let mut world = World::new(34);
    // On the double each look at the clock takes a nanosecond.
    program(0, |step, frame| match step {
        0 => {
            let mut args = [sys::ITIMER_PROF.into(), 0, 0];
            call_with(frame, sys::__NR_setitimer, &[0, 0, 0, 1], &mut args, 1)
        }
        _ => {
            frame.rip -= 2 * (step - 1);
            Trap::Interrupt
        }
    });
    assert_eq!(world.run(0), ExitStatus::Killed(Signal::PROF));
    world.check();
}
