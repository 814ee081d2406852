//! Threads that a child may begin whose parent had several when it forked.
//!
//! The C library makes its own locks good in such a child; the standard library does not. Its threads hold one at their begin and at their end (that of
//! the table of guard pages), and where another thread of the parent held it at the fork, the child's first thread waits for it for ever. It
//! happens about once in 5,000 such children, on Linux as well. So these are the C library's alone, and nothing of `std::thread` may be used in them
//! that needs to know which thread it is in.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr::null_mut;

/// A thread that has begun. Dropped, it goes on by itself.
pub struct Thread(libc::pthread_t);

/// Begins a thread with `stack` bytes of stack; `None` if there is no room for one.
pub fn begin(stack: usize, body: impl FnOnce() + Send + 'static) -> Option<Thread> {
    let body: Box<Box<dyn FnOnce() + Send>> = Box::new(Box::new(body));
    let body = Box::into_raw(body);
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
    // SAFETY: the attributes are initialised by the first call, and the thread by the third one if that succeeds; `run` gets what it expects,
    // once.
    unsafe {
        libc::pthread_attr_init(attributes.as_mut_ptr());
        libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), stack);
        let error =
            libc::pthread_create(thread.as_mut_ptr(), attributes.as_ptr(), run, body.cast());
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        if error != 0 {
            drop(Box::from_raw(body));
            return None;
        }
        Some(Thread(thread.assume_init()))
    }
}

extern "C" fn run(body: *mut c_void) -> *mut c_void {
    // SAFETY: what `begin` made, given to this call alone.
    let body = unsafe { Box::from_raw(body.cast::<Box<dyn FnOnce() + Send>>()) };
    body();
    null_mut()
}

impl Thread {
    /// Waits for its end.
    pub fn join(self) {
        // SAFETY: it was neither joined nor detached; forgotten, it is not again.
        unsafe { libc::pthread_join(self.0, null_mut()) };
        std::mem::forget(self);
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // SAFETY: it was not joined.
        unsafe { libc::pthread_detach(self.0) };
    }
}
