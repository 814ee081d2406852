//! The i8042 keyboard controller: bringing it and its keyboard up.
//!
//! Every wait is bounded by a number of status reads; a missing controller reads as all ones. The mouse port stays off.
//! The controller translates to scancode set 1, which every keyboard of a PC can be had in.
//!
//! Synchronisation: none; runs once, before the interrupt is on.

use core::fmt;

use crate::io::Registers;

/// Offset of the data register.
pub(super) const DATA: u16 = 0;
/// Offset of the status register, which is the command register when written.
pub(super) const STATUS: u16 = 4;

/// Status: there is a byte to read.
pub(super) const OUTPUT_FULL: u8 = 1 << 0;
/// Status: the last byte written has not been taken.
const INPUT_FULL: u8 = 1 << 1;
/// Status: the byte to read is from the mouse port.
pub(super) const AUX_DATA: u8 = 1 << 5;

/// Commands to the controller.
mod command {
    pub const READ_CONFIG: u8 = 0x20;
    pub const WRITE_CONFIG: u8 = 0x60;
    pub const DISABLE_AUX: u8 = 0xa7;
    pub const SELF_TEST: u8 = 0xaa;
    pub const TEST_KEYBOARD_PORT: u8 = 0xab;
    pub const DISABLE_KEYBOARD: u8 = 0xad;
    pub const ENABLE_KEYBOARD: u8 = 0xae;
}

const CONFIG_KEYBOARD_INTERRUPT: u8 = 1 << 0;
const CONFIG_AUX_INTERRUPT: u8 = 1 << 1;
const CONFIG_KEYBOARD_CLOCK_OFF: u8 = 1 << 4;
const CONFIG_AUX_CLOCK_OFF: u8 = 1 << 5;
const CONFIG_TRANSLATE: u8 = 1 << 6;

const SELF_TEST_PASSED: u8 = 0x55;
const PORT_TEST_PASSED: u8 = 0x00;

/// Commands to the keyboard, and its answers.
const KEYBOARD_RESET: u8 = 0xff;
const KEYBOARD_ENABLE_SCANNING: u8 = 0xf4;
const ACKNOWLEDGED: u8 = 0xfa;
const RESEND: u8 = 0xfe;
const RESET_PASSED: u8 = 0xaa;

/// Status reads before a wait is given up: a tenth of a second or more on hardware, where a port access takes about 1 us.
const PATIENCE: usize = 100_000;
/// Stale bytes thrown away at most.
const STALE: usize = 64;
/// How often a command is sent to a keyboard that asks for it again.
const ATTEMPTS: usize = 3;

/// Why there is no keyboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ps2Error {
    /// No controller answers.
    NoController,
    /// The controller fails its self-test, with this answer.
    SelfTest(u8),
    /// The keyboard's port fails its test, with this answer.
    PortTest(u8),
    /// No keyboard answers.
    NoKeyboard,
    /// The keyboard answers a command with this.
    Keyboard(u8),
    /// There is no vector, or no route for the interrupt.
    NoInterrupt,
}

impl fmt::Display for Ps2Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ps2Error::NoController => f.write_str("no PS/2 controller answers"),
            Ps2Error::SelfTest(answer) => {
                write!(f, "the PS/2 controller fails its self-test ({answer:#04x})")
            }
            Ps2Error::PortTest(answer) => {
                write!(f, "the keyboard's port fails its test ({answer:#04x})")
            }
            Ps2Error::NoKeyboard => f.write_str("no PS/2 keyboard answers"),
            Ps2Error::Keyboard(answer) => write!(f, "the keyboard answers {answer:#04x}"),
            Ps2Error::NoInterrupt => f.write_str("no interrupt for the keyboard"),
        }
    }
}

impl core::error::Error for Ps2Error {}

/// Brings the controller up with its keyboard alone: interrupt on, scancode set 1, scanning.
pub(super) fn initialise(registers: &dyn Registers) -> Result<(), Ps2Error> {
    let port = Port(registers);
    if registers.read(STATUS) == 0xff {
        return Err(Ps2Error::NoController);
    }
    port.command(command::DISABLE_KEYBOARD)?;
    port.command(command::DISABLE_AUX)?;
    port.drain();

    port.command(command::READ_CONFIG)?;
    let firmware = port.receive().ok_or(Ps2Error::NoController)?;
    let quiet = firmware & !(CONFIG_KEYBOARD_INTERRUPT | CONFIG_AUX_INTERRUPT);
    port.configure(quiet)?;

    port.command(command::SELF_TEST)?;
    match port.receive() {
        Some(SELF_TEST_PASSED) => {}
        answer => return Err(answer.map_or(Ps2Error::NoController, Ps2Error::SelfTest)),
    }
    // The self-test may have reset the configuration.
    port.configure(quiet)?;
    port.command(command::TEST_KEYBOARD_PORT)?;
    match port.receive() {
        Some(PORT_TEST_PASSED) => {}
        answer => return Err(answer.map_or(Ps2Error::NoController, Ps2Error::PortTest)),
    }

    port.command(command::ENABLE_KEYBOARD)?;
    port.keyboard(KEYBOARD_RESET)?;
    match port.receive() {
        Some(RESET_PASSED) => {}
        answer => return Err(answer.map_or(Ps2Error::NoKeyboard, Ps2Error::Keyboard)),
    }
    port.keyboard(KEYBOARD_ENABLE_SCANNING)?;
    let clocks = CONFIG_KEYBOARD_CLOCK_OFF | CONFIG_AUX_CLOCK_OFF;
    port.configure(
        quiet & !clocks | CONFIG_AUX_CLOCK_OFF | CONFIG_TRANSLATE | CONFIG_KEYBOARD_INTERRUPT,
    )
}

/// The controller's two registers, with bounded waits.
struct Port<'a>(&'a dyn Registers);

impl Port<'_> {
    /// Waits until the controller takes a byte, and gives it one.
    fn send(&self, register: u16, byte: u8) -> Result<(), Ps2Error> {
        if !(0..PATIENCE).any(|_| self.0.read(STATUS) & INPUT_FULL == 0) {
            return Err(Ps2Error::NoController);
        }
        self.0.write(register, byte);
        Ok(())
    }

    fn command(&self, command: u8) -> Result<(), Ps2Error> {
        self.send(STATUS, command)
    }

    /// Waits for a byte; `None` when none comes.
    fn receive(&self) -> Option<u8> {
        (0..PATIENCE)
            .any(|_| self.0.read(STATUS) & OUTPUT_FULL != 0)
            .then(|| self.0.read(DATA))
    }

    fn configure(&self, config: u8) -> Result<(), Ps2Error> {
        self.command(command::WRITE_CONFIG)?;
        self.send(DATA, config)
    }

    /// Throws away what is left from before.
    fn drain(&self) {
        for _ in 0..STALE {
            if self.0.read(STATUS) & OUTPUT_FULL == 0 {
                break;
            }
            self.0.read(DATA);
        }
    }

    /// Sends a command to the keyboard and waits until it acknowledges.
    fn keyboard(&self, command: u8) -> Result<(), Ps2Error> {
        for _ in 0..ATTEMPTS {
            self.send(DATA, command)?;
            match self.receive() {
                Some(ACKNOWLEDGED) => return Ok(()),
                Some(RESEND) => {}
                Some(answer) => return Err(Ps2Error::Keyboard(answer)),
                None => return Err(Ps2Error::NoKeyboard),
            }
        }
        Err(Ps2Error::Keyboard(RESEND))
    }
}
