//! What a page holds, told from who wrote it, which page it is, and how often it was written.
//!
//! Of each page only a count is kept, 1/2048 of the data. A page that was lost, mixed up with another, with
//! another process's or with an older state of itself, in whole or in part, does not hold what follows from
//! its count.

use std::collections::TryReserveError;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::{WORDS_PER_PAGE, mix};

/// A page as words. They are atomic so that memory may be shared between processes; each access is a plain
/// load or store.
pub type Page = [AtomicU64; WORDS_PER_PAGE];

/// From one stamped word to the next.
const STRIDE: usize = 73;

/// Sets the words of one stamp apart: 2^64 over the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The words that are written and checked by every touch: the first, the last, and evenly between them. There
/// is one in each of the eight blocks of 512 bytes, the least that disks read and write.
pub const PLACES: [usize; 8] = {
    let mut places = [0; 8];
    let mut i = 0;
    while i < places.len() {
        places[i] = i * STRIDE;
        i += 1;
    }
    assert!(places[7] == WORDS_PER_PAGE - 1);
    places
};

/// A page does not hold what it must.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The page.
    pub page: usize,
    /// The word in it.
    pub word: usize,
    /// What was written there last; 0 if nothing was.
    pub expected: u64,
    /// What is there.
    pub found: u64,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mismatch {
            page,
            word,
            expected,
            found,
        } = self;
        write!(
            f,
            "page {page}, word {word}: expected {expected:#018x}, found {found:#018x}"
        )
    }
}

/// How often one process has written each of its pages.
#[derive(Debug)]
pub struct Ledger {
    key: u64,
    /// 0: never written.
    counts: Vec<u16>,
}

impl Ledger {
    /// Of pages that are all zeroes yet.
    ///
    /// # Errors
    /// No memory for the counts.
    pub fn new(seed: u64, process: u32, pages: usize) -> Result<Ledger, TryReserveError> {
        let mut counts = Vec::new();
        counts.try_reserve_exact(pages)?;
        counts.resize(pages, 0);
        Ok(Ledger {
            key: mix(mix(seed).wrapping_add(process.into())),
            counts,
        })
    }

    /// Checks the stamp of one page of `memory`, then writes the next one.
    ///
    /// # Errors
    /// The page does not hold what was written last, and stays as it is.
    pub fn touch(&mut self, memory: &[Page], page: usize) -> Result<(), Mismatch> {
        let stamp = self.stamp(page);
        for word in PLACES {
            expect(&memory[page], page, word, stamp.word(word))?;
        }
        // The count may come around, but not to what means "never".
        self.counts[page] = self.counts[page].checked_add(1).unwrap_or(1);
        let stamp = self.stamp(page);
        for word in PLACES {
            memory[page][word].store(stamp.word(word), Relaxed);
        }
        Ok(())
    }

    /// Checks every word of every page: those between the stamped ones must be zero.
    ///
    /// # Errors
    /// The first word that is wrong.
    pub fn check(&self, memory: &[Page]) -> Result<(), Mismatch> {
        for (page, words) in memory.iter().enumerate() {
            let stamp = self.stamp(page);
            for word in 0..WORDS_PER_PAGE {
                let expected = match word % STRIDE {
                    0 => stamp.word(word),
                    _ => 0,
                };
                expect(words, page, word, expected)?;
            }
        }
        Ok(())
    }

    fn stamp(&self, page: usize) -> Stamp {
        Stamp(match self.counts[page] {
            0 => None,
            // Below 2^48 pages: the sum is another for each page and count.
            count => Some(mix(self.key ^ ((page as u64) << 16 | u64::from(count)))),
        })
    }
}

/// What one state of a page is; `None` if it was never written.
#[derive(Clone, Copy)]
struct Stamp(Option<u64>);

impl Stamp {
    fn word(self, word: usize) -> u64 {
        // Each word has all of the stamp in it, so an older one shows wherever it is.
        self.0.map_or(0, |stamp| {
            stamp.wrapping_add((word as u64).wrapping_mul(SPREAD))
        })
    }
}

fn expect(words: &Page, page: usize, word: usize, expected: u64) -> Result<(), Mismatch> {
    let found = words[word].load(Relaxed);
    if found == expected {
        return Ok(());
    }
    Err(Mismatch {
        page,
        word,
        expected,
        found,
    })
}
