//! A storm of births and deaths: processes and threads that begin, end, stop, are killed and replaced in every order, from a seed.
//!
//! `storm SECONDS SEED` prints nothing about what happened but that all of it ended: each child was collected once, and none is left.

use std::mem::zeroed;
use std::process::exit;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use libc::{c_char, c_int};
use programs::thread::{Thread, begin};
use programs::{Mapping, PAGE, Random};

/// Children at a time.
const MOST: usize = 24;
/// How deep children have children.
const DEEP: u32 = 2;
/// Bytes of a thread's stack.
const STACK: usize = 64 << 10;
/// How much more time than it was given a storm may take to calm down.
const CALM: Duration = Duration::from_secs(60);

static HANDLED: AtomicU32 = AtomicU32::new(0);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "quick", code] => exit(code.parse().unwrap_or(1)),
        [_, seconds, seed] => {
            let (Ok(seconds), Ok(seed)) = (seconds.parse(), seed.parse()) else {
                fail("SECONDS and SEED are numbers")
            };
            storm(&arguments[0], Duration::from_secs(seconds), seed);
        }
        _ => fail("usage: storm SECONDS SEED"),
    }
}

fn fail(what: &str) -> ! {
    eprintln!("storm: {what}");
    exit(2)
}

extern "C" fn handler(_: c_int) {
    HANDLED.fetch_add(1, SeqCst);
}

fn handle(signal: c_int, flags: c_int) {
    // SAFETY: the handler only counts.
    unsafe {
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = flags;
        libc::sigaction(signal, &action, null_mut());
    }
}

fn storm(program: &str, time: Duration, seed: u64) {
    let begun = Instant::now();
    let mut random = Random::new(seed);
    let mut children: Vec<c_int> = Vec::new();
    let (mut born, mut collected) = (0_u64, 0_u64);
    while begun.elapsed() < time {
        match random.below(8) {
            0..=3 if children.len() < MOST => {
                let seed = random.below(u64::MAX);
                if let Some(child) = fork(|| life(program, Random::new(seed), 0)) {
                    children.push(child);
                    born += 1;
                }
            }
            4 | 5 if !children.is_empty() => {
                let child = children[random.below(children.len() as u64) as usize];
                let signals = [
                    libc::SIGUSR1,
                    libc::SIGUSR1,
                    libc::SIGTERM,
                    libc::SIGKILL,
                    libc::SIGSTOP,
                    libc::SIGCONT,
                    libc::SIGCONT,
                    libc::SIGRTMIN() + 3,
                ];
                let signal = signals[random.below(signals.len() as u64) as usize];
                // SAFETY: numbers only; a child's number is its until it is collected.
                unsafe { libc::kill(child, signal) };
            }
            6 => thread::sleep(Duration::from_micros(random.below(2000))),
            _ => {
                while let Some(child) = collect(libc::WNOHANG | libc::WUNTRACED) {
                    children.retain(|&c| c != child);
                    collected += 1;
                }
            }
        }
    }
    for &child in &children {
        // SAFETY: as above.
        unsafe { libc::kill(child, libc::SIGKILL) };
    }
    while let Some(child) = collect(0) {
        children.retain(|&c| c != child);
        collected += 1;
        if begun.elapsed() > time + CALM {
            fail("children do not end");
        }
    }
    if !children.is_empty() || born != collected {
        fail(&format!(
            "{born} born, {collected} collected, {} left",
            children.len()
        ));
    }
    println!("storm: all over");
}

/// Collects a child that has ended; passes over those that stopped. `None`: there is none now.
fn collect(options: c_int) -> Option<c_int> {
    loop {
        let mut status = 0;
        // SAFETY: the status is writable.
        let child = unsafe { libc::waitpid(-1, &mut status, options) };
        if child <= 0 {
            let error = std::io::Error::last_os_error().raw_os_error();
            if child < 0 && error == Some(libc::EINTR) {
                continue;
            }
            return None;
        }
        if !libc::WIFSTOPPED(status) {
            return Some(child);
        }
    }
}

fn fork(body: impl FnOnce() -> i32) -> Option<c_int> {
    // SAFETY: the child goes on in this very thread, and uses nothing of others but what the C library has made good in it.
    match unsafe { libc::fork() } {
        0 => {
            let code = body();
            // SAFETY: ends this process, whatever else is in it.
            unsafe { libc::_exit(code) }
        }
        -1 => None,
        child => Some(child),
    }
}

/// What a child does. Those that have no parent who would kill them end by themselves.
fn life(program: &str, mut random: Random, depth: u32) -> i32 {
    if random.below(2) == 0 {
        let restart = [0, libc::SA_RESTART][random.below(2) as usize];
        handle(libc::SIGUSR1, restart);
        handle(libc::SIGRTMIN() + 3, restart);
    }
    let code = random.below(256) as i32;
    match random.below(10) {
        0 => {}
        1 => touch(&mut random),
        2 | 3 => threads(program, &mut random, depth),
        4 => replace_from_a_thread(program, code),
        5 if depth == 0 => loop {
            // SAFETY: no arguments.
            unsafe { libc::pause() };
        },
        6 if depth == 0 => {
            // SAFETY: a number only.
            unsafe { libc::raise(libc::SIGSTOP) };
        }
        7 => spawn_and_wait(program),
        8 if depth < DEEP => {
            // Orphans, if it ends before they do.
            for _ in 0..random.below(4) {
                let seed = random.below(u64::MAX);
                let _ = fork(|| life(program, Random::new(seed), depth + 1));
            }
            if random.below(2) == 0 {
                while collect(0).is_some() {}
            }
        }
        _ => thread::sleep(Duration::from_micros(random.below(3000))),
    }
    code
}

/// Takes some memory and writes to it.
fn touch(random: &mut Random) {
    let pages = 1 + random.below(64) as usize;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let mapping = Mapping::anonymous(pages * PAGE, protection, libc::MAP_PRIVATE);
    (0..pages).for_each(|page| mapping.write(page * PAGE, 1));
}

fn threads(program: &str, random: &mut Random, depth: u32) {
    let count = 1 + random.below(4);
    let threads: Vec<_> = (0..count)
        .filter_map(|_| {
            let (mut random, program) = (Random::new(random.below(u64::MAX)), program.to_owned());
            let body = move || match random.below(8) {
                0 => touch(&mut random),
                1 => thread::sleep(Duration::from_micros(random.below(2000))),
                2 => (0..random.below(50)).for_each(|_| thread::yield_now()),
                3 if depth < DEEP => {
                    let seed = random.below(u64::MAX);
                    let _ = fork(|| life(&program, Random::new(seed), depth + 1));
                    let _ = collect(0);
                }
                // The whole process, from here.
                4 => exit_now(9),
                5 => {
                    // SAFETY: numbers only; one that has ended is none.
                    unsafe { libc::kill(libc::getpid(), libc::SIGUSR1) };
                }
                6 => spawn_and_wait(&program),
                _ => {}
            };
            begin(STACK, body)
        })
        .collect();
    if random.below(3) > 0 {
        threads.into_iter().for_each(Thread::join);
    }
}

fn exit_now(code: i32) {
    // SAFETY: ends this process, whatever else is in it.
    unsafe { libc::_exit(code) }
}

/// The arguments of `storm quick CODE`, whose strings the caller keeps.
fn quick(program: &str, code: i32) -> [Vec<u8>; 3] {
    [program.to_owned(), "quick".to_owned(), code.to_string()].map(|word| {
        let mut word = word.into_bytes();
        word.push(0);
        word
    })
}

fn replace_from_a_thread(program: &str, code: i32) {
    let words = quick(program, code);
    let body = move || {
        let pointers: Vec<*const c_char> = (words.iter().map(|word| word.as_ptr().cast()))
            .chain([null()])
            .collect();
        // SAFETY: strings that end with a zero, and a vector that ends with a null pointer.
        unsafe { libc::execv(pointers[0], pointers.as_ptr()) };
    };
    if let Some(thread) = begin(STACK, body) {
        thread.join();
    }
}

/// `posix_spawn`, which is vfork and exec, and waiting.
fn spawn_and_wait(program: &str) {
    let words = quick(program, 3);
    let pointers: Vec<*mut c_char> = (words.iter().map(|word| word.as_ptr().cast_mut().cast()))
        .chain([null_mut()])
        .collect();
    let mut child = 0;
    // SAFETY: as for `execv`; no attributes.
    let error = unsafe {
        let (actions, attributes) = (null(), null());
        let environment = [null_mut::<c_char>()];
        libc::posix_spawn(
            &mut child,
            pointers[0],
            actions,
            attributes,
            pointers.as_ptr(),
            environment.as_ptr(),
        )
    };
    if error == 0 {
        // SAFETY: no status is asked for.
        while unsafe { libc::waitpid(child, null_mut(), 0) } < 0 {
            if std::io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
                break;
            }
        }
    }
}
