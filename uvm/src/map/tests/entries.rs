//! Entries against a flat model: one set of attributes for each page.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::{AT, at, entries, range, va};
use crate::addr::{PAGE_SHIFT, PageIndex, Pages};
use crate::map::{Advice, Inherit, MapEntry, MapRequest, Placement, VmError, VmSpace};
use crate::object::UvmObject;
use crate::pool::Ref;
use crate::prot::Prot;
use crate::sim::World;

/// Pages that the tests use.
const PAGES: u64 = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Private,
    Shared,
    /// Of one object, the page of the same number.
    Object,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ModelPage {
    kind: Kind,
    prot: Prot,
    advice: Advice,
    inherit: Inherit,
}

#[derive(Clone, Debug)]
enum Step {
    Map(Kind, Prot, bool),
    Unmap,
    Protect(Prot),
    Advise(Advice),
    Inherit(Inherit),
    Touch,
}

fn step() -> impl Strategy<Value = (Step, core::ops::Range<u64>)> {
    let kind = prop_oneof![
        Just(Kind::Private),
        Just(Kind::Private),
        Just(Kind::Shared),
        Just(Kind::Object)
    ];
    let prot = || prop_oneof![3 => Just(Prot::RW), 1 => Just(Prot::READ), 1 => Just(Prot::empty())];
    let step = prop_oneof![
        5 => (kind, prot(), any::<bool>()).prop_map(|(kind, prot, fixed)| Step::Map(kind, prot, fixed)),
        2 => Just(Step::Unmap),
        2 => prot().prop_map(Step::Protect),
        1 => prop_oneof![Just(Advice::Normal), Just(Advice::Random)].prop_map(Step::Advise),
        1 => prop_oneof![Just(Inherit::Copy), Just(Inherit::Share)].prop_map(Step::Inherit),
        3 => Just(Step::Touch),
    ];
    let pages = (0..PAGES, 1u64..9).prop_map(|(from, n)| from..(from + n).min(PAGES));
    (step, pages)
}

/// What the model says of a range.
fn verdict(model: &[Option<ModelPage>], pages: &core::ops::Range<u64>) -> Result<(), VmError> {
    let pages = pages.start as usize..pages.end as usize;
    match model[pages].iter().all(Option::is_some) {
        true => Ok(()),
        false => Err(VmError::Unmapped),
    }
}

/// Whether two entries should be one, whoever else shows what they show.
fn are_one(a: &MapEntry, b: &MapEntry) -> bool {
    let amaps = match (&a.amap, &b.amap) {
        (None, None) => true,
        (Some(x), Some(y)) => Ref::ptr_eq(x, y) && a.slot + a.pages() == b.slot,
        _ => false,
    };
    a.continues_in(b) && a.needs_copy == b.needs_copy && amaps
}

fn compare(space: &VmSpace, model: &[Option<ModelPage>]) -> Result<(), TestCaseError> {
    let map = space.map.read();
    let all: Vec<&MapEntry> = map.tree.iter().collect();
    for two in all.windows(2) {
        prop_assert!(two[0].end <= two[1].start);
        prop_assert!(!are_one(two[0], two[1]), "{:?} goes on", two[0].range());
    }
    let mut size = 0;
    for (page, expected) in (0..).zip(model) {
        let found = map.tree.find(at(page)).map(|node| node.value());
        let kind = |entry: &MapEntry| match (&entry.object, entry.copy_on_write) {
            (Some(_), _) => Kind::Object,
            (None, true) => Kind::Private,
            (None, false) => Kind::Shared,
        };
        let seen = found.map(|entry| ModelPage {
            kind: kind(entry),
            prot: entry.prot,
            advice: entry.advice,
            inherit: entry.inherit,
        });
        prop_assert_eq!(seen, *expected, "page {}", page);
        if let Some(entry) = found.filter(|entry| entry.object.is_some()) {
            prop_assert_eq!(entry.index_of(at(page)), PageIndex(page));
        }
        size += u64::from(expected.is_some()) << PAGE_SHIFT;
    }
    prop_assert_eq!(map.size, size);
    prop_assert!(
        all.iter()
            .all(|entry| entry.start >= AT && entry.end <= at(PAGES))
    );
    Ok(())
}

proptest! {
    #[test]
    fn entries_are_a_page_by_page_model(steps in prop::collection::vec(step(), 1..60)) {
        let world = World::new(256, 0);
        let space = world.space();
        let object = UvmObject::anonymous(&world.uvm, Pages(PAGES as usize)).unwrap();
        let mut model = [None; PAGES as usize];
        for (step, pages) in steps {
            let known = verdict(&model, &pages);
            let part = range(pages.start, pages.end);
            let (space2, object2, step2, start) = (space.clone(), object.clone(), step.clone(), pages.start);
            let program = world.program(&space);
            let result = world.run(async move {
                let space = space2;
                match step2 {
                    Step::Map(kind, prot, fixed) => {
                        let len = part.pages() << PAGE_SHIFT;
                        let request = match kind {
                            Kind::Private => MapRequest::anonymous(len, prot),
                            Kind::Shared => MapRequest::anonymous(len, prot).shared(),
                            Kind::Object => MapRequest::object(object2, PageIndex(start), len, prot).shared(),
                        };
                        let place = if fixed { Placement::Fixed } else { Placement::Exclusive };
                        space.map(request.at(place(va(start)))).map(drop)
                    }
                    Step::Unmap => space.unmap(part).await,
                    Step::Protect(prot) => space.protect(part, prot).await,
                    Step::Advise(advice) => space.advise(part, advice).await,
                    Step::Inherit(inherit) => space.inherit(part, inherit).await,
                    Step::Touch => {
                        for page in 0..part.pages() as u64 {
                            // Whether it may is not the question here.
                            let _ = program.store(at(start + page), 1).await;
                        }
                        Ok(())
                    }
                }
            });
            let slots = &mut model[pages.start as usize..pages.end as usize];
            let expected = match step {
                Step::Map(.., false) if slots.iter().any(Option::is_some) => Err(VmError::Exists),
                Step::Map(kind, prot, _) => {
                    let inherit = if kind == Kind::Private { Inherit::Copy } else { Inherit::Share };
                    slots.fill(Some(ModelPage { kind, prot, advice: Advice::Normal, inherit }));
                    Ok(())
                }
                Step::Unmap => {
                    slots.fill(None);
                    Ok(())
                }
                Step::Touch => Ok(()),
                _ if known.is_err() => known,
                _ => {
                    for page in slots.iter_mut().flatten() {
                        match step {
                            Step::Protect(prot) => page.prot = prot,
                            Step::Advise(advice) => page.advice = advice,
                            Step::Inherit(inherit) => page.inherit = inherit,
                            _ => {}
                        }
                    }
                    Ok(())
                }
            };
            prop_assert_eq!(result, expected, "{:?} of {:?}", step, pages);
            compare(&space, &model)?;
            world.check_quiet();
        }
    }
}

#[test]
fn a_mapping_between_two_makes_them_one() {
    let world = World::new(256, 0);
    for touched in [[false; 3], [true, false, false], [false, false, true]] {
        let space = world.space();
        let program = world.program(&space);
        let (there, s) = (touched, space.clone());
        world.run(async move {
            for part in [0, 2] {
                s.map(super::anonymous(part * 4, 4)).unwrap();
                if there[part as usize] {
                    program.touch(at(part * 4), 4, 7).await.unwrap();
                }
            }
            assert_eq!(entries(&s), 2);
            s.map(super::anonymous(4, 4)).unwrap();
            assert_eq!(entries(&s), 1 + usize::from(there[2]));
            let bytes = program.peek(at(0), 12).await.unwrap();
            let expected = |page: usize| if there[page / 4] { 7 } else { 0 };
            assert!(
                bytes
                    .iter()
                    .enumerate()
                    .all(|(page, &b)| b == expected(page))
            );
            program.touch(at(0), 12, 9).await.unwrap();
            assert_eq!(program.peek(at(0), 12).await.unwrap(), [9; 12]);
            s.deactivate();
            s.teardown().await;
        });
        world.check_quiet();
    }
}

#[test]
fn what_is_left_of_a_mapping_grows_at_both_ends() {
    let world = World::new(256, 0);
    let space = world.space();
    let program = world.program(&space);
    world.run(async move {
        let space = program.space();
        space.map(super::anonymous(0, 12)).unwrap();
        program.touch(at(0), 12, 7).await.unwrap();
        space.unmap(range(0, 4)).await.unwrap();
        space.unmap(range(8, 12)).await.unwrap();
        space.map(super::anonymous(2, 2)).unwrap();
        space.map(super::anonymous(8, 4)).unwrap();
        assert_eq!(entries(space), 1, "the amap is its own, and has the slots");
        let expected = [0, 0, 7, 7, 7, 7, 0, 0, 0, 0];
        assert_eq!(program.peek(at(2), 10).await.unwrap(), expected);
        program.touch(at(2), 10, 8).await.unwrap();
        assert_eq!(program.peek(at(2), 10).await.unwrap(), [8; 10]);
        // Before slot 0 there are none: another entry.
        space.map(super::anonymous(0, 2)).unwrap();
        assert_eq!(entries(space), 1);
        space.map(super::anonymous(20, 4)).unwrap();
        program.touch(at(20), 4, 1).await.unwrap();
        space.map(super::anonymous(18, 2)).unwrap();
        assert_eq!(entries(space), 3);
        assert_eq!(program.peek(at(18), 6).await.unwrap(), [0, 0, 1, 1, 1, 1]);
        space.deactivate();
        space.teardown().await;
    });
    world.check_quiet();
}

#[test]
fn a_heap_that_a_child_shows_too_grows_on_and_each_has_its_own() {
    let world = World::new(256, 0);
    let space = world.space();
    let parent = world.program(&space);
    let child = world.run(async move {
        parent.space().map(super::anonymous(0, 4)).unwrap();
        parent.touch(at(0), 4, 1).await.unwrap();
        let child = parent.space().fork().await.unwrap();
        // Both go on in the same amap: the first to ask has the slots, the other an entry of its own.
        for space in [parent.space(), &child] {
            space.map(super::anonymous(4, 4)).unwrap();
        }
        assert_eq!((entries(parent.space()), entries(&child)), (1, 2));
        parent.touch(at(2), 4, 2).await.unwrap();
        child
    });
    world.check_quiet();
    let (parent, program) = (world.program(&space), world.program(&child));
    world.run(async move {
        let expected = [1, 1, 1, 1, 0, 0, 0, 0];
        assert_eq!(program.peek(at(0), 8).await.unwrap(), expected);
        program.touch(at(3), 4, 3).await.unwrap();
        assert_eq!(
            program.peek(at(0), 8).await.unwrap(),
            [1, 1, 1, 3, 3, 3, 3, 0]
        );
        assert_eq!(
            parent.peek(at(0), 8).await.unwrap(),
            [1, 1, 2, 2, 2, 2, 0, 0]
        );
    });
    world.check_quiet();
}
