//! A program whose output a command listens to, instead of the console.
//!
//! Who drops the run kills the program and all that it has started: they are one process group.

use super::processes;
use crate::fs::FsError;
use crate::fs::file::{OpenFile, OpenFlags};
use crate::fs::io::Uninterruptible;
use crate::proc::signal::{SigInfo, Signal};
use crate::proc::{ExitStatus, Pid, Processes};
use crate::shell::Context;
use alloc::{format, string::String, vec::Vec};

/// Runs a program until it has ended and closed its output, which `hear` gets piece by piece.
///
/// # Errors
/// Why it did not start, or cannot be heard.
pub async fn run(
    shell: &Context,
    words: Vec<String>,
    mut hear: impl FnMut(&[u8]) + Send,
) -> Result<ExitStatus, String> {
    let uvm = &shell.system().uvm;
    let ends = |room| OpenFile::pipe(OpenFlags::empty(), &room);
    let (reader, writer) = uvm
        .heap_room()
        .map(ends)
        .map_err(|_| String::from("no memory for a pipe"))?;
    let child = processes::start(shell, words, Some(writer), None)
        .await
        .map_err(|error| format!("{error}"))?;
    let group = Group {
        processes: &shell.system().processes,
        leader: child.pid(),
    };
    let read: Result<(), FsError> = async {
        let mut buffer = [0; 256];
        loop {
            let n = reader.read(&Uninterruptible, &mut &mut buffer[..]).await?;
            if n == 0 {
                return Ok(());
            }
            hear(&buffer[..n]);
        }
    }
    .await;
    read.map_err(|_| String::from("its output cannot be read"))?;
    let status = child.wait().await;
    core::mem::forget(group);
    Ok(status)
}

/// A process group that is killed when this is dropped.
struct Group<'a> {
    processes: &'a Processes,
    leader: Pid,
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        let kill = SigInfo::from_kernel(Signal::KILL);
        self.processes.kill_group(self.leader, kill);
    }
}
