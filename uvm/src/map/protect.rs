//! What a range allows.
//!
//! Owns nothing. Only takes rights away from translations; what is new is entered by the faults that ask for it.

use crate::addr::VaRange;
use crate::map::{VmError, VmSpace};
use crate::prot::Prot;

impl VmSpace {
    /// Sets what a range allows. Awaits other modifiers.
    ///
    /// # Errors
    /// [`VmError::Unmapped`] if there is a hole in it, [`VmError::Protection`] beyond a maximum protection,
    /// [`VmError::OutOfMemory`]. Nothing has changed then.
    pub async fn protect(&self, range: VaRange, prot: Prot) -> Result<(), VmError> {
        let _busy = self.map.busy.lock().await;
        let mut map = self.map.write();
        let (start, end) = (range.start().as_u64(), range.end().as_u64());
        map.covers(start, end, |entry| match entry.max_prot.contains(prot) {
            true => Ok(()),
            false => Err(VmError::Protection),
        })?;
        map.change(&self.uvm, start, end, |entry| entry.prot = prot)?;
        // Only takes rights away: what is new is entered by the faults that ask for it, which know about copies.
        self.pmap.protect(&self.uvm, range, prot);
        self.pmap.update(&self.uvm);
        Ok(())
    }
}
