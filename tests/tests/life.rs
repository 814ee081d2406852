//! Births and deaths of processes and threads, many of them: what UVM.md's table says of them, and that nothing is left.

use tests::Auvm;

/// What of the kernel must be as before, after however many births and deaths.
const COUNTED: &str = "run /programs/static/life fork 1; run /programs/static/life thread 1; run /bin/busybox sleep 1; echo COUNT; vmstat -s; \
                       vmstat -m; tasks; echo END";

/// By how many frames, or objects of a pool, caches may differ.
const TOLERANCE: u64 = 16;

/// UVM.md, row 1, as a program sees it: what it lends is what it gets back. (The program verifies its memory.)
#[test]
fn row_01_memory_lent_two_thousand_times_is_intact() {
    let text = Auvm::new()
        .exec(
            "run /programs/static/life vfork 1990; echo status $?; run /programs/static/life vfork-exec 190; echo status $?; \
             sysctl vm.pmap_activate vm.pmap_deactivate; check",
        )
        .success();
    assert!(text.contains("vfork-exit-wait count 1990 "), "{text}");
    assert!(text.contains("vfork-exec-wait count 190 "), "{text}");
    assert_eq!(text.matches("\nstatus 0\n").count(), 2, "{text}");
    let [activated, deactivated] = ["activate", "deactivate"].map(|what| {
        let line = format!("vm.pmap_{what} = ");
        number(&text, |text| text.strip_prefix(&line))
    });
    assert_eq!(activated, deactivated, "{text}");
    assert!(text.contains("0 address spaces"), "{text}");
}

/// UVM.md, row 24: a running process goes over to another space, its own new one with each exec; the old one is freed once, whoever else held it.
#[test]
fn row_24_each_exec_frees_the_old_space_once() {
    const ROUNDS: u64 = 200;
    const WARMUP: u64 = 8;
    let text = Auvm::new()
        .exec(&format!(
            "run /bin/busybox true; sysctl vm.spacefrees; run /programs/static/life fork-exec {ROUNDS}; sysctl vm.spacefrees; check"
        ))
        .success();
    let mut lines = text.lines();
    let mut freed = || {
        let found = lines.find_map(|line| line.strip_prefix("vm.spacefrees = "));
        found
            .and_then(|n| n.parse::<u64>().ok())
            .expect("sysctl prints it")
    };
    let (before, after) = (freed(), freed());
    let rounds = number(&text, |line| {
        line.strip_prefix("fork-exec-wait count ")?
            .split(' ')
            .next()
    });
    assert!(rounds >= ROUNDS, "{text}");
    // A child's copy of its parent's, and the one it executed the program in, also in the rounds that warm up; and the parent's own.
    assert_eq!(after - before, 2 * (rounds + WARMUP) + 1, "{text}");
    assert!(text.contains(" 0 address spaces, 0 entries,"), "{text}");
}

/// UVM.md, row 24: a kernel task attaches to a running process, reads its memory, and lets go; who ends meanwhile leaves its memory to be freed by the task.
#[test]
fn row_24_a_kernel_task_reads_a_process_that_runs() {
    let begin = "run /programs/static/spin 1000000000000 & run /bin/busybox sleep 1";
    let map = Auvm::new()
        .exec(&format!("{begin}; pmap 3; kill -9 %1"))
        .success();
    let first = map
        .lines()
        .find_map(|line| line.strip_suffix("file at 0x0, 0 pages of its own"));
    let first = first
        .and_then(|line| line.split('-').next())
        .unwrap_or_else(|| panic!("{map}"));
    let text = Auvm::new()
        .exec(&format!(
            "{begin}; examine 3 0x{first} 32; examine 3 0x{first} 8192 & kill -9 %1; wait; sysctl vm.spacefrees; examine 3 0x{first}; check"
        ))
        .success();
    let header = format!("\n{first}  7f 45 4c 46 02 01 01 ");
    assert_eq!(format!("\n{text}").matches(&header).count(), 2, "{text}");
    let lines = text
        .lines()
        .filter(|line| line.len() > 16 && line.as_bytes()[16..].starts_with(b"  "));
    assert_eq!(lines.count(), (32 + 8192) / 16, "read to the end: {text}");
    assert!(text.contains("ended by SIGKILL"), "{text}");
    // That of `sleep`, and this one.
    assert!(text.contains("\nvm.spacefrees = 2\n"), "{text}");
    assert!(text.contains("examine: process 3 does not exist"), "{text}");
    assert!(text.contains(" 0 address spaces, 0 entries,"), "{text}");
}

/// UVM.md, row 25: entry point and argument are there before the new one can run.
#[test]
fn row_25_who_is_started_begins_with_what_it_was_given() {
    let evicted = Auvm::new()
        .option("--append", "torture=evict")
        .option("--swap", "64M");
    for (machine, rounds) in [(Auvm::new(), 100), (evicted, 5)] {
        let text = machine
            .exec(&format!("run /programs/starts {rounds}; check"))
            .success();
        let each = 3 * rounds;
        let line = format!(
            "3 starters: {each} threads, {each} forked, {each} programs, 0 of them wrong\n"
        );
        assert!(text.contains(&line), "{text}");
        assert!(text.contains(" 0 address spaces, 0 entries,"), "{text}");
    }
}

/// UVM.md, rows 3 and 4: whoever the parent leaves behind is collected, and so are their u-areas.
#[test]
fn row_04_a_thousand_orphans_leave_no_zombie() {
    let text = Auvm::new()
        .exec(
            "run /programs/static/orphans 1000; run /bin/busybox sleep 1; ps; sysctl vm.uareacached vm.uareadrained; check",
        )
        .success();
    assert!(
        text.starts_with("parent: signal 9\norphans: 1000\n"),
        "{text}"
    );
    let processes: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.contains("PPID"))
        .skip(1)
        .take_while(|line| !line.starts_with("vm."))
        .collect();
    assert_eq!(processes.len(), 1, "init alone is left: {text}");
    assert!(processes[0].ends_with(" init"), "{text}");
    let cached = number(&text, |line| line.strip_prefix("vm.uareacached = "));
    // And that of `sleep`, which goes there after its parent has waited.
    assert!(cached <= 16 + 1, "row 3: {cached} u-areas are cached");
    assert!(
        number(&text, |line| line.strip_prefix("vm.uareadrained = ")) > 400,
        "{text}"
    );
    assert!(text.contains("\nall is well"), "{text}");
    assert!(text.contains("0 address spaces"), "{text}");
}

/// UVM.md, row 26.
#[test]
fn row_26_limits_follow_the_machines_memory() {
    let limits = |memory: &str| {
        let text = Auvm::new()
            .option("--memory", memory)
            .exec("sysctl vm.npages; run /bin/busybox sh -c 'ulimit -a'")
            .success();
        let pages = number(&text, |line| line.strip_prefix("vm.npages = "));
        let kib = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let word = line.and_then(|line| line.split_whitespace().next_back());
            let value: Option<u64> = word.and_then(|word| word.parse().ok());
            value.unwrap_or_else(|| panic!("no number of {name} in\n{text}"))
        };
        assert_eq!(kib("data seg size"), pages * 4, "{text}");
        assert_eq!(kib("stack size"), 8192, "{text}");
        let resident = kib("max memory size");
        assert!((pages * 3..pages * 4).contains(&resident), "{text}");
        resident
    };
    let [small, large] = ["64M", "256M"].map(limits);
    assert!(large > 3 * small, "{small} and {large} KiB");
}

/// How often things are done.
struct Scale {
    forks: usize,
    execs: usize,
    threads: usize,
    orphans: usize,
}

/// Does them, and compares what the kernel holds. Beside them `beside` runs, if it is not empty.
fn nothing_is_left(machine: Auvm, scale: &Scale, beside: &str) {
    let Scale {
        forks,
        execs,
        threads,
        orphans,
    } = scale;
    let load = match beside {
        "" => String::new(),
        program => format!("run {program} & "),
    };
    let wait = if beside.is_empty() { "" } else { "wait;" };
    let text = machine
        .exec(&format!(
            "{COUNTED}; {load} time run /programs/static/life fork {forks}; time run /programs/static/life vfork-exec {execs}; \
             time run /programs/static/life thread {threads}; time run /programs/static/orphans {orphans}; {wait} {COUNTED}; check"
        ))
        .success();
    println!("{text}");
    for (name, count) in [
        ("fork-exit-wait", forks),
        ("vfork-exec-wait", execs),
        ("thread-create-join", threads),
    ] {
        assert!(text.contains(&format!("{name} count {count} ")), "{text}");
    }
    assert!(text.contains(&format!("orphans: {orphans}\n")), "{text}");
    assert!(text.contains("\nall is well"), "{text}");
    let counted: Vec<&str> = text.split("COUNT\n").skip(1).collect();
    let [before, after] = counted[..] else {
        panic!("counted twice\n{text}")
    };
    // What pools keep for the next ones is theirs to give back.
    let in_use = |text: &str| {
        let of = |what: &str| number(text, |line| line.trim().strip_suffix(what));
        let kept = of(" file pages resident") + of(" pages in pools and heap");
        of(" pages managed") - of(" pages free") - kept - 2 * of(" u-areas cached")
    };
    let used = [before, after].map(in_use);
    println!("frames in use: {used:?}");
    assert!(used[1] <= used[0] + TOLERANCE, "{used:?}");
    for (pool, objects) in pools(after) {
        let then = pools(before).into_iter().find(|(name, _)| *name == pool);
        let then = then.expect("pools do not come and go").1;
        println!("{pool}: {then}, then {objects}");
        let file = pool == "object nodes";
        assert!(file || objects <= then + TOLERANCE, "{pool}");
    }
    let tasks = [before, after].map(tasks);
    assert_eq!(tasks[0], tasks[1]);
    for text in [before, after] {
        let cached = number(text, |line| line.trim().strip_suffix(" u-areas cached"));
        assert!(cached <= 17, "{cached} u-areas are cached");
    }
}

/// The names of the tasks that there are, in order.
fn tasks(text: &str) -> Vec<String> {
    let lines = text
        .lines()
        .skip_while(|line| !line.contains("LONGEST"))
        .skip(1)
        .take_while(|line| *line != "END");
    let mut names: Vec<String> = lines
        .map(|line| line.chars().skip(6).take(19).collect::<String>())
        .collect();
    names.sort();
    names
}

/// The objects in each pool, as `vmstat -m` says.
fn pools(text: &str) -> Vec<(&str, u64)> {
    let lines = text
        .lines()
        .skip_while(|line| !line.starts_with("POOL "))
        .skip(1);
    let pool = |line: &'_ str| -> Option<(usize, u64)> {
        let rest = line.rsplit_once(' ')?.0.trim_end();
        let (name, objects) = rest.rsplit_once(' ')?;
        Some((name.trim_end().len(), objects.parse().ok()?))
    };
    let named = |line: &'_ str| pool(line).map(|(len, _)| len);
    lines
        .map_while(|line| Some((&line[..named(line)?], pool(line)?.1)))
        .collect()
}

/// The number in the first line of which `of` leaves one.
#[track_caller]
fn number(text: &str, of: impl Fn(&str) -> Option<&str>) -> u64 {
    let found = text.lines().find_map(of);
    let number = found.and_then(|word| word.trim().parse().ok());
    number.unwrap_or_else(|| panic!("a number is missing in\n{text}"))
}

const SHORT: Scale = Scale {
    forks: 500,
    execs: 200,
    threads: 500,
    orphans: 100,
};

const LONG: Scale = Scale {
    forks: 100_000,
    execs: 100_000,
    threads: 10_000,
    orphans: 1000,
};

/// Where a load wants twice the memory that there is.
fn short_of_memory() -> (Auvm, &'static str) {
    let machine = Auvm::new()
        .option("--memory", "64M")
        .option("--swap", "256M");
    (machine, "/bin/hog --procs 4 --size 32M --rounds 4 --verify")
}

#[test]
fn many_births_and_deaths_leave_nothing_behind() {
    nothing_is_left(Auvm::new(), &SHORT, "");
}

#[test]
fn nor_do_they_with_twice_the_memory_wanted() {
    let (machine, beside) = short_of_memory();
    nothing_is_left(machine, &SHORT, beside);
}

#[test]
#[ignore = "takes minutes: cargo test -p tests --test life -- --ignored"]
fn a_hundred_thousand_leave_nothing_behind() {
    nothing_is_left(Auvm::new().timeout(3600), &LONG, "");
}

/// Beside a load that lasts about as long.
#[test]
#[ignore = "takes long: cargo test -p tests --test life -- --ignored"]
fn nor_does_a_hundred_thousand_with_twice_the_memory_wanted() {
    let (machine, _) = short_of_memory();
    let beside = "/bin/hog --procs 4 --size 32M --rounds 400 --verify";
    nothing_is_left(machine.timeout(4 * 3600), &LONG, beside);
}
