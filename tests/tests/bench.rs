//! `bench` on the machine. Of faults counters are looked at, and no times: those differ from host to host. What swap makes of its device is
//! a matter of counted time, which does not.

use tests::{Auvm, session};

const CASES: [&str; 6] = [
    "first-touch-zeroed",
    "first-touch-unzeroed",
    "read-unwritten",
    "copy-on-write",
    "file-resident",
    "file-from-disk",
];

#[test]
fn every_case_is_measured_and_only_reading_a_disk_uses_the_heap() {
    let text = Auvm::new()
        .exec("bench fault --json --count 200; sysctl vm.heaplarge; check")
        .success();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), CASES.len() + 2, "{text}");
    for (line, case) in lines.iter().zip(CASES) {
        let has = |part: &str| assert!(line.contains(part), "no {part} in {line}");
        has(&format!("{{\"case\":\"{case}\",\"unit\":\"ns\""));
        has("\"kernel\":{\"count\":200,");
        has("\"faults\":200,");
        has("\"resident_pages\":200,");
        if case == "file-from-disk" {
            has("\"device\":{\"count\":200,");
            has("\"page_reads\":200,");
        } else {
            has("\"page_reads\":0,");
            has("\"heap_allocations\":0,");
        }
    }
    // No block beyond a page, for however many samples.
    assert_eq!(lines[CASES.len()], "vm.heaplarge = 0");
    assert!(lines[CASES.len() + 1].starts_with("all is well"), "{text}");
}

#[test]
fn without_a_file_the_others_are_measured() {
    let outcome = Auvm::new().exec("bench fault --count 5 --file /nosuch");
    assert_eq!(outcome.status, Some(1), "{outcome}");
    let mentions = |part: &str| outcome.stdout.lines().filter(|l| l.contains(part)).count();
    assert_eq!(mentions("/nosuch"), 1, "{outcome}");
    assert_eq!(mentions("file-resident"), 0, "{outcome}");
    // A row of the table and the head of a histogram.
    assert_eq!(mentions("copy-on-write"), 2, "{outcome}");
}

#[test]
fn ctrl_c_ends_a_case_and_leaves_nothing() {
    let mut auvm = Auvm::new().session();
    auvm.keys("bench fault --count 200000 file-from-disk\r");
    auvm.wait_until("the case", |screen| screen.line().is_empty());
    auvm.keys("\x03");
    auvm.wait_until("the prompt after Ctrl-C", |screen| {
        screen.line() == session::PROMPT
    });
    assert_eq!(auvm.command("echo $?"), ["130"]);
    // It ends with its present sample.
    while auvm
        .command("tasks")
        .iter()
        .any(|line| line.contains("file-from-disk"))
    {}
    let check = auvm.command("check");
    assert!(check[0].contains("0 address spaces"), "{check:?}");
    assert_eq!(auvm.power_off().code(), Some(0));
}

/// Overlap: most of what a device with a millisecond of latency can do reaches those who page.
#[test]
fn paging_uses_most_of_what_the_swap_device_can_do() {
    let text = Auvm::new()
        .option("--memory", "64M")
        .option("--ramdisk", "512M:1ms:64,swap")
        .flag("--icount")
        .exec("bench swap --json; sysctl vm.heaplarge; check; swapctl -s")
        .success();
    let lines: Vec<&str> = text.lines().collect();
    let [write, out, read, back, large, check, swap] = lines[..] else {
        panic!("seven lines were expected in\n{text}")
    };
    let figure = |line: &str, name: &str| -> u64 {
        let value = line
            .split_once(&format!("\"{name}\":"))
            .map(|(_, value)| value.split([',', '}']).next().unwrap_or_default());
        let number = value.and_then(|value| value.parse().ok());
        number.unwrap_or_else(|| panic!("no {name} in {line}"))
    };
    // The raw ones are what they are said to be: nearly always so many at once.
    for (line, case, depth) in [(write, "raw-write", 16), (read, "raw-read", 64)] {
        assert!(
            line.starts_with(&format!("{{\"case\":\"{case}\",")),
            "{text}"
        );
        let in_flight = figure(line, "mean_in_flight");
        assert!((depth * 8 / 10..=depth).contains(&in_flight), "{line}");
    }
    for (line, case, raw, pages) in [
        (out, "swap-out", write, 20_000),
        (back, "swap-in", read, 10_000),
    ] {
        assert!(
            line.starts_with(&format!("{{\"case\":\"{case}\",")),
            "{text}"
        );
        assert!(figure(line, "pages") > pages, "{line}");
        let percent = figure(line, "percent_of_raw");
        println!("{case}: {percent}% of the device's rate");
        assert!(percent >= 80, "{line}");
        let rates = [line, raw].map(|line| figure(line, "pages_per_second"));
        assert_eq!(percent, rates[0] * 100 / rates[1], "{text}");
    }
    assert_eq!(large, "vm.heaplarge = 0");
    assert!(check.starts_with("all is well"), "{text}");
    assert!(swap.contains(" 0 KiB used"), "{text}");
}

#[test]
fn without_enough_swap_it_is_not_measured() {
    for auvm in [Auvm::new(), Auvm::new().option("--swap", "16M")] {
        let outcome = auvm.exec("bench swap");
        assert_eq!(outcome.status, Some(1), "{outcome}");
        assert!(
            outcome.stdout.contains("MiB of swap space are free"),
            "{outcome}"
        );
    }
}
