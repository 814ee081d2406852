use super::super::process::Process;
use super::super::signal::SigSet;
use super::super::table::{ExitStatus, Pid};
use super::*;
use std::vec::Vec;
use uvm::VmSpace;
use uvm::km::HeapRoom;
use uvm::testing::Host;
use uvm::uarea::Residence;

fn lwps(host: &Host, count: u32) -> Vec<Arc<Lwp>> {
    let space = VmSpace::new(&host.uvm).unwrap();
    let one = |i| {
        let room = HeapRoom::at_boot();
        let (uarea, _) = host.uvm.uarea_alloc().unwrap();
        let Ok(residence) = Residence::new(&host.uvm, uarea, 0, &room) else {
            panic!("no memory for a residence");
        };
        let pid = Pid(i + 2);
        let process = Process::for_test(pid);
        Lwp::new(pid, process, space.clone(), SigSet::EMPTY, residence, &room)
    };
    (0..count).map(one).collect()
}

/// Pseudo-random numbers.
fn random(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1);
    *state >> 33
}

#[test]
fn the_highest_priority_comes_first() {
    let host = Host::new(1024);
    let mut waiting = lwps(&host, 100);
    let mut line = Line::new(Which::Living);
    let mut inside: Vec<(i64, Pid)> = Vec::new();
    let mut state = 1;
    assert!(line.pop().is_none());
    for _ in 0..2000 {
        if random(&mut state).is_multiple_of(2)
            && let Some(lwp) = waiting.pop()
        {
            let priority = random(&mut state) as i64 % 50 - 25;
            inside.push((priority, lwp.tid()));
            line.push(lwp, priority);
        } else if let Some(lwp) = line.pop() {
            let highest = inside.iter().map(|&(priority, _)| priority).max();
            let at = inside.iter().position(|&(_, tid)| tid == lwp.tid());
            let (priority, _) = inside.swap_remove(at.expect("it was put in"));
            assert_eq!(Some(priority), highest);
            waiting.push(lwp);
        } else {
            assert!(inside.is_empty());
        }
    }
    while let Some(lwp) = line.pop() {
        waiting.push(lwp);
    }
    assert_eq!(waiting.len(), 100);
    assert!(waiting.iter().all(|lwp| Arc::strong_count(lwp) == 1));
}

#[test]
fn one_may_stand_in_both_lines() {
    let host = Host::new(1024);
    let all = lwps(&host, 6);
    let (mut living, mut dying) = (Line::new(Which::Living), Line::new(Which::Dying));
    for (i, lwp) in (0..).zip(&all) {
        living.push(lwp.clone(), i);
        dying.push(lwp.clone(), -i);
    }
    let order = |line: &mut Line| -> Vec<u32> {
        core::iter::from_fn(|| line.pop())
            .map(|lwp| lwp.tid().0 - 2)
            .collect()
    };
    assert_eq!(order(&mut living), [5, 4, 3, 2, 1, 0]);
    assert_eq!(order(&mut dying), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn who_is_woken_twice_stands_once_but_for_the_dying() {
    let host = Host::new(1024);
    let lwp = lwps(&host, 1).remove(0);
    lwp.process().threads().begin(lwp.clone());
    let swapin = SwapIn::new();
    let waker = futures_util::task::noop_waker_ref();
    swapin.bring_in(&lwp, waker);
    swapin.bring_in(&lwp, waker);
    lwp.process().end(ExitStatus::Exited(0));
    swapin.bring_in(&lwp, waker);
    swapin.bring_in(&lwp, waker);
    for line in &swapin.lines {
        let mut line = line.lock();
        assert!(line.pop().is_some());
        assert!(line.pop().is_none());
    }
    let _ = lwp.process().threads().leave(&lwp, ExitStatus::Exited(0));
}
