//! Memory that does not fit: a mapping that is filled in order, then touched at random.
//!
//! Owns the address space that has it.

use alloc::sync::Arc;
use core::sync::atomic::AtomicBool;

use uvm::glue::{Attached, SpaceRef};
use uvm::{Access, Advice, MapRequest, PAGE_SIZE, Placement, Prot, VirtAddr, VmSpace};

use super::load::{Load, Reading};
use super::{Env, Kind, Trouble};
use crate::fault::MAX_COUNT;
use crate::samples::Samples;

/// Where the mapping is.
const AREA: VirtAddr = VirtAddr::new(0x1_0000_0000);
/// Tasks that touch pages at random.
const TASKS: usize = 64;
/// Faults of theirs that are measured.
const FAULTS: usize = 16_384;

fn page(n: usize) -> VirtAddr {
    AREA + (n * PAGE_SIZE) as u64
}

/// A number below `below` for each `n`, with no order in them (the finalizer of SplitMix64).
pub(super) const fn scatter(n: u64, below: usize) -> usize {
    let mut x = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) % below as u64) as usize
}

/// Pages of the mapping: four times memory, if there is swap space for them.
///
/// # Errors
/// [`Trouble::TooLittleSwap`] if there is not even enough for one and a half times.
pub(super) fn pages(env: &Env) -> Result<usize, Trouble> {
    let memory = env.uvm.pages().managed();
    let devices = env.uvm.swap_devices();
    let free: usize = devices.iter().map(|d| d.pages - d.used).sum();
    let needed = memory + memory / 2;
    if free < needed {
        let per_mib = (1 << 20) / PAGE_SIZE;
        return Err(Trouble::TooLittleSwap {
            free: (free / per_mib) as u64,
            needed: needed.div_ceil(per_mib) as u64,
        });
    }
    Ok(free.min(4 * memory).min(2 * MAX_COUNT))
}

/// Both loads, one after the other, on a mapping of so many pages.
///
/// # Errors
/// [`Trouble`].
pub(super) async fn run(
    env: &Env,
    stop: &Arc<AtomicBool>,
    pages: usize,
) -> Result<((Samples, Reading), (Samples, Reading)), Trouble> {
    let space = VmSpace::new(&env.uvm)?;
    let holder = Arc::new(SpaceRef::new(space.clone()));
    let result = both(env, stop, &space, &holder, pages).await;
    holder.leave().await;
    result
}

async fn both(
    env: &Env,
    stop: &Arc<AtomicBool>,
    space: &Arc<VmSpace>,
    holder: &Arc<SpaceRef>,
    pages: usize,
) -> Result<((Samples, Reading), (Samples, Reading)), Trouble> {
    let mut request = MapRequest::anonymous(pages * PAGE_SIZE, Prot::RW).at(Placement::Fixed(AREA));
    // As the device itself is read: one page at a time.
    request.advice = Advice::Random;
    space.map(request)?;
    // The first half fills memory; while the second is written, as much goes to swap as is written.
    let fill_it = Load::new(env, stop, pages / 2, pages - pages / 2).await?;
    let out = fill_it
        .run(Kind::SwapOut.name(), 1, |load| {
            Attached::new(holder.clone(), fill(load, space.clone()))
        })
        .await?;
    // Until all that is dirty has been written, pages go both ways.
    let touch_it = Load::new(env, stop, env.uvm.pages().managed(), FAULTS).await?;
    let back = touch_it
        .run(Kind::SwapIn.name(), TASKS, |load| {
            Attached::new(holder.clone(), touch(load, space.clone(), pages))
        })
        .await?;
    Ok((out, back))
}

/// Writes to each page once, in order.
async fn fill(load: Arc<Load>, space: Arc<VmSpace>) -> Result<(), Trouble> {
    while let Some(n) = load.begin().await? {
        let start = load.env.executor.now();
        space.fault(page(n), Access::Write).await?;
        load.end(start);
        space.made_progress();
    }
    Ok(())
}

/// Reads pages at random: those that have a translation are no fault and are left out.
async fn touch(load: Arc<Load>, space: Arc<VmSpace>, pages: usize) -> Result<(), Trouble> {
    let (uvm, executor) = (&load.env.uvm, &load.env.executor);
    while let Some(n) = load.begin().await? {
        let va = page(scatter(n as u64, pages));
        let start = executor.now();
        if space.pmap().extract(uvm, va).is_none() {
            space.fault(va, Access::Read).await?;
            load.end(start);
        }
        space.made_progress();
    }
    Ok(())
}
