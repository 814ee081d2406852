//! Birth, replacement, waiting and death.

use super::*;
use crate::proc::exec::ExecError;
use crate::proc::signal::Signal;
use linux_raw_sys::errno::{EACCES, ECHILD, ENOENT};

/// A free place in a program's stack.
fn scratch(frame: &TrapFrame) -> u64 {
    (frame.rsp - 4096) & !0xfff
}

#[test]
fn a_program_finds_its_memory_and_exits() {
    let mut world = World::new(1);
    program(0, |step, frame| {
        let data = entry(0) + 0x1_0800;
        let words = [frame.rsp, data, data + 0xf8, data + 0x100, data + 0x2ff8];
        match words.map(load) {
            [Ok(argc), Ok(first), Ok(last), Ok(bss), Ok(far)] => {
                assert_eq!(argc, 2);
                assert_eq!(
                    (first, last),
                    (0x0101_0101_0101_0101, 0x0101_0101_0101_0101)
                );
                assert_eq!((bss, far), (0, 0), "behind the data there are zeroes");
                assert_eq!(step, 0);
                exit(frame, 7)
            }
            all => all.into_iter().find_map(Result::err).expect("one of them"),
        }
    });
    assert_eq!(world.run(0), ExitStatus::Exited(7));
    world.check();
}

#[test]
fn what_cannot_run_is_refused() {
    let mut world = World::new(2);
    let spawn = |path: &'static [u8]| {
        let (processes, cwd) = (world.processes.clone(), world.root.clone());
        world.driver.run_until(async move {
            let program = Program {
                path,
                argv: &[path],
                env: &[],
                cwd,
                files: &[],
                front: None,
            };
            processes
                .spawn(program)
                .await
                .map(|child| child.pid())
                .expect_err("it cannot run")
        })
    };
    assert_eq!(
        spawn(b"/nosuch"),
        SpawnError::Exec(ExecError::File(crate::fs::FsError::NotFound))
    );
    assert_eq!(
        spawn(b"/text"),
        SpawnError::Exec(ExecError::File(crate::fs::FsError::Permission))
    );
    assert_eq!(
        spawn(b"/"),
        SpawnError::Exec(ExecError::File(crate::fs::FsError::Permission))
    );
    world.check();
}

/// Forks; the child exits with 3, the parent waits and exits with what it was told.
fn fork_and_wait(number: u32) -> impl Fn(u64, &mut TrapFrame) -> Trap {
    move |step, frame| match (step, frame.rax) {
        (0, _) => call(frame, number, &[]),
        (1, 0) => {
            // With vfork this is the parent's own memory.
            if let Some(fault) = store(scratch(frame) + 64, &[1; 8]) {
                return fault;
            }
            exit(frame, 3)
        }
        (1, child) => {
            frame.r15 = child;
            let status = scratch(frame);
            call(frame, sys::__NR_wait4, &[u64::MAX, status, 0, 0])
        }
        (_, waited) => {
            assert_eq!(waited, frame.r15, "the child's number");
            let words = [scratch(frame), scratch(frame) + 64].map(load);
            match words {
                [Ok(status), Ok(mark)] => {
                    let shared = mark != 0;
                    assert_eq!(shared, number == sys::__NR_vfork);
                    exit(frame, status >> 8)
                }
                all => all.into_iter().find_map(Result::err).expect("one of them"),
            }
        }
    }
}

#[test]
fn fork_exit_wait() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        program(0, fork_and_wait(sys::__NR_fork));
        assert_eq!(world.run(0), ExitStatus::Exited(3));
        world.check();
    }
}

#[test]
fn vfork_borrows_memory_until_the_child_ends() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        program(0, fork_and_wait(sys::__NR_vfork));
        assert_eq!(world.run(0), ExitStatus::Exited(3));
        world.check();
    }
}

#[test]
fn nothing_is_lost_over_many_children() {
    let mut world = World::new(3);
    program(0, fork_and_wait(sys::__NR_fork));
    let mut free = 0;
    for round in 0..60 {
        assert_eq!(world.run(0), ExitStatus::Exited(3));
        world.check();
        let now = world.host.uvm.uvmexp().free;
        if round == 10 {
            free = now;
        }
        assert!(
            round <= 10 || now >= free,
            "round {round}: {now} pages free, {free} before"
        );
    }
}

#[test]
fn exec_replaces_the_program() {
    let mut world = World::new(4);
    program(0, |step, frame| {
        let at = scratch(frame);
        match step {
            0 => store(at, b"/1\0x\0y\0").unwrap_or_else(|| call(frame, sys::__NR_getpid, &[])),
            1 => {
                let mut vector = Vec::new();
                for word in [at + 3, at + 5, 0] {
                    vector.extend(word.to_le_bytes());
                }
                store(at + 64, &vector).unwrap_or_else(|| call(frame, sys::__NR_getpid, &[]))
            }
            2 => call(frame, sys::__NR_execve, &[at, at + 64, 0]),
            _ => panic!("execve came back with {:#x}", frame.rax),
        }
    });
    program(1, |_, frame| match (load(frame.rsp), load(frame.rsp + 8)) {
        (Ok(argc), Ok(first)) => {
            assert_eq!((frame.rax, frame.r15), (0, 0), "registers start over");
            match load(first) {
                Ok(text) => {
                    assert_eq!(
                        text & 0xffff_ffff,
                        u64::from(u32::from_le_bytes(*b"x\0y\0"))
                    );
                    exit(frame, argc)
                }
                Err(fault) => fault,
            }
        }
        (Err(fault), _) | (_, Err(fault)) => fault,
    });
    assert_eq!(world.run(0), ExitStatus::Exited(2));
    world.check();
}

#[test]
fn a_script_runs_its_interpreter() {
    let mut world = World::new(5);
    program(2, |_, frame| match load(frame.rsp) {
        // The interpreter, its one argument "one two", the script, and the script's own argument.
        Ok(argc) => exit(frame, argc),
        Err(fault) => fault,
    });
    let (processes, cwd) = (world.processes.clone(), world.root.clone());
    let status = world.driver.run_until(async move {
        let argv: [&[u8]; 2] = [b"script", b"argument"];
        let program = Program {
            path: b"/script",
            argv: &argv,
            env: &[],
            cwd,
            files: &[],
            front: None,
        };
        processes
            .spawn(program)
            .await
            .expect("the interpreter runs")
            .wait()
            .await
    });
    assert_eq!(status, ExitStatus::Exited(4));
    world.check();
}

#[test]
fn a_failed_exec_leaves_the_program_as_it_was() {
    let mut world = World::new(6);
    program(0, |step, frame| {
        let at = scratch(frame);
        match step {
            0 => store(at, b"/nosuch\0/text\0\0\0").unwrap_or_else(|| {
                frame.r15 = 77;
                call(frame, sys::__NR_execve, &[at, 0, 0])
            }),
            1 => {
                assert_eq!((frame.rax, frame.r15), (error(ENOENT), 77));
                call(frame, sys::__NR_execve, &[at + 8, 0, 0])
            }
            _ => {
                assert_eq!(frame.rax, error(EACCES));
                exit(frame, 5)
            }
        }
    });
    assert_eq!(world.run(0), ExitStatus::Exited(5));
    world.check();
}

#[test]
fn wild_pointers_kill_only_their_process() {
    let mut world = World::new(7);
    let code = PageFaultCode::USER | PageFaultCode::WRITE;
    for va in [0, 16, entry(0), 0x7000_0000_0000, u64::MAX - 7] {
        program(0, move |_, _| Trap::PageFault { va, code });
        assert_eq!(world.run(0), ExitStatus::Killed(Signal::SEGV), "{va:#x}");
    }
    let exceptions = [
        (machine::vector::DIVIDE, Signal::FPE),
        (machine::vector::INVALID_OPCODE, Signal::ILL),
        (machine::vector::PROTECTION, Signal::SEGV),
        (machine::vector::BREAKPOINT, Signal::TRAP),
        (machine::vector::ALIGNMENT, Signal::BUS),
    ];
    for (vector, signal) in exceptions {
        program(0, move |_, _| Trap::Exception { vector, code: 0 });
        assert_eq!(world.run(0), ExitStatus::Killed(signal));
    }
    world.check();
}

#[test]
fn orphans_are_collected() {
    let mut world = World::new(8);
    program(0, |step, frame| match (step, frame.rax) {
        (0..3, 0) if step > 0 => {
            // A child: sleeps for a second, long after its parent has ended.
            let at = scratch(frame);
            let second: Vec<u8> = [1u64, 0].into_iter().flat_map(u64::to_le_bytes).collect();
            frame.rip = entry(0) + 20;
            store(at, &second).unwrap_or_else(|| call(frame, sys::__NR_nanosleep, &[at, 0]))
        }
        (0..3, _) => call(frame, sys::__NR_fork, &[]),
        (10, _) => {
            let at = scratch(frame);
            call(frame, sys::__NR_nanosleep, &[at, 0])
        }
        _ => exit(frame, 0),
    });
    assert_eq!(world.run(0), ExitStatus::Exited(0));
    assert!(
        world.processes.table().lock().len() > 1,
        "the children sleep"
    );
    world.check();
}

#[test]
fn a_child_nobody_waits_for_is_collected() {
    let mut world = World::new(9);
    program(0, |_, frame| exit(frame, 1));
    drop(world.spawn(0).expect("the program starts"));
    world.check();
}

#[test]
fn waiting_for_nobody_fails_at_once() {
    let mut world = World::new(10);
    program(0, |step, frame| match step {
        0 => call(frame, sys::__NR_wait4, &[u64::MAX, 0, 0, 0]),
        1 => {
            assert_eq!(frame.rax, error(ECHILD));
            call(frame, sys::__NR_fork, &[])
        }
        2 if frame.rax == 0 => call(frame, sys::__NR_pause, &[]),
        2 => {
            frame.r15 = frame.rax;
            call(
                frame,
                sys::__NR_wait4,
                &[u64::MAX, 0, sys::WNOHANG.into(), 0],
            )
        }
        3 => {
            assert_eq!(frame.rax, 0, "the child is still there");
            call(frame, sys::__NR_kill, &[frame.r15, 9])
        }
        4 => call(frame, sys::__NR_wait4, &[frame.r15, 0, 0, 0]),
        _ => {
            assert_eq!(frame.rax, frame.r15);
            exit(frame, 0)
        }
    });
    assert_eq!(world.run(0), ExitStatus::Exited(0));
    world.check();
}

#[test]
fn unknown_calls_and_bad_addresses_are_errors() {
    let mut world = World::new(11);
    program(0, |step, frame| {
        let bad = 0x6000_0000_0000;
        let calls: [(u32, [u64; 4], u32); 8] = [
            (9999, [0; 4], linux_raw_sys::errno::ENOSYS),
            (
                sys::__NR_uname,
                [bad, 0, 0, 0],
                linux_raw_sys::errno::EFAULT,
            ),
            (sys::__NR_open, [bad, 0, 0, 0], linux_raw_sys::errno::EFAULT),
            (
                sys::__NR_open,
                [u64::MAX - 3, 0, 0, 0],
                linux_raw_sys::errno::EFAULT,
            ),
            (sys::__NR_read, [99, bad, 5, 0], linux_raw_sys::errno::EBADF),
            (
                sys::__NR_munmap,
                [1, 4096, 0, 0],
                linux_raw_sys::errno::EINVAL,
            ),
            (
                sys::__NR_mmap,
                [0, u64::MAX - 4095, 3, 0x22],
                linux_raw_sys::errno::ENOMEM,
            ),
            (
                sys::__NR_kill,
                [1 << 20, 0, 0, 0],
                linux_raw_sys::errno::ESRCH,
            ),
        ];
        let step = step as usize;
        if step > 0 {
            assert_eq!(
                frame.rax,
                error(calls[step - 1].2),
                "call {}",
                calls[step - 1].0
            );
        }
        match calls.get(step) {
            Some((number, args, _)) => call(frame, *number, args),
            None => exit(frame, 0),
        }
    });
    assert_eq!(world.run(0), ExitStatus::Exited(0));
    world.check();
}
