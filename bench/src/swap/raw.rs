//! The device itself: clusters written in order, pages read at random.
//!
//! Owns the slots that it writes to and reads from, and the frames that it does this with.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::AtomicBool;

use uvm::io::Op;
use uvm::swap::raw::Scratch;
use uvm::{AllocFor, Frame, Uvm, Zero};

use super::load::{Load, Reading};
use super::{Env, Kind, Trouble, paging::scatter};
use crate::samples::Samples;

/// Clusters that are written again and again: more than are under way at once.
const CLUSTERS: usize = 64;
/// Writes and reads at once.
const WRITERS: usize = 16;
const READERS: usize = 64;
/// How many of either, and of how many of those not yet any is measured.
const WRITES: usize = 2048;
const READS: usize = 8192;
const WARM_UP: usize = 256;

/// Slots of the device.
type Slots = Arc<Vec<Scratch>>;

/// Frames for a transfer, freed in the end.
struct Frames {
    uvm: Arc<Uvm>,
    frames: Vec<Frame>,
}

impl Frames {
    fn new(uvm: &Arc<Uvm>, count: usize) -> Result<Self, Trouble> {
        let mut frames = Vec::new();
        frames
            .try_reserve_exact(count)
            .map_err(|_| Trouble::NoRoom)?;
        let mut all = Self {
            uvm: uvm.clone(),
            frames,
        };
        for _ in 0..count {
            let frame = uvm.alloc_frame(AllocFor::User, Zero::No);
            all.frames.push(frame.ok_or(Trouble::NoRoom)?);
        }
        Ok(all)
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        for &frame in &self.frames {
            self.uvm.free_frame(frame);
        }
    }
}

/// Both loads, one after the other.
///
/// # Errors
/// [`Trouble`].
pub(super) async fn run(
    env: &Env,
    stop: &Arc<AtomicBool>,
) -> Result<((Samples, Reading), (Samples, Reading)), Trouble> {
    let mut slots = Vec::new();
    slots
        .try_reserve_exact(CLUSTERS)
        .map_err(|_| Trouble::NoRoom)?;
    while slots.len() < CLUSTERS {
        let cluster = env.uvm.take_scratch();
        slots.push(cluster.ok_or(Trouble::NoRoom)?);
    }
    let slots = Arc::new(slots);
    let writes = Load::new(env, stop, WARM_UP, WRITES).await?;
    let writes = writes
        .run(Kind::RawWrite.name(), WRITERS, |load| {
            write(load, slots.clone())
        })
        .await?;
    let reads = Load::new(env, stop, WARM_UP, READS).await?;
    let reads = reads
        .run(Kind::RawRead.name(), READERS, |load| {
            read(load, slots.clone())
        })
        .await?;
    Ok((writes, reads))
}

async fn write(load: Arc<Load>, slots: Slots) -> Result<(), Trouble> {
    let memory = Frames::new(&load.env.uvm, Scratch::PAGES)?;
    while let Some(n) = load.begin().await? {
        let start = load.env.executor.now();
        let cluster = &slots[n % CLUSTERS];
        cluster.transfer(Op::Write, 0, &memory.frames).await?;
        load.end(start);
    }
    Ok(())
}

async fn read(load: Arc<Load>, slots: Slots) -> Result<(), Trouble> {
    let memory = Frames::new(&load.env.uvm, 1)?;
    while let Some(n) = load.begin().await? {
        let start = load.env.executor.now();
        let page = scatter(n as u64, CLUSTERS * Scratch::PAGES);
        let cluster = &slots[page / Scratch::PAGES];
        cluster
            .transfer(Op::Read, page % Scratch::PAGES, &memory.frames)
            .await?;
        load.end(start);
    }
    Ok(())
}
