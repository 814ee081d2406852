//! What a page holds, in the model: bytes of its own, or what lies below it, seen by one address space or by several.
//!
//! Of each page a few bytes are remembered, at [`SAMPLES`]; what nobody can know is `None`.

use alloc::sync::Arc;
use std::sync::Mutex;

use crate::addr::PAGE_SIZE;
use crate::sim::disk::SimFile;
use crate::testing::GARBAGE;

/// Offsets in a page that are looked at: its ends, and both sides of a 1 KiB block's border.
pub const SAMPLES: [usize; 4] = [0, 1023, 1024, PAGE_SIZE - 1];

/// The sampled bytes of a page; `None` where the order of concurrent operations decides.
pub type Bytes = [Option<u8>; SAMPLES.len()];

const ZEROES: Bytes = [Some(0); SAMPLES.len()];
const UNKNOWN: Bytes = [None; SAMPLES.len()];

/// A page of an object that several address spaces map.
type ObjectPage = Arc<Mutex<Bytes>>;

/// What anonymous memory hides.
#[derive(Clone)]
enum Below {
    Zeroes,
    File(Bytes),
    Object(ObjectPage),
}

/// Whether there is anonymous memory.
#[derive(Clone)]
enum Top {
    /// Not that it would matter.
    None,
    /// Surely.
    Anon(Bytes),
    /// Perhaps.
    Unsure,
}

/// A page of a private mapping, or what several show of one.
#[derive(Clone)]
pub struct View {
    below: Below,
    top: Top,
    /// How often it was changed.
    changes: u32,
    /// Operations that may be changing it now.
    churning: u32,
    /// Somebody may have wired it: then it is not given up, whoever asks.
    wired: bool,
}

/// A page's contents.
#[derive(Clone)]
pub enum Content {
    /// Seen by one address space.
    Private(View),
    /// Seen by several, by inheritance.
    Shared(Arc<Mutex<View>>),
    /// An object's page itself.
    Object(ObjectPage),
    /// A file's page, which nobody may store to.
    File(Bytes),
    /// A device's page: shared like an object's, but never copied.
    Device(ObjectPage),
    /// Past the end of the object.
    Beyond,
}

impl View {
    const fn of(below: Below) -> Self {
        Self {
            below,
            top: Top::None,
            changes: 0,
            churning: 0,
            wired: false,
        }
    }

    fn bytes(&self) -> Bytes {
        match (&self.top, &self.below) {
            _ if self.churning > 0 => UNKNOWN,
            (Top::Anon(bytes), _) | (Top::None, Below::File(bytes)) => *bytes,
            (Top::Unsure, _) => UNKNOWN,
            (Top::None, Below::Zeroes) => ZEROES,
            (Top::None, Below::Object(page)) => *page.lock().expect("not poisoned"),
        }
    }

    fn put(&mut self, top: Top) {
        self.top = top;
        self.changes += 1;
    }

    fn copy(&self) -> Self {
        Self {
            top: if self.churning > 0 {
                Top::Unsure
            } else {
                self.top.clone()
            },
            churning: 0,
            wired: false,
            ..self.clone()
        }
    }
}

impl Content {
    /// Private zeroes.
    #[must_use]
    pub const fn zeroes() -> Self {
        Self::Private(View::of(Below::Zeroes))
    }

    /// Page `index` of a file of `size` bytes.
    #[must_use]
    pub fn of_file(file: &SimFile, size: u64, index: u64) -> Self {
        let start = index * PAGE_SIZE as u64;
        if start >= size {
            return Self::Beyond;
        }
        // What the last page has after the end is zero.
        let byte = |at| match start + at {
            n if n < size => Some(file.byte(n)),
            _ => Some(0),
        };
        Self::File(SAMPLES.map(|at| byte(at as u64)))
    }

    /// Shared zeroes.
    #[must_use]
    pub fn shared() -> Self {
        Self::zeroes().shareable()
    }

    /// A new object's page: zeroes.
    #[must_use]
    pub fn object() -> Self {
        Self::Object(Arc::new(Mutex::new(ZEROES)))
    }

    /// A page of a device, full of what it happens to hold.
    #[must_use]
    pub fn device() -> Self {
        Self::Device(Arc::new(Mutex::new([Some(GARBAGE); SAMPLES.len()])))
    }

    /// Whether it is a device's page.
    #[must_use]
    pub const fn is_device(&self) -> bool {
        matches!(self, Self::Device(_))
    }

    /// What a private mapping of the same memory shows; a device's memory has none, and is shared.
    #[must_use]
    pub fn private(&self) -> Self {
        match self {
            Self::Private(view) => Self::Private(view.copy()),
            Self::Shared(view) => Self::Private(view.lock().expect("not poisoned").copy()),
            Self::Object(page) => Self::Private(View::of(Below::Object(page.clone()))),
            Self::File(bytes) => Self::Private(View::of(Below::File(*bytes))),
            Self::Device(page) => Self::Device(page.clone()),
            Self::Beyond => Self::Beyond,
        }
    }

    /// The same memory, to be shared with children.
    #[must_use]
    pub fn shareable(self) -> Self {
        match self {
            Self::Private(view) => Self::Shared(Arc::new(Mutex::new(view))),
            other => other,
        }
    }

    fn with_view<T>(&mut self, f: impl FnOnce(&mut View) -> T) -> Option<T> {
        match self {
            Self::Private(view) => Some(f(view)),
            Self::Shared(view) => Some(f(&mut view.lock().expect("not poisoned"))),
            Self::Object(_) | Self::File(_) | Self::Device(_) | Self::Beyond => None,
        }
    }

    fn look<T>(&self, f: impl FnOnce(&View) -> T) -> Option<T> {
        match self {
            Self::Private(view) => Some(f(view)),
            Self::Shared(view) => Some(f(&view.lock().expect("not poisoned"))),
            Self::Object(_) | Self::File(_) | Self::Device(_) | Self::Beyond => None,
        }
    }

    /// What is seen.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        match self {
            Self::Object(page) | Self::Device(page) => *page.lock().expect("not poisoned"),
            Self::File(bytes) => *bytes,
            _ => self.look(View::bytes).unwrap_or(UNKNOWN),
        }
    }

    /// How often anonymous memory was changed.
    #[must_use]
    pub fn changes(&self) -> u32 {
        self.look(|view| view.changes).unwrap_or(0)
    }

    /// Whether somebody may be changing it now.
    #[must_use]
    pub fn is_churning(&self) -> bool {
        self.look(|view| view.churning > 0).unwrap_or(false)
    }

    /// Whether it is anonymous memory: surely, and perhaps.
    #[must_use]
    pub fn is_anonymous(&self) -> (bool, bool) {
        self.look(|view| match view.top {
            _ if view.churning > 0 => (false, true),
            Top::None => (false, false),
            Top::Unsure => (false, true),
            Top::Anon(_) => (true, true),
        })
        .unwrap_or((false, false))
    }

    /// Whether several show it, by inheritance.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        matches!(self, Self::Shared(_))
    }

    /// Whether nothing but zeroes lies below.
    #[must_use]
    pub fn is_over_zeroes(&self) -> bool {
        self.look(|view| matches!(view.below, Below::Zeroes))
            .unwrap_or(false)
    }

    /// A store.
    pub fn set(&mut self, sample: usize, byte: u8) {
        if let Self::Object(page) | Self::Device(page) = self {
            page.lock().expect("not poisoned")[sample] = Some(byte);
            return;
        }
        self.with_view(|view| {
            let mut bytes = view.bytes();
            bytes[sample] = Some(byte);
            view.put(Top::Anon(bytes));
        });
    }

    /// It is wired, and so becomes anonymous memory with what is seen now.
    pub fn own(&mut self) {
        self.with_view(|view| {
            view.wired = true;
            if !matches!(view.top, Top::Anon(_)) {
                view.put(Top::Anon(view.bytes()));
            }
        });
    }

    /// It becomes anonymous memory that holds `bytes`.
    pub fn replace(&mut self, bytes: Bytes) {
        self.with_view(|view| view.put(Top::Anon(bytes)));
    }

    /// Nobody knows what it is.
    pub fn forget(&mut self) {
        self.with_view(|view| view.put(Top::Unsure));
    }

    /// It may become anonymous memory at any time from now on: which bytes of the object below it has then, nobody can tell.
    pub fn blur(&mut self) {
        self.with_view(|view| {
            view.wired = true;
            if matches!((&view.top, &view.below), (Top::None, Below::Object(_))) {
                view.put(Top::Unsure);
            }
        });
    }

    /// Its anonymous memory may be given up at any time from now on. Returns what [`Self::discarded`] wants to know.
    pub fn discarding(&mut self) -> u32 {
        self.with_view(|view| {
            view.churning += 1;
            view.changes
        })
        .unwrap_or(0)
    }

    /// That is over, and `done` if it is certain. What was stored meanwhile may be lost or not.
    pub fn discarded(&mut self, changes: u32, done: Discarded) {
        let shared = self.is_shared();
        self.with_view(|view| {
            view.churning -= 1;
            let done = match done {
                Discarded::Surely if shared && view.wired => Discarded::Perhaps,
                done => done,
            };
            match done {
                Discarded::Not if view.changes == changes && view.churning == 0 => {}
                Discarded::Surely if view.changes == changes && view.churning == 0 => {
                    view.put(Top::None);
                }
                _ => view.put(Top::Unsure),
            }
        });
    }
}

/// Whether anonymous memory was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discarded {
    /// Yes.
    Surely,
    /// No.
    Not,
    /// Nobody knows.
    Perhaps,
}
