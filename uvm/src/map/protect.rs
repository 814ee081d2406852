//! What a range allows.
//!
//! Owns nothing. Only takes rights away from translations; what is new is entered by the faults that ask for it, but for wired pages,
//! which shall not fault.

use core::sync::atomic::Ordering::Relaxed;

use crate::addr::VaRange;
use crate::map::wire::Scope;
use crate::map::{MapInner, VmError, VmSpace};
use crate::prot::Prot;

/// Whether a range is mapped without holes and may allow `prot`.
fn may_allow(map: &MapInner, range: VaRange, prot: Prot) -> Result<(), VmError> {
    let (start, end) = (range.start().as_u64(), range.end().as_u64());
    map.covers(start, end, |entry| match entry.max_prot.contains(prot) {
        true => Ok(()),
        false => Err(VmError::Protection),
    })
}

impl VmSpace {
    /// Sets what a range allows. Wires what allowed nothing before, if the space wires what is mapped ([`Self::mlockall`]). Awaits other
    /// modifiers; to wire, as [`Self::mlock`] does.
    ///
    /// # Errors
    /// [`VmError::Unmapped`] if there is a hole in it, [`VmError::Protection`] beyond a maximum protection,
    /// [`VmError::OutOfMemory`]; what [`Self::mlock`] answers if it cannot be wired. Nothing has changed then.
    pub async fn protect(&self, range: VaRange, prot: Prot) -> Result<(), VmError> {
        let _busy = self.map.busy.lock().await;
        let wires = self.wires_future.load(Relaxed) && !prot.is_empty();
        if wires {
            // First, because it may fail; nobody sees it while nothing is allowed.
            may_allow(&self.map.read(), range, prot)?;
            self.mark(range, Scope::Hidden)?;
            self.wire_marked(range).await?;
        }
        let changed = self.set_prot(range, prot);
        if changed.is_err() {
            // Only what has been marked for it above.
            self.unwire(range).await;
        }
        changed?;
        self.show_wired(range).await;
        Ok(())
    }

    fn set_prot(&self, range: VaRange, prot: Prot) -> Result<(), VmError> {
        let mut map = self.map.write();
        let (start, end) = (range.start().as_u64(), range.end().as_u64());
        may_allow(&map, range, prot)?;
        map.change(&self.uvm, start, end, |entry| {
            entry.prot = prot;
            if let Some(object) = entry.object.as_ref().filter(|_| prot.contains(Prot::EXEC)) {
                object.mark_text(&self.uvm);
            }
        })?;
        map.count_marked(&self.uvm, start, end);
        // Only takes rights away: what is new is entered by the faults that ask for it, which know about copies.
        self.pmap.protect(&self.uvm, range, prot);
        self.pmap.update(&self.uvm);
        Ok(())
    }
}
