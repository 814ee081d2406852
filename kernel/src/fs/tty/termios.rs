//! Terminal settings, laid out as Linux's `struct termios`, so that they are copied to and from programs
//! as they are.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

bitflags::bitflags! {
    /// What is done to input bytes. Linux's bits; those without a name here are kept and have no effect.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct InputFlags: u32 {
        /// Newline becomes carriage return.
        const INLCR = 0o100;
        /// Carriage return is dropped.
        const IGNCR = 0o200;
        /// Carriage return becomes newline.
        const ICRNL = 0o400;
        /// `VSTOP` and `VSTART` hold output back and let it go on.
        const IXON = 0o2000;
        /// Any key lets it go on.
        const IXANY = 0o4000;
    }
}

bitflags::bitflags! {
    /// What is done to output bytes.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct OutputFlags: u32 {
        /// Anything at all.
        const OPOST = 0o1;
        /// Newline becomes carriage return and newline.
        const ONLCR = 0o4;
        /// Carriage return becomes newline.
        const OCRNL = 0o10;
    }
}

bitflags::bitflags! {
    /// How lines are made of input.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct LocalFlags: u32 {
        /// Special characters raise signals.
        const ISIG = 0o1;
        /// Input comes in lines that can be edited.
        const ICANON = 0o2;
        /// Input is shown.
        const ECHO = 0o10;
        /// Erasing takes characters off the screen.
        const ECHOE = 0o20;
        /// Killing shows a newline.
        const ECHOK = 0o40;
        /// Newline is shown even without `ECHO`.
        const ECHONL = 0o100;
        /// Signals do not forget what was typed.
        const NOFLSH = 0o200;
        /// Processes in the background do not write.
        const TOSTOP = 0o400;
        /// Control characters show as `^X`.
        const ECHOCTL = 0o1000;
        /// Killing takes the line off the screen.
        const ECHOKE = 0o4000;
        /// `VWERASE`, `VREPRINT`, `VLNEXT` and `VEOL2` mean something.
        const IEXTEN = 0o100000;
    }
}

/// Indices into [`Termios::characters`].
pub mod index {
    /// Raises an interrupt (Ctrl-C).
    pub const VINTR: usize = 0;
    /// Raises quit (Ctrl-\).
    pub const VQUIT: usize = 1;
    /// Erases a character.
    pub const VERASE: usize = 2;
    /// Erases the line (Ctrl-U).
    pub const VKILL: usize = 3;
    /// Ends the file (Ctrl-D).
    pub const VEOF: usize = 4;
    /// Tenths of a second that a raw read waits.
    pub const VTIME: usize = 5;
    /// Fewest bytes that a raw read waits for.
    pub const VMIN: usize = 6;
    /// Lets output go on (Ctrl-Q).
    pub const VSTART: usize = 8;
    /// Holds output back (Ctrl-S).
    pub const VSTOP: usize = 9;
    /// Raises stop (Ctrl-Z).
    pub const VSUSP: usize = 10;
    /// Ends a line as newline does.
    pub const VEOL: usize = 11;
    /// Shows the line once more (Ctrl-R).
    pub const VREPRINT: usize = 12;
    /// Erases a word (Ctrl-W).
    pub const VWERASE: usize = 14;
    /// Takes the next key as it is (Ctrl-V).
    pub const VLNEXT: usize = 15;
    /// Ends a line as newline does.
    pub const VEOL2: usize = 16;
}

/// Settings of a terminal. The layout is Linux's (36 bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Termios {
    /// [`InputFlags`].
    pub input: u32,
    /// [`OutputFlags`].
    pub output: u32,
    /// Line speed and framing: kept, without effect.
    pub control: u32,
    /// [`LocalFlags`].
    pub local: u32,
    /// Line discipline: kept, without effect.
    pub line: u8,
    /// Special characters; 0 means none.
    pub characters: [u8; 19],
}

impl Termios {
    /// As a program finds a terminal: lines, echo, signals.
    pub const fn cooked() -> Termios {
        let mut characters = [0; 19];
        characters[index::VINTR] = 0x03;
        characters[index::VQUIT] = 0x1c;
        characters[index::VERASE] = 0x7f;
        characters[index::VKILL] = 0x15;
        characters[index::VEOF] = 0x04;
        characters[index::VMIN] = 1;
        characters[index::VSTART] = 0x11;
        characters[index::VSTOP] = 0x13;
        characters[index::VSUSP] = 0x1a;
        characters[index::VREPRINT] = 0x12;
        characters[index::VWERASE] = 0x17;
        characters[index::VLNEXT] = 0x16;
        Termios {
            input: InputFlags::ICRNL.union(InputFlags::IXON).bits(),
            output: OutputFlags::OPOST.union(OutputFlags::ONLCR).bits(),
            // 115200 baud, 8 bits, receiver on.
            control: 0o10002 | 0o60 | 0o200,
            local: LocalFlags::ISIG
                .union(LocalFlags::ICANON)
                .union(LocalFlags::ECHO)
                .union(LocalFlags::ECHOE)
                .union(LocalFlags::ECHOK)
                .union(LocalFlags::ECHOCTL)
                .union(LocalFlags::ECHOKE)
                .union(LocalFlags::IEXTEN)
                .bits(),
            line: 0,
            characters,
        }
    }

    /// Every key as it comes, nothing shown, output as written: for programs that edit lines themselves.
    pub const fn raw() -> Termios {
        Termios {
            input: 0,
            output: 0,
            local: 0,
            ..Termios::cooked()
        }
    }

    /// Every key as it comes, nothing shown, output as in cooked mode: for an editor of lines that shares the
    /// terminal with programs in the background.
    pub const fn keys() -> Termios {
        Termios {
            output: Termios::cooked().output,
            ..Termios::raw()
        }
    }

    /// Whether processes in the background may not write.
    pub(crate) fn keeps_background_quiet(&self) -> bool {
        self.local().contains(LocalFlags::TOSTOP)
    }

    pub(super) fn input(&self) -> InputFlags {
        InputFlags::from_bits_retain(self.input)
    }

    pub(super) fn output(&self) -> OutputFlags {
        OutputFlags::from_bits_retain(self.output)
    }

    pub(super) fn local(&self) -> LocalFlags {
        LocalFlags::from_bits_retain(self.local)
    }
}

/// Size of a terminal; Linux's `struct winsize`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
    /// Pixels across; 0 if unknown.
    pub width: u16,
    /// Pixels down; 0 if unknown.
    pub height: u16,
}
