//! What each case does around its samples: maps, forks, evicts.
//!
//! Work goes in batches of [`BATCH`] pages, so that a case needs little memory however many samples it takes, and so that one page table
//! serves a batch.

use alloc::sync::Arc;

use uvm::{
    Access, Advice, MapRequest, PAGE_SIZE, PageIndex, Placement, Prot, VaRange, VirtAddr, VmSpace,
    VnodeObject,
};

use super::recorder::Recorder;
use super::{Kind, Trouble};

/// Samples between mapping and unmapping.
const BATCH: usize = 64;
/// A page that stays mapped: because of it the page table for the pages behind it exists.
const KEEPER: VirtAddr = VirtAddr::new(0x1_0000_0000);
/// Where the pages of a batch are.
const AREA: VirtAddr = VirtAddr::new(0x1_0000_0000 + PAGE_SIZE as u64);

fn page(n: usize) -> VirtAddr {
    AREA + (n * PAGE_SIZE) as u64
}

/// Takes the recorder's samples in `space`, which is empty.
pub(super) async fn run(recorder: &mut Recorder<'_>, space: &VmSpace) -> Result<(), Trouble> {
    match recorder.kind {
        Kind::FirstTouchZeroed | Kind::FirstTouchUnzeroed => {
            anonymous(recorder, space, Access::Write).await
        }
        Kind::ReadUnwritten => anonymous(recorder, space, Access::Read).await,
        Kind::CopyOnWrite => copy_on_write(recorder, space).await,
        Kind::FileResident => file_resident(recorder, space).await,
        Kind::FileFromDisk => file_from_disk(recorder, space).await,
    }
}

/// A batch of anonymous pages and one before them, whose fault makes what the others share.
fn anonymous_area() -> MapRequest {
    MapRequest::anonymous((BATCH + 1) * PAGE_SIZE, Prot::RW).at(Placement::Fixed(AREA))
}

async fn anonymous(
    recorder: &mut Recorder<'_>,
    space: &VmSpace,
    access: Access,
) -> Result<(), Trouble> {
    while recorder.wants_more() {
        space.map(anonymous_area())?;
        space.fault(page(0), access).await?;
        sample_rest(recorder, space, access).await?;
        space.unmap(VaRange::of_pages(AREA, BATCH + 1)).await?;
    }
    Ok(())
}

/// Samples the pages of an anonymous area, its first one left out.
async fn sample_rest(
    recorder: &mut Recorder<'_>,
    space: &VmSpace,
    access: Access,
) -> Result<(), Trouble> {
    for n in 1..=BATCH {
        if !recorder.wants_more() {
            break;
        }
        recorder.sample(space, page(n), access).await?;
    }
    Ok(())
}

async fn copy_on_write(recorder: &mut Recorder<'_>, parent: &VmSpace) -> Result<(), Trouble> {
    parent.map(anonymous_area())?;
    for n in 0..=BATCH {
        parent.fault(page(n), Access::Write).await?;
        recorder.give_way().await?;
    }
    while recorder.wants_more() {
        let child = parent.fork().await?;
        let result = copy_batch(recorder, &child).await;
        child.deactivate();
        child.teardown().await;
        result?;
    }
    Ok(())
}

async fn copy_batch(recorder: &mut Recorder<'_>, child: &VmSpace) -> Result<(), Trouble> {
    // Copies the amap, too.
    child.fault(page(0), Access::Write).await?;
    sample_rest(recorder, child, Access::Write).await
}

/// The file, and its length in pages.
fn file(recorder: &Recorder<'_>) -> Result<(Arc<VnodeObject>, u64), Trouble> {
    let file = recorder.env.file.clone().ok_or(Trouble::NoFile)?;
    match file.object().pages() {
        0 => Err(Trouble::EmptyFile),
        pages => Ok((file, pages)),
    }
}

/// Makes the page table that the file's pages will need.
async fn keep_table(space: &VmSpace) -> Result<(), Trouble> {
    let keeper = MapRequest::anonymous(PAGE_SIZE, Prot::RW).at(Placement::Fixed(KEEPER));
    space.map(keeper)?;
    Ok(space.fault(KEEPER, Access::Write).await?)
}

/// `pages` pages of the file, readable. Advice keeps neighbours out of a fault and of a read.
fn file_area(file: &VnodeObject, first: PageIndex, pages: u64) -> MapRequest {
    let len = pages as usize * PAGE_SIZE;
    let mut request = MapRequest::object(file.object().clone(), first, len, Prot::READ)
        .at(Placement::Fixed(AREA));
    request.advice = Advice::Random;
    request
}

async fn file_resident(recorder: &mut Recorder<'_>, space: &VmSpace) -> Result<(), Trouble> {
    let (file, pages) = file(recorder)?;
    let pages = pages.min(BATCH as u64);
    keep_table(space).await?;
    while recorder.wants_more() {
        // Every time: some may have been evicted.
        for n in 0..pages {
            drop(file.page_in(&recorder.env.uvm, PageIndex(n)).await?);
            recorder.give_way().await?;
        }
        space.map(file_area(&file, PageIndex(0), pages))?;
        for n in 0..pages as usize {
            if !recorder.wants_more() {
                break;
            }
            recorder.sample(space, page(n), Access::Read).await?;
        }
        space.unmap(VaRange::of_pages(AREA, pages as usize)).await?;
    }
    Ok(())
}

async fn file_from_disk(recorder: &mut Recorder<'_>, space: &VmSpace) -> Result<(), Trouble> {
    let (file, pages) = file(recorder)?;
    keep_table(space).await?;
    let mut first = PageIndex(0);
    // Attempts left when the file was last begun.
    let mut before = None;
    while recorder.wants_more() {
        if first.0 == 0 && before.replace(recorder.attempts()) == Some(recorder.attempts()) {
            return Err(Trouble::FileInUse);
        }
        let len = (pages - first.0).min(BATCH as u64);
        file.object().evict_unused(&recorder.env.uvm, first, len);
        space.map(file_area(&file, first, len))?;
        for n in 0..len {
            if !recorder.wants_more() {
                break;
            }
            if !file.object().is_resident(first + n) {
                recorder
                    .sample(space, page(n as usize), Access::Read)
                    .await?;
            }
        }
        space.unmap(VaRange::of_pages(AREA, len as usize)).await?;
        recorder.give_way().await?;
        first = first + len;
        if first.0 == pages {
            first = PageIndex(0);
        }
    }
    Ok(())
}
