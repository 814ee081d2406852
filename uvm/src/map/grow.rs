//! Stacks: mappings that grow down when something below them is touched.
//!
//! Owns nothing. An entry with the role of a stack grows under the map's write lock, in the fault that found nothing mapped; its amap
//! has slots numbered in advance for that, so that it stays one entry. Where they are used up, or others show the amap
//! as well (a child that has grown its own copy), the stack goes on in a new entry. Where it is wired, what
//! is new is an entry of its own until it is wired, too.

use crate::addr::{PAGE_SIZE, VaRange, trunc_page};
use crate::map::entry::Role;
use crate::map::{MapEntry, MapInner, USER_MIN, VmSpace};
use crate::pool::OutOfMemory;

/// Bytes that stay free between a stack and what lies below it, so that neither is mistaken for the other.
pub(crate) const STACK_GAP: u64 = 256 * PAGE_SIZE as u64;

/// Slots in the amap of a new stack: as many as three levels of its array hold (16 MiB), the room to grow into included.
const STACK_SLOTS: u64 = 4096;

/// Whether something is mapped now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grown {
    /// It is.
    Yes,
    /// There is no stack above, or it may not grow so far.
    No,
}

impl VmSpace {
    /// Lets the stack above `va`, if there is one, grow down to it: up to its limit and that of the address space, and not closer
    /// than [`STACK_GAP`] to what lies below, unless that allows no access (a guard page) or is a stack itself. Never waits.
    ///
    /// # Errors
    /// [`OutOfMemory`]; nothing has changed.
    #[cold]
    #[inline(never)]
    pub(crate) fn grow_stack(&self, va: u64) -> Result<Grown, OutOfMemory> {
        let start = trunc_page(va);
        let limits = self.limits();
        let mut map = self.map.write();
        let Some(stack) = map.tree.from(start) else {
            return Ok(Grown::No);
        };
        if stack.start <= start {
            // Another thread of the program was faster.
            return Ok(Grown::Yes);
        }
        let Role::Stack { top } = stack.role else {
            return Ok(Grown::No);
        };
        let more = stack.start - start;
        let locked = if stack.wired > 0 { more } else { 0 };
        let fits = start >= USER_MIN
            && top - start <= limits.stack
            && map.size + more <= limits.address_space
            && map.locked + locked <= limits.locked.max(map.locked)
            && map.is_far_from_below(start);
        if !fits {
            return Ok(Grown::No);
        }
        let grown = MapEntry {
            start,
            end: stack.start,
            needs_copy: true,
            wired: 0,
            wired_to: 0,
            ..stack.bare()
        };
        map.insert(&self.uvm, grown)?;
        map.adopt(&self.uvm, start);
        Ok(Grown::Yes)
    }

    /// The mapping at `va`, if a wired stack has grown by it and it is not wired yet, and how often that is wired.
    pub(crate) fn unwired_growth(&self, va: u64) -> Option<(VaRange, u16)> {
        let map = self.map.read();
        let entry = self.map.lookup(&map, va)?;
        if entry.role == Role::Plain || entry.wired > 0 {
            return None;
        }
        let stack = map.tree.find(entry.end)?.value();
        (stack.role == entry.role && stack.wired > 0).then(|| (entry.range(), stack.wired))
    }

    /// Wires what a wired stack has grown by. Awaits other modifiers, and what wiring awaits. What cannot be wired is there all the same,
    /// as on Linux: that a stack grows is not known to fail for that.
    pub(crate) async fn wire_growth(&self, va: u64) {
        let _busy = self.map.busy.lock().await;
        if let Some((range, times)) = self.unwired_growth(va) {
            self.wire_more(range, times).await;
        }
    }
}

impl MapInner {
    /// Whether a stack may begin at `start`, for all that lies below.
    fn is_far_from_below(&self, start: u64) -> bool {
        self.tree.before(start).is_none_or(|below| {
            start - below.end >= STACK_GAP
                || below.prot.is_empty()
                || matches!(below.role, Role::Stack { .. })
        })
    }
}

impl MapEntry {
    /// Slots to leave free before the first in a new amap for this entry.
    pub(crate) fn room_below(&self) -> u64 {
        match self.role {
            Role::Stack { .. } => self.pages().next_multiple_of(STACK_SLOTS) - self.pages(),
            Role::Plain | Role::Reserved => 0,
        }
    }
}
