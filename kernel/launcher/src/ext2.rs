//! Makes ext2 images whose bytes depend on their content alone.
//!
//! mke2fs takes times, and owners, from the files it copies, and a file's change time cannot be set on
//! the host. So after mke2fs every inode gets one owner and one time, straight in the image.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::packages::find_program;
use crate::steps::Steps;
use crate::tree::Tree;
use crate::units::Bytes;

/// 2024-01-01 00:00:00 UTC, in seconds: the time that every file carries, and where `--icount` starts its clock.
pub const TIMESTAMP: u32 = 1_704_067_200;

const BLOCK: u64 = 4096;
const SUPERBLOCK: u64 = 1024;
const MAGIC: u16 = 0xef53;

/// Makes an ext2 image of `size` bytes at `path` (replaced if it exists) that holds `tree`.
///
/// # Errors
/// Files that cannot be read; mke2fs's own words, for one when the tree does not fit.
pub fn make(path: &Path, label: &str, size: Bytes, tree: &Tree, steps: &Steps) -> Result<()> {
    let staging = path.with_extension("files");
    if staging.exists() {
        std::fs::remove_dir_all(&staging)?;
    }
    std::fs::create_dir_all(&staging)?;
    tree.write(&staging)?;
    let mke2fs = find_program("mke2fs").context("mke2fs is not installed")?;
    let identity = "a0b1c2d3-e4f5-4678-9abc-def012345678";
    let mut command = Command::new(mke2fs);
    command
        .args([
            "-q", "-F", "-t", "ext2", "-b", "4096", "-I", "256", "-m", "0",
        ])
        // Named one by one: the defaults are the host's business.
        .args(["-O", "none,filetype,sparse_super,large_file"])
        .args(["-L", label, "-U", identity, "-E"])
        .arg(format!(
            "hash_seed={identity},root_owner=0:0,lazy_itable_init=0,nodiscard"
        ))
        .args(["-N", &(tree.len() + 1024).to_string(), "-d"])
        .arg(&staging)
        .arg(path)
        .arg((size.0 / BLOCK).to_string())
        .env("E2FSPROGS_FAKE_TIME", TIMESTAMP.to_string())
        .env("SOURCE_DATE_EPOCH", TIMESTAMP.to_string());
    // Blocks that mke2fs leaves alone must not keep what an older image had there.
    if path.exists() {
        std::fs::remove_file(path)?;
    }
    let made = steps.run("mke2fs", &mut command);
    std::fs::remove_dir_all(&staging)?;
    made?;
    level(path).with_context(|| format!("in {}", path.display()))
}

/// Gives every inode of the image the owner root and the time [`TIMESTAMP`].
fn level(path: &Path) -> Result<()> {
    let image = File::options().read(true).write(true).open(path)?;
    let superblock = read::<1024>(&image, SUPERBLOCK)?;
    let u16_at = |at: usize| u16::from_le_bytes([superblock[at], superblock[at + 1]]);
    let u32_at =
        |at: usize| u32::from_le_bytes(superblock[at..at + 4].try_into().expect("four bytes"));
    if u16_at(56) != MAGIC {
        bail!("no ext2 file system");
    }
    let (inodes, per_group) = (u64::from(u32_at(0)), u64::from(u32_at(40)));
    let inode_size = u64::from(u16_at(88));
    for first in (0..inodes).step_by(per_group as usize) {
        // The table of block groups follows the superblock's block; a group's inode table is its third word.
        let group = first / per_group;
        let table = u32::from_le_bytes(read(&image, BLOCK + group * 32 + 8)?);
        for index in 0..per_group.min(inodes - first) {
            let at = u64::from(table) * BLOCK + index * inode_size;
            let inode = read::<256>(&image, at)?;
            let level = leveled(inode);
            if level != inode {
                image.write_all_at(&level, at)?;
            }
        }
    }
    Ok(())
}

/// An inode with owner and times replaced; an unused one stays as it is.
fn leveled(mut inode: [u8; 256]) -> [u8; 256] {
    if inode.iter().all(|byte| *byte == 0) {
        return inode;
    }
    let mut set = |at: usize, bytes: &[u8]| inode[at..at + bytes.len()].copy_from_slice(bytes);
    set(2, &[0; 2]); // i_uid
    set(24, &[0; 2]); // i_gid
    set(120, &[0; 4]); // their upper halves
    for time in [8, 12, 16, 144] {
        set(time, &TIMESTAMP.to_le_bytes()); // i_atime, i_ctime, i_mtime, i_crtime
    }
    for fraction in [132, 136, 140, 148] {
        set(fraction, &[0; 4]);
    }
    inode
}

fn read<const N: usize>(image: &File, at: u64) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    image.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(dir: &Path, name: &str, host: &Path) -> Vec<u8> {
        let mut tree = Tree::default();
        tree.host("/file", host).unwrap();
        tree.symlink("/bin/sh", "busybox");
        tree.directory("/dev");
        let path = dir.join(name);
        make(&path, "test", Bytes::mib(4), &tree, &Steps::new(false)).unwrap();
        std::fs::read(path).unwrap()
    }

    #[test]
    fn same_content_same_bytes_and_fsck_is_content() {
        if find_program("mke2fs").is_none() {
            return; // The machine tests install it, and run after this on a fresh machine.
        }
        let dir = tempfile::tempdir().unwrap();
        let host = dir.path().join("source");
        std::fs::write(&host, vec![7; 100_000]).unwrap();
        let one = image(dir.path(), "one.img", &host);
        // Another inode with other times, and an image in the place of an older one.
        std::fs::remove_file(&host).unwrap();
        std::fs::write(&host, vec![7; 100_000]).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1100));
        std::fs::write(dir.path().join("two.img"), vec![0xff; 4 << 20]).unwrap();
        let two = image(dir.path(), "two.img", &host);
        assert!(one == two, "two images of the same files differ");
        let e2fsck = find_program("e2fsck").unwrap();
        let output = Command::new(e2fsck)
            .arg("-fn")
            .arg(dir.path().join("one.img"))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        if find_program("mke2fs").is_none() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let host = dir.path().join("source");
        std::fs::write(&host, vec![7; 2 << 20]).unwrap();
        let mut tree = Tree::default();
        tree.host("/file", &host).unwrap();
        let error = make(
            &dir.path().join("x.img"),
            "test",
            Bytes::mib(1),
            &tree,
            &Steps::new(false),
        )
        .unwrap_err();
        assert!(error.to_string().contains("mke2fs failed"), "{error}");
    }
}
