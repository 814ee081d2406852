//! Maps: the tree, entries against a flat model, and each operation with its errors.

mod entries;
mod extract;
mod grow;
mod mremap;
mod place;
mod protect;
mod sparse;
mod tree;

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::Uvm;
use crate::addr::{Frame, PAGE_SIZE, VaRange, VirtAddr};
use crate::map::tree::Node;
use crate::map::{MapEntry, MapRequest, Placement, Region, VmSpace};
use crate::page::freelist::{AllocFor, Zero};
use crate::pool::PoolBox;
use crate::prot::Prot;

const PAGE: u64 = PAGE_SIZE as u64;
const AT: u64 = 0x1000_0000;

fn at(page: u64) -> u64 {
    AT + page * PAGE
}

fn va(page: u64) -> VirtAddr {
    VirtAddr::new(at(page))
}

fn range(from: u64, to: u64) -> VaRange {
    VaRange::new(va(from), va(to))
}

/// Private anonymous memory of `pages` pages, exactly at page `page`.
fn anonymous(page: u64, pages: u64) -> MapRequest {
    MapRequest::anonymous((pages * PAGE) as usize, Prot::RW).at(Placement::Exclusive(va(page)))
}

/// Mappings as (first page from [`AT`], pages, protection), whatever entries they are made of.
fn shape(space: &VmSpace) -> Vec<(u64, u64, Prot)> {
    let mut shape: Vec<(u64, u64, Prot)> = Vec::new();
    for Region { range, prot, .. } in space.regions() {
        let first = range.start().as_u64().wrapping_sub(AT) / PAGE;
        let pages = range.pages() as u64;
        match shape.last_mut() {
            Some((from, n, same)) if *from + *n == first && *same == prot => *n += pages,
            _ => shape.push((first, pages, prot)),
        }
    }
    shape
}

/// Number of entries.
fn entries(space: &VmSpace) -> usize {
    space.map.read().tree.len()
}

/// Holds all free frames, and all free map entries but a few.
struct Hog {
    uvm: Arc<Uvm>,
    frames: Vec<Frame>,
    nodes: Vec<PoolBox<Node<MapEntry>>>,
}

impl Hog {
    /// Leaves `left` map entries, one of which is like those in `space`.
    fn new(space: &VmSpace, left: usize) -> Self {
        let uvm = space.uvm().clone();
        let mut frames = Vec::new();
        while let Some(frame) = uvm.alloc_frame(AllocFor::User, Zero::No) {
            frames.push(frame);
        }
        let mut nodes = Vec::new();
        let bare = || Node::new(space.map.read().tree.from(0).expect("an entry").bare());
        while let Ok(node) = uvm.upper.entries.alloc(&uvm, bare()) {
            nodes.push(node);
        }
        assert!(nodes.len() >= left, "{} entries in a slab", nodes.len());
        nodes.truncate(nodes.len() - left);
        Self { uvm, frames, nodes }
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        self.nodes.clear();
        for frame in self.frames.drain(..) {
            self.uvm.free_frame(frame);
        }
    }
}
