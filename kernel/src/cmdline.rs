//! The kernel's command line: words separated by spaces, either `name` or `name=value`, values percent-encoded
//! as in URLs so that they may contain spaces.
//!
//! | word | means |
//! |---|---|
//! | `exec=COMMANDS` | run these and power off |
//! | `root=virtio0`, `root=module0` | where the root file system is |
//! | `swap=virtio1` | a disk with a swap area; may be repeated |
//! | `module=K,OFFSET,SIZE` | bytes of the loaded file that make up image K |
//! | `ramdisk=INDEX,SIZE,LATENCY,DEPTH,USE,IMAGE` | a RAM disk: bytes, ns, requests at once; `swap`, `fs` or `raw`; `moduleK` or `-` |
//! | `torture=evict` | the pagedaemon evicts all the time |
//! | `icount` | time is counted in instructions: the time stamp counter runs at exactly 1 GHz |
//! | `log=LEVEL` | `error`, `warn`, `info`, `debug` or `trace` |
//!
//! Unknown words are nobody's business and pass unnoticed.

use alloc::string::String;
use alloc::vec::Vec;

/// A command line, as the loader gave it.
#[derive(Clone, Copy, Debug)]
pub struct CommandLine<'a> {
    text: &'a str,
}

/// A word that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad word on the command line: {0}")]
pub struct BadWord(String);

/// Where the root file system is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// On the virtio disk with this number.
    Virtio(usize),
    /// In the module with this number.
    Module(usize),
}

/// Part of the loaded file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModuleSpec {
    /// Its number.
    pub index: usize,
    /// Bytes from the loaded file's start.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

/// What a RAM disk is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RamDiskUse {
    /// Paging space.
    Swap,
    /// A file system, to be mounted.
    FileSystem,
    /// Neither.
    Raw,
}

/// A RAM disk to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RamDiskSpec {
    /// Its number.
    pub index: usize,
    /// Bytes.
    pub size: u64,
    /// Nanoseconds that each request takes.
    pub latency: u64,
    /// Requests that it serves at the same time.
    pub depth: usize,
    /// What for.
    pub purpose: RamDiskUse,
    /// The module with its contents; zeroes without.
    pub module: Option<usize>,
}

impl<'a> CommandLine<'a> {
    /// Over the loader's text.
    pub const fn new(text: &'a str) -> CommandLine<'a> {
        CommandLine { text }
    }

    /// The text itself.
    pub fn as_str(&self) -> &'a str {
        self.text
    }

    /// Whether the bare word `name` is there.
    pub fn has(&self, name: &str) -> bool {
        self.text.split_ascii_whitespace().any(|word| word == name)
    }

    /// The values of all words `name=value`, in order, as they stand.
    pub fn raw_values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.text
            .split_ascii_whitespace()
            .filter_map(move |word| word.strip_prefix(name)?.strip_prefix('='))
    }

    /// The last value of `name`, decoded.
    pub fn value(&self, name: &str) -> Result<Option<String>, BadWord> {
        self.raw_values(name).last().map(decode).transpose()
    }

    /// What to run before powering off; `None` for a shell on the console.
    pub fn exec(&self) -> Result<Option<String>, BadWord> {
        self.value("exec")
    }

    /// Where the root file system is: the first virtio disk unless told.
    pub fn root(&self) -> Result<Root, BadWord> {
        let Some(value) = self.value("root")? else {
            return Ok(Root::Virtio(0));
        };
        if let Some(index) = numbered(&value, "virtio") {
            Ok(Root::Virtio(index))
        } else if let Some(index) = numbered(&value, "module") {
            Ok(Root::Module(index))
        } else {
            Err(BadWord(value))
        }
    }

    /// The numbers of the virtio disks with swap areas, in order, as often as they are named. A word that is wrong does
    /// not spoil the others.
    pub fn swaps(&self) -> impl Iterator<Item = Result<usize, BadWord>> {
        self.raw_values("swap")
            .map(|value| numbered(value, "virtio").ok_or_else(|| BadWord(value.into())))
    }

    /// How many words ask for a disk beside the root's, whether or not they make sense. Allocates nothing.
    pub fn more_disks(&self) -> usize {
        self.raw_values("swap").count() + self.raw_values("ramdisk").count()
    }

    /// The images in the loaded file.
    pub fn modules(&self) -> Result<Vec<ModuleSpec>, BadWord> {
        self.raw_values("module")
            .map(|value| module(value).ok_or_else(|| BadWord(value.into())))
            .collect()
    }

    /// The RAM disks to be made.
    pub fn ramdisks(&self) -> Result<Vec<RamDiskSpec>, BadWord> {
        self.raw_values("ramdisk")
            .map(|value| ramdisk(value).ok_or_else(|| BadWord(value.into())))
            .collect()
    }
}

/// The number behind `prefix`.
fn numbered(value: &str, prefix: &str) -> Option<usize> {
    value.strip_prefix(prefix)?.parse().ok()
}

fn module(value: &str) -> Option<ModuleSpec> {
    let mut fields = value.split(',');
    let spec = ModuleSpec {
        index: fields.next()?.parse().ok()?,
        offset: fields.next()?.parse().ok()?,
        size: fields.next()?.parse().ok()?,
    };
    fields.next().is_none().then_some(spec)
}

fn ramdisk(value: &str) -> Option<RamDiskSpec> {
    let mut fields = value.split(',');
    let spec = RamDiskSpec {
        index: fields.next()?.parse().ok()?,
        size: fields.next()?.parse().ok()?,
        latency: {
            let field = fields.next()?;
            field.strip_suffix("ns").unwrap_or(field).parse().ok()?
        },
        depth: fields.next()?.parse().ok().filter(|&depth| depth > 0)?,
        purpose: match fields.next()? {
            "swap" => RamDiskUse::Swap,
            "fs" => RamDiskUse::FileSystem,
            "raw" => RamDiskUse::Raw,
            _ => return None,
        },
        module: match fields.next()? {
            "-" => None,
            name => Some(numbered(name, "module")?),
        },
    };
    fields.next().is_none().then_some(spec)
}

/// Resolves `%41` and the like. The result must be UTF-8.
fn decode(value: &str) -> Result<String, BadWord> {
    let bad = || BadWord(value.into());
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || {
            rest.next()
                .and_then(|d| char::from(d).to_digit(16))
                .ok_or_else(bad)
        };
        bytes.push((digit()? * 16 + digit()?) as u8);
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_values() {
        let line =
            CommandLine::new("  icount exec=run%20/bin/a%20%22b%25%22 exec-not=1 root=module0 ");
        assert!(line.has("icount"));
        assert!(!line.has("exec"));
        assert_eq!(line.exec().unwrap().unwrap(), "run /bin/a \"b%\"");
        assert_eq!(line.root(), Ok(Root::Module(0)));
        assert_eq!(CommandLine::new("").root(), Ok(Root::Virtio(0)));
        assert_eq!(CommandLine::new("").exec(), Ok(None));
    }

    #[test]
    fn what_cannot_be_understood_is_named() {
        for line in [
            "exec=%4",
            "exec=%zz",
            "exec=%ff",
            "root=floppy",
            "root=virtio",
        ] {
            let line = CommandLine::new(line);
            assert!(line.exec().is_err() || line.root().is_err(), "{line:?}");
        }
        assert!(
            CommandLine::new("ramdisk=0,1,2,0,raw,-")
                .ramdisks()
                .is_err(),
            "depth 0"
        );
        assert!(CommandLine::new("ramdisk=0,1,2,1,raw").ramdisks().is_err());
        assert!(CommandLine::new("module=0,1").modules().is_err());
        assert!(CommandLine::new("module=0,1,2,3").modules().is_err());
    }

    #[test]
    fn swap_disks() {
        let line =
            CommandLine::new("swap=virtio2 root=virtio0 swap=ram0 swap=virtio swap=virtio1 swap");
        let swaps: Vec<_> = line.swaps().collect();
        assert_eq!(
            swaps,
            [
                Ok(2),
                Err(BadWord("ram0".into())),
                Err(BadWord("virtio".into())),
                Ok(1)
            ]
        );
        assert_eq!(line.more_disks(), 4);
        assert_eq!(CommandLine::new("swapper=virtio1").swaps().count(), 0);
    }

    #[test]
    fn disks_and_modules() {
        let line = CommandLine::new(
            "ramdisk=0,1048576,10000000,16,fs,module1 ramdisk=1,4096,0ns,1,swap,- module=1,8192,100",
        );
        assert_eq!(line.more_disks(), 2);
        assert_eq!(
            line.ramdisks().unwrap(),
            [
                RamDiskSpec {
                    index: 0,
                    size: 1 << 20,
                    latency: 10_000_000,
                    depth: 16,
                    purpose: RamDiskUse::FileSystem,
                    module: Some(1),
                },
                RamDiskSpec {
                    index: 1,
                    size: 4096,
                    latency: 0,
                    depth: 1,
                    purpose: RamDiskUse::Swap,
                    module: None,
                },
            ]
        );
        assert_eq!(
            line.modules().unwrap(),
            [ModuleSpec {
                index: 1,
                offset: 8192,
                size: 100
            }]
        );
    }
}
