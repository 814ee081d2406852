//! The PS/2 keyboard: an i8042 controller, and what its keys mean to a terminal.
//!
//! [`Keyboard::new`] brings the controller up (`controller`); from then on scancodes come by interrupt into a bounded
//! queue, and [`Keyboard::read_byte`] turns them (`keys`) into the bytes that a serial terminal would send.
//!
//! # How it synchronises
//!
//! The handler reads the controller's two registers, pushes scancodes to an `ArrayQueue` and wakes; after
//! `Keyboard::new` nobody else touches the registers. `keys`, a spin lock, covers the decoder, for whoever reads.
//! Scancodes that find the queue full are lost, as in hardware.

mod controller;
mod keys;
#[cfg(test)]
mod tests;

pub use controller::Ps2Error;

use alloc::boxed::Box;
use core::future::poll_fn;
use core::task::Poll;
use crossbeam_queue::ArrayQueue;
use executor::sync::{AtomicWaker, SpinLock};

use self::controller::{AUX_DATA, DATA, OUTPUT_FULL, STATUS};
use self::keys::Keys;
use crate::Interrupts;
use crate::io::Registers;

/// The controller's first port; its status and command register is the fourth behind it.
pub const PORTS: u16 = 0x60;
/// The keyboard's ISA interrupt.
pub const IRQ: u8 = 1;

/// Scancodes kept for the reader.
const SCANCODES: usize = 256;
/// Scancodes taken from the controller in one interrupt; it holds one.
const BURST: usize = 32;

/// A PS/2 keyboard.
pub struct Keyboard {
    registers: Box<dyn Registers>,
    scancodes: ArrayQueue<u8>,
    reader: AtomicWaker,
    keys: SpinLock<Keys>,
}

impl Keyboard {
    /// Brings the controller and its keyboard up. The registers are those from [`PORTS`] on.
    ///
    /// # Errors
    /// When there is no controller or no keyboard, or one of them fails its own test.
    pub fn new(registers: impl Registers + 'static) -> Result<Keyboard, Ps2Error> {
        controller::initialise(&registers)?;
        Ok(Keyboard {
            registers: Box::new(registers),
            scancodes: ArrayQueue::new(SCANCODES),
            reader: AtomicWaker::new(),
            keys: SpinLock::new(Keys::new()),
        })
    }

    /// Turns input on: routes the keyboard's interrupt here.
    ///
    /// # Errors
    /// [`Ps2Error::NoInterrupt`].
    pub fn listen(&'static self, interrupts: &dyn Interrupts) -> Result<(), Ps2Error> {
        let handler = Box::leak(Box::new(move || self.interrupt()));
        let vector = interrupts.allocate(handler).ok_or(Ps2Error::NoInterrupt)?;
        if !interrupts.route_isa(IRQ, vector) {
            return Err(Ps2Error::NoInterrupt);
        }
        // What came in the meantime raised its interrupt when nobody listened.
        self.interrupt();
        Ok(())
    }

    /// The next byte of what is typed. Waits for the outside. One task reads at a time. Dropping the future loses
    /// nothing.
    pub async fn read_byte(&self) -> u8 {
        poll_fn(|cx| {
            if let Some(byte) = self.try_read() {
                return Poll::Ready(byte);
            }
            self.reader.register(cx.waker());
            self.try_read().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// A byte of what is typed, if there is one.
    pub fn try_read(&self) -> Option<u8> {
        let mut keys = self.keys.lock();
        loop {
            if let Some(byte) = keys.next_byte() {
                return Some(byte);
            }
            keys.scancode(self.scancodes.pop()?);
        }
    }

    /// The interrupt handler.
    fn interrupt(&self) {
        for _ in 0..BURST {
            let status = self.registers.read(STATUS);
            if status & OUTPUT_FULL == 0 {
                break;
            }
            let code = self.registers.read(DATA);
            if status & AUX_DATA == 0 {
                // A full queue loses keys, not the machine.
                let _ = self.scancodes.push(code);
            }
        }
        self.reader.wake();
    }
}
