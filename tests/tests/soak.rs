//! What a process takes, it gives back.

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
