//! The 16550 serial port: the console's line.
//!
//! Owns one port. Output waits, within bounds, until the transmitter is empty; input comes by interrupt into a bounded
//! queue, from which [`Serial::read_byte`] takes it. Bytes pass as they are: what a newline means is the console's affair.
//!
//! # How it synchronises
//!
//! `output`, a spin lock, covers the transmitter; tasks take it, the handler does not. The handler reads the line status and
//! the receiver, which output never touches, pushes to an `ArrayQueue` and wakes. When the queue is full it leaves
//! the rest in the device and turns its interrupt off, so that pasted text waits on the host instead of getting lost;
//! the reader that makes room turns it on again. The interrupt-enable register is thus written by the handler while the
//! interrupt is on, and by the reader while it is off.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::future::poll_fn;
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::SeqCst;
use core::task::Poll;
use crossbeam_queue::ArrayQueue;
use executor::sync::{AtomicWaker, SpinLock};
use uart_16550::backend::Backend;
use uart_16550::spec::registers::{IER, LSR, offsets};
use uart_16550::{BaudRate, Config, InitError, Uart16550};

use crate::Interrupts;
use crate::io::Registers;

/// The I/O ports of COM1, and its ISA interrupt.
pub const COM1: u16 = 0x3f8;
/// The ISA interrupt of COM1.
pub const COM1_IRQ: u8 = 4;

/// Bytes of input kept for the reader.
const INPUT: usize = 1024;
/// Room that a reader makes before the device may send again.
const RESUME: usize = INPUT / 2;
/// Bytes taken from the device in one interrupt; a real one holds 16.
const BURST: usize = 4096;
/// How often the line status is read while output waits for the transmitter. Many times what a byte takes at
/// 115200 baud; a port that is not ready then loses the byte rather than the machine.
const PATIENCE: usize = 200_000;

/// Why a port cannot be used.
#[derive(Debug)]
pub enum SerialError {
    /// There is no working 16550 at those ports.
    Device(InitError),
    /// There is no vector, or no route for the interrupt.
    NoInterrupt,
}

impl fmt::Display for SerialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SerialError::Device(error) => write!(f, "no usable 16550: {error}"),
            SerialError::NoInterrupt => f.write_str("no interrupt for the serial port"),
        }
    }
}

impl core::error::Error for SerialError {}

/// A serial port.
pub struct Serial {
    registers: Arc<dyn Registers>,
    output: SpinLock<Uart16550<Shared>>,
    input: ArrayQueue<u8>,
    reader: AtomicWaker,
    /// The receive interrupt is off because `input` is full.
    paused: AtomicBool,
}

/// The registers as `uart_16550` wants them.
struct Shared(Arc<dyn Registers>);

impl Backend for Shared {
    unsafe fn read(&mut self, offset: u8) -> u8 {
        self.0.read(u16::from(offset))
    }

    unsafe fn write(&mut self, offset: u8, value: u8) {
        self.0.write(u16::from(offset), value);
    }
}

impl Serial {
    /// Sets the port up for 115200 baud, 8 data bits, no parity, with its FIFO. Output works from here on.
    ///
    /// # Errors
    /// [`SerialError::Device`] when no 16550 answers.
    pub fn new(registers: impl Registers + 'static) -> Result<Serial, SerialError> {
        let registers: Arc<dyn Registers> = Arc::new(registers);
        // SAFETY: `Registers` are the caller's alone, and accessing them is safe by their own promise.
        let mut uart = unsafe { Uart16550::new_with_backend(Shared(registers.clone())) };
        uart.init(Config {
            baud_rate: BaudRate::Baud115200,
            ..Config::DEFAULT
        })
        .map_err(SerialError::Device)?;
        Ok(Serial {
            registers,
            output: SpinLock::new(uart),
            input: ArrayQueue::new(INPUT),
            reader: AtomicWaker::new(),
            paused: AtomicBool::new(false),
        })
    }

    /// Turns input on: routes ISA interrupt `irq` to this port.
    ///
    /// # Errors
    /// [`SerialError::NoInterrupt`]; output goes on working.
    pub fn listen(&'static self, irq: u8, interrupts: &dyn Interrupts) -> Result<(), SerialError> {
        let handler = Box::leak(Box::new(move || self.interrupt()));
        let vector = interrupts
            .allocate(handler)
            .ok_or(SerialError::NoInterrupt)?;
        if !interrupts.route_isa(irq, vector) {
            return Err(SerialError::NoInterrupt);
        }
        self.enable_input(IER::DATA_READY);
        Ok(())
    }

    /// Sends `bytes` in order, waiting as long as the line takes. Bytes that a stuck port does not take are lost.
    pub fn write(&self, bytes: &[u8]) {
        let mut uart = self.output.lock();
        let mut rest = bytes;
        let mut patience = PATIENCE;
        while !rest.is_empty() && patience > 0 {
            let sent = uart.send_bytes(rest);
            rest = &rest[sent..];
            if sent > 0 {
                patience = PATIENCE;
            } else {
                patience -= 1;
                core::hint::spin_loop();
            }
        }
    }

    /// The next byte of input. Waits for the outside. One task reads at a time: a second one would take the first
    /// one's place in line. Dropping the future loses nothing.
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

    /// A byte of input if there is one.
    pub fn try_read(&self) -> Option<u8> {
        let byte = self.input.pop();
        if self.input.len() <= RESUME && self.paused.swap(false, SeqCst) {
            self.enable_input(IER::DATA_READY);
        }
        byte
    }

    /// The interrupt handler.
    fn interrupt(&self) {
        for _ in 0..BURST {
            if self.input.is_full() {
                // Off before the flag is up: a reader that sees the flag turns it on for good.
                self.enable_input(IER::empty());
                self.paused.store(true, SeqCst);
                break;
            }
            let status = LSR::from_bits_retain(self.registers.read(offsets::LSR as u16));
            if !status.contains(LSR::DATA_READY) {
                break;
            }
            let byte = self.registers.read(offsets::DATA as u16);
            // There is room: only this handler pushes.
            let _ = self.input.push(byte);
        }
        self.reader.wake();
    }

    fn enable_input(&self, enable: IER) {
        self.registers.write(offsets::IER as u16, enable.bits());
    }
}
