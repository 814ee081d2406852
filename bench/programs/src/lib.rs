//! What the measuring programs are made of: raw system calls, time stamps, samples, and the cases.
//!
//! The same files run on auvm and on Linux. They use no C library, so that nothing but the kernels can differ between the two, and
//! so that a "small process" is small. Built for measuring (`panic = "abort"`, no start files) a program begins at
//! [`program!`]'s `_start`; built in any other way it has an empty `main`, for a host's compiler to check.
//!
//! The host side of the comparison links this library too, for the names of the cases.

#![cfg_attr(not(test), no_std)]

pub mod bench;
pub mod boot;
pub mod cases;
pub mod child;
pub mod gate;
pub mod machine;
pub mod orders;
pub mod record;
#[cfg(panic = "abort")]
pub mod runtime;
pub mod start;
pub mod statistics;
pub mod sys;
pub mod thread;

/// Bytes of a page.
pub const PAGE: usize = 4096;

/// Where the programs and the file that they read are, on both kernels.
pub const DIRECTORY: &str = "/bench";

/// The program that measures.
pub const CASE: &str = "/bench/case";

/// The program that says when it began.
pub const FIRST: &str = "/bench/first";

/// A program that ends at once, as small as can be.
pub const ENDS: &str = "/bench/ends";

/// A file of [`FILE_PAGES`] pages.
pub const FILE: &str = "/bench/file";

/// Pages of the file.
pub const FILE_PAGES: usize = 1024;
