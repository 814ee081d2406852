//! The files of an image, before it is one: what goes where, and from where it comes.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// A set of files by their absolute path in the image. Parent directories come by themselves.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug)]
enum Entry {
    Directory,
    /// A file of this machine, copied with its permission bits.
    File(PathBuf),
    Symlink(PathBuf),
    Text(&'static str),
}

impl Tree {
    /// Adds an empty directory.
    pub fn directory(&mut self, guest: &str) {
        self.put(guest, Entry::Directory);
    }

    /// Adds a small file with this content.
    pub fn text(&mut self, guest: &str, content: &'static str) {
        self.put(guest, Entry::Text(content));
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, guest: &str, to: impl Into<PathBuf>) {
        self.put(guest, Entry::Symlink(to.into()));
    }

    /// Adds a file or a whole directory of this machine.
    ///
    /// # Errors
    /// It cannot be read, or is neither file, directory nor symbolic link.
    pub fn host(&mut self, guest: &str, host: &Path) -> Result<()> {
        let what = fs::metadata(host).with_context(|| format!("cannot read {}", host.display()))?;
        if what.is_file() {
            self.put(guest, Entry::File(host.to_owned()));
        } else if what.is_dir() {
            self.put(guest, Entry::Directory);
            for entry in
                fs::read_dir(host).with_context(|| format!("cannot read {}", host.display()))?
            {
                let entry = entry?;
                let name = entry.file_name();
                let Some(name) = name.to_str() else {
                    bail!("{} has a name that is not UTF-8", entry.path().display());
                };
                let guest = format!("{guest}/{name}");
                // A link inside a directory stays a link: it may point to its neighbour.
                match entry.file_type()?.is_symlink() {
                    true => self.symlink(&guest, fs::read_link(entry.path())?),
                    false => self.host(&guest, &entry.path())?,
                }
            }
        } else {
            bail!("{} is neither a file nor a directory", host.display());
        }
        Ok(())
    }

    fn put(&mut self, guest: &str, entry: Entry) {
        debug_assert!(guest.starts_with('/'), "{guest} is not absolute");
        for (slash, _) in guest.match_indices('/').skip(1) {
            self.entries
                .entry(guest[..slash].to_owned())
                .or_insert(Entry::Directory);
        }
        self.entries.insert(guest.to_owned(), entry);
    }

    /// Number of files, directories and links.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes that its content needs on a file system of 4 KiB blocks, maps of large files included.
    ///
    /// # Errors
    /// A file has gone away.
    pub fn space(&self) -> Result<u64> {
        let mut space = 0;
        for (guest, entry) in &self.entries {
            space += match entry {
                Entry::File(host) => {
                    let length = length(host).with_context(|| format!("for {guest}"))?;
                    length.next_multiple_of(4096) + length / 512 + 4096
                }
                _ => 4096,
            };
        }
        Ok(space)
    }

    /// Feeds everything that decides the image's bytes, short of reading the files: their length and time of
    /// change stand for their content.
    ///
    /// # Errors
    /// A file has gone away.
    pub fn hash(&self, hasher: &mut DefaultHasher) -> Result<()> {
        for (guest, entry) in &self.entries {
            guest.hash(hasher);
            match entry {
                Entry::Directory => 0.hash(hasher),
                Entry::File(host) => {
                    let meta = fs::metadata(host).with_context(|| format!("for {guest}"))?;
                    (
                        1,
                        host,
                        meta.len(),
                        meta.mode(),
                        meta.mtime(),
                        meta.mtime_nsec(),
                        meta.ino(),
                    )
                        .hash(hasher);
                }
                Entry::Symlink(to) => (2, to).hash(hasher),
                Entry::Text(content) => (3, content).hash(hasher),
            }
        }
        Ok(())
    }

    /// Writes the tree below the existing directory `root`.
    ///
    /// # Errors
    /// Those of the file system, with the guest's path.
    pub fn write(&self, root: &Path) -> Result<()> {
        for (guest, entry) in &self.entries {
            let path = root.join(&guest[1..]);
            match entry {
                Entry::Directory => fs::create_dir(&path),
                Entry::File(host) => fs::copy(host, &path).map(drop),
                Entry::Symlink(to) => symlink(to, &path),
                Entry::Text(content) => fs::write(&path, content),
            }
            .with_context(|| format!("cannot write {guest}"))?;
        }
        Ok(())
    }

    /// Takes out everything below `directory` and returns it as a tree of its own.
    pub fn split_off(&mut self, directory: &str) -> Tree {
        let below = format!("{directory}/");
        let inside: Vec<String> = self
            .entries
            .keys()
            .filter(|guest| guest.starts_with(&below))
            .cloned()
            .collect();
        let taken = inside.into_iter().filter_map(|guest| {
            let entry = self.entries.remove(&guest)?;
            Some((guest[directory.len()..].to_owned(), entry))
        });
        Tree {
            entries: taken.collect(),
        }
    }
}

fn length(host: &Path) -> Result<u64> {
    Ok(fs::metadata(host)?.len())
}

#[cfg(test)]
mod tests {
    use std::hash::Hasher;

    use super::*;

    #[test]
    fn parents_come_by_themselves() {
        let mut tree = Tree::default();
        tree.text("/etc/deep/motd", "hi");
        tree.symlink("/bin/sh", "busybox");
        assert_eq!(
            tree.entries.keys().collect::<Vec<_>>(),
            ["/bin", "/bin/sh", "/etc", "/etc/deep", "/etc/deep/motd"]
        );
    }

    #[test]
    fn writes_what_it_was_told() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "content").unwrap();
        symlink("file", dir.path().join("link")).unwrap();
        let mut tree = Tree::default();
        tree.host("/data/all", dir.path()).unwrap();
        let root = tempfile::tempdir().unwrap();
        tree.write(root.path()).unwrap();
        assert_eq!(
            fs::read_to_string(root.path().join("data/all/file")).unwrap(),
            "content"
        );
        assert_eq!(
            fs::read_link(root.path().join("data/all/link")).unwrap(),
            Path::new("file")
        );
    }

    #[test]
    fn split_off_takes_what_is_below_and_leaves_the_mount_point() {
        let mut tree = Tree::default();
        tree.text("/ram0/a/b", "");
        tree.text("/ram01", "");
        let ram = tree.split_off("/ram0");
        assert_eq!(ram.entries.keys().collect::<Vec<_>>(), ["/a", "/a/b"]);
        assert_eq!(tree.entries.keys().collect::<Vec<_>>(), ["/ram0", "/ram01"]);
    }

    #[test]
    fn the_hash_follows_changes() {
        let hash = |tree: &Tree| {
            let mut hasher = DefaultHasher::new();
            tree.hash(&mut hasher).unwrap();
            hasher.finish()
        };
        let mut tree = Tree::default();
        tree.text("/a", "1");
        let before = hash(&tree);
        assert_eq!(before, hash(&tree.clone()));
        tree.text("/a", "2");
        assert_ne!(before, hash(&tree));
    }
}
