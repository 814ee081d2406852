//! The interrupt controllers of a PC: one local APIC per CPU (with its timer), I/O APICs for the interrupt
//! lines, and the old pair of 8259s, which is silenced.
//!
//! Registers only: which vector means what is the kernel's affair. A [`LocalApic`] addresses whichever CPU uses
//! it, so it needs no lock. A register of an [`IoApic`] takes two accesses, so it is used through `&mut`: the
//! owner has a lock around it, which no interrupt handler takes.

use crate::io::{Mmio, Registers};

const LAPIC_ID: usize = 0x20;
const LAPIC_TASK_PRIORITY: usize = 0x80;
const LAPIC_EOI: usize = 0xb0;
const LAPIC_SPURIOUS: usize = 0xf0;
const LAPIC_COMMAND: usize = 0x300;
const LAPIC_COMMAND_TARGET: usize = 0x310;
const LAPIC_TIMER: usize = 0x320;
const LAPIC_LINT0: usize = 0x350;
const LAPIC_LINT1: usize = 0x360;
const LAPIC_ERROR: usize = 0x370;
const LAPIC_INITIAL_COUNT: usize = 0x380;
const LAPIC_CURRENT_COUNT: usize = 0x390;
const LAPIC_DIVIDE: usize = 0x3e0;

const SOFTWARE_ENABLE: u32 = 1 << 8;
const MASKED: u32 = 1 << 16;
/// Delivery mode of a local input.
const DELIVER_NMI: u32 = 0b100 << 8;
/// The divide register's code for 1: the finest steps.
const DIVIDE_BY_1: u32 = 0b1011;

/// Bytes of a local APIC's registers.
pub const LAPIC_SIZE: usize = 0x400;
/// Bytes of an I/O APIC's registers.
pub const IOAPIC_SIZE: usize = 0x20;

/// The local APIC of the CPU that uses it (xAPIC registers).
#[derive(Debug)]
pub struct LocalApic {
    registers: Mmio,
}

impl LocalApic {
    /// Over the registers of a local APIC, [`LAPIC_SIZE`] bytes.
    pub const fn new(registers: Mmio) -> LocalApic {
        LocalApic { registers }
    }

    /// Turns this CPU's APIC on: all priorities, own inputs masked but the one of non-maskable interrupts (LINT1, as on every
    /// PC), timer off. `spurious` is the vector of interrupts that went away before they were taken; they are not to be
    /// acknowledged.
    pub fn enable(&self, spurious: u8) {
        for input in [LAPIC_TIMER, LAPIC_LINT0, LAPIC_ERROR] {
            self.registers.write(input, MASKED);
        }
        self.registers.write(LAPIC_LINT1, DELIVER_NMI);
        self.registers.write(LAPIC_TASK_PRIORITY, 0_u32);
        self.registers
            .write(LAPIC_SPURIOUS, SOFTWARE_ENABLE | u32::from(spurious));
    }

    /// This CPU's number among the APICs.
    pub fn id(&self) -> u8 {
        (self.registers.read::<u32>(LAPIC_ID) >> 24) as u8
    }

    /// Says that the interrupt in service has been dealt with.
    #[inline]
    pub fn end_of_interrupt(&self) {
        self.registers.write(LAPIC_EOI, 0_u32);
    }

    /// Lets the timer raise `vector` each time that it has counted down, once per [`start_timer`](Self::start_timer).
    pub fn enable_timer(&self, vector: u8) {
        self.registers.write(LAPIC_DIVIDE, DIVIDE_BY_1);
        self.registers.write(LAPIC_TIMER, u32::from(vector));
    }

    /// Has the timer count down from `ticks` (0 stops it).
    #[inline]
    pub fn start_timer(&self, ticks: u32) {
        self.registers.write(LAPIC_INITIAL_COUNT, ticks);
    }

    /// What the timer still has to count.
    pub fn timer_left(&self) -> u32 {
        self.registers.read(LAPIC_CURRENT_COUNT)
    }

    /// Runs the timer masked, for calibration.
    pub fn run_timer_silently(&self) {
        self.registers.write(LAPIC_DIVIDE, DIVIDE_BY_1);
        self.registers.write(LAPIC_TIMER, MASKED);
        self.start_timer(u32::MAX);
    }

    /// Raises `vector` on the CPU whose APIC is `id`.
    pub fn send(&self, id: u8, vector: u8) {
        self.registers
            .write(LAPIC_COMMAND_TARGET, u32::from(id) << 24);
        self.registers
            .write(LAPIC_COMMAND, 1 << 14 | u32::from(vector));
    }
}

/// When an interrupt line counts as raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// While the line is active, rather than when it becomes so.
    pub level: bool,
    /// Active means low.
    pub active_low: bool,
}

impl Trigger {
    /// ISA's way.
    pub const ISA: Trigger = Trigger {
        level: false,
        active_low: false,
    };
    /// PCI's way, as q35's I/O APIC has it: level, active high.
    pub const PCI: Trigger = Trigger {
        level: true,
        active_low: false,
    };
}

const IOAPIC_SELECT: usize = 0x00;
const IOAPIC_WINDOW: usize = 0x10;
const IOAPIC_VERSION: u32 = 1;
const IOAPIC_REDIRECTION: u32 = 0x10;
const ACTIVE_LOW: u32 = 1 << 13;
const LEVEL: u32 = 1 << 15;

/// An I/O APIC.
#[derive(Debug)]
pub struct IoApic {
    registers: Mmio,
    first: u32,
    lines: u32,
}

impl IoApic {
    /// Over the registers of an I/O APIC, [`IOAPIC_SIZE`] bytes, whose first input is global interrupt `first`. All inputs are
    /// masked.
    pub fn new(registers: Mmio, first: u32) -> IoApic {
        let lines = (read(&registers, IOAPIC_VERSION) >> 16 & 0xff) + 1;
        for line in 0..lines {
            write(&registers, IOAPIC_REDIRECTION + 2 * line, MASKED);
        }
        IoApic {
            registers,
            first,
            lines,
        }
    }

    /// Sends global interrupt `interrupt` to `vector` of the CPU whose APIC is `id`, and unmasks it. False when it
    /// is not one of this I/O APIC's.
    pub fn route(&mut self, interrupt: u32, vector: u8, id: u8, trigger: Trigger) -> bool {
        let Some(line) = interrupt
            .checked_sub(self.first)
            .filter(|&line| line < self.lines)
        else {
            return false;
        };
        let mut low = u32::from(vector);
        if trigger.active_low {
            low |= ACTIVE_LOW;
        }
        if trigger.level {
            low |= LEVEL;
        }
        write(
            &self.registers,
            IOAPIC_REDIRECTION + 2 * line + 1,
            u32::from(id) << 24,
        );
        write(&self.registers, IOAPIC_REDIRECTION + 2 * line, low);
        true
    }
}

fn read(registers: &Mmio, register: u32) -> u32 {
    registers.write(IOAPIC_SELECT, register);
    registers.read(IOAPIC_WINDOW)
}

fn write(registers: &Mmio, register: u32, value: u32) {
    registers.write(IOAPIC_SELECT, register);
    registers.write(IOAPIC_WINDOW, value);
}

/// Moves the two 8259s' vectors to `base` (a multiple of 8) and the eight after it, and masks all of their lines. Registers: those at
/// 0x20 and at 0xa0.
pub fn silence_8259(first: &impl Registers, second: &impl Registers, base: u8) {
    const COMMAND: u16 = 0;
    const DATA: u16 = 1;
    // Initialise in cascade, expecting four words; the second hangs off line 2 of the first; 8086 mode.
    for (controller, vector, wiring) in [
        (first as &dyn Registers, base, 1 << 2),
        (second, base + 8, 2),
    ] {
        controller.write(COMMAND, 0x11);
        controller.write(DATA, vector);
        controller.write(DATA, wiring);
        controller.write(DATA, 0x01);
        controller.write(DATA, 0xff);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::ptr::NonNull;
    use std::boxed::Box;
    use std::sync::Mutex;
    use std::vec::Vec;

    #[test]
    fn a_local_apic_is_enabled_with_its_inputs_masked() {
        let memory = Box::leak(Box::new([0_u64; LAPIC_SIZE / 8]));
        // SAFETY: leaked memory of that size, reached through this window only.
        let window = unsafe { Mmio::new(NonNull::from(memory).cast(), LAPIC_SIZE) };
        let apic = LocalApic::new(window);
        apic.enable(0xff);
        assert_eq!(window.read::<u32>(LAPIC_SPURIOUS), 0x1ff);
        assert_eq!(window.read::<u32>(LAPIC_LINT0), MASKED);
        assert_eq!(window.read::<u32>(LAPIC_LINT1), DELIVER_NMI);
        apic.enable_timer(0xf0);
        apic.start_timer(1234);
        assert_eq!(window.read::<u32>(LAPIC_TIMER), 0xf0);
        assert_eq!(window.read::<u32>(LAPIC_INITIAL_COUNT), 1234);
    }

    struct Log(Mutex<Vec<(u16, u8)>>);

    impl Registers for Log {
        fn read(&self, _: u16) -> u8 {
            0
        }
        fn write(&self, offset: u16, value: u8) {
            self.0.lock().unwrap().push((offset, value));
        }
    }

    #[test]
    fn the_old_controllers_end_masked() {
        let (first, second) = (Log(Mutex::new(Vec::new())), Log(Mutex::new(Vec::new())));
        silence_8259(&first, &second, 0x20);
        assert_eq!(
            *first.0.lock().unwrap(),
            [(0, 0x11), (1, 0x20), (1, 4), (1, 1), (1, 0xff)]
        );
        assert_eq!(
            *second.0.lock().unwrap(),
            [(0, 0x11), (1, 0x28), (1, 2), (1, 1), (1, 0xff)]
        );
    }
}
