//! When the check may run at all; what it finds is seen by every other test, which ends with it.

use alloc::vec::Vec;

use crate::page::freelist::{AllocFor, Zero};
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
