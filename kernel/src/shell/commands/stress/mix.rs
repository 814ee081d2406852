//! What `stress` runs: the parts of a mix, and the command lines of each.
//!
//! Plain data: which programs there are, how memory is shared out among those that take it, and what each part runs next.

use alloc::{format, string::String, vec::Vec};

/// Processes of each part that takes memory.
const HOGS: u64 = 4;
/// Pages of the file that a reader touches, at most: each is a read of its own.
const COLD_READS: u64 = 2000;

/// A part of a mix: one program after the other, beside the other parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Memory written and read in order.
    Sequential,
    /// Memory touched at random.
    Random,
    /// Memory of which some is touched far more often.
    Zipf,
    /// A working set that moves through memory.
    Moving,
    /// Shared memory.
    Shared,
    /// Processes that come and go, and share pages until they write.
    Fork,
    /// Mappings made, moved, protected and unmapped.
    Mmap,
    /// A file read and mapped.
    File,
}

use Part::{File, Fork, Mmap, Moving, Random, Sequential, Shared, Zipf};

/// What the command lines of all parts have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Bytes of memory of each part that takes memory.
    pub bytes: u64,
    /// The file that is read.
    pub file: String,
    /// Its size in bytes.
    pub file_size: u64,
}

impl Part {
    /// All of them, in the order in which they are shown.
    pub const ALL: &'static [Self] = &[Sequential, Random, Zipf, Moving, Shared, Fork, Mmap, File];

    /// As it is typed.
    pub const fn name(self) -> &'static str {
        match self {
            Sequential => "sequential",
            Random => "random",
            Zipf => "zipf",
            Moving => "moving",
            Shared => "shared",
            Fork => "fork",
            Mmap => "mmap",
            File => "file",
        }
    }

    /// Whether it takes its share of the memory asked for.
    pub const fn takes_memory(self) -> bool {
        matches!(self, Sequential | Random | Zipf | Moving | Shared)
    }

    /// How many command lines it has: it runs them in turn. Each prints the same whenever it is run.
    pub const fn lines(self) -> usize {
        match self {
            Fork | Mmap => 4,
            File => 2,
            _ => 1,
        }
    }

    /// The words of the command line that it runs as its `turn`th, from 0.
    pub fn line(self, turn: usize, scale: &Scale) -> Vec<String> {
        // Never 0, which some generators would take badly.
        let seed = turn + 1;
        let kib = (scale.bytes / HOGS / 1024).max(4);
        let hog = |options: &str| {
            format!("/bin/hog --procs {HOGS} --size {kib}k --seed {seed} --verify {options}")
        };
        let line = match (self, turn % self.lines()) {
            (Sequential, _) => hog("--pattern sequential --rounds 2"),
            (Random, _) => hog("--pattern random"),
            (Zipf, _) => hog("--pattern zipf --rounds 2"),
            (Moving, _) => hog("--pattern moving --rounds 2"),
            (Shared, _) => hog("--pattern random --shared"),
            (Fork, 0) => format!("/bin/hog --procs 32 --size 128k --seed {seed} --verify"),
            (Fork, 1) => "/programs/cow".into(),
            (Fork, 2) => "/programs/statuses".into(),
            (Fork, _) => "/programs/pipes".into(),
            (Mmap, 0) => "/programs/memory".into(),
            (Mmap, 1) => "/programs/remap".into(),
            (Mmap, 2) => "/programs/advice".into(),
            (Mmap, _) => "/programs/protect".into(),
            (File, turn) => {
                // A path may have blanks in it.
                let mut words: Vec<String> = match turn {
                    0 => ["/bin/busybox", "md5sum"].map(String::from).into(),
                    _ => [String::from("/programs/coldread")].into(),
                };
                words.push(scale.file.clone());
                if turn != 0 {
                    let pages = (scale.file_size / uvm::PAGE_SIZE as u64).min(COLD_READS);
                    words.extend([String::from("1"), format!("{pages}")]);
                }
                return words;
            }
        };
        line.split(' ').map(String::from).collect()
    }
}

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// How long programs are started.
    pub seconds: u64,
    /// Memory of all parts together, as a multiple of the machine's.
    pub factor: u64,
    /// The parts, each once.
    pub parts: Vec<Part>,
    /// The file to read, if one was named.
    pub file: Option<String>,
}

impl Request {
    /// Understands the words behind `stress`.
    ///
    /// # Errors
    /// The reason why it cannot.
    pub fn parse(args: &[String]) -> Result<Self, String> {
        let mut request = Self {
            seconds: 30,
            factor: 4,
            parts: Part::ALL.into(),
            file: None,
        };
        let mut words = args.iter().map(String::as_str);
        while let Some(option) = words.next() {
            let mut value = || {
                words
                    .next()
                    .ok_or_else(|| format!("{option} needs a value"))
            };
            match option {
                "--seconds" => request.seconds = number(option, value()?, 1_000_000)?,
                "--minutes" => request.seconds = 60 * number(option, value()?, 10_000)?,
                "--memory-factor" => request.factor = number(option, value()?, 64)?,
                "--mix" => request.parts = mix(value()?)?,
                "--file" => request.file = Some(value()?.into()),
                other => return Err(format!("there is no option {other}")),
            }
        }
        Ok(request)
    }

    /// Bytes of memory of all parts together, on a machine with `memory` bytes.
    pub fn bytes(&self, memory: u64) -> u64 {
        match self.takers() {
            0 => 0,
            _ => memory.saturating_mul(self.factor),
        }
    }

    /// How many parts take memory.
    pub fn takers(&self) -> u64 {
        self.parts.iter().filter(|part| part.takes_memory()).count() as u64
    }
}

fn number(option: &str, word: &str, most: u64) -> Result<u64, String> {
    match word.parse() {
        Ok(n) if (1..=most).contains(&n) => Ok(n),
        _ => Err(format!("{option} takes 1 to {most}, not `{word}`")),
    }
}

fn mix(list: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    for name in list.split(',') {
        match Part::ALL.iter().find(|part| part.name() == name) {
            Some(part) if parts.contains(part) => {}
            Some(part) => parts.push(*part),
            None => {
                return Err(format!(
                    "there is no part `{name}`; `help stress` lists them"
                ));
            }
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn parsed(line: &str) -> Result<Request, String> {
        let words: Vec<String> = line.split_whitespace().map(ToString::to_string).collect();
        Request::parse(&words)
    }

    #[test]
    fn options_in_any_order() {
        let all = parsed("").unwrap();
        assert_eq!((all.seconds, all.factor), (30, 4));
        assert_eq!(all.parts, Part::ALL);
        let some = parsed("--mix zipf,fork,zipf --minutes 2 --file /a --memory-factor 3").unwrap();
        assert_eq!((some.seconds, some.factor), (120, 3));
        assert_eq!(some.parts, [Zipf, Fork]);
        assert_eq!(some.file.as_deref(), Some("/a"));
        assert_eq!((some.takers(), some.bytes(10)), (1, 30));
        assert_eq!(parsed("--mix fork,file").unwrap().bytes(10), 0);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, part) in [
            ("--seconds", "needs a value"),
            ("--seconds 0", "not `0`"),
            ("--minutes -1", "not `-1`"),
            ("--memory-factor 1.5", "not `1.5`"),
            ("--mix hog", "no part `hog`"),
            ("--mix zipf,", "no part ``"),
            ("zipf", "no option zipf"),
        ] {
            let why = parsed(line).unwrap_err();
            assert!(why.contains(part), "{line}: {why}");
        }
    }

    #[test]
    fn every_part_has_its_share_and_turns() {
        let scale = Scale {
            bytes: 48 << 20,
            file: "/data/a b".into(),
            file_size: 1 << 20,
        };
        for part in Part::ALL {
            let lines: Vec<_> = (0..part.lines())
                .map(|turn| part.line(turn, &scale))
                .collect();
            let again = part.line(part.lines(), &scale);
            assert_eq!(again[0], lines[0][0], "{part:?}");
            if part.takes_memory() {
                assert!(lines[0].contains(&"12288k".to_string()), "{lines:?}");
                assert_ne!(again, lines[0], "another seed");
            }
        }
        assert_eq!(
            File.line(1, &scale),
            ["/programs/coldread", "/data/a b", "1", "256"]
        );
        assert_eq!(File.line(2, &scale)[2], "/data/a b");
    }
}
