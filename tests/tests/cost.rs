//! What a system call and a fault cost in guest instructions: exact under `--icount`, and bounded here. The bounds are those of
//! the goals; a change that costs more has to say so by raising them.

use tests::Auvm;

/// Guest instructions between two time stamps around the instruction that faults or calls, the stamps' own taken off, at the median.
const BOUNDS: [(&str, u64); 3] = [
    ("getppid", 140),
    ("first-touch-write", 570),
    ("first-touch-read", 570),
];

#[test]
fn system_calls_and_first_touches_stay_cheap() {
    let text = Auvm::new()
        .flag("--icount")
        .exec("run /programs/cost")
        .success();
    for (name, bound) in BOUNDS {
        let median = median(&text, name);
        println!("{name}: {median} instructions, at most {bound}");
        assert!(
            (1..=bound).contains(&median),
            "{name}: {median}, not at most {bound}\n{text}"
        );
    }
}

/// The number after `p50` on the line of this name.
fn median(text: &str, name: &str) -> u64 {
    let mut words = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap_or_else(|| panic!("no {name} in\n{text}"))
        .split_whitespace();
    words
        .find(|word| *word == "p50")
        .and_then(|_| words.next()?.parse().ok())
        .unwrap_or_else(|| panic!("no median of {name} in\n{text}"))
}

/// The cases of `bench fault` whose pages are in memory: no block from the heap, as many faults as samples.
#[test]
fn resident_faults_allocate_nothing() {
    let text = Auvm::new()
        .flag("--icount")
        .exec("bench fault --count 200; check")
        .success();
    for case in [
        "first-touch-zeroed",
        "first-touch-unzeroed",
        "read-unwritten",
        "copy-on-write",
        "file-resident",
    ] {
        let part = text
            .split_once(&format!("\n{case}: "))
            .unwrap_or_else(|| panic!("no {case} in\n{text}"))
            .1;
        let part = part.split("\n\n").next().unwrap_or_default();
        for line in ["  200 faults", "  0 heap_allocations", "  0 page_reads"] {
            assert!(
                part.lines().any(|l| l == line),
                "{case}: no `{line}` in\n{part}"
            );
        }
    }
    let part = text
        .split_once("\nfile-from-disk: ")
        .expect("the case is there")
        .1;
    assert!(part.contains("  200 page_reads\n"), "{text}");
}
