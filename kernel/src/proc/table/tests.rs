use super::session::{Claim, TerminalError};
use super::*;
use crate::fs::tty::Owner;
use std::vec::Vec;

fn process(pid: u32) -> Arc<Process> {
    Process::for_test(Pid(pid))
}

/// 1 is the parent of 2 and 3; 2 of 4 and 5.
fn family() -> Table {
    let mut t = Table::new();
    for (pid, parent) in [
        (1, None),
        (2, Some(1)),
        (3, Some(1)),
        (4, Some(2)),
        (5, Some(2)),
    ] {
        assert_eq!(t.free_pid(), Ok(Pid(pid)));
        t.insert(process(pid), parent.map(Pid), &HeapRoom::at_boot());
    }
    t
}

fn collect(t: &mut Table, parent: u32, which: Which) -> Result<Option<(u32, Change)>, TableError> {
    let found = t.collect(Pid(parent), which, Interest::END)?;
    Ok(found.map(|(p, change)| (p.pid().0, change)))
}

#[test]
fn numbers_are_not_reused_while_in_use() {
    let mut t = family();
    t.last = PID_LIMIT - 2;
    assert_eq!(t.free_pid(), Ok(Pid(PID_LIMIT - 1)));
    // 2..=5 exist: after going round, 6 is the first free one.
    assert_eq!(t.free_pid(), Ok(Pid(6)));
    // A group outlives its leader; its number stays taken.
    t.set_group(Pid(1), Pid(3), Pid(3)).unwrap();
    t.insert(process(7), Some(Pid(3)), &HeapRoom::at_boot());
    t.exit(Pid(3), ExitStatus::Exited(0));
    collect(&mut t, 1, Which::One(Pid(3))).unwrap().unwrap();
    t.last = 2;
    assert_eq!(t.free_pid(), Ok(Pid(6)));
}

#[test]
fn waiting_tells_each_end_once() {
    let mut t = family();
    let code = |c| Change::Ended(ExitStatus::Exited(c));
    assert_eq!(collect(&mut t, 2, Which::Any), Ok(None));
    assert_eq!(collect(&mut t, 3, Which::Any), Err(TableError::NoChild));
    assert_eq!(
        collect(&mut t, 1, Which::One(Pid(4))),
        Err(TableError::NoChild),
        "a grandchild is no child"
    );
    let exit = t.exit(Pid(4), ExitStatus::Exited(7)).unwrap();
    assert_eq!(exit.parent.unwrap().pid(), Pid(2));
    assert_eq!(collect(&mut t, 2, Which::One(Pid(5))), Ok(None));
    assert_eq!(
        collect(&mut t, 2, Which::One(Pid(4))),
        Ok(Some((4, code(7))))
    );
    assert_eq!(
        collect(&mut t, 2, Which::One(Pid(4))),
        Err(TableError::NoChild)
    );
    assert_eq!(collect(&mut t, 2, Which::Any), Ok(None));
    assert!(t.get(Pid(4)).is_none());
}

#[test]
fn orphans_go_to_init() {
    let mut t = family();
    t.exit(Pid(4), ExitStatus::Exited(1));
    let exit = t.exit(Pid(2), ExitStatus::Killed(Signal::KILL)).unwrap();
    assert!(exit.orphaned_zombies);
    assert_eq!(t.get(Pid(5)).unwrap().parent(), 1);
    let mut ended = Vec::new();
    while let Ok(Some((pid, _))) = collect(&mut t, 1, Which::Any) {
        ended.push(pid);
    }
    ended.sort_unstable();
    assert_eq!(ended, [2, 4]);
    assert_eq!(t.len(), 3);
    t.exit(Pid(5), ExitStatus::Exited(0));
    t.exit(Pid(3), ExitStatus::Exited(0));
    assert!(collect(&mut t, 1, Which::Any).unwrap().is_some());
    assert!(collect(&mut t, 1, Which::Any).unwrap().is_some());
    assert_eq!(collect(&mut t, 1, Which::Any), Err(TableError::NoChild));
}

#[test]
fn the_reaping_task_takes_orphans_and_nothing_else() {
    let mut t = family();
    t.exit(Pid(3), ExitStatus::Exited(0));
    assert!(t.collect_orphan().is_none(), "somebody waits for 3");
    assert!(
        !t.exit(Pid(4), ExitStatus::Exited(0))
            .unwrap()
            .orphaned_zombies
    );
    assert!(
        t.exit(Pid(2), ExitStatus::Exited(0))
            .unwrap()
            .orphaned_zombies
    );
    assert_eq!(t.collect_orphan().unwrap().pid(), Pid(4));
    assert!(t.collect_orphan().is_none());
    assert!(
        t.exit(Pid(5), ExitStatus::Exited(0))
            .unwrap()
            .orphaned_zombies
    );
    assert_eq!(t.collect_orphan().unwrap().pid(), Pid(5));
    assert!(t.disown(Pid(3)));
    assert_eq!(t.collect_orphan().unwrap().pid(), Pid(3));
}

#[test]
fn groups_and_sessions() {
    let mut t = family();
    assert_eq!(t.set_group(Pid(2), Pid(2), Pid(2)), Ok(()));
    assert_eq!(t.set_group(Pid(2), Pid(4), Pid(2)), Ok(()));
    assert_eq!(
        t.set_group(Pid(2), Pid(3), Pid(2)),
        Err(SetGroupError::NoSuchProcess),
        "no child of the caller"
    );
    assert_eq!(
        t.set_group(Pid(3), Pid(3), Pid(77)),
        Err(SetGroupError::NotPermitted),
        "no such group"
    );
    assert_eq!(
        t.new_session(Pid(2)),
        Err(TableError::NotPermitted),
        "a group leader"
    );
    t.executed(Pid(4));
    assert_eq!(
        t.set_group(Pid(2), Pid(4), Pid(4)),
        Err(SetGroupError::Executed)
    );
    assert_eq!(t.set_group(Pid(4), Pid(4), Pid(4)), Ok(()), "itself");
    assert_eq!(t.set_group(Pid(4), Pid(4), Pid(2)), Ok(()));
    assert_eq!(t.new_session(Pid(5)), Ok(()));
    assert_eq!(t.group_and_session(Pid(5)), Some((Pid(5), Pid(5))));
    assert_eq!(
        t.set_group(Pid(2), Pid(5), Pid(2)),
        Err(SetGroupError::NotPermitted),
        "another session"
    );
    t.exit(Pid(4), ExitStatus::Exited(0));
    assert_eq!(
        collect(&mut t, 2, Which::Group(Pid(9))),
        Err(TableError::NoChild)
    );
    assert!(collect(&mut t, 2, Which::Group(Pid(2))).unwrap().is_some());
}

#[test]
fn stopping_is_news_once() {
    let mut t = family();
    let all = Interest::ALL;
    assert!(t.go_on(Pid(2)).is_none(), "not stopped");
    t.stop(Pid(2), Signal::TSTP);
    assert!(
        t.collect(Pid(1), Which::Any, Interest::END)
            .unwrap()
            .is_none()
    );
    let (_, change) = t.collect(Pid(1), Which::Any, all).unwrap().unwrap();
    assert_eq!(change, Change::Stopped(Signal::TSTP));
    assert!(t.collect(Pid(1), Which::Any, all).unwrap().is_none());
    assert_eq!(t.go_on(Pid(2)).unwrap().pid(), Pid(1));
    let (_, change) = t.collect(Pid(1), Which::Any, all).unwrap().unwrap();
    assert_eq!(change, Change::Continued);
}

#[test]
fn what_a_wait_leaves_is_news_still() {
    let mut t = family();
    let leave = Interest {
        taking: Taking::Leave,
        ..Interest::ALL
    };
    let look = |t: &mut Table, interest| {
        t.collect(Pid(1), Which::One(Pid(3)), interest)
            .map(|found| found.map(|(_, change)| change))
    };
    t.stop(Pid(3), Signal::STOP);
    let stopped = Ok(Some(Change::Stopped(Signal::STOP)));
    assert_eq!(look(&mut t, leave), stopped);
    assert_eq!(look(&mut t, Interest::ALL), stopped);
    assert_eq!(look(&mut t, leave), Ok(None));
    t.exit(Pid(3), ExitStatus::Exited(9));
    let ended = Ok(Some(Change::Ended(ExitStatus::Exited(9))));
    let stops_only = Interest {
        ended: false,
        ..Interest::ALL
    };
    assert_eq!(
        look(&mut t, stops_only),
        Err(TableError::NoChild),
        "the dead do not stop"
    );
    assert_eq!(look(&mut t, leave), ended);
    assert_eq!(look(&mut t, Interest::END), ended);
    assert_eq!(look(&mut t, leave), Err(TableError::NoChild));
    assert_eq!(t.stopped, 0);
}

/// Who is owed SIGHUP and SIGCONT.
fn hung_up(t: &mut Table) -> Vec<u32> {
    core::iter::from_fn(|| t.take_hung_up())
        .map(|process| process.pid().0)
        .collect()
}

#[test]
fn a_group_is_orphaned_with_its_last_parent_outside() {
    let mut t = family();
    // 2 is a shell, 4 and 5 its job; 6, a child of 4, is of the job too.
    t.set_group(Pid(2), Pid(2), Pid(2)).unwrap();
    t.set_group(Pid(2), Pid(4), Pid(4)).unwrap();
    t.set_group(Pid(2), Pid(5), Pid(4)).unwrap();
    assert_eq!(t.free_pid(), Ok(Pid(6)));
    t.insert(process(6), Some(Pid(4)), &HeapRoom::at_boot());
    assert!(!t.is_orphaned(Pid(6)) && !t.is_orphaned(Pid(2)));
    t.stop(Pid(6), Signal::TSTP);
    assert!(!t.exit(Pid(4), ExitStatus::Exited(0)).unwrap().hang_up);
    assert!(!t.is_orphaned(Pid(6)), "5 is the shell's child");
    assert!(t.exit(Pid(5), ExitStatus::Exited(0)).unwrap().hang_up);
    assert!(t.is_orphaned(Pid(6)));
    // The dead are told too, and do not hear it.
    assert_eq!(hung_up(&mut t), [4, 5, 6]);
    assert!(hung_up(&mut t).is_empty());
}

#[test]
fn a_stopped_job_outlives_its_shell_with_a_signal() {
    let mut t = family();
    t.set_group(Pid(2), Pid(2), Pid(2)).unwrap();
    t.set_group(Pid(2), Pid(4), Pid(4)).unwrap();
    t.set_group(Pid(2), Pid(5), Pid(5)).unwrap();
    t.stop(Pid(4), Signal::STOP);
    assert!(t.exit(Pid(2), ExitStatus::Exited(0)).unwrap().hang_up);
    assert_eq!(hung_up(&mut t), [4], "5 was not stopped");
    assert!(t.is_orphaned(Pid(4)) && t.is_orphaned(Pid(5)));
}

fn terminal() -> Arc<Tty> {
    let executor = executor::testing::Driver::new().executor().clone();
    Tty::new(Arc::new(crate::fs::testing::NoConsole), executor)
}

#[test]
fn a_session_has_a_terminal() {
    let mut t = family();
    let (tty, other) = (terminal(), terminal());
    let owner = |session, foreground| Owner {
        session,
        foreground,
    };
    assert_eq!(
        t.acquire(Pid(2), &tty, Claim::Polite),
        Err(TerminalError::NotPermitted),
        "no leader"
    );
    assert_eq!(t.acquire(Pid(1), &tty, Claim::Polite), Ok(()));
    assert_eq!(tty.owner(), owner(1, 1));
    assert_eq!(t.acquire(Pid(1), &tty, Claim::Polite), Ok(()), "again");
    assert_eq!(
        t.acquire(Pid(1), &other, Claim::Polite),
        Err(TerminalError::NotPermitted),
        "a second one"
    );
    assert_eq!(t.owner_of(Pid(1), &tty), Ok(owner(1, 1)));
    assert_eq!(t.owner_of(Pid(2), &tty), Err(TerminalError::NotMine));
    // A child has it from its parent, and is in the background in a group of its own.
    t.insert(process(6), Some(Pid(1)), &HeapRoom::at_boot());
    assert_eq!(t.in_background(Pid(6), &tty), None);
    t.set_group(Pid(1), Pid(6), Pid(6)).unwrap();
    assert_eq!(t.in_background(Pid(6), &tty), Some(Pid(6)));
    assert_eq!(
        t.put_in_front(Pid(6), &tty, Pid(77)),
        Err(TerminalError::NoSuchGroup)
    );
    assert_eq!(
        t.put_in_front(Pid(6), &other, Pid(6)),
        Err(TerminalError::NotMine)
    );
    assert_eq!(t.put_in_front(Pid(6), &tty, Pid(6)), Ok(()));
    assert_eq!(t.in_background(Pid(6), &tty), None);
    assert_eq!(t.in_background(Pid(1), &tty), Some(Pid(1)));
    assert_eq!(t.in_background(Pid(2), &tty), None, "not its terminal");
    // Another session takes it away.
    t.insert(process(7), Some(Pid(6)), &HeapRoom::at_boot());
    t.new_session(Pid(7)).unwrap();
    assert!(t.terminal(Pid(7)).is_none());
    assert_eq!(
        t.put_in_front(Pid(1), &tty, Pid(7)),
        Err(TerminalError::NotPermitted),
        "a group of another session"
    );
    assert_eq!(
        t.acquire(Pid(7), &tty, Claim::Polite),
        Err(TerminalError::NotPermitted)
    );
    assert_eq!(t.acquire(Pid(7), &tty, Claim::Steal), Ok(()));
    assert_eq!(tty.owner(), owner(7, 7));
    assert!(t.terminal(Pid(1)).is_none() && t.terminal(Pid(6)).is_none());
    // One that leads no session gives it up for itself alone; the leader for all.
    t.insert(process(8), Some(Pid(7)), &HeapRoom::at_boot());
    t.insert(process(9), Some(Pid(7)), &HeapRoom::at_boot());
    assert_eq!(t.give_up(Pid(8), &tty), Ok(None));
    assert_eq!(t.give_up(Pid(8), &tty), Err(TerminalError::NotMine));
    assert!(t.terminal(Pid(9)).is_some());
    assert_eq!(t.leave_terminal(Pid(9)), None);
    assert_eq!(t.give_up(Pid(7), &tty), Ok(Some(Pid(7))));
    assert!(t.terminal(Pid(7)).is_none() && t.terminal(Pid(9)).is_none());
    assert_eq!(tty.owner(), Owner::NOBODY);
}

/// Random births and deaths: every child list stays a list, and everybody is collected in the end.
#[test]
fn kinship_stays_sound() {
    let mut t = family();
    let mut seed = 88u64;
    let mut next = move |n: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as usize % n
    };
    for _ in 0..5000 {
        let alive: Vec<Pid> = t
            .entries
            .iter()
            .filter(|(_, e)| e.life == Life::Alive)
            .map(|(p, _)| *p)
            .collect();
        let who = alive[next(alive.len())];
        match next(4) {
            0 | 1 if alive.len() < 40 => {
                let pid = t.free_pid().unwrap();
                t.insert(process(pid.0), Some(who), &HeapRoom::at_boot());
            }
            2 if who != Pid::INIT => {
                t.exit(who, ExitStatus::Exited(0));
            }
            _ => {
                let _ = collect(&mut t, who.0, Which::Any);
            }
        }
        let mut listed = 0;
        for (pid, e) in &t.entries {
            let (mut at, mut previous) = (e.first_child, Pid::NONE);
            while at != Pid::NONE {
                let c = &t.entries[&at];
                assert_eq!((c.parent, c.previous), (*pid, previous));
                listed += 1;
                (previous, at) = (at, c.next);
            }
            if matches!(e.life, Life::Zombie(_)) {
                assert_eq!(e.first_child, Pid::NONE);
            }
        }
        assert_eq!(listed, t.len() - 1);
    }
}
