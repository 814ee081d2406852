use super::*;

fn post(s: &mut SignalState, info: SigInfo, mask: SigSet) -> Posted {
    s.post(info, mask, None).expect("room for one")
}
fn take(s: &mut SignalState, mask: SigSet) -> Option<(SigInfo, Action)> {
    s.take(mask, &mut Pending::new())
}
fn handler() -> Action {
    Action {
        disposition: Disposition::Handler(0x1000),
        ..Action::DEFAULT
    }
}
fn info(signal: Signal) -> SigInfo {
    SigInfo::from_process(signal, 7)
}

#[test]
fn numbers_and_names() {
    assert_eq!(Signal::new(0), None);
    assert_eq!(Signal::new(65), None);
    assert_eq!(Signal::new(u64::MAX), None);
    assert_eq!(Signal::new(9), Some(Signal::KILL));
    assert_eq!(Signal::by_name("SIGTERM"), Some(Signal::TERM));
    assert_eq!(Signal::by_name("INT"), Some(Signal::INT));
    assert_eq!(Signal::by_name("NOPE"), None);
    assert_eq!(
        std::format!("{} {}", Signal::SEGV, Signal::new(40).unwrap()),
        "SIGSEGV signal 40"
    );
}

#[test]
fn ignored_signals_vanish_unless_held_back() {
    let mut s = SignalState::new();
    assert_eq!(
        post(&mut s, info(Signal::CHLD), SigSet::EMPTY),
        Posted::Ignored
    );
    assert!(s.pending().is_empty());
    assert_eq!(
        post(&mut s, info(Signal::CHLD), SigSet::only(Signal::CHLD)),
        Posted::Pending
    );
    assert!(s.pending().contains(Signal::CHLD));
    // Setting "ignore" drops what is pending.
    let _ = s.set_action(
        Signal::CHLD,
        Action {
            disposition: Disposition::Ignore,
            ..Action::DEFAULT
        },
    );
    assert!(s.pending().is_empty());
}

#[test]
fn kill_comes_first_and_cannot_be_masked() {
    let mut s = SignalState::new();
    let all = SigSet::from_bits(u64::MAX);
    post(&mut s, info(Signal::HUP), all);
    post(&mut s, info(Signal::KILL), all);
    assert_eq!(take(&mut s, all).unwrap().0.signal, Signal::KILL);
    assert_eq!(take(&mut s, all), None);
    assert_eq!(take(&mut s, SigSet::EMPTY).unwrap().0.signal, Signal::HUP);
}

#[test]
fn the_same_signal_merges() {
    let mut s = SignalState::new();
    for _ in 0..100 {
        post(&mut s, info(Signal::TERM), SigSet::EMPTY);
    }
    assert!(take(&mut s, SigSet::EMPTY).is_some());
    assert_eq!(take(&mut s, SigSet::EMPTY), None);
}

#[test]
fn stop_and_continue_cancel_each_other() {
    let mut s = SignalState::new();
    let _ = s.set_action(Signal::CONT, handler());
    post(&mut s, info(Signal::TSTP), SigSet::EMPTY);
    assert_eq!(
        post(&mut s, info(Signal::CONT), SigSet::EMPTY),
        Posted::Continue
    );
    assert!(!s.pending().contains(Signal::TSTP));
    post(&mut s, info(Signal::STOP), SigSet::EMPTY);
    assert!(!s.pending().contains(Signal::CONT));
}

#[test]
fn faults_cannot_be_held_back() {
    let mut s = SignalState::new();
    let _ = s.set_action(Signal::SEGV, handler());
    assert_eq!(s.force(info(Signal::SEGV), SigSet::EMPTY), handler());
    assert_eq!(
        s.force(info(Signal::SEGV), SigSet::only(Signal::SEGV)),
        Action::DEFAULT
    );
    let _ = s.set_action(
        Signal::SEGV,
        Action {
            disposition: Disposition::Ignore,
            ..Action::DEFAULT
        },
    );
    assert_eq!(s.force(info(Signal::SEGV), SigSet::EMPTY), Action::DEFAULT);
}

#[test]
fn one_shot_handlers_and_exec() {
    let mut s = SignalState::new();
    let once = Action {
        flags: u64::from(sys::SA_RESETHAND),
        ..handler()
    };
    let _ = s.set_action(Signal::USR1, once);
    let _ = s.set_action(
        Signal::INT,
        Action {
            disposition: Disposition::Ignore,
            flags: 3,
            ..Action::DEFAULT
        },
    );
    post(&mut s, info(Signal::USR1), SigSet::EMPTY);
    assert_eq!(take(&mut s, SigSet::EMPTY).unwrap().1, once);
    assert_eq!(s.action(Signal::USR1), Action::DEFAULT);
    let _ = s.set_action(Signal::USR2, handler());
    let child = s.fork();
    assert_eq!(child.action(Signal::USR2), handler());
    s.exec();
    assert_eq!(s.action(Signal::USR2), Action::DEFAULT);
    assert_eq!(s.action(Signal::INT).disposition, Disposition::Ignore);
}

#[test]
fn siginfo_lies_where_linux_has_it() {
    let fault = SigInfo {
        signal: Signal::SEGV,
        code: 1,
        detail: Detail::Fault {
            address: 0x1234_5678_9abc,
        },
    };
    let b = fault.to_bytes();
    assert_eq!(b[0], 11);
    assert_eq!(b[8], 1);
    assert_eq!(
        u64::from_le_bytes(b[16..24].try_into().unwrap()),
        0x1234_5678_9abc
    );
    let child = SigInfo {
        signal: Signal::CHLD,
        code: 1,
        detail: Detail::Child { pid: 9, status: 3 },
    };
    let b = child.to_bytes();
    assert_eq!((b[16], b[24]), (9, 3));
    let timer = SigInfo {
        signal: Signal::ALRM,
        code: sys::SI_TIMER,
        detail: Detail::Timer {
            id: 4,
            setting: 9,
            overruns: 5,
            value: 6,
        },
    };
    let b = timer.to_bytes();
    assert_eq!((b[16], b[20], b[24]), (4, 5, 6));
    assert!(b[32..].iter().all(|&b| b == 0));
}
