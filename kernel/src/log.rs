//! The kernel log: lines `[seconds] LEVEL text` that go to a channel of their own (QEMU's debug console, a file on
//! the host) and into a ring, which `dmesg` reads.
//!
//! May be used anywhere, interrupt handlers and panics included: a line is put together on the stack, and the
//! ring's lock is only tried, with interrupts off. A line that finds it taken (by another CPU, or by the code that a
//! non-maskable interrupt or a panic has interrupted) still goes to the channel, and is counted as lost for `dmesg`.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicUsize, Ordering};

use arrayvec::ArrayString;
use log::{Level, LevelFilter, Log, Metadata, Record};
use spin::Mutex;

/// Bytes that `dmesg` remembers.
const RING_SIZE: usize = 64 * 1024;
/// A longer line is cut.
const LINE_SIZE: usize = 512;
/// How often a taken lock is tried again.
const PATIENCE: usize = 1000;

/// The last bytes of everything that was written.
struct Ring<const SIZE: usize> {
    bytes: [u8; SIZE],
    written: u64,
}

impl<const SIZE: usize> Ring<SIZE> {
    const fn new() -> Ring<SIZE> {
        Ring {
            bytes: [0; SIZE],
            written: 0,
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.bytes[(self.written % SIZE as u64) as usize] = byte;
            self.written += 1;
        }
    }

    /// Copies from byte number `from` on, or from the oldest there is. Gives the number of the first byte behind.
    fn read(&self, from: u64, out: &mut [u8]) -> (u64, usize) {
        let start = from
            .max(self.written.saturating_sub(SIZE as u64))
            .min(self.written);
        let len = out.len().min((self.written - start) as usize);
        for (number, slot) in (start..).zip(&mut out[..len]) {
            *slot = self.bytes[(number % SIZE as u64) as usize];
        }
        (start + len as u64, len)
    }
}

static RING: Mutex<Ring<RING_SIZE>> = Mutex::new(Ring::new());
static LOST: AtomicUsize = AtomicUsize::new(0);
/// Address of a `fn() -> u64`, 0 until there is a clock.
static CLOCK: AtomicUsize = AtomicUsize::new(0);

struct KernelLog;

impl Log for KernelLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut line = Line(ArrayString::new());
        let us = now_ns() / 1000;
        let level = match record.level() {
            Level::Error => "ERROR ",
            Level::Warn => "WARN ",
            Level::Info => "",
            Level::Debug => "DEBUG ",
            Level::Trace => "TRACE ",
        };
        // A `Line` takes what fits and never fails.
        let _ = write!(
            line,
            "[{:5}.{:06}] {level}{}",
            us / 1_000_000,
            us % 1_000_000,
            record.args()
        );
        line.end();
        emit(line.0.as_bytes());
    }

    fn flush(&self) {}
}

/// A line under construction; what does not fit is dropped.
struct Line(ArrayString<LINE_SIZE>);

impl Line {
    fn end(&mut self) {
        if self.0.is_full() {
            self.0.pop();
        }
        self.0.push('\n');
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut end = text.len().min(self.0.remaining_capacity());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.0.push_str(&text[..end]);
        Ok(())
    }
}

/// Makes the log the one that `log::info!` and its kin write to.
pub fn init(level: LevelFilter) {
    // A second call finds the logger set, which is as good.
    let _ = log::set_logger(&KernelLog);
    log::set_max_level(level);
}

/// From now on lines carry the time that `now` gives, in nanoseconds.
pub fn set_clock(now: fn() -> u64) {
    CLOCK.store(now as usize, Ordering::Release);
}

fn now_ns() -> u64 {
    match CLOCK.load(Ordering::Acquire) {
        0 => 0,
        address => {
            // SAFETY: `set_clock` stored a function of this type.
            let now = unsafe { core::mem::transmute::<usize, fn() -> u64>(address) };
            now()
        }
    }
}

/// Copies what is remembered of the log, from byte number `from` on, to `out`. Gives the number to go on with and how many bytes
/// were copied: 0 at the end.
pub fn read(from: u64, out: &mut [u8]) -> (u64, usize) {
    without_interrupts(|| RING.lock().read(from, out))
}

/// Lines that went to the channel but not into what [`read`] gives.
pub fn lost_lines() -> usize {
    LOST.load(Ordering::Relaxed)
}

fn emit(line: &[u8]) {
    without_interrupts(|| {
        for _ in 0..PATIENCE {
            if let Some(mut ring) = RING.try_lock() {
                ring.push(line);
                channel(line);
                return;
            }
            core::hint::spin_loop();
        }
        LOST.fetch_add(1, Ordering::Relaxed);
        channel(line);
    });
}

#[cfg(target_os = "none")]
fn channel(line: &[u8]) {
    crate::arch::debugcon_write(line);
}

/// On the host (tests) there is only the ring.
#[cfg(not(target_os = "none"))]
fn channel(_: &[u8]) {}

#[cfg(target_os = "none")]
fn without_interrupts<T>(body: impl FnOnce() -> T) -> T {
    x86_64::instructions::interrupts::without_interrupts(body)
}

#[cfg(not(target_os = "none"))]
fn without_interrupts<T>(body: impl FnOnce() -> T) -> T {
    body()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    #[test]
    fn the_ring_remembers_the_last_bytes() {
        let mut ring = Ring::<8>::new();
        let mut out = [0; 5];
        assert_eq!(ring.read(0, &mut out), (0, 0));
        ring.push(b"abc");
        assert_eq!(ring.read(1, &mut out), (3, 2));
        assert_eq!(&out[..2], b"bc");
        ring.push(b"defghij");
        assert_eq!(
            ring.read(0, &mut out),
            (7, 5),
            "the first two bytes are gone"
        );
        assert_eq!(&out, b"cdefg");
        assert_eq!(ring.read(7, &mut out), (10, 3));
        assert_eq!(ring.read(99, &mut out), (10, 0));
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let mut line = Line(ArrayString::new());
        for _ in 0..LINE_SIZE {
            line.write_str("äö").unwrap();
        }
        line.end();
        assert!(line.0.len() <= LINE_SIZE);
        assert!(line.0.ends_with('\n'));
    }

    #[test]
    fn lines_reach_the_ring() {
        init(LevelFilter::Info);
        log::info!("number {}", 42);
        log::debug!("not this");
        let mut out = [0; 4096];
        let (_, len) = read(0, &mut out);
        let text = String::from_utf8_lossy(&out[..len]).into_owned();
        assert!(text.contains("[    0.000000] number 42\n"), "{text}");
        assert!(!text.contains("not this"));
    }
}
