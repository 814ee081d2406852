//! The load `hog` and what it is made of, on this host: no machine is booted here.

use std::collections::HashSet;
use std::fs;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use launcher::compile::Linking;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use programs::pattern::{Moving, Pattern, Sequential, Uniform, Zipf};
use programs::size::{self, BadSize};
use programs::stamp::{Ledger, Mismatch, PLACES, Page};
use programs::{Random, WORDS_PER_PAGE};

/// Numbers of pages with something special about them, and some without.
const COUNTS: [usize; 9] = [1, 2, 3, 7, 8, 9, 64, 1000, 4096];

#[test]
fn sequential_is_in_order() {
    let pages: Vec<usize> = Sequential::new(3).take(7).collect();
    assert_eq!(pages, [0, 1, 2, 0, 1, 2, 0]);
    assert!(Sequential::new(1).take(5).all(|page| page == 0));
}

#[test]
fn random_is_uniform_over_all_pages() {
    const PAGES: usize = 100;
    const EACH: usize = 1000;
    let hits = histogram(Uniform::new(PAGES, Random::new(1)), PAGES, PAGES * EACH);
    // Six standard deviations on each side.
    let spread = 6.0 * (EACH as f64).sqrt();
    for (page, hits) in hits.iter().enumerate() {
        assert!(
            (*hits as f64 - EACH as f64).abs() < spread,
            "page {page}: {hits}"
        );
    }
}

#[test]
fn zipf_ranks_come_in_proportion_to_one_over_the_rank() {
    // A power of two, one less, and one that leaves most of the last octave out.
    for pages in [1024, 1023, 1100] {
        const TOUCHES: usize = 1_000_000;
        let zipf = Zipf::new(pages, Random::new(3));
        let ranked: Vec<usize> = (0..pages).map(|rank| zipf.page(rank)).collect();
        let hits = histogram(zipf, pages, TOUCHES);
        let harmonic: f64 = (1..=pages).map(|rank| 1.0 / rank as f64).sum();
        for rank in [1, 2, 3, 4, 7, 8, 100, 511, 512, pages] {
            let expected = TOUCHES as f64 / (harmonic * rank as f64);
            let found = hits[ranked[rank - 1]] as f64;
            assert!(
                (found - expected).abs() < 6.0 * expected.sqrt(),
                "{pages} pages, rank {rank}: {found} times, not about {expected}"
            );
        }
    }
}

#[test]
fn zipf_ranks_are_a_shuffle_of_the_pages() {
    for pages in COUNTS {
        let zipf = Zipf::new(pages, Random::new(5));
        let mut ranked: Vec<usize> = (0..pages).map(|rank| zipf.page(rank)).collect();
        // Hot pages are not each other's neighbours more often than chance has it.
        if pages >= 1000 {
            let neighbours = ranked
                .windows(2)
                .filter(|pair| pair[0].abs_diff(pair[1]) == 1)
                .count();
            assert!(neighbours < 20, "{pages} pages: {neighbours} neighbours");
        }
        ranked.sort_unstable();
        assert!(ranked.into_iter().eq(0..pages), "{pages} pages");
    }
    let hottest: HashSet<usize> = (0..20)
        .map(|seed| Zipf::new(4096, Random::new(seed)).page(0))
        .collect();
    assert!(hottest.len() > 15, "the seed decides: {hottest:?}");
}

#[test]
fn moving_stays_in_its_working_set_and_moves_on_by_an_eighth_of_it() {
    const PAGES: usize = 1024;
    const SET: usize = PAGES / 8;
    let mut moving = Moving::new(PAGES, Random::new(2));
    // Nine turns around all pages.
    for period in 0..9 * 64 {
        let start = period * (SET / 8) % PAGES;
        let touched: HashSet<usize> = moving.by_ref().take(PAGES / 8).collect();
        for page in &touched {
            let within = (page + PAGES - start) % PAGES;
            assert!(
                within < SET,
                "period {period}: page {page}, from {start} on"
            );
        }
        // As many draws as there are pages miss 1/e of them.
        let share = touched.len() as f64 / SET as f64;
        assert!((0.45..0.80).contains(&share), "period {period}: {share}");
    }
}

#[test]
fn no_pattern_leaves_its_pages_and_a_seed_repeats() {
    for pages in COUNTS {
        for seed in [0, 1, u64::MAX] {
            let random = || Random::new(seed);
            let orders: [fn(usize, Random) -> Vec<usize>; 3] = [
                |pages, random| Uniform::new(pages, random).take(3000).collect(),
                |pages, random| Zipf::new(pages, random).take(3000).collect(),
                |pages, random| Moving::new(pages, random).take(3000).collect(),
            ];
            for order in orders {
                let touched = order(pages, random());
                assert!(touched.iter().all(|page| *page < pages), "{pages} pages");
                assert_eq!(touched, order(pages, random()));
            }
        }
    }
}

#[test]
fn patterns_have_names() {
    for pattern in Pattern::ALL {
        assert_eq!(pattern.to_string().parse(), Ok(pattern));
    }
    assert_eq!(
        "Zipf".parse::<Pattern>().unwrap_err().to_string(),
        "expected one of sequential, random, zipf, moving"
    );
}

#[test]
fn sizes_as_people_write_them() {
    for (text, bytes) in [
        ("0", 0),
        ("4096", 4096),
        ("4096B", 4096),
        ("512k", 512 << 10),
        ("32M", 32 << 20),
        ("32mb", 32 << 20),
        ("1MiB", 1 << 20),
        ("1G", 1 << 30),
        ("2T", 2 << 40),
    ] {
        assert_eq!(size::parse(text), Ok(bytes), "{text}");
    }
    for text in ["", "M", "lots", "-1M", "1.5G", "64Q", "4ib", "1 M", "1MM"] {
        assert_eq!(size::parse(text), Err(BadSize::Malformed), "{text}");
    }
    for text in ["9999999T", "9223372036854775808", "99999999999999999999999"] {
        assert_eq!(size::parse(text), Err(BadSize::TooLarge), "{text}");
    }
}

fn zeroed(pages: usize) -> Vec<Page> {
    (0..pages)
        .map(|_| std::array::from_fn(|_| AtomicU64::new(0)))
        .collect()
}

#[test]
fn what_was_written_is_what_is_expected() {
    let memory = zeroed(3);
    let mut ledger = Ledger::new(1, 0, 3).unwrap();
    ledger.check(&memory).unwrap();
    // More often than the count can count.
    for _ in 0..70_000 {
        ledger.touch(&memory, 1).unwrap();
    }
    ledger.touch(&memory, 2).unwrap();
    ledger.check(&memory).unwrap();
    assert!(memory[0].iter().all(|word| word.load(Relaxed) == 0));
    for word in PLACES {
        assert_ne!(memory[1][word].load(Relaxed), 0);
    }
    // One in each block of a disk.
    let blocks: Vec<usize> = PLACES.iter().map(|word| word * 8 / 512).collect();
    assert_eq!(blocks, [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn every_wrong_word_is_found() {
    let memory = zeroed(2);
    let mut ledger = Ledger::new(1, 0, 2).unwrap();
    ledger.touch(&memory, 1).unwrap();
    for page in 0..2 {
        for word in 0..WORDS_PER_PAGE {
            let right = memory[page][word].load(Relaxed);
            memory[page][word].store(right ^ 1, Relaxed);
            let mismatch = Mismatch {
                page,
                word,
                expected: right,
                found: right ^ 1,
            };
            assert_eq!(ledger.check(&memory), Err(mismatch));
            if PLACES.contains(&word) {
                assert_eq!(ledger.touch(&memory, page), Err(mismatch));
            }
            memory[page][word].store(right, Relaxed);
        }
    }
    ledger.check(&memory).unwrap();
}

/// A page with another's content, another process's or seed's, or its own of before, is wrong in every word.
#[test]
fn stamps_tell_pages_apart() {
    let stamped = |seed, process, page: usize, times| {
        let memory = zeroed(2);
        let mut ledger = Ledger::new(seed, process, 2).unwrap();
        for _ in 0..times {
            ledger.touch(&memory, page).unwrap();
        }
        PLACES.map(|word| memory[page][word].load(Relaxed))
    };
    let reference = stamped(1, 0, 0, 1);
    for other in [
        stamped(2, 0, 0, 1),
        stamped(1, 1, 0, 1),
        stamped(1, 0, 1, 1),
        stamped(1, 0, 0, 2),
    ] {
        assert!(reference.iter().zip(&other).all(|(a, b)| a != b));
        // Nor is a word the same as one at another place.
        assert!(!reference.iter().any(|word| other.contains(word)));
    }
}

#[test]
fn hog_verifies_every_pattern() {
    for pattern in Pattern::ALL {
        for kind in ["", " --shared"] {
            let line = format!(
                "--procs 3 --size 1M --rounds 9 --seed 4 --verify --pattern {pattern}{kind}"
            );
            let output = hog(&line).output().unwrap();
            assert_eq!(
                printed(&output),
                (
                    Some(0),
                    format!(
                        "processes: 3, bytes each: 1048576, pattern: {pattern}, rounds: 9, touches: 6912, verified\n"
                    ),
                    String::new()
                ),
                "{line}"
            );
        }
    }
}

/// They verify the same, and a line more tells a time, which nobody knows.
#[test]
fn hog_begins_together_and_takes_the_time() {
    for kind in ["", " --verify", " --shared"] {
        let line = format!("--procs 20 --size 1M --rounds 2 --together{kind}");
        let started = Instant::now();
        let output = hog(&line).output().unwrap();
        let whole = started.elapsed();
        let (status, stdout, stderr) = printed(&output);
        assert_eq!((status, stderr.as_str()), (Some(0), ""), "{line}");
        let (summary, time) = stdout.split_once('\n').unwrap();
        assert!(summary.starts_with("processes: 20, "), "{stdout}");
        let took = time.strip_prefix("rounds took: ").unwrap();
        let took: u64 = took.strip_suffix(" us\n").unwrap().parse().unwrap();
        assert!((1..whole.as_micros() as u64).contains(&took), "{stdout}");
    }
    // Who cannot have its memory is not waited for.
    let output = hog("--procs 2 --size 99999T --together").output().unwrap();
    let (status, stdout, _) = printed(&output);
    assert_eq!(status, Some(1));
    assert!(stdout.starts_with("processes: 0 of 2, "), "{stdout}");
}

#[test]
fn hog_takes_its_defaults() {
    let output = hog("").output().unwrap();
    let expected =
        "processes: 1, bytes each: 16777216, pattern: sequential, rounds: 1, touches: 4096\n";
    assert_eq!(
        printed(&output),
        (Some(0), expected.to_owned(), String::new())
    );
}

#[test]
fn hog_says_what_is_wrong_with_its_arguments() {
    for (line, complaint) in [
        (
            "--procs 0",
            "--procs '0': expected a whole number from 1 up",
        ),
        ("--procs", "--procs needs a value"),
        (
            "--rounds many",
            "--rounds 'many': expected a whole number from 1 up",
        ),
        ("--size 0", "--size '0': at least one byte is needed"),
        ("--size 9999999T", "--size '9999999T': too large"),
        (
            "--size 1.5M",
            "--size '1.5M': expected a size like 4096, 512k, 32M or 1G",
        ),
        (
            "--pattern any",
            "--pattern 'any': expected one of sequential, random, zipf, moving",
        ),
        ("--verify please", "unknown argument 'please'"),
    ] {
        let output = hog(line).output().unwrap();
        let expected = format!("hog: {complaint}; `hog --help` shows the options\n");
        assert_eq!(printed(&output), (Some(2), String::new(), expected));
    }
}

#[test]
fn hog_reports_memory_that_there_is_not() {
    for (line, complaint) in [
        ("--size 100000T", "hog: process 0: no memory: "),
        ("--size 100000T --shared", "hog: no shared memory: "),
        (
            "--size 1000000T --procs 1000 --shared",
            "hog: no shared memory: ",
        ),
    ] {
        let (status, _, complaints) = printed(&hog(line).output().unwrap());
        assert_eq!(status, Some(1), "{line}");
        assert!(complaints.starts_with(complaint), "{complaints}");
    }
}

/// As the out-of-memory killer does it.
#[test]
fn hog_goes_on_without_a_process_that_was_killed() {
    // Minutes, if nobody killed them.
    let mut parent = hog("--procs 2 --size 4M --rounds 10000000 --pattern random")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let list = format!("/proc/{0}/task/{0}/children", parent.id());
    let patience = Instant::now() + Duration::from_secs(60);
    let children: Vec<Pid> = loop {
        let children = fs::read_to_string(&list).unwrap();
        let children = children.split_whitespace().map(|id| id.parse().unwrap());
        let children: Vec<Pid> = children.map(Pid::from_raw).collect();
        if children.len() == 2 {
            break children;
        }
        if Instant::now() > patience {
            parent.kill().unwrap();
            panic!("it has the children {children:?}");
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    for child in children {
        kill(child, Signal::SIGKILL).unwrap();
    }
    let (status, result, complaints) = printed(&parent.wait_with_output().unwrap());
    assert_eq!(
        complaints,
        "hog: process 0: killed by signal 9\nhog: process 1: killed by signal 9\n"
    );
    assert_eq!(
        result,
        "processes: 0 of 2, bytes each: 4194304, pattern: random, rounds: 10000000, touches: 0\n"
    );
    assert_eq!(status, Some(1));
}

/// How often each page is touched.
fn histogram(order: impl Iterator<Item = usize>, pages: usize, touches: usize) -> Vec<usize> {
    let mut hits = vec![0; pages];
    order.take(touches).for_each(|page| hits[page] += 1);
    hits
}

/// The program with the words of a line as its arguments.
fn hog(line: &str) -> Command {
    let program = tests::oracle::programs()
        .iter()
        .find(|program| program.name == "hog" && program.linking == Linking::StaticPie)
        .expect("it is one of the programs");
    let mut command = Command::new(&program.host);
    command.args(line.split_whitespace());
    command
}

/// Status, standard output, standard error.
fn printed(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}
