//! What a range is expected to be used for, and what a child gets of it.
//!
//! Owns nothing: attributes of entries, changed under the map's write lock.

use crate::addr::VaRange;
use crate::map::{Advice, Inherit, MapEntry, VmError, VmSpace};

impl VmSpace {
    /// Sets the expected use of a range. Awaits other modifiers.
    ///
    /// # Errors
    /// [`VmError::Unmapped`] if there is a hole in it, [`VmError::OutOfMemory`].
    pub async fn advise(&self, range: VaRange, advice: Advice) -> Result<(), VmError> {
        self.change(range, |entry| entry.advice = advice).await
    }

    /// Sets what a child gets of a range. Awaits other modifiers.
    ///
    /// # Errors
    /// As [`Self::advise`].
    pub async fn inherit(&self, range: VaRange, inherit: Inherit) -> Result<(), VmError> {
        self.change(range, |entry| entry.inherit = inherit).await
    }

    async fn change(&self, range: VaRange, f: impl FnMut(&mut MapEntry)) -> Result<(), VmError> {
        let _busy = self.map.busy.lock().await;
        let mut map = self.map.write();
        let (start, end) = (range.start().as_u64(), range.end().as_u64());
        map.covers(start, end, |_| Ok(()))?;
        Ok(map.change(&self.uvm, start, end, f)?)
    }
}
