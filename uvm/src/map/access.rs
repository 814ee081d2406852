//! A space's memory from outside: reading and writing it, for exec, debuggers, tests; and where a word of it lies, for futexes.
//!
//! Owns nothing. A page is faulted in like any program does it, held, and looked up once more under the map lock.

use crate::addr::{PAGE_SHIFT, PAGE_SIZE, VirtAddr};
use crate::fault::FaultError;
use crate::map::{MapEntry, VmSpace};
use crate::object::PageHold;
use crate::page::PageAttrs;
use crate::prot::Access;

impl VmSpace {
    /// Copies bytes out of the space from `va` on, wherever it is not active: for exec, debuggers, tests.
    ///
    /// # Errors
    /// [`FaultError`] of the first page that cannot be read; `out` is filled up to there.
    pub async fn read_bytes(&self, va: VirtAddr, out: &mut [u8]) -> Result<(), FaultError> {
        let mut done = 0;
        while done < out.len() {
            let at = va
                .as_u64()
                .checked_add(done as u64)
                .ok_or(FaultError::NoMapping)?;
            let within = at as usize % PAGE_SIZE;
            let n = (PAGE_SIZE - within).min(out.len() - done);
            let part = &mut out[done..done + n];
            self.with_page(at, Access::Read, |bytes| bytes.read(within, part))
                .await?;
            done += n;
        }
        Ok(())
    }

    /// Copies `data` into the space at `va`, as if a thread of it wrote.
    ///
    /// # Errors
    /// [`FaultError`] of the first page that cannot be written; all before it is.
    pub async fn write_bytes(&self, va: VirtAddr, data: &[u8]) -> Result<(), FaultError> {
        let mut done = 0;
        while done < data.len() {
            let at = va
                .as_u64()
                .checked_add(done as u64)
                .ok_or(FaultError::NoMapping)?;
            let within = at as usize % PAGE_SIZE;
            let n = (PAGE_SIZE - within).min(data.len() - done);
            let part = &data[done..done + n];
            self.with_page(at, Access::Write, |bytes| bytes.write(within, part))
                .await?;
            done += n;
        }
        Ok(())
    }

    /// Faults the page at `va` in until it is mapped for `access`, and works on it while it is held.
    async fn with_page(
        &self,
        va: u64,
        access: Access,
        mut f: impl FnMut(crate::phys::PageBytes),
    ) -> Result<(), FaultError> {
        let va =
            VirtAddr::try_new(crate::addr::trunc_page(va)).map_err(|_| FaultError::NoMapping)?;
        loop {
            let mapping = self.pmap.extract(&self.uvm, va);
            let allowed = mapping.filter(|m| m.prot.allows(access));
            if allowed.is_some_and(|m| self.uvm.pages().get(m.frame).is_none()) {
                // A device's memory is not read by copying it.
                return Err(FaultError::Io);
            }
            if let Some(mapping) = allowed
                && let Some(hold) = PageHold::of_mapped(&self.uvm, mapping.frame)
            {
                // Held, it cannot be evicted; but it may have been before, or replaced by a copy. Under the map lock it is not.
                let _map = self.map.read();
                let mut work = || {
                    let still = self.pmap.extract(&self.uvm, va);
                    let still = still
                        .filter(|m| m.frame == hold.frame() && m.prot.allows(access))
                        .map(|_| f(hold.bytes()));
                    still.is_some()
                };
                let done = if access == Access::Write {
                    // The hardware does not see this write; and who lends the page or makes it copy-on-write now, under the same
                    // lock, must not get half of it.
                    let frame = hold.frame();
                    self.uvm.with_owner_locked(frame, || {
                        let attrs = PageAttrs::MODIFIED | PageAttrs::REFERENCED;
                        self.uvm.page(frame).note_attrs(attrs);
                        work()
                    })
                } else {
                    Some(work())
                };
                if done == Some(true) {
                    return Ok(());
                }
            }
            self.fault(va, access).await?;
        }
    }
}

/// Where a word lies, the same for all who see the same one: what a futex is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WordHome {
    /// What holds it, by its address: an object, an amap that is shared, or the address space that alone has it.
    holder: usize,
    /// Byte in that.
    at: u64,
}

impl VmSpace {
    /// Where the word at `va` lies, for those who share this address space alone.
    #[must_use]
    pub fn own_word(&self, va: VirtAddr) -> WordHome {
        WordHome {
            holder: core::ptr::from_ref(self).addr(),
            at: va.as_u64(),
        }
    }

    /// Where the word at `va` lies, if it has been touched: the same in all address spaces that share the memory. It means something as long
    /// as the memory stays mapped in one of them.
    #[must_use]
    pub fn shared_word(&self, va: VirtAddr) -> WordHome {
        let at = va.as_u64();
        let inner = self.map.read();
        let shared = (self.map.lookup(&inner, at)).filter(|entry| !entry.copy_on_write);
        let within = |entry: &MapEntry, first: u64| (first << PAGE_SHIFT) + (at - entry.start);
        let found = shared.and_then(|entry| match (&entry.object, &entry.amap) {
            (Some(object), _) => Some(WordHome {
                holder: core::ptr::from_ref(&**object).addr(),
                at: within(entry, entry.offset.0),
            }),
            (None, Some(amap)) => Some(WordHome {
                holder: core::ptr::from_ref(&**amap).addr(),
                at: within(entry, entry.slot),
            }),
            (None, None) => None,
        });
        found.unwrap_or_else(|| self.own_word(va))
    }
}
