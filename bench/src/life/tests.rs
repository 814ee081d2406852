//! Runs, and what their program says.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::*;

const COLD_FORK: Run = FORK[1];

fn said(listener: &mut Listener, text: &str) {
    // However it comes.
    for piece in text.as_bytes().chunks(7) {
        listener.hear(piece);
    }
}

#[test]
fn samples_become_cases_and_readings_their_figures() {
    let mut listener = Listener::new(COLD_FORK, 2).unwrap();
    said(
        &mut listener,
        "sample fork 30\nsample fork 20\nsample fork-exit-wait 100\nsample fork-exit-wait 300\n",
    );
    let before = Reading {
        hits: 5,
        made: 7,
        released: 7,
        frames: 50,
        pool_pages: 20,
        tasks: 9,
    };
    let after = Reading { made: 10, ..before };
    let cases = listener.cases(&before, &after).unwrap();
    let [mut call, mut whole] = <[_; 2]>::try_from(cases).unwrap();
    assert_eq!(
        (call.name, whole.name),
        ("fork-cold", "fork-exit-wait-cold")
    );
    assert_eq!(call.kernel.summary().unwrap().p50, 20);
    assert_eq!(whole.kernel.summary().unwrap().max, 300);
    let figure = |name| {
        let found = whole.figures.iter().find(|figure| figure.name == name);
        found.unwrap().value
    };
    assert_eq!((figure("uareas_hit"), figure("uareas_made")), (0, 3));
    assert_eq!((figure("frames_before"), figure("tasks_after")), (50, 9));
}

#[test]
fn what_is_missing_is_said_with_the_reason_if_one_was_given() {
    let reading = Reading::default();
    let mut listener = Listener::new(COLD_FORK, 2).unwrap();
    said(
        &mut listener,
        "sample fork 30\nsample fork-exit-wait 1\nsample fork 31\n",
    );
    let missing = listener.cases(&reading, &reading).unwrap_err();
    assert_eq!(format!("{missing}"), "1 of 2 samples came");
    let mut listener = Listener::new(COLD_FORK, 2).unwrap();
    let long = "x".repeat(5000);
    said(
        &mut listener,
        &format!("sample thread-create-join 5\n{long}\nsample fork x\nlife: fork: no\n"),
    );
    assert_eq!(listener.complaint(), "life: fork: no");
    let missing = listener.cases(&reading, &reading).unwrap_err();
    assert_eq!(format!("{missing}"), "0 of 2 samples came: life: fork: no");
}

#[test]
fn names_are_told_apart_and_fit_the_table() {
    let mut names: Vec<&str> = Vec::new();
    for run in FORK.iter().chain(EXEC) {
        names.extend(run.kind.series().iter().map(|series| run.name(series)));
    }
    assert_eq!(names.len(), 11);
    assert!(names.iter().all(|name| name.len() < 26), "{names:?}");
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 11);
}

#[test]
fn the_command_line_says_what_and_how_often() {
    assert_eq!(
        FORK[4].words(FORK[4].kind.rounds(100)),
        ["/programs/static/life", "exit", "5", "--samples"].map(String::from)
    );
    assert_eq!(Kind::Exit.rounds(1), 1);
    assert_eq!((Cache::Warm.keep(), Cache::Cold.keep()), (16, 0));
}

#[test]
fn cached_uareas_and_file_pages_are_not_in_use() {
    let world = uvm::sim::World::new(1024, 0);
    let reading = || Reading::take(&world.uvm, &world.executor);
    let before = reading();
    assert!(before.tasks > 0);
    let (uarea, _) = world.uvm.uarea_alloc().unwrap();
    assert_eq!(reading().frames, before.frames + UAREA_PAGES as u64);
    world.uvm.uarea_free(uarea);
    let after = reading();
    assert_eq!((after.frames, after.made), (before.frames, before.made + 1));
}
