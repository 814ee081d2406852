//! Job control as programs meet it, before a terminal that nobody sees.

use super::*;
use crate::fs::file::{OpenFile, OpenFlags, Target};
use crate::fs::testing::NoConsole;
use crate::fs::tty::Tty;
use crate::proc::signal::Signal;
use crate::proc::table::Change;
use crate::proc::table::session::Claim;
use linux_raw_sys::errno::{EIO, EPERM};
use linux_raw_sys::ioctl as io;

/// A place in a program's stack.
fn scratch(frame: &TrapFrame) -> u64 {
    (frame.rsp - 4096) & !0xfff
}

impl World {
    /// A terminal, init's and with that in front, and program `n` with it as its file 0.
    fn before_terminal(&mut self, n: u64, front: Front) -> (Arc<Tty>, Child) {
        let tty = Tty::new(Arc::new(NoConsole), self.driver.executor().clone());
        let mut table = self.processes.table().lock();
        table
            .acquire(Pid::INIT, &tty, Claim::Polite)
            .expect("init leads its session");
        drop(table);
        let file = OpenFile::new(Target::Terminal(tty.clone()), OpenFlags::READ_WRITE);
        let (processes, cwd) = (self.processes.clone(), self.root.clone());
        let front = (front == Front::Its).then(|| tty.clone());
        let child = self.driver.run_until(async move {
            let path = format!("/{n}");
            let program = Program {
                path: path.as_bytes(),
                argv: &[path.as_bytes()],
                env: &[],
                cwd,
                files: &[file],
                front,
            };
            processes.spawn(program).await.expect("the program starts")
        });
        (tty, child)
    }

    /// What a child's next change is.
    fn change(&mut self, child: Child) -> (Child, Change) {
        self.driver.run_until(async move {
            let mut child = child;
            let change = child.change().await;
            (child, change)
        })
    }
}

/// Whose the terminal is when the program begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Front {
    Its,
    Anothers,
}

#[test]
fn a_reader_in_the_background_stops_until_it_is_in_front() {
    let mut world = World::new(1);
    program(0, |step, frame| {
        let at = scratch(frame);
        match step {
            0 => store(at, &[1; 8]).unwrap_or_else(|| call(frame, sys::__NR_read, &[0, at, 8])),
            _ => {
                // The stop is not seen: the read was started over.
                let read = frame.rax;
                exit(frame, read)
            }
        }
    });
    let (tty, child) = world.before_terminal(0, Front::Anothers);
    let pid = child.pid();
    let (child, change) = world.change(child);
    assert_eq!(change, Change::Stopped(Signal::TTIN));
    tty.input(b"abc\n");
    tty.take_back(Pid::INIT.0, pid.0);
    assert!(world.processes.kill(pid, Signal::CONT));
    assert_eq!(world.driver.run_until(child.wait()), ExitStatus::Exited(4));
    world.check();
}

#[test]
fn in_front_from_the_first_instruction_on() {
    let mut world = World::new(2);
    program(0, |step, frame| {
        let at = scratch(frame);
        match step {
            0 => store(at, &[1; 8]).unwrap_or_else(|| call(frame, sys::__NR_read, &[0, at, 8])),
            _ => {
                let read = frame.rax;
                exit(frame, read)
            }
        }
    });
    let (tty, child) = world.before_terminal(0, Front::Its);
    assert_eq!(tty.owner().foreground, child.pid().0);
    world.driver.run_ready();
    tty.input(b"x\n");
    assert_eq!(world.driver.run_until(child.wait()), ExitStatus::Exited(2));
    world.check();
}

/// The leader of a session acquires its terminal; when it ends, the group in front hangs up.
#[test]
fn a_session_hangs_up_with_its_leader() {
    let mut world = World::new(3);
    program(0, |step, frame| match (step, frame.rax) {
        (0, _) => call(frame, sys::__NR_fork, &[]),
        (1, 0) => {
            // The call's own instruction leads to step 10.
            frame.rip = entry(0) + 18;
            call(frame, sys::__NR_setsid, &[])
        }
        // The parent: waits for the leader, then gives its status.
        (1, _) => {
            let at = scratch(frame);
            store(at, &[0; 8])
                .unwrap_or_else(|| call(frame, sys::__NR_wait4, &[u64::MAX, at, 0, 0]))
        }
        (2, _) => match load(scratch(frame)) {
            Ok(status) => exit(frame, status >> 8),
            Err(fault) => fault,
        },
        // The leader of the session: asks politely in vain, then as the superuser.
        (10, _) => call(frame, sys::__NR_ioctl, &[0, io::TIOCSCTTY.into(), 0]),
        (11, result) => {
            assert_eq!(result, error(EPERM));
            call(frame, sys::__NR_ioctl, &[0, io::TIOCSCTTY.into(), 1])
        }
        (12, result) => {
            assert_eq!(result, 0);
            call(frame, sys::__NR_fork, &[])
        }
        // Its child waits for ever, and is hung up.
        (13, 0) => call(frame, sys::__NR_pause, &[]),
        (13, _) => exit(frame, 6),
        _ => unreachable!("hung up"),
    });
    let (tty, child) = world.before_terminal(0, Front::Its);
    assert_eq!(world.driver.run_until(child.wait()), ExitStatus::Exited(6));
    // Nobody is left, so the child of the leader has died of it.
    world.check();
    assert_eq!(tty.owner(), crate::fs::tty::Owner::NOBODY);
    assert!(world.processes.table().lock().terminal(Pid::INIT).is_none());
}

/// Who ignores SIGTTIN gets an error, and is not stopped.
#[test]
fn a_reader_that_would_not_stop_fails() {
    let mut world = World::new(4);
    program(0, |step, frame| {
        let at = scratch(frame);
        match step {
            0 => {
                let ignore = [1u64, 0, 0, 0];
                let bytes: Vec<u8> = ignore.into_iter().flat_map(u64::to_le_bytes).collect();
                let signal = Signal::TTIN.number().into();
                store(at, &bytes)
                    .unwrap_or_else(|| call(frame, sys::__NR_rt_sigaction, &[signal, at, 0, 8]))
            }
            1 => call(frame, sys::__NR_read, &[0, at, 8]),
            _ => {
                assert_eq!(frame.rax, error(EIO));
                exit(frame, 0)
            }
        }
    });
    let (_tty, child) = world.before_terminal(0, Front::Anothers);
    assert_eq!(world.driver.run_until(child.wait()), ExitStatus::Exited(0));
    world.check();
}

/// SIGKILL ends a stopped process, which does not go on first.
#[test]
fn a_stopped_process_can_be_killed() {
    let mut world = World::new(5);
    program(0, |_, frame| {
        frame.rip = entry(0);
        Trap::Interrupt
    });
    let child = world.spawn(0).expect("the program starts");
    world.processes.kill(child.pid(), Signal::STOP);
    let (child, change) = world.change(child);
    assert_eq!(change, Change::Stopped(Signal::STOP));
    world.processes.kill(child.pid(), Signal::TERM);
    world.processes.kill(child.pid(), Signal::KILL);
    let (_child, change) = world.change(child);
    assert_eq!(change, Change::Ended(ExitStatus::Killed(Signal::KILL)));
    world.check();
}
