//! The rule, on lists of LWPs.

use std::vec::Vec;

use super::*;
use crate::testing::Host;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

const fn free(doing: Doing) -> Candidate {
    Candidate {
        doing,
        keeps: Keeps::empty(),
        cpu: None,
    }
}

/// Who of these goes, by number.
fn chosen(uvm: &Uvm, need: Need, candidates: &[Candidate]) -> Vec<usize> {
    let mut choice = uvm.choose_lwps(need);
    let mut out = Vec::new();
    for (i, candidate) in candidates.iter().enumerate() {
        if let Some(who) = choice.consider(candidate, i) {
            out.push(who);
            choice.went();
        }
    }
    out.extend(choice.last_resort());
    out
}

#[test]
fn row_27_who_has_slept_for_long_goes() {
    let host = Host::new(128);
    let sleepers = [5, 20, 19, 3_000, 0].map(|n| free(Doing::Sleeps(secs(n))));
    for need in [Need::Sleepers, Need::Anybody] {
        assert_eq!(chosen(&host.uvm, need, &sleepers), [1, 3]);
    }
    host.uvm.set_setting(Setting::Maxslp, 5).unwrap();
    assert_eq!(chosen(&host.uvm, Need::Sleepers, &sleepers), [0, 1, 2, 3]);
}

#[test]
fn row_27_one_goes_when_memory_is_below_a_u_area() {
    let host = Host::new(128);
    let mut lwps = [
        free(Doing::Runnable(secs(100))),
        free(Doing::Sleeps(secs(7))),
        free(Doing::Runnable(secs(300))),
        free(Doing::Sleeps(secs(11))),
        free(Doing::Sleeps(secs(11))),
    ];
    assert!(chosen(&host.uvm, Need::Sleepers, &lwps).is_empty());
    // The longest sleeper, however long others have been in memory.
    assert_eq!(chosen(&host.uvm, Need::Anybody, &lwps), [3]);
    lwps[3].keeps = Keeps::HELD;
    lwps[4].keeps = Keeps::OUT;
    lwps[1].keeps = Keeps::EXITING;
    assert_eq!(chosen(&host.uvm, Need::Anybody, &lwps), [2]);
    lwps[2].keeps = Keeps::SYSTEM;
    assert_eq!(chosen(&host.uvm, Need::Anybody, &lwps), [0]);
    lwps[0].keeps = Keeps::HELD | Keeps::SYSTEM;
    assert!(chosen(&host.uvm, Need::Anybody, &lwps).is_empty());
}

/// UVM.md, row 10.
#[test]
fn row_10_nobody_on_a_cpu_goes() {
    let host = Host::new(128);
    let mut lwp = free(Doing::Sleeps(secs(100)));
    lwp.cpu = Some(1);
    assert!(chosen(&host.uvm, Need::Anybody, &[lwp]).is_empty());
    lwp.doing = Doing::Runnable(secs(100));
    assert!(chosen(&host.uvm, Need::Anybody, &[lwp]).is_empty());
}

/// UVM.md, row 9.
#[test]
#[should_panic(expected = "an LWP runs on the CPU of who puts it out")]
fn row_09_nobody_is_on_this_cpu() {
    let host = Host::new(128);
    let mut lwp = free(Doing::Runnable(secs(1)));
    lwp.cpu = Some(0);
    let _ = chosen(&host.uvm, Need::Sleepers, &[lwp]);
}

/// Who has been named and would not go counts for nothing.
#[test]
fn one_that_stays_is_made_up_for() {
    let host = Host::new(128);
    let mut choice = host.uvm.choose_lwps(Need::Anybody);
    assert_eq!(
        choice.consider(&free(Doing::Sleeps(secs(60))), 'a'),
        Some('a')
    );
    assert_eq!(choice.consider(&free(Doing::Sleeps(secs(2))), 'b'), None);
    assert_eq!(choice.last_resort(), Some('b'));
}

#[test]
fn who_is_nice_comes_in_late() {
    let waiting = |out, slept, nice| Waiting {
        out: secs(out),
        slept: secs(slept),
        nice,
    };
    let second = 1_000_000_000;
    assert_eq!(waiting(10, 5, 2).priority(), (10 + 5 - 16) * second);
    let all = [
        (waiting(10, 5, 0), 'a'),
        (waiting(2, 14, 0), 'b'),
        (waiting(100, 0, 11), 'c'),
        (waiting(0, 0, -2), 'd'),
    ];
    let mut order = all;
    order.sort_by_key(|(waiting, _)| -waiting.priority());
    assert_eq!(order.map(|(_, who)| who), ['b', 'd', 'a', 'c']);
}
