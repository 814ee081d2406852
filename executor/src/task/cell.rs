//! The allocation behind a task: header and future in one block.

use alloc::sync::Arc;
use core::alloc::Layout;
use core::panic::Location;
use core::pin::Pin;
use core::ptr::NonNull;
use core::task::{Context, Poll};

use super::header::{Header, Vtable};
use super::name::Name;
use crate::class::Class;
use crate::cpu::Cpu;
use crate::executor::{Executor, OutOfMemory};
use crate::shim::{self, UnsafeCell};

/// `header` comes first, so that a pointer to it is one to the whole.
#[repr(C)]
struct Cell<F: Future> {
    header: Header,
    stage: UnsafeCell<Stage<F>>,
}

/// What the task holds. Belongs to the polling CPU until done, to the join handle afterwards.
enum Stage<F: Future> {
    Future(F),
    Output(F::Output),
    Empty,
}

impl<F: Future + Send + 'static> Cell<F>
where
    F::Output: Send,
{
    const VTABLE: &'static Vtable = &Vtable {
        poll: poll::<F>,
        take: take::<F>,
        #[cfg(not(target_os = "none"))]
        discard: discard::<F>,
        free: free::<F>,
    };
}

/// Bytes of a task that runs an `F`: what spawning it allocates.
pub const fn task_bytes<F: Future>() -> usize {
    size_of::<Cell<F>>()
}

/// Allocates a task, scheduled but in no queue yet, with a reference each for the executor and the
/// join handle.
#[inline]
pub(crate) fn allocate<F>(
    executor: &Arc<Executor>,
    home: NonNull<Cpu>,
    class: Class,
    name: Name,
    site: &'static Location<'static>,
    future: F,
) -> Result<NonNull<Header>, OutOfMemory>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    let layout = Layout::new::<Cell<F>>();
    // SAFETY: the layout is not empty: there is a header.
    let memory = unsafe { shim::alloc(layout) }.cast::<Cell<F>>();
    let cell = NonNull::new(memory).ok_or(OutOfMemory)?;
    let header = Header::new(
        Cell::<F>::VTABLE,
        Arc::clone(executor),
        home,
        class,
        name,
        site,
    );
    // SAFETY: fresh memory of the right layout. Field by field, so that the future moves only once.
    unsafe {
        (&raw mut (*cell.as_ptr()).header).write(header);
        (&raw mut (*cell.as_ptr()).stage).write(UnsafeCell::new(Stage::Future(future)));
    }
    Ok(cell.cast())
}

/// # Safety
/// See [`Vtable::poll`]; the header is a `Cell<F>`'s. So for all four.
unsafe fn poll<F: Future>(task: NonNull<Header>, cx: &mut Context<'_>) -> bool {
    // SAFETY: only the CPU that runs the task comes here, and the stage is its own until done. The
    // future never moves: it is dropped in place when the output replaces it.
    unsafe {
        task.cast::<Cell<F>>().as_ref().stage.with_mut(|stage| {
            let Stage::Future(future) = &mut *stage else {
                unreachable!("a task that is not done holds its future")
            };
            match Pin::new_unchecked(future).poll(cx) {
                Poll::Ready(output) => {
                    *stage = Stage::Output(output);
                    true
                }
                Poll::Pending => false,
            }
        })
    }
}

unsafe fn take<F: Future>(task: NonNull<Header>, slot: *mut ()) {
    // SAFETY: done, so the stage is the join handle's, which calls; `slot` is as the table says.
    unsafe {
        let stage = &task.cast::<Cell<F>>().as_ref().stage;
        let taken = stage.with_mut(|stage| core::mem::replace(&mut *stage, Stage::Empty));
        if let Stage::Output(output) = taken {
            *slot.cast::<Option<F::Output>>() = Some(output);
        }
    }
}

#[cfg(not(target_os = "none"))]
unsafe fn discard<F: Future>(task: NonNull<Header>) {
    // SAFETY: the task was cancelled and nobody polls it.
    unsafe {
        let stage = &task.cast::<Cell<F>>().as_ref().stage;
        stage.with_mut(|stage| *stage = Stage::Empty);
    }
}

unsafe fn free<F: Future>(task: NonNull<Header>) {
    let cell = task.cast::<Cell<F>>();
    // SAFETY: the last reference is gone, and memory and layout are those of `allocate`.
    unsafe {
        cell.drop_in_place();
        shim::dealloc(cell.as_ptr().cast(), Layout::new::<Cell<F>>());
    }
}
