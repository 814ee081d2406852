//! Stacks: mappings that grow down when something below them is touched.
//!
//! Owns nothing. An entry with the role of a stack grows under the map's write lock, in the fault that found nothing mapped; its amap
//! has slots numbered in advance for that, so that it stays one entry. Where they are used up, or others show the amap
//! as well (a child that has grown its own copy), the stack goes on in a new entry. Where it is wired, what
//! is new is an entry of its own until it is wired, too.

use crate::addr::{PAGE_SIZE, VaRange, VirtAddr, trunc_page};
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
    /// It is. What this call has let a wired stack grow by is to be wired ([`VmSpace::wire_growth`]).
    Yes(Option<VaRange>),
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
            return Ok(Grown::Yes(None));
        }
        let Role::Stack { top } = stack.role else {
            return Ok(Grown::No);
        };
        let more = stack.start - start;
        let wired = stack.wired > 0;
        let locked = if wired { more } else { 0 };
        let fits = start >= USER_MIN
            && top.address() - start <= limits.stack
            && map.size + more <= limits.address_space
            && map.locked + locked <= limits.locked.max(map.locked)
            && map.is_far_from_below(start);
        if !fits {
            return Ok(Grown::No);
        }
        let new = VaRange::new(VirtAddr::new(start), VirtAddr::new(stack.start));
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
        Ok(Grown::Yes(wired.then_some(new)))
    }

    /// How often the stack above `growth` is wired, if that is part of it and not wired.
    fn unwired_growth(&self, growth: VaRange) -> Option<u16> {
        let map = self.map.read();
        let (start, end) = (growth.start().as_u64(), growth.end().as_u64());
        let entry = self.map.lookup(&map, start)?;
        let stack = map.tree.find(end)?.value();
        let is_part = entry.role == stack.role && entry.end >= end && entry.wired == 0;
        (is_part && stack.wired > 0).then_some(stack.wired)
    }

    /// Wires what a wired stack has grown by. Awaits other modifiers, and what wiring awaits. What cannot be wired is there all the same,
    /// as on Linux: that a stack grows is not known to fail for that. Nor is it when another thread lets it grow again before this has
    /// begun: what that adds lies below something that is not wired.
    pub(crate) async fn wire_growth(&self, growth: VaRange) {
        let _busy = self.map.busy.lock().await;
        if let Some(times) = self.unwired_growth(growth) {
            self.wire_more(growth, times).await;
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
