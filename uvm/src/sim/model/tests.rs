//! The oracle itself: what a fork, a store and a discard come to.

use super::*;

fn mapped(inherit: Inherit, content: Content) -> Model {
    let mut model = Model::default();
    let page = ModelPage {
        inherit,
        content,
        ..ModelPage::zeroes(Prot::RW)
    };
    model.insert(1, page);
    model
}

fn fork(model: &mut Model) -> Model {
    model.fork_begins();
    model.fork_ended().0
}

fn sees(model: &Model) -> Verdict {
    model.judge(1, 0, Prot::READ)
}

#[test]
fn a_private_copy_of_an_object_follows_it_until_the_first_store() {
    let mut parent = mapped(Inherit::Copy, Content::object());
    let mut child = fork(&mut parent);
    let mut grandchild = fork(&mut child);
    parent.store(1, 0, 7);
    assert_eq!(sees(&child), Verdict::Succeeds(Some(7)));
    child.store(1, 1, 8);
    parent.store(1, 0, 9);
    assert_eq!(sees(&child), Verdict::Succeeds(Some(7)));
    assert_eq!(sees(&grandchild), Verdict::Succeeds(Some(9)));
    // After a store that may have failed half-way both are right.
    grandchild.may_copy(1);
    assert_eq!(sees(&grandchild), Verdict::Succeeds(None));
}

#[test]
fn a_private_copy_of_anonymous_memory_is_a_snapshot() {
    let mut parent = mapped(Inherit::Copy, Content::shared());
    let child = fork(&mut parent);
    parent.store(1, 0, 7);
    assert_eq!(sees(&child), Verdict::Succeeds(Some(0)));
}

#[test]
fn what_was_stored_is_not_read_from_the_file() {
    let mut model = mapped(Inherit::Copy, Content::zeroes());
    model.change(1..2, |page| page.risk = Risk::MayFail);
    assert!(model.may_fail(1));
    model.store(1, 0, 7);
    assert!(!model.may_fail(1));
}

#[test]
fn what_changes_during_a_fork_is_not_known_in_the_child() {
    let mut parent = mapped(Inherit::Copy, Content::shared());
    let mut partner = parent.clone();
    parent.fork_begins();
    partner.store(1, 0, 7);
    parent.insert(2, ModelPage::zeroes(Prot::RW));
    let (child, mapped) = parent.fork_ended();
    assert_eq!(sees(&child), Verdict::Succeeds(None));
    assert_eq!(sees(&parent), Verdict::Succeeds(Some(7)));
    assert_eq!(mapped, [2]);
    assert!(!child.any(2..3));
}
