//! The kernel's command line: words that tell it what the machine is for.
//!
//! `name=value` separated by spaces; in a value, bytes that would be taken for something else are
//! written `%XX` as in a URL.

use std::fmt::Write;

use anyhow::{Result, bail};

use crate::image::Image;
use crate::ramdisk::{Carries, RamDisk};
use crate::units::Bytes;

/// Bytes that fit, less the zero at the end.
const MAX_LENGTH: usize = 4095;

/// Builds the command line word by word.
#[derive(Clone, Debug, Default)]
pub struct Words(String);

/// Where the root file system is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// On the first virtio disk.
    Disk,
    /// In a module.
    Module(usize),
}

impl Words {
    /// Words as the user wrote them.
    pub fn verbatim(&mut self, words: &str) {
        for word in words.split_whitespace() {
            if !self.0.is_empty() {
                self.0.push(' ');
            }
            self.0.push_str(word);
        }
    }

    /// `exec=COMMANDS`: run these and power off.
    pub fn exec(&mut self, commands: &str) {
        self.verbatim(&format!("exec={}", encoded(commands)));
    }

    /// `root=virtio0` or `root=moduleK`.
    pub fn root(&mut self, root: Root) {
        self.verbatim(&match root {
            Root::Disk => "root=virtio0".to_owned(),
            Root::Module(module) => format!("root=module{module}"),
        });
    }

    /// `swap=virtioN`: the virtio disk with this number has a swap area.
    pub fn swap(&mut self, disk: usize) {
        self.verbatim(&format!("swap=virtio{disk}"));
    }

    /// `module=K,OFFSET,SIZE` for every part of the container, in bytes.
    pub fn modules(&mut self, parts: &[Image]) {
        let mut offset = 0;
        for (
            index,
            Image {
                size: Bytes(size), ..
            },
        ) in parts.iter().enumerate()
        {
            self.verbatim(&format!("module={index},{offset},{size}"));
            offset += size;
        }
    }

    /// `ramdisk=INDEX,SIZE,LATENCY,DEPTH,CARRIES,MODULE`, size in bytes and latency in nanoseconds.
    pub fn ramdisk(&mut self, index: usize, disk: &RamDisk, module: Option<usize>) {
        let carries = match disk.carries {
            Carries::Raw => "raw",
            Carries::FileSystem => "fs",
            Carries::Swap => "swap",
        };
        let module = module.map_or("-".to_owned(), |module| format!("module{module}"));
        let (size, latency, depth) = (disk.size.0, disk.latency.as_nanos(), disk.depth);
        self.verbatim(&format!(
            "ramdisk={index},{size},{latency},{depth},{carries},{module}"
        ));
    }

    /// The whole command line.
    ///
    /// # Errors
    /// It is longer than QEMU's loader has room for. The loader does not look, and overwrites itself.
    pub fn line(&self) -> Result<&str> {
        match self.0.len() {
            ..=MAX_LENGTH => Ok(&self.0),
            length => bail!(
                "--exec and --append make a command line of {length} bytes, and the kernel can be given {MAX_LENGTH}"
            ),
        }
    }
}

fn encoded(value: &str) -> String {
    let mut text = String::new();
    for byte in value.bytes() {
        // No more than must be: the line is short.
        match byte {
            b'%' | ..=b' ' | 0x7f.. => {
                write!(text, "%{byte:02X}").expect("writing to a string succeeds")
            }
            _ => text.push(char::from(byte)),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line() {
        let part = |pages: u64| Image {
            path: "x".into(),
            size: Bytes(pages * 4096),
        };
        let mut words = Words::default();
        words.exec("run /bin/a; echo 100%\n");
        words.root(Root::Module(0));
        words.swap(1);
        words.modules(&[part(2), part(3)]);
        words.ramdisk(0, &"8k:10ms:16,fs".parse().unwrap(), Some(1));
        words.ramdisk(1, &"4k".parse().unwrap(), None);
        words.verbatim(" torture=evict  x ");
        assert_eq!(
            words.line().unwrap(),
            "exec=run%20/bin/a;%20echo%20100%25%0A root=module0 swap=virtio1 module=0,0,8192 module=1,8192,12288 \
             ramdisk=0,8192,10000000,16,fs,module1 ramdisk=1,4096,0,256,raw,- torture=evict x"
        );
    }

    #[test]
    fn a_line_has_an_end() {
        let mut words = Words::default();
        words.verbatim(&"x".repeat(MAX_LENGTH));
        assert!(words.line().is_ok());
        words.verbatim("y");
        assert!(words.line().unwrap_err().to_string().contains("4097 bytes"));
    }
}
