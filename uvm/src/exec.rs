//! Stand-ins until the executor is on dev; `crate::exec::X` becomes `executor::X` then.
#![allow(missing_docs, clippy::all)]
use core::marker::PhantomData;
use core::task::Waker;
use core::time::Duration;
pub use spin::Mutex as SpinLock;
pub use spin::MutexGuard as SpinLockGuard;
pub use spin::RwLock as SpinRwLock;
pub use spin::RwLockReadGuard as SpinReadGuard;
pub use spin::RwLockWriteGuard as SpinWriteGuard;
pub struct Executor(());
pub struct InFlight(());
impl Executor {
    pub fn in_flight(&self) -> InFlight {
        InFlight(self.0)
    }
    pub async fn reschedule_if_asked(&self) {
        todo!()
    }
    pub async fn yield_now(&self) {
        todo!()
    }
    pub async fn sleep(&self, _: Duration) {
        todo!()
    }
}
pub struct Mutex<T>(T);
impl<T> Mutex<T> {
    pub const fn new(v: T) -> Self {
        Self(v)
    }
    pub async fn lock(&self) -> &T {
        todo!()
    }
}
pub struct AtomicWaker(());
impl AtomicWaker {
    pub const fn new() -> Self {
        Self(())
    }
    pub fn register(&self, _: &Waker) {}
    pub fn wake(&self) {}
}
pub struct WaitQueue(&'static str);
impl WaitQueue {
    pub const fn new(label: &'static str) -> Self {
        Self(label)
    }
    pub fn wait_until<T, F: FnMut() -> Option<T>>(&self, _: F) -> core::future::Ready<T> {
        let _ = self.0;
        todo!()
    }
    pub fn wake_one(&self) {}
    pub fn wake_all(&self) {}
}
pub struct KeyedWaitQueue(PhantomData<u8>);
impl KeyedWaitQueue {
    pub const fn new(_label: &'static str) -> Self {
        Self(PhantomData)
    }
    pub fn wait<T, F: FnMut() -> Option<T>>(&self, _key: u64, _: F) -> core::future::Ready<T> {
        todo!()
    }
    pub fn wake_all(&self, _key: u64) {}
}
pub async fn yield_now() {}
impl Executor {
    pub fn now(&self) -> u64 {
        0
    }
    pub fn for_tests() -> alloc::sync::Arc<Self> {
        alloc::sync::Arc::new(Self(()))
    }
}
