//! Files: vnodes and the file systems that make them, pipes, the terminal, and open files.
//!
//! | module | holds |
//! |---|---|
//! | [`vnode`] | what a file is to the rest of the kernel |
//! | [`mount`], [`namei`], [`open`] | mounted file systems; from path to vnode; to open file |
//! | [`file`](mod@file), [`fd`] | open files and their offsets; descriptor tables |
//! | [`ubc`] | regular files read through their pages |
//! | [`io`] | how bytes reach user memory and come from it |
//! | [`ext2`] | the disk file system |
//! | [`bcache`] | its metadata blocks in memory |
//! | [`vcache`] | one vnode per inode |
//! | [`devfs`], [`tty`] | `/dev`; the terminal's line discipline |
//! | [`pipe`] | pipes |
//!
//! Synchronisation: every structure has its own spin lock, none is held across an await, and none of the
//! locks here is taken while another one is held, except that pages and heap blocks may be allocated under
//! any of them. File data is not here at all: it lives in the pages of the vnodes' objects, under UVM's
//! rules.

pub mod bcache;
mod clock;
pub mod devfs;
mod error;
pub mod ext2;
pub mod fd;
pub mod file;
pub mod io;
pub mod mount;
pub mod namei;
pub mod open;
pub mod pipe;
#[cfg(test)]
pub(crate) mod testing;
pub mod tty;
pub mod ubc;
pub mod vcache;
pub mod vnode;

pub use error::FsError;
