//! Signals as programs meet them.

use super::*;
use crate::proc::signal::Signal;
use linux_raw_sys::errno::EINTR;

/// Where the handler and the code that it returns to begin: programs 2 and 3.
const HANDLER: u64 = entry(2);
const RESTORER: u64 = entry(3);

fn scratch(frame: &TrapFrame) -> u64 {
    (frame.rsp - 8192) & !0xfff
}

/// A handler that notes its argument in memory at `note` and returns.
fn install_handler(note: impl Fn(&TrapFrame) -> u64 + 'static) {
    program(2, move |_, frame| {
        let signal = frame.rdi.to_le_bytes();
        if let Some(fault) = store(note(frame), &signal) {
            return fault;
        }
        // `ret`: the frame's first word is where to.
        match load(frame.rsp) {
            Ok(to) => {
                assert_eq!(to, RESTORER);
                frame.rsp += 8;
                frame.rip = to;
                [frame.rbx, frame.r12, frame.r15] = [0xbad; 3];
                call(frame, sys::__NR_rt_sigreturn, &[])
            }
            Err(fault) => fault,
        }
    });
}

/// `rt_sigaction` for the handler above.
fn catch(frame: &mut TrapFrame, signal: u64, flags: u32) -> Trap {
    let at = scratch(frame);
    let words = [HANDLER, u64::from(flags | sys::SA_RESTORER), RESTORER, 0];
    let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
    store(at, &bytes).unwrap_or_else(|| call(frame, sys::__NR_rt_sigaction, &[signal, at, 0, 8]))
}

const NOTE: u64 = entry(0) + 0x1_1000;

#[test]
fn a_handler_runs_and_everything_is_as_before() {
    let mut world = World::new(1);
    install_handler(|_| NOTE);
    program(0, |step, frame| match step {
        0 => catch(frame, 10, 0),
        1 => {
            assert_eq!(frame.rax, 0);
            [frame.rbx, frame.r12, frame.r15] = [1, 2, 3];
            call(frame, sys::__NR_getpid, &[])
        }
        2 => {
            let pid = frame.rax;
            call(frame, sys::__NR_kill, &[pid, 10])
        }
        _ => {
            assert_eq!(frame.rax, 0, "kill's own result");
            assert_eq!([frame.rbx, frame.r12, frame.r15], [1, 2, 3]);
            match load(NOTE) {
                Ok(noted) => exit(frame, noted),
                Err(fault) => fault,
            }
        }
    });
    assert_eq!(world.run(0), ExitStatus::Exited(10));
    world.check();
}

#[test]
fn a_wait_is_interrupted_or_started_over() {
    for (flags, result) in [(0, error(EINTR)), (sys::SA_RESTART, 0x1234)] {
        let mut world = World::new(2);
        install_handler(|_| NOTE);
        // Waits for a child that ends only when the test says so.
        program(0, move |step, frame| match step {
            0 => catch(frame, 10, flags),
            1 => call(frame, sys::__NR_fork, &[]),
            2 if frame.rax == 0 => call(frame, sys::__NR_pause, &[]),
            2 => {
                frame.r15 = frame.rax;
                frame.rip += 2;
                Trap::Interrupt
            }
            // All that is started over is this step.
            3 => call(frame, sys::__NR_wait4, &[u64::MAX, 0, 0, 0]),
            _ => {
                let expected = if result == 0x1234 { frame.r15 } else { result };
                assert_eq!(frame.rax, expected);
                exit(frame, 1)
            }
        });
        let child = world.spawn(0).expect("the program starts");
        let pid = child.pid();
        world.driver.run_ready();
        assert!(world.processes.kill(pid, Signal::USR1));
        world.driver.run_ready();
        let grandchild = Pid(pid.0 + 1);
        assert!(world.processes.kill(grandchild, Signal::KILL));
        let status = world.driver.run_until(child.wait());
        assert_eq!(status, ExitStatus::Exited(1));
        world.check();
    }
}

#[test]
fn kill_ends_every_wait_and_every_loop() {
    let waits: [fn(&mut TrapFrame) -> Trap; 4] = [
        |frame| call(frame, sys::__NR_pause, &[]),
        |_| Trap::Interrupt,
        |frame| {
            let at = scratch(frame);
            let long: Vec<u8> = [1u64 << 40, 0]
                .into_iter()
                .flat_map(u64::to_le_bytes)
                .collect();
            store(at, &long).unwrap_or_else(|| call(frame, sys::__NR_nanosleep, &[at, 0]))
        },
        |frame| call(frame, sys::__NR_poll, &[0, 0, u64::MAX]),
    ];
    for wait in waits {
        let mut world = World::new(3);
        program(0, move |_, frame| {
            frame.rip = entry(0);
            wait(frame)
        });
        let child = world.spawn(0).expect("the program starts");
        for _ in 0..100 {
            world.driver.step();
        }
        assert!(world.processes.kill(child.pid(), Signal::KILL));
        assert_eq!(
            world.driver.run_until(child.wait()),
            ExitStatus::Killed(Signal::KILL)
        );
        world.check();
    }
}

#[test]
fn stopping_waits_for_continue() {
    let mut world = World::new(4);
    program(0, |step, frame| match step {
        0 => call(frame, sys::__NR_getpid, &[]),
        1 => {
            let pid = frame.rax;
            call(frame, sys::__NR_kill, &[pid, Signal::STOP.number().into()])
        }
        _ => exit(frame, 4),
    });
    let child = world.spawn(0).expect("the program starts");
    world.driver.run_ready();
    assert_eq!(
        world.processes.table().lock().life(child.pid()),
        Some(Life::Stopped(Signal::STOP))
    );
    world.processes.kill(child.pid(), Signal::CONT);
    assert_eq!(world.driver.run_until(child.wait()), ExitStatus::Exited(4));
    world.check();
}

#[test]
fn a_stack_that_cannot_take_the_frame_is_fatal() {
    let mut world = World::new(5);
    install_handler(|_| NOTE);
    program(0, |step, frame| match step {
        0 => catch(frame, 10, 0),
        1 => call(frame, sys::__NR_getpid, &[]),
        _ => {
            let pid = frame.rax;
            frame.rsp = 64;
            call(frame, sys::__NR_kill, &[pid, 10])
        }
    });
    assert_eq!(world.run(0), ExitStatus::Killed(Signal::SEGV));
    world.check();
}

#[test]
fn a_damaged_frame_is_fatal() {
    let mut world = World::new(6);
    program(0, |_, frame| {
        frame.rsp = 0x6000_0000_0000;
        call(frame, sys::__NR_rt_sigreturn, &[])
    });
    assert_eq!(world.run(0), ExitStatus::Killed(Signal::SEGV));
    world.check();
}

/// Random registers and arguments into every call: errors, never a panic of the kernel's.
#[test]
fn random_calls_never_panic() {
    for seed in 0..40 {
        let mut world = World::new(seed);
        let random = core::cell::RefCell::new(crate::proc::random::Random::new(seed));
        program(0, move |_, frame| {
            let word = || {
                let mut bytes = [0; 8];
                random.borrow_mut().fill(&mut bytes);
                u64::from_le_bytes(bytes)
            };
            frame.rip = entry(0);
            let sp = frame.rsp;
            let value = || match word() % 12 {
                0 => word(),
                1 => u64::MAX - word() % 4096,
                2 => word() % (1 << 47),
                3 => sp.wrapping_sub(word() % 8192),
                4 => entry(0) + 0x1_0800 + word() % 0x2000,
                5 => 0x7fff_ffff_f000 - word() % 16,
                6 => 0,
                _ => word() % 300,
            };
            let args = [value(), value(), value(), value(), value(), value()];
            let number = (word() % 340) as u32;
            match number {
                // Ends, waits for ever, or forks without bound: others' tests.
                sys::__NR_exit
                | sys::__NR_exit_group
                | sys::__NR_pause
                | sys::__NR_rt_sigsuspend
                | sys::__NR_fork
                | sys::__NR_vfork
                | sys::__NR_clone
                | sys::__NR_kill
                | sys::__NR_tkill
                | sys::__NR_tgkill
                | sys::__NR_rt_sigreturn
                | sys::__NR_munmap
                | sys::__NR_mmap
                | sys::__NR_mprotect
                | sys::__NR_brk => Trap::Interrupt,
                _ => call(frame, number, &args),
            }
        });
        let child = world.spawn(0).expect("the program starts");
        for _ in 0..3000 {
            world.driver.step();
        }
        world.processes.kill(child.pid(), Signal::KILL);
        let status = world.driver.run_until(child.wait());
        assert_eq!(status, ExitStatus::Killed(Signal::KILL));
        world.check();
    }
}
