//! Stand-ins until the executor is on dev; `crate::exec::X` becomes `executor::X` then.
#![allow(missing_docs)]
use core::marker::PhantomData;
pub use spin::Mutex as SpinLock;
pub struct Executor(());
pub struct WaitQueue(&'static str);
impl WaitQueue {
    pub const fn new(label: &'static str) -> Self { Self(label) }
    pub fn wait_until<T, F: FnMut() -> Option<T>>(&self, _: F) -> core::future::Ready<T> { let _ = self.0; todo!() }
    pub fn wake_one(&self) {}
    pub fn wake_all(&self) {}
}
pub struct KeyedWaitQueue(PhantomData<u8>);
impl KeyedWaitQueue {
    pub const fn new(_label: &'static str) -> Self { Self(PhantomData) }
    pub fn wait<T, F: FnMut() -> Option<T>>(&self, _key: u64, _: F) -> core::future::Ready<T> { todo!() }
    pub fn wake_all(&self, _key: u64) {}
}
