//! What a child gets of a range: minherit(2), and what Linux's advice for fork makes of it.
//!
//! Owns nothing: an attribute of entries, changed under the map's write lock.

use crate::addr::VaRange;
use crate::map::{Inherit, MapEntry, VmError, VmSpace};

impl VmSpace {
    /// Sets what a child gets of a range. Awaits other modifiers.
    ///
    /// # Errors
    /// [`VmError::Unmapped`] if there is a hole in it, [`VmError::OutOfMemory`]. Nothing has changed then.
    pub async fn inherit(&self, range: VaRange, inherit: Inherit) -> Result<(), VmError> {
        self.change(range, |entry| entry.inherit = inherit).await
    }

    /// Has a child get of a range what it would have got had nothing been said: the same memory where it is shared, else a copy
    /// (MADV_DOFORK, MADV_KEEPONFORK). Awaits other modifiers.
    ///
    /// # Errors
    /// As [`Self::inherit`].
    pub async fn inherit_as_mapped(&self, range: VaRange) -> Result<(), VmError> {
        let as_mapped = |entry: &mut MapEntry| {
            entry.inherit = match entry.copy_on_write {
                true => Inherit::Copy,
                false => Inherit::Share,
            };
        };
        self.change(range, as_mapped).await
    }

    /// Has a child get zeroes for a range of private anonymous memory (MADV_WIPEONFORK). Awaits other modifiers.
    ///
    /// # Errors
    /// As [`Self::inherit`], and [`VmError::Invalid`] if part of it is something else.
    pub async fn inherit_zeroes(&self, range: VaRange) -> Result<(), VmError> {
        let _busy = self.map.busy.lock().await;
        let mut map = self.map.write();
        let (start, end) = (range.start().as_u64(), range.end().as_u64());
        map.covers(start, end, |entry| {
            match entry.copy_on_write && entry.object.is_none() {
                true => Ok(()),
                false => Err(VmError::Invalid),
            }
        })?;
        Ok(map.change(&self.uvm, start, end, |entry| entry.inherit = Inherit::Zero)?)
    }
}

#[cfg(test)]
mod tests {
    use crate::addr::{PAGE_SIZE, Pages, VaRange, VirtAddr};
    use crate::map::{Inherit, MapRequest, Placement, VmError};
    use crate::object::UvmObject;
    use crate::prot::Prot;
    use crate::sim::World;

    const AT: u64 = 0x1000_0000;

    fn range(from: u64, pages: usize) -> VaRange {
        VaRange::of_pages(VirtAddr::new(AT + from * PAGE_SIZE as u64), pages)
    }

    #[test]
    fn a_child_gets_what_was_said_last() {
        let world = World::new(512, 0);
        let space = world.space();
        let at = |page| Placement::Fixed(range(page, 1).start());
        let anonymous = MapRequest::anonymous(4 * PAGE_SIZE, Prot::RW);
        space.map(anonymous.clone().at(at(0))).unwrap();
        space.map(anonymous.shared().at(at(4))).unwrap();
        let object = UvmObject::anonymous(&world.uvm, Pages(2)).unwrap();
        let private = MapRequest::object(object, crate::PageIndex(0), 2 * PAGE_SIZE, Prot::RW);
        space.map(private.at(at(8))).unwrap();
        let program = world.program(&space);
        let child = world.run(async move {
            let space = program.space();
            program.touch(AT, 10, 7).await.unwrap();
            // Only private anonymous memory can be wiped, and all or nothing is.
            for wrong in [range(3, 2), range(8, 1)] {
                assert_eq!(space.inherit_zeroes(wrong).await, Err(VmError::Invalid));
            }
            assert_eq!(
                space.inherit_zeroes(range(9, 2)).await,
                Err(VmError::Invalid)
            );
            space.inherit_zeroes(range(1, 2)).await.unwrap();
            space.inherit(range(2, 7), Inherit::None).await.unwrap();
            space.inherit_as_mapped(range(3, 6)).await.unwrap();
            assert_eq!(
                space.inherit_as_mapped(range(0, 11)).await,
                Err(VmError::Unmapped)
            );
            program.space().fork().await.unwrap()
        });
        let (parent, program) = (world.program(&space), world.program(&child));
        world.run(async move {
            let page = |n: u64| AT + n * PAGE_SIZE as u64;
            assert_eq!(program.peek(AT, 2).await.unwrap(), [7, 0]);
            assert!(program.load(page(2)).await.is_err());
            assert_eq!(program.peek(page(3), 7).await.unwrap(), [7; 7]);
            program.touch(page(3), 7, 8).await.unwrap();
            let seen = parent.peek(AT, 10).await.unwrap();
            assert_eq!(seen, [7, 7, 7, 7, 8, 8, 8, 8, 7, 7]);
            program.space().deactivate();
            parent.space().deactivate();
        });
        drop((child, space));
        world.check_quiet();
    }
}
