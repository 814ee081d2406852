//! A benchmark under way, as a task of the kernel.

use alloc::sync::Arc;
use core::fmt;
use core::future::Future;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use executor::{Class, Executor, JoinHandle, OutOfMemory};

/// A benchmark under way, which will answer `T`. Dropping it makes it stop after its present sample and clean up.
#[must_use = "a benchmark stops when this is dropped"]
pub struct Running<T> {
    task: JoinHandle<T>,
    stop: Arc<AtomicBool>,
}

impl<T: Send> Running<T> {
    /// Starts the task. `measure` is given what is set when it shall stop.
    ///
    /// # Errors
    /// [`OutOfMemory`] if there is none for the task.
    pub(crate) fn start<F>(
        executor: &Arc<Executor>,
        name: &'static str,
        measure: impl FnOnce(Arc<AtomicBool>) -> F,
    ) -> Result<Self, OutOfMemory>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let stop = Arc::new(AtomicBool::new(false));
        let task = executor.try_spawn(Class::User, name, measure(stop.clone()))?;
        Ok(Self { task, stop })
    }

    /// Awaits the end.
    pub async fn finish(mut self) -> T {
        (&mut self.task).await
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

impl<T> fmt::Debug for Running<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").finish_non_exhaustive()
    }
}
