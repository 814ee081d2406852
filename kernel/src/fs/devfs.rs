//! `/dev`: the devices that every program expects.
//!
//! Its nodes are made once, at mount, and never change; nothing here waits. What reading and writing a
//! device does is in [`file`](super::file).

use super::FsError;
use super::mount::{FileSystem, Statistics};
use super::tty::Tty;
use super::vnode::{Attributes, DeviceNumber, DirEntry, Emit, Kind, Time, Vnode, VnodeRef};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use async_trait::async_trait;
use core::ops::ControlFlow;

/// A device that a program can open.
#[derive(Clone)]
pub enum Device {
    /// Reads nothing, swallows everything.
    Null,
    /// Reads zeroes, swallows everything.
    Zero,
    /// A terminal.
    Tty(Arc<Tty>),
    /// The terminal that controls whoever opens it.
    OwnTty,
}

/// The file system of `/dev`.
pub struct DevFs {
    root: Arc<Directory>,
}

struct Directory {
    this: Weak<Directory>,
    nodes: [Arc<Node>; NODES],
}

struct Node {
    name: &'static [u8],
    ino: u64,
    number: DeviceNumber,
    permissions: u16,
    device: Device,
}

/// The terminal's own number.
pub(super) const CONSOLE: DeviceNumber = DeviceNumber { major: 5, minor: 1 };

const NODES: usize = 4;
/// Device number of the file system itself.
const DEVICE: u64 = 5;
const ROOT_INO: u64 = 1;
/// Linux's number for tmpfs, of which its own devtmpfs is one.
const MAGIC: u64 = 0x0102_1994;

impl DevFs {
    /// `null`, `zero`, the terminal as `console`, and `tty`, which is everybody's own.
    pub fn new(tty: Arc<Tty>) -> Arc<DevFs> {
        let number = |major, minor| DeviceNumber { major, minor };
        let node = |ino, name, number, permissions, device| {
            Arc::new(Node {
                name,
                ino,
                number,
                permissions,
                device,
            })
        };
        Arc::new(DevFs {
            root: Arc::new_cyclic(|this| Directory {
                this: this.clone(),
                nodes: [
                    node(2, b"console", CONSOLE, 0o600, Device::Tty(tty)),
                    node(3, b"null", number(1, 3), 0o666, Device::Null),
                    node(4, b"tty", number(5, 0), 0o666, Device::OwnTty),
                    node(5, b"zero", number(1, 5), 0o666, Device::Zero),
                ],
            }),
        })
    }
}

impl FileSystem for DevFs {
    fn root(&self) -> VnodeRef {
        self.root.clone()
    }

    fn read_only(&self) -> bool {
        false
    }

    fn name(&self) -> &'static str {
        "devfs"
    }

    fn statistics(&self) -> Statistics {
        Statistics {
            magic: MAGIC,
            block_size: 4096,
            blocks: 0,
            free: 0,
            available: 0,
            files: NODES as u64 + 1,
            files_free: 0,
            name_max: super::namei::NAME_MAX as u64,
        }
    }
}

fn attributes(ino: u64, kind: Kind, permissions: u16, represents: DeviceNumber) -> Attributes {
    Attributes {
        device: DEVICE,
        ino,
        kind,
        permissions,
        links: 1,
        uid: 0,
        gid: 0,
        represents,
        size: 0,
        block_size: 4096,
        blocks: 0,
        accessed: Time::default(),
        modified: Time::default(),
        changed: Time::default(),
    }
}

#[async_trait]
impl Vnode for Directory {
    fn kind(&self) -> Kind {
        Kind::Directory
    }

    fn ino(&self) -> u64 {
        ROOT_INO
    }

    fn attributes(&self) -> Attributes {
        Attributes {
            links: 2,
            ..attributes(ROOT_INO, Kind::Directory, 0o755, DeviceNumber::default())
        }
    }

    fn lookup_cached(&self, name: &[u8]) -> Option<VnodeRef> {
        if matches!(name, b"." | b"..") {
            return Some(self.this.upgrade()?);
        }
        let node = self.nodes.iter().find(|node| node.name == name)?;
        Some(node.clone())
    }

    async fn lookup(&self, name: &[u8]) -> Result<VnodeRef, FsError> {
        self.lookup_cached(name).ok_or(FsError::NotFound)
    }

    async fn read_dir(&self, from: u64, emit: &mut Emit<'_>) -> Result<u64, FsError> {
        let dots: [&[u8]; 2] = [b".", b".."];
        let dots = dots.map(|name| (name, ROOT_INO, Kind::Directory));
        let nodes = self.nodes.iter().map(|n| (n.name, n.ino, Kind::CharDevice));
        let all = dots.into_iter().chain(nodes).zip(0u64..);
        for ((name, ino, kind), at) in all.filter(|(_, at)| *at >= from) {
            let entry = DirEntry {
                ino,
                kind: Some(kind),
                name,
                next: at + 1,
            };
            if let ControlFlow::Break(()) = emit(entry) {
                return Ok(at);
            }
        }
        Ok(from.max(NODES as u64 + 2))
    }
}

#[async_trait]
impl Vnode for Node {
    fn kind(&self) -> Kind {
        Kind::CharDevice
    }

    fn ino(&self) -> u64 {
        self.ino
    }

    fn attributes(&self) -> Attributes {
        attributes(self.ino, Kind::CharDevice, self.permissions, self.number)
    }

    fn device(&self) -> Option<Device> {
        Some(self.device.clone())
    }
}
