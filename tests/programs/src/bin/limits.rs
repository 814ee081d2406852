//! Limits and what was used: what binds, what is told, of this process and of others. Says no times and no sizes of its own.

use std::hint::black_box;
use std::io::Error;
use std::mem::zeroed;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use libc::{PROT_READ, PROT_WRITE, c_int, c_void, rlimit, rusage};
use programs::{Mapping, PAGE, in_child, spawn, wait};

fn main() {
    told();
    refused();
    files();
    memory();
    of_another();
    processor();
    faults();
    times();
}

fn errno() -> i32 {
    Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn limit_of(process: c_int, kind: u32, new: Option<(u64, u64)>) -> Result<(u64, u64), i32> {
    let new = new.map(|(soft, hard)| rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    });
    let from = new.as_ref().map_or(null(), |new| &raw const *new);
    // SAFETY: both are ours.
    unsafe {
        let mut old: rlimit = zeroed();
        match libc::prlimit(process, kind, from, &mut old) {
            0 => Ok((old.rlim_cur, old.rlim_max)),
            _ => Err(errno()),
        }
    }
}

fn set(kind: u32, soft: u64, hard: u64) -> i32 {
    limit_of(0, kind, Some((soft, hard))).err().unwrap_or(0)
}

/// Limits are kept and inherited, whether they bind or not.
fn told() {
    for kind in [
        libc::RLIMIT_NPROC,
        libc::RLIMIT_SIGPENDING,
        libc::RLIMIT_CORE,
        libc::RLIMIT_RSS,
        libc::RLIMIT_STACK,
        libc::RLIMIT_NOFILE,
    ] {
        let told = in_child(|| {
            let set = set(kind, 50, 60);
            let inherited = in_child(|| i32::from(limit_of(0, kind, None) == Ok((50, 60))));
            set * 2 + (inherited.0 >> 8)
        });
        println!("limit {kind}: {told}");
    }
}

fn refused() {
    let ask = |kind| limit_of(0, kind, None).map(|_| ());
    println!(
        "refused: {:?} {:?} {:?} {:?}",
        ask(16),
        ask(u32::MAX),
        limit_of(0, libc::RLIMIT_CPU, Some((2, 1))).map(|_| ()),
        limit_of(0x3fff_ffff, libc::RLIMIT_CPU, None).map(|_| ()),
    );
}

fn files() {
    let most = in_child(|| {
        set(libc::RLIMIT_NOFILE, 10, 20);
        // SAFETY: descriptors of our own.
        while unsafe { libc::dup(1) } >= 0 {}
        errno()
    });
    println!("files: {most}");
}

fn memory() {
    let space = in_child(|| {
        set(libc::RLIMIT_AS, 64 << 20, 64 << 20);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: the kernel chooses a place.
        let at = unsafe { libc::mmap(null_mut(), 256 << 20, PROT_READ, flags, -1, 0) };
        if at == libc::MAP_FAILED { errno() } else { 0 }
    });
    let data = in_child(|| {
        set(libc::RLIMIT_DATA, 1 << 20, 1 << 20);
        // SAFETY: only ever more than there is.
        let at = unsafe { libc::sbrk(64 << 20) };
        if at == usize::MAX as *mut c_void {
            errno()
        } else {
            0
        }
    });
    println!("space: {space}, data: {data}");
}

fn of_another() {
    let (from, to) = std::io::pipe().expect("a pipe");
    let child = spawn(|| {
        // SAFETY: the child's own copy; its destructor does not run.
        unsafe { libc::close(std::os::fd::AsRawFd::as_raw_fd(&to)) };
        let mut nothing = [0_u8];
        // Until the other end has set it.
        let _ = std::io::Read::read(&mut &from, &mut nothing);
        i32::from(limit_of(0, libc::RLIMIT_NOFILE, None) == Ok((30, 40)))
    });
    drop(from);
    let set = limit_of(child, libc::RLIMIT_NOFILE, Some((30, 40))).is_ok();
    let told = limit_of(child, libc::RLIMIT_NOFILE, None);
    drop(to);
    println!("of another: {set} {told:?}, it sees that: {}", wait(child));
}

static WARNINGS: AtomicU32 = AtomicU32::new(0);

extern "C" fn warned(_: c_int) {
    WARNINGS.fetch_add(1, SeqCst);
}

fn spin() -> ! {
    loop {
        black_box((0..1000_u64).sum::<u64>());
    }
}

fn processor() {
    let warned_only = in_child(|| {
        set(libc::RLIMIT_CPU, 1, 100);
        spin()
    });
    let shared = Mapping::anonymous(PAGE, PROT_READ | PROT_WRITE, libc::MAP_SHARED);
    let killed = in_child(|| {
        // SAFETY: the handler only counts.
        unsafe { libc::signal(libc::SIGXCPU, warned as *const () as usize) };
        set(libc::RLIMIT_CPU, 1, 2);
        loop {
            black_box((0..1000_u64).sum::<u64>());
            let warnings = WARNINGS.load(SeqCst);
            if warnings == 1 && shared.read(0) == 0 {
                let soft = limit_of(0, libc::RLIMIT_CPU, None).map_or(0, |(soft, _)| soft);
                shared.write(1, soft as u8);
                shared.write(0, 1);
            }
        }
    });
    println!(
        "processor: {warned_only}; warned {}, then the limit {}, {killed}",
        shared.read(0),
        shared.read(1)
    );
}

fn usage(who: c_int) -> rusage {
    // SAFETY: written to by the kernel alone.
    unsafe {
        let mut usage = zeroed();
        assert_eq!(libc::getrusage(who, &mut usage), 0);
        usage
    }
}

fn faults() {
    let before = usage(libc::RUSAGE_SELF);
    let memory = Mapping::anonymous(1000 * PAGE, PROT_READ | PROT_WRITE, libc::MAP_PRIVATE);
    // SAFETY: its own memory; huge pages would hide what is counted.
    unsafe { libc::madvise(memory.base().cast(), memory.len(), libc::MADV_NOHUGEPAGE) };
    (0..1000).for_each(|page| memory.write(page * PAGE, 1));
    let after = usage(libc::RUSAGE_SELF);
    let thread = usage(libc::RUSAGE_THREAD);
    println!(
        "faults: {}, the thread's {}, in memory {}",
        (1000..2000).contains(&(after.ru_minflt - before.ru_minflt)),
        thread.ru_minflt >= 1000,
        (3900..100_000).contains(&after.ru_maxrss)
    );
    let slept = usage(libc::RUSAGE_SELF).ru_nvcsw;
    (0..10).for_each(|_| std::thread::sleep(Duration::from_millis(2)));
    let slept = usage(libc::RUSAGE_SELF).ru_nvcsw - slept;
    println!("waits: {}", (10..30).contains(&slept));
}

fn user(usage: rusage) -> Duration {
    let time = usage.ru_utime;
    Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000)
}

fn clock(which: c_int) -> Duration {
    // SAFETY: plain data.
    unsafe {
        let mut time: libc::timespec = zeroed();
        libc::clock_gettime(which, &mut time);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
}

/// Spins until the process has used so much more.
fn use_up(ms: u64) {
    let until = user(usage(libc::RUSAGE_SELF)) + Duration::from_millis(ms);
    let begun = Instant::now();
    while user(usage(libc::RUSAGE_SELF)) < until && begun.elapsed() < Duration::from_secs(30) {
        black_box((0..10_000_u64).sum::<u64>());
    }
}

fn times() {
    let long = Duration::from_millis(90);
    let child = in_child(|| {
        use_up(100);
        0
    });
    let children = usage(libc::RUSAGE_CHILDREN);
    println!("child: {child}, its time {}", user(children) >= long);
    let (own, all) = (
        user(usage(libc::RUSAGE_THREAD)),
        user(usage(libc::RUSAGE_SELF)),
    );
    let of_thread = std::thread::spawn(move || {
        use_up(100);
        let own = user(usage(libc::RUSAGE_THREAD)) >= long;
        own && clock(libc::CLOCK_THREAD_CPUTIME_ID) >= long
    });
    let of_thread = of_thread.join().expect("it ends");
    println!(
        "thread: its own {of_thread}, not this one's {}, the process's {}, by the clock {}",
        user(usage(libc::RUSAGE_THREAD)) - own < long,
        user(usage(libc::RUSAGE_SELF)) - all >= long,
        clock(libc::CLOCK_PROCESS_CPUTIME_ID) >= clock(libc::CLOCK_THREAD_CPUTIME_ID) + long / 2
    );
    // SAFETY: an address that is nobody's.
    let refused = unsafe { libc::getrusage(7, null_mut()) };
    println!("whose: {refused} {}", errno());
}
