//! A countdown: when it is over, and how often again. Of any clock; plain data for the owner's lock.

/// How a countdown is set: nanoseconds until it is over, 0 for off, and from one end to the next, 0 for once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    /// Until it is over.
    pub value: u64,
    /// From then to its next end.
    pub interval: u64,
}

/// Where a countdown stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Off.
    Off,
    /// Over at this time.
    Runs(u64),
    /// It was over at this time, has been told of, and goes on once it has been heard.
    Told(u64),
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Countdown {
    phase: Phase,
    interval: u64,
}

impl Countdown {
    /// One that is off.
    pub const OFF: Countdown = Countdown {
        phase: Phase::Off,
        interval: 0,
    };

    /// One that is over at `at`, and then every `interval`; once if that is 0.
    #[must_use]
    pub fn until(at: u64, interval: u64) -> Countdown {
        Countdown {
            phase: Phase::Runs(at),
            interval,
        }
    }

    /// One set from `now`.
    #[must_use]
    pub fn from(now: u64, setting: Setting) -> Countdown {
        match setting.value {
            0 => Countdown::OFF,
            value => Countdown::until(now.saturating_add(value), setting.interval),
        }
    }

    /// When it is over, if it runs.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        match self.phase {
            Phase::Runs(at) => Some(at),
            Phase::Off | Phase::Told(_) => None,
        }
    }

    /// Whether it is neither off nor to be told of.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.phase == Phase::Off
    }

    /// If it is over by `now`, has it told of: true once. It rests until [`heard`](Self::heard), or for good if it has no interval.
    #[must_use]
    pub fn tell(&mut self, now: u64) -> bool {
        match self.phase {
            Phase::Runs(at) if at <= now => {
                self.phase = match self.interval {
                    0 => Phase::Off,
                    _ => Phase::Told(at),
                };
                true
            }
            _ => false,
        }
    }

    /// Goes on after it was told of, with its first end after `now`. Gives how many ends were missed since.
    pub fn heard(&mut self, now: u64) -> u64 {
        let Phase::Told(at) = self.phase else {
            return 0;
        };
        let (next, missed) = self.after(at, now);
        self.phase = Phase::Runs(next);
        missed
    }

    /// The first end after `now` of a countdown that was over at `at`, and how many lie between the two.
    fn after(&self, at: u64, now: u64) -> (u64, u64) {
        let missed = now.saturating_sub(at) / self.interval.max(1);
        let next = self.interval.max(1).saturating_mul(missed + 1);
        (at.saturating_add(next), missed)
    }

    /// How it stands, as programs are told: never 0 while it runs.
    #[must_use]
    pub fn left(&self, now: u64) -> Setting {
        let value = match self.phase {
            Phase::Off => 0,
            Phase::Runs(at) if at > now => at - now,
            Phase::Runs(_) if self.interval == 0 => 1,
            Phase::Runs(at) | Phase::Told(at) => self.after(at, now).0.saturating_sub(now).max(1),
        };
        Setting {
            value,
            interval: self.interval,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(value: u64, interval: u64) -> Setting {
        Setting { value, interval }
    }

    #[test]
    fn once() {
        let mut c = Countdown::from(100, setting(50, 0));
        assert_eq!(c.deadline(), Some(150));
        assert_eq!(c.left(120), setting(30, 0));
        assert!(!c.tell(149));
        assert!(c.tell(150));
        assert!(c.is_off() && !c.tell(200));
        assert_eq!(c.left(200), setting(0, 0));
        assert_eq!(c.heard(200), 0);
    }

    #[test]
    fn again_and_again_and_what_was_missed() {
        let mut c = Countdown::from(0, setting(10, 10));
        assert!(c.tell(12));
        assert_eq!(c.deadline(), None, "until it has been heard");
        assert!(!c.tell(1000));
        assert_eq!(c.left(35), setting(5, 10));
        assert_eq!(c.heard(35), 2, "20 and 30");
        assert_eq!(c.deadline(), Some(40));
        assert!(c.tell(40));
        assert_eq!(c.heard(40), 0);
        assert_eq!(c.deadline(), Some(50));
    }

    #[test]
    fn the_extremes() {
        let mut c = Countdown::from(5, setting(1, 1));
        assert!(c.tell(u64::MAX));
        assert_eq!(c.heard(u64::MAX), u64::MAX - 6);
        assert_eq!(c.deadline(), Some(u64::MAX));
        let c = Countdown::from(5, setting(u64::MAX, u64::MAX));
        assert_eq!(c.deadline(), Some(u64::MAX));
        assert!(Countdown::from(5, setting(0, 7)).is_off());
    }
}
