use super::*;

fn notice(signal: Signal) -> Notice {
    Notice::Signal {
        signal,
        value: Some(77),
        to: Recipient::Process,
    }
}

fn with_timer(timers: &Timers, countdown: Countdown) -> u32 {
    let made = timers.make(TimerClock::Monotonic, notice(Signal::USR1));
    let id = made.expect("room");
    timers.inner.lock().timer(id).expect("just made").countdown = countdown;
    id
}

#[test]
fn numbers_are_the_lowest_and_few() {
    let timers = Timers::new();
    for n in 0..MOST as u32 {
        assert_eq!(timers.make(TimerClock::Realtime, Notice::None), Ok(n));
    }
    let make = || timers.make(TimerClock::Realtime, Notice::None);
    assert_eq!(make(), Err(TimerError::TooMany));
    assert_eq!(timers.delete(5), Ok(()));
    assert_eq!(timers.delete(5), Err(TimerError::Unknown));
    assert_eq!(timers.overruns(u32::MAX), Err(TimerError::Unknown));
    assert_eq!(make(), Ok(5));
    assert!(size_of::<Option<Timer>>() * MOST <= uvm::PAGE_SIZE);
}

#[test]
fn one_signal_at_a_time_and_overruns() {
    let timers = Timers::new();
    let id = with_timer(&timers, Countdown::until(10, 10));
    assert!(timers.inner.lock().ring(9).is_none());
    let (info, _) = timers.inner.lock().ring(10).expect("it is over");
    assert!(timers.inner.lock().ring(100).is_none(), "one at a time");
    let told = timers.took(info, 45).expect("not stale");
    let Detail::Timer {
        overruns, value, ..
    } = told.detail
    else {
        panic!("a timer's")
    };
    assert_eq!((overruns, value), (3, 77));
    assert_eq!(timers.overruns(id), Ok(3));
    assert!(timers.inner.lock().next() == Next::At(50));
}

#[test]
fn a_signal_of_an_older_setting_is_stale() {
    let timers = Timers::new();
    let id = with_timer(&timers, Countdown::until(10, 0));
    let (info, _) = timers.inner.lock().ring(10).expect("it is over");
    assert_eq!(timers.delete(id), Ok(()));
    assert_eq!(timers.took(info, 11), None);
    let again = with_timer(&timers, Countdown::until(10, 0));
    assert_eq!(again, id);
    assert_eq!(timers.took(info, 11), None, "another timer's number now");
}

#[test]
fn what_was_ignored_goes_on_when_it_is_heeded() {
    let timers = Timers::new();
    with_timer(&timers, Countdown::until(10, 10));
    assert!(timers.inner.lock().ring(10).is_some());
    assert!(timers.inner.lock().next() == Next::Never);
    timers.heed(Signal::USR2, 30);
    assert!(timers.inner.lock().next() == Next::Never);
    timers.heed(Signal::USR1, 30);
    assert!(timers.inner.lock().next() == Next::At(40));
}
