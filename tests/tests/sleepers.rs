//! Many who sleep, in little memory: they and all that the kernel keeps for them go to swap, and come back when they are woken (UVM.md, row 27).

use tests::Auvm;

/// Most kernel memory for a process of which all is out, in bytes: its map, anons and page tables included.
const PROCESS: u64 = 4096;
/// The same for an LWP of a larger process.
const LWP: u64 = 1024;

/// A line of `ps -v` but its last word.
fn row(line: &str) -> Option<[u64; 6]> {
    let words: Vec<u64> = line
        .split_whitespace()
        .map_while(|word| word.parse().ok())
        .collect();
    words.try_into().ok()
}

/// The numbers of the first line that has all of these words.
#[track_caller]
fn numbers(text: &str, words: &[&str]) -> Vec<u64> {
    let has_all = |line: &&str| words.iter().all(|word| line.contains(word));
    let line = text.lines().find(has_all);
    let line = line.unwrap_or_else(|| panic!("no line with {words:?} in\n{text}"));
    let digits = line.split(|c: char| !c.is_ascii_digit());
    digits.filter_map(|number| number.parse().ok()).collect()
}

/// Kernel memory in pools, heap and page tables when `ps -v` was called, in bytes.
fn in_all(text: &str) -> u64 {
    numbers(text, &["kernel memory in all:"])
        .iter()
        .sum::<u64>()
        * 1024
}

/// `ballast` is what the first process writes over and over while the others sleep.
fn sleepers(machine: Auvm, count: u64, rest: u64, wait: u64, ballast: &str) {
    let machine = machine.option("--memory", "64M").option("--swap", "512M");
    let text = machine
        .exec(&format!(
            "ps -v; echo BEGIN; sysctl vm.maxslp=1; run /bin/sleepers --count {count} --rest {rest} --ballast {ballast} & \
             run /bin/busybox sleep {wait}; echo ASLEEP; ps -v; echo END; fg; echo status $?; check; sysctl vm.uareasout"
        ))
        .success();
    let (before, after) = text.split_once("ASLEEP\n").expect("ps has run");
    let (asleep, after) = after.split_once("END\n").expect("all commands have run");
    let all: Vec<[u64; 6]> = asleep.lines().filter_map(row).collect();
    // The other two are init, and the one that sleeps no more than it works.
    let out: Vec<_> = all
        .iter()
        .filter(|[_, lwps, out, ..]| out == lwps && *lwps > 0)
        .collect();
    assert_eq!(
        (all.len() as u64, out.len() as u64),
        (count + 2, count),
        "{asleep}"
    );
    for [pid, _, _, resident, _, kernel] in out {
        assert_eq!(*resident, 0, "process {pid}: {asleep}");
        assert!(*kernel <= PROCESS, "process {pid}: {kernel}");
    }
    // What the allocators say, the other process included, which is in memory.
    let counted = in_all(asleep) - in_all(before);
    let other = all
        .iter()
        .filter(|[_, lwps, out, ..]| out < lwps)
        .map(|row| row[5])
        .sum::<u64>();
    let each = counted.saturating_sub(other) / count;
    println!("{count} processes out: {each} bytes of kernel memory each, counted by pages");
    assert!(each <= PROCESS, "{each} bytes: {asleep}");
    awake(after, count);
}

/// All have answered right and ended well, and nothing is left on swap.
fn awake(text: &str, count: u64) {
    for line in [
        format!("{count} answered, 0 of them wrong\n"),
        format!("{count} ended, 0 of them badly\n"),
        "\nstatus 0\n".to_owned(),
        "\nall is well".to_owned(),
        "\nvm.uareasout = 0\n".to_owned(),
    ] {
        assert!(text.contains(&line), "{line:?} is not in\n{text}");
    }
    assert!(!text.contains("killed"), "{text}");
}

#[test]
fn row_27_sleepers_go_out_and_come_back() {
    sleepers(Auvm::new().flag("--icount"), 300, 6, 5, "60M");
}

#[test]
#[ignore = "takes minutes: cargo test -p tests --test sleepers -- --ignored"]
fn row_27_ten_thousand_sleepers_go_out_and_come_back() {
    sleepers(Auvm::new().timeout(1800), 10_000, 240, 200, "24M");
}

#[test]
fn row_27_threads_go_out_one_by_one() {
    const COUNT: u64 = 600;
    let text = Auvm::new()
        .flag("--icount")
        .option("--memory", "64M")
        .option("--swap", "512M")
        .exec(&format!(
            "sysctl vm.maxslp=1; run /bin/sleepers --threads --count {COUNT} --rest 6 --ballast 60M & run /bin/busybox sleep 5; ps -v; ps; \
             echo END; fg; echo status $?; check; sysctl vm.uareasout"
        ))
        .success();
    let (asleep, after) = text.split_once("END\n").expect("all commands have run");
    let all: Vec<[u64; 6]> = asleep.lines().filter_map(row).collect();
    let (lwps, out) = (all[1][1], all[1][2]);
    assert_eq!((lwps, out), (COUNT + 1, COUNT), "{asleep}");
    let sums = numbers(asleep, &["LWPs of them are out of memory"]);
    let [.., gone, bytes] = sums[..] else {
        panic!("{sums:?}");
    };
    println!(
        "{gone} threads out: {} bytes of kernel memory each",
        bytes / gone
    );
    assert!(gone == COUNT && bytes / gone <= LWP, "{sums:?}");
    awake(after, COUNT);
}

/// Whoever is killed while it is out comes back to end, and costs nobody else anything.
#[test]
fn row_27_who_is_out_can_be_killed() {
    let text = Auvm::new()
        .flag("--icount")
        .option("--memory", "64M")
        .option("--swap", "512M")
        .exec(
            "sysctl vm.maxslp=1; run /bin/sleepers --count 200 --rest 6 --ballast 60M & run /bin/busybox sleep 5; ps; echo KILL; kill -9 %1; \
             fg; echo status $?; run /bin/busybox sleep 1; ps; check; sysctl vm.uareasout",
        )
        .success();
    let (asleep, after) = text.split_once("KILL\n").expect("all commands have run");
    let out = |text: &str| text.lines().filter(|line| line.contains(" SW ")).count();
    assert_eq!((out(asleep), out(after)), (200, 0), "{text}");
    assert!(!after.contains("sleepers\n"), "nobody is left: {after}");
    assert!(after.contains("\nvm.uareasout = 0\n"), "{after}");
    assert!(after.contains("\nall is well"), "{after}");
}

#[test]
fn all_stay_where_swapout_is_off() {
    let text = Auvm::new()
        .flag("--icount")
        .option("--memory", "64M")
        .option("--swap", "512M")
        .exec(
            "sysctl vm.maxslp=1 vm.swapout=0; run /bin/sleepers --count 100 --rest 4 --ballast 50M & run /bin/busybox sleep 3; ps; fg; \
             sysctl vm.uareaputs vm.pdrevs; check",
        )
        .success();
    assert!(!text.contains(" SW "), "{text}");
    assert!(text.contains("vm.uareaputs = 0\n"), "{text}");
    assert!(
        !text.contains("vm.pdrevs = 0\n"),
        "memory was short: {text}"
    );
    assert!(text.contains("\n100 answered, 0 of them wrong\n"), "{text}");
}

/// Whoever is out and cannot be read back ends as by a page that cannot be read, with all that it has. They sleep while another process takes the
/// memory, so their states and pages have the first slots, and are woken only to be killed: nobody reads a page.
#[test]
fn who_cannot_be_read_back_ends_all_the_same() {
    let outcome = Auvm::new()
        .option("--memory", "64M")
        .option("--swap", "512M")
        .option("--fail", "virtio1:read:300-555")
        .option("--fail", "virtio1:read:900-1155")
        .option("--fail", "virtio1:read:1500-1755")
        .exec(
            "sysctl vm.maxslp=1; run /bin/sleepers --count 600 --rest 600 & run /bin/busybox sleep 3; run /bin/hog --procs 1 --size 80M --rounds 2; \
             kill -9 %1; fg; run /bin/busybox sleep 2; ps; sysctl vm.uareasout; check",
        );
    let lost = outcome.log.matches("cannot be read back from swap").count();
    let text = outcome.success();
    println!("{lost} of 600 could not be read back");
    // How many go out is a matter of time, and how many of those the bad pages hit.
    assert!(lost > 0, "all could be read back: {text}");
    assert!(!text.contains(" sleepers\n"), "somebody is left: {text}");
    assert!(text.contains("\nvm.uareasout = 0\n"), "{text}");
    assert!(text.contains("\nall is well"), "{text}");
    assert!(text.contains(" 0 address spaces, 0 entries,"), "{text}");
}

/// UVM.md, rows 9 and 10: who computes is never put out, however long memory has been short; who sleeps beside it is. The pagedaemon, which runs on
/// the same CPU, asserts that in each look.
#[test]
fn row_10_who_runs_stays_while_sleepers_go() {
    let text = Auvm::new()
        .flag("--icount")
        .option("--memory", "64M")
        .option("--swap", "512M")
        .exec(
            "sysctl vm.maxslp=1; run /programs/spin 4000000000 & run /programs/spin 4000000000 & run /bin/sleepers --count 200 --rest 6 --ballast 60M & \
             run /bin/busybox sleep 5; ps; echo END; kill %1 %2; fg %3; echo status $?; check; sysctl vm.uareasout",
        )
        .success();
    let (asleep, after) = text.split_once("END\n").expect("all commands have run");
    let states = |name: &str| -> Vec<&str> {
        let lines = asleep.lines().filter(|line| line.ends_with(name));
        lines
            .filter_map(|line| line.split_whitespace().nth(4))
            .collect()
    };
    assert_eq!(states(" spin"), ["R", "R"], "{asleep}");
    let out = states(" sleepers")
        .iter()
        .filter(|&&state| state == "SW")
        .count();
    assert_eq!(out, 200, "{asleep}");
    awake(after, 200);
}
