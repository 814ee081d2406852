//! The other side, for tests: a device that works on the same memory as the driver under test.
//!
//! Written from the specification and not from the driver, so that a misunderstanding on one side meets its
//! contradiction on the other.

mod blk;
mod ring;

pub(crate) use blk::ModelBlk;
pub(crate) use ring::{Chain, DeviceRing};
