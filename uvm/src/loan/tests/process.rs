//! Loans to processes: each side writes, lets go, dies.

use super::*;

/// What the borrower or the lender of one page does after the loan.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    LenderWrites,
    BorrowerWrites,
    LenderUnmaps,
    BorrowerUnmaps,
    LenderExits,
    BorrowerExits,
    /// With all that refers to it.
    ObjectGoes,
}

#[test]
fn a_process_loan_survives_whatever_either_side_does_in_any_order() {
    use Act::*;
    let acts = [
        LenderWrites,
        BorrowerWrites,
        LenderUnmaps,
        BorrowerUnmaps,
        LenderExits,
        BorrowerExits,
        ObjectGoes,
    ];
    for of in [AT, SHARED] {
        for first in acts {
            for second in acts {
                let done = [first, second];
                lend_one(of, done);
            }
        }
    }
}

fn lend_one(of: u64, acts: [Act; 2]) {
    let world = World::new(256, 0);
    let object = UvmObject::anonymous(&world.uvm, Pages(1)).unwrap();
    let (lender, borrower) = (world.program(&world.space()), world.program(&world.space()));
    map_private(lender.space(), AT, 1);
    map_shared(lender.space(), &object, 1);
    map_private(borrower.space(), THERE, 1);
    let uvm = world.uvm.clone();
    world.run(async move {
        lender.store(of, 1).await.unwrap();
        borrower.store(THERE, 9).await.unwrap();
        let to = VirtAddr::new(THERE);
        lender
            .space()
            .loan_to(range(of, 1), borrower.space(), to)
            .await
            .unwrap();
        assert_eq!(borrower.load(THERE).await, Ok(1));
        assert_eq!(
            mapped(&lender, of).frame,
            mapped(&borrower, THERE).frame,
            "no copy"
        );
        uvm.check().unwrap();
        let mut object = Some(object);
        let (mut lent, mut borrowed) = (Some(1), Some(1));
        for act in acts {
            match act {
                Act::LenderWrites if lent.is_some() => {
                    lender.store(of, 2).await.unwrap();
                    lent = Some(2);
                }
                Act::BorrowerWrites if borrowed.is_some() => {
                    borrower.store(THERE, 3).await.unwrap();
                    borrowed = Some(3);
                }
                Act::LenderUnmaps => {
                    lender.space().unmap(range(of, 1)).await.unwrap();
                    lent = None;
                }
                Act::BorrowerUnmaps => {
                    borrower.space().unmap(range(THERE, 1)).await.unwrap();
                    borrowed = None;
                }
                Act::LenderExits => {
                    end(&lender).await;
                    lent = None;
                }
                Act::BorrowerExits => {
                    end(&borrower).await;
                    borrowed = None;
                }
                Act::ObjectGoes => {
                    lender.space().unmap(range(SHARED, 1)).await.unwrap();
                    object = None;
                    lent = lent.filter(|_| of != SHARED);
                }
                _ => {}
            }
            let checked = uvm.check();
            assert!(checked.is_ok(), "{of:#x} {acts:?}: {checked:?}");
            for (program, va, byte) in [(&lender, of, lent), (&borrower, THERE, borrowed)] {
                if let Some(byte) = byte {
                    assert_eq!(program.load(va).await, Ok(byte), "{of:#x} {acts:?}");
                }
            }
            let report = uvm.check().expect("after looking");
            assert_eq!(
                (report.in_transit, report.borrowed),
                (0, 0),
                "{of:#x} {acts:?}"
            );
        }
        end(&lender).await;
        end(&borrower).await;
        drop(object);
    });
    assert_eq!(world.check_quiet().anon, 0, "{of:#x} {acts:?}");
    assert_eq!(world.uvm.meter().gauge(Gauge::Anonpages), 0);
}

#[test]
fn a_borrower_left_alone_owns_the_page_and_copies_nothing() {
    let world = World::new(256, 0);
    let object = UvmObject::anonymous(&world.uvm, Pages(1)).unwrap();
    let lender = world.program(&world.space());
    let borrowers: [_; 2] = core::array::from_fn(|_| world.program(&world.space()));
    map_shared(lender.space(), &object, 1);
    borrowers
        .iter()
        .for_each(|b| map_private(b.space(), THERE, 1));
    let uvm = world.uvm.clone();
    world.run(async move {
        lender.store(SHARED, 1).await.unwrap();
        let frame = mapped(&lender, SHARED).frame;
        for borrower in &borrowers {
            let to = VirtAddr::new(THERE);
            lender
                .space()
                .loan_to(range(SHARED, 1), borrower.space(), to)
                .await
                .unwrap();
        }
        end(&lender).await;
        drop(object);
        let report = uvm.check().unwrap();
        assert_eq!((report.borrowed, report.in_transit), (1, 0), "{report}");
        // The first to use it owns it; for the other it is still a loan.
        let [a, b] = &borrowers;
        assert_eq!(a.load(THERE).await, Ok(1));
        assert_eq!(uvm.page(frame).owner_kind(), OwnerKind::Anon);
        assert_eq!(b.load(THERE).await, Ok(1));
        uvm.check().unwrap();
        a.store(THERE, 2).await.unwrap();
        assert_eq!((breaks(&uvm), b.load(THERE).await), (1, Ok(1)));
        b.store(THERE, 3).await.unwrap();
        assert_eq!(
            (breaks(&uvm), a.load(THERE).await),
            (1, Ok(2)),
            "alone at last"
        );
        assert_eq!(mapped(b, THERE).frame, frame);
        assert_eq!(uvm.meter().gauge(Gauge::Anonpages), 2);
        for program in &borrowers {
            end(program).await;
        }
    });
    assert_eq!(world.check_quiet().anon, 0);
}

#[test]
fn a_child_of_a_borrower_borrows_along() {
    let world = World::new(256, 0);
    let object = UvmObject::anonymous(&world.uvm, Pages(3)).unwrap();
    let (lender, parent) = (world.program(&world.space()), world.program(&world.space()));
    map_shared(lender.space(), &object, 3);
    map_private(parent.space(), THERE, 3);
    let (l, p) = (lender.clone(), parent.clone());
    let child = world.run(async move {
        l.touch(SHARED, 3, 1).await.unwrap();
        let to = VirtAddr::new(THERE);
        l.space()
            .loan_to(range(SHARED, 3), p.space(), to)
            .await
            .unwrap();
        p.space().fork().await.unwrap()
    });
    let child = world.program(&child);
    let uvm = world.uvm.clone();
    world.run(async move {
        child.store(THERE, 2).await.unwrap();
        parent.store(THERE + PAGE, 3).await.unwrap();
        lender.store(SHARED + 2 * PAGE, 4).await.unwrap();
        uvm.check().unwrap();
        assert_eq!(lender.peek(SHARED, 3).await.unwrap(), [1, 1, 4]);
        assert_eq!(parent.peek(THERE, 3).await.unwrap(), [1, 3, 1]);
        assert_eq!(child.peek(THERE, 3).await.unwrap(), [2, 1, 1]);
        end(&parent).await;
        uvm.check().unwrap();
        child.touch(THERE, 3, 5).await.unwrap();
        assert_eq!(lender.peek(SHARED, 3).await.unwrap(), [1, 1, 4]);
        end(&child).await;
        // Nothing is lent any more: written in place.
        let before = breaks(&uvm);
        lender.touch(SHARED, 3, 6).await.unwrap();
        assert_eq!(breaks(&uvm), before);
        end(&lender).await;
    });
    assert_eq!(object.resident(), 3);
    world.check_quiet();
}

#[test]
fn sharers_of_an_amap_see_what_is_borrowed_and_what_is_written_to_it() {
    let world = World::new(256, 0);
    let object = UvmObject::anonymous(&world.uvm, Pages(1)).unwrap();
    let (lender, borrower) = (world.program(&world.space()), world.program(&world.space()));
    map_shared(lender.space(), &object, 1);
    map_private(borrower.space(), THERE, 1);
    let forker = borrower.clone();
    let partner = world.run(async move {
        let share = crate::Inherit::Share;
        forker
            .space()
            .inherit(range(THERE, 1), share)
            .await
            .unwrap();
        forker.store(THERE, 9).await.unwrap();
        forker.space().fork().await.unwrap()
    });
    let partner = world.program(&partner);
    let uvm = world.uvm.clone();
    world.run(async move {
        assert_eq!(partner.load(THERE).await, Ok(9));
        lender.store(SHARED, 1).await.unwrap();
        let to = VirtAddr::new(THERE);
        lender
            .space()
            .loan_to(range(SHARED, 1), borrower.space(), to)
            .await
            .unwrap();
        assert_eq!(
            (partner.load(THERE).await, borrower.load(THERE).await),
            (Ok(1), Ok(1))
        );
        partner.store(THERE, 2).await.unwrap();
        assert_eq!(
            (borrower.load(THERE).await, lender.load(SHARED).await),
            (Ok(2), Ok(1))
        );
        assert_eq!(breaks(&uvm), 1);
    });
    world.check_quiet();
}
