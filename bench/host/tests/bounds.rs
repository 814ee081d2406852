//! The operations that matter most stay as fast as they were when the last run was kept. (`cargo bench -- --store` keeps another one.)

use bench_host::configuration::PLAIN;
use bench_host::documents::MOST_IMPORTANT;
use bench_host::{kept, on_auvm};
use bench_programs::cases;

/// How much of the median that was kept may come on top of it.
const SLACK: u64 = 10;

#[test]
fn what_matters_most_takes_at_most_a_tenth_more_than_in_the_kept_run() {
    let reference = kept().expect("the reference can be read");
    let chosen = MOST_IMPORTANT.map(|name| cases::find(name).expect("there is such a case"));
    let run = on_auvm(&PLAIN, &chosen).expect("auvm runs them");
    assert_eq!(run.failures, []);
    let mut beyond = Vec::new();
    for name in MOST_IMPORTANT {
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
