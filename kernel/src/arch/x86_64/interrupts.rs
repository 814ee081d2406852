//! Which handler serves which interrupt. Handlers run with interrupts off and must keep to the rule for them: no
//! lock that a task takes, no allocation; acknowledge, push, wake, return.
//!
//! ```text
//!   0..=31    exceptions
//!  32..=47    lines of the I/O APIC, 32 + line (and stray interrupts of the old controllers, which are masked)
//!  48..=239   handed out by `allocate` (MSI, MSI-X)
//! 240         the local APIC's timer
//! 255         spurious: counted, not acknowledged
//! ```

use core::sync::atomic::{AtomicU8, Ordering};

use conquer_once::spin::OnceCell;
use drivers::apic::LocalApic;

use super::percpu::PerCpu;

/// First vector that is not an exception.
pub(super) const FIRST_VECTOR: u8 = 32;
/// Vector of line 0 of the I/O APIC.
pub(super) const LINE_BASE: u8 = 32;
const FIRST_FREE: u8 = 48;
const LAST_FREE: u8 = 239;
pub(super) const TIMER: u8 = 240;
pub(super) const SPURIOUS: u8 = 255;

/// A handler, called with interrupts off.
pub type Handler = &'static (dyn Fn() + Sync);

static HANDLERS: [OnceCell<Handler>; 256] = [const { OnceCell::uninit() }; 256];
/// For each vector, one more whose handler is to be called; 0 for none.
static JOINED: [AtomicU8; 256] = [const { AtomicU8::new(0) }; 256];
static NEXT: AtomicU8 = AtomicU8::new(FIRST_FREE);
static LOCAL_APIC: OnceCell<LocalApic> = OnceCell::uninit();

/// Makes interrupts acknowledged through `apic`.
pub(super) fn set_local_apic(apic: LocalApic) {
    LOCAL_APIC.init_once(|| apic);
}

/// This CPU's local APIC. Panics before it was found.
#[inline]
pub(super) fn local_apic() -> &'static LocalApic {
    LOCAL_APIC
        .get()
        .expect("the local APIC has not been set up")
}

/// Sets the handler of a vector, for good. `false` if it has one.
pub(super) fn set_handler(vector: u8, handler: Handler) -> bool {
    HANDLERS[vector as usize].try_init_once(|| handler).is_ok()
}

/// A vector of its own for `handler`; `None` when they are used up.
pub(super) fn allocate(handler: Handler) -> Option<u8> {
    let next = |vector: u8| (vector <= LAST_FREE).then_some(vector + 1);
    let vector = NEXT
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
        .ok()?;
    set_handler(vector, handler).then_some(vector)
}

/// From now on an interrupt of `first` calls the handler of `second` too: several devices on one line. At boot only.
pub(super) fn join(first: u8, second: u8) {
    let mut last = first;
    loop {
        if last == second {
            return;
        }
        match JOINED[last as usize].load(Ordering::Relaxed) {
            0 => break,
            next => last = next,
        }
    }
    JOINED[last as usize].store(second, Ordering::Release);
}

/// Serves an interrupt. Interrupts are off.
pub(super) fn dispatch(vector: u8) {
    let cpu = PerCpu::current();
    cpu.interrupts.fetch_add(1, Ordering::Relaxed);
    let mut current = vector;
    loop {
        match HANDLERS[current as usize].get() {
            Some(handler) => handler(),
            None => {
                cpu.unexpected.fetch_add(1, Ordering::Relaxed);
            }
        }
        current = JOINED[current as usize].load(Ordering::Acquire);
        if current == 0 {
            break;
        }
    }
    if vector != SPURIOUS
        && let Some(apic) = LOCAL_APIC.get()
    {
        apic.end_of_interrupt();
    }
}
