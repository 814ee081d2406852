//! When the check may run at all; what it finds is seen by every other test, which ends with it.

use alloc::vec::Vec;

use crate::addr::PageIndex;
use crate::map::Advice;
use crate::object::UvmObject;
use crate::page::freelist::{AllocFor, Zero};
use crate::sim::World;
use crate::sim::disk::{Layout, Mode, SimDisk, SimFile};
use crate::testing::Host;

#[test]
fn it_declines_when_memory_is_gone() {
    let host = Host::new(256);
    assert!(host.uvm.has_memory_for_check());
    let frames: Vec<_> =
        core::iter::from_fn(|| host.uvm.alloc_frame(AllocFor::User, Zero::No)).collect();
    assert!(!host.uvm.has_memory_for_check());
    frames.iter().for_each(|&frame| host.uvm.free_frame(frame));
    assert!(host.uvm.has_memory_for_check());
    host.uvm.check().expect("nothing contradicts itself");
}

#[test]
fn who_wants_a_check_waits_while_files_give_way() {
    const PAGES: u64 = 1000;
    let world = World::new(512, 0);
    let disk = SimDisk::new(&world.uvm, 64 << 20, Mode::AtOnce);
    let layout = SimFile::new(&disk, Layout::Contiguous(0));
    let file = world.file(layout, PAGES * 4096).object().clone();
    let uvm = world.uvm.clone();
    world.run(async move {
        for page in 0..PAGES {
            let advice = Advice::Random;
            drop(
                UvmObject::page_in(&file, &uvm, PageIndex(page), advice)
                    .await
                    .unwrap(),
            );
        }
        assert!(!uvm.has_memory_for_check(), "memory is full of files");
        uvm.wait_for_memory_for_check().await.unwrap();
        assert!(uvm.has_memory_for_check());
    });
    world.driver.run_until_stalled();
    world.check_quiet();
    // Where there is nothing that could give way, it does not wait, and nobody is killed for it.
    let uvm = world.uvm.clone();
    world.run(async move {
        let take = || uvm.alloc_frame(AllocFor::User, Zero::No);
        let frames: Vec<_> = core::iter::from_fn(take).collect();
        let waited = uvm.wait_for_memory_for_check().await;
        frames.iter().for_each(|&frame| uvm.free_frame(frame));
        assert!(waited.is_err());
    });
}
