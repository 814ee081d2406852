//! `--add HOSTPATH[:GUESTPATH]`: files of this machine that travel in the image.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where a file comes from and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Add {
    /// File or directory on this machine.
    pub host: PathBuf,
    /// Absolute path inside auvm, without a slash at its end.
    pub guest: String,
}

/// Why an `--add` could not be read from the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadAdd {
    /// Nothing there on this machine.
    NoSuchFile(PathBuf),
    /// The guest path holds `..`, or has no last part.
    GuestPath(String),
}

impl fmt::Display for BadAdd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadAdd::NoSuchFile(path) => write!(f, "there is no file {}", path.display()),
            BadAdd::GuestPath(path) => write!(f, "'{path}' is not a path of a file inside auvm"),
        }
    }
}

impl std::error::Error for BadAdd {}

impl FromStr for Add {
    type Err = BadAdd;

    fn from_str(text: &str) -> Result<Add, BadAdd> {
        // Guest paths are absolute, so a colon that belongs to the host path is not taken for the separator.
        let (host, guest) = match text.rfind(":/") {
            Some(colon) => (&text[..colon], &text[colon + 1..]),
            None => (text, "/data/"),
        };
        let host = PathBuf::from(host);
        if !host.exists() {
            return Err(BadAdd::NoSuchFile(host));
        }
        let mut guest: Vec<&str> = guest.split('/').collect();
        // A path such as `.` has no name of its own until it is resolved.
        let whole = host.canonicalize().unwrap_or_default();
        if guest.last() == Some(&"") {
            guest.pop();
            let name = host
                .file_name()
                .or(whole.file_name())
                .and_then(|name| name.to_str());
            guest.push(name.ok_or_else(|| BadAdd::GuestPath(text.to_owned()))?);
        }
        let parts: Vec<&str> = guest
            .into_iter()
            .filter(|part| !part.is_empty() && *part != ".")
            .collect();
        if parts.is_empty() || parts.contains(&"..") {
            return Err(BadAdd::GuestPath(text.to_owned()));
        }
        let guest = format!("/{}", parts.join("/"));
        Ok(Add { host, guest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_files_go() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("some:file.bin");
        std::fs::write(&file, "x").unwrap();
        let file = file.to_str().unwrap();
        for (text, guest) in [
            (file.to_owned(), "/data/some:file.bin"),
            (format!("{file}:/etc/motd"), "/etc/motd"),
            (format!("{file}:/ram0/"), "/ram0/some:file.bin"),
            (format!("{file}://a/./b"), "/a/b"),
        ] {
            assert_eq!(
                text.parse::<Add>().unwrap(),
                Add {
                    host: file.into(),
                    guest: guest.to_owned()
                }
            );
        }
    }

    #[test]
    fn bad_ones() {
        assert_eq!(
            "/nosuch/file".parse::<Add>().unwrap_err().to_string(),
            "there is no file /nosuch/file"
        );
        assert!(matches!(
            "/etc/passwd:/../x".parse::<Add>(),
            Err(BadAdd::GuestPath(_))
        ));
    }
}
