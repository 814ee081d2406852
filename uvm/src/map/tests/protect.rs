//! What mprotect does to translations: writes that it gives back fault only where something has to be done before.

use super::*;
use crate::meter::Counter;
use crate::sim::World;

/// Which of the first `pages` pages are mapped to be written.
fn writable(space: &VmSpace, pages: u64) -> Vec<u64> {
    let may = |&page: &u64| {
        let mapping = space.pmap().extract(space.uvm(), va(page));
        mapping.is_some_and(|mapping| mapping.prot.contains(Prot::WRITE))
    };
    (0..pages).filter(may).collect()
}

fn world() -> (World, Arc<VmSpace>) {
    let world = World::new(512, 0);
    let space = world.space();
    space.map(anonymous(0, 24)).unwrap();
    let program = world.program(&space);
    world.run(async move { program.touch(AT, 24, 1).await.unwrap() });
    (world, space)
}

/// Takes the right to write from pages, and gives it back.
async fn there_and_back(space: &VmSpace, from: u64, to: u64) {
    space.protect(range(from, to), Prot::READ).await.unwrap();
    space.protect(range(from, to), Prot::RW).await.unwrap();
}

#[test]
fn pages_of_ones_own_are_written_without_a_fault_and_get_dirty() {
    let (world, space) = world();
    let program = world.program(&space);
    let uvm = world.uvm.clone();
    world.run(async move {
        let space = program.space();
        // Part of a mapping that is one again afterwards, then all of it.
        for (from, to) in [(0, 8), (8, 24), (3, 20), (0, 24)] {
            space.protect(range(from, to), Prot::READ).await.unwrap();
            assert_eq!(writable(space, 24).len() as u64, 24 - (to - from));
            for page in from..to {
                let frame = space.pmap().extract(&uvm, va(page)).unwrap().frame;
                uvm.clear_modified(frame);
            }
            space.protect(range(from, to), Prot::RW).await.unwrap();
            assert_eq!(writable(space, 24), (0..24).collect::<Vec<_>>());
            let faults = uvm.meter().get(Counter::Faults);
            for page in from..to {
                let frame = space.pmap().extract(&uvm, va(page)).unwrap().frame;
                assert!(!uvm.is_modified(frame));
                program.store(at(page), page as u8).await.unwrap();
                assert!(uvm.is_modified(frame));
            }
            assert_eq!(uvm.meter().get(Counter::Faults), faults);
        }
        assert_eq!(program.peek(AT, 24).await.unwrap()[..5], [0, 1, 2, 3, 4]);
    });
    drop(space);
    world.check();
}

#[test]
fn pages_that_others_show_stay_read_only() {
    let (world, space) = world();
    let parent = space.clone();
    let child = world.run(async move { parent.fork().await.unwrap() });
    let (program, other) = (world.program(&space), world.program(&child));
    world.run(async move {
        let space = program.space();
        // All of the amap is the child's, too.
        there_and_back(space, 0, 24).await;
        assert!(writable(space, 24).is_empty());
        // Now it is the parent's own, but most anons are not.
        for page in [3, 17] {
            program.store(at(page), 2).await.unwrap();
        }
        there_and_back(space, 0, 24).await;
        assert_eq!(writable(space, 24), [3, 17]);
        program.touch(AT, 24, 3).await.unwrap();
        assert_eq!(other.peek(AT, 24).await.unwrap(), [1; 24]);
        program.space().deactivate();
        other.space().deactivate();
    });
    drop((space, child));
    world.check_quiet();
}

#[test]
fn pages_on_loan_stay_read_only() {
    let (world, space) = world();
    let program = world.program(&space);
    world.run(async move {
        let space = program.space();
        let loan = space.loan(range(4, 6)).await.unwrap();
        there_and_back(space, 0, 8).await;
        assert_eq!(writable(space, 8), [0, 1, 2, 3, 6, 7]);
        program.touch(AT, 8, 9).await.unwrap();
        let mut lent = [0];
        loan.read(0, &mut lent);
        assert_eq!(lent, [1], "what is lent stays as it was");
        drop(loan);
        assert_eq!(program.peek(AT, 8).await.unwrap(), [9; 8]);
    });
    drop(space);
    world.check();
}

#[test]
fn wired_pages_are_written_without_a_fault() {
    let (world, space) = world();
    let program = world.program(&space);
    world.run(async move {
        let space = program.space();
        space.mlock(range(2, 5)).await.unwrap();
        there_and_back(space, 0, 8).await;
        assert_eq!(writable(space, 24).len(), 24);
        let mapping = space.pmap().extract(space.uvm(), va(3)).unwrap();
        assert!(mapping.wired);
    });
    drop(space);
    world.check();
}
