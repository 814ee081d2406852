//! The whole stack on the host: images made by mke2fs, compared byte by byte with the files they were made
//! from, and images with damage.

mod damage;

use super::*;
use crate::fs::file::{OpenFile, OpenFlags};
use crate::fs::io::{Uninterruptible, VecSink};
use crate::fs::mount::{Location, Vfs};
use crate::fs::namei::Follow;
use crate::fs::testing::{MemoryDisk, make_image, small_machine};
use crate::fs::vnode::{DirEntry, Kind, Vnode};
use core::ops::ControlFlow;
use std::boxed::Box;
use std::collections::BTreeMap;
use std::format;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::vec::Vec;

const CX: Uninterruptible = Uninterruptible;

fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| (i ^ (i >> 8) ^ (i >> 16)).wrapping_add(seed) as u8)
        .collect()
}

/// Files of every shape that the format has.
fn make_tree(root: &Path) {
    let file = |name: &str, bytes: &[u8]| fs::write(root.join(name), bytes).unwrap();
    fs::create_dir_all(root.join("a/b/c")).unwrap();
    file("empty", b"");
    file("one", b"x");
    for (i, len) in [1023, 1024, 1025, 4095, 4096, 4097, 12 * 1024, 12 * 1024 + 1]
        .into_iter()
        .enumerate()
    {
        file(&format!("a/f{len}"), &pattern(i, len));
    }
    // Single and double indirect blocks, at each block size at least one of them.
    file("a/b/indirect", &pattern(3, 300_000));
    file("a/b/double", &pattern(4, 5_000_000));
    file("run.sh", b"#!/bin/sh\n");
    fs::set_permissions(root.join("run.sh"), PermissionsExt::from_mode(0o4751)).unwrap();
    fs::hard_link(root.join("one"), root.join("a/hard")).unwrap();
    // Holes before, between and behind data, out to the triple indirect blocks of 1 KiB blocks.
    let mut sparse = fs::File::create(root.join("sparse")).unwrap();
    for (at, len) in [
        (5_000, 10),
        (300_000, 5_000),
        (66_000_000, 3_000),
        (70_000_001, 7),
    ] {
        sparse.seek(SeekFrom::Start(at)).unwrap();
        sparse.write_all(&pattern(at as usize, len)).unwrap();
    }
    sparse.set_len(80_000_123).unwrap();
    fs::File::create(root.join("hole"))
        .unwrap()
        .set_len(10_000_000)
        .unwrap();
    // Symbolic links in the inode and in a block, and the limits between.
    for len in [1, 59, 60, 61, 500, 1000] {
        symlink("t".repeat(len), root.join(format!("link{len}"))).unwrap();
    }
    symlink("a/../a/b", root.join("to-b")).unwrap();
    symlink("/to-b/c/../indirect", root.join("a/b/c/absolute")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    // A directory of many blocks, with names of many lengths.
    fs::create_dir(root.join("many")).unwrap();
    for i in 0..1000usize {
        let name = format!("many/{i}-{}", "n".repeat(i % 200));
        file(&name, format!("{i}").as_bytes());
    }
    file(&"y".repeat(255), b"long");
}

struct Mounted {
    vfs: Vfs,
    root: Location,
    fs: Arc<Ext2>,
}

async fn mount(uvm: &Arc<Uvm>, disk: Arc<MemoryDisk>) -> Result<Mounted, MountError> {
    let fs = Ext2::mount(uvm, disk, 0x801).await?;
    let vfs = Vfs::new();
    vfs.mount_root(fs.clone())?;
    let root = vfs.root()?;
    Ok(Mounted { vfs, root, fs })
}

async fn read_all(file: &OpenFile, chunk: usize) -> Result<Vec<u8>, FsError> {
    let mut all = Vec::new();
    loop {
        let mut sink = VecSink::new(chunk);
        match file.read(&CX, &mut sink).await? {
            0 => return Ok(all),
            _ => all.append(&mut sink.bytes),
        }
    }
}

async fn names(
    file: &OpenFile,
    at_once: usize,
) -> Result<BTreeMap<Vec<u8>, DirEntryFacts>, FsError> {
    let mut names = BTreeMap::new();
    loop {
        let mut taken = 0;
        let mut emit = |entry: DirEntry<'_>| {
            if taken == at_once {
                return ControlFlow::Break(());
            }
            taken += 1;
            let facts = DirEntryFacts {
                ino: entry.ino,
                kind: entry.kind,
            };
            let twice = names.insert(entry.name.to_vec(), facts);
            assert!(twice.is_none(), "a name came twice");
            ControlFlow::Continue(())
        };
        file.read_dir(&mut emit).await?;
        if taken == 0 {
            return Ok(names);
        }
    }
}

#[derive(Debug, PartialEq)]
struct DirEntryFacts {
    ino: u64,
    kind: Option<Kind>,
}

/// Compares what stands at `path` of the image with the host's file it was made from, and all below it.
async fn compare(mounted: &Mounted, host: &Path, path: &Path) {
    let vfs = &mounted.vfs;
    let bytes = path.as_os_str().as_bytes();
    let expected = fs::symlink_metadata(host).unwrap();
    let found = vfs.lookup(&mounted.root, bytes, Follow::NotLast).await;
    let found = found.unwrap_or_else(|e| panic!("{path:?}: {e}"));
    let is = found.vnode().attributes();
    // The root is mke2fs's own.
    if path != Path::new("/") {
        assert_eq!(u32::from(is.mode()), expected.mode(), "mode of {path:?}");
        assert_eq!(
            (is.uid, is.gid),
            (expected.uid(), expected.gid()),
            "{path:?}"
        );
        assert_eq!(is.modified.seconds, expected.mtime(), "time of {path:?}");
    }
    // Not every host counts the links of directories.
    if is.kind != Kind::Directory {
        assert_eq!(u64::from(is.links), expected.nlink(), "links of {path:?}");
    }
    match is.kind {
        Kind::Regular => {
            assert_eq!(is.size, expected.len(), "size of {path:?}");
            let file = vfs
                .open(&mounted.root, bytes, OpenFlags::empty())
                .await
                .unwrap();
            let chunk = if is.size > 1_000_000 { 1 << 20 } else { 777 };
            let content = read_all(&file, chunk).await.unwrap();
            assert!(content == fs::read(host).unwrap(), "content of {path:?}");
        }
        Kind::Symlink => {
            let target = found.vnode().read_link().await.unwrap();
            let expected = fs::read_link(host).unwrap();
            assert_eq!(target, expected.as_os_str().as_bytes(), "{path:?}");
        }
        Kind::Directory => {
            let open = vfs
                .open(&mounted.root, bytes, OpenFlags::DIRECTORY)
                .await
                .unwrap();
            let mut found = names(&open, 7).await.unwrap();
            assert_eq!(found.remove(&b"."[..]).unwrap().ino, is.ino);
            assert!(found.remove(&b".."[..]).is_some());
            if path == Path::new("/") {
                assert!(found.remove(&b"lost+found"[..]).is_some());
            }
            for entry in fs::read_dir(host).unwrap() {
                let entry = entry.unwrap();
                let facts = found.remove(entry.file_name().as_bytes());
                let facts = facts.unwrap_or_else(|| panic!("{entry:?} is missing"));
                let kind = Kind::from_mode(entry.metadata().unwrap().mode() as u16);
                if mounted.fs.volume.core.geometry.has_file_types {
                    assert_eq!(facts.kind, kind);
                }
                Box::pin(compare(
                    mounted,
                    &entry.path(),
                    &path.join(entry.file_name()),
                ))
                .await;
            }
            assert!(found.is_empty(), "{found:?} are no files of {path:?}");
            let back = vfs
                .lookup(&mounted.root, bytes, Follow::Always)
                .await
                .unwrap();
            assert_eq!(vfs.path_of(&back).await.unwrap(), bytes);
        }
        kind => panic!("{path:?} is a {kind:?}"),
    }
}

fn with_tree<T>(test: impl FnOnce(&Path) -> T) -> T {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    test(&tree)
}

fn everything_matches(block_size: u32, extra: &[&str]) {
    with_tree(|tree| {
        make_tree(tree);
        let image = make_image(tree, block_size, (32 << 20) / block_size, extra);
        let machine = small_machine(24);
        let before = machine.in_use();
        let disk = MemoryDisk::new(&machine.uvm, image);
        let (uvm, host) = (machine.uvm.clone(), tree.to_path_buf());
        machine.run(async move {
            let mounted = mount(&uvm, disk).await.unwrap();
            compare(&mounted, &host, Path::new("/")).await;
            let stats = mounted.fs.statistics();
            assert_eq!(stats.block_size, u64::from(block_size));
            assert!(stats.free < stats.blocks && stats.files_free < stats.files);
            assert!(mounted.fs.buffers().frames <= BUFFER_FRAMES);
        });
        machine.check();
        // With the file system everything that it held is gone.
        assert_eq!(machine.in_use(), before);
    });
}

#[test]
fn everything_matches_with_1k_blocks() {
    everything_matches(1024, &[]);
}

#[test]
fn everything_matches_with_2k_blocks() {
    everything_matches(2048, &["-I", "256"]);
}

#[test]
fn everything_matches_with_4k_blocks() {
    everything_matches(4096, &["-O", "^filetype,^resize_inode"]);
}

#[test]
fn one_file_has_one_vnode_and_one_object() {
    with_tree(|tree| {
        make_tree(tree);
        let machine = small_machine(16);
        let image = make_image(tree, 1024, 32 << 10, &[]);
        let disk = MemoryDisk::new(&machine.uvm, image);
        let uvm = machine.uvm.clone();
        machine.run(async move {
            let Mounted { vfs, root, fs } = mount(&uvm, disk).await.unwrap();
            let look = async |path: &str| {
                let found = vfs.lookup(&root, path.as_bytes(), Follow::Always).await;
                found.unwrap().vnode().clone()
            };
            let (one, hard) = (look("one").await, look("a/hard").await);
            assert!(Arc::ptr_eq(one.object().unwrap(), hard.object().unwrap()));
            // More files than the cache keeps: those in use stay, the others come and go.
            let mapped = look("run.sh")
                .await
                .object()
                .unwrap()
                .object()
                .object()
                .clone();
            for i in 0..3 * VNODES {
                let ino = 12 + i as u32 % 1100;
                drop(fs.volume.vnode(ino).await);
            }
            assert!(fs.volume.vnodes.len() <= VNODES);
            assert!(Arc::ptr_eq(
                one.object().unwrap(),
                look("one").await.object().unwrap()
            ));
            let again = look("run.sh")
                .await
                .object()
                .unwrap()
                .object()
                .object()
                .clone();
            assert!(uvm::pool::Ref::ptr_eq(&mapped, &again));
        });
        machine.check();
    });
}

#[test]
fn a_new_vnode_waits_for_memory_that_file_pages_fill() {
    with_tree(|tree| {
        fs::write(tree.join("big"), pattern(1, 1 << 20)).unwrap();
        for i in 0..400 {
            fs::write(tree.join(format!("file{i}")), b"x").unwrap();
        }
        let machine = small_machine(4);
        let image = make_image(tree, 4096, 1024, &["-N", "512"]);
        let disk = MemoryDisk::new(&machine.uvm, image);
        let uvm = machine.uvm.clone();
        machine.run(async move {
            let Mounted { vfs, root, fs } = mount(&uvm, disk).await.unwrap();
            let big = vfs.open(&root, b"big", OpenFlags::empty()).await.unwrap();
            assert!(read_all(&big, 1 << 20).await.unwrap() == pattern(1, 1 << 20));
            // Inodes in memory: nothing but frames is waited for below.
            let core = &fs.volume.core;
            let table = core.inode_table(0).await.unwrap();
            for block in 0..core.geometry.inode_table_blocks() {
                drop(core.cache.read(u64::from(table + block)).await.unwrap());
            }
            let take = || uvm.alloc_frame(uvm::AllocFor::User, uvm::Zero::No);
            let taken: Vec<_> = core::iter::from_fn(take).collect();
            for ino in 12..412 {
                assert!(fs.volume.vnode(ino).await.is_ok(), "inode {ino}");
            }
            taken.into_iter().for_each(|frame| uvm.free_frame(frame));
        });
        machine.check();
    });
}

#[test]
fn two_readers_of_a_page_or_a_block_make_one_read() {
    with_tree(|tree| {
        for i in 0..40 {
            fs::write(tree.join(format!("file{i}")), pattern(1, 4096)).unwrap();
        }
        let machine = small_machine(8);
        let image = make_image(tree, 4096, 512, &["-N", "128"]);
        let disk = MemoryDisk::new(&machine.uvm, image);
        let uvm = machine.uvm.clone();
        let fs = {
            let disk = disk.clone();
            machine.run(async move { Ext2::mount(&uvm, disk, 1).await.unwrap() })
        };
        disk.hold();
        let reads = disk.reads();
        // The inode block of a file, another than the root's, asked for by many at once.
        let wait = |fs: &Arc<Ext2>| {
            let fs = fs.clone();
            machine.spawn(async move {
                fs.volume
                    .vnode(45)
                    .await
                    .map(|vnode| vnode.attributes().ino)
            })
        };
        let waiting: Vec<_> = (0..5).map(|_| wait(&fs)).collect();
        // One of them gives up, the one that began the read.
        let mut begun = Box::pin(fs.volume.core.cache.read(100));
        assert!(futures_util::FutureExt::now_or_never(begun.as_mut()).is_none());
        drop(begun);
        machine.run_until_stalled();
        assert_eq!((disk.held(), disk.reads() - reads), (2, 2));
        assert_eq!(disk.release(), 2);
        for waiter in waiting {
            assert_eq!(machine.run(waiter), Ok(45));
        }
        let again = fs.volume.core.cache.clone();
        machine.run(async move { assert!(again.read(100).await.is_ok()) });
        assert_eq!(disk.reads() - reads, 2);
        // The same with a page of a file.
        let vnode = machine.run(fs.volume.vnode(45)).unwrap();
        disk.hold();
        let read = || {
            let object = vnode.object().unwrap().clone();
            machine.spawn(async move {
                let mut bytes = [0; 100];
                object
                    .read_bytes(7, &mut bytes)
                    .await
                    .map(|n| bytes[..n].to_vec())
            })
        };
        let waiting: Vec<_> = (0..3).map(|_| read()).collect();
        machine.run_until_stalled();
        assert_eq!((disk.held(), disk.reads() - reads), (1, 3));
        disk.release();
        for waiter in waiting {
            let read = machine.run(waiter).unwrap();
            assert!(read == pattern(1, 4096)[7..107]);
        }
        drop((vnode, fs));
        machine.check();
    });
}
