//! The running system as one value: what the shell reaches everything through.
//!
//! It owns nothing that is not also owned elsewhere; `main.rs` builds it as the last step of the boot. Nothing here synchronises: the
//! parts do.

use crate::console::Console;
use crate::disk::NamedDisk;
use crate::fs::FsError;
use crate::fs::mount::Vfs;
use crate::fs::namei::Follow;
use crate::fs::vnode::Kind;
use crate::proc::Processes;
use alloc::{collections::BTreeMap, string::String, sync::Arc, vec::Vec};
use core::fmt;
use core::ops::ControlFlow;
use executor::Executor;
use uvm::Uvm;

/// `uname -s`.
pub const OS_NAME: &str = "auvm";
/// `uname -r`. Static C libraries compare it with the oldest Linux that they support, so it begins with the Linux whose ABI this is.
pub const OS_RELEASE: &str = "6.1.0-auvm";

/// Everything that runs.
pub struct System {
    /// Memory.
    pub uvm: Arc<Uvm>,
    /// Tasks.
    pub executor: Arc<Executor>,
    /// Programs.
    pub processes: Arc<Processes>,
    /// Files.
    pub vfs: Arc<Vfs>,
    /// The console.
    pub console: Arc<Console>,
    /// Disks that the machine was started with for swap.
    pub swap_disks: Vec<NamedDisk>,
    /// The words that the launcher gave the kernel.
    pub command_line: String,
    /// Ends the machine.
    pub exit: fn(Exit) -> !,
}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("System").finish_non_exhaustive()
    }
}

/// How the machine ends, as the launcher hears it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Power off; all is well.
    Success,
    /// Power off; the last command failed.
    Failure,
    /// Reset.
    Reboot,
}

/// The names of a directory with their types, where the directory says them. Bytes that are not UTF-8 are replaced. A tree, because
/// its nodes stay small however large the directory is.
pub type Listing = BTreeMap<String, Option<Kind>>;

impl System {
    /// Ends the machine at once.
    pub fn exit(&self, how: Exit) -> ! {
        (self.exit)(how)
    }

    /// The names in the directory at `path` (absolute), `.` and `..` included. Awaits the directory.
    ///
    /// # Errors
    /// Those of a lookup, and what reading a directory can meet.
    pub async fn list_directory(&self, path: &[u8]) -> Result<Listing, FsError> {
        let location = self
            .vfs
            .lookup(&self.vfs.root()?, path, Follow::Always)
            .await?;
        let mut listing = Listing::new();
        let mut from = 0;
        loop {
            let mut any = false;
            from = location
                .vnode()
                .read_dir(from, &mut |entry| {
                    any = true;
                    listing.insert(String::from_utf8_lossy(entry.name).into_owned(), entry.kind);
                    ControlFlow::Continue(())
                })
                .await?;
            if !any {
                return Ok(listing);
            }
        }
    }
}
