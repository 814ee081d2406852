//! Clocks: how fast the time stamp counter and the local APIC's timer run, and what the time of day is.
//!
//! Nothing here is told by the hardware in a way that every emulator supports, so both rates are measured against the old
//! interval timer (8254), whose rate never changes: once, at boot, with interrupts off. Under an instruction-counting emulator the
//! measurement repeats exactly. Arithmetic is apart from port access and tested on the host.

/// The 8254's input, in hertz.
#[cfg(target_os = "none")]
const PIT_HZ: u64 = 1_193_182;

/// The rate of a counter, with conversions that cost a multiplication and a shift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    hz: u64,
    /// Nanoseconds per tick, times 2^32.
    ns_per_tick: u64,
    /// Ticks per nanosecond, times 2^32.
    ticks_per_ns: u64,
}

const NS_PER_S: u64 = 1_000_000_000;

impl Rate {
    /// A counter that runs at `hz`, which must lie between 1 MHz and 1 THz.
    pub const fn from_hz(hz: u64) -> Rate {
        assert!(
            hz >= 1_000_000 && hz <= 1_000_000_000_000,
            "no counter runs at that rate"
        );
        Rate {
            hz,
            ns_per_tick: (((NS_PER_S as u128) << 32) / hz as u128) as u64,
            ticks_per_ns: (((hz as u128) << 32) / NS_PER_S as u128) as u64,
        }
    }

    /// Ticks per second.
    pub const fn hz(&self) -> u64 {
        self.hz
    }

    /// Nanoseconds per tick, times 2^32: all that [`scaled`](Self::scaled) needs.
    pub const fn scale(&self) -> u64 {
        self.ns_per_tick
    }

    /// How long `ticks` of a counter with this [`scale`](Self::scale) take, in nanoseconds, rounded down.
    #[inline]
    pub const fn scaled(ticks: u64, scale: u64) -> u64 {
        ((ticks as u128 * scale as u128) >> 32) as u64
    }

    /// How long `ticks` take, in nanoseconds, rounded down.
    #[inline]
    pub const fn to_ns(&self, ticks: u64) -> u64 {
        Rate::scaled(ticks, self.ns_per_tick)
    }

    /// How many ticks fit in `ns` nanoseconds.
    #[inline]
    pub const fn to_ticks(&self, ns: u64) -> u64 {
        ((ns as u128 * self.ticks_per_ns as u128) >> 32) as u64
    }
}

/// A measured rate, made exact where it lies within a thousandth of `nominal`: an instruction-counting emulator runs its counter at
/// exactly 1 GHz, and so should our clock.
pub const fn snap(measured_hz: u64, nominal: u64) -> u64 {
    if measured_hz.abs_diff(nominal) <= nominal / 1000 {
        nominal
    } else {
        measured_hz
    }
}

/// Seconds since 1970 of a date of the proleptic Gregorian calendar in UTC.
pub const fn unix_time(
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
) -> u64 {
    // Years begin in March, so that the leap day comes last (Hinnant, "chrono-compatible low-level date algorithms").
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let era_days = y * 365 + y / 4 - y / 100 + y / 400;
    let days = era_days + (153 * m + 2) / 5 + day - 1 - 719_468;
    ((days * 24 + hour) * 60 + minute) * 60 + second
}

#[cfg(target_os = "none")]
pub use machine::{measure, rtc_unix_time};

#[cfg(target_os = "none")]
mod machine {
    use x86_64::instructions::port::Port;

    use super::{PIT_HZ, unix_time};

    const PIT_CHANNEL_2: u16 = 0x42;
    const PIT_COMMAND: u16 = 0x43;
    const GATE: u16 = 0x61;
    const GATE_2: u8 = 1 << 0;
    const SPEAKER: u8 = 1 << 1;
    const OUT_2: u8 = 1 << 5;
    /// How long one measurement takes, in the 8254's ticks: 10 ms.
    const WINDOW: u16 = (PIT_HZ / 100) as u16;

    /// How often a rate is measured. The smallest result counts: an emulator that was held up between the end of the
    /// window and our look at the counter makes it seem fast, never slow.
    const ATTEMPTS: usize = 3;

    /// The rate in hertz of the counter that `read` reads and that counts upwards, measured over 10 ms a few times.
    ///
    /// # Safety
    /// Interrupts are off, and nobody else uses channel 2 of the 8254.
    pub unsafe fn measure(mut read: impl FnMut() -> u64) -> u64 {
        let mut least = u64::MAX;
        for _ in 0..ATTEMPTS {
            // SAFETY: as the caller vouches.
            least = least.min(unsafe { count_window(&mut read) });
        }
        ((u128::from(least) * u128::from(PIT_HZ)) / u128::from(WINDOW)) as u64
    }

    /// How far the counter gets in one window.
    ///
    /// # Safety
    /// As [`measure`].
    unsafe fn count_window(read: &mut impl FnMut() -> u64) -> u64 {
        let (mut gate, mut command, mut channel) = (
            Port::<u8>::new(GATE),
            Port::<u8>::new(PIT_COMMAND),
            Port::<u8>::new(PIT_CHANNEL_2),
        );
        // SAFETY: these ports are the interval timer's and its gate's; they touch no memory, and the
        // caller leaves the channel to us.
        unsafe {
            let idle = gate.read() & !(GATE_2 | SPEAKER);
            gate.write(idle);
            // Channel 2, both bytes, mode 0: the output rises when the count ends. The gate starts it.
            command.write(0b1011_0000);
            channel.write(WINDOW as u8);
            channel.write((WINDOW >> 8) as u8);
            gate.write(idle | GATE_2);
            let start = read();
            while gate.read() & OUT_2 == 0 {
                core::hint::spin_loop();
            }
            let end = read();
            gate.write(idle);
            end - start
        }
    }

    const CMOS_INDEX: u16 = 0x70;
    const CMOS_DATA: u16 = 0x71;
    const UPDATING: u8 = 1 << 7;
    const BINARY: u8 = 1 << 2;
    const HOURS_24: u8 = 1 << 1;

    /// The time of day by the battery-backed clock (taken to be UTC), in seconds since 1970.
    ///
    /// # Safety
    /// Nobody else uses the clock's ports meanwhile.
    pub unsafe fn rtc_unix_time() -> u64 {
        let read = |register: u8| {
            // SAFETY: selects and reads a register of the clock; the caller leaves the ports to us.
            unsafe {
                Port::<u8>::new(CMOS_INDEX).write(register);
                Port::<u8>::new(CMOS_DATA).read()
            }
        };
        let fields = || {
            while read(0x0a) & UPDATING != 0 {
                core::hint::spin_loop();
            }
            [0x00, 0x02, 0x04, 0x07, 0x08, 0x09].map(read)
        };
        // The clock may tick between two reads: take a value only when it comes twice.
        let mut raw = fields();
        loop {
            let again = fields();
            if again == raw {
                break;
            }
            raw = again;
        }
        let format = read(0x0b);
        let number = |value: u8| {
            let value = u64::from(value);
            if format & BINARY != 0 {
                value
            } else {
                (value >> 4) * 10 + (value & 15)
            }
        };
        let afternoon = format & HOURS_24 == 0 && raw[2] & 0x80 != 0;
        let mut hour = number(raw[2] & 0x7f);
        if format & HOURS_24 == 0 {
            hour = hour % 12 + if afternoon { 12 } else { 0 };
        }
        unix_time(
            2000 + number(raw[5]),
            number(raw[4]),
            number(raw[3]),
            hour,
            number(raw[1]),
            number(raw[0]),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gigahertz_is_a_tick_per_nanosecond() {
        let rate = Rate::from_hz(1_000_000_000);
        assert_eq!(rate.to_ns(123_456_789_012_345), 123_456_789_012_345);
        assert_eq!(rate.to_ticks(123_456_789_012_345), 123_456_789_012_345);
    }

    #[test]
    fn conversions_stay_close_for_days() {
        for hz in [62_500_000, 1_193_182, 2_399_988_123, 3_700_000_000] {
            let rate = Rate::from_hz(hz);
            let day = 86_400 * NS_PER_S;
            assert!(rate.to_ns(hz * 86_400).abs_diff(day) < 100_000, "{hz}");
            assert!(rate.to_ticks(day).abs_diff(hz * 86_400) < hz / 20, "{hz}");
        }
    }

    #[test]
    fn only_near_rates_are_made_exact() {
        assert_eq!(snap(1_000_040_000, 1_000_000_000), 1_000_000_000);
        assert_eq!(snap(1_002_000_000, 1_000_000_000), 1_002_000_000);
    }

    #[test]
    fn dates() {
        assert_eq!(unix_time(1970, 1, 1, 0, 0, 0), 0);
        assert_eq!(unix_time(2000, 2, 29, 12, 0, 1), 951_825_601);
        assert_eq!(unix_time(2024, 1, 1, 0, 0, 0), 1_704_067_200);
    }
}
