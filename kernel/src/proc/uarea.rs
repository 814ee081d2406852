//! A future in a u-area: where an LWP's whole kernel state lives while it waits.
//!
//! [`UareaBox`] has the LWP's u-area (`uvm::uarea`), in which lie the machine's part of the LWP (registers,
//! FPU area) and the pinned future of its body. It is itself the small future that the executor polls: at
//! the start of each poll it makes the LWP's address space and registers the CPU's (rule 12 of awaiting).
//!
//! While the LWP is polled the u-area is claimed. A poll that leaves it in a swappable wait lets it go, and it may be put out of
//! memory; the next poll then has it brought in first ([`super::swapin`]), and touches nothing of it before.
//! The future's size is a budget: [`UareaBox::new`] does not compile for one that does not fit, and a test
//! keeps a margin.

use super::Processes;
use super::lwp::Lwp;
use super::machine::LwpMachineState;
use super::table::Pid;
use super::usage::Account;
use alloc::sync::Arc;
use core::future::Future;
use core::marker::PhantomData;
use core::pin::Pin;
use core::ptr::NonNull;
use core::task::{Context, Poll};
use uvm::OutOfMemory;
use uvm::km::HeapRoom;
use uvm::uarea::{Residence, UAREA_SIZE};

/// A u-area for a new LWP of process `pid`, claimed, for [`UareaBox::new`]. Never waits.
///
/// # Errors
/// [`OutOfMemory`].
pub(super) fn for_lwp_of(
    system: &Processes,
    pid: Pid,
    room: &HeapRoom<'_>,
) -> Result<Arc<Residence>, OutOfMemory> {
    let uvm = system.uvm();
    let (uarea, _) = uvm.uarea_alloc()?;
    Residence::new(uvm, uarea, pid.0.into(), room).map_err(|uarea| {
        uvm.uarea_free(uarea);
        OutOfMemory
    })
}

/// What lies in a u-area. The machine's part comes first: it is aligned most.
#[repr(C)]
struct Contents<F> {
    own: Own,
    body: F,
}

/// What lies beside the body.
#[repr(C)]
struct Own {
    machine: LwpMachineState,
    account: Account,
}

/// The LWP's own handle to its registers, and to what it counts: valid inside its body, wherever the body is in its execution.
pub(super) struct Machine(NonNull<Own>);

// SAFETY: there is one handle for each state, which lives in the same u-area and ends with it.
unsafe impl Send for Machine {}
// SAFETY: a shared reference to the handle gives only shared access to the state.
unsafe impl Sync for Machine {}

impl Machine {
    /// The state, to read and to change.
    #[inline]
    pub(super) fn pin(&mut self) -> Pin<&mut LwpMachineState> {
        // SAFETY: the state lies in the u-area until `UareaBox` is dropped, which drops the body (and this
        // handle in it) first; it never moves; the handle is the only one, so `&mut self` excludes others
        // but `UareaBox::poll`, which uses the state only while the body is not being polled.
        unsafe { Pin::new_unchecked(&mut self.0.as_mut().machine) }
    }

    /// The state, to read.
    #[inline]
    pub(super) fn get(&self) -> &LwpMachineState {
        // SAFETY: as above.
        unsafe { &self.0.as_ref().machine }
    }

    /// What it counts of its own doing.
    #[inline]
    pub(super) fn account(&self) -> &Account {
        // SAFETY: as above.
        unsafe { &self.0.as_ref().account }
    }
}

/// A body of type `F` in its u-area.
pub(super) struct UareaBox<F: Future<Output = ()>> {
    lwp: Arc<Lwp>,
    system: Arc<Processes>,
    body: PhantomData<F>,
}

// SAFETY: it owns its contents like a box; all parts are `Send` if the body is.
unsafe impl<F: Future<Output = ()> + Send> Send for UareaBox<F> {}

impl<F: Future<Output = ()>> UareaBox<F> {
    const FITS: () = assert!(
        size_of::<Contents<F>>() <= UAREA_SIZE,
        "the LWP's future outgrew its u-area"
    );

    /// Puts the machine's part and the body into the LWP's u-area, in which there is nothing yet. `body` gets the handle to the former.
    pub(super) fn new(
        lwp: Arc<Lwp>,
        system: Arc<Processes>,
        machine: LwpMachineState,
        body: impl FnOnce(Machine) -> F,
    ) -> UareaBox<F> {
        const { Self::FITS };
        let contents = lwp.residence().base().cast::<Contents<F>>();
        // SAFETY: the u-area is page-aligned, large enough (checked above), in memory since it was made, and this function's alone. The
        // fields are initialised in place, the machine's part before the handle to it exists.
        unsafe {
            let own = &raw mut (*contents.as_ptr()).own;
            own.write(Own {
                machine,
                account: Account::default(),
            });
            let handle = Machine(NonNull::new_unchecked(own));
            (&raw mut (*contents.as_ptr()).body).write(body(handle));
        }
        UareaBox {
            lwp,
            system,
            body: PhantomData,
        }
    }

    fn contents(&self) -> *mut Contents<F> {
        self.lwp.residence().base().cast().as_ptr()
    }

    /// Bytes of a u-area that stay unused with this body.
    #[cfg(test)]
    pub(super) const fn spare() -> usize {
        UAREA_SIZE - size_of::<Contents<F>>()
    }
}

impl<F: Future<Output = ()>> Future for UareaBox<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let began = super::machine::now();
        if self.lwp.residence().claim().is_err() || !self.lwp.activate() {
            return self.come_in(cx);
        }
        self.lwp.begin_poll();
        let contents = self.contents();
        // SAFETY: the contents are in memory, initialised, never move, and are used by nobody else during this call
        // but the body itself, whose handle is used only inside the third statement.
        let poll = unsafe {
            (*contents).own.account.begin(began);
            Pin::new_unchecked(&mut (*contents).own.machine).attach();
            Pin::new_unchecked(&mut (*contents).body).poll(cx)
        };
        // SAFETY: as above, and the body's handle is at rest.
        let account = unsafe { &(*contents).own.account };
        let times = self.lwp.charge(account, super::machine::now());
        self.system.executor().user_time(times.user);
        if self.lwp.may_rest() {
            self.lwp.residence().rest();
        }
        poll
    }
}

impl<F: Future<Output = ()>> UareaBox<F> {
    /// The u-area, or the page tables, are out.
    #[cold]
    fn come_in(&self, cx: &Context<'_>) -> Poll<()> {
        if self.lwp.coming.is_lost() {
            return Poll::Ready(());
        }
        self.system.swapin().bring_in(&self.lwp, cx.waker());
        Poll::Pending
    }
}

impl<F: Future<Output = ()>> Drop for UareaBox<F> {
    fn drop(&mut self) {
        // A task ends in the poll that has claimed it, or lost; a machine, on the host, ends with all that it has in memory.
        if !self.lwp.coming.is_lost() && self.lwp.residence().claim().is_ok() {
            let contents = self.contents();
            // SAFETY: in memory, initialised by `new`, dropped once: the body first, since it has a handle to the
            // machine's part. After that nothing refers to the u-area.
            unsafe {
                core::ptr::drop_in_place(&raw mut (*contents).body);
                core::ptr::drop_in_place(&raw mut (*contents).own);
            }
        }
        self.lwp.residence().free();
    }
}
