//! The list of all cases.

use super::paging::Pattern;
use super::{Case, Group, Unit, births, blocked, calls, faults, files, mappings, paging, wakes};
use crate::bench::{Bench, Outcome};

/// All of them, in the order of the report.
pub static CASES: &[Case] = &[
    case("null-system-call", "getppid", calls::null),
    fault(
        "first-touch-after-idle",
        "first write to an anonymous page, after 200 ms of an idle machine",
        faults::first_touch_after_idle,
    ),
    fault(
        "first-touch-steady",
        "the same, after more pages were written and given back than memory has free, without a pause",
        faults::first_touch_steady,
    ),
    fault(
        "read-unwritten",
        "first read of an anonymous page that nobody wrote",
        faults::read_unwritten,
    ),
    fault(
        "copy-on-write",
        "write to a page that a child shares since a fork",
        faults::copy_on_write,
    ),
    fault(
        "copy-on-write-sole-owner",
        "write to a page that was shared with a child that has ended",
        faults::sole_owner,
    ),
    fault(
        "fault-10-entries",
        "first write to a page, turn by turn in 10 mappings",
        faults::ten_entries,
    ),
    fault(
        "fault-10000-entries",
        "the same in 10,000 mappings",
        faults::ten_thousand_entries,
    ),
    case(
        "fork-exit-wait-small",
        "fork of a small process; the child exits and is collected",
        births::fork_exit_wait_small,
    ),
    case(
        "fork-exit-wait-16-mib",
        "the same with 16 MiB written",
        births::fork_exit_wait_large,
    ),
    case(
        "fork-exit-wait-16-mib-rewritten",
        "the same, every page having been written since the last fork",
        births::fork_exit_wait_rewritten,
    ),
    case(
        "fork-small",
        "fork of a small process, until it returns in the parent",
        births::fork_small,
    ),
    case(
        "fork-16-mib",
        "the same with 16 MiB written",
        births::fork_large,
    ),
    case(
        "vfork-exec-exit-wait",
        "vfork; the child executes a program that exits at once, and is collected",
        births::vfork_exec,
    ),
    case(
        "thread-create-exit-join",
        "clone of a thread that ends at once, and the wait for its end; its stack is there",
        births::thread,
    ),
    case(
        "exit-64-mib",
        "from the exit of a child with 64 MiB written until the parent's wait returns",
        births::exit_large,
    ),
    case(
        "mmap-munmap",
        "mmap and munmap of a page that nobody touched",
        mappings::map_unmap,
    ),
    fault_n(
        64,
        "mmap-touch-munmap-64",
        "mmap of 64 pages, a write to each, munmap",
        mappings::map_touch_unmap,
    ),
    case(
        "madvise-dontneed-64",
        "madvise(MADV_DONTNEED) of 64 written pages",
        mappings::dont_need,
    ),
    case(
        "mlock-munlock-64",
        "mlock and munlock of 64 written pages",
        mappings::lock_unlock,
    ),
    case(
        "mprotect-64",
        "mprotect of 64 written pages to read-only, and back",
        mappings::protect_and_back,
    ),
    case(
        "mprotect-write-64",
        "the same, and a write to each page: what was left to faults is in it",
        mappings::protect_and_write,
    ),
    per_page(
        "munmap-32-mib",
        "munmap of 32 MiB of written pages, by their number",
        mappings::unmap_large,
    ),
    case(
        "pipe-round-trip",
        "a byte to another process through a pipe, and one back",
        wakes::pipe_round_trip,
    ),
    case(
        "futex-round-trip",
        "another thread woken by a futex, and woken by it",
        wakes::futex_round_trip,
    ),
    case(
        "signal",
        "kill of oneself: the handler runs and returns",
        calls::signal,
    ),
    case(
        "poll-ready-pipe",
        "poll of one pipe that has a byte",
        calls::poll_ready,
    ),
    fault(
        "file-read-fault",
        "read of a mapped file page that is cached; every sixteenth page of the file",
        files::read_fault,
    ),
    per_page(
        "file-read-sequence",
        "reads of all 1,024 pages of a mapped, cached file in order, by their number",
        files::read_sequence,
    ),
    fault(
        "file-private-write-fault",
        "first write to a page of a private mapping of a cached file",
        files::private_write,
    ),
    case(
        "read-4-kib",
        "pread of 4 KiB of a cached file",
        files::read_cached,
    ),
    case("open-close", "open and close of a file", files::open_close),
    Case {
        group: Group::Boot,
        run: None,
        ..case(
            "boot",
            "from the machine's start, firmware included, to the first instructions of the first program",
            |_| Ok(()),
        )
    },
    memory(
        "blocked-process",
        "memory that is free no longer for each of 128 more forked processes that sleep on a futex",
        blocked::processes,
    ),
    memory(
        "blocked-thread",
        "the same for threads of one process; a thread's own stack is not counted",
        blocked::threads,
    ),
    paging(
        "paging-cyclic-1",
        "256 MiB of private memory, written in order and again after verification, by 1 process",
        |bench| paging::run(bench, Pattern::Cyclic, 1),
    ),
    paging(
        "paging-cyclic-8",
        "the same by 8 processes at once",
        |bench| paging::run(bench, Pattern::Cyclic, 8),
    ),
    paging(
        "paging-cyclic-64",
        "the same by 64 processes at once",
        |bench| paging::run(bench, Pattern::Cyclic, 64),
    ),
    paging(
        "paging-cyclic-256",
        "the same by 256 processes at once",
        |bench| paging::run(bench, Pattern::Cyclic, 256),
    ),
    paging(
        "paging-zipf-8",
        "256 MiB of private memory, all written before: touches by Zipf's law, each verifies and writes, by 8 processes",
        |bench| paging::run(bench, Pattern::Zipf, 8),
    ),
    paging("paging-zipf-64", "the same by 64 processes", |bench| {
        paging::run(bench, Pattern::Zipf, 64)
    }),
    paging(
        "paging-moving-8",
        "the same, touches at random in a part that moves on, an eighth of the memory, by 8 processes",
        |bench| paging::run(bench, Pattern::Moving, 8),
    ),
    paging("paging-moving-64", "the same by 64 processes", |bench| {
        paging::run(bench, Pattern::Moving, 64)
    }),
    touch(
        "swap-touch-1",
        "256 MiB of private memory, all written before: one touch at random, verifies and writes, by 1 process",
        |bench| paging::touches(bench, 1),
    ),
    touch(
        "swap-touch-64",
        "the same by 64 processes at once",
        |bench| paging::touches(bench, 64),
    ),
];

const fn case(name: &'static str, sample: &'static str, run: fn(&mut Bench) -> Outcome) -> Case {
    Case {
        name,
        group: Group::Operations,
        unit: Unit::Instructions,
        sample,
        faults: None,
        run: Some(run),
    }
}

const fn fault(name: &'static str, sample: &'static str, run: fn(&mut Bench) -> Outcome) -> Case {
    fault_n(1, name, sample, run)
}

const fn fault_n(
    faults: u32,
    name: &'static str,
    sample: &'static str,
    run: fn(&mut Bench) -> Outcome,
) -> Case {
    Case {
        faults: Some(faults),
        ..case(name, sample, run)
    }
}

const fn per_page(
    name: &'static str,
    sample: &'static str,
    run: fn(&mut Bench) -> Outcome,
) -> Case {
    Case {
        unit: Unit::InstructionsPerPage,
        ..case(name, sample, run)
    }
}

const fn memory(name: &'static str, sample: &'static str, run: fn(&mut Bench) -> Outcome) -> Case {
    Case {
        group: Group::Memory,
        unit: Unit::Bytes,
        ..case(name, sample, run)
    }
}

const fn paging(name: &'static str, sample: &'static str, run: fn(&mut Bench) -> Outcome) -> Case {
    Case {
        group: Group::Paging,
        unit: Unit::Microseconds,
        ..case(name, sample, run)
    }
}

const fn touch(name: &'static str, sample: &'static str, run: fn(&mut Bench) -> Outcome) -> Case {
    Case {
        group: Group::Touches,
        unit: Unit::Nanoseconds,
        ..case(name, sample, run)
    }
}
