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

/// The parts under counted instructions: each case is there, and two runs say the same.
#[test]
fn the_parts_are_measured_alike_each_time() {
    let run = || {
        Auvm::new()
            .flag("--icount")
            .exec("bench executor --json --count 100; bench memory --json --count 100; check")
            .success()
    };
    let text = run();
    let lines: Vec<&str> = text.lines().collect();
    let cases = [
        "spawn",
        "spawn-join",
        "wake-to-poll",
        "yield",
        "timer",
        "frame-alloc",
        "frame-free",
        "heap-alloc-64",
        "heap-free-64",
        "map",
        "unmap",
        "pmap-extract",
        "space-new",
        "space-teardown",
    ];
    assert_eq!(lines.len(), cases.len() + 1, "{text}");
    for (line, case) in lines.iter().zip(cases) {
        let begin = format!("{{\"case\":\"{case}\",\"unit\":\"ns\",\"kernel\":{{\"count\":100,");
        assert!(line.starts_with(&begin), "{line}");
        assert!(
            figure(line, "p50") > figure(line, "clock_reading_ns"),
            "{line}"
        );
    }
    assert!(lines[cases.len()].starts_with("all is well"), "{text}");
    assert_eq!(run(), text);
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

/// The first number of this name in a line of JSON.
#[track_caller]
fn figure(line: &str, name: &str) -> u64 {
    let value = line
        .split_once(&format!("\"{name}\":"))
        .map(|(_, value)| value.split([',', '}']).next().unwrap_or_default());
    let number = value.and_then(|value| value.parse().ok());
    number.unwrap_or_else(|| panic!("no {name} in {line}"))
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

/// A case of `bench fork` or `bench exec`, how many samples it has for 40 asked for, and how many u-areas a sample takes.
type LifeCase = (&'static str, u64, u64);

const FORK: [LifeCase; 7] = [
    ("fork", 40, 1),
    ("fork-exit-wait", 40, 1),
    ("fork-cold", 40, 1),
    ("fork-exit-wait-cold", 40, 1),
    ("thread-create-join", 40, 1),
    ("thread-create-join-cold", 40, 1),
    ("exit-64-mib", 2, 1),
];
const EXEC: [LifeCase; 4] = [
    ("vfork-exec-wait", 40, 1),
    ("vfork-exec-wait-cold", 40, 1),
    ("fork-exec-wait", 40, 1),
    ("fork-exec-wait-cold", 40, 1),
];

/// Runs a benchmark with 40 samples; its lines, by name, and the median of each.
fn life(what: &str, cases: &[LifeCase]) -> Vec<(&'static str, u64)> {
    let text = Auvm::new()
        .flag("--icount")
        .exec(&format!(
            "bench {what} --count 40 --json; sysctl vm.uareakeep vm.heaplarge; check"
        ))
        .success();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), cases.len() + 3, "{text}");
    let rest = &lines[cases.len()..];
    assert_eq!(rest[..2], ["vm.uareakeep = 16", "vm.heaplarge = 0"]);
    assert!(rest[2].starts_with("all is well"), "{text}");
    let median = |(line, &(name, count, uareas)): (&&str, &LifeCase)| {
        assert!(
            line.starts_with(&format!("{{\"case\":\"{name}\",\"unit\":\"ns\"")),
            "{line}"
        );
        assert_eq!(figure(line, "count"), count, "{line}");
        let order = ["min", "p50", "p90", "p99", "max"].map(|key| figure(line, key));
        assert!(order.is_sorted() && order[0] > 1000, "{line}");
        // Of the program's own, and of its rounds before the first, there are some more.
        let [hit, made] = ["uareas_hit", "uareas_made"].map(|key| figure(line, key));
        let wanted = uareas * count..=uareas * count + 10;
        let (many, none) = match name.ends_with("-cold") {
            true => (made, hit),
            false => (hit, made),
        };
        assert!(wanted.contains(&many) && none == 0, "{line}");
        for what in ["frames", "tasks"] {
            let [before, after] =
                ["before", "after"].map(|when| figure(line, &format!("{what}_{when}")));
            assert_eq!(after, before, "{what}: {line}");
        }
        let [before, after] =
            ["before", "after"].map(|when| figure(line, &format!("pool_pages_{when}")));
        assert!(after <= before + 16, "{line}");
        println!("{name}: {order:?}, {hit} hit, {made} made");
        (name, order[1])
    };
    lines.iter().zip(cases).map(median).collect()
}

/// UVM.md, row 5: a u-area whose pages are wired already makes a birth cheaper.
#[test]
fn row_05_births_and_deaths_are_measured_and_cost_less_with_cached_uareas() {
    let mut medians = life("fork", &FORK);
    medians.extend(life("exec", &EXEC));
    let median = |name: &str| {
        let found = medians.iter().find(|(own, _)| *own == name);
        found.expect("it was measured").1
    };
    for name in ["fork", "fork-exit-wait", "thread-create-join"] {
        let (warm, cold) = (median(name), median(&format!("{name}-cold")));
        println!(
            "{name}: {warm} with cached u-areas, {cold} without: {:.1}% more",
            (cold as f64 / warm as f64 - 1.0) * 100.0
        );
        assert!(warm < cold, "{name}: {warm} warm, {cold} cold");
    }
}

#[test]
fn ctrl_c_ends_the_program_and_the_cache_is_as_it_was() {
    let mut auvm = Auvm::new().session();
    auvm.keys("sysctl vm.uareakeep=5; bench fork --count 200000\r");
    auvm.wait_until("the benchmark", |screen| screen.line().is_empty());
    auvm.keys("\x03");
    auvm.wait_until("the prompt after Ctrl-C", |screen| {
        screen.line() == session::PROMPT
    });
    assert_eq!(auvm.command("sysctl vm.uareakeep"), ["vm.uareakeep = 5"]);
    while auvm.command("ps").iter().any(|line| line.contains("life")) {}
    assert_eq!(auvm.power_off().code(), Some(0));
}
