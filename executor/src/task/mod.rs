//! Tasks: their states, their memory, their wakers.
//!
//! ```text
//!              spawn
//!                | queue
//!                v            start             finish
//!         +--> scheduled ----------> running -----------> done <--+
//!         |      ^  ^                | ^  |                       |
//!   queue |      |  |  suspend+queue | |  | wake                  | finish
//!         |      |  +------------+   | |  v                       |
//!         | wake |               +-- running and woken -----------+
//!         |      |                   |
//!         +---- idle <---------------+
//!                       suspend
//! ```
//!
//! - **idle**: waits for a wake; in no queue.
//! - **scheduled**: in exactly one ready queue, put there by whoever made this step. A wake changes
//!   nothing.
//! - **running**: one CPU polls it. A wake makes it *running and woken*.
//! - **running and woken**: when that poll returns `Pending`, the CPU schedules it again. So a wake
//!   between the future's last look and the end of its poll is not lost.
//! - **done**: the future is gone and its output stored for the join handle. A wake changes nothing.
//!
//! A task is one allocation: the [`Header`], then the future, whose place the output takes. The state
//! shares its word with a reference count. References belong to the executor (from spawn until done),
//! to the join handle, and to each waker. Standing in a queue needs none: a queued task is not done.
//! Memory is freed by the last reference, hence never by an interrupt handler, which only borrows
//! wakers.

mod cell;
mod header;
mod join;
mod list;
mod name;
mod state;
mod stats;

pub(crate) use cell::allocate;
pub use cell::task_bytes;
pub(crate) use header::{Header, awaits};
pub use join::JoinHandle;
pub(crate) use list::TaskList;
pub use name::Name;
pub use state::State;
#[cfg(all(test, loom))]
pub(crate) use state::{StateWord, Suspended, Woken};
#[cfg(all(test, loom))]
pub(crate) use stats::Awaiting;
pub(crate) use stats::add;
