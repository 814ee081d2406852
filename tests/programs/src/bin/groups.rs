//! Sessions and groups: who may move whom, what stops, orphaned groups, and what there is without a terminal.

use std::ffi::CString;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

use libc::{SIGCONT, SIGHUP, SIGKILL, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, c_int, pid_t};
use programs::{Ended, in_child, outcome, spawn, wait};

fn main() {
    if std::env::args().nth(1).as_deref() == Some("pause") {
        pause();
    }
    // In a session of its own, nothing depends on who started this.
    println!("the session: {}", in_child(session));
}

fn session() -> i32 {
    println!("setsid: {}", set_session());
    println!("again: {}", set_session());
    println!("ours: {} {}", group_of(0) == pid(), session_of(0) == pid());
    moves();
    outlives();
    executed();
    nobody();
    without_terminal();
    stops();
    orphaned_does_not_stop();
    orphaned_while_stopped();
    0
}

fn pid() -> pid_t {
    // SAFETY: no preconditions.
    unsafe { libc::getpid() }
}

fn group_of(pid: pid_t) -> pid_t {
    // SAFETY: no preconditions.
    unsafe { libc::getpgid(pid) }
}

fn session_of(pid: pid_t) -> pid_t {
    // SAFETY: no preconditions.
    unsafe { libc::getsid(pid) }
}

fn set_group(pid: pid_t, group: pid_t) -> String {
    // SAFETY: no preconditions.
    outcome(unsafe { libc::setpgid(pid, group) })
}

fn set_session() -> String {
    // SAFETY: no preconditions.
    match unsafe { libc::setsid() } {
        -1 => outcome(-1),
        session => format!("our own: {}", session == pid()),
    }
}

fn send(to: c_int, signal: c_int) {
    // SAFETY: to ourselves, or a child or a group of ours.
    assert_eq!(unsafe { libc::kill(to, signal) }, 0);
}

fn pause() -> ! {
    loop {
        // SAFETY: no preconditions.
        unsafe { libc::pause() };
    }
}

/// A child that waits to be killed, once it has done something.
fn sleeper(first: impl FnOnce()) -> pid_t {
    let (mut ready, mut to) = std::io::pipe().expect("a pipe");
    let child = spawn(move || {
        first();
        to.write_all(b"!").expect("the parent reads it");
        pause()
    });
    ready.read_exact(&mut [0]).expect("the child is there");
    child
}

/// The next change of a child, of whatever kind.
fn change(child: pid_t) -> String {
    let mut status = 0;
    let options = libc::WUNTRACED | libc::WCONTINUED;
    // SAFETY: `status` is writable.
    match unsafe { libc::waitpid(child, &mut status, options) } {
        -1 => outcome(-1),
        _ => Ended(status).to_string(),
    }
}

fn moves() {
    let (child, other) = (sleeper(|| {}), sleeper(|| {}));
    let ours = group_of(child) == pid() && session_of(child) == pid();
    println!("inherited: {ours}");
    println!("to its own: {}", set_group(child, 0));
    println!("there: {}", group_of(child) == child);
    println!("back to ours: {}", set_group(child, pid()));
    println!("to a group that is none: {}", set_group(other, child));
    println!("to a negative one: {}", set_group(other, -1));
    println!("to its own: {}", set_group(child, child));
    println!("to the other's: {}", set_group(other, child));
    println!("a leader of a session: {}", set_group(0, child));
    // SAFETY: no preconditions.
    let parent = unsafe { libc::getppid() };
    println!("our parent: {}", set_group(parent, 0));
    let away = sleeper(|| {
        let _ = set_session();
    });
    println!("a leader of another session: {}", set_group(away, 0));
    println!("into another session: {}", set_group(other, away));
    println!("its session: {}", session_of(away) == away);
    send(-child, SIGKILL);
    println!("both of the group: {} {}", wait(child), wait(other));
    send(away, SIGKILL);
    println!("the one away: {}", wait(away));
}

/// A group lives as long as a member does.
fn outlives() {
    let (leader, member) = (sleeper(|| {}), sleeper(|| {}));
    println!("{} {}", set_group(leader, 0), set_group(member, leader));
    send(leader, SIGKILL);
    println!("its leader: {}", wait(leader));
    println!("still: {}", group_of(member) == leader);
    send(-leader, SIGKILL);
    println!("its member: {}", wait(member));
    // SAFETY: no such group.
    println!("no more: {}", outcome(unsafe { libc::kill(-leader, 0) }));
}

/// A child that runs a program of its own already is not moved.
fn executed() {
    let path = std::env::args().next().expect("a path of our own");
    let path = CString::new(path).expect("no zero inside");
    let (mut closed, to) = std::io::pipe().expect("a pipe");
    let child = spawn(|| {
        let words = [path.as_ptr(), c"pause".as_ptr(), std::ptr::null()];
        // SAFETY: both lists end in a null pointer.
        unsafe { libc::execve(path.as_ptr(), words.as_ptr(), [std::ptr::null()].as_ptr()) };
        1
    });
    drop(to);
    // The pipe is closed on exec, and so at its end by then.
    assert_eq!(closed.read(&mut [0]).expect("the end"), 0);
    println!("after exec: {}", set_group(child, 0));
    println!("where it was: {}", group_of(child) == pid());
    send(child, SIGKILL);
    println!("it: {}", wait(child));
}

fn nobody() {
    println!("getpgid of nobody: {}", outcome(group_of(999_999_999)));
    println!("getsid of nobody: {}", outcome(session_of(999_999_999)));
    println!("setpgid of nobody: {}", set_group(999_999_999, 0));
    println!("setpgid of a negative: {}", set_group(-5, 0));
}

fn without_terminal() {
    let own = std::fs::File::open("/dev/tty").map_err(|error| error.raw_os_error());
    println!("/dev/tty: {:?}", own.err());
    let null = std::fs::File::open("/dev/null").expect("it is always there");
    for request in [libc::TIOCSCTTY, libc::TIOCNOTTY, libc::TIOCGPGRP] {
        let mut word = 0;
        // SAFETY: none of them needs more than a word.
        let result = unsafe { libc::ioctl(null.as_raw_fd(), request, &mut word) };
        println!("{request:#x} of /dev/null: {}", outcome(result));
    }
}

/// A child in a group of its own, whose parent watches over it, stops for every signal of that kind.
fn stops() {
    for signal in [SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU] {
        let child = sleeper(|| {
            let _ = set_group(0, 0);
        });
        send(child, signal);
        println!("{signal}: {}", change(child));
        // What comes while it is stopped waits, but for SIGKILL.
        send(child, libc::SIGTERM);
        send(child, SIGCONT);
        let mut changes = vec![change(child)];
        // It may go on and end in one.
        if changes[0].starts_with("status") {
            changes.push(change(child));
        }
        println!("then: {:?}", changes.last());
        let child = sleeper(|| {
            let _ = set_group(0, 0);
        });
        send(child, signal);
        println!("{signal}: {}", change(child));
        send(child, SIGKILL);
        println!("killed: {}", change(child));
    }
}

/// Our own group is orphaned: our parent is of another session.
fn orphaned_does_not_stop() {
    for signal in [SIGTSTP, SIGTTIN, SIGTTOU] {
        let child = spawn(|| {
            send(pid(), signal);
            3
        });
        println!("{signal} where nobody would continue it: {}", change(child));
    }
    let child = spawn(|| {
        send(pid(), SIGSTOP);
        4
    });
    println!("SIGSTOP: {}", change(child));
    send(child, SIGCONT);
    let mut last = change(child);
    if last.starts_with("status") {
        last = change(child);
    }
    println!("then: {last}");
}

static SEEN: AtomicI32 = AtomicI32::new(0);

extern "C" fn note(signal: c_int) {
    SEEN.fetch_add(if signal == SIGHUP { 1 } else { 100 }, SeqCst);
}

/// A stopped group is sent SIGHUP and SIGCONT when the last parent outside of it ends; one that runs is not.
fn orphaned_while_stopped() {
    for stop in [SIGSTOP, 0] {
        let (mut from, mut to) = std::io::pipe().expect("a pipe");
        let (mut stay, leave) = std::io::pipe().expect("a pipe");
        let middle = spawn(move || {
            let _ = set_group(0, 0);
            let (mut ready, mut there) = std::io::pipe().expect("a pipe");
            let child = spawn(move || {
                drop(leave);
                let _ = set_group(0, 0);
                for signal in [SIGHUP, SIGCONT] {
                    // SAFETY: the handler only counts.
                    unsafe { libc::signal(signal, note as *const () as usize) };
                }
                there.write_all(b"!").expect("the parent reads it");
                if stop != 0 {
                    send(pid(), stop);
                }
                // Until the one in the middle has gone.
                while stay.read(&mut [0]).is_err() {}
                to.write_all(&SEEN.load(SeqCst).to_le_bytes())
                    .expect("read");
                0
            });
            ready.read_exact(&mut [0]).expect("the child is there");
            if stop != 0 {
                println!("its member: {}", change(child));
            }
            0
        });
        println!("the one in the middle: {}", wait(middle));
        let mut seen = [0; 4];
        from.read_exact(&mut seen).expect("it goes on");
        println!("seen: {}", i32::from_le_bytes(seen));
    }
}
