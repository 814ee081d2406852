//! The archive that Linux unpacks into its first file system: the "newc" form of cpio.
//!
//! As in Linux's `Documentation/driver-api/early-userspace/buffer-format.rst`: a header of hexadecimal digits, the name, the content, each
//! padded to 4 bytes.

/// The first process's user, and the owner of everything.
const ROOT: u32 = 0;

/// An archive in the making. Directories must be added before what is in them.
#[derive(Clone, Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

/// Major and minor number of a device.
pub type Device = (u32, u32);

impl Archive {
    /// Adds a directory.
    pub fn directory(&mut self, name: &str) {
        self.entry(name, 0o040_755, (0, 0), b"");
    }

    /// Adds a file that may be executed.
    pub fn file(&mut self, name: &str, content: &[u8]) {
        self.entry(name, 0o100_755, (0, 0), content);
    }

    /// Adds a character device.
    pub fn device(&mut self, name: &str, device: Device) {
        self.entry(name, 0o020_600, device, b"");
    }

    /// The whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), b"");
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, (major, minor): Device, content: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(content.len()).expect("files of 4 GiB are not for this archive");
        let name = name.trim_start_matches('/');
        let links = 1;
        // Inode, mode, user, group, links, time, size, device, device of a node, length of the name, checksum.
        let header = [
            self.entries,
            mode,
            ROOT,
            ROOT,
            links,
            0,
            size,
            0,
            0,
            major,
            minor,
            name.len() as u32 + 1,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in header {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        let length = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(length, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_of_one_file_byte_by_byte() {
        let mut archive = Archive::default();
        archive.file("/a", b"hello");
        let bytes = archive.finish();
        let text = String::from_utf8_lossy(&bytes);
        let header = "070701".to_owned()
            + "00000001"
            + "000081ed"
            + "00000000"
            + "00000000"
            + "00000001"
            + "00000000"
            + "00000005"
            + "00000000"
            + "00000000"
            + "00000000"
            + "00000000"
            + "00000002"
            + "00000000";
        assert!(text.starts_with(&header), "{text}");
        // 110 and 2 are 112; 5 more and 3 of padding are 120.
        assert_eq!(&bytes[110..120], b"a\0hello\0\0\0");
        assert_eq!(&bytes[120..126], b"070701");
        assert!(text.contains("TRAILER!!!"));
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn devices_have_numbers() {
        let mut archive = Archive::default();
        archive.device("/dev/console", (5, 1));
        let text = String::from_utf8(archive.finish()).unwrap();
        assert_eq!(&text[14..22], "00002180");
        assert_eq!(&text[78..94], "0000000500000001");
    }
}
