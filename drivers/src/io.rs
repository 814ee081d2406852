//! Access to device registers: by port, and by memory.
//!
//! [`Registers`] is a handful of byte registers, however they are reached, so that a driver's logic meets a model
//! device in tests. [`Mmio`] is a mapped window of registers. Neither synchronises anything: a single register
//! access is atomic, and what a driver makes of several is the driver's affair.

use core::ptr::NonNull;

/// Byte-wide registers at small offsets. Reading may have side effects.
pub trait Registers: Send + Sync {
    /// Reads the register at `offset`.
    fn read(&self, offset: u16) -> u8;
    /// Writes the register at `offset`.
    fn write(&self, offset: u16, value: u8);
}

impl<R: Registers + ?Sized> Registers for &R {
    fn read(&self, offset: u16) -> u8 {
        (**self).read(offset)
    }

    fn write(&self, offset: u16, value: u8) {
        (**self).write(offset, value);
    }
}

/// Registers in the I/O port space.
#[cfg(target_os = "none")]
#[derive(Debug)]
pub struct Ports {
    base: u16,
}

#[cfg(target_os = "none")]
impl Ports {
    /// The ports from `base` on.
    ///
    /// # Safety
    /// The ports belong to the device whose driver gets this value, and to nobody else.
    pub const unsafe fn new(base: u16) -> Ports {
        Ports { base }
    }
}

#[cfg(target_os = "none")]
impl Registers for Ports {
    fn read(&self, offset: u16) -> u8 {
        // SAFETY: `new` promised that these ports are the caller's; a byte read touches no memory.
        unsafe {
            x86_64::instructions::port::PortReadOnly::new(self.base.wrapping_add(offset)).read()
        }
    }

    fn write(&self, offset: u16, value: u8) {
        // SAFETY: as in `read`.
        unsafe {
            x86_64::instructions::port::PortWriteOnly::new(self.base.wrapping_add(offset))
                .write(value)
        }
    }
}

/// A window of memory-mapped registers. Accesses outside it, or misaligned, are a driver's bug and panic.
#[derive(Clone, Copy, Debug)]
pub struct Mmio {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the window is mapped for good, on every CPU, and each access is one volatile load or store.
unsafe impl Send for Mmio {}
// SAFETY: as above.
unsafe impl Sync for Mmio {}

/// An unsigned integer as wide as a register.
pub trait Width: Copy {}
impl Width for u8 {}
impl Width for u16 {}
impl Width for u32 {}
impl Width for u64 {}

impl Mmio {
    /// The `len` bytes at `base`.
    ///
    /// # Safety
    /// They are mapped, readable and writable, as long as any copy of the value is used, aligned to 8 bytes or as
    /// the registers in them need, and reached in no other way than by volatile or atomic access.
    pub unsafe fn new(base: NonNull<u8>, len: usize) -> Mmio {
        Mmio { base, len }
    }

    /// Bytes in the window.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a window of no registers is never made"
    )]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Reads the register at `offset` bytes.
    pub fn read<T: Width>(&self, offset: usize) -> T {
        let pointer = self.pointer::<T>(offset);
        // SAFETY: `pointer` is inside the window and aligned; `new` promised that the window is mapped.
        unsafe { pointer.read_volatile() }
    }

    /// Writes the register at `offset` bytes.
    pub fn write<T: Width>(&self, offset: usize, value: T) {
        let pointer = self.pointer::<T>(offset);
        // SAFETY: as in `read`.
        unsafe { pointer.write_volatile(value) }
    }

    pub(crate) fn pointer<T: Width>(&self, offset: usize) -> *mut T {
        let size = size_of::<T>();
        assert!(
            offset.checked_add(size).is_some_and(|end| end <= self.len),
            "register outside its window"
        );
        let pointer = self.base.as_ptr().wrapping_add(offset).cast::<T>();
        assert!(pointer.is_aligned(), "misaligned register");
        pointer
    }
}
