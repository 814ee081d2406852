//! Timers and what a signal does to a wait: interval timers, POSIX timers, sleeps that are stopped, handlers and their stacks. Says no times, only
//! whether they lie where they must.

use std::ffi::CString;
use std::io::Error;
use std::mem::zeroed;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use libc::{PROT_NONE, PROT_READ, PROT_WRITE, c_int, c_long, c_void, siginfo_t, timespec};
use programs::{Mapping, PAGE, in_child, spawn, wait};

/// How often a handler ran, and the last code.
static RUNS: AtomicI32 = AtomicI32::new(0);
static CODE: AtomicI32 = AtomicI32::new(0);
/// How deep handlers are nested, and were at most.
static DEPTH: AtomicI32 = AtomicI32::new(0);
static DEEPEST: AtomicI32 = AtomicI32::new(0);
/// What a handler saw of its alternate stack.
static STACK_FLAGS: AtomicI32 = AtomicI32::new(0);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, word, id] = &arguments[..]
        && word == "after"
    {
        return after(id.parse().expect("a number"));
    }
    alarms();
    real();
    refused();
    used();
    told();
    overruns();
    by_default();
    silent();
    absolute();
    to_one_thread();
    set_anew();
    ignored();
    inherited(&arguments[0]);
    stopped();
    interrupted();
    flags();
    stacks();
}

extern "C" fn handler(number: c_int, info: *mut siginfo_t, _context: *mut c_void) {
    RUNS.fetch_add(1, SeqCst);
    // SAFETY: the kernel gives a valid one.
    CODE.store(unsafe { (*info).si_code }, SeqCst);
    let depth = DEPTH.fetch_add(1, SeqCst) + 1;
    DEEPEST.fetch_max(depth, SeqCst);
    if number == libc::SIGUSR2 && depth < 3 {
        // SAFETY: no preconditions.
        unsafe { libc::raise(number) };
    }
    DEPTH.fetch_sub(1, SeqCst);
}

fn catch_with(
    signal: c_int,
    flags: c_int,
    handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void),
) {
    // SAFETY: the handlers do only what handlers may.
    unsafe {
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = flags | libc::SA_SIGINFO;
        assert_eq!(libc::sigaction(signal, &action, null_mut()), 0);
    }
}

fn catch(signal: c_int) {
    catch_with(signal, 0, handler);
}

fn dispose(signal: c_int, how: usize) {
    // SAFETY: ignoring and the default have no preconditions.
    unsafe { libc::signal(signal, how) };
}

fn runs() -> i32 {
    RUNS.swap(0, SeqCst)
}

fn errno() -> i32 {
    Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// What a call answers, or its error below 0.
fn answer(result: c_long) -> c_long {
    match result {
        -1 => -c_long::from(errno()),
        n => n,
    }
}

fn ms(n: i64) -> timespec {
    timespec {
        tv_sec: n / 1000,
        tv_nsec: n % 1000 * 1_000_000,
    }
}

fn nap(n: u64) {
    std::thread::sleep(Duration::from_millis(n));
}

/// `setitimer` in milliseconds; the old value in microseconds.
fn interval_timer(which: c_int, value: i64, interval: i64) -> (i64, i64) {
    let time = |n: i64| libc::timeval {
        tv_sec: n / 1000,
        tv_usec: n % 1000 * 1000,
    };
    let new = libc::itimerval {
        it_interval: time(interval),
        it_value: time(value),
    };
    // SAFETY: both are ours.
    let old = unsafe {
        let mut old = zeroed();
        assert_eq!(libc::setitimer(which as _, &new, &mut old), 0);
        old
    };
    microseconds(&old)
}

fn microseconds(timer: &libc::itimerval) -> (i64, i64) {
    let of = |t: libc::timeval| t.tv_sec * 1_000_000 + t.tv_usec;
    (of(timer.it_value), of(timer.it_interval))
}

fn interval_left(which: c_int) -> (i64, i64) {
    // SAFETY: writes to our own.
    let now = unsafe {
        let mut now = zeroed();
        assert_eq!(libc::getitimer(which as _, &mut now), 0);
        now
    };
    microseconds(&now)
}

fn pause() {
    // SAFETY: no preconditions.
    unsafe { libc::pause() };
}

fn alarms() {
    // SAFETY: no preconditions.
    let set = |seconds| unsafe { libc::alarm(seconds) };
    println!("alarms: {} {} {} {}", set(0), set(100), set(50), set(0));
    catch(libc::SIGALRM);
    set(1);
    let begun = Instant::now();
    pause();
    println!(
        "alarm: {} run, after a second: {}",
        runs(),
        begun.elapsed() >= Duration::from_millis(990)
    );
}

fn real() {
    catch(libc::SIGALRM);
    interval_timer(libc::ITIMER_REAL as c_int, 20, 30);
    let mut seen = 0;
    while seen < 4 {
        pause();
        seen += runs();
    }
    let (left, interval) = interval_left(libc::ITIMER_REAL as c_int);
    let (_, again) = interval_timer(libc::ITIMER_REAL as c_int, 0, 0);
    println!(
        "real: code {}, left {}, interval {interval} {again}, off: {:?}",
        CODE.load(SeqCst),
        (1..=30_000).contains(&left),
        interval_left(libc::ITIMER_REAL as c_int)
    );
}

fn refused() {
    let bad = libc::itimerval {
        it_interval: libc::timeval {
            tv_sec: 0,
            tv_usec: 0,
        },
        it_value: libc::timeval {
            tv_sec: 0,
            tv_usec: 1_000_000,
        },
    };
    let call = |number: c_long, args: [usize; 4]| {
        // SAFETY: the addresses given are ours or nobody's.
        answer(unsafe { libc::syscall(number, args[0], args[1], args[2], args[3]) })
    };
    let at = &raw const bad as usize;
    let mut id = 0_i32;
    let id_at = &raw mut id as usize;
    println!(
        "refused: {} {} {} {}",
        call(libc::SYS_setitimer, [0, at, 0, 0]),
        call(libc::SYS_setitimer, [3, 0, 0, 0]),
        call(libc::SYS_getitimer, [3, id_at, 0, 0]),
        call(libc::SYS_setitimer, [0, 1, 0, 0]),
    );
    let event = |signal: c_int, notify: c_int| {
        // SAFETY: plain data.
        let mut event: libc::sigevent = unsafe { zeroed() };
        (event.sigev_signo, event.sigev_notify) = (signal, notify);
        call(
            libc::SYS_timer_create,
            [1, &raw const event as usize, id_at, 0],
        )
    };
    println!(
        "no such: {} {} {} {} {} {} {}",
        event(65, libc::SIGEV_SIGNAL),
        event(0, libc::SIGEV_SIGNAL),
        event(10, 9),
        event(10, libc::SIGEV_THREAD_ID),
        call(libc::SYS_timer_create, [99, 0, id_at, 0]),
        call(libc::SYS_timer_create, [1, 0, 1, 0]),
        call(libc::SYS_timer_create, [1, 1, id_at, 0]),
    );
    println!(
        "no such timer: {} {} {} {}",
        call(libc::SYS_timer_settime, [77, 0, at, 0]),
        call(libc::SYS_timer_gettime, [77, at, 0, 0]),
        call(libc::SYS_timer_getoverrun, [77, 0, 0, 0]),
        call(libc::SYS_timer_delete, [77, 0, 0, 0]),
    );
}

/// Timers of used time run while the program does, and not while it sleeps.
fn used() {
    for (which, signal, name) in [
        (libc::ITIMER_VIRTUAL as c_int, libc::SIGVTALRM, "virtual"),
        (libc::ITIMER_PROF as c_int, libc::SIGPROF, "prof"),
    ] {
        catch(signal);
        interval_timer(which, 200, 20);
        nap(400);
        let asleep = runs();
        let (left, interval) = interval_left(which);
        let begun = Instant::now();
        let mut seen = 0;
        while seen < 3 && begun.elapsed() < Duration::from_secs(20) {
            seen += runs();
        }
        interval_timer(which, 0, 0);
        println!(
            "{name}: {asleep} runs asleep, left {}, interval {interval}, awake {}, code {}",
            left > 50_000,
            seen >= 3,
            CODE.load(SeqCst)
        );
        runs();
    }
}

/// A POSIX timer.
struct Timer(i32);

impl Timer {
    fn new(clock: c_int, event: Option<libc::sigevent>) -> Timer {
        let mut id = -1_i32;
        let event = event.as_ref().map_or(null(), |event| &raw const *event);
        // SAFETY: both are ours.
        let made = unsafe { libc::syscall(libc::SYS_timer_create, clock, event, &raw mut id) };
        assert_eq!(made, 0, "{}", errno());
        Timer(id)
    }

    fn signal(clock: c_int, signal: c_int, value: usize) -> Timer {
        Timer::new(clock, Some(event(signal, libc::SIGEV_SIGNAL, value)))
    }

    fn set(&self, flags: c_int, value: timespec, interval: timespec) {
        let new = libc::itimerspec {
            it_interval: interval,
            it_value: value,
        };
        // SAFETY: plain data of ours.
        let set = unsafe {
            libc::syscall(
                libc::SYS_timer_settime,
                self.0,
                flags,
                &raw const new,
                null_mut::<c_void>(),
            )
        };
        assert_eq!(set, 0, "{}", errno());
    }

    /// What is left and the interval, in milliseconds, or the error.
    fn left(&self) -> Result<(i64, i64), i32> {
        // SAFETY: written to by the kernel alone.
        unsafe {
            let mut now: libc::itimerspec = zeroed();
            if libc::syscall(libc::SYS_timer_gettime, self.0, &raw mut now) != 0 {
                return Err(errno());
            }
            let of = |t: timespec| t.tv_sec * 1000 + (t.tv_nsec + 999_999) / 1_000_000;
            Ok((of(now.it_value), of(now.it_interval)))
        }
    }

    fn overruns(&self) -> c_long {
        // SAFETY: no preconditions.
        answer(unsafe { libc::syscall(libc::SYS_timer_getoverrun, self.0) })
    }

    fn delete(self) -> c_long {
        // SAFETY: no preconditions.
        answer(unsafe { libc::syscall(libc::SYS_timer_delete, self.0) })
    }
}

fn event(signal: c_int, notify: c_int, value: usize) -> libc::sigevent {
    // SAFETY: plain data.
    let mut event: libc::sigevent = unsafe { zeroed() };
    (event.sigev_signo, event.sigev_notify) = (signal, notify);
    event.sigev_value.sival_ptr = value as *mut c_void;
    event
}

fn set_of(signal: c_int) -> libc::sigset_t {
    // SAFETY: sets are plain data.
    unsafe {
        let mut set = zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        set
    }
}

fn hold_back(how: c_int, signal: c_int) {
    // SAFETY: sets are plain data.
    let set = unsafe { libc::pthread_sigmask(how, &set_of(signal), null_mut()) };
    assert_eq!(set, 0);
}

/// A signal as it was taken: code, value, its timer, overruns; or the error.
fn take(signal: c_int, patience: i64) -> Result<(c_int, usize, c_int, c_int), i32> {
    // SAFETY: the fields are those of a timer's signal, and where it is none, they are just words.
    unsafe {
        let mut info: siginfo_t = zeroed();
        if libc::sigtimedwait(&set_of(signal), &mut info, &ms(patience)) != signal {
            return Err(errno());
        }
        let words = (&raw const info).cast::<c_int>();
        Ok((
            info.si_code,
            info.si_value().sival_ptr as usize,
            words.add(4).read(),
            words.add(5).read(),
        ))
    }
}

fn told() {
    for (clock, name) in [
        (libc::CLOCK_REALTIME, "time of day"),
        (libc::CLOCK_MONOTONIC, "monotonic"),
        (libc::CLOCK_BOOTTIME, "since boot"),
    ] {
        let signal = libc::SIGRTMIN() + 3;
        hold_back(libc::SIG_BLOCK, signal);
        let timer = Timer::signal(clock, signal, 0x1234_5678_9abc);
        let off = timer.left();
        timer.set(0, ms(50), ms(0));
        let begun = Instant::now();
        let taken = take(signal, 10_000).map(|(code, value, id, overruns)| {
            format!(
                "code {code}, value {value:#x}, its own {}, {overruns}",
                id == timer.0
            )
        });
        println!(
            "{name}: off {off:?}, {taken:?}, in time {}, then {:?} {:?}, deleted {}",
            begun.elapsed() >= Duration::from_millis(49),
            timer.left(),
            take(signal, 0),
            timer.delete()
        );
    }
}

/// Held back, a timer has one signal, which says how many more there would have been.
fn overruns() {
    let signal = libc::SIGUSR1;
    hold_back(libc::SIG_BLOCK, signal);
    let timer = Timer::signal(libc::CLOCK_MONOTONIC, signal, 0);
    timer.set(0, ms(10), ms(10));
    nap(400);
    let (left, interval) = timer.left().expect("there is one");
    let (_, _, _, overruns) = take(signal, 0).expect("one waits");
    let told = timer.overruns();
    timer.set(0, ms(0), ms(10));
    println!(
        "overruns: left {}, interval {interval}, many {}, told alike {}, no second {:?}, off {:?}",
        (1..=10).contains(&left),
        (30..=200).contains(&overruns),
        told == c_long::from(overruns),
        take(signal, 0),
        timer.left()
    );
    // The shortest interval does not hold anybody up.
    timer.set(
        0,
        ms(1),
        timespec {
            tv_sec: 0,
            tv_nsec: 1,
        },
    );
    nap(50);
    let (_, _, _, overruns) = take(signal, 10_000).expect("one waits");
    println!(
        "every nanosecond: {}, deleted {}",
        overruns > 1_000_000,
        timer.delete()
    );
    // Stale now.
    while take(signal, 0).is_ok() {}
    hold_back(libc::SIG_UNBLOCK, signal);
}

fn by_default() {
    hold_back(libc::SIG_BLOCK, libc::SIGALRM);
    let timer = Timer::new(libc::CLOCK_MONOTONIC, None);
    timer.set(0, ms(20), ms(0));
    let taken = take(libc::SIGALRM, 10_000);
    let own = taken.map(|(code, value, id, _)| (code, value == timer.0 as usize, id == timer.0));
    println!("by default: {own:?}, deleted {}", timer.delete());
    hold_back(libc::SIG_UNBLOCK, libc::SIGALRM);
}

fn silent() {
    let timer = Timer::new(libc::CLOCK_MONOTONIC, Some(event(0, libc::SIGEV_NONE, 0)));
    timer.set(0, ms(100), ms(0));
    let (left, _) = timer.left().expect("there is one");
    nap(150);
    println!(
        "silent: runs {}, over {:?}, overruns {}",
        (1..=100).contains(&left),
        timer.left(),
        timer.overruns()
    );
    timer.set(0, ms(10), ms(1000));
    nap(50);
    let (left, interval) = timer.left().expect("there is one");
    println!("silent again: {} {interval}", (800..=1000).contains(&left));
    timer.delete();
}

fn absolute() {
    let signal = libc::SIGRTMIN() + 1;
    hold_back(libc::SIG_BLOCK, signal);
    for clock in [libc::CLOCK_REALTIME, libc::CLOCK_MONOTONIC] {
        let timer = Timer::signal(clock, signal, 5);
        // SAFETY: plain data.
        let mut at = unsafe {
            let mut now = zeroed();
            libc::clock_gettime(clock, &mut now);
            now
        };
        at.tv_sec += 1;
        timer.set(libc::TIMER_ABSTIME, at, ms(0));
        let (left, _) = timer.left().expect("there is one");
        let early = take(signal, 300);
        let then = take(signal, 10_000).map(|(code, ..)| code);
        timer.set(libc::TIMER_ABSTIME, ms(1), ms(0));
        println!(
            "absolute: left {}, early {early:?}, then {then:?}, long ago {:?}",
            (1..=1000).contains(&left),
            take(signal, 5000).map(|(code, ..)| code)
        );
        timer.delete();
    }
}

fn to_one_thread() {
    let signal = libc::SIGRTMIN() + 2;
    hold_back(libc::SIG_BLOCK, signal);
    let (to, from) = std::sync::mpsc::channel();
    let other = std::thread::spawn(move || {
        // SAFETY: no arguments.
        to.send(unsafe { libc::syscall(libc::SYS_gettid) as c_int })
            .expect("somebody listens");
        take(signal, 10_000).map(|(code, value, ..)| (code, value))
    });
    let tid = from.recv().expect("the thread says it");
    let mut event = event(signal, libc::SIGEV_THREAD_ID, 6);
    event.sigev_notify_thread_id = tid;
    let timer = Timer::new(libc::CLOCK_MONOTONIC, Some(event));
    timer.set(0, ms(100), ms(0));
    let mine = take(signal, 500);
    let others = other.join().expect("it ends");
    println!("to one thread: it {others:?}, not this {mine:?}");
    timer.delete();
}

/// A timer set anew is not told of for what it was before.
fn set_anew() {
    let signal = libc::SIGRTMIN() + 4;
    hold_back(libc::SIG_BLOCK, signal);
    let timer = Timer::signal(libc::CLOCK_MONOTONIC, signal, 1);
    timer.set(0, ms(10), ms(0));
    nap(60);
    timer.set(0, ms(100_000), ms(0));
    let stale = take(signal, 0);
    timer.set(0, ms(10), ms(0));
    let fresh = take(signal, 10_000).map(|(code, value, ..)| (code, value));
    println!("set anew: {stale:?}, then {fresh:?}");
    timer.delete();
}

/// A timer whose signal is ignored goes on once it is not.
fn ignored() {
    dispose(libc::SIGUSR1, libc::SIG_IGN);
    let timer = Timer::signal(libc::CLOCK_MONOTONIC, libc::SIGUSR1, 1);
    timer.set(0, ms(10), ms(10));
    nap(60);
    let (left, _) = timer.left().expect("there is one");
    catch(libc::SIGUSR1);
    let begun = Instant::now();
    let mut seen = 0;
    while seen == 0 && begun.elapsed() < Duration::from_secs(10) {
        nap(20);
        seen += runs();
    }
    timer.delete();
    runs();
    println!(
        "ignored: left {}, heeded {}, code {}",
        (1..=10).contains(&left),
        seen > 0,
        CODE.load(SeqCst)
    );
}

fn inherited(own: &str) {
    interval_timer(libc::ITIMER_REAL as c_int, 100_000, 0);
    let timer = Timer::signal(libc::CLOCK_MONOTONIC, libc::SIGUSR1, 1);
    timer.set(0, ms(100_000), ms(0));
    let id = timer.0;
    let forked = in_child(|| {
        let none = interval_left(libc::ITIMER_REAL as c_int) == (0, 0);
        i32::from(none) * 100 + Timer(id).left().err().unwrap_or(0)
    });
    println!("forked: {forked}");
    let replaced = in_child(|| {
        interval_timer(libc::ITIMER_REAL as c_int, 100_000, 0);
        let timer = Timer::signal(libc::CLOCK_MONOTONIC, libc::SIGUSR1, 1);
        timer.set(0, ms(100_000), ms(0));
        let words = [own, "after", &timer.0.to_string()].map(|w| CString::new(w).expect("no 0"));
        let mut argv: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
        argv.push(null());
        // SAFETY: the strings end, and so does the list.
        unsafe { libc::execv(argv[0], argv.as_ptr()) };
        errno()
    });
    println!("replaced: {replaced}");
    interval_timer(libc::ITIMER_REAL as c_int, 0, 0);
    timer.delete();
}

/// What the new program has.
fn after(id: i32) {
    let (left, interval) = interval_left(libc::ITIMER_REAL as c_int);
    println!(
        "after: {} {interval}, {:?}",
        (50_000_000..=100_000_000).contains(&left),
        Timer(id).left()
    );
}

const WAIT: i64 = 1500;

/// A wait and its name.
type Wait = (&'static str, fn() -> c_long);

fn waits() -> [Wait; 6] {
    // SAFETY: all get what is theirs, and nobody wakes the word. So for all of these.
    [
        ("nanosleep", || unsafe {
            c_long::from(libc::nanosleep(&ms(WAIT), null_mut()))
        }),
        // SAFETY: as above.
        ("poll", || unsafe {
            c_long::from(libc::poll(null_mut(), 0, WAIT as c_int))
        }),
        // SAFETY: as above.
        ("ppoll", || unsafe {
            c_long::from(libc::ppoll(null_mut(), 0, &ms(WAIT), null()))
        }),
        // SAFETY: as above.
        ("select", || unsafe {
            let mut time = libc::timeval {
                tv_sec: 1,
                tv_usec: 500_000,
            };
            let none = null_mut();
            c_long::from(libc::select(0, none, none, none, &mut time))
        }),
        // SAFETY: as above.
        ("futex", || unsafe {
            let (word, time) = (7_u32, ms(WAIT));
            let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
            libc::syscall(
                libc::SYS_futex,
                &raw const word,
                operation,
                7,
                &raw const time,
            )
        }),
        // SAFETY: as above.
        ("clock_nanosleep", || unsafe {
            let slept = libc::clock_nanosleep(libc::CLOCK_MONOTONIC, 0, &ms(WAIT), null_mut());
            // Its error is its answer.
            c_long::from(slept)
        }),
    ]
}

/// Waits that are stopped in their midst take as long as if they had not been.
fn stopped() {
    let children = waits().map(|(name, body)| {
        let child = spawn(|| {
            let begun = Instant::now();
            let result = body();
            let error = if result == -1 { errno() } else { 0 };
            let took = begun.elapsed().as_millis() as i64;
            i32::from(!(WAIT - 1..WAIT + 900).contains(&took)) * 128 + error
        });
        (name, child)
    });
    nap(600);
    for (_, child) in &children {
        // SAFETY: to our own children. So below.
        unsafe { libc::kill(*child, libc::SIGSTOP) };
    }
    nap(600);
    for (_, child) in &children {
        // SAFETY: as above.
        unsafe { libc::kill(*child, libc::SIGCONT) };
    }
    for (name, child) in children {
        println!("stopped {name}: {}", wait(child));
    }
}

/// A handler ends them all, even one with `SA_RESTART`.
fn interrupted() {
    catch_with(libc::SIGALRM, libc::SA_RESTART, handler);
    for (name, body) in waits() {
        interval_timer(libc::ITIMER_REAL as c_int, 30, 0);
        let result = body();
        println!("interrupted {name}: {} {}", answer(result), runs());
    }
    // SAFETY: no preconditions; nothing is there to go on with.
    let alone = unsafe { libc::syscall(libc::SYS_restart_syscall) };
    println!("nothing to go on with: {}", answer(alone));
}

fn flags() {
    catch_with(libc::SIGUSR2, libc::SA_NODEFER | 0x400, handler);
    // SAFETY: only asks.
    let kept = unsafe {
        let mut action: libc::sigaction = zeroed();
        libc::sigaction(libc::SIGUSR2, null(), &mut action);
        action.sa_flags & !0x0400_0000
    };
    // SAFETY: no preconditions.
    unsafe { libc::raise(libc::SIGUSR2) };
    println!(
        "flags: kept {kept:#x}, {} runs, {} deep",
        runs(),
        DEEPEST.swap(0, SeqCst)
    );
    catch_with(
        libc::SIGUSR2,
        libc::SA_RESETHAND | libc::SA_NODEFER,
        handler,
    );
    println!(
        "reset while it runs: {}",
        // SAFETY: no preconditions; the second ends the child.
        in_child(|| unsafe { libc::raise(libc::SIGUSR2) })
    );
    let without_restorer = in_child(|| {
        let action = [handler as *const () as usize, 0, 0, 0];
        // SAFETY: the kernel's own form of an action.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                libc::SIGUSR1,
                action.as_ptr(),
                null_mut::<c_void>(),
                8,
            );
            libc::raise(libc::SIGUSR1)
        }
    });
    println!("without a way back: {without_restorer}");
}

fn alternate(base: *mut u8, size: usize, flags: c_int) -> c_long {
    let stack = libc::stack_t {
        ss_sp: base.cast(),
        ss_flags: flags,
        ss_size: size,
    };
    // SAFETY: it is used only while the memory is there.
    answer(c_long::from(unsafe {
        libc::sigaltstack(&stack, null_mut())
    }))
}

fn alternate_flags() -> c_int {
    // SAFETY: only asks.
    unsafe {
        let mut old: libc::stack_t = zeroed();
        libc::sigaltstack(null(), &mut old);
        old.ss_flags
    }
}

extern "C" fn looks(_: c_int, _: *mut siginfo_t, _: *mut c_void) {
    STACK_FLAGS.store(alternate_flags(), SeqCst);
}

extern "C" fn leaves(number: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel gives a valid one; `_exit` may be called here.
    unsafe { libc::_exit(number + ((*info).si_code & 0x80)) }
}

fn stacks() {
    const AUTODISARM: c_int = 1 << 31;
    let memory = Mapping::anonymous(16 * PAGE, PROT_READ | PROT_WRITE, libc::MAP_PRIVATE);
    let (base, len) = (memory.base(), memory.len());
    println!(
        "stacks: {} {} {} {}",
        alternate(base, 2047, 0),
        alternate(base, len, 4),
        alternate(base, len, libc::SS_ONSTACK | libc::SS_DISABLE),
        alternate(base, len, libc::SS_ONSTACK)
    );
    catch_with(libc::SIGUSR1, libc::SA_ONSTACK, looks);
    for flags in [0, AUTODISARM] {
        let set = alternate(base, len, flags);
        let before = alternate_flags();
        // SAFETY: no preconditions.
        unsafe { libc::raise(libc::SIGUSR1) };
        println!(
            "stack {set}: before {before:#x}, within {:#x}, after {:#x}",
            STACK_FLAGS.load(SeqCst),
            alternate_flags()
        );
    }
    // A stack that takes no frame: the other handler runs on its own.
    let no_stack = in_child(|| {
        memory.protect(0, len, PROT_NONE);
        catch_with(libc::SIGSEGV, 0, leaves);
        // SAFETY: no preconditions.
        unsafe { libc::raise(libc::SIGUSR1) }
    });
    println!("no stack, a handler: {no_stack}");
    let nothing = in_child(|| {
        memory.protect(0, len, PROT_NONE);
        // SAFETY: no preconditions.
        unsafe { libc::raise(libc::SIGUSR1) }
    });
    println!("no stack, no handler: {nothing}");
    println!(
        "off: {}, {:#x}",
        alternate(base, len, libc::SS_DISABLE),
        alternate_flags()
    );
}
