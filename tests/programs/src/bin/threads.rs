//! Threads: starting and joining, locks, conditions, their own storage, signals to one or to any, robust locks, and the many
//! ways in which a process with several of them ends or is replaced.

use std::cell::Cell;
use std::io::Write;
use std::mem::{MaybeUninit, zeroed};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Condvar, Mutex, RwLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use libc::{c_int, c_void};
use programs::{in_child, spawn, wait};

thread_local! {
    static OWN: Cell<u64> = const { Cell::new(7) };
}

/// The thread that a handler ran in last, and how often one ran.
static RAN_IN: AtomicI32 = AtomicI32::new(0);
static RUNS: AtomicU32 = AtomicU32::new(0);

fn main() {
    if std::env::args().nth(1).as_deref() == Some("replaced") {
        println!(
            "replaced: {}",
            if tid() == pid() {
                "the first"
            } else {
                "another"
            }
        );
        return;
    }
    numbers();
    many();
    locks();
    channels();
    panics();
    timeouts();
    to_one_thread();
    to_any_thread();
    robust();
    waiters_move();
    ends();
    the_first_leaves();
    forks_from_a_thread();
    shares_without_being_a_thread();
    replaced_by_a_thread();
}

fn tid() -> i32 {
    // SAFETY: no arguments.
    unsafe { libc::syscall(libc::SYS_gettid) as i32 }
}

fn pid() -> i32 {
    // SAFETY: no arguments.
    unsafe { libc::getpid() }
}

fn flush() {
    std::io::stdout().flush().expect("standard output");
}

fn numbers() {
    let (main, process) = (tid(), pid());
    let (other, other_process) = thread::spawn(|| (tid(), pid())).join().expect("it ends");
    println!(
        "numbers: first {}, other {}, one process {}",
        main == process,
        other != process,
        other_process == process
    );
}

fn many() {
    let sum: u64 = (0..20)
        .map(|round| {
            let threads: Vec<_> = (0..50_u64)
                .map(|n| {
                    thread::spawn(move || {
                        OWN.with(|own| own.set(own.get() + n));
                        thread::yield_now();
                        OWN.with(Cell::get) * (round + 1)
                    })
                })
                .collect();
            let joined = threads.into_iter().map(|t| t.join().expect("it ends"));
            joined.sum::<u64>()
        })
        .sum();
    println!("many: {sum}, own {}", OWN.with(Cell::get));
}

fn locks() {
    let shared = Arc::new((Mutex::new(0_u64), Condvar::new(), RwLock::new(0_u64)));
    let barrier = Arc::new(Barrier::new(8));
    let threads: Vec<_> = (0..8)
        .map(|n| {
            let (shared, barrier) = (shared.clone(), barrier.clone());
            thread::spawn(move || {
                let (count, changed, other) = &*shared;
                for _ in 0..500 {
                    *count.lock().expect("no panic") += 1;
                    *other.write().expect("no panic") += *other.read().map(|_| &1).expect("none");
                    thread::yield_now();
                }
                let leader = barrier.wait().is_leader();
                // Each in its turn.
                let mut turn = count.lock().expect("no panic");
                while *turn != 4000 + n {
                    turn = changed.wait(turn).expect("no panic");
                }
                *turn += 1;
                changed.notify_all();
                leader
            })
        })
        .collect();
    let leaders = threads
        .into_iter()
        .map(|t| t.join().expect("it ends"))
        .filter(|leader| *leader)
        .count();
    let other = *shared.2.read().expect("no panic");
    println!(
        "locks: {} {other}, {leaders} leader",
        *shared.0.lock().expect("no panic")
    );
}

fn channels() {
    let (to_worker, work) = mpsc::channel::<u64>();
    let (to_main, results) = mpsc::sync_channel::<u64>(2);
    let worker = thread::spawn(move || {
        for n in work {
            to_main.send(n * n).expect("somebody listens");
        }
    });
    let mut sum = 0;
    for n in 0..1000 {
        to_worker.send(n).expect("it works");
        sum += results.recv().expect("an answer");
    }
    drop(to_worker);
    worker.join().expect("it ends");
    println!("channels: {sum}, closed {}", results.recv().is_err());
}

fn panics() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result = thread::spawn(|| panic!("on purpose")).join();
    std::panic::set_hook(hook);
    println!("panics: one ended by it {}", result.is_err());
}

fn timeouts() {
    let pair = (Mutex::new(()), Condvar::new());
    let begun = Instant::now();
    let guard = pair.0.lock().expect("no panic");
    let (_guard, result) = pair
        .1
        .wait_timeout(guard, Duration::from_millis(30))
        .expect("no panic");
    let slept = begun.elapsed() >= Duration::from_millis(30);
    println!("timeouts: {} {slept}", result.timed_out());
}

extern "C" fn handler(_: c_int) {
    RAN_IN.store(tid(), SeqCst);
    RUNS.fetch_add(1, SeqCst);
}

fn handle(signal: c_int) {
    // SAFETY: the handler calls what may be called in one.
    unsafe {
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = handler as *const () as usize;
        assert_eq!(libc::sigaction(signal, &action, null_mut()), 0);
    }
}

fn mask(how: c_int, signal: c_int) {
    // SAFETY: the set is initialised before it is used.
    unsafe {
        let mut set = MaybeUninit::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
        assert_eq!(libc::pthread_sigmask(how, set.as_ptr(), null_mut()), 0);
    }
}

fn until(condition: impl Fn() -> bool) {
    while !condition() {
        thread::sleep(Duration::from_millis(1));
    }
}

fn to_one_thread() {
    handle(libc::SIGUSR1);
    let barrier = Arc::new(Barrier::new(4));
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let barrier = barrier.clone();
            thread::spawn(move || {
                let own = tid();
                barrier.wait();
                barrier.wait();
                own
            })
        })
        .collect();
    barrier.wait();
    RUNS.store(0, SeqCst);
    let target = std::os::unix::thread::JoinHandleExt::as_pthread_t(&threads[1]);
    // SAFETY: the thread lives until the barrier.
    assert_eq!(unsafe { libc::pthread_kill(target, libc::SIGUSR1) }, 0);
    until(|| RUNS.load(SeqCst) == 1);
    barrier.wait();
    let tids: Vec<i32> = threads
        .into_iter()
        .map(|t| t.join().expect("it ends"))
        .collect();
    println!(
        "to one thread: the right one {}",
        RAN_IN.load(SeqCst) == tids[1]
    );
    // SAFETY: numbers only.
    let gone = unsafe { libc::syscall(libc::SYS_tgkill, pid(), tids[1], libc::SIGUSR1) };
    println!("to one thread: once it is gone {gone}");
}

/// A signal to the process goes to who does not hold it back, whoever that is at the time.
fn to_any_thread() {
    handle(libc::SIGUSR2);
    mask(libc::SIG_BLOCK, libc::SIGUSR2);
    RUNS.store(0, SeqCst);
    // SAFETY: numbers only.
    assert_eq!(unsafe { libc::kill(pid(), libc::SIGUSR2) }, 0);
    thread::sleep(Duration::from_millis(5));
    let held = RUNS.load(SeqCst);
    let taker = thread::spawn(|| {
        mask(libc::SIG_UNBLOCK, libc::SIGUSR2);
        until(|| RUNS.load(SeqCst) == 1);
        tid()
    })
    .join()
    .expect("it ends");
    println!(
        "to any thread: held {held}, taken by the willing {}",
        RAN_IN.load(SeqCst) == taker
    );
    // One that waits for it takes it without a handler.
    let waiter = thread::spawn(|| {
        // SAFETY: the set is initialised; a plain wait.
        unsafe {
            let mut set = MaybeUninit::uninit();
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), libc::SIGUSR2);
            let mut got = 0;
            assert_eq!(libc::sigwait(set.as_ptr(), &mut got), 0);
            got
        }
    });
    thread::sleep(Duration::from_millis(5));
    // SAFETY: numbers only.
    assert_eq!(unsafe { libc::kill(pid(), libc::SIGUSR2) }, 0);
    let got = waiter.join().expect("it ends") == libc::SIGUSR2;
    println!(
        "to any thread: waited for {got}, handlers {}",
        RUNS.load(SeqCst)
    );
    mask(libc::SIG_UNBLOCK, libc::SIGUSR2);
}

struct Robust(libc::pthread_mutex_t);
// SAFETY: a mutex is for several threads.
unsafe impl Send for Robust {}
// SAFETY: as above.
unsafe impl Sync for Robust {}

fn robust() {
    // SAFETY: the mutex is initialised first and outlives the threads.
    unsafe {
        let mut attributes = MaybeUninit::uninit();
        libc::pthread_mutexattr_init(attributes.as_mut_ptr());
        libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST);
        let lock = Box::leak(Box::new(Robust(zeroed())));
        libc::pthread_mutex_init(&mut lock.0, attributes.as_ptr());
        let at = &raw mut lock.0 as usize;
        let take = move || libc::pthread_mutex_lock(at as *mut libc::pthread_mutex_t);
        // Ends with the lock, while another waits for it.
        let barrier = Arc::new(Barrier::new(2));
        let dying = {
            let barrier = barrier.clone();
            thread::spawn(move || {
                let taken = take();
                barrier.wait();
                thread::sleep(Duration::from_millis(5));
                taken
            })
        };
        barrier.wait();
        let inherited = take();
        let first = dying.join().expect("it ends");
        let at = at as *mut libc::pthread_mutex_t;
        let mended = libc::pthread_mutex_consistent(at);
        let given = libc::pthread_mutex_unlock(at);
        println!(
            "robust: {first} {} {mended} {given}",
            inherited == libc::EOWNERDEAD
        );
    }
}

fn futex(
    word: &AtomicU32,
    operation: c_int,
    value: u32,
    more: u64,
    other: *const AtomicU32,
    last: u32,
) -> i64 {
    // SAFETY: the words are valid; the rest are numbers.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            operation,
            value,
            more,
            other,
            last,
        )
    }
}

/// Waiters are moved from one word to another, and woken by bits.
fn waiters_move() {
    static FROM: AtomicU32 = AtomicU32::new(0);
    static TO: AtomicU32 = AtomicU32::new(0);
    static WOKEN: AtomicU32 = AtomicU32::new(0);
    let threads: Vec<_> = (0..6)
        .map(|_| {
            thread::spawn(|| {
                let result = futex(
                    &FROM,
                    libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                    0,
                    0,
                    null(),
                    0,
                );
                WOKEN.fetch_add(1, SeqCst);
                result
            })
        })
        .collect();
    let (mut woken, mut moved) = (0, 0);
    // All have to be there first: those that are not yet are moved by the next round.
    while woken + moved < 6 {
        let wake = u32::from(woken == 0);
        let done = futex(
            &FROM,
            libc::FUTEX_CMP_REQUEUE | libc::FUTEX_PRIVATE_FLAG,
            wake,
            10,
            &TO,
            0,
        );
        if done > 0 && wake == 1 {
            woken = 1;
            moved += done - 1;
        } else {
            moved += done;
        }
        thread::sleep(Duration::from_millis(1));
    }
    let wrong = futex(
        &FROM,
        libc::FUTEX_CMP_REQUEUE | libc::FUTEX_PRIVATE_FLAG,
        1,
        10,
        &TO,
        5,
    );
    until(|| WOKEN.load(SeqCst) == 1);
    println!("waiters move: {woken} woken, {moved} moved, wrong value {wrong}");
    let mut rest = 0;
    while rest < 5 {
        rest += futex(
            &TO,
            libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
            2,
            0,
            null(),
            0,
        );
    }
    let results: i64 = threads
        .into_iter()
        .map(|t| t.join().expect("it ends"))
        .sum();
    println!("waiters move: then {rest}, all well {}", results == 0);
    let bits = thread::spawn(|| {
        futex(
            &FROM,
            libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG,
            0,
            0,
            null(),
            2,
        )
    });
    thread::sleep(Duration::from_millis(5));
    let others = futex(
        &FROM,
        libc::FUTEX_WAKE_BITSET | libc::FUTEX_PRIVATE_FLAG,
        9,
        0,
        null(),
        5,
    );
    let mut own = 0;
    while own == 0 {
        own = futex(
            &FROM,
            libc::FUTEX_WAKE_BITSET | libc::FUTEX_PRIVATE_FLAG,
            9,
            0,
            null(),
            3,
        );
    }
    println!(
        "waiters move: by bits {others} {own} {}",
        bits.join().expect("it ends")
    );
}

/// A process of several threads ends by one of them, while others run, sleep and wait.
fn ends() {
    let busy = || {
        thread::spawn(|| {
            loop {
                std::hint::spin_loop()
            }
        });
        thread::spawn(|| thread::sleep(Duration::from_secs(1000)));
        let lock: &Mutex<()> = Box::leak(Box::new(Mutex::new(())));
        std::mem::forget(lock.lock());
        thread::spawn(|| drop(lock.lock()));
        thread::sleep(Duration::from_millis(2));
    };
    let status = in_child(|| {
        busy();
        std::process::exit(3)
    });
    println!("ends: exit by the first {status}");
    let status = in_child(|| {
        busy();
        thread::spawn(|| std::process::exit(4));
        loop {
            thread::sleep(Duration::from_secs(1000));
        }
    });
    println!("ends: exit by another {status}");
    let status = in_child(|| {
        busy();
        thread::spawn(|| {
            // SAFETY: none; that is what is wanted.
            unsafe { null_mut::<u32>().write_volatile(1) }
        });
        loop {
            thread::sleep(Duration::from_secs(1000));
        }
    });
    println!("ends: fault of another {}", status);
    flush();
    let child = spawn(|| {
        busy();
        loop {
            thread::sleep(Duration::from_secs(1000));
        }
    });
    thread::sleep(Duration::from_millis(5));
    // SAFETY: numbers only.
    unsafe { libc::kill(child, libc::SIGKILL) };
    println!("ends: killed {}", wait(child));
}

/// The first thread may end before the others; the process ends with the last.
fn the_first_leaves() {
    flush();
    let child = spawn(|| {
        thread::spawn(|| {
            thread::sleep(Duration::from_millis(10));
            println!("the first leaves: another goes on");
            flush();
        });
        // SAFETY: nothing of this thread is used by others.
        unsafe { libc::syscall(libc::SYS_exit, 6) };
        0
    });
    println!("the first leaves: status {}", wait(child));
}

fn forks_from_a_thread() {
    let status = thread::spawn(|| in_child(|| std::process::exit(i32::from(tid() == pid()))))
        .join()
        .expect("it ends");
    println!("forks from a thread: {status}");
}

/// `clone` with shared memory and nothing else shared is a process.
fn shares_without_being_a_thread() {
    static WORD: AtomicU32 = AtomicU32::new(0);
    extern "C" fn child(_: *mut c_void) -> c_int {
        WORD.store(42, SeqCst);
        5
    }
    let mut stack = vec![0_u64; 8192];
    // SAFETY: the stack outlives the child, which is waited for.
    let status = unsafe {
        let top = stack.as_mut_ptr().add(stack.len());
        let pid = libc::clone(
            child,
            top.cast(),
            libc::CLONE_VM | libc::SIGCHLD,
            null_mut(),
        );
        wait(pid)
    };
    println!(
        "shares without being a thread: {status}, word {}",
        WORD.load(SeqCst)
    );
}

fn replaced_by_a_thread() {
    flush();
    let child = spawn(|| {
        thread::spawn(|| thread::sleep(Duration::from_secs(1000)));
        thread::spawn(|| {
            thread::sleep(Duration::from_millis(2));
            let name = std::env::args().next().expect("a name") + "\0";
            let path = name.as_ptr().cast();
            let arguments = [path, c"replaced".as_ptr(), null()];
            // SAFETY: strings that end with a zero, and vectors that end with a null pointer.
            unsafe { libc::execv(path, arguments.as_ptr()) };
            std::process::exit(99)
        });
        loop {
            thread::sleep(Duration::from_secs(1000));
        }
    });
    println!("replaced by a thread: {}", wait(child));
}
