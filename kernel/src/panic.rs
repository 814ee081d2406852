//! The end of a kernel that has found a bug in itself: says what happened on the log and on the console, with
//! a backtrace (`  #N 0xADDRESS`, one line each, which the launcher turns into names) and the state of the virtual
//! memory system, and ends the machine with the status for a panic.
//!
//! Takes no lock that could be held and allocates nothing. Needs frame pointers (the launcher builds with them).

use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering};

use conquer_once::spin::OnceCell;
use x86_64::instructions::interrupts;

use crate::arch::{self, ExitCode, TrapFrame, paging};

/// Deepest call that is shown.
const MAX_FRAMES: usize = 48;

/// Says more about the system's state: counters, above all. Must not wait, lock or allocate.
pub type Report = fn(&mut dyn Write) -> fmt::Result;

static REPORT: OnceCell<Report> = OnceCell::uninit();
/// How many panics are under way: a report may itself meet the bug.
static DEPTH: AtomicUsize = AtomicUsize::new(0);

/// Has `report` called after the backtrace of a panic. The first call counts.
pub fn set_report(report: Report) {
    let _ = REPORT.try_init_once(|| report);
}

/// Log channel and console together.
struct LastWords;

impl Write for LastWords {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        arch::debugcon_write(text.as_bytes());
        for line in text.split_inclusive('\n') {
            match line.strip_suffix('\n') {
                Some(line) => {
                    arch::serial_write(line.as_bytes());
                    arch::serial_write(b"\r\n");
                }
                None => arch::serial_write(line.as_bytes()),
            }
        }
        Ok(())
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let rbp: u64;
    // SAFETY: reads a register.
    unsafe {
        core::arch::asm!("mov {}, rbp", out(reg) rbp, options(nostack, nomem, preserves_flags))
    };
    die(format_args!("{info}"), None, rbp)
}

/// A trap inside the kernel that nothing was prepared for. `address` is what CR2 held.
pub fn on_trap(frame: &TrapFrame, address: u64) -> ! {
    let (vector, error) = frame.trap_number();
    let what = match vector {
        0 => "division error",
        // QEMU's monitor sends one with `nmi`: a kernel that hangs says where.
        2 => "non-maskable interrupt",
        6 => "invalid instruction",
        8 => "double fault (stack overflow?)",
        13 => "general protection fault",
        14 => "page fault",
        18 => "machine check",
        _ => "unexpected exception",
    };
    die(
        format_args!(
            "{what} in the kernel: vector {vector} error {error:#x} address {address:#x}\n\
             rip {:#018x} rsp {:#018x} rflags {:#x}\n\
             rax {:#018x} rbx {:#018x} rcx {:#018x} rdx {:#018x}\n\
             rsi {:#018x} rdi {:#018x} rbp {:#018x} r8  {:#018x}\n\
             r9  {:#018x} r10 {:#018x} r11 {:#018x} r12 {:#018x}\n\
             r13 {:#018x} r14 {:#018x} r15 {:#018x}",
            frame.rip,
            frame.rsp,
            frame.flags(),
            frame.rax,
            frame.rbx,
            frame.rcx,
            frame.rdx,
            frame.rsi,
            frame.rdi,
            frame.rbp,
            frame.r8,
            frame.r9,
            frame.r10,
            frame.r11,
            frame.r12,
            frame.r13,
            frame.r14,
            frame.r15,
        ),
        Some(frame.rip),
        frame.rbp,
    )
}

/// Nothing can ever run again: `report` says what waits for what. Programs may do that to themselves, so it is no panic; but nobody
/// is there to end them, and so the machine ends.
pub fn on_deadlock(report: &dyn fmt::Display) -> ! {
    interrupts::disable();
    // `LastWords` never fails.
    let _ = writeln!(
        LastWords,
        "auvm: deadlock: nothing can ever run again; these tasks wait:\n{report}"
    );
    arch::exit(ExitCode::CommandFailed)
}

fn die(message: fmt::Arguments<'_>, rip: Option<u64>, rbp: u64) -> ! {
    interrupts::disable();
    let mut out = LastWords;
    // `LastWords` never fails.
    let _ = match DEPTH.fetch_add(1, Ordering::Relaxed) {
        0 => last_words(&mut out, message, rip, rbp),
        1 => writeln!(out, "\nand while that was being reported: {message}"),
        _ => Ok(()),
    };
    arch::exit(ExitCode::Panic)
}

fn last_words(
    out: &mut LastWords,
    message: fmt::Arguments<'_>,
    rip: Option<u64>,
    rbp: u64,
) -> fmt::Result {
    writeln!(out, "\nkernel panic: {message}")?;
    writeln!(out, "backtrace:")?;
    let addresses = rip.into_iter().chain(FramePointers { next: rbp });
    for (number, address) in addresses.take(MAX_FRAMES).enumerate() {
        writeln!(out, "  #{number} {address:#x}")?;
    }
    match REPORT.get() {
        Some(report) => report(out),
        None => Ok(()),
    }
}

/// Return addresses, innermost first, by the chain of frame pointers: each points to the caller's frame pointer, with the
/// return address above it.
struct FramePointers {
    next: u64,
}

impl Iterator for FramePointers {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let frame = self.next;
        if !frame.is_multiple_of(8) || !paging::is_stack(frame) || !paging::is_stack(frame + 8) {
            return None;
        }
        // SAFETY: both words lie in a stack of this kernel's.
        let (caller, address) = unsafe { (*(frame as *const u64), *((frame + 8) as *const u64)) };
        // The chain leads upwards, or it is broken.
        self.next = if caller > frame { caller } else { 0 };
        paging::is_text(address).then_some(address)
    }
}
