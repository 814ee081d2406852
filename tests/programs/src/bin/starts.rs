//! Whoever is started begins where it was told to, with what it was given: `starts ROUNDS`.
//!
//! Several threads at once begin threads, fork, and start programs, each with an argument that is nobody else's. The new one says what it has got: of its
//! argument, of its stack, of its own variables.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::hint::black_box;
use std::process::exit;
use std::ptr::null;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use programs::borrowed::vfork_and_exec;
use programs::thread::begin;
use programs::{mix, wait};

/// Threads that start others.
const STARTERS: u64 = 3;
/// Bytes of a thread's stack.
const STACK: usize = 64 << 10;

thread_local! {
    /// Who this thread is. Needs no destructor, so threads that the standard library does not know may have it.
    static SELF: Cell<u64> = const { Cell::new(0) };
}

/// What came of it.
#[derive(Default)]
struct Tally {
    threads: AtomicU64,
    forks: AtomicU64,
    programs: AtomicU64,
    wrong: AtomicU64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "answer", secret] => exit(secret.parse().map_or(255, answer)),
        [_, rounds] => match rounds.parse() {
            Ok(rounds) => run(&arguments[0], rounds),
            Err(_) => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ! {
    println!("usage: starts ROUNDS");
    exit(2)
}

/// An exit status that only who knows the secret can give.
fn answer(secret: u64) -> c_int {
    (mix(secret) % 251) as c_int
}

fn run(program: &str, rounds: u64) {
    let tally = Arc::new(Tally::default());
    let starters: Vec<_> = (1..=STARTERS)
        .filter_map(|starter| {
            let (tally, program) = (tally.clone(), CString::new(program).ok()?);
            begin(STACK, move || {
                (0..rounds).for_each(|round| start(&program, mix(starter << 32 | round), &tally));
            })
        })
        .collect();
    let begun = starters.len();
    starters.into_iter().for_each(|starter| starter.join());
    let [threads, forks, programs, wrong] =
        [&tally.threads, &tally.forks, &tally.programs, &tally.wrong]
            .map(|count| count.load(SeqCst));
    println!(
        "{begun} starters: {threads} threads, {forks} forked, {programs} programs, {wrong} of them wrong"
    );
    exit(i32::from(wrong != 0));
}

/// One of each, whose argument is the secret.
fn start(program: &CStr, secret: u64, tally: &Arc<Tally>) {
    SELF.set(secret);
    a_thread(secret, tally);
    a_child(secret, tally);
    a_program(program, secret, tally);
    if SELF.get() != secret {
        tally.wrong.fetch_add(1, SeqCst);
    }
}

/// A thread's variables are its own, and its closure lies where its maker put it.
fn a_thread(secret: u64, tally: &Arc<Tally>) {
    let (said, its) = (Arc::new(AtomicU64::new(0)), tally.clone());
    let says = said.clone();
    let thread = begin(STACK, move || {
        if SELF.get() != 0 {
            its.wrong.fetch_add(1, SeqCst);
        }
        SELF.set(!secret);
        says.store(mix(secret), SeqCst);
    });
    if let Some(thread) = thread {
        thread.join();
        tally.threads.fetch_add(1, SeqCst);
        let right = said.load(SeqCst) == mix(secret);
        tally.wrong.fetch_add(u64::from(!right), SeqCst);
    }
}

/// A forked child has what its parent's thread had: registers, stack, variables; and another number.
fn a_child(secret: u64, tally: &Tally) {
    let on_the_stack = black_box([secret, !secret]);
    // SAFETY: no arguments.
    let parent = unsafe { libc::getpid() };
    // SAFETY: the child looks at what it has, and ends.
    match unsafe { libc::fork() } {
        -1 => {}
        0 => {
            // SAFETY: no arguments.
            let itself = unsafe { libc::getpid() != parent && libc::getppid() == parent };
            let same = SELF.get() == secret && black_box(on_the_stack) == [secret, !secret];
            let status = if itself && same { answer(secret) } else { 255 };
            // SAFETY: ends this process, whatever else is in it.
            unsafe { libc::_exit(status) }
        }
        child => {
            tally.forks.fetch_add(1, SeqCst);
            judge(child, secret, tally);
        }
    }
}

/// A program begins at its entry point, with the arguments that it was given.
fn a_program(program: &CStr, secret: u64, tally: &Tally) {
    let Ok(word) = CString::new(secret.to_string()) else {
        return;
    };
    let arguments: [*const c_char; 4] =
        [program.as_ptr(), c"answer".as_ptr(), word.as_ptr(), null()];
    let child = vfork_and_exec(program, &arguments, &[null()]);
    if child > 0 {
        tally.programs.fetch_add(1, SeqCst);
        judge(child, secret, tally);
    }
}

/// Whether a child has given the answer.
fn judge(child: c_int, secret: u64, tally: &Tally) {
    let status = wait(child).0;
    let right = libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == answer(secret);
    tally.wrong.fetch_add(u64::from(!right), SeqCst);
}
