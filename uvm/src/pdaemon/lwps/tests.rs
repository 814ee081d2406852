//! When the pagedaemon asks for LWPs.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::Mutex;

use super::*;
use crate::km::HeapRoom;
use crate::meter::Counter;
use crate::page::freelist::Zero;
use crate::sim::World;
use crate::sim::disk::{Mode, SimDisk};
use crate::testing::HostConfig;

/// Sends out what is there, and notes what it was asked.
#[derive(Default)]
struct Sender {
    here: Mutex<Vec<Arc<Residence>>>,
    asked: Mutex<Vec<Need>>,
    gone: Mutex<Vec<u64>>,
    /// Frames that one question after the other brings nearer to being free.
    tables: Mutex<Vec<crate::Frame>>,
    questions: AtomicUsize,
}

/// How often it is asked before they are free.
const SOON: usize = 10;

impl LwpSwapper for Sender {
    fn put_out_some(&self, need: Need) -> Looked {
        self.asked.lock().unwrap().push(need);
        let here = self.here.lock().unwrap();
        let sent = here.iter().filter(|here| here.send_out().is_ok()).count();
        Looked { sent, rest: false }
    }

    fn is_freeing(&self) -> bool {
        !self.tables.lock().unwrap().is_empty() && {
            self.questions.fetch_add(1, Relaxed);
            true
        }
    }

    fn has_gone(&self, residence: &Residence) {
        self.gone.lock().unwrap().push(residence.tag());
    }
}

fn world(swap: u32) -> (World, Arc<Sender>) {
    let config = HostConfig {
        frames: 512,
        kva_pages: 100,
        ..HostConfig::default()
    };
    let world = World::with(&config, 1);
    if swap > 0 {
        let disk = SimDisk::swap(&world.uvm, swap, Mode::AtOnce);
        world.swapon(&disk, "swap", 0);
    }
    let sender = Arc::new(Sender::default());
    for tag in 0..3 {
        let (uarea, _) = world.uvm.uarea_alloc().unwrap();
        let residence = Residence::new(&world.uvm, uarea, tag, &HeapRoom::at_boot()).unwrap();
        residence.rest();
        sender.here.lock().unwrap().push(residence);
    }
    world.uvm.set_lwp_swapper(sender.clone());
    (world, sender)
}

/// Takes all memory but `leaves` frames, and lets the pagedaemon look.
fn hog(world: &World, leaves: usize) -> Vec<crate::Frame> {
    let mut hog = Vec::new();
    while world.uvm.spare_frames(AllocFor::User) > leaves {
        hog.extend(world.uvm.alloc_frame(AllocFor::User, Zero::No));
    }
    world.uvm.wake_pagedaemon();
    world.driver.run_until_stalled();
    hog
}

fn asked(sender: &Sender) -> Vec<Need> {
    core::mem::take(&mut *sender.asked.lock().unwrap())
}

/// UVM.md, row 27.
#[test]
fn row_27_short_memory_puts_lwps_out() {
    let (world, sender) = world(100);
    world.uvm.wake_pagedaemon();
    world.driver.run_until_stalled();
    assert!(asked(&sender).is_empty(), "memory is not short");
    let targ = world.uvm.meter().gauge(Gauge::Freetarg) as usize;
    let hog = hog(&world, targ / 4);
    let asked = asked(&sender);
    assert_eq!(asked.first(), Some(&Need::Sleepers));
    assert_eq!(world.uvm.meter().gauge(Gauge::UareasOut), 3);
    let mut gone = sender.gone.lock().unwrap().clone();
    gone.sort_unstable();
    assert_eq!(gone, [0, 1, 2]);
    hog.into_iter()
        .for_each(|frame| world.uvm.free_frame(frame));
    world.check_quiet();
}

#[test]
fn nearly_no_memory_needs_anybody() {
    let (world, sender) = world(100);
    let hog = hog(&world, 0);
    assert_eq!(asked(&sender).first(), Some(&Need::Anybody));
    hog.into_iter()
        .for_each(|frame| world.uvm.free_frame(frame));
}

/// Who waits is not told that there is no hope while page tables are still being put away.
#[test]
fn what_lwps_that_are_out_still_give_is_waited_for() {
    let (world, sender) = world(100);
    let mut hog = hog(&world, 0);
    // The u-areas are out. Nothing else can be had.
    while let Some(frame) = world.uvm.alloc_frame(AllocFor::User, Zero::No) {
        hog.push(frame);
    }
    sender.tables.lock().unwrap().extend(hog.pop());
    let (uvm, tables) = (world.uvm.clone(), sender.clone());
    let put_away = async move {
        while tables.questions.load(Relaxed) < SOON {
            uvm.executor()
                .sleep(core::time::Duration::from_micros(100))
                .await;
        }
        let frames = core::mem::take(&mut *tables.tables.lock().unwrap());
        frames.into_iter().for_each(|frame| uvm.free_frame(frame));
    };
    world
        .executor
        .spawn(executor::Class::Daemon, "page tables out", put_away);
    let uvm = world.uvm.clone();
    world.run(async move {
        assert_eq!(uvm.wait_for_memory(1).await, Ok(()));
        // Now there is really nothing more.
        assert!(uvm.wait_for_memory(2).await.is_err());
    });
    hog.into_iter()
        .for_each(|frame| world.uvm.free_frame(frame));
}

#[test]
fn without_swap_or_when_told_so_all_stay() {
    for swap in [0, 100] {
        let (world, sender) = world(swap);
        if swap > 0 {
            world.uvm.set_setting(Setting::Swapout, 0).unwrap();
        }
        let hog = hog(&world, 0);
        assert!(asked(&sender).is_empty());
        assert!(world.uvm.meter().get(Counter::Pdrevs) > 0);
        hog.into_iter()
            .for_each(|frame| world.uvm.free_frame(frame));
    }
}
