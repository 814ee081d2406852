//! Private memory that is larger than the machine's: processes touch it in a pattern, and verify what they find.
//!
//! The memory, [`PAGES`] in all, is divided evenly among the processes. They begin together and go on each by itself; a load has
//! ended when the last of them has, and until then all keep their memory. Page faults of the record are those that had to wait
//! for the disk, of all processes.

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::PAGE;
use crate::bench::{Bench, Failure, Outcome, ROOM, stamp};
use crate::child::Children;
use crate::gate::Gate;
use crate::sys::{self, Access, Sharing};

/// Pages of all processes: 256 MiB.
pub const PAGES: usize = (256 << 20) / PAGE;
/// Words of a page that are written and verified: one in each sector of a disk.
const WORDS: usize = 8;
/// Runs of a load: what one takes depends on what others left behind.
const SAMPLES: usize = 3;
/// Ticks of a microsecond.
const TICKS: u64 = 1000;

/// The order of touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    /// In order, twice. The first touch of each page is among them.
    Cyclic,
    /// Page after page by Zipf's law with exponent 1: a few pages most of the time. Four touches for each page there is.
    Zipf,
    /// At random within an eighth of the memory, which moves on by a page with every eighth touch, once around.
    Moving,
}

/// Each run of the load by so many processes, a power of two, is a sample.
pub(super) fn run(bench: &mut Bench, pattern: Pattern, processes: usize) -> Outcome {
    let ready = |part: &mut Part| match pattern {
        Pattern::Cyclic => Ok(()),
        Pattern::Zipf | Pattern::Moving => part.in_order(),
    };
    bench.rounds(SAMPLES, |bench| {
        let took = together(bench, processes, ready, |part, _| part.touch(pattern))?;
        bench.record(took, TICKS);
        Ok(())
    })
}

/// Each touch at random, by so many processes, a power of two, is a sample. All memory was written before.
pub(super) fn touches(bench: &mut Bench, processes: usize) -> Outcome {
    let each = ROOM / processes;
    let place = sys::map(ROOM * 8 / PAGE, Access::ReadWrite, Sharing::Shared)?;
    // SAFETY: the mapping is that long, aligned to pages, zeroed, and never unmapped.
    let times: &[AtomicU64] = unsafe { core::slice::from_raw_parts(place.cast(), ROOM) };
    together(bench, processes, Part::in_order, |part, number| {
        times[number * each..][..each].iter().try_for_each(|time| {
            let page = part.below(part.pages);
            let begin = stamp();
            part.visit(page)?;
            time.store(stamp() - begin, SeqCst);
            Ok(())
        })
    })?;
    times
        .iter()
        .for_each(|time| bench.record(time.load(SeqCst), 1));
    Ok(())
}

/// Has each of so many processes make its part `ready`, and then all begin their `work` at once; answers what that took, until the
/// last was done, in ticks.
fn together(
    bench: &mut Bench,
    processes: usize,
    ready: impl Fn(&mut Part) -> Outcome,
    work: impl Fn(&mut Part, usize) -> Outcome,
) -> Result<u64, Failure> {
    let (start, finish) = (Gate::new(processes)?, Gate::new(processes)?);
    let place = sys::map(1, Access::ReadWrite, Sharing::Shared)?;
    // SAFETY: mapped above, zeroed, never unmapped.
    let last: &AtomicU64 = unsafe { &*place.cast() };
    let before = sys::childrens_major_faults()?;
    let mut children = Children::with_room(processes)?;
    for number in 0..processes {
        children.spawn(|| {
            let mut part = Part::new(number, PAGES / processes)?;
            ready(&mut part)?;
            start.pass();
            let outcome = work(&mut part, number);
            last.fetch_max(stamp(), SeqCst);
            finish.pass();
            outcome
        })?;
    }
    let load = || -> Result<u64, Failure> {
        start.gather()?;
        let begin = stamp();
        start.open();
        finish.gather()?;
        Ok(last.load(SeqCst) - begin)
    };
    let took = load().inspect_err(|_| children.kill())?;
    finish.open();
    children.expect_exits()?;
    bench.add_faults(sys::childrens_major_faults()? - before);
    Ok(took)
}

/// A process's part of the memory.
struct Part {
    /// The number of its first page among all.
    first: u64,
    pages: usize,
    memory: *mut u8,
    /// How often each page was written.
    versions: *mut u16,
    random: u64,
}

impl Part {
    fn new(number: usize, pages: usize) -> Result<Part, Failure> {
        let room = (pages * size_of::<u16>()).div_ceil(PAGE);
        Ok(Part {
            first: (number * pages) as u64,
            pages,
            memory: sys::map(pages, Access::ReadWrite, Sharing::Private)?,
            versions: sys::map(room, Access::ReadWrite, Sharing::Private)?.cast(),
            random: number as u64,
        })
    }

    fn touch(&mut self, pattern: Pattern) -> Outcome {
        match pattern {
            Pattern::Cyclic => {
                self.in_order()?;
                self.in_order()
            }
            Pattern::Zipf => (0..4 * self.pages).try_for_each(|_| {
                let page = self.zipf();
                self.visit(page)
            }),
            Pattern::Moving => (0..8 * self.pages).try_for_each(|touch| {
                let page = self.below(self.pages / 8);
                self.visit((touch / 8 + page) % self.pages)
            }),
        }
    }

    fn in_order(&mut self) -> Outcome {
        (0..self.pages).try_for_each(|page| self.visit(page))
    }

    /// Verifies what was written to a page, if anything was, and writes to it anew.
    fn visit(&mut self, page: usize) -> Outcome {
        // SAFETY: inside both mappings, which are ours alone.
        let (words, version) = unsafe {
            let words: *mut u64 = self.memory.add(page * PAGE).cast();
            (words, &mut *self.versions.add(page))
        };
        let number = self.first + page as u64;
        let sectors = (0..WORDS).map(|word| (word, words.wrapping_add(word * PAGE / WORDS / 8)));
        if *version > 0 {
            for (word, at) in sectors.clone() {
                // SAFETY: inside the page.
                if unsafe { at.read_volatile() } != content(number, *version, word) {
                    return Err(Failure::Wrong(
                        "a page does not hold what was written to it",
                    ));
                }
            }
        }
        *version = version.wrapping_add(1);
        for (word, at) in sectors {
            // SAFETY: inside the page.
            unsafe { at.write_volatile(content(number, *version, word)) };
        }
        Ok(())
    }

    /// A page by Zipf's law: half of the ranks below a power of two have the probability of all below half of it. Which page has which
    /// rank is without order.
    fn zipf(&mut self) -> usize {
        let octaves = self.pages.ilog2() as usize;
        let octave = self.below(octaves);
        let rank = (1 << octave) - 1 + self.below(1 << octave);
        // An odd factor makes it one to one.
        rank.wrapping_mul(0x9e37_79b9) % self.pages
    }

    /// A number below `limit`, with no order in them (SplitMix64).
    fn below(&mut self, limit: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % limit as u64) as usize
    }
}

/// What a word of a page holds: unlike any other of any page, and of any time.
fn content(page: u64, version: u16, word: usize) -> u64 {
    let name = page << 24 | u64::from(version) << 8 | word as u64;
    name.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_as_it_was_written_is_found() {
        let mut part = Part::new(3, 16).unwrap();
        for pattern in [Pattern::Cyclic, Pattern::Zipf, Pattern::Moving] {
            part.touch(pattern).unwrap();
        }
        // SAFETY: inside the mapping.
        unsafe { *part.memory.add(5 * PAGE + 512) ^= 1 };
        assert!(part.in_order().is_err());
    }

    #[test]
    fn zipf_reaches_most_pages_and_prefers_few() {
        let mut part = Part::new(0, 256).unwrap();
        let mut counts = [0; 256];
        (0..100_000).for_each(|_| counts[part.zipf()] += 1);
        counts.sort_unstable();
        // All ranks but the last.
        assert_eq!(counts.iter().filter(|count| **count == 0).count(), 1);
        let half: u32 = counts[256 - 15..].iter().sum();
        assert!((48_000..52_000).contains(&half), "{half}");
    }
}
