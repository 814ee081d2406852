//! Damaged and unreadable file systems: an error each time, never a panic, never without end.

use super::*;
use crate::fs::testing::Random;
use std::string::{String, ToString};
use std::vec;

/// A small file system with something of everything in it.
fn small_image(block_size: u32) -> Vec<u8> {
    with_tree(|tree| {
        fs::create_dir(tree.join("dir")).unwrap();
        for i in 0..40 {
            fs::write(tree.join(format!("dir/file{i}")), pattern(i, i * 100)).unwrap();
        }
        fs::write(tree.join("big"), pattern(1, 350_000)).unwrap();
        symlink("dir/file7", tree.join("fast")).unwrap();
        symlink("s".repeat(200), tree.join("slow")).unwrap();
        make_image(tree, block_size, (1 << 20) / block_size, &["-N", "128"])
    })
}

fn mount_error(change: impl FnOnce(&mut Vec<u8>)) -> String {
    let machine = small_machine(4);
    let mut image = small_image(1024);
    change(&mut image);
    let disk = MemoryDisk::new(&machine.uvm, image);
    let uvm = machine.uvm.clone();
    let result = machine.run(async move { Ext2::mount(&uvm, disk, 1).await.map(drop) });
    machine.check();
    result.expect_err("it should not mount").to_string()
}

#[test]
fn what_cannot_be_mounted_is_refused_with_the_reason() {
    let set = |at: usize, value: u32| {
        move |image: &mut Vec<u8>| {
            image[1024 + at..][..4].copy_from_slice(&value.to_le_bytes());
        }
    };
    assert_eq!(
        mount_error(|image| image.clear()),
        "not an ext2 file system"
    );
    assert_eq!(
        mount_error(|image| image.fill(0)),
        "not an ext2 file system"
    );
    assert_eq!(
        mount_error(set(96, 0x42)),
        "unknown incompatible features 0x40"
    );
    assert_eq!(mount_error(set(24, 6)), "unsupported block size");
    assert_eq!(mount_error(set(24, u32::MAX)), "unsupported block size");
    assert_eq!(mount_error(set(76, 2)), "unsupported revision");
    assert_eq!(
        mount_error(set(4, 1 << 20)),
        "damaged: larger than its device"
    );
    assert_eq!(mount_error(set(4, 0)), "damaged: number of blocks");
    assert_eq!(mount_error(set(20, 0)), "damaged: first data block");
    assert_eq!(mount_error(set(32, 0)), "damaged: blocks in a group");
    assert_eq!(mount_error(set(40, u32::MAX)), "damaged: inodes in a group");
    assert_eq!(mount_error(set(0, 7)), "damaged: number of inodes");
    assert_eq!(mount_error(set(88, 100)), "damaged: inode size");
    assert_eq!(
        mount_error(|image| image[2048 + 8..][..4].fill(0xff)),
        "damaged: inode table of a group"
    );
    assert_eq!(
        mount_error(|image| image[2048..][..4].fill(0)),
        "damaged: bitmap of a group"
    );
    assert_eq!(
        mount_error(|image| image.truncate(1 << 19)),
        "damaged: larger than its device"
    );
}

/// Touches everything that can be reached, within bounds: damage can make any size and any loop.
async fn touch_everything(mounted: &Mounted) -> usize {
    let mut errors = 0;
    let mut paths = vec![b"/".to_vec()];
    let mut seen = 0;
    while let Some(path) = paths.pop() {
        seen += 1;
        if seen > 300 {
            break;
        }
        let found = match mounted
            .vfs
            .lookup(&mounted.root, &path, Follow::NotLast)
            .await
        {
            Ok(found) => found,
            Err(_) => {
                errors += 1;
                continue;
            }
        };
        let vnode = found.vnode();
        let size = vnode.attributes().size;
        match vnode.kind() {
            Kind::Directory => {
                let mut emit = |entry: DirEntry<'_>| {
                    if !matches!(entry.name, b"." | b"..") && path.len() < 100 {
                        paths.push([&path[..], b"/", entry.name].concat());
                    }
                    ControlFlow::Continue(())
                };
                errors += usize::from(vnode.read_dir(0, &mut emit).await.is_err());
                errors += usize::from(vnode.lookup(b"..").await.is_err());
                errors += usize::from(mounted.vfs.path_of(&found).await.is_err());
            }
            Kind::Symlink => {
                errors += usize::from(vnode.read_link().await.is_err());
                let _ = mounted
                    .vfs
                    .lookup(&mounted.root, &path, Follow::Always)
                    .await;
            }
            Kind::Regular => {
                let Ok(file) = mounted
                    .vfs
                    .open(&mounted.root, &path, OpenFlags::empty())
                    .await
                else {
                    continue;
                };
                for at in [0, size / 2, size.saturating_sub(40_000)] {
                    let mut sink = VecSink::new(40_000);
                    errors += usize::from(file.read_at(&mut sink, at).await.is_err());
                }
            }
            _ => {}
        }
    }
    errors
}

/// Inodes of [`small_image`] that are in use, and a few more.
const INODES: u64 = 60;

/// Flips bytes of an image, mostly where the file system's own data is.
fn mutate(image: &mut [u8], block_size: u32, random: &mut Random) {
    let len = image.len() as u64;
    let word = |at: usize| u32::from_le_bytes(image[at..][..4].try_into().unwrap());
    let descriptors = block_size.max(2048);
    let table = u64::from(word(descriptors as usize + 8)) * u64::from(block_size);
    let inode_size = u64::from(word(1024 + 88) & 0xffff);
    for _ in 0..=random.below(12) {
        let at = match random.below(8) {
            // The superblock and the descriptor.
            0 => 1024 + random.below(256),
            1 => u64::from(descriptors) + random.below(32),
            2..=4 => table + random.below(INODES * inode_size),
            // Directories and indirect blocks come first on a new file system.
            5..=6 => random.below(len / 8),
            _ => random.below(len),
        };
        let value = match random.below(4) {
            0 => 0,
            1 => 0xff,
            2 => image[at as usize] ^ 1 << random.below(8),
            _ => random.below(256) as u8,
        };
        image[at as usize] = value;
    }
}

fn survive(block_size: u32, seeds: u64) {
    let original = small_image(block_size);
    let machine = small_machine(8);
    let before = machine.in_use();
    let (mut refused, mut damaged) = (0, 0);
    for seed in 0..seeds {
        let mut image = original.clone();
        mutate(&mut image, block_size, &mut Random::new(seed));
        let disk = MemoryDisk::new(&machine.uvm, image);
        let uvm = machine.uvm.clone();
        let errors = machine.run(async move {
            match mount(&uvm, disk).await {
                Ok(mounted) => Some(touch_everything(&mounted).await),
                Err(_) => None,
            }
        });
        match errors {
            None => refused += 1,
            Some(0) => {}
            Some(_) => damaged += 1,
        }
        if seed % 256 == 0 {
            machine.check();
        }
    }
    machine.check();
    assert_eq!(machine.in_use(), before, "something leaks");
    // The mutations do hit.
    assert!(
        refused > seeds / 50 && damaged > seeds / 50,
        "{refused} {damaged}"
    );
}

#[test]
fn thousands_of_damaged_images_with_1k_blocks() {
    survive(1024, 2000);
}

#[test]
fn thousands_of_damaged_images_with_4k_blocks() {
    survive(4096, 2000);
}

#[test]
fn unreadable_sectors_are_io_errors_and_can_be_tried_again() {
    with_tree(|tree| {
        make_tree(tree);
        let machine = small_machine(16);
        let image = make_image(tree, 1024, 32 << 10, &[]);
        let disk = MemoryDisk::new(&machine.uvm, image);
        let uvm = machine.uvm.clone();
        let device = disk.clone();
        machine.run(async move {
            let mounted = mount(&uvm, device.clone()).await.unwrap();
            let found = mounted
                .vfs
                .lookup(&mounted.root, b"a/b/double", Follow::Always)
                .await;
            let ino = found.unwrap().vnode().ino() as u32;
            let vnode = mounted.fs.volume.vnode(ino).await.unwrap();
            // A data block in the middle, and the blocks that say where it is.
            let data = vnode.map().run(2_000, 1).await.unwrap().start.unwrap();
            let outer = vnode.map().roots[disk::DIRECT + 1];
            let expected = pattern(4, 5_000_000);
            for bad in [data, outer].map(|block| u64::from(block) * 1024) {
                // With nothing in memory.
                let Mounted { vfs, root, .. } = mount(&uvm, device.clone()).await.unwrap();
                let file = vfs
                    .open(&root, b"a/b/double", OpenFlags::empty())
                    .await
                    .unwrap();
                device.set_bad(bad, true);
                let mut sink = VecSink::new(100);
                let failed = file.read_at(&mut sink, 2_000 * 1024).await;
                assert_eq!(failed, Err(FsError::Io));
                device.set_bad(bad, false);
                let read = file.read_at(&mut sink, 2_000 * 1024).await;
                assert_eq!(read, Ok(100));
                assert!(sink.bytes == expected[2_000 * 1024..][..100]);
            }
        });
        machine.check();
    });
}
