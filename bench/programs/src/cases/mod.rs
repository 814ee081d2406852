//! The cases, by name. What one sample of each is stands beside it: the report prints that.

mod births;
mod blocked;
mod calls;
mod faults;
mod files;
mod list;
mod mappings;
mod paging;
mod wakes;

pub use list::CASES;

use crate::bench::{Bench, Outcome};

/// What a sample's number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Ticks of the operation.
    Instructions,
    /// Ticks by the pages that the operation was about.
    InstructionsPerPage,
    /// Guest time, the idle part of it too. A tick is one.
    Nanoseconds,
    /// The same; a thousand ticks are one.
    Microseconds,
    /// Memory.
    Bytes,
}

impl Unit {
    /// As it is in a record.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Instructions => "instructions",
            Unit::InstructionsPerPage => "instructions/page",
            Unit::Nanoseconds => "ns",
            Unit::Microseconds => "us",
            Unit::Bytes => "bytes",
        }
    }
}

/// What a case is about: the report has a table for each, and a mean of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// One operation, repeated.
    Operations,
    /// From the machine's start to the first user instruction.
    Boot,
    /// What the kernel keeps for tasks that do nothing.
    Memory,
    /// Private memory that is larger than the machine's, on a swap disk.
    Paging,
    /// One touch of such memory.
    Touches,
}

impl Group {
    /// All, in the order of the report.
    pub const ALL: [Group; 5] = [
        Group::Operations,
        Group::Boot,
        Group::Memory,
        Group::Paging,
        Group::Touches,
    ];

    /// As it is in a report.
    pub fn name(self) -> &'static str {
        match self {
            Group::Operations => "operations",
            Group::Boot => "boot",
            Group::Memory => "memory",
            Group::Paging => "paging",
            Group::Touches => "touches",
        }
    }
}

/// One operation to be measured.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name, in kebab-case.
    pub name: &'static str,
    /// What it is about.
    pub group: Group,
    /// What its samples count.
    pub unit: Unit,
    /// What one sample is.
    pub sample: &'static str,
    /// Page faults of one sample, where that is what the case is about: the proof that the samples are what they are said to be.
    pub faults: Option<u32>,
    /// Takes the samples. `None`: the machine's first program says it, of itself ([`crate::boot`]).
    pub run: Option<fn(&mut Bench) -> Outcome>,
}

/// Finds a case by name.
pub fn find(name: &str) -> Option<&'static Case> {
    CASES.iter().find(|case| case.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_safe_to_print() {
        for (index, case) in CASES.iter().enumerate() {
            assert!(
                !CASES[..index].iter().any(|other| other.name == case.name),
                "{}",
                case.name
            );
            let kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(
                case.name.len() < 64 && case.name.chars().all(kebab),
                "{}",
                case.name
            );
            assert!(find(case.name).is_some());
        }
        assert!(find("machine").is_none());
    }

    #[test]
    fn cases_that_need_no_process_of_their_own_run_on_this_host() {
        // A test is one thread of several: no fork, and no signal, which another thread might take.
        for name in [
            "null-system-call",
            "mmap-munmap",
            "mprotect-64",
            "poll-ready-pipe",
        ] {
            let mut bench = Bench::new().unwrap();
            find(name).unwrap().run.unwrap()(&mut bench).unwrap();
            assert!(bench.samples().len() >= 500, "{name}");
        }
    }
}
