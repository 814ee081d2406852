//! Processes end in many ways, and `wait4` tells which.

use std::ffi::CString;
use std::io::{Read, Write};

use programs::{Ended, in_child, spawn, wait};

fn main() {
    if std::env::args().nth(1).as_deref() == Some("again") {
        println!(
            "started again with {:?}",
            std::env::args().skip(2).collect::<Vec<_>>()
        );
        std::process::exit(23);
    }
    for status in [0, 1, 42, 255, 256] {
        println!("_exit({status}): {}", in_child(|| status));
    }
    println!(
        "wild pointer: {}",
        in_child(|| {
            // SAFETY: none; the child is meant to die of it.
            unsafe { std::ptr::without_provenance_mut::<u8>(16).write_volatile(1) };
            0
        })
    );
    println!(
        "abort: {}",
        in_child(|| {
            // SAFETY: ends the process.
            unsafe { libc::abort() }
        })
    );
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // Who started this in the background may have had it ignored.
        // SAFETY: the default action is no code of ours.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGINT] {
        println!("kill {signal}: {}", killed_by(signal));
    }
    in_order();
    not_yet();
    nobody();
    replaced();
}

/// A child that sleeps is killed from outside.
fn killed_by(signal: i32) -> Ended {
    let child = spawn(|| {
        loop {
            std::thread::sleep(std::time::Duration::from_secs(1000));
        }
    });
    // SAFETY: sends a signal to our own child.
    assert_eq!(unsafe { libc::kill(child, signal) }, 0);
    wait(child)
}

/// Waiting for one child leaves the others; waiting for any gets each once.
fn in_order() {
    let children: Vec<_> = (1..=8).map(|n| spawn(move || n)).collect();
    println!("the fifth: {}", wait(children[4]));
    let mut rest = Vec::new();
    loop {
        let mut status = 0;
        // SAFETY: `status` is writable.
        let child = unsafe { libc::waitpid(-1, &mut status, 0) };
        if child == -1 {
            break;
        }
        assert!(children.contains(&child));
        rest.push(libc::WEXITSTATUS(status));
    }
    rest.sort_unstable();
    println!(
        "the rest: {rest:?}, then error {:?}",
        std::io::Error::last_os_error().raw_os_error()
    );
}

/// `WNOHANG` does not wait.
fn not_yet() {
    let (mut from, mut to) = std::io::pipe().expect("a pipe");
    let child = spawn(|| {
        let mut go = [0];
        from.read_exact(&mut go).map_or(1, |()| 7)
    });
    let mut status = 0;
    // SAFETY: `status` is writable.
    let waited = unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) };
    println!("not yet: {waited}");
    to.write_all(b"!").expect("the child takes it");
}

/// There is nobody to wait for, or to signal.
fn nobody() {
    let mut status = 0;
    loop {
        // SAFETY: `status` is writable.
        if unsafe { libc::waitpid(-1, &mut status, 0) } == -1 {
            break;
        }
        println!("the one let go: {}", Ended(status));
    }
    println!(
        "nobody is left: error {:?}",
        std::io::Error::last_os_error().raw_os_error()
    );
    // SAFETY: there is no such process.
    let sent = unsafe { libc::kill(999_999_999, libc::SIGTERM) };
    println!(
        "kill of nobody: {sent} {:?}",
        std::io::Error::last_os_error().raw_os_error()
    );
}

/// `execve` replaces the program, or says why not.
fn replaced() {
    let own = std::env::current_exe()
        .ok()
        .and_then(|path| path.into_os_string().into_string().ok());
    let own = own
        .or_else(|| std::env::args().next())
        .expect("a path of our own");
    let execute = |path: &str| {
        let path = CString::new(path).expect("no zero inside");
        let words = [
            path.as_ptr(),
            c"again".as_ptr(),
            c"a b".as_ptr(),
            c"".as_ptr(),
            std::ptr::null(),
        ];
        in_child(|| {
            // SAFETY: both lists end in a null pointer, and live until the call has copied them.
            unsafe { libc::execve(path.as_ptr(), words.as_ptr(), [std::ptr::null()].as_ptr()) };
            std::io::Error::last_os_error().raw_os_error().unwrap_or(0) + 100
        })
    };
    println!("itself: {}", execute(&own));
    println!("nothing: {}", execute("/no/such/program"));
    println!("a directory: {}", execute("/"));
    println!("no program: {}", execute("/etc/passwd"));
}
