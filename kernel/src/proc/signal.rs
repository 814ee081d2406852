//! Signals as values: numbers, sets, what a process does about each, what is pending.
//!
//! [`SignalState`] belongs to a process and sits behind its lock; it decides what posting a signal means and
//! which pending one comes next. Waking the LWP is [`super::process`]'s, running a handler is
//! [`super::deliver`]'s. Numbers and codes are Linux's.

use super::pending::{Full, Pending};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use linux_raw_sys::general as sys;
use uvm::OutOfMemory;

/// Bytes of Linux's `siginfo_t`.
pub const SIGINFO_LEN: usize = 128;

/// A signal number, 1 to 64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(u8);

macro_rules! signals {
    ($($name:ident = $number:ident,)*) => {
        impl Signal {
            $(
                #[doc = concat!("`", stringify!($number), "`")]
                pub const $name: Signal = Signal(sys::$number as u8);
            )*

            /// The name without `SIG`, if it has one.
            #[must_use]
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(Signal::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }

            /// The signal of this name, with or without `SIG`, in capitals.
            #[must_use]
            pub fn by_name(name: &str) -> Option<Signal> {
                match name.strip_prefix("SIG").unwrap_or(name) {
                    $(stringify!($name) => Some(Signal::$name),)*
                    _ => None,
                }
            }
        }
    };
}

signals! {
    HUP = SIGHUP, INT = SIGINT, QUIT = SIGQUIT, ILL = SIGILL, TRAP = SIGTRAP, ABRT = SIGABRT, BUS = SIGBUS,
    FPE = SIGFPE, KILL = SIGKILL, USR1 = SIGUSR1, SEGV = SIGSEGV, USR2 = SIGUSR2, PIPE = SIGPIPE,
    ALRM = SIGALRM, TERM = SIGTERM, STKFLT = SIGSTKFLT, CHLD = SIGCHLD, CONT = SIGCONT, STOP = SIGSTOP,
    TSTP = SIGTSTP, TTIN = SIGTTIN, TTOU = SIGTTOU, URG = SIGURG, XCPU = SIGXCPU, XFSZ = SIGXFSZ,
    VTALRM = SIGVTALRM, PROF = SIGPROF, WINCH = SIGWINCH, IO = SIGIO, PWR = SIGPWR, SYS = SIGSYS,
}

impl Signal {
    /// Number of signals.
    pub const COUNT: u8 = 64;

    /// The signal with this number, if there is one.
    #[must_use]
    pub fn new(number: u64) -> Option<Signal> {
        u8::try_from(number)
            .ok()
            .filter(|n| (1..=Signal::COUNT).contains(n))
            .map(Signal)
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }

    /// Whether several of it can wait.
    #[must_use]
    pub fn is_real_time(self) -> bool {
        self.0 >= 32
    }

    /// What happens when the program has said nothing about it.
    #[must_use]
    pub fn default_action(self) -> DefaultAction {
        match self {
            Signal::CHLD | Signal::URG | Signal::WINCH => DefaultAction::Ignore,
            Signal::CONT => DefaultAction::Continue,
            Signal::STOP | Signal::TSTP | Signal::TTIN | Signal::TTOU => DefaultAction::Stop,
            _ => DefaultAction::Terminate,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "SIG{name}"),
            None => write!(f, "signal {}", self.0),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a signal does that the program has said nothing about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultAction {
    /// The process ends.
    Terminate,
    /// Nothing.
    Ignore,
    /// The process stops until SIGCONT.
    Stop,
    /// Nothing but that a stopped process goes on.
    Continue,
}

/// A set of signals; bit n - 1 stands for signal n, as in Linux's `sigset_t`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SigSet(u64);

impl SigSet {
    /// No signal.
    pub const EMPTY: SigSet = SigSet(0);
    /// What no mask can hold back.
    pub const UNMASKABLE: SigSet = SigSet(1 << (sys::SIGKILL - 1) | 1 << (sys::SIGSTOP - 1));
    /// What stops a process that has said nothing about it.
    pub const STOPPING: SigSet = SigSet(
        1 << (sys::SIGSTOP - 1)
            | 1 << (sys::SIGTSTP - 1)
            | 1 << (sys::SIGTTIN - 1)
            | 1 << (sys::SIGTTOU - 1),
    );

    /// The set with these bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> SigSet {
        SigSet(bits)
    }

    /// The set as a mask: without the signals that cannot be masked.
    #[must_use]
    pub const fn mask_from_bits(bits: u64) -> SigSet {
        SigSet(bits & !SigSet::UNMASKABLE.0)
    }

    /// Its bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The set of one signal.
    #[must_use]
    pub const fn only(signal: Signal) -> SigSet {
        SigSet(1 << (signal.0 - 1))
    }

    /// Whether it holds the signal.
    #[must_use]
    pub const fn contains(self, signal: Signal) -> bool {
        self.0 & SigSet::only(signal).0 != 0
    }

    /// Whether the two have a signal in common.
    #[must_use]
    pub const fn intersects(self, other: SigSet) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether it holds none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What is in either.
    #[must_use]
    pub const fn union(self, other: SigSet) -> SigSet {
        SigSet(self.0 | other.0)
    }

    /// What is in `self` and not in `other`.
    #[must_use]
    pub const fn without(self, other: SigSet) -> SigSet {
        SigSet(self.0 & !other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn intersection(self, other: SigSet) -> SigSet {
        SigSet(self.0 & other.0)
    }

    /// The signal to deliver first: KILL, else the lowest number.
    pub(super) fn first(self) -> Option<Signal> {
        if self.contains(Signal::KILL) {
            return Some(Signal::KILL);
        }
        (self.0 != 0).then(|| Signal(self.0.trailing_zeros() as u8 + 1))
    }
}

/// What is told about a signal besides its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Nothing.
    None,
    /// Who sent it.
    Sender {
        /// The sending process, 0 for the kernel.
        pid: u32,
    },
    /// Who sent it, and a value along with it.
    Value {
        /// The sending process.
        pid: u32,
        /// `si_value`.
        value: u64,
    },
    /// The child that changed.
    Child {
        /// The child.
        pid: u32,
        /// Its exit status or the signal that did it.
        status: i32,
    },
    /// The timer that is over.
    Timer {
        /// Its number.
        id: u32,
        /// To which setting of it this belongs; the program is not told.
        setting: u32,
        /// How often it was over since.
        overruns: u32,
        /// `si_value`.
        value: u64,
    },
    /// The address that could not be accessed, or of the instruction.
    Fault {
        /// The address.
        address: u64,
    },
}

/// A signal with what is told about it: Linux's `siginfo_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SigInfo {
    /// Which signal.
    pub signal: Signal,
    /// Why (`SI_USER`, `SEGV_MAPERR`, ..).
    pub code: i32,
    /// What else is known.
    pub detail: Detail,
}

impl SigInfo {
    /// A signal from `kill(2)` by process `pid`.
    #[must_use]
    pub fn from_process(signal: Signal, pid: u32) -> SigInfo {
        SigInfo {
            signal,
            code: sys::SI_USER as i32,
            detail: Detail::Sender { pid },
        }
    }

    /// A signal from the kernel itself.
    #[must_use]
    pub fn from_kernel(signal: Signal) -> SigInfo {
        SigInfo {
            signal,
            code: sys::SI_KERNEL as i32,
            detail: Detail::None,
        }
    }

    /// As it lies in the program's memory.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; SIGINFO_LEN] {
        let mut out = [0; SIGINFO_LEN];
        out[..4].copy_from_slice(&i32::from(self.signal.0).to_le_bytes());
        out[8..12].copy_from_slice(&self.code.to_le_bytes());
        match self.detail {
            Detail::None => {}
            Detail::Sender { pid } => out[16..20].copy_from_slice(&pid.to_le_bytes()),
            Detail::Value { pid, value } => {
                out[16..20].copy_from_slice(&pid.to_le_bytes());
                out[24..32].copy_from_slice(&value.to_le_bytes());
            }
            Detail::Timer {
                id,
                overruns,
                value,
                ..
            } => {
                out[16..20].copy_from_slice(&id.to_le_bytes());
                out[20..24].copy_from_slice(&overruns.to_le_bytes());
                out[24..32].copy_from_slice(&value.to_le_bytes());
            }
            Detail::Child { pid, status } => {
                out[16..20].copy_from_slice(&pid.to_le_bytes());
                out[24..28].copy_from_slice(&status.to_le_bytes());
            }
            Detail::Fault { address } => out[16..24].copy_from_slice(&address.to_le_bytes()),
        }
        out
    }
}

/// What a program wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// [`Signal::default_action`].
    Default,
    /// Nothing.
    Ignore,
    /// Run the function at this address.
    Handler(u64),
}

/// A program's answer to a signal: Linux's `struct sigaction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    /// What to do.
    pub disposition: Disposition,
    /// `SA_*`.
    pub flags: u64,
    /// Where a handler returns to.
    pub restorer: u64,
    /// What else is held back while the handler runs.
    pub mask: SigSet,
}

impl Action {
    /// The answer of a program that has said nothing.
    pub const DEFAULT: Action = Action {
        disposition: Disposition::Default,
        flags: 0,
        restorer: 0,
        mask: SigSet::EMPTY,
    };

    /// Whether an `SA_*` flag is set.
    #[must_use]
    pub fn has(&self, flag: u32) -> bool {
        self.flags & u64::from(flag) != 0
    }

    /// Whether it ignores the signal.
    #[must_use]
    pub fn ignores(&self, signal: Signal) -> bool {
        match self.disposition {
            Disposition::Ignore => true,
            Disposition::Default => {
                matches!(
                    signal.default_action(),
                    DefaultAction::Ignore | DefaultAction::Continue
                )
            }
            Disposition::Handler(_) => false,
        }
    }
}

/// What posting a signal came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posted {
    /// Nobody cares.
    Ignored,
    /// It is pending; the LWP must look.
    Pending,
    /// The process must go on if it was stopped (and the LWP must look).
    Continue,
}

/// What a new answer does to signals that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Kept {
    /// Nothing.
    All,
    /// They are dropped, wherever they wait.
    Dropped(SigSet),
}

type Actions = Vec<(Signal, Action)>;

/// A process's answers and what is pending for it.
#[derive(Debug, Default)]
pub struct SignalState {
    /// Answers other than the default, in no order: most programs have few. Shared with the parent until one of them changes theirs.
    actions: Option<Arc<Actions>>,
    /// What any LWP of the process may take.
    pending: Pending,
}

impl SignalState {
    /// Nothing pending, every answer the default.
    #[must_use]
    pub const fn new() -> SignalState {
        SignalState {
            actions: None,
            pending: Pending::new(),
        }
    }

    /// For a child made by fork: same answers, nothing pending.
    #[must_use]
    pub fn fork(&self) -> SignalState {
        SignalState {
            actions: self.actions.clone(),
            ..SignalState::new()
        }
    }

    /// For a new program: handlers become the default, what is ignored stays ignored.
    pub fn exec(&mut self) {
        self.change(|actions| {
            actions.retain(|(_, a)| a.disposition == Disposition::Ignore);
            for (_, action) in actions {
                *action = Action {
                    disposition: Disposition::Ignore,
                    ..Action::DEFAULT
                };
            }
        });
    }

    /// The answer to a signal.
    #[must_use]
    pub fn action(&self, signal: Signal) -> Action {
        (self.actions.iter())
            .flat_map(|actions| actions.iter())
            .find(|(s, _)| *s == signal)
            .map_or(Action::DEFAULT, |(_, a)| *a)
    }

    /// Sets the answer to a signal; pending ones that are ignored from now on are dropped, by the caller those of single LWPs if this says so.
    pub fn set_action(&mut self, signal: Signal, action: Action) -> Kept {
        self.change(|actions| {
            actions.retain(|(s, _)| *s != signal);
            if action != Action::DEFAULT {
                actions.push((signal, action));
            }
        });
        match action.ignores(signal) {
            true => {
                self.pending.drop_all(SigSet::only(signal));
                Kept::Dropped(SigSet::only(signal))
            }
            false => Kept::All,
        }
    }

    /// Which of the signals that wait the arrival of `signal` undoes: a stop and its end cancel each other.
    #[must_use]
    pub fn cancelled_by(signal: Signal) -> SigSet {
        match signal {
            Signal::CONT => SigSet::STOPPING,
            _ if SigSet::STOPPING.contains(signal) => SigSet::only(Signal::CONT),
            _ => SigSet::EMPTY,
        }
    }

    /// Whether a signal is ignored by who holds back `mask`.
    #[must_use]
    pub fn ignores(&self, signal: Signal, mask: SigSet) -> bool {
        !mask.contains(signal) && self.action(signal).ignores(signal)
    }

    /// Makes a signal pending in the process, or in `own` if it is for one LWP, unless it is ignored and not held back by `mask`.
    ///
    /// # Errors
    /// [`Full`]: too many wait.
    pub fn post(
        &mut self,
        info: SigInfo,
        mask: SigSet,
        own: Option<&mut Pending>,
    ) -> Result<Posted, Full> {
        let signal = info.signal;
        self.pending.drop_all(SignalState::cancelled_by(signal));
        let ignored = self.ignores(signal, mask);
        if !ignored {
            own.unwrap_or(&mut self.pending).push(info)?;
        }
        Ok(match signal {
            Signal::CONT | Signal::KILL => Posted::Continue,
            _ if ignored => Posted::Ignored,
            _ => Posted::Pending,
        })
    }

    /// A signal that the program cannot hold back or ignore, because it cannot go on (a fault): if it
    /// tried to, it gets the default action.
    pub fn force(&mut self, info: SigInfo, mask: SigSet) -> Action {
        let action = self.action(info.signal);
        if mask.contains(info.signal) || action.disposition == Disposition::Ignore {
            return Action::DEFAULT;
        }
        self.reset_if_once(info.signal, &action);
        action
    }

    /// As [`Pending::reserve`].
    ///
    /// # Errors
    /// [`OutOfMemory`]
    pub fn reserve(&mut self) -> Result<(), OutOfMemory> {
        self.pending.reserve()
    }

    /// What is pending for the process.
    #[must_use]
    pub fn pending(&self) -> SigSet {
        self.pending.set()
    }

    /// Takes the next signal of `wanted` that is pending for the LWP that has `own`, or for the process.
    pub fn take_info(&mut self, wanted: SigSet, own: &mut Pending) -> Option<SigInfo> {
        // The lower number comes first; of the same one the LWP's own.
        let first = |set: SigSet| set.intersection(wanted).first();
        match (first(own.set()), first(self.pending.set())) {
            (Some(mine), Some(shared)) if shared == Signal::KILL || shared < mine => {
                self.pending.take(wanted)
            }
            (Some(_), _) => own.take(wanted),
            (None, _) => self.pending.take(wanted),
        }
    }

    /// Takes the next signal that `mask` does not hold back, with the answer to it.
    pub fn take(&mut self, mask: SigSet, own: &mut Pending) -> Option<(SigInfo, Action)> {
        let mask = mask.without(SigSet::UNMASKABLE);
        let info = self.take_info(SigSet::from_bits(!mask.bits()), own)?;
        let action = self.action(info.signal);
        self.reset_if_once(info.signal, &action);
        Some((info, action))
    }

    fn reset_if_once(&mut self, signal: Signal, action: &Action) {
        if action.has(sys::SA_RESETHAND) && matches!(action.disposition, Disposition::Handler(_)) {
            self.change(|actions| actions.retain(|(s, _)| *s != signal));
        }
    }

    fn change(&mut self, f: impl FnOnce(&mut Actions)) {
        f(Arc::make_mut(self.actions.get_or_insert_default()));
    }
}

#[cfg(test)]
mod tests;
