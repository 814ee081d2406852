//! Commands about files: `ls`, `cat`. For everything else there is busybox.

use super::{Command, FAILED, Status, run, usage};
use crate::fs::FsError;
use crate::fs::file::OpenFlags;
use crate::fs::io::VecSink;
use crate::fs::namei::Follow;
use crate::fs::vnode::{Attributes, Kind};
use crate::shell::Context;
use alloc::{format, string::String, vec, vec::Vec};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "ls",
        usage: "[-l] [PATH]...",
        summary: "list files",
        details: "-l adds inode, type, size in bytes and number of links. Names that begin with a dot are left out.",
        run: run!(ls),
    },
    Command {
        name: "cat",
        usage: "PATH...",
        summary: "print files",
        details: "",
        run: run!(cat),
    },
];

/// Bytes printed at a time.
const CHUNK: usize = 2048;

async fn ls(shell: Context, args: Vec<String>) -> Status {
    let (options, mut paths): (Vec<String>, Vec<String>) =
        args.into_iter().partition(|arg| arg.starts_with('-'));
    if let Some(unknown) = options.iter().find(|option| *option != "-l") {
        return usage(&shell, "ls", format_args!("there is no option {unknown}"));
    }
    if paths.is_empty() {
        paths = vec![String::from("/")];
    }
    let mut status = 0;
    for path in &paths {
        if paths.len() > 1 {
            shell.say(format_args!("{path}:"));
        }
        if let Err(error) = list(&shell, path, !options.is_empty()).await {
            shell.say(format_args!("ls: {path}: {error}"));
            status = FAILED;
        }
    }
    status
}

async fn list(shell: &Context, path: &str, long: bool) -> Result<(), FsError> {
    let system = shell.system();
    let root = system.vfs.root()?;
    let location = system
        .vfs
        .lookup(&root, path.as_bytes(), Follow::Always)
        .await?;
    if location.vnode().kind() != Kind::Directory {
        show(shell, path, &location.vnode().attributes(), long);
        return Ok(());
    }
    for name in system.list_directory(path.as_bytes()).await?.keys() {
        if name.starts_with('.') {
            continue;
        }
        if long {
            let path = format!("{}/{name}", path.trim_end_matches('/'));
            let found = system
                .vfs
                .lookup(&root, path.as_bytes(), Follow::NotLast)
                .await?;
            show(shell, name, &found.vnode().attributes(), long);
        } else {
            shell.say(format_args!("{name}"));
        }
    }
    Ok(())
}

fn show(shell: &Context, name: &str, attributes: &Attributes, long: bool) {
    if !long {
        return shell.say(format_args!("{name}"));
    }
    let kind = match attributes.kind {
        Kind::Regular => '-',
        Kind::Directory => 'd',
        Kind::Symlink => 'l',
        _ => '?',
    };
    shell.say(format_args!(
        "{:>8} {kind}{:04o} {:>3} {:>12} {name}",
        attributes.ino, attributes.permissions, attributes.links, attributes.size
    ));
}

async fn cat(shell: Context, args: Vec<String>) -> Status {
    if args.is_empty() {
        return usage(&shell, "cat", format_args!("a path is missing"));
    }
    let mut status = 0;
    for path in &args {
        if let Err(error) = print(&shell, path).await {
            shell.say(format_args!("cat: {path}: {error}"));
            status = FAILED;
        }
    }
    status
}

async fn print(shell: &Context, path: &str) -> Result<(), FsError> {
    let system = shell.system();
    let file = system
        .vfs
        .open(&system.vfs.root()?, path.as_bytes(), OpenFlags::empty())
        .await?;
    let mut offset = 0;
    loop {
        let mut sink = VecSink::new(CHUNK);
        let read = file.read_at(&mut sink, offset).await?;
        if read == 0 {
            return Ok(());
        }
        offset += read as u64;
        system.console.print_bytes(&sink.bytes);
    }
}
