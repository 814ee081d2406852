//! From path to vnode, after namei(9).
//!
//! A walk keeps no lock between steps: each step asks the directory's vnode, first for what is known
//! without waiting. Symbolic links are spliced into the rest of the path.

use super::FsError;
use super::mount::{Location, Vfs};
use super::vnode::Kind;
use alloc::vec::Vec;
use core::ops::ControlFlow;

/// Longest name of a directory entry, in bytes.
pub const NAME_MAX: usize = 255;
/// Longest path, in bytes, its terminating NUL included.
pub const PATH_MAX: usize = 4096;
/// Most symbolic links that one lookup follows.
pub const MAX_SYMLINKS: usize = 40;

/// Whether a symbolic link at the very end is followed. Those before it always are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// `stat`, `open`.
    Always,
    /// `lstat`, `readlink`, `O_NOFOLLOW`.
    NotLast,
}

/// What a path leads to.
pub enum Resolved {
    /// A file that exists.
    Found(Location),
    /// Nothing yet: all but the last name exist.
    Missing {
        /// The directory where it would be.
        parent: Location,
        /// The name that it would have.
        name: Vec<u8>,
    },
}

impl Vfs {
    /// The file at `path`, seen from the directory `base`. Awaits directories and inodes.
    ///
    /// # Errors
    /// [`FsError::NotFound`], [`FsError::NotDirectory`], [`FsError::Loop`], [`FsError::NameTooLong`], and
    /// what reading directories can meet.
    pub async fn lookup(
        &self,
        base: &Location,
        path: &[u8],
        follow: Follow,
    ) -> Result<Location, FsError> {
        match self.resolve(base, path, follow).await? {
            Resolved::Found(location) => Ok(location),
            Resolved::Missing { .. } => Err(FsError::NotFound),
        }
    }

    /// As [`lookup`](Self::lookup), but a last name that is missing is an answer and no error.
    ///
    /// # Errors
    /// Those of [`lookup`](Self::lookup); [`FsError::NotFound`] for a name missing in between.
    pub async fn resolve(
        &self,
        base: &Location,
        path: &[u8],
        follow: Follow,
    ) -> Result<Resolved, FsError> {
        if path.is_empty() {
            return Err(FsError::NotFound);
        }
        if path.len() >= PATH_MAX {
            return Err(FsError::NameTooLong);
        }
        let mut here = match path[0] {
            b'/' => self.root()?,
            _ => base.clone(),
        };
        // The path once a link has been spliced in, and how far it is done.
        let mut spliced: Option<Vec<u8>> = None;
        let mut at = 0;
        let mut links = 0;
        loop {
            let text = spliced.as_deref().unwrap_or(path);
            let (name, rest) = next_name(text, at);
            if name.is_empty() {
                // Slashes alone, or the end: here it is.
                return Ok(Resolved::Found(here));
            }
            let is_last = text[rest..].iter().all(|&c| c == b'/');
            let wants_directory = rest < text.len();
            if here.vnode().kind() != Kind::Directory {
                return Err(FsError::NotDirectory);
            }
            if name.len() > NAME_MAX {
                return Err(FsError::NameTooLong);
            }
            let found = match name {
                b"." => here.clone(),
                b".." => self.parent(&here).await?,
                _ => match self.child(&here, name).await {
                    Err(FsError::NotFound) if is_last => {
                        let name = name.to_vec();
                        return Ok(Resolved::Missing { parent: here, name });
                    }
                    other => other?,
                },
            };
            let is_link = found.vnode().kind() == Kind::Symlink;
            if is_link && !(is_last && !wants_directory && follow == Follow::NotLast) {
                links += 1;
                if links > MAX_SYMLINKS {
                    return Err(FsError::Loop);
                }
                let mut target = found.vnode().read_link().await?;
                if target.is_empty() {
                    return Err(FsError::NotFound);
                }
                let tail = &spliced.as_deref().unwrap_or(path)[rest..];
                if target.len() + tail.len() >= PATH_MAX {
                    return Err(FsError::NameTooLong);
                }
                if target[0] == b'/' {
                    here = self.root()?;
                }
                target.extend_from_slice(tail);
                spliced = Some(target);
                at = 0;
                continue;
            }
            if wants_directory && found.vnode().kind() != Kind::Directory {
                return Err(FsError::NotDirectory);
            }
            if is_last {
                return Ok(Resolved::Found(found));
            }
            here = found;
            at = rest;
        }
    }

    /// The absolute path of a directory, found by asking its parents for its name.
    ///
    /// # Errors
    /// [`FsError::NotFound`] if some parent no longer has it, [`FsError::NameTooLong`], and what reading
    /// directories can meet.
    pub async fn path_of(&self, directory: &Location) -> Result<Vec<u8>, FsError> {
        let mut here = directory.clone();
        // Back to front, and turned round at the end.
        let mut reversed: Vec<u8> = Vec::new();
        loop {
            while here.is_mount_root() {
                match here.mount().covers() {
                    Some(covered) => here = covered.clone(),
                    None => {
                        if reversed.is_empty() {
                            reversed.push(b'/');
                        }
                        reversed.reverse();
                        return Ok(reversed);
                    }
                }
            }
            let ino = here.vnode().ino();
            let parent = self.parent(&here).await?;
            // A parent across the mount below: its entries name what is covered.
            let mut found = false;
            let mut emit = |entry: super::vnode::DirEntry<'_>| {
                if entry.ino == ino && !matches!(entry.name, b"." | b"..") {
                    reversed.extend(entry.name.iter().rev());
                    reversed.push(b'/');
                    found = true;
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            };
            parent.vnode().read_dir(0, &mut emit).await?;
            if !found {
                return Err(FsError::NotFound);
            }
            if reversed.len() >= PATH_MAX {
                return Err(FsError::NameTooLong);
            }
            here = parent;
        }
    }

    /// The directory above `here`: out of its mount where `here` is the top of it.
    async fn parent(&self, here: &Location) -> Result<Location, FsError> {
        let mut here = here.clone();
        while here.is_mount_root() {
            match here.mount().covers() {
                Some(covered) => here = covered.clone(),
                None => return Ok(here),
            }
        }
        let above = here.vnode().lookup(b"..").await?;
        Ok(Location::new(here.mount().clone(), above))
    }

    /// What `name` leads to, seen through mounts.
    async fn child(&self, here: &Location, name: &[u8]) -> Result<Location, FsError> {
        let vnode = match here.vnode().lookup_cached(name) {
            Some(vnode) => vnode,
            None => here.vnode().lookup(name).await?,
        };
        Ok(self.uncovered(Location::new(here.mount().clone(), vnode)))
    }
}

/// The next name at or after `at`, slashes skipped, and where it ends.
fn next_name(path: &[u8], at: usize) -> (&[u8], usize) {
    let start = at + path[at..].iter().take_while(|&&c| c == b'/').count();
    let len = path[start..].iter().take_while(|&&c| c != b'/').count();
    (&path[start..start + len], start + len)
}

#[cfg(test)]
mod tests;
