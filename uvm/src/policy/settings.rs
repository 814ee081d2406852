//! What may be set while the machine runs: `sysctl vm.NAME=VALUE`.
//!
//! Owns the values that are shares of memory; numbers of pages live in the gauges that the pagedaemon reads. Names and defaults are UVM's.
//! Plain atomics: who reads one during a change sees the old value or the new one, and either is allowed.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::Uvm;
use crate::meter::Gauge;
use crate::uarea::{UAREA_KEEP, UAREA_PAGES};

/// All the minima together leave so much of memory, in percent, to whoever needs it.
const MINIMA_MOST: u64 = 95;

/// Longest sleep that can be asked for, in seconds: a year.
const MAXSLP_MOST: u64 = 31_536_000;

/// Something that can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Setting {
    /// Anonymous memory below this share of memory is not evicted while there is something else.
    Anonmin,
    /// Above it, it goes first.
    Anonmax,
    /// The same for pages of files.
    Filemin,
    /// The same for pages of files.
    Filemax,
    /// The same for pages of programs' text.
    Execmin,
    /// The same for pages of programs' text.
    Execmax,
    /// Share of pageable memory that is kept inactive.
    Inactivepct,
    /// The pagedaemon wakes below so many free pages.
    Freemin,
    /// It frees up to four times so many.
    Freetarg,
    /// Most pages that may be wired.
    Wiredmax,
    /// Whether LWPs are put out of memory.
    Swapout,
    /// An LWP that has slept so long, in seconds, may be.
    Maxslp,
    /// u-areas that are kept for the next threads.
    Uareakeep,
}

use Setting::{
    Anonmax, Anonmin, Execmax, Execmin, Filemax, Filemin, Freemin, Freetarg, Inactivepct, Maxslp,
    Swapout, Uareakeep, Wiredmax,
};

/// Why a value was not taken; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingError {
    /// It must be from the first to the second.
    Range(u64, u64),
    /// The minima of all three sorts of memory would come to more than this, in percent.
    Minima(u64),
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(least, most) => write!(f, "must be from {least} to {most}"),
            Self::Minima(most) => write!(
                f,
                "anonmin, filemin and execmin together must not be more than {most}"
            ),
        }
    }
}

impl core::error::Error for SettingError {}

impl Setting {
    /// All of them, in the order in which they are shown.
    pub const ALL: &'static [Self] = &[
        Anonmin,
        Anonmax,
        Filemin,
        Filemax,
        Execmin,
        Execmax,
        Inactivepct,
        Freemin,
        Freetarg,
        Wiredmax,
        Swapout,
        Maxslp,
        Uareakeep,
    ];

    /// Its name, with the prefix that `sysctl` has.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Anonmin => "vm.anonmin",
            Anonmax => "vm.anonmax",
            Filemin => "vm.filemin",
            Filemax => "vm.filemax",
            Execmin => "vm.execmin",
            Execmax => "vm.execmax",
            Inactivepct => "vm.inactivepct",
            Freemin => "vm.freemin",
            Freetarg => "vm.freetarg",
            Wiredmax => "vm.wiredmax",
            Swapout => "vm.swapout",
            Maxslp => "vm.maxslp",
            Uareakeep => "vm.uareakeep",
        }
    }

    /// What it does, in a line, with its unit.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Anonmin => {
                "percent of pageable memory below which anonymous memory is not evicted while there is something else"
            }
            Anonmax => {
                "percent of pageable memory above which anonymous memory is evicted first, when memory is short"
            }
            Filemin => {
                "percent of pageable memory below which pages of files are not evicted while there is something else"
            }
            Filemax => {
                "percent of pageable memory above which pages of files are evicted first, when memory is short"
            }
            Execmin => {
                "percent of pageable memory below which programs' text is not evicted while there is something else"
            }
            Execmax => {
                "percent of pageable memory above which programs' text is evicted first, when memory is short"
            }
            Inactivepct => "percent of pageable memory that is kept inactive, as candidates",
            Freemin => "free pages below which the pagedaemon wakes",
            Freetarg => "a quarter of the free pages that the pagedaemon works for",
            Wiredmax => "pages that may be wired, at most",
            Swapout => "1: threads are put out to swap when memory is short; 0: they stay",
            Maxslp => "seconds that a thread has slept after which it goes before others",
            Uareakeep => {
                "u-areas kept, wired, for the next threads, while memory is not short; 0: each is made anew"
            }
        }
    }

    /// Where a number of pages is kept.
    const fn gauge(self) -> Option<Gauge> {
        match self {
            Freemin => Some(Gauge::Freemin),
            Freetarg => Some(Gauge::Freetarg),
            Wiredmax => Some(Gauge::Wiredmax),
            _ => None,
        }
    }
}

/// The values.
pub(crate) struct Settings([AtomicU64; Setting::ALL.len()]);

impl Settings {
    pub(crate) const fn new() -> Self {
        let values = Self([const { AtomicU64::new(0) }; Setting::ALL.len()]);
        let defaults = [
            (Anonmin, 10),
            (Anonmax, 80),
            (Filemin, 10),
            (Filemax, 50),
            (Execmin, 5),
            (Execmax, 30),
            (Inactivepct, 33),
            (Swapout, 1),
            (Maxslp, 20),
            (Uareakeep, UAREA_KEEP as u64),
        ];
        let mut values = values;
        let mut i = 0;
        while i < defaults.len() {
            let (setting, value) = defaults[i];
            values.0[setting as usize] = AtomicU64::new(value);
            i += 1;
        }
        values
    }
}

impl Uvm {
    /// The value of a setting, in the unit that its description names.
    #[must_use]
    pub fn setting(&self, setting: Setting) -> u64 {
        match setting.gauge() {
            Some(gauge) => self.meter().gauge(gauge),
            None => self.upper.settings.0[setting as usize].load(Relaxed),
        }
    }

    /// Sets it. Takes effect with the next decision that it has a part in.
    ///
    /// # Errors
    /// [`SettingError`].
    pub fn set_setting(&self, setting: Setting, value: u64) -> Result<(), SettingError> {
        let (least, most) = self.setting_range(setting);
        if !(least..=most).contains(&value) {
            return Err(SettingError::Range(least, most));
        }
        let minima = [Anonmin, Filemin, Execmin];
        if minima.contains(&setting) {
            let others = minima.iter().filter(|&&other| other != setting);
            let sum = value + others.map(|&other| self.setting(other)).sum::<u64>();
            if sum > MINIMA_MOST {
                return Err(SettingError::Minima(MINIMA_MOST));
            }
        }
        match setting.gauge() {
            Some(gauge) => self.meter().set(gauge, value),
            None => self.upper.settings.0[setting as usize].store(value, Relaxed),
        }
        if matches!(setting, Freemin | Freetarg) {
            self.wake_pagedaemon();
        }
        Ok(())
    }

    /// What a setting may be now.
    fn setting_range(&self, setting: Setting) -> (u64, u64) {
        let managed = self.pages().managed() as u64;
        match setting {
            Anonmin => (0, self.setting(Anonmax)),
            Anonmax => (self.setting(Anonmin), 100),
            Filemin => (0, self.setting(Filemax)),
            Filemax => (self.setting(Filemin), 100),
            Execmin => (0, self.setting(Execmax)),
            Execmax => (self.setting(Execmin), 100),
            Inactivepct => (1, 90),
            Freemin => (2, self.setting(Freetarg) - 1),
            // Four times as much is what the pagedaemon works for.
            Freetarg => (
                self.setting(Freemin) + 1,
                (managed / 16).max(self.setting(Freetarg)),
            ),
            Wiredmax => (0, managed),
            Swapout => (0, 1),
            Maxslp => (1, MAXSLP_MOST),
            Uareakeep => (0, managed / UAREA_PAGES as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::World;

    #[test]
    fn what_is_set_is_kept_and_what_makes_no_sense_is_refused() {
        let world = World::new(4096, 0);
        let uvm = &world.uvm;
        for &setting in Setting::ALL {
            let value = uvm.setting(setting);
            assert_eq!(uvm.set_setting(setting, value), Ok(()), "{setting:?}");
            assert_eq!(
                uvm.set_setting(setting, u64::MAX),
                Err(SettingError::Range(
                    uvm.setting_range(setting).0,
                    uvm.setting_range(setting).1
                ))
            );
            assert_eq!(uvm.setting(setting), value);
        }
        assert_eq!(uvm.set_setting(Anonmin, 80), Ok(()));
        assert_eq!(
            uvm.set_setting(Anonmax, 79),
            Err(SettingError::Range(80, 100))
        );
        // 80, 10 and 5 are 95 already.
        assert_eq!(uvm.set_setting(Filemin, 11), Err(SettingError::Minima(95)));
        assert_eq!(uvm.setting(Filemin), 10);
        let targ = uvm.setting(Freetarg);
        assert_eq!(
            uvm.set_setting(Freemin, targ),
            Err(SettingError::Range(2, targ - 1))
        );
        assert_eq!(uvm.set_setting(Freemin, targ - 1), Ok(()));
        assert_eq!(uvm.meter().gauge(Gauge::Freemin), targ - 1);
    }
}
