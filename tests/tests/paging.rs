//! Page-ins are asynchronous: memory smaller than the file, and faults that overlap each other and
//! computation. Assertions are on counters and on guest time, which counts instructions here.

use std::process::Command;

use tests::Auvm;

const MIB: usize = 1 << 20;

/// A file twice as large as memory passes through it.
#[test]
fn a_file_larger_than_memory() {
    let file = tests::data_file("64m.bin", 64 * MIB);
    let auvm = Auvm::new().option("--memory", "32M").option("--add", &file);
    let text = auvm
        .exec("run /bin/busybox md5sum /data/64m.bin; check")
        .success();
    let host = Command::new("/bin/busybox")
        .arg("md5sum")
        .arg(&file)
        .output()
        .expect("busybox starts");
    let sum = String::from_utf8_lossy(&host.stdout).into_owned();
    let sum = sum.split(' ').next().unwrap_or_default();
    assert_eq!(
        text.lines().next(),
        Some(format!("{sum}  /data/64m.bin").as_str()),
        "{text}"
    );
}

/// Pages that each cold reader touches.
const COLD: usize = 100;

/// Rounds of the computing program: well within the time that the readers take.
const ROUNDS: usize = 60_000_000;

/// What one run of the scenario says.
fn overlap() -> String {
    let file = tests::data_file("cold.bin", 60 * MIB);
    let mut cold = file.into_os_string();
    cold.push(":/ram0/cold.bin");
    let reader = |seed: usize| format!("/programs/coldread /ram0/cold.bin {seed} {COLD}");
    let spin = format!("/programs/spin {ROUNDS} --time");
    let commands = [
        // Everything but the cold pages is in memory from here on.
        format!("run {}; run {spin}; run /bin/busybox sh -c ':'", reader(1)),
        format!("time run {}", reader(2)),
        format!(
            "time run /bin/busybox sh -c '{} & {} & wait'",
            reader(3),
            reader(4)
        ),
        format!("run {spin}"),
        format!("run {} & run {} & run {spin}; wait", reader(5), reader(6)),
        "vmstat -s; check".to_owned(),
    ];
    let auvm = Auvm::new()
        .flag("--icount")
        .option("--ramdisk", "64M:10ms:16,fs")
        .option("--add", cold);
    auvm.exec(&commands.join("; ")).success()
}

#[test]
fn cold_faults_overlap_and_leave_the_processor_free() {
    let text = overlap();
    let alone_and_two = seconds(&text);
    let [alone, two] = alone_and_two[..] else {
        panic!("two times were expected in\n{text}")
    };
    // Each cold page costs the disk's 10 ms: there was really something to wait for.
    assert!(alone > 0.9 * 0.010 * COLD as f64, "{text}");
    assert!(
        two < 1.2 * alone,
        "two readers took {two} s, one {alone} s\n{text}"
    );

    let spins = numbers_before(&text, " ns");
    let [_, idle, busy] = spins[..] else {
        panic!("three computations were expected in\n{text}")
    };
    assert!(
        busy < alone * 1e9,
        "it computed longer than the readers read\n{text}"
    );
    assert!(
        idle / busy > 0.9,
        "it had {:.1}% of the processor\n{text}",
        100.0 * idle / busy
    );

    let most = text
        .lines()
        .find(|line| line.contains("in flight") && line.contains("most"));
    let most = most.unwrap_or_else(|| panic!("no page-ins in flight in\n{text}"));
    let most: u64 = most
        .split_whitespace()
        .find_map(|word| word.parse().ok())
        .expect("a count");
    assert!(most >= 2, "never two page-ins in flight\n{text}");

    // The same run again, to the byte.
    assert_eq!(text, overlap());
}

/// Guest times that `time` printed.
fn seconds(text: &str) -> Vec<f64> {
    let times = text
        .lines()
        .filter_map(|line| line.strip_prefix("real ")?.strip_suffix(" s"));
    times
        .map(|time| time.trim().parse().expect("a number"))
        .collect()
}

/// Numbers of the lines that end in `unit`.
fn numbers_before(text: &str, unit: &str) -> Vec<f64> {
    text.lines()
        .filter_map(|line| line.strip_suffix(unit)?.trim().parse().ok())
        .collect()
}
