//! The operations that matter most stay as fast as they were when the last run was kept. (`cargo bench -- --store` keeps another one.)

use bench_host::configuration::PLAIN;
use bench_host::{kept, on_auvm};
use bench_programs::cases;

/// In the order of the report, since some leave a state behind: frames that are zeroed, or not.
const CASES: [&str; 15] = [
    "null-system-call",
    "first-touch-after-idle",
    "first-touch-steady",
    "read-unwritten",
    "copy-on-write",
    "copy-on-write-sole-owner",
    "fork-exit-wait-small",
    "vfork-exec-exit-wait",
    "thread-create-exit-join",
    "mmap-touch-munmap-64",
    "mprotect-write-64",
    "munmap-32-mib",
    "pipe-round-trip",
    "file-read-fault",
    "read-4-kib",
];
/// How much of the median that was kept may come on top of it.
const SLACK: u64 = 10;

#[test]
fn what_matters_most_takes_at_most_a_tenth_more_than_in_the_kept_run() {
    let reference = kept().expect("the reference can be read");
    let chosen = CASES.map(|name| cases::find(name).expect("there is such a case"));
    let run = on_auvm(&PLAIN, &chosen).expect("auvm runs them");
    assert_eq!(run.failures, []);
    let mut beyond = Vec::new();
    for name in CASES {
        let row = reference.rows.iter().find(|row| row.name == name);
        let before = row.and_then(|row| row.auvm.as_ref().ok());
        let before = before
            .unwrap_or_else(|| panic!("{name} is not in the reference"))
            .p50;
        let now = run.cases.iter().find(|case| case.name == name);
        let now = now.unwrap_or_else(|| panic!("{name} was not measured")).p50;
        println!("{name}: {now}, kept: {before}");
        if now * 100 > before * (100 + SLACK) {
            beyond.push(format!("{name}: {before} -> {now}"));
        }
    }
    assert!(beyond.is_empty(), "{beyond:#?}");
}
