//! Loans to the kernel.

use super::*;

#[test]
fn a_kernel_loan_of_anonymous_memory_keeps_its_bytes() {
    let world = World::new(256, 0);
    let space = world.space();
    let (program, uvm) = (world.program(&space), world.uvm.clone());
    world.run(async move {
        let space = program.space();
        map_private(space, AT, 3);
        program.touch(AT, 3, 1).await.unwrap();
        let loan = space.loan(range(AT, 3)).await.unwrap();
        assert_eq!(loan.pages(), 3);
        let lent: Vec<Frame> = loan.frames().collect();
        assert_eq!(program.load(AT).await, Ok(1));
        assert_eq!(breaks(&uvm), 0, "reading copies nothing");
        for page in 0..3 {
            let mapping = mapped(&program, AT + page * PAGE);
            assert_eq!(mapping.frame, lent[page as usize]);
            assert!(!mapping.prot.contains(Prot::WRITE));
        }
        // The owner, and the owner from outside.
        program.store(AT, 2).await.unwrap();
        let second = VirtAddr::new(AT + PAGE);
        space.write_bytes(second, &[3]).await.unwrap();
        assert_eq!(program.peek(AT, 3).await.unwrap(), [2, 3, 1]);
        assert_eq!([0, 1, 2].map(|page| first_byte(&loan, page)), [1; 3]);
        assert_eq!(breaks(&uvm), 2);
        let report = uvm.check().unwrap();
        assert_eq!((report.in_transit, report.anon), (2, 3), "{report}");
        let free = uvm.free_frames();
        // One more loan of what is lent; a new one of what is not any more.
        let again = space.loan(range(AT, 3)).await.unwrap();
        assert_eq!([0, 1, 2].map(|page| first_byte(&again, page)), [2, 3, 1]);
        drop(loan);
        assert_eq!(uvm.free_frames(), free + 2, "freed by the last loan");
        program.store(AT + 2 * PAGE, 4).await.unwrap();
        assert_eq!(first_byte(&again, 2), 1);
        drop(again);
        assert_eq!(uvm.free_frames(), free + 2);
        // What has been given back is written in place.
        program.touch(AT, 3, 5).await.unwrap();
        assert_eq!(breaks(&uvm), 3);
        assert_eq!(uvm.meter().gauge(Gauge::Anonpages), 3);
    });
    world.check_quiet();
}

#[test]
fn a_kernel_loan_of_an_objects_page_outlives_writes_of_all_who_share_it() {
    let world = World::new(256, 0);
    let object = UvmObject::anonymous(&world.uvm, Pages(2)).unwrap();
    let spaces: [_; 2] = core::array::from_fn(|_| world.space());
    let [a, b] = spaces.each_ref().map(|space| {
        map_shared(space, &object, 2);
        world.program(space)
    });
    let uvm = world.uvm.clone();
    world.run(async move {
        a.touch(SHARED, 2, 1).await.unwrap();
        b.touch(SHARED, 2, 2).await.unwrap();
        let loan = a.space().loan(range(SHARED, 2)).await.unwrap();
        let old = loan.frames().next().unwrap();
        // Not the one who lent it.
        b.store(SHARED, 3).await.unwrap();
        assert_eq!(a.load(SHARED).await, Ok(3));
        a.store(SHARED + 1, 4).await.unwrap();
        assert_eq!(b.load(SHARED + 1).await, Ok(4));
        assert_eq!([0, 1].map(|page| first_byte(&loan, page)), [2, 2]);
        assert_eq!(breaks(&uvm), 1);
        assert_eq!(object.resident(), 2);
        assert_eq!(uvm.page(old).owner_kind(), OwnerKind::None);
        uvm.check().unwrap();
        end(&a).await;
        end(&b).await;
        drop(object);
        assert_eq!(
            [0, 1].map(|page| first_byte(&loan, page)),
            [2, 2],
            "nobody has it any more"
        );
        let free = uvm.free_frames();
        drop(loan);
        assert_eq!(uvm.free_frames(), free + 2);
    });
    drop(spaces);
    world.check_quiet();
}

#[test]
fn a_loan_of_a_file_awaits_the_read_and_a_private_write_leaves_it_alone() {
    let world = World::new(256, 0);
    let (disk, file, object) = file(&world, Mode::Told, 4);
    let space = world.space();
    map_file(&space, object.object(), 4);
    let lender = space.clone();
    let loan = world.executor.spawn(Class::User, "lender", async move {
        lender.loan(range(FILE, 2)).await
    });
    world.driver.run_until_stalled();
    assert_eq!(disk.pending(), 1);
    disk.complete(1);
    let loan = world.run(loan).unwrap();
    let (program, uvm) = (world.program(&space), world.uvm.clone());
    world.run(async move {
        program.store(FILE, 200).await.unwrap();
        assert_eq!(program.load(FILE).await, Ok(200));
        assert_eq!(first_byte(&loan, 0), file.byte(0));
        assert_eq!(breaks(&uvm), 0, "promoted, which is a copy already");
        assert_eq!(
            object.object().evict_unused(&uvm, PageIndex(0), 4),
            2,
            "the other two are not lent"
        );
        drop(loan);
    });
    world.check_quiet();
}

#[test]
fn the_pagedaemon_does_not_take_what_is_lent() {
    let config = HostConfig {
        frames: 256,
        torture_evict: true,
        ..HostConfig::default()
    };
    let world = World::with(&config, 1);
    let after = Mode::After(Duration::from_micros(50));
    let (_disk, file, object) = file(&world, after, 400);
    let (space, other) = (world.space(), world.space());
    map_file(&space, object.object(), 400);
    map_private(&other, THERE, 4);
    let (program, borrower, uvm) = (
        world.program(&space),
        world.program(&other),
        world.uvm.clone(),
    );
    world.run(async move {
        let loan = space.loan(range(FILE + 2 * PAGE, 2)).await.unwrap();
        space
            .loan_to(range(FILE + 10 * PAGE, 4), &other, VirtAddr::new(THERE))
            .await
            .unwrap();
        for page in 0..400 {
            let byte = program.load(FILE + page * PAGE + 7).await;
            assert_eq!(byte, Ok(file.byte(page * PAGE + 7)));
        }
        assert!(uvm.meter().get(Counter::Pdfreed) > 300);
        for (i, frame) in loan.frames().enumerate() {
            assert!(object.object().is_resident(PageIndex(2 + i as u64)));
            assert_eq!(uvm.page(frame).index(), PageIndex(2 + i as u64));
            assert_eq!(first_byte(&loan, i), file.byte((2 + i as u64) * PAGE));
        }
        for page in 0..4 {
            assert!(object.object().is_resident(PageIndex(10 + page)));
            let byte = borrower.load(THERE + page * PAGE).await;
            assert_eq!(byte, Ok(file.byte((10 + page) * PAGE)));
        }
        uvm.check().unwrap();
    });
}

#[test]
fn a_wired_page_is_copied_and_stays_writable() {
    let world = World::new(256, 0);
    let space = world.space();
    let object = UvmObject::anonymous(&world.uvm, Pages(1)).unwrap();
    map_private(&space, AT, 1);
    map_private(&space, THERE, 2);
    map_shared(&space, &object, 1);
    let (program, uvm) = (world.program(&space), world.uvm.clone());
    world.run(async move {
        let mut frames = [AT, SHARED].map(|va| (va, Frame::new(0)));
        for (va, frame) in &mut frames {
            program.store(*va, 1).await.unwrap();
            *frame = mapped(&program, *va).frame;
            uvm.with_owner_locked(*frame, || uvm.wire_page(*frame))
                .unwrap()
                .unwrap();
        }
        for (i, (va, frame)) in frames.into_iter().enumerate() {
            let loan = program.space().loan(range(va, 1)).await.unwrap();
            assert!(loan.frames().all(|lent| lent != frame));
            let to = THERE + i as u64 * PAGE;
            let lender = program.space();
            lender
                .loan_to(range(va, 1), lender, VirtAddr::new(to))
                .await
                .unwrap();
            assert_eq!(mapped(&program, va).prot, Prot::RW);
            assert_eq!(program.load(to).await, Ok(1));
            program.store(va, 2).await.unwrap();
            assert_eq!(mapped(&program, va).frame, frame);
            assert_eq!((first_byte(&loan, 0), program.load(to).await), (1, Ok(1)));
            assert!(!uvm.page(frame).is_lent());
            uvm.check().unwrap();
        }
        assert_eq!(breaks(&uvm), 0);
        for (_, frame) in frames {
            uvm.with_owner_locked(frame, || uvm.unwire_page(frame))
                .unwrap();
        }
    });
    world.check_quiet();
}

#[test]
fn wiring_a_lent_page_of_a_file_does_not_make_it_dirty() {
    let world = World::new(256, 0);
    let space = world.space();
    let (_, _, object) = file(&world, Mode::AtOnce, 1);
    let request = MapRequest::object(object.object().clone(), PageIndex(0), PAGE_SIZE, Prot::READ);
    space.map(at(request.shared(), FILE)).unwrap();
    let uvm = world.uvm.clone();
    world.run(async move {
        let loan = space.loan(range(FILE, 1)).await.unwrap();
        space.mlock(range(FILE, 1)).await.unwrap();
        assert_eq!(breaks(&uvm), 1);
        // There is nowhere to write it to.
        let written = space.sync(range(FILE, 1), crate::map::Sync::WRITE).await;
        assert_eq!(written, Ok(()));
        drop(loan);
        space.teardown().await;
    });
}
