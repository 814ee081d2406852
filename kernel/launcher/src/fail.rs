//! Pages of a disk that cannot be read, or not written: `DISK:read|write:FIRST[-LAST]`, carried out by QEMU's blkdebug.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::swap::PAGE;

/// Most pages of one `--fail`: each is a rule of its own on QEMU's command line.
pub const MAX_PAGES: u64 = 512;

/// Bytes of what blkdebug counts in.
const SECTOR: u64 = 512;

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Reads.
    Read,
    /// Writes.
    Write,
}

/// One `--fail`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fail {
    /// The disk, as the guest numbers its virtio disks.
    pub disk: usize,
    /// What fails there.
    pub what: Direction,
    /// The pages of 4 KiB, counted from 0.
    pub pages: RangeInclusive<u64>,
}

/// Why a `--fail` could not be read from the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadFail {
    /// It is not of the form.
    Form,
    /// The disk is no virtio disk.
    Disk(String),
    /// Neither `read` nor `write`.
    Direction(String),
    /// The pages are no numbers, or the last comes before the first.
    Pages(String),
    /// More than [`MAX_PAGES`].
    TooMany,
}

impl fmt::Display for BadFail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadFail::Form => f.write_str("expected DISK:read|write:FIRST[-LAST]"),
            BadFail::Disk(disk) => write!(f, "expected a disk such as virtio1, not '{disk}'"),
            BadFail::Direction(word) => write!(f, "expected 'read' or 'write', not '{word}'"),
            BadFail::Pages(pages) => write!(f, "expected pages such as 20 or 20-29, not '{pages}'"),
            BadFail::TooMany => write!(f, "at most {MAX_PAGES} pages"),
        }
    }
}

impl std::error::Error for BadFail {}

impl FromStr for Fail {
    type Err = BadFail;

    fn from_str(text: &str) -> Result<Fail, BadFail> {
        let mut parts = text.split(':');
        let (Some(disk), Some(what), Some(pages), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(BadFail::Form);
        };
        let number = disk.strip_prefix("virtio").and_then(|n| n.parse().ok());
        let disk = number.ok_or_else(|| BadFail::Disk(disk.to_owned()))?;
        let what = match what {
            "read" => Direction::Read,
            "write" => Direction::Write,
            word => return Err(BadFail::Direction(word.to_owned())),
        };
        let (first, last) = pages.split_once('-').unwrap_or((pages, pages));
        // Counted in bytes they have to fit as well.
        let page = |text: &str| text.parse().ok().filter(|&n: &u64| n < u64::MAX / PAGE);
        let pages = match (page(first), page(last)) {
            (Some(first), Some(last)) if first <= last => first..=last,
            _ => return Err(BadFail::Pages(pages.to_owned())),
        };
        if pages.end() - pages.start() >= MAX_PAGES {
            return Err(BadFail::TooMany);
        }
        Ok(Fail { disk, what, pages })
    }
}

/// The part of QEMU's `-drive` that names the file, so that what `fails` says of disk `disk` comes true: `file` is the file's name as it
/// stands in such a list.
pub fn drive(disk: usize, file: &str, fails: &[Fail]) -> String {
    let fails: Vec<_> = fails.iter().filter(|fail| fail.disk == disk).collect();
    if fails.is_empty() {
        return format!("file={file}");
    }
    let mut text =
        format!("file.driver=blkdebug,file.image.driver=file,file.image.filename={file}");
    let pages = fails
        .iter()
        .flat_map(|fail| fail.pages.clone().map(|page| (page, fail.what)));
    for (rule, (page, what)) in pages.enumerate() {
        let sector = page * (PAGE / SECTOR);
        let what = match what {
            Direction::Read => "read",
            Direction::Write => "write",
        };
        let rule = format!("file.inject-error.{rule}");
        text += &format!(",{rule}.event=none,{rule}.iotype={what},{rule}.sector={sector}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_read() {
        let fail = |text: &str| text.parse::<Fail>();
        assert_eq!(
            fail("virtio1:read:20"),
            Ok(Fail {
                disk: 1,
                what: Direction::Read,
                pages: 20..=20
            })
        );
        assert_eq!(fail("virtio0:write:0-511").unwrap().pages, 0..=511);
        for (text, why) in [
            ("", "expected DISK:read|write:FIRST[-LAST]"),
            ("virtio1:read:1:2", "expected DISK:read|write:FIRST[-LAST]"),
            ("ram0:read:1", "expected a disk such as virtio1, not 'ram0'"),
            ("virtio1:erase:1", "expected 'read' or 'write', not 'erase'"),
            (
                "virtio1:read:9-8",
                "expected pages such as 20 or 20-29, not '9-8'",
            ),
            (
                "virtio1:read:18446744073709551615",
                "expected pages such as 20 or 20-29, not '18446744073709551615'",
            ),
            ("virtio1:read:0-512", "at most 512 pages"),
        ] {
            assert_eq!(fail(text).unwrap_err().to_string(), why, "{text}");
        }
    }

    #[test]
    fn each_page_is_a_rule() {
        let fails = ["virtio1:read:2-3", "virtio2:read:9", "virtio1:write:7"];
        let fails = fails.map(|text| text.parse().unwrap());
        assert_eq!(drive(0, "f", &fails), "file=f");
        let text = drive(1, "f", &fails);
        assert!(text.contains("file.image.filename=f,"), "{text}");
        for rule in [
            "0.event=none,file.inject-error.0.iotype=read,file.inject-error.0.sector=16",
            "1.event=none,file.inject-error.1.iotype=read,file.inject-error.1.sector=24",
            "2.event=none,file.inject-error.2.iotype=write,file.inject-error.2.sector=56",
        ] {
            assert!(text.contains(rule), "{text}");
        }
        assert_eq!(text.matches(".sector=").count(), 3, "{text}");
    }
}
