//! The list of all tasks: spawning and finishing against the dump.

use loom::thread;

use super::machine::{Machine, on_cpu, run};
use super::model;
use crate::Class;

#[test]
fn the_dump_shows_whole_tasks_in_order() {
    model(|| {
        let (_, executor) = Machine::new(2);
        drop(executor.spawn(Class::User, "short", async {}));
        let spawner = thread::spawn({
            let executor = executor.clone();
            move || {
                on_cpu(1);
                drop(executor.spawn(Class::Daemon, "late", async {}));
                executor.turn(executor.cpu(), 0);
            }
        });
        let dumper = thread::spawn({
            let executor = executor.clone();
            move || {
                let mut last = 0;
                executor.for_each_task(|task| {
                    assert!(task.id > last && task.id <= 2);
                    assert_eq!(task.name.as_str(), ["short", "late"][task.id as usize - 1]);
                    last = task.id;
                });
            }
        });
        let mut turns = 0;
        run(&executor, || {
            turns += 1;
            turns == 2
        });
        spawner.join().unwrap();
        dumper.join().unwrap();
        executor.for_each_task(|task| panic!("{task} was left in the list"));
    });
}
