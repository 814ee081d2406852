//! Every form of waiting for children: `wait4` and `waitid`, by number, group and kind of news, with and without
//! taking the news, and all that can be asked wrongly.

use std::mem::zeroed;
use std::ptr::null_mut;

use libc::{
    CLD_CONTINUED, CLD_EXITED, CLD_KILLED, CLD_STOPPED, P_ALL, P_PGID, P_PID, WCONTINUED, WEXITED,
    WNOHANG, WNOWAIT, WSTOPPED, WUNTRACED, c_int, siginfo_t,
};
use programs::{spawn, wait};

fn main() {
    codes();
    left();
    stops();
    both_calls();
    groups();
    wrong();
    nobody();
    used();
    not_wanted();
    information_is_optional();
}

fn error() -> c_int {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// A child that waits to be killed.
fn sleeper() -> c_int {
    spawn(|| {
        loop {
            // SAFETY: no preconditions.
            unsafe { libc::pause() };
        }
    })
}

fn send(to: c_int, signal: c_int) {
    // SAFETY: to a child or a group of ours.
    assert_eq!(unsafe { libc::kill(to, signal) }, 0, "kill: {}", error());
}

fn name(code: c_int) -> &'static str {
    match code {
        0 => "nothing",
        CLD_EXITED => "exited",
        CLD_KILLED => "killed",
        CLD_STOPPED => "stopped",
        CLD_CONTINUED => "continued",
        _ => "other",
    }
}

/// `waitid`, told in words; `child` is told as such.
fn waitid(kind: libc::idtype_t, id: c_int, options: c_int, child: c_int) -> String {
    // SAFETY: plain data, filled with what no kernel writes.
    let mut info: siginfo_t = unsafe { zeroed() };
    info.si_signo = 77;
    info.si_errno = 77;
    info.si_code = 77;
    // SAFETY: `info` is writable.
    let result = unsafe { libc::waitid(kind, id as libc::id_t, &mut info, options) };
    // SAFETY: the fields of a child's news.
    let (pid, uid, status) = unsafe { (info.si_pid(), info.si_uid(), info.si_status()) };
    // SAFETY: no preconditions.
    let own = unsafe { libc::getuid() };
    let who = match pid {
        0 => "nobody".to_owned(),
        pid if pid == child => "the child".to_owned(),
        _ => "another".to_owned(),
    };
    match result {
        -1 => format!("error {}", error()),
        _ => format!(
            "signal {} errno {} {} {who} status {status} uid right: {}",
            info.si_signo,
            info.si_errno,
            name(info.si_code),
            pid == 0 || uid == own
        ),
    }
}

fn wait4(pid: c_int, options: c_int, child: c_int) -> String {
    let mut status = 0;
    // SAFETY: `status` is writable.
    let result = unsafe { libc::waitpid(pid, &mut status, options) };
    match result {
        -1 => format!("error {}", error()),
        0 => "no news".to_owned(),
        pid if pid == child => format!("status {status:#x}"),
        _ => format!("another, status {status:#x}"),
    }
}

fn codes() {
    for code in [0, 7, 255, 256 + 3] {
        let child = spawn(move || code);
        println!("exit {code}: {}", waitid(P_PID, child, WEXITED, child));
    }
    for signal in [libc::SIGKILL, libc::SIGTERM] {
        let child = sleeper();
        send(child, signal);
        println!("kill {signal}: {}", waitid(P_ALL, 0, WEXITED, child));
    }
}

fn left() {
    let child = spawn(|| 5);
    println!("left: {}", waitid(P_PID, child, WEXITED | WNOWAIT, child));
    println!("again: {}", waitid(P_ALL, 0, WEXITED | WNOWAIT, child));
    println!(
        "no stop of the dead: {}",
        waitid(P_PID, child, WSTOPPED | WNOHANG, child)
    );
    println!("taken: {}", wait4(child, 0, child));
    println!("gone: {}", waitid(P_PID, child, WEXITED | WNOWAIT, child));
}

fn stops() {
    let child = sleeper();
    println!("runs: {}", waitid(P_PID, child, WEXITED | WNOHANG, child));
    send(child, libc::SIGSTOP);
    println!("left: {}", waitid(P_PID, child, WSTOPPED | WNOWAIT, child));
    println!(
        "end only: {}",
        waitid(P_PID, child, WEXITED | WNOHANG, child)
    );
    println!("taken: {}", waitid(P_PID, child, WSTOPPED, child));
    println!(
        "no more: {}",
        waitid(P_PID, child, WSTOPPED | WNOHANG, child)
    );
    send(child, libc::SIGCONT);
    println!(
        "left: {}",
        waitid(P_PID, child, WCONTINUED | WNOWAIT, child)
    );
    println!(
        "taken: {}",
        waitid(P_PID, child, WCONTINUED | WSTOPPED, child)
    );
    println!(
        "no more: {}",
        waitid(P_PID, child, WCONTINUED | WSTOPPED | WNOHANG, child)
    );
    // A stopped process dies of SIGKILL, and does not go on first.
    send(child, libc::SIGSTOP);
    println!("once more: {}", waitid(P_PID, child, WSTOPPED, child));
    send(child, libc::SIGKILL);
    let all = WEXITED | WSTOPPED | WCONTINUED;
    println!("killed: {}", waitid(P_PID, child, all, child));
}

fn both_calls() {
    let child = sleeper();
    send(child, libc::SIGSTOP);
    println!("wait4 stopped: {}", wait4(-1, WUNTRACED, child));
    println!(
        "wait4 no more: {}",
        wait4(child, WUNTRACED | WNOHANG, child)
    );
    send(child, libc::SIGCONT);
    println!("wait4 continued: {}", wait4(child, WCONTINUED, child));
    send(child, libc::SIGTERM);
    println!(
        "wait4 ended: {}",
        wait4(child, WUNTRACED | WCONTINUED, child)
    );
}

fn groups() {
    let first = sleeper();
    // SAFETY: a child of ours that executes nothing.
    assert_eq!(unsafe { libc::setpgid(first, first) }, 0);
    let second = spawn(|| 2);
    println!(
        "its group: {}",
        waitid(P_PGID, first, WEXITED | WNOHANG, first)
    );
    println!("its group by wait4: {}", wait4(-first, WNOHANG, first));
    println!("our group: {}", waitid(P_PGID, 0, WEXITED, second));
    println!("nobody there: {}", waitid(P_PGID, 0, WEXITED, second));
    println!("nobody there by wait4: {}", wait4(0, 0, second));
    send(-first, libc::SIGTERM);
    println!("its group: {}", waitid(P_PGID, first, WEXITED, first));
    println!("no such group: {}", wait4(-first, 0, first));
}

fn wrong() {
    let child = sleeper();
    println!("no kind of news: {}", waitid(P_ALL, 0, 0, child));
    println!(
        "no kind of news: {}",
        waitid(P_ALL, 0, WNOHANG | WNOWAIT, child)
    );
    println!(
        "unknown option: {}",
        waitid(P_ALL, 0, WEXITED | 0x100, child)
    );
    println!("pid 0: {}", waitid(P_PID, 0, WEXITED | WNOHANG, child));
    println!("pid -1: {}", waitid(P_PID, -1, WEXITED | WNOHANG, child));
    println!("group -1: {}", waitid(P_PGID, -1, WEXITED | WNOHANG, child));
    println!(
        "unknown kind: {}",
        waitid(77, child, WEXITED | WNOHANG, child)
    );
    println!("wait4 unknown option: {}", wait4(-1, 0x100, child));
    println!("wait4 WEXITED: {}", wait4(-1, WEXITED, child));
    println!("wait4 smallest: {}", wait4(c_int::MIN, WNOHANG, child));
    println!("no child: {}", waitid(P_PID, 1, WEXITED, child));
    println!(
        "clones only: {}",
        wait4(-1, libc::__WCLONE | WNOHANG, child)
    );
    let both = libc::__WCLONE | libc::__WALL | WNOHANG;
    println!("clones too: {}", wait4(-1, both, child));
    send(child, libc::SIGKILL);
    println!("the end: {}", wait(child));
}

fn nobody() {
    println!("nobody: {}", waitid(P_ALL, 0, WEXITED, 0));
    println!(
        "nobody, at once: {}",
        waitid(P_ALL, 0, WEXITED | WNOHANG, 0)
    );
    // What is told is told even so.
    // SAFETY: plain data.
    let mut info: siginfo_t = unsafe { zeroed() };
    info.si_signo = 77;
    info.si_code = 77;
    // SAFETY: `info` is writable.
    let result = unsafe { libc::waitid(P_ALL, 0, &mut info, WEXITED) };
    println!("{result} {} {}", info.si_signo, info.si_code);
}

/// A child's time is told with its end, and added to its parent's children's.
fn used() {
    let child = spawn(|| {
        let mut sum = 0u64;
        for i in 0..30_000_000u64 {
            sum = std::hint::black_box(sum ^ i);
        }
        i32::from(sum == 1)
    });
    let mut status = 0;
    // SAFETY: both are writable.
    let (usage, children) = unsafe {
        let (mut usage, mut children) = (zeroed::<libc::rusage>(), zeroed::<libc::rusage>());
        assert_eq!(libc::wait4(child, &mut status, 0, &mut usage), child);
        libc::getrusage(libc::RUSAGE_CHILDREN, &mut children);
        (usage, children)
    };
    let micros = |t: libc::timeval| t.tv_sec * 1_000_000 + t.tv_usec;
    println!(
        "used: {} {status}, of all children: {}",
        micros(usage.ru_utime) > 0,
        micros(children.ru_utime) >= micros(usage.ru_utime)
    );
}

/// Who ignores SIGCHLD, or says that it does not wait, has nobody to wait for in the end.
fn not_wanted() {
    for (flags, handler) in [(0, libc::SIG_IGN), (libc::SA_NOCLDWAIT, libc::SIG_DFL)] {
        // SAFETY: plain data; the default and ignoring have no preconditions.
        unsafe {
            let mut action: libc::sigaction = zeroed();
            action.sa_sigaction = handler;
            action.sa_flags = flags;
            assert_eq!(libc::sigaction(libc::SIGCHLD, &action, null_mut()), 0);
        }
        let child = spawn(|| 3);
        println!("not wanted: {}", wait4(child, 0, child));
        println!("any: {}", waitid(P_ALL, 0, WEXITED, child));
    }
    // SAFETY: the default has no preconditions.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

fn information_is_optional() {
    let child = spawn(|| 4);
    // SAFETY: null is allowed.
    let result = unsafe { libc::waitid(P_PID, child as libc::id_t, null_mut(), WEXITED) };
    println!(
        "without: {result}, then {}",
        waitid(P_PID, child, WEXITED, child)
    );
}
