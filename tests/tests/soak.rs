//! What a process takes, it gives back; so does a mix of loads, however long it lasts.

use std::time::Duration;

use tests::Auvm;
use tests::session::Session;

/// Processes after which memory must be where it was after the first few.
const PROCESSES: usize = 1000;

/// Pages that caches may keep besides: none of them grows with the number of processes.
const TOLERANCE: u64 = 16;

#[test]
fn a_thousand_processes_leave_nothing_behind() {
    let mut auvm = Auvm::new().session();
    let run = |auvm: &mut Session, times: usize| {
        for _ in 0..times {
            let printed = auvm.command("run /bin/busybox true");
            assert!(printed.is_empty(), "{printed:?}");
        }
    };
    run(&mut auvm, 10);
    let before = free_pages(&mut auvm);
    run(&mut auvm, PROCESSES - 10);
    let after = free_pages(&mut auvm);
    assert!(
        after.abs_diff(before) <= TOLERANCE,
        "{before} pages were free, and now {after}"
    );
    assert_eq!(
        auvm.command("check; echo $?").last().map(String::as_str),
        Some("0")
    );
    // No process of theirs is left, nor a task.
    let left: Vec<_> = auvm
        .command("ps")
        .into_iter()
        .filter(|line| line.contains("busybox"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(auvm.power_off().code(), Some(0));
}

fn free_pages(auvm: &mut Session) -> u64 {
    let lines = auvm.command("sysctl vm.free");
    let value = lines
        .iter()
        .find_map(|line| line.strip_prefix("vm.free = ")?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no number of free pages in {lines:?}"))
}

/// All that `stress` has, at four times the memory, for so long; before it a fifth of that, to fill what is filled once.
fn stress(time: Duration) {
    let seconds = time.as_secs();
    let warm_up = (seconds / 5).max(5);
    let file = tests::data_file("soak.bin", 80 << 20);
    let text = Auvm::new()
        .option("--memory", "64M")
        .option("--swap", "512M")
        .option("--add", file)
        .timeout(2 * seconds + 300)
        .exec(&format!(
            "sysctl vm.filemin=0; stress --seconds {warm_up}; {EVICT}; vmstat -s; vmstat -m; check; \
             stress --seconds {seconds}; echo status $?; {EVICT}; vmstat -s; vmstat -m; check"
        ))
        .success();
    println!("{text}");
    assert!(
        text.contains("reading /data/soak.bin (81920 KiB)"),
        "{text}"
    );
    assert!(text.contains("\nstatus 0\n"), "{text}");
    assert_eq!(
        text.matches(" programs verified, 0 failed in ").count(),
        2,
        "{text}"
    );
    assert_eq!(text.matches("all is well").count(), 2, "{text}");
    let counters: Vec<&str> = text.split("bytes per page\n").skip(1).collect();
    let [before, after] = counters[..] else {
        panic!("vmstat -s was to be printed twice\n{text}")
    };
    let live = |text, what| {
        let (made, freed) = what;
        counter(text, made) - counter(text, freed)
    };
    let mut grown: Vec<(&str, u64, u64)> = vec![
        ("heap blocks", live(before, HEAP), live(after, HEAP)),
        ("u-areas", counter(before, UAREAS), counter(after, UAREAS)),
    ];
    for ((name, before), (_, after)) in pools(before).into_iter().zip(pools(after)) {
        grown.push((name, before, after));
    }
    // Scattered pages of files have a node each, at most.
    let files = counter(after, " file pages resident");
    for (what, before, after) in grown {
        println!("{what}: {before}, then {after}");
        let allowed = match what {
            "object nodes" => files,
            _ => before + GROWTH,
        };
        assert!(after <= allowed, "{what}: {before}, then {after}\n{text}");
    }
    let held = counter(after, " pages in pools and heap");
    assert!(held < 400, "{held} pages in pools and heap\n{text}");
    for what in [
        " pages wired",
        " pages in page tables of address spaces",
        " anonymous pages resident",
        " pages of swap in use",
        " tasks that wait for a frame",
        " processes killed for memory",
        " heap blocks larger than a page after boot",
        " swap slots found bad",
    ] {
        assert_eq!(counter(after, what), 0, "{what}\n{text}");
    }
    assert!(counter(after, " pages read from swap") > 10_000, "{text}");
    assert!(
        counter(after, " pages of files paged in") > 20_000,
        "{text}"
    );
}

const HEAP: (&str, &str) = (
    " blocks allocated from the kernel heap",
    " blocks freed to the kernel heap",
);
const UAREAS: &str = " u-areas cached";

/// The objects in each pool, as `vmstat -m` says.
fn pools(text: &str) -> Vec<(&str, u64)> {
    let lines = text
        .lines()
        .skip_while(|line| !line.starts_with("POOL "))
        .skip(1);
    let pools: Vec<_> = lines
        .map_while(|line| {
            let (rest, _pages) = line.rsplit_once(' ')?;
            let (name, objects) = rest.trim_end().rsplit_once(' ')?;
            Some((name.trim_end(), objects.parse().ok()?))
        })
        .collect();
    assert_eq!(pools.len(), 13, "{text}");
    pools
}

/// Leaves little of the file cache, whose bookkeeping counts.
const EVICT: &str = "run /bin/hog --size 100M --verify";

/// By how many blocks of the heap, or objects of a pool, the kernel may hold more.
const GROWTH: u64 = 32;

#[test]
fn a_mix_of_four_times_the_memory_is_verified_and_leaves_nothing() {
    stress(Duration::from_secs(20));
}

/// Half an hour, or as many minutes as AUVM_SOAK_MINUTES says.
#[test]
#[ignore = "takes half an hour: cargo test -p tests --test soak -- --ignored"]
fn half_an_hour_of_it() {
    let minutes = std::env::var("AUVM_SOAK_MINUTES").map_or(30, |minutes| {
        minutes
            .parse()
            .expect("AUVM_SOAK_MINUTES is a number of minutes")
    });
    stress(Duration::from_secs(60 * minutes));
}

/// What `vmstat -s` says of this counter.
#[track_caller]
fn counter(text: &str, what: &str) -> u64 {
    let line = text.lines().find_map(|line| line.trim().strip_suffix(what));
    let number = line.and_then(|number| number.trim().parse().ok());
    number.unwrap_or_else(|| panic!("no \"{what}\" in\n{text}"))
}
