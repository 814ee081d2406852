//! Time: nanoseconds since boot from the time stamp counter, the local APIC's timer, and the time of day.
//!
//! Set up once at boot, before there is a second CPU; only read afterwards.

use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicU64, Ordering};

use conquer_once::spin::OnceCell;
use drivers::clock::{self, Rate};

use super::interrupts::{self, Handler};

/// What an instruction-counting emulator runs both counters at.
const EMULATED_HZ: u64 = 1_000_000_000;

struct Clocks {
    tsc: Rate,
    timer: Rate,
}

static CLOCKS: OnceCell<Clocks> = OnceCell::uninit();
/// The time stamp counter when the clock started.
static TSC_START: AtomicU64 = AtomicU64::new(0);
/// Nanoseconds per tick of the time stamp counter, times 2^32: apart from `CLOCKS`, because every poll of a task reads it.
static TSC_SCALE: AtomicU64 = AtomicU64::new(0);
/// Seconds since 1970 when the clock started.
static UNIX_START: AtomicU64 = AtomicU64::new(0);

/// Whether time is real or counted in instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeKind {
    /// Real: rates are what was measured.
    Real,
    /// Counted: rates near 1 GHz are exactly that.
    Counted,
}

#[inline]
fn tsc() -> u64 {
    // SAFETY: every x86-64 CPU has the counter, and ring 0 may always read it.
    unsafe { _rdtsc() }
}

/// Measures the rates and starts the clock at 0. The local APIC must be on.
///
/// # Safety
/// To be called once, at boot, with interrupts off.
pub unsafe fn init(kind: TimeKind) {
    let apic = interrupts::local_apic();
    // SAFETY: interrupts are off, and nothing else in this kernel uses the interval timer.
    let tsc_hz = unsafe { clock::measure(tsc) };
    apic.run_timer_silently();
    // SAFETY: as above.
    let timer_hz = unsafe { clock::measure(|| u64::from(u32::MAX - apic.timer_left())) };
    apic.start_timer(0);
    let rate = |measured| match kind {
        TimeKind::Real => Rate::from_hz(measured),
        TimeKind::Counted => Rate::from_hz(clock::snap(measured, EMULATED_HZ)),
    };
    let clocks = CLOCKS.get_or_init(|| Clocks {
        tsc: rate(tsc_hz),
        timer: rate(timer_hz),
    });
    // SAFETY: at boot, alone.
    UNIX_START.store(unsafe { clock::rtc_unix_time() }, Ordering::Relaxed);
    TSC_START.store(tsc(), Ordering::Relaxed);
    TSC_SCALE.store(clocks.tsc.scale(), Ordering::Relaxed);
    crate::log::set_clock(now);
    log::info!(
        "clock: TSC {} kHz, timer {} kHz (measured {} and {})",
        clocks.tsc.hz() / 1000,
        clocks.timer.hz() / 1000,
        tsc_hz / 1000,
        timer_hz / 1000,
    );
}

/// Nanoseconds since the clock started; 0 before.
#[inline]
pub fn now() -> u64 {
    ticks_to_ns(tsc().wrapping_sub(TSC_START.load(Ordering::Relaxed)))
}

/// The time stamp counter, which [`ticks_to_ns`] makes nanoseconds of: for spans that are added up on hot paths.
#[inline]
pub fn ticks() -> u64 {
    tsc()
}

/// How long `ticks` of the time stamp counter take, in nanoseconds, rounded down.
#[inline]
pub fn ticks_to_ns(ticks: u64) -> u64 {
    Rate::scaled(ticks, TSC_SCALE.load(Ordering::Relaxed))
}

/// Nanoseconds since 1970, by the battery-backed clock at boot and this clock since.
pub fn unix_now() -> u64 {
    UNIX_START.load(Ordering::Relaxed) * 1_000_000_000 + now()
}

/// Has this CPU's timer call `handler` (interrupts off) each time that it has run out.
pub fn start_timer(handler: Handler) {
    assert!(
        interrupts::set_handler(interrupts::TIMER, handler),
        "the timer has a handler already"
    );
    interrupts::local_apic().enable_timer(interrupts::TIMER);
}

/// Programs this CPU's timer for the time `deadline` in nanoseconds, or turns it off. It comes at once when
/// `deadline` has passed, and early when `deadline` is further off than the timer can count.
#[inline]
pub fn arm(deadline: Option<u64>) {
    let apic = interrupts::local_apic();
    let ticks = match (deadline, CLOCKS.get()) {
        (Some(deadline), Some(clocks)) => {
            let ticks = clocks.timer.to_ticks(deadline.saturating_sub(now()));
            u32::try_from(ticks).unwrap_or(u32::MAX).max(1)
        }
        _ => 0,
    };
    apic.start_timer(ticks);
}
