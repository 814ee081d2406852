//! Processes and threads in every order of birth, stop, signal, exec and death: all of it ends, and nothing is left of it.

use std::time::Duration;

use tests::Auvm;

/// A storm of `seconds` for each seed, and what is left afterwards.
fn storm(auvm: Auvm, seconds: u64, seeds: std::ops::Range<u64>) {
    let count = seeds.end - seeds.start;
    let storms: Vec<String> = seeds
        .map(|seed| format!("run /programs/storm {seconds} {seed}"))
        .collect();
    let limit = Duration::from_secs((seconds + 60) * count + 120);
    let text = auvm
        .timeout(limit.as_secs())
        .exec(&format!(
            "{}; run /bin/busybox sleep 1; ps; sysctl vm.uareacached; check",
            storms.join("; ")
        ))
        .success();
    assert_eq!(
        text.matches("storm: all over\n").count() as u64,
        count,
        "{text}"
    );
    // Init, and the header before it: no process, no zombie.
    let table = text.split_once(" COMMAND\n").map(|(_, rest)| rest);
    let left = table.map(|rest| rest.lines().take_while(|line| !line.starts_with("vm.")));
    assert_eq!(left.map(Iterator::count), Some(1), "{text}");
    assert!(text.contains(" 0 address spaces,"), "{text}");
    assert!(text.contains("all is well"), "{text}");
}

#[test]
fn births_and_deaths_with_plenty_of_memory() {
    storm(Auvm::new(), 4, 1..3);
}

#[test]
fn births_and_deaths_with_little_memory() {
    let auvm = Auvm::new()
        .option("--memory", "24M")
        .option("--swap", "256M");
    storm(auvm, 4, 3..5);
}

#[test]
#[ignore = "takes ten minutes and more"]
fn ten_minutes_of_it() {
    storm(Auvm::new(), 60, 100..105);
    let auvm = Auvm::new()
        .option("--memory", "24M")
        .option("--swap", "256M")
        .option("--append", "torture=evict");
    storm(auvm, 60, 105..110);
}
