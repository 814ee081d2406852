//! Orders in which a load touches its pages.
//!
//! Each is an endless iterator over page numbers. It keeps a few words of state however many pages there are,
//! so that what is measured is the memory that is touched, not the choosing. All is integer arithmetic: the
//! same seed gives the same pages on every machine. `next` is inlined into the loop that touches, whose registers
//! then hold that state.

mod zipf;

use std::fmt;
use std::str::FromStr;

use crate::Random;
pub use zipf::Zipf;

/// The patterns by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// [`Sequential`].
    Sequential,
    /// [`Uniform`].
    Random,
    /// [`Zipf`].
    Zipf,
    /// [`Moving`].
    Moving,
}

impl Pattern {
    /// All of them.
    pub const ALL: [Pattern; 4] = [
        Pattern::Sequential,
        Pattern::Random,
        Pattern::Zipf,
        Pattern::Moving,
    ];

    /// The name on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Pattern::Sequential => "sequential",
            Pattern::Random => "random",
            Pattern::Zipf => "zipf",
            Pattern::Moving => "moving",
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No pattern has this name. Its text lists those that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownPattern;

impl fmt::Display for UnknownPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Pattern::ALL.map(Pattern::name);
        write!(f, "expected one of {}", names.join(", "))
    }
}

impl std::error::Error for UnknownPattern {}

impl FromStr for Pattern {
    type Err = UnknownPattern;

    fn from_str(text: &str) -> Result<Pattern, UnknownPattern> {
        Pattern::ALL
            .into_iter()
            .find(|pattern| pattern.name() == text)
            .ok_or(UnknownPattern)
    }
}

/// The first page to the last, and again from the first.
#[derive(Debug)]
pub struct Sequential {
    pages: usize,
    next: usize,
}

impl Sequential {
    /// Over at least one page.
    ///
    /// # Panics
    /// Without pages, as all patterns.
    pub fn new(pages: usize) -> Sequential {
        assert_ne!(pages, 0);
        Sequential { pages, next: 0 }
    }
}

impl Iterator for Sequential {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let page = self.next;
        self.next = following(page, 1, self.pages);
        Some(page)
    }
}

/// Each page as likely as any other, every time.
#[derive(Debug)]
pub struct Uniform {
    pages: usize,
    random: Random,
}

impl Uniform {
    /// Over at least one page.
    pub fn new(pages: usize, random: Random) -> Uniform {
        assert_ne!(pages, 0);
        Uniform { pages, random }
    }
}

impl Iterator for Uniform {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        Some(self.random.below(self.pages as u64) as usize)
    }
}

/// A working set that moves (Denning): an eighth of the pages, neighbours of each other, each as likely as
/// the others. With every eighth of a round, which is as many touches as it has pages, it moves on by an
/// eighth of itself; behind the last page comes the first.
#[derive(Debug)]
pub struct Moving {
    pages: usize,
    /// Where the working set begins.
    start: usize,
    /// Its length in pages.
    len: usize,
    /// Touches until it moves.
    left: usize,
    random: Random,
}

impl Moving {
    /// The working set and the round have eight parts, as far as the pages suffice.
    const PARTS: usize = 8;

    /// Over at least one page.
    pub fn new(pages: usize, random: Random) -> Moving {
        assert_ne!(pages, 0);
        let len = (pages / Moving::PARTS).max(1);
        Moving {
            pages,
            start: 0,
            len,
            left: len,
            random,
        }
    }
}

impl Iterator for Moving {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.left == 0 {
            let step = (self.len / Moving::PARTS).max(1);
            self.start = following(self.start, step, self.pages);
            self.left = self.len;
        }
        self.left -= 1;
        let within = self.random.below(self.len as u64) as usize;
        Some(following(self.start, within, self.pages))
    }
}

/// The page that is `distance <= pages` behind `page`, the first following the last.
fn following(page: usize, distance: usize, pages: usize) -> usize {
    let page = page + distance;
    // Once around at most: a division would be a waste.
    if page >= pages { page - pages } else { page }
}
