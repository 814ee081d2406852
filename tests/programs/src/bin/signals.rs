//! Signals: handlers and what they are told, masks, alternate stacks, interrupted waits, stopping.

use std::arch::asm;
use std::hint::black_box;
use std::io::{Error, Write};
use std::mem::zeroed;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering::SeqCst};

use libc::{PROT_NONE, PROT_READ, PROT_WRITE, c_int, c_void, siginfo_t};
use programs::{Mapping, PAGE, in_child, spawn, wait};

/// What the last handler was told, and how often one ran.
static RUNS: AtomicI32 = AtomicI32::new(0);
static NUMBER: AtomicI32 = AtomicI32::new(0);
static CODE: AtomicI32 = AtomicI32::new(0);
static SENDER: AtomicI32 = AtomicI32::new(0);
static ADDRESS: AtomicUsize = AtomicUsize::new(0);
/// Where a local variable of the last handler was.
static PLACE: AtomicUsize = AtomicUsize::new(0);
/// A page that the handler makes accessible.
static LOCKED: AtomicUsize = AtomicUsize::new(0);

fn main() {
    told();
    held_back();
    once();
    repaired();
    other_stack();
    floats();
    interrupted_sleep();
    interrupted_read();
    child_news();
    pipe_without_reader();
    suspended();
    stopped();
    faults();
}

extern "C" fn handler(number: c_int, info: *mut siginfo_t, _context: *mut c_void) {
    let here = black_box(number);
    PLACE.store(&raw const here as usize, SeqCst);
    RUNS.fetch_add(1, SeqCst);
    NUMBER.store(number, SeqCst);
    // SAFETY: the kernel gives a valid one; which field is meaningful, the reader knows.
    unsafe {
        CODE.store((*info).si_code, SeqCst);
        SENDER.store((*info).si_pid(), SeqCst);
        ADDRESS.store((*info).si_addr() as usize, SeqCst);
    }
    // What the interrupted computation must not notice.
    black_box((0..8).map(|i| f64::from(i) * 1.5).sum::<f64>());
    let locked = LOCKED.swap(0, SeqCst);
    if locked != 0 {
        // SAFETY: the page is the program's own.
        unsafe { libc::mprotect(locked as *mut c_void, PAGE, PROT_READ | PROT_WRITE) };
    }
}

fn catch(signal: c_int, flags: c_int) {
    // SAFETY: the handler does only what a handler may.
    unsafe {
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = flags | libc::SA_SIGINFO;
        assert_eq!(libc::sigaction(signal, &action, null_mut()), 0);
    }
}

fn runs() -> i32 {
    RUNS.swap(0, SeqCst)
}

fn own_pid() -> c_int {
    // SAFETY: no preconditions.
    unsafe { libc::getpid() }
}

fn send(to: c_int, signal: c_int) {
    // SAFETY: to ourselves or a child of ours.
    assert_eq!(unsafe { libc::kill(to, signal) }, 0);
}

fn mask(how: c_int, signal: c_int) {
    // SAFETY: sets are plain data.
    unsafe {
        let mut set = zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        assert_eq!(libc::sigprocmask(how, &set, null_mut()), 0);
    }
}

fn told() {
    catch(libc::SIGUSR1, 0);
    send(own_pid(), libc::SIGUSR1);
    println!(
        "kill: {} run, number {}, code {}, from us: {}",
        runs(),
        NUMBER.load(SeqCst),
        CODE.load(SeqCst),
        SENDER.load(SeqCst) == own_pid()
    );
    // SAFETY: no preconditions.
    unsafe { libc::raise(libc::SIGUSR1) };
    println!("raise: {} run, code {}", runs(), CODE.load(SeqCst));
}

fn held_back() {
    mask(libc::SIG_BLOCK, libc::SIGUSR1);
    for _ in 0..3 {
        send(own_pid(), libc::SIGUSR1);
    }
    // SAFETY: sets are plain data.
    let pending = unsafe {
        let mut set = zeroed();
        libc::sigpending(&mut set);
        libc::sigismember(&set, libc::SIGUSR1)
    };
    let before = runs();
    mask(libc::SIG_UNBLOCK, libc::SIGUSR1);
    println!(
        "held back: {before} runs, pending {pending}, then {} run",
        runs()
    );
}

fn once() {
    catch(libc::SIGUSR2, libc::SA_RESETHAND);
    send(own_pid(), libc::SIGUSR2);
    // SAFETY: only asks.
    let default = unsafe {
        let mut action: libc::sigaction = zeroed();
        libc::sigaction(libc::SIGUSR2, null(), &mut action);
        action.sa_sigaction == libc::SIG_DFL
    };
    println!("once: {} run, default after it: {default}", runs());
}

/// A handler that removes the reason for a fault: the access is tried again and works.
fn repaired() {
    let memory = Mapping::anonymous(2 * PAGE, PROT_READ | PROT_WRITE, libc::MAP_PRIVATE);
    memory.write(PAGE + 5, 1);
    memory.protect(PAGE, PAGE, PROT_NONE);
    catch(libc::SIGSEGV, 0);
    LOCKED.store(memory.base() as usize + PAGE, SeqCst);
    memory.write(PAGE + 7, 42);
    let at = ADDRESS.load(SeqCst) - memory.base() as usize;
    println!(
        "repaired: {} run, code {}, at {at}, {} {}",
        runs(),
        CODE.load(SeqCst),
        memory.read(PAGE + 5),
        memory.read(PAGE + 7)
    );
}

fn other_stack() {
    let memory = Mapping::anonymous(16 * PAGE, PROT_READ | PROT_WRITE, libc::MAP_PRIVATE);
    let stack = libc::stack_t {
        ss_sp: memory.base().cast(),
        ss_flags: 0,
        ss_size: memory.len(),
    };
    // SAFETY: the memory is ours, and given back only after the stack.
    unsafe {
        let mut old = zeroed();
        assert_eq!(libc::sigaltstack(&stack, &mut old), 0);
        catch(libc::SIGUSR1, libc::SA_ONSTACK);
        send(own_pid(), libc::SIGUSR1);
        let offset = PLACE.load(SeqCst).wrapping_sub(memory.base() as usize);
        catch(libc::SIGUSR1, 0);
        send(own_pid(), libc::SIGUSR1);
        let other = PLACE.load(SeqCst).wrapping_sub(memory.base() as usize);
        println!(
            "other stack: {} runs, on it {}, then {}",
            runs(),
            offset < memory.len(),
            other < memory.len()
        );
        assert_eq!(libc::sigaltstack(&old, null_mut()), 0);
    }
}

/// A computation in vector registers that handlers interrupt.
fn floats() {
    let mut values = [0.0_f64; 16];
    let child_of = own_pid();
    let child = spawn(|| {
        for _ in 0..50 {
            send(child_of, libc::SIGUSR1);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        0
    });
    let mut rounds = 0_u32;
    let mut wrong = 0;
    loop {
        for (i, value) in values.iter_mut().enumerate() {
            *value = black_box(i as f64) * 0.25;
        }
        let sum: f64 = values.iter().map(|value| black_box(*value) * 4.0).sum();
        wrong += u32::from(sum != 120.0);
        rounds += 1;
        let mut status = 0;
        // SAFETY: `status` is writable.
        let mut ended = || unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) } == child;
        if rounds.is_multiple_of(1000) && ended() {
            break;
        }
    }
    println!("floats: wrong {wrong}, interrupted: {}", runs() > 0);
}

/// Sends `signal` to this process a little later, `times` times.
fn soon(signal: c_int, times: u32) -> c_int {
    let parent = own_pid();
    spawn(move || {
        for _ in 0..times {
            std::thread::sleep(std::time::Duration::from_millis(50));
            send(parent, signal);
        }
        0
    })
}

fn interrupted_sleep() {
    catch(libc::SIGUSR1, libc::SA_RESTART);
    let child = soon(libc::SIGUSR1, 1);
    let long = libc::timespec {
        tv_sec: 100,
        tv_nsec: 0,
    };
    let mut left = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: both are ours.
    let slept = unsafe { libc::nanosleep(&long, &mut left) };
    let error = Error::last_os_error().raw_os_error();
    println!(
        "sleep: {slept} {error:?}, {} run, left between 90 and 100: {}",
        runs(),
        (90..100).contains(&left.tv_sec)
    );
    wait(child);
}

fn interrupted_read() {
    for (flags, name) in [(0, "read"), (libc::SA_RESTART, "restarted read")] {
        catch(libc::SIGUSR1, flags);
        let (from, mut to) = std::io::pipe().expect("a pipe");
        let parent = own_pid();
        let child = spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(50));
            send(parent, libc::SIGUSR1);
            std::thread::sleep(std::time::Duration::from_millis(50));
            to.write_all(b"x").map_or(1, |()| 0)
        });
        let mut byte = [0_u8];
        // SAFETY: the buffer is ours; not std's `read`, which would try again by itself.
        let n = unsafe {
            libc::read(
                std::os::fd::AsRawFd::as_raw_fd(&from),
                byte.as_mut_ptr().cast(),
                1,
            )
        };
        let error = if n < 0 {
            Error::last_os_error().raw_os_error()
        } else {
            None
        };
        println!("{name}: {n} {error:?}, {} run", runs());
        wait(child);
    }
}

fn child_news() {
    catch(libc::SIGCHLD, libc::SA_RESTART);
    let child = spawn(|| 7);
    let ended = wait(child);
    println!(
        "child: {ended}, {} run, code {}, the child's: {}",
        runs(),
        CODE.load(SeqCst),
        SENDER.load(SeqCst) == child
    );
    // SAFETY: the default action has no preconditions.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    spawn(|| 7);
    // SAFETY: waits for any child; its status is not wanted.
    let waited = unsafe { libc::waitpid(-1, null_mut(), 0) };
    println!(
        "children ignored: {waited} {:?}",
        Error::last_os_error().raw_os_error()
    );
    // SAFETY: as above.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

fn pipe_without_reader() {
    let write = |signal: usize| {
        in_child(|| {
            // SAFETY: the default action and ignoring have no preconditions.
            unsafe { libc::signal(libc::SIGPIPE, signal) };
            let (from, mut to) = std::io::pipe().expect("a pipe");
            drop(from);
            to.write(b"x")
                .map_or_else(|error| error.raw_os_error().unwrap_or(0), |_| 0)
        })
    };
    println!(
        "no reader: {}, ignored: {}",
        write(libc::SIG_DFL),
        write(libc::SIG_IGN)
    );
}

/// `sigsuspend` lets a signal in that was held back, and only for its own time.
fn suspended() {
    catch(libc::SIGUSR1, 0);
    mask(libc::SIG_BLOCK, libc::SIGUSR1);
    let child = soon(libc::SIGUSR1, 2);
    // SAFETY: sets are plain data.
    let result = unsafe {
        let mut none = zeroed();
        libc::sigemptyset(&mut none);
        libc::sigsuspend(&none)
    };
    let error = Error::last_os_error().raw_os_error();
    let first = runs();
    wait(child);
    let second = runs();
    mask(libc::SIG_UNBLOCK, libc::SIGUSR1);
    println!(
        "suspended: {result} {error:?}, {first} run, held back again: {second}, then {}",
        runs()
    );
}

fn stopped() {
    let child = spawn(|| {
        loop {
            std::thread::sleep(std::time::Duration::from_secs(1000));
        }
    });
    let news = |options: c_int| {
        let mut status = 0;
        // SAFETY: `status` is writable.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, options) }, child);
        format!("{status:#x}")
    };
    send(child, libc::SIGSTOP);
    let stopped = news(libc::WUNTRACED);
    send(child, libc::SIGCONT);
    let goes_on = news(libc::WCONTINUED);
    send(child, libc::SIGSTOP);
    let again = news(libc::WUNTRACED);
    send(child, libc::SIGKILL);
    println!(
        "stopped {stopped}, goes on {goes_on}, stopped {again}, killed {}",
        news(0)
    );
}

/// What a fault's handler is told, each in a child that exits from its handler.
fn faults() {
    extern "C" fn report(number: c_int, info: *mut siginfo_t, _context: *mut c_void) {
        // SAFETY: the kernel gives a valid one; `_exit` may be called here.
        unsafe { libc::_exit(number * 16 + ((*info).si_code & 15)) }
    }
    let caught = |body: &dyn Fn()| {
        in_child(|| {
            for signal in [
                libc::SIGSEGV,
                libc::SIGBUS,
                libc::SIGFPE,
                libc::SIGILL,
                libc::SIGTRAP,
            ] {
                // SAFETY: the handler ends the process.
                unsafe {
                    let mut action: libc::sigaction = zeroed();
                    action.sa_sigaction = report as *const () as usize;
                    action.sa_flags = libc::SA_SIGINFO;
                    libc::sigaction(signal, &action, null_mut());
                }
            }
            body();
            0
        })
    };
    let faults: [(&str, &dyn Fn()); 7] = [
        // SAFETY: none: the fault is the point, and its handler ends the process. So for all of these.
        ("no mapping", &|| unsafe {
            null_mut::<u8>().wrapping_add(16).write_volatile(1)
        }),
        // SAFETY: as above.
        ("no right", &|| unsafe {
            (main as *const () as *mut u8).write_volatile(1)
        }),
        // SAFETY: as above.
        ("not canonical", &|| unsafe {
            null_mut::<u8>().wrapping_add(1 << 63).write_volatile(1)
        }),
        // SAFETY: as above.
        ("division", &|| unsafe {
            asm!("div {0:e}", in(reg) 0, inout("eax") 1 => _, inout("edx") 0 => _);
        }),
        // SAFETY: as above.
        ("no instruction", &|| unsafe { asm!("ud2") }),
        // SAFETY: as above.
        ("breakpoint", &|| unsafe { asm!("int3") }),
        // SAFETY: as above.
        ("privileged", &|| unsafe { asm!("hlt") }),
    ];
    for (name, fault) in faults {
        println!("{name}: {}", caught(fault));
    }
}
