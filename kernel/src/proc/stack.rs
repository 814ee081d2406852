//! The first stack of a program: argument and environment strings, their pointers, the auxiliary vector.
//!
//! Pure layout: [`build`] gives the bytes and the address they go to; [`super::exec`] writes them. The
//! order is the System V ABI's, with the strings where Linux has them (below the top of the stack).

use super::chunks::{Chunks, OutOfMemory};
use super::elf::{Image, PHDR_LEN};
use linux_raw_sys::auxvec as at;
use uvm::PAGE_SIZE;

/// End of the stack's address range: the last page below the canonical hole is never mapped.
pub const STACK_TOP: u64 = 0x7fff_ffff_f000;
/// Bytes of address space kept free for the stack to grow into (RLIMIT_STACK's soft limit).
pub const STACK_SIZE: u64 = 8 << 20;
/// Bytes of it that are mapped at first.
pub const STACK_START: u64 = 132 << 10;
/// Bytes below that which no mapping is placed in: running over its end faults.
pub const STACK_GAP: u64 = 1 << 20;
/// Most bytes of argument strings, and as many of environment strings.
pub const MAX_STRINGS: usize = 512 << 10;
/// Ticks per second of `times(2)` (AT_CLKTCK).
pub const CLOCK_TICKS: u64 = 100;

/// Argument or environment strings, each ending in NUL.
#[derive(Debug, Default)]
pub struct Strings {
    bytes: Chunks,
    count: usize,
}

/// Why strings are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StringsError {
    /// Longer than [`MAX_STRINGS`] in all.
    #[error("argument list too long")]
    TooLong,
    /// No kernel memory to hold them.
    #[error("out of memory")]
    OutOfMemory,
}

impl From<OutOfMemory> for StringsError {
    fn from(_: OutOfMemory) -> Self {
        StringsError::OutOfMemory
    }
}

impl Strings {
    /// No strings.
    #[must_use]
    pub const fn new() -> Strings {
        Strings {
            bytes: Chunks::new(),
            count: 0,
        }
    }

    /// Appends one string; `s` holds no NUL (bytes behind one would make strings of their own).
    ///
    /// # Errors
    /// See [`StringsError`].
    pub fn push(&mut self, s: &[u8]) -> Result<(), StringsError> {
        self.piece(s)?;
        self.end()
    }

    /// Appends a piece of a string; [`end`](Strings::end) ends it.
    ///
    /// # Errors
    /// See [`StringsError`].
    pub fn piece(&mut self, piece: &[u8]) -> Result<(), StringsError> {
        if self.bytes.len() + piece.len() >= MAX_STRINGS {
            return Err(StringsError::TooLong);
        }
        Ok(self.bytes.extend(piece)?)
    }

    /// Ends the string under way.
    ///
    /// # Errors
    /// See [`StringsError`].
    pub fn end(&mut self) -> Result<(), StringsError> {
        self.piece(b"\0")?;
        self.count += 1;
        Ok(())
    }

    /// Appends all of `other`, without its first `skip` strings.
    ///
    /// # Errors
    /// See [`StringsError`].
    pub fn append(&mut self, other: &Strings, skip: usize) -> Result<(), StringsError> {
        let mut skipped = 0;
        for byte in other.bytes.bytes() {
            if skipped < skip {
                skipped += usize::from(byte == 0);
            } else if byte == 0 {
                self.end()?;
            } else {
                self.piece(&[byte])?;
            }
        }
        Ok(())
    }

    /// Number of strings.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes in all, NULs included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is no string.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All bytes, NULs included.
    pub fn bytes(&self) -> impl Iterator<Item = u8> + '_ {
        self.bytes.bytes()
    }

    /// Offset of each string from the beginning of the bytes.
    fn offsets(&self) -> impl Iterator<Item = u64> + '_ {
        let starts = core::iter::once(0).chain(
            self.bytes
                .bytes()
                .enumerate()
                .filter(|&(_, b)| b == 0)
                .map(|(i, _)| i as u64 + 1),
        );
        starts.take(self.count)
    }
}

/// The finished stack: `bytes` go to `sp`, and end at [`STACK_TOP`].
#[derive(Debug)]
pub struct FirstStack {
    /// The stack pointer at the first instruction, a multiple of 16.
    pub sp: u64,
    /// What lies at the stack pointer.
    pub bytes: Chunks,
}

/// What else goes into the auxiliary vector.
#[derive(Clone, Copy, Debug)]
pub struct Aux {
    /// 16 random bytes (AT_RANDOM).
    pub random: [u8; 16],
    /// Feature bits of the processor: CPUID leaf 1, EDX (AT_HWCAP).
    pub hwcap: u64,
}

/// Lays out the first stack of `image`.
///
/// # Errors
/// [`StringsError`] if it would fill more than a quarter of the stack, or there is no memory to build it.
pub fn build(
    image: &Image,
    execfn: &[u8],
    argv: &Strings,
    envp: &Strings,
    aux: &Aux,
) -> Result<FirstStack, StringsError> {
    // From the top: a null word, the file's name, environment, arguments; random bytes and platform below.
    let execfn_at = STACK_TOP - 8 - (execfn.len() as u64 + 1);
    let envp_at = execfn_at - envp.len() as u64;
    let argv_at = envp_at - argv.len() as u64;
    let platform_at = argv_at - 8;
    let random_at = platform_at - 16;
    let strings_at = random_at & !15;

    let vector = [
        (at::AT_HWCAP, aux.hwcap),
        (at::AT_PAGESZ, PAGE_SIZE as u64),
        (at::AT_CLKTCK, CLOCK_TICKS),
        (at::AT_PHDR, image.phdr),
        (at::AT_PHENT, PHDR_LEN as u64),
        (at::AT_PHNUM, image.phnum),
        (at::AT_BASE, 0),
        (at::AT_FLAGS, 0),
        (at::AT_ENTRY, image.entry),
        (at::AT_UID, 0),
        (at::AT_EUID, 0),
        (at::AT_GID, 0),
        (at::AT_EGID, 0),
        (at::AT_SECURE, 0),
        (at::AT_RANDOM, random_at),
        (at::AT_HWCAP2, 0),
        (at::AT_EXECFN, execfn_at),
        (at::AT_PLATFORM, platform_at),
        (at::AT_NULL, 0),
    ];
    let words = 1 + argv.count() + 1 + envp.count() + 1 + 2 * vector.len();
    let sp = (strings_at - 8 * words as u64) & !15;
    if STACK_TOP - sp > STACK_SIZE / 4 {
        return Err(StringsError::TooLong);
    }

    let mut bytes = Chunks::new();
    bytes.word(argv.count() as u64)?;
    for (strings, base) in [(argv, argv_at), (envp, envp_at)] {
        for offset in strings.offsets() {
            bytes.word(base + offset)?;
        }
        bytes.word(0)?;
    }
    for (kind, value) in vector {
        bytes.word(u64::from(kind))?;
        bytes.word(value)?;
    }
    while sp + (bytes.len() as u64) < random_at {
        bytes.extend(&[0])?;
    }
    bytes.extend(&aux.random)?;
    bytes.extend(b"x86_64\0\0")?;
    bytes.append(&argv.bytes)?;
    bytes.append(&envp.bytes)?;
    bytes.extend(execfn)?;
    bytes.extend(&[0; 9])?;
    debug_assert_eq!(sp + bytes.len() as u64, STACK_TOP);
    Ok(FirstStack { sp, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrayvec::ArrayVec;
    use std::string::String;
    use std::vec::Vec;

    fn strings(all: &[&str]) -> Strings {
        let mut out = Strings::new();
        all.iter().for_each(|s| out.push(s.as_bytes()).unwrap());
        out
    }

    struct Reader {
        sp: u64,
        bytes: Vec<u8>,
    }

    impl Reader {
        fn word(&self, at: u64) -> u64 {
            let at = (at - self.sp) as usize;
            u64::from_le_bytes(self.bytes[at..at + 8].try_into().unwrap())
        }
        fn text(&self, at: u64) -> String {
            let tail = &self.bytes[(at - self.sp) as usize..];
            String::from_utf8(tail.iter().copied().take_while(|&b| b != 0).collect()).unwrap()
        }
    }

    fn image() -> Image {
        Image {
            entry: 0x40_1000,
            phdr: 0x40_0040,
            phnum: 3,
            brk: 0x50_0000,
            segments: ArrayVec::new(),
        }
    }

    #[test]
    fn reads_back_as_a_program_would() {
        for extra in 0..20 {
            let long = "x".repeat(extra * 7);
            let argv = ["prog", "", &long, "last"];
            let envp = ["A=1", "PATH=/bin"];
            let aux = Aux {
                random: *b"0123456789abcdef",
                hwcap: 7,
            };
            let stack = build(
                &image(),
                b"/bin/prog",
                &strings(&argv),
                &strings(&envp),
                &aux,
            )
            .unwrap();
            let r = Reader {
                sp: stack.sp,
                bytes: stack.bytes.bytes().collect(),
            };
            assert_eq!(stack.sp % 16, 0);
            assert_eq!(stack.sp + r.bytes.len() as u64, STACK_TOP);
            let mut at = stack.sp;
            let mut next = || {
                at += 8;
                r.word(at - 8)
            };
            assert_eq!(next(), argv.len() as u64);
            for want in argv {
                assert_eq!(r.text(next()), want);
            }
            assert_eq!(next(), 0);
            for want in envp {
                assert_eq!(r.text(next()), want);
            }
            assert_eq!(next(), 0);
            let mut seen = 0;
            loop {
                let (kind, value) = (next() as u32, next());
                match kind {
                    at::AT_NULL => break,
                    at::AT_RANDOM => assert_eq!(
                        &r.bytes[(value - r.sp) as usize..][..16],
                        b"0123456789abcdef"
                    ),
                    at::AT_EXECFN => assert_eq!(r.text(value), "/bin/prog"),
                    at::AT_PLATFORM => assert_eq!(r.text(value), "x86_64"),
                    at::AT_PHDR => assert_eq!(value, 0x40_0040),
                    at::AT_ENTRY => assert_eq!(value, 0x40_1000),
                    at::AT_PAGESZ => assert_eq!(value, 4096),
                    _ => {}
                }
                seen += 1;
            }
            assert_eq!(seen, 18);
        }
    }

    #[test]
    fn too_much_is_refused() {
        let mut s = Strings::new();
        let piece = std::vec![b'a'; 100_000];
        for _ in 0..5 {
            s.push(&piece).unwrap();
        }
        assert_eq!(s.push(&piece), Err(StringsError::TooLong));
        // A million empty strings fit as bytes, not as pointers.
        let mut s = Strings::new();
        for _ in 0..MAX_STRINGS - 1 {
            s.push(b"").unwrap();
        }
        let aux = Aux {
            random: [0; 16],
            hwcap: 0,
        };
        assert_eq!(
            build(&image(), b"x", &s, &Strings::new(), &aux).unwrap_err(),
            StringsError::TooLong
        );
    }

    #[test]
    fn append_skips() {
        let mut s = strings(&["/bin/sh", "script"]);
        s.append(&strings(&["old0", "a", "", "b"]), 1).unwrap();
        assert_eq!(s.count(), 5);
        assert!(s.bytes().eq(b"/bin/sh\0script\0a\0\0b\0".iter().copied()));
    }
}
