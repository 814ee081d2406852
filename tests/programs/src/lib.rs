//! What the programs share: children and how they ended, raw mappings, a checksum; and what makes up a load:
//! patterns of touches, and stamps that tell whether a page is still what it was.
//!
//! Everything here is plain Linux through `libc`; nothing knows about auvm.

use std::ffi::c_int;
use std::io::{self, Write};
use std::ptr::NonNull;

pub mod borrowed;
pub mod gate;
pub mod pattern;
pub mod size;
pub mod stamp;
pub mod thread;

/// Bytes in a page.
pub const PAGE: usize = 4096;

/// Words of 64 bits in a page.
pub const WORDS_PER_PAGE: usize = PAGE / size_of::<u64>();

/// Runs `body` in a forked child and returns its process id. A child that comes to the end of `body`
/// exits with what it answers.
///
/// # Panics
/// When fork fails.
pub fn spawn(body: impl FnOnce() -> i32) -> c_int {
    try_spawn(body).unwrap_or_else(|error| panic!("fork: {error}"))
}

/// As [`spawn`], for a program that goes on without the child.
///
/// # Errors
/// Those of fork.
pub fn try_spawn(body: impl FnOnce() -> i32) -> io::Result<c_int> {
    // What is buffered would come out twice.
    std::io::stdout()
        .flush()
        .expect("standard output can be written");
    // SAFETY: the programs have one thread, so the child may do all that the parent may.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let status = body();
            std::io::stdout()
                .flush()
                .expect("standard output can be written");
            // SAFETY: ends the process; no destructor of the parent's is to run twice.
            unsafe { libc::_exit(status) }
        }
        child => Ok(child),
    }
}

/// Waits for a child.
///
/// # Panics
/// When there is no such child.
pub fn wait(child: c_int) -> Ended {
    let mut status = 0;
    // SAFETY: `status` is writable.
    let waited = unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(
        waited,
        child,
        "waitpid: {}",
        std::io::Error::last_os_error()
    );
    Ended(status)
}

/// Runs `body` in a child, with faults at their default action, and waits for its end.
pub fn in_child(body: impl FnOnce() -> i32) -> Ended {
    wait(spawn(|| {
        // Rust's runtime catches these to explain a stack overflow.
        for signal in [libc::SIGSEGV, libc::SIGBUS] {
            // SAFETY: the default action has no preconditions.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        body()
    }))
}

/// How a child ended, as `wait4` tells it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ended(pub c_int);

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if libc::WIFEXITED(self.0) {
            write!(f, "exit {}", libc::WEXITSTATUS(self.0))
        } else if libc::WIFSIGNALED(self.0) {
            write!(f, "signal {}", libc::WTERMSIG(self.0))
        } else {
            write!(f, "status {:#x}", self.0)
        }
    }
}

/// A mapping of whole pages, unmapped when dropped.
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// Maps anonymous memory, `flags` besides `MAP_ANONYMOUS`.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn anonymous(len: usize, prot: c_int, flags: c_int) -> Mapping {
        Mapping::new(len, prot, flags | libc::MAP_ANONYMOUS, -1)
            .unwrap_or_else(|error| panic!("mmap: {error}"))
    }

    /// Maps anonymous memory to read and write, for a program that can say that there is not so much.
    ///
    /// # Errors
    /// Those of mmap.
    pub fn try_anonymous(len: usize, flags: c_int) -> io::Result<Mapping> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        Mapping::new(len, prot, flags | libc::MAP_ANONYMOUS, -1)
    }

    /// Maps `len` bytes of an open file from its beginning.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn file(file: &std::fs::File, len: usize, prot: c_int, flags: c_int) -> Mapping {
        Mapping::new(len, prot, flags, std::os::fd::AsRawFd::as_raw_fd(file))
            .unwrap_or_else(|error| panic!("mmap: {error}"))
    }

    fn new(len: usize, prot: c_int, flags: c_int, file: c_int) -> io::Result<Mapping> {
        // SAFETY: without MAP_FIXED the kernel chooses a place that nothing else uses.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), len, prot, flags, file, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).expect("a mapping is never at address 0");
        Ok(Mapping { base, len })
    }

    /// Its first byte.
    pub fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes; never so.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its whole pages, as words.
    pub fn pages(&self) -> &[stamp::Page] {
        // SAFETY: the mapping begins at a page, is as long as this says, and goes away only with `self`; any bytes
        // are words, and atomic ones may change under others' hands. A fault is what the programs are about.
        unsafe { std::slice::from_raw_parts(self.base().cast(), self.len / PAGE) }
    }

    /// Reads one byte. The compiler does not know what it is, nor leaves the access out.
    pub fn read(&self, at: usize) -> u8 {
        assert!(at < self.len);
        // SAFETY: inside the mapping; a fault is what the programs are about.
        unsafe { self.base().add(at).read_volatile() }
    }

    /// Writes one byte.
    pub fn write(&self, at: usize, value: u8) {
        assert!(at < self.len);
        // SAFETY: inside the mapping; a fault is what the programs are about.
        unsafe { self.base().add(at).write_volatile(value) }
    }

    /// Changes the protection of the bytes in `from..from + len`.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn protect(&self, from: usize, len: usize, prot: c_int) {
        assert!(from + len <= self.len);
        // SAFETY: inside the mapping, through which all accesses are volatile.
        let done = unsafe { libc::mprotect(self.base().add(from).cast(), len, prot) };
        assert_eq!(done, 0, "mprotect: {}", std::io::Error::last_os_error());
    }

    /// A checksum over all bytes.
    pub fn checksum(&self) -> u64 {
        (0..self.len)
            .fold(Checksum::default(), |sum, at| sum.with(self.read(at)))
            .0
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nothing refers to the mapping any more.
        unsafe { libc::munmap(self.base().cast(), self.len) };
    }
}

/// The running program's own file.
///
/// # Panics
/// When its first argument is not its path.
pub fn own_file() -> std::fs::File {
    let path = std::env::args_os().next().expect("a program has a name");
    std::fs::File::open(path).expect("a program can read itself")
}

/// What a system call's wrapper returned: `ok`, or the error's number.
pub fn outcome(result: c_int) -> String {
    match result {
        -1 => format!(
            "error {}",
            std::io::Error::last_os_error()
                .raw_os_error()
                .unwrap_or_default()
        ),
        _ => "ok".to_owned(),
    }
}

/// FNV-1a over bytes.
#[derive(Clone, Copy)]
pub struct Checksum(pub u64);

impl Default for Checksum {
    fn default() -> Checksum {
        Checksum(0xcbf2_9ce4_8422_2325)
    }
}

impl Checksum {
    /// The checksum with one more byte.
    #[must_use]
    pub fn with(self, byte: u8) -> Checksum {
        Checksum((self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
    }

    /// The checksum with more bytes.
    #[must_use]
    pub fn extend(self, bytes: &[u8]) -> Checksum {
        bytes.iter().fold(self, |sum, byte| sum.with(*byte))
    }
}

/// A permutation of all numbers that leaves no trace of their order (the finaliser of SplitMix64).
#[must_use]
pub fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Pseudo-random numbers (xorshift64*), the same everywhere.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence of its own for each seed.
    pub fn new(seed: u64) -> Random {
        // Seeds close to each other must not give sequences close to each other; and zero gives none.
        Random((seed.wrapping_add(1)).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % limit
    }
}
