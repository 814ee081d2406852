//! Memory beyond RAM: loads several times larger than memory, on swap disks of the host and in memory, good and too small. `hog` checks
//! every byte that it has written; `check` verifies the memory system afterwards.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{FallocateFlags, fallocate};
use tests::Auvm;

/// A machine of 64 MiB with this swap space.
fn machine(option: &str, swap: &str) -> Auvm {
    Auvm::new().option("--memory", "64M").option(option, swap)
}

/// Runs `hog` so, which must come to its end, and `check`; gives what was printed.
#[track_caller]
fn hog(auvm: &Auvm, arguments: &str) -> String {
    let text = auvm
        .exec(&format!(
            "run /bin/hog {arguments} --verify; check; vmstat -s"
        ))
        .success();
    assert!(text.contains(", verified\n"), "{text}");
    assert!(text.contains("all is well"), "{text}");
    text
}

/// What `vmstat -s` says of this counter.
#[track_caller]
fn counter(text: &str, what: &str) -> u64 {
    let line = text.lines().find_map(|line| line.trim().strip_suffix(what));
    let number = line.and_then(|number| number.trim().parse().ok());
    number.unwrap_or_else(|| panic!("no \"{what}\" in\n{text}"))
}

/// On a disk of the host, whose times nobody knows.
#[test]
fn four_times_memory_on_a_disk_of_the_host() {
    let auvm = machine("--swap", "512M");
    for arguments in [
        "--procs 8 --size 32M --rounds 3",
        "--procs 8 --size 32M --pattern moving --rounds 2",
    ] {
        hog(&auvm, arguments);
    }
}

/// In counted time, so that it is known how much is under way at once.
#[test]
fn four_times_as_much_as_there_is_memory() {
    let auvm = machine("--ramdisk", "512M:100us:256,swap").flag("--icount");
    for arguments in [
        "--procs 8 --size 32M --rounds 3",
        // More than a slice's worth of touches each.
        "--procs 64 --size 4M --rounds 30",
        "--procs 64 --size 4M --rounds 2 --together",
        "--procs 8 --size 32M --pattern random",
        "--procs 8 --size 32M --pattern zipf --rounds 2",
        "--procs 8 --size 32M --shared",
    ] {
        let text = hog(&auvm, arguments);
        assert!(counter(&text, " pages written to swap") > 20_000, "{text}");
        assert!(counter(&text, " pages read from swap") > 20_000, "{text}");
        // Nothing is left, in memory or on swap.
        for left in [
            " pages of swap in use",
            " anonymous pages resident",
            " processes killed for memory",
        ] {
            assert_eq!(counter(&text, left), 0, "{text}");
        }
    }
}

/// Everybody gives way in time: no task keeps the processor for a millisecond at once, and those that write pages out leave most of it to
/// programs.
#[test]
fn no_task_runs_for_a_millisecond_at_once() {
    let auvm = machine("--ramdisk", "512M:100us:256,swap").flag("--icount");
    let load = "/bin/hog --procs 8 --size 32M --rounds 3 --verify";
    // In the midst of the load.
    let text = auvm
        .exec(&format!("run {load} & vmstat 1 2; tasks; wait; check"))
        .success();
    assert!(text.contains(", verified\n"), "{text}");
    assert!(text.contains("all is well"), "{text}");
    let tasks: Vec<_> = text.lines().filter_map(task).collect();
    let lwps = tasks.iter().filter(|task| task.name == "lwp").count();
    assert!(lwps >= 8, "{text}");
    for task in &tasks {
        assert!(task.longest < 1000, "{task:?}\n{text}");
    }
    let time = |name| -> u64 {
        let tasks = tasks.iter().filter(|task| task.name == name);
        tasks.map(|task| task.total).sum()
    };
    // Of the second that has passed.
    let paging = time("pagedaemon") + time("page-out");
    assert!((50_000..230_000).contains(&paging), "{paging} us\n{text}");
}

/// A line of `tasks`, with times in microseconds.
#[derive(Debug)]
struct Task<'a> {
    name: &'a str,
    total: u64,
    longest: u64,
}

fn task(line: &str) -> Option<Task<'_>> {
    let (name, rest) = ["completion", "daemon", "user", "idle"]
        .iter()
        .find_map(|class| line.split_once(&format!("  {class} ")))?;
    let name = name.trim_start().split_once(' ')?.1.trim();
    let mut fields = rest.split_whitespace().skip(2);
    let mut number = || fields.next()?.parse().ok();
    let (total, longest) = (number()?, number()?);
    Some(Task {
        name,
        total,
        longest,
    })
}

#[test]
fn with_everything_evicted_all_the_time() {
    let auvm = machine("--swap", "512M").option("--append", "torture=evict");
    hog(&auvm, "--procs 2 --size 40M");
}

#[test]
fn a_full_swap_costs_one_process_and_no_other_a_byte() {
    // In counted time, so that all are there at once.
    let auvm = machine("--swap", "16M").flag("--icount");
    let arguments = "--procs 4 --size 24M --rounds 8 --pattern random";
    let command = format!("run /bin/hog {arguments} --verify; check; vmstat -s");
    // hog fails for the process that was killed.
    let text = auvm.exec(&command).success();
    let killed = "auvm: memory and swap are full: killed process ";
    let lines: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with(killed))
        .collect();
    let [line] = lines[..] else {
        panic!("one process was to be killed\n{text}")
    };
    assert!(
        line.contains(" (hog), which gives ") && line.ends_with(" KiB of swap back"),
        "{line}"
    );
    assert_eq!(text.matches(": killed by signal 9\n").count(), 1, "{text}");
    assert!(
        text.contains("processes: 3 of 4, ") && text.contains(", verified\n"),
        "{text}"
    );
    assert!(text.contains("all is well"), "{text}");
    assert_eq!(counter(&text, " processes killed for memory"), 1);
    assert_eq!(counter(&text, " pages of swap in use"), 0);
}

#[test]
fn who_is_too_big_to_be_there_twice_cannot_fork_and_nobody_suffers() {
    let text = machine("--swap", "16M")
        .exec("run /programs/commit 24M; run /programs/commit 60M; run /bin/hog --procs 2 --size 8M --verify; check; vmstat -s")
        .success();
    let lines: Vec<_> = text.lines().take(5).collect();
    let holds = "its memory holds what was written: true";
    let [fork, after_fork, refused, after_refusal, hog] = lines[..] else {
        panic!("five lines were expected in\n{text}")
    };
    assert_eq!(
        [fork, after_fork, refused, after_refusal],
        [
            "fork: the child: exit 0",
            holds,
            "fork: Cannot allocate memory (os error 12)",
            holds
        ]
    );
    assert!(hog.ends_with(", verified"), "{text}");
    assert_eq!(counter(&text, " processes killed for memory"), 0);
    assert!(text.contains("all is well"), "{text}");
}

#[test]
fn without_swap_the_largest_dies_and_the_machine_lives() {
    let text = Auvm::new()
        .option("--memory", "64M")
        .exec("run /bin/hog --size 100M --verify; run /bin/busybox echo alive; check")
        .success();
    assert!(
        text.contains("auvm: memory and swap are full: killed process "),
        "{text}"
    );
    assert!(
        text.contains("\nalive\n") && text.contains("all is well"),
        "{text}"
    );
}

/// What `swapctl -l` says of the only device: its size and what is bad of it, in KiB, once nothing is there.
#[track_caller]
fn sizes(text: &str) -> (u64, u64) {
    let line = text.lines().find(|line| line.starts_with("virtio1 "));
    let numbers: Vec<u64> = line
        .into_iter()
        .flat_map(|line| line.split_whitespace().skip(1).take(5))
        .map(|number| number.parse().expect("a number"))
        .collect();
    let [size, 0, available, bad, 0] = numbers[..] else {
        panic!("no empty virtio1 in\n{text}")
    };
    assert_eq!(available, size, "{text}");
    (size, bad)
}

#[test]
fn what_cannot_be_written_to_swap_stays_and_its_slots_are_retired() {
    let auvm = machine("--swap", "256M")
        .option("--fail", "virtio1:write:40-45")
        .option("--fail", "virtio1:write:1000");
    let arguments = "--procs 4 --size 32M --rounds 2";
    let command = format!("run /bin/hog {arguments} --verify; check; swapctl -l; vmstat -s");
    let text = auvm.exec(&command).success();
    assert!(
        text.contains(", verified\n") && text.contains("all is well"),
        "{text}"
    );
    assert_eq!(counter(&text, " swap slots found bad"), 7);
    assert_eq!(counter(&text, " pages of swap in use"), 0);
    // Without the header's.
    assert_eq!(sizes(&text), ((256 << 10) - 4 - 7 * 4, 7 * 4), "{text}");
}

#[test]
fn what_cannot_be_read_from_swap_costs_those_who_touch_it() {
    let auvm = machine("--swap", "256M").option("--fail", "virtio1:read:5000");
    let arguments = "--procs 4 --size 32M --rounds 2";
    let text = auvm
        .exec(&format!(
            "run /bin/hog {arguments} --verify; check; swapctl -l; vmstat -s; swapctl -d virtio1; swapctl -s"
        ))
        .success();
    // Pages of the same cluster, whosever they are, are read alone then.
    assert_eq!(text.matches(": killed by signal 7\n").count(), 1, "{text}");
    assert!(
        text.contains("processes: 3 of 4, ") && text.contains(", verified\n"),
        "{text}"
    );
    assert!(text.contains("all is well"), "{text}");
    assert_eq!(counter(&text, " pages of swap in use"), 0);
    assert_eq!(counter(&text, " swap slots found bad"), 1);
    assert_eq!(sizes(&text), ((256 << 10) - 4 - 4, 4), "{text}");
    // Nothing is left there, so the device can go.
    assert!(text.contains("total: 0 KiB, 0 KiB used"), "{text}");
}

/// Kibibytes in use, as `swapctl -s` says each time.
fn used(text: &str) -> Vec<u64> {
    let totals = text.lines().filter(|line| line.starts_with("total: "));
    let used = totals.map(|line| line.split_whitespace().nth(3).expect("four words"));
    used.map(|word| word.parse().expect("a number")).collect()
}

#[test]
fn swapoff_under_load_brings_everything_back() {
    let auvm = machine("--ramdisk", "256M:100us:256,swap").flag("--icount");
    // The first one's memory is on swap when the second has ended, and it goes on using it.
    let load = "run /bin/hog --size 44M --rounds 400 --pattern moving --verify";
    let text = auvm
        .exec(&format!(
            "{load} & run /bin/busybox sleep 0.3; run /bin/hog --size 30M; swapctl -s; swapctl -d ram0; swapctl -s; jobs; \
             wait; check; vmstat -s"
        ))
        .success();
    let used = used(&text);
    assert!(used[0] > 8 << 10 && used[1] == 0, "{text}");
    assert!(
        text.contains("total: 0 KiB, ") && text.contains("0 devices"),
        "{text}"
    );
    assert!(text.contains(&format!("[1] running: {load}\n")), "{text}");
    assert!(
        text.contains(", verified\n") && text.contains("all is well"),
        "{text}"
    );
    assert_eq!(counter(&text, " processes killed for memory"), 0);
}

#[test]
fn swapoff_of_more_than_fits_is_refused_and_nothing_is_lost() {
    let auvm = machine("--ramdisk", "256M:100us:256,swap").flag("--icount");
    let load = "run /bin/hog --procs 2 --size 48M --rounds 6 --pattern random --verify";
    let text = auvm
        .exec(&format!(
            "{load} & run /bin/busybox sleep 1; swapctl -s; swapctl -d ram0; jobs; swapctl -s; wait; swapctl -l; check; vmstat -s"
        ))
        .success();
    assert!(
        text.contains("swapctl: ram0: out of memory; what is on it does not fit anywhere else\n"),
        "{text}"
    );
    assert!(used(&text)[0] > 32 << 10, "{text}");
    assert!(text.contains(&format!("[1] running: {load}\n")), "{text}");
    assert!(
        text.contains(", verified\n") && text.contains("all is well"),
        "{text}"
    );
    // It is there as before, and nobody had to die for it.
    let device = text.lines().find(|line| line.starts_with("ram0"));
    let device = device.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    assert_eq!(
        device.as_deref(),
        Some("ram0 262140 0 262140 0 0 off"),
        "{text}"
    );
    assert_eq!(counter(&text, " processes killed for memory"), 0);
    assert_eq!(counter(&text, " pages of swap in use"), 0);
}

/// Bytes of a file that the file system has given a place.
fn allocated(path: &Path) -> u64 {
    std::fs::metadata(path).expect("the file is there").blocks() * 512
}

/// Whether files in `directory` can get holes after they were written.
fn takes_holes(directory: &Path) -> bool {
    let mut file = tempfile::tempfile_in(directory).expect("a file can be made");
    file.write_all(&[1; 1 << 16])
        .expect("the file can be written");
    let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(&file, punch, 0, 1 << 16).is_ok()
}

#[test]
fn what_is_free_on_swap_takes_no_place_on_the_host() {
    let images = tests::workspace().target("images");
    let mut auvm = machine("--swap", "256M").session();
    if !takes_holes(&images) {
        eprintln!("skipped: files in {} cannot get holes", images.display());
        auvm.power_off();
        return;
    }
    let file = images.join(format!("{}-0.swap", auvm.pid()));
    assert!(allocated(&file) < 1 << 20);
    let hog = auvm.command("run /bin/hog --procs 4 --size 40M --rounds 2 --verify");
    assert!(
        hog.iter().any(|line| line.ends_with(", verified")),
        "{hog:?}"
    );
    // It has all been there.
    let written = counter(
        &auvm.command("vmstat -s").join("\n"),
        " pages written to swap",
    );
    assert!(written * 4096 > 100 << 20, "{written}");
    let begun = Instant::now();
    while allocated(&file) > 2 << 20 {
        let place = allocated(&file);
        assert!(begun.elapsed() < Duration::from_secs(60), "{place} bytes");
        std::thread::sleep(Duration::from_millis(100));
    }
    let counters = auvm.command("vmstat -s").join("\n");
    let discarded = counter(&counters, " swap slots discarded");
    assert!(discarded * 4096 > 80 << 20, "{discarded}");
    // What was discarded is written and read as before.
    let again = auvm.command("run /bin/hog --procs 4 --size 40M --verify; check");
    let says = |end: &str| again.iter().any(|line| line.contains(end));
    assert!(says(", verified") && says("all is well"), "{again:?}");
    assert!(auvm.power_off().success());
}

/// Under counted time runs repeat: the same bytes, the same counters.
#[test]
fn a_paging_run_repeats_exactly() {
    let run = || {
        let auvm = machine("--swap", "256M").flag("--icount");
        let text = hog(&auvm, "--procs 4 --size 24M --rounds 2 --pattern random");
        let tasks = auvm
            .exec("run /bin/hog --size 80M --verify; tasks")
            .success();
        (text, tasks)
    };
    let first = run();
    assert!(
        counter(&first.0, " pages read from swap") > 1_000,
        "{}",
        first.0
    );
    assert_eq!(first, run());
}

#[test]
fn swapctl_shows_and_changes_swap_space() {
    let auvm = machine("--swap", "64M").option("--ramdisk", "32M,swap");
    let text = auvm
        .exec(
            "swapctl -s; swapctl -p 5 virtio1; swapctl; swapctl -d ram0; swapctl -l; swapctl -a -p 1 ram0; swapctl -s; \
             swapctl virtio1 -o nodiscard; swapctl -o discard ram0; swapctl -l; run /bin/hog --size 90M --verify; check",
        )
        .success();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[0], "total: 98296 KiB, 0 KiB used, 98296 KiB available, 2 devices",
        "{text}"
    );
    let devices: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("ram0") || line.starts_with("virtio1"))
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let ram = |discards| format!("ram0 32764 0 32764 0 1 {discards}");
    let virtio = |discards| format!("virtio1 65532 0 65532 0 5 {discards}");
    let on_and_off = [virtio("on"), ram("on"), virtio("off")];
    // A disk in memory keeps its memory whatever it hears: not unless it is asked for.
    assert_eq!(devices[0], ram("off"), "{text}");
    assert_eq!(devices[1], virtio("on"), "{text}");
    assert_eq!(devices[2..], on_and_off, "{text}");
    assert_eq!(text.matches("98296 KiB, 0 KiB used").count(), 2, "{text}");
    assert!(
        text.contains(", verified\n") && text.contains("all is well"),
        "{text}"
    );
    for (command, says) in [
        (
            "swapctl -d ram7",
            "swapctl: ram7: not in use as swap space; `swapctl -l` lists what is",
        ),
        (
            "swapctl -a ram0",
            "swapctl: ram0: already in use as swap space",
        ),
        (
            "swapctl -a disk",
            "swapctl: there is no disk disk for swap; the machine was started with virtio1, ram0",
        ),
    ] {
        let output = auvm.exec(command);
        assert_eq!(output.status, Some(1), "{command}");
        assert!(output.stdout.starts_with(says), "{output}");
    }
}
