//! A controlling terminal: whose it is, who is in front of it, what happens to others that use it, and how its
//! input is read. Asks for keys: each line that ends in `?` waits for some.

use std::fs::File;
use std::io::{Read, Write};
use std::mem::zeroed;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use libc::{
    SIGKILL, SIGTTIN, SIGTTOU, TCSANOW, TIOCGPGRP, TIOCGWINSZ, TIOCNOTTY, TIOCSCTTY, TIOCSPGRP,
    TIOCSWINSZ, c_int, pid_t, termios,
};
use programs::{Ended, in_child, outcome, spawn, wait};

fn main() {
    owner();
    wrong();
    given_up();
    other_session();
    in_the_background();
    held_or_ignored();
    orphaned();
    quiet();
    window();
    not_waiting();
    keys();
    lines();
}

fn own_group() -> pid_t {
    // SAFETY: no preconditions.
    unsafe { libc::getpgrp() }
}

fn front(fd: c_int) -> pid_t {
    // SAFETY: no preconditions.
    unsafe { libc::tcgetpgrp(fd) }
}

fn put_in_front(group: pid_t) -> String {
    // SAFETY: no preconditions.
    outcome(unsafe { libc::tcsetpgrp(0, group) })
}

fn own_terminal() -> String {
    match File::open("/dev/tty") {
        Ok(file) => format!("ok, in front: {}", front(file.as_raw_fd()) == own_group()),
        Err(error) => format!("error {}", error.raw_os_error().unwrap_or(0)),
    }
}

/// A request that takes a number.
fn request(number: libc::Ioctl, argument: usize) -> String {
    // SAFETY: the requests made so read no memory, or are to fail on it.
    outcome(unsafe { libc::ioctl(0, number, argument) })
}

fn owner() {
    // SAFETY: no preconditions.
    let (tty, session, own) = unsafe { (libc::isatty(0), libc::tcgetsid(0), libc::getsid(0)) };
    println!("a terminal: {tty}, our session's: {}", session == own);
    println!("we are in front: {}", front(0) == own_group());
    println!("/dev/tty: {}", own_terminal());
}

fn wrong() {
    println!("to acquire it, not leading: {}", request(TIOCSCTTY, 0));
    println!("a negative group: {}", put_in_front(-3));
    println!("no such group: {}", put_in_front(999_999_999));
    println!("nowhere: {}", request(TIOCSPGRP, 8));
    println!("nowhere to: {}", request(TIOCGPGRP, 8));
    println!("unknown flush: {}", request(libc::TCFLSH, 3));
    println!("unknown flow: {}", request(libc::TCXONC, 4));
    println!("flush: {}", request(libc::TCFLSH, 0));
    println!("drain: {}", request(libc::TCSBRK, 1));
    println!("unknown request: {}", request(0x5499, 0));
    let mut waiting = 7;
    // SAFETY: `waiting` is writable.
    let asked = outcome(unsafe { libc::ioctl(0, libc::TIOCOUTQ, &mut waiting) });
    println!("output waiting: {asked} {waiting}");
    // SAFETY: as above.
    let asked = outcome(unsafe { libc::ioctl(0, libc::FIONREAD, &mut waiting) });
    println!("input waiting: {asked} {waiting}");
}

fn given_up() {
    let end = in_child(|| {
        println!("giving up: {}", request(TIOCNOTTY, 0));
        println!("once more: {}", request(TIOCNOTTY, 0));
        println!("/dev/tty: {}", own_terminal());
        println!("who is in front: {}", outcome(front(0)));
        println!("going in front: {}", put_in_front(own_group()));
        0
    });
    println!("{end}; we still have it: {}", own_terminal());
}

fn other_session() {
    let end = in_child(|| {
        // SAFETY: no preconditions.
        println!("setsid: {}", outcome(unsafe { libc::setsid() }));
        println!("/dev/tty: {}", own_terminal());
        println!("who is in front: {}", outcome(front(0)));
        println!("to acquire what others have: {}", request(TIOCSCTTY, 0));
        // SAFETY: no preconditions.
        println!("its session: {}", outcome(unsafe { libc::tcgetsid(0) }));
        0
    });
    println!("{end}");
    let away = sleeper(|| {
        // SAFETY: no preconditions.
        unsafe { libc::setsid() };
    });
    println!("a group of another session: {}", put_in_front(away));
    kill(away, SIGKILL);
    println!("{}", wait(away));
}

fn kill(to: c_int, signal: c_int) {
    // SAFETY: to a child or a group of ours.
    assert_eq!(unsafe { libc::kill(to, signal) }, 0);
}

/// A child that waits to be killed, once it has done something.
fn sleeper(first: impl FnOnce()) -> pid_t {
    let (mut ready, mut to) = std::io::pipe().expect("a pipe");
    let child = spawn(move || {
        first();
        to.write_all(b"!").expect("the parent reads it");
        loop {
            // SAFETY: no preconditions.
            unsafe { libc::pause() };
        }
    });
    ready.read_exact(&mut [0]).expect("the child is there");
    child
}

/// What becomes of a child that does something in the background: how it stops or ends.
fn behind(body: impl FnOnce() -> i32) -> String {
    let child = spawn(|| {
        // SAFETY: no preconditions.
        unsafe { libc::setpgid(0, 0) };
        body()
    });
    let mut status = 0;
    // SAFETY: `status` is writable.
    let waited = unsafe { libc::waitpid(child, &mut status, libc::WUNTRACED) };
    assert_eq!(waited, child);
    if libc::WIFSTOPPED(status) {
        kill(child, SIGKILL);
        wait(child);
        return format!("stopped by {}", libc::WSTOPSIG(status));
    }
    Ended(status).to_string()
}

fn settings() -> termios {
    // SAFETY: plain data, filled by the call.
    unsafe {
        let mut settings = zeroed();
        assert_eq!(libc::tcgetattr(0, &mut settings), 0);
        settings
    }
}

fn set(settings: &termios) -> c_int {
    // SAFETY: plain data.
    unsafe { libc::tcsetattr(0, TCSANOW, settings) }
}

/// Reads up to `len` bytes: what came, or the error.
fn read(len: usize) -> String {
    let mut bytes = vec![0; len];
    // SAFETY: the buffer is writable.
    match unsafe { libc::read(0, bytes.as_mut_ptr().cast(), len) } {
        -1 => outcome(-1),
        n => format!("{:?}", String::from_utf8_lossy(&bytes[..n as usize])),
    }
}

/// The error of a call that fails, as an exit status; 0 if it does not.
fn status(result: c_int) -> i32 {
    match result {
        -1 => std::io::Error::last_os_error().raw_os_error().unwrap_or(0),
        _ => 0,
    }
}

fn read_status() -> i32 {
    let mut byte = 0u8;
    // SAFETY: the byte is writable.
    status(unsafe { libc::read(0, (&raw mut byte).cast(), 1) } as c_int)
}

fn in_the_background() {
    println!("reading: {}", behind(read_status));
    println!("changing: {}", behind(|| status(set(&settings()))));
    println!(
        "looking: {}",
        behind(|| {
            settings();
            i32::from(front(0) == own_group())
        })
    );
    println!("writing: {}", behind(|| i32::from(print("") != 0)));
    println!(
        "flushing: {}",
        behind(|| {
            // SAFETY: no preconditions.
            status(unsafe { libc::tcflush(0, libc::TCIFLUSH) })
        })
    );
    println!(
        "going in front: {}",
        behind(|| {
            // SAFETY: no preconditions.
            status(unsafe { libc::tcsetpgrp(0, libc::getpgrp()) })
        })
    );
}

fn print(text: &str) -> i32 {
    // SAFETY: the text is readable.
    status(unsafe { libc::write(1, text.as_ptr().cast(), text.len()) } as c_int)
}

fn ignore(signal: c_int) {
    // SAFETY: ignoring has no preconditions.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

fn hold_back(signal: c_int) {
    // SAFETY: sets are plain data.
    unsafe {
        let mut set = zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        assert_eq!(
            libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()),
            0
        );
    }
}

fn held_or_ignored() {
    let ways: [fn(c_int); 2] = [ignore, hold_back];
    for how in ways {
        println!(
            "reading: {}",
            behind(|| {
                how(SIGTTIN);
                read_status()
            })
        );
        println!(
            "changing: {}",
            behind(|| {
                how(SIGTTOU);
                status(set(&settings()))
            })
        );
        let group = own_group();
        println!(
            "going in front and back: {}",
            behind(|| {
                how(SIGTTOU);
                println!("there: {}", put_in_front(own_group()));
                println!("in front: {}", front(0) == own_group());
                println!("back: {}", put_in_front(group));
                i32::from(front(0) == own_group())
            })
        );
    }
}

/// Nobody would let an orphaned group go on: it gets errors.
fn orphaned() {
    let (mut answers, mut to) = std::io::pipe().expect("a pipe");
    let (mut gone, stay) = std::io::pipe().expect("a pipe");
    let middle = spawn(move || {
        // SAFETY: no preconditions.
        unsafe { libc::setpgid(0, 0) };
        spawn(move || {
            drop(stay);
            // Until init has it: what is closed is not yet ended.
            while gone.read(&mut [0]).is_err() {}
            // SAFETY: no preconditions.
            let leader = unsafe { libc::getpgrp() };
            // SAFETY: as above.
            while unsafe { libc::getppid() } == leader {}
            let all = [
                read_status(),
                status(set(&settings())),
                // SAFETY: as above.
                status(unsafe { libc::tcsetpgrp(0, leader) }),
            ];
            to.write_all(&all.map(|error| error as u8))
                .expect("it is read");
            0
        });
        0
    });
    println!("the one in the middle: {}", wait(middle));
    let mut all = [0; 3];
    answers.read_exact(&mut all).expect("three answers");
    println!("reading, changing, going in front: {all:?}");
}

/// A terminal can be set so that those behind do not write either.
fn quiet() {
    let before = settings();
    let mut quiet = before;
    quiet.c_lflag |= libc::TOSTOP;
    assert_eq!(set(&quiet), 0);
    println!("writing behind: {}", behind(|| print("loud\n")));
    println!(
        "and ignoring it: {}",
        behind(|| {
            ignore(SIGTTOU);
            print("loud\n")
        })
    );
    println!("writing in front: {}", print("loud\n"));
    assert_eq!(set(&before), 0);
}

static CHANGES: AtomicI32 = AtomicI32::new(0);

extern "C" fn changed(_: c_int) {
    CHANGES.fetch_add(1, SeqCst);
}

fn window() {
    // SAFETY: the handler only counts; the structure is plain data.
    unsafe {
        libc::signal(libc::SIGWINCH, changed as *const () as usize);
        let mut size: libc::winsize = zeroed();
        assert_eq!(libc::ioctl(0, TIOCGWINSZ, &mut size), 0);
        let before = size;
        size.ws_row = before.ws_row + 7;
        assert_eq!(libc::ioctl(0, TIOCSWINSZ, &size), 0);
        assert_eq!(libc::ioctl(0, TIOCSWINSZ, &size), 0);
        let mut now: libc::winsize = zeroed();
        assert_eq!(libc::ioctl(0, TIOCGWINSZ, &mut now), 0);
        println!(
            "rows: {} more, told {}",
            now.ws_row - before.ws_row,
            CHANGES.load(SeqCst)
        );
        assert_eq!(libc::ioctl(0, TIOCSWINSZ, &before), 0);
    }
}

/// Without lines and echo, output as it was.
fn raw(least: u8, tenths: u8) -> termios {
    let mut raw = settings();
    raw.c_lflag &= !(libc::ICANON | libc::ECHO | libc::ISIG | libc::IEXTEN);
    raw.c_iflag &= !(libc::ICRNL | libc::IXON);
    raw.c_cc[libc::VMIN] = least;
    raw.c_cc[libc::VTIME] = tenths;
    raw
}

fn is_readable() -> bool {
    let mut wanted = libc::pollfd {
        fd: 0,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one structure.
    unsafe { libc::poll(&mut wanted, 1, 0) == 1 }
}

fn not_waiting() {
    let before = settings();
    set(&raw(0, 0));
    println!("at once: {} {}", is_readable(), read(10));
    set(&raw(0, 3));
    let began = Instant::now();
    let got = read(10);
    let took = began.elapsed();
    let right = took >= Duration::from_millis(250) && took < Duration::from_secs(20);
    println!("after a time: {} {got} {right}", is_readable());
    set(&raw(1, 0));
    // SAFETY: no preconditions.
    unsafe {
        let flags = libc::fcntl(0, libc::F_GETFL);
        libc::fcntl(0, libc::F_SETFL, flags | libc::O_NONBLOCK);
        println!("never: {}", read(10));
        libc::fcntl(0, libc::F_SETFL, flags);
    }
    set(&before);
}

fn keys() {
    let before = settings();
    for (name, least, tenths, len) in [
        ("three", 3, 0, 10),
        ("two of three", 3, 0, 2),
        ("the rest", 1, 0, 10),
        ("a gap", 200, 5, 100),
        ("one in time", 0, 250, 10),
    ] {
        set(&raw(least, tenths));
        println!("{name}?");
        // Bytes may come one by one: all that were typed are there before the next settings.
        println!("{name}: {}", read(len));
    }
    set(&before);
}

fn lines() {
    for name in ["edited", "word", "killed", "literal", "nothing", "part"] {
        println!("{name}?");
        println!("{name}: {}", read(100));
    }
    let before = settings();
    let mut plain = before;
    plain.c_lflag &= !(libc::ECHO | libc::ECHOE);
    plain.c_lflag |= libc::ECHONL;
    plain.c_cc[libc::VEOL] = b';';
    set(&plain);
    println!("unseen?");
    println!("unseen: {}", read(100));
    println!("ended otherwise?");
    println!("ended otherwise: {} {}", read(100), read(100));
    set(&before);
}
